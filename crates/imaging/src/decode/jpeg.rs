//! JPEG: `zune-jpeg` in strict mode, behind the walks of [`super::jpeg_markers`] and [`super::jpeg_scans`].

use image::metadata::Orientation;
use zune_jpeg::{
    JpegDecoder,
    errors::DecodeErrors,
    zune_core::{bytestream::ZCursor, colorspace::ColorSpace, options::DecoderOptions},
};

use super::{
    Header, PROFILE_IS_DAMAGED,
    input::Input,
    jpeg_inks,
    jpeg_markers::{Frame, Markers, walk},
    jpeg_scans::{self, Fault},
    jpeg_tables::Tables,
    rows::{StoredRows, Whole},
    stored::Stored,
};
use crate::{DecodeError, InputFormat, Limits, colour::Declared, samples::Layout};

pub(super) const FORMAT: InputFormat = InputFormat::Jpeg;

const UNFINISHED: &str = "scans that would make it as sharp as it was are missing";
const CONVERTED: &str = "the colours were converted from CMYK to sRGB";

pub(super) fn header(input: &mut Input<'_>, limits: &Limits) -> Result<Header, DecodeError> {
    let bytes = input.load().map_err(DecodeError::Read)?;
    let markers = walk(bytes);
    let frame = checked_frame(&markers, limits)?;
    let Some(end) = markers.end else {
        return Err(DecodeError::Truncated { format: FORMAT });
    };
    check_scans(&markers, frame)?;
    if !markers.tables && markers.scans > 0 {
        let what = "a frame of a film, which has no tables of its own,";
        return Err(DecodeError::unsupported(
            FORMAT,
            what,
            "save it as a picture",
        ));
    }
    let mut decoder = decoder(bytes, ColorSpace::RGB);
    decoder.decode_headers().map_err(refused)?;
    let icc = decoder.icc_profile();
    let mut warnings = Vec::new();
    let has_inks = frame.components == 4;
    if has_inks {
        jpeg_inks::check(&markers, icc.as_deref())?;
        warnings.push(CONVERTED.to_owned());
    }
    if markers.profile && icc.is_none() {
        warnings.push(PROFILE_IS_DAMAGED.to_owned());
    }
    let pixels = u64::from(frame.width) * u64::from(frame.height);
    let components = u64::from(frame.components);
    // Of a progressive picture all coefficients, two bytes each, until the last scan was read.
    let coefficients = if frame.kind == 2 { 2 * components } else { 0 };
    let inks = if has_inks { components } else { 0 };
    let compression = match frame.kind {
        2 => "progressive",
        _ => "baseline",
    };
    if end < bytes.len() {
        warnings.push(format!(
            "{} bytes after the end of the picture ignored",
            bytes.len() - end
        ));
    }
    Ok(Header {
        width: frame.width,
        height: frame.height,
        layout: if frame.components == 1 {
            Layout::GRAY8
        } else {
            Layout::RGB8
        },
        orientation: decoder
            .exif()
            .and_then(|exif| Orientation::from_exif_chunk(exif))
            .unwrap_or(Orientation::NoTransforms),
        colour: icc
            .filter(|_| !has_inks)
            .map_or(Declared::Srgb, Declared::Icc),
        page: None,
        held_bytes: pixels * (coefficients + inks),
        stored: Stored::new(8, color(&markers, frame.components), compression),
        warnings,
    })
}

/// The decoder gives no rows before it has them all.
pub(super) fn rows<'a>(
    input: Input<'a>,
    header: &Header,
) -> Result<Box<dyn StoredRows + 'a>, DecodeError> {
    let bytes = input.into_bytes().map_err(DecodeError::Read)?;
    let markers = walk(&bytes);
    jpeg_scans::check(&bytes, &mut Tables::default()).map_err(|fault| match fault {
        Fault::Short => DecodeError::Truncated { format: FORMAT },
        Fault::Unfinished => DecodeError::corrupt(FORMAT, UNFINISHED),
        Fault::Damaged => DecodeError::corrupt(FORMAT, "the coded pixels are damaged"),
    })?;
    if markers.frame.is_some_and(|frame| frame.components == 4) {
        return Ok(Box::new(Whole(inks(&bytes, &markers)?)));
    }
    let space = if header.layout.gray {
        ColorSpace::Luma
    } else {
        ColorSpace::RGB
    };
    let samples = decoder(&bytes, space).decode().map_err(refused)?;
    Ok(Box::new(Whole(samples)))
}

