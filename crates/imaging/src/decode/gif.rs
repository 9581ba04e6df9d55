//! GIF stills: the `gif` crate. More than one frame is refused.

use std::io::{Cursor, ErrorKind, Read};

use ::gif::{ColorOutput, DecodeOptions, Decoder, DecodingError, MemoryLimit};
use image::metadata::Orientation;

use super::{
    Header,
    input::Input,
    rows::{StoredRows, Whole},
    stored::Stored,
};
use crate::{
    DecodeError, InputFormat, Limits,
    colour::Declared,
    samples::{Depth, Layout},
};

const FORMAT: InputFormat = InputFormat::Gif;
/// The last byte of a file.
const TRAILER: u8 = 0x3B;

pub(super) fn header(input: &mut Input<'_>, limits: &Limits) -> Result<Header, DecodeError> {
    let bytes = input.load().map_err(DecodeError::Read)?;
    // Frames are delimited by their own lengths: only the last byte tells whether all are there.
    if !bytes.contains(&TRAILER) {
        return Err(DecodeError::Truncated { format: FORMAT });
    }
    let mut decoder = decoder(bytes, true)?;
    let (width, height) = (u32::from(decoder.width()), u32::from(decoder.height()));
    limits.check_size(width, height)?;
    if width == 0 || height == 0 {
        return Err(DecodeError::corrupt(FORMAT, "the picture has no pixels"));
    }
    let icc = decoder.icc_profile().map(<[u8]>::to_vec);
    let xmp = decoder.xmp_metadata().is_some();
    let Some(frame) = decoder.next_frame_info().map_err(refused)? else {
        return Err(DecodeError::corrupt(FORMAT, "there is no picture in it"));
    };
    let size = (u32::from(frame.width), u32::from(frame.height));
    let alpha = frame.transparent.is_some() || size != (width, height);
    if decoder.next_frame_info().map_err(refused)?.is_some() {
        let remedy = "save its frames as separate files";
        return Err(DecodeError::unsupported(FORMAT, "an animation", remedy));
    }
    Ok(Header {
        width,
        height,
        layout: Layout {
            gray: false,
            alpha,
            depth: Depth::Eight,
        },
        orientation: Orientation::NoTransforms,
        colour: icc.map_or(Declared::Srgb, Declared::Icc),
        page: None,
        held_bytes: 0,
        stored: Stored::new(8, "palette", "lzw"),
        warnings: xmp
            .then(|| "not carried to the result: XMP".to_owned())
            .into_iter()
            .collect(),
    })
}

/// The decoder gives no rows before it has them all.
pub(super) fn rows<'a>(
    mut input: Input<'a>,
    header: &Header,
) -> Result<Box<dyn StoredRows + 'a>, DecodeError> {
    let bytes = input.load().map_err(DecodeError::Read)?;
    let mut decoder = decoder(bytes, false)?;
    let Some(frame) = decoder.read_next_frame().map_err(refused)? else {
        return Err(DecodeError::corrupt(FORMAT, "there is no picture in it"));
    };
    let (left, top) = (usize::from(frame.left), usize::from(frame.top));
    let frame_width = usize::from(frame.width);
    let pixel_bytes = header.layout.pixel_bytes();
    // What the frame does not cover is transparent.
    let mut samples = vec![0; header.row_bytes() * header.rows()];
    let rows = samples.chunks_exact_mut(header.row_bytes()).skip(top);
    for (row, rgba) in rows.zip(frame.buffer.chunks_exact(frame_width * 4)) {
        let pixels = row.chunks_exact_mut(pixel_bytes).skip(left);
        for (pixel, rgba) in pixels.zip(rgba.as_chunks::<4>().0) {
            pixel.copy_from_slice(&rgba[..pixel_bytes]);
        }
    }
    Ok(Box::new(Whole(samples)))
}

/// - `skip`: only counts frames.
fn decoder(bytes: &[u8], skip: bool) -> Result<Decoder<impl Read>, DecodeError> {
    let mut options = DecodeOptions::new();
    options.set_color_output(ColorOutput::RGBA);
    options.check_frame_consistency(true);
    options.check_lzw_end_code(true);
    options.skip_frame_decoding(skip);
    // At most 65,535 px a side, judged before anything is decoded.
    options.set_memory_limit(MemoryLimit::Unlimited);
    options.read_info(Cursor::new(bytes)).map_err(refused)
}

fn refused(error: DecodingError) -> DecodeError {
    match error {
        DecodingError::Io(error) if error.kind() == ErrorKind::UnexpectedEof => {
            DecodeError::Truncated { format: FORMAT }
        }
        other => DecodeError::corrupt(FORMAT, other),
    }
}
