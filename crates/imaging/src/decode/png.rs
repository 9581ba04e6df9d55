//! PNG: the `png` crate, with every checksum checked and text chunks left compressed.

use std::io::{BufRead, ErrorKind, Seek};

use ::png::{
    BitDepth, ColorType, DecodeOptions, Decoder, DecodingError, Info, Reader, ScaledFloat,
    SourceChromaticities, Transformations,
};
use image::metadata::Orientation;

use super::{
    Header, PROFILE_IS_DAMAGED,
    input::Input,
    rows::{StoredRows, Whole},
    stored::Stored,
};
use crate::{
    DecodeError, InputFormat, Limits,
    colour::{Declared, Gamma},
    samples::{Depth, Layout},
};

const FORMAT: InputFormat = InputFormat::Png;
/// gAMA of sRGB, in 1/100,000; what differs by more than 1 % is another curve.
const SRGB_GAMMA: u32 = 45_455;

pub(super) fn header(input: &mut Input<'_>, limits: &Limits) -> Result<Header, DecodeError> {
    input.rewind().map_err(DecodeError::Read)?;
    let mut early = decoder(&mut *input);
    let early = early.read_header_info().map_err(refused)?;
    limits.check_size(early.width, early.height)?;
    let (chunks, has_profile) = count_chunks(input, limits);
    limits.check_blocks(FORMAT, chunks)?;
    input.rewind().map_err(DecodeError::Read)?;
    let reader = decoder(input).read_info().map_err(refused)?;
    let info = reader.info();
    refuse_unhandled(info)?;

    let mut warnings = Vec::new();
    if is_bilevel(info) {
        warnings.push("the picture has only black and white".to_owned());
    }
    if has_profile && info.icc_profile.is_none() {
        warnings.push(PROFILE_IS_DAMAGED.to_owned());
    }
    let exif = info.exif_metadata.as_deref();
    let layout = layout(&reader)?;
    let row_bytes = layout.row_bytes(info.width) as u64;
    Ok(Header {
        width: info.width,
        height: info.height,
        layout,
        orientation: exif
            .and_then(Orientation::from_exif_chunk)
            .unwrap_or(Orientation::NoTransforms),
        colour: colour(info),
        page: None,
        held_bytes: if info.interlaced {
            row_bytes.saturating_mul(u64::from(info.height))
        } else {
            0
        },
        stored: Stored::new(
            info.bit_depth as u8,
            match info.color_type {
                ColorType::Grayscale | ColorType::GrayscaleAlpha => "gray",
                ColorType::Rgb | ColorType::Rgba => "rgb",
                ColorType::Indexed => "palette",
            },
            "deflate",
        ),
        warnings,
    })
}

/// Rows as they come, or all at once if they are interlaced.
pub(super) fn rows<'a>(
    mut input: Input<'a>,
    header: &Header,
) -> Result<Box<dyn StoredRows + 'a>, DecodeError> {
    input.rewind().map_err(DecodeError::Read)?;
    let mut reader = decoder(input).read_info().map_err(refused)?;
    let depth = header.layout.depth;
    if !reader.info().interlaced {
        let row_bytes = header.row_bytes();
        return Ok(Box::new(Rows {
            reader,
            row_bytes,
            depth,
        }));
    }
    let size_bytes = reader
        .output_buffer_size()
        .ok_or_else(|| DecodeError::corrupt(FORMAT, "the size cannot be addressed"))?;
    let mut samples = vec![0; size_bytes];
    reader.next_frame(&mut samples).map_err(refused)?;
    reader.finish().map_err(refused)?;
    from_big_endian(&mut samples, depth);
    Ok(Box::new(Whole(samples)))
}

struct Rows<'a> {
    reader: Reader<Input<'a>>,
    row_bytes: usize,
    depth: Depth,
}

impl StoredRows for Rows<'_> {
    fn next(&mut self, samples: &mut Vec<u8>) -> Result<(), DecodeError> {
        samples.resize(self.row_bytes, 0);
        match self.reader.read_row(samples).map_err(refused)? {
            Some(_) => {
                from_big_endian(samples, self.depth);
                Ok(())
            }
            None => Err(DecodeError::corrupt(FORMAT, "rows are missing")),
        }
    }

    /// Reads up to the end chunk, so that a file cut off behind the pixels is noticed too.
    fn finish(&mut self) -> Result<(), DecodeError> {
        // Behind the last row this checks the end of the compressed data.
        let mut none = vec![0; self.row_bytes];
        self.reader.read_row(&mut none).map_err(refused)?;
        self.reader.finish().map_err(refused)
    }
}

/// Chunks beside the pixels, up to one more than are allowed, as far as the file goes; and whether there is
/// a colour profile among them.
fn count_chunks(input: &mut Input<'_>, limits: &Limits) -> (u64, bool) {
    const SIGNATURE_BYTES: u64 = 8;
    let (mut at, mut chunks, mut has_profile) = (SIGNATURE_BYTES, 0, false);
    let mut head = [0; 8];
    while chunks <= u64::from(limits.max_blocks) && input.read_at(at, &mut head).is_ok() {
        let [l3, l2, l1, l0, kind @ ..] = head;
        // Length, kind and checksum have four bytes each.
        at += u64::from(u32::from_be_bytes([l3, l2, l1, l0])) + 12;
        match &kind {
            b"IEND" => break,
            b"IDAT" => {}
            _ => chunks += 1,
        }
        has_profile |= &kind == b"iCCP";
    }
    (chunks, has_profile)
}