/// The pixels of a picture in inks.
fn inks(bytes: &[u8], markers: &Markers) -> Result<Vec<u8>, DecodeError> {
    let space = if markers.adobe == Some(jpeg_inks::YCCK) {
        ColorSpace::YCCK
    } else {
        ColorSpace::CMYK
    };
    // As stored: the way to inks is Adobe's, not the decoder's.
    let mut decoder = decoder(bytes, space);
    let samples = decoder.decode().map_err(refused)?;
    let icc = decoder.icc_profile();
    jpeg_inks::to_srgb(samples, markers, icc.as_deref())
}

/// How the components are to be read.
fn color(markers: &Markers, components: u8) -> &'static str {
    match (components, markers.adobe) {
        (1, _) => "gray",
        (3, Some(0)) => "rgb",
        (3, _) => "ycbcr",
        (_, Some(jpeg_inks::YCCK)) => "ycck",
        _ => "cmyk",
    }
}

/// The samples of a stream as they are stored, its components brought to full size but not made RGB.
///
/// - `components`: those of its frame.
pub(super) fn stored_samples(bytes: &[u8], components: usize) -> Result<Vec<u8>, DecodeErrors> {
    // Two, which are gray and its transparency, the decoder takes for three of which one was lost.
    let options = |space| options(space).set_strict_mode(components != 2);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options(ColorSpace::RGB));
    decoder.decode_headers()?;
    if let Some(stored) = decoder.input_colorspace() {
        decoder.set_options(options(stored));
    }
    decoder.decode()
}

fn decoder(bytes: &[u8], space: ColorSpace) -> JpegDecoder<ZCursor<&[u8]>> {
    JpegDecoder::new_with_options(ZCursor::new(bytes), options(space))
}

fn options(space: ColorSpace) -> DecoderOptions {
    // How large it may be is for `Limits` to say.
    DecoderOptions::default()
        .set_strict_mode(true)
        .set_max_width(usize::MAX)
        .set_max_height(usize::MAX)
        .jpeg_set_out_colorspace(space)
}

fn checked_frame(markers: &Markers, limits: &Limits) -> Result<Frame, DecodeError> {
    let Some(frame) = markers.frame else {
        return Err(if markers.end.is_some() {
            DecodeError::corrupt(FORMAT, "there is no frame header")
        } else {
            DecodeError::Truncated { format: FORMAT }
        });
    };
    limits.check_size(frame.width, frame.height)?;
    limits.check_blocks(FORMAT, markers.segments)?;
    if markers.several_frames {
        return Err(DecodeError::corrupt(
            FORMAT,
            "there are several frame headers",
        ));
    }
    if frame.height == 0 && frame.width > 0 {
        let what = "a height that is told behind the picture";
        return Err(DecodeError::unsupported(FORMAT, what, "save it anew"));
    }
    if frame.width == 0 || frame.height == 0 {
        return Err(DecodeError::corrupt(FORMAT, "the picture has no pixels"));
    }
    if frame.precision != 8 {
        let what = format!("{} bits per sample", frame.precision);
        return Err(DecodeError::unsupported(
            FORMAT,
            what,
            "save it with 8 bits",
        ));
    }
    if !matches!(frame.kind, 0..=2) {
        let what = "arithmetic or lossless coding";
        return Err(DecodeError::unsupported(
            FORMAT,
            what,
            "save it as baseline or progressive",
        ));
    }
    match frame.components {
        1 | 3 | 4 => Ok(frame),
        components => {
            let what = format!("{components} colour components");
            Err(DecodeError::unsupported(
                FORMAT,
                what,
                "save it as gray or RGB",
            ))
        }
    }
}

/// Refuses what the decoder reads wrongly, or not at all, although it is lawful; and more scans than any
/// program makes, each of which may cost as much as a whole picture.
pub(super) fn check_scans(markers: &Markers, frame: Frame) -> Result<(), DecodeError> {
    const MOST_SCANS: usize = 100;
    let refuse = |what: &str, remedy| Err(DecodeError::unsupported(FORMAT, what, remedy));
    if markers.scans > MOST_SCANS {
        return refuse("a picture in more than 100 scans", "save it anew");
    }
    if frame.components > 1 && frame.kind < 2 && markers.scans > 1 {
        let remedy = "rewrite it without loss: jpegtran IN > OUT";
        return refuse("a baseline picture in several scans", remedy);
    }
    if !frame.usual_sampling {
        return refuse(
            "unusual sampling of its components",
            "save it with 4:4:4 or 4:2:0",
        );
    }
    Ok(())
}

fn refused(error: DecodeErrors) -> DecodeError {
    match error {
        DecodeErrors::Unsupported(_) => DecodeError::unsupported(
            FORMAT,
            "a rare coding scheme",
            "save it as baseline or progressive",
        ),
        other => DecodeError::corrupt(FORMAT, other),
    }
}