fn decoder<R: BufRead + Seek>(input: R) -> Decoder<R> {
    let mut options = DecodeOptions::default();
    options.set_ignore_text_chunk(true);
    options.set_skip_ancillary_crc_failures(false);
    options.set_ignore_adler32(false);
    let mut decoder = Decoder::new_with_options(input, options);
    // Palette to RGB, transparency to alpha, 1, 2 and 4 bit gray to 8 bit.
    decoder.set_transformations(Transformations::EXPAND);
    decoder
}

/// What the rows hold after the decoder's transformations.
fn layout<R: BufRead + Seek>(reader: &Reader<R>) -> Result<Layout, DecodeError> {
    let (color, depth) = reader.output_color_type();
    let (gray, alpha) = match color {
        ColorType::Grayscale => (true, false),
        ColorType::GrayscaleAlpha => (true, true),
        ColorType::Rgb => (false, false),
        ColorType::Rgba => (false, true),
        ColorType::Indexed => return Err(DecodeError::corrupt(FORMAT, "the palette is missing")),
    };
    Ok(Layout {
        gray,
        alpha,
        depth: if depth == BitDepth::Sixteen {
            Depth::Sixteen
        } else {
            Depth::Eight
        },
    })
}

/// Samples of 16 bits are stored with the higher byte first.
fn from_big_endian(samples: &mut [u8], depth: Depth) {
    if depth == Depth::Sixteen && cfg!(target_endian = "little") {
        for sample in samples.as_chunks_mut::<2>().0 {
            sample.swap(0, 1);
        }
    }
}

fn is_bilevel(info: &Info<'_>) -> bool {
    info.color_type == ColorType::Grayscale && info.bit_depth == BitDepth::One
}

fn refuse_unhandled(info: &Info<'_>) -> Result<(), DecodeError> {
    let refuse = |what: &str, remedy| Err(DecodeError::unsupported(FORMAT, what, remedy));
    if info.animation_control.is_some() {
        return refuse("an animation", "save its frames as separate files");
    }
    if let Some(points) = info.coding_independent_code_points {
        // BT.709 primaries with the sRGB or the BT.709 curve.
        if points.color_primaries != 1 || !matches!(points.transfer_function, 1 | 13) {
            return refuse("HDR or wide-gamut colour (cICP)", "convert it to sRGB");
        }
    }
    Ok(())
}

/// cICP outranks iCCP, which outranks sRGB, which outranks gAMA and cHRM.
fn colour(info: &Info<'_>) -> Declared {
    if info.coding_independent_code_points.is_some() {
        return Declared::Srgb;
    }
    if let Some(icc) = &info.icc_profile {
        return Declared::Icc(icc.to_vec());
    }
    // Black and white stay what they are under any curve.
    if info.srgb.is_some() || is_bilevel(info) {
        return Declared::Srgb;
    }
    let gamma = info.gama_chunk.map(ScaledFloat::into_scaled);
    // 0 means nothing.
    let gamma = gamma.filter(|gamma| *gamma > 0 && gamma.abs_diff(SRGB_GAMMA) > SRGB_GAMMA / 100);
    let primaries = info
        .chrm_chunk
        .filter(|primaries| !srgb_primaries(*primaries));
    if gamma.is_none() && primaries.is_none() {
        return Declared::Srgb;
    }
    let pair = |(x, y): (ScaledFloat, ScaledFloat)| (x.into_value(), y.into_value());
    Declared::Gamma(Gamma {
        exponent: gamma.map(|gamma| {
            let gamma = ScaledFloat::from_scaled(gamma).into_value();
            gamma.recip().clamp(0.1, 10.0)
        }),
        primaries: primaries.map(|found| {
            let SourceChromaticities {
                white,
                red,
                green,
                blue,
            } = found;
            [white, red, green, blue].map(pair)
        }),
    })
}

fn srgb_primaries(found: SourceChromaticities) -> bool {
    let srgb = [
        (31_270, 32_900),
        (64_000, 33_000),
        (30_000, 60_000),
        (15_000, 6_000),
    ];
    let found = [found.white, found.red, found.green, found.blue];
    found.iter().zip(srgb).all(|(&(x, y), (srgb_x, srgb_y))| {
        x.into_scaled().abs_diff(srgb_x) <= 1_000 && y.into_scaled().abs_diff(srgb_y) <= 1_000
    })
}

fn refused(error: DecodingError) -> DecodeError {
    match error {
        DecodingError::IoError(error) if error.kind() == ErrorKind::UnexpectedEof => {
            DecodeError::Truncated { format: FORMAT }
        }
        other => DecodeError::corrupt(FORMAT, other),
    }
}
