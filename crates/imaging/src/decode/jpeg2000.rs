//! JPEG 2000, in its JP2 file or bare: `hayro-jpeg2000`, the whole picture at once.

use hayro_jpeg2000::{ColorSpace, DecodeSettings, DecoderContext, Image};
use image::metadata::Orientation;

use super::{
    Header,
    input::Input,
    jpeg2000_frame::{Frame, frame, says_gray_or_rgb},
    rows::{StoredRows, Whole},
    stored::Stored,
};
use crate::{
    DecodeError, Depth, InputFormat, Limits,
    colour::Declared,
    samples::{Layout, push_unit},
};

pub(super) const FORMAT: InputFormat = InputFormat::Jpeg2000;

pub(super) fn header(input: &mut Input<'_>, limits: &Limits) -> Result<Header, DecodeError> {
    let bytes = input.load().map_err(DecodeError::Read)?;
    let frame = frame(bytes)?;
    limits.check_size(frame.width, frame.height)?;
    let depth = depth(&frame)?;
    if !says_gray_or_rgb(bytes) {
        return Err(DecodeError::unsupported(FORMAT, NEITHER, TO_RGB));
    }
    let image = open(bytes)?;
    let (gray, colour) = colour(&image)?;
    let alpha = image.has_alpha();
    let channels = if gray { 1 } else { 3 } + u16::from(alpha);
    if (image.width(), image.height()) != (frame.width, frame.height) {
        return Err(DecodeError::corrupt(FORMAT, "its sizes disagree"));
    }
    if frame.components != channels {
        let what = "a palette or unusual channels";
        return Err(DecodeError::unsupported(FORMAT, what, TO_RGB));
    }
    Ok(Header {
        width: frame.width,
        height: frame.height,
        layout: Layout { gray, alpha, depth },
        // The decoder knows of none; what EXIF says is for the stored pixels of another format.
        orientation: Orientation::NoTransforms,
        colour,
        page: None,
        held_bytes: 0,
        stored: Stored::new(depth.bits(), if gray { "gray" } else { "rgb" }, "wavelet"),
        warnings: Vec::new(),
    })
}

pub(super) fn rows<'a>(
    mut input: Input<'a>,
    header: &Header,
) -> Result<Box<dyn StoredRows + 'a>, DecodeError> {
    let bytes = input.load().map_err(DecodeError::Read)?;
    let image = open(bytes)?;
    let mut context = DecoderContext::default();
    let decoded = image.decode(&mut context).map_err(refused)?;
    let components = decoded.components();
    let layout = header.layout;
    let pixels = usize::try_from(header.width).unwrap_or(usize::MAX) * header.rows();
    let whole = |count: usize| count == pixels;
    if components.len() != layout.channels()
        || !components
            .iter()
            .all(|component| whole(component.samples().len()))
    {
        return Err(DecodeError::corrupt(FORMAT, "samples are missing"));
    }
    let planes: Vec<_> = components
        .iter()
        .map(|component| {
            let most = ((1_u32 << component.bit_depth().min(24)) - 1) as f32;
            (component.samples(), most)
        })
        .collect();
    let mut samples = Vec::with_capacity(header.row_bytes() * header.rows());
    for pixel in 0..pixels {
        for (plane, most) in &planes {
            push_unit(plane[pixel] / most, layout.depth, &mut samples);
        }
    }
    Ok(Box::new(Whole(samples)))
}

const NEITHER: &str = "a colour space that is neither gray nor RGB";
const TO_RGB: &str = "convert it to gray or RGB in TIFF or PNG";

fn open(bytes: &[u8]) -> Result<Image<'_>, DecodeError> {
    let settings = DecodeSettings {
        strict: true,
        ..DecodeSettings::default()
    };
    Image::new(bytes, &settings).map_err(refused)
}

fn depth(frame: &Frame) -> Result<Depth, DecodeError> {
    let refuse = |what: String| Err(DecodeError::unsupported(FORMAT, what, TO_RGB));
    if frame.subsampled {
        return refuse("channels of different sizes".to_owned());
    }
    match frame.bits {
        Some(1..=8) => Ok(Depth::Eight),
        Some(9..=16) => Ok(Depth::Sixteen),
        Some(bits) => refuse(format!("{bits} bits per sample")),
        None => refuse("signed samples, or channels of different depths".to_owned()),
    }
}

/// Whether it is gray, and the colour space.
fn colour(image: &Image<'_>) -> Result<(bool, Declared), DecodeError> {
    let refuse = |what: &str| Err(DecodeError::unsupported(FORMAT, what, TO_RGB));
    match image.color_space() {
        ColorSpace::Gray => Ok((true, Declared::Srgb)),
        ColorSpace::RGB => Ok((false, Declared::Srgb)),
        ColorSpace::CMYK => refuse("CMYK colour"),
        ColorSpace::Unknown { .. } => refuse("an unknown colour space"),
        ColorSpace::Icc {
            profile,
            num_channels,
        } => match (profile.get(16..20), num_channels) {
            (Some(b"GRAY"), 1) => Ok((true, Declared::Icc(profile.clone()))),
            (Some(b"RGB "), 3) => Ok((false, Declared::Icc(profile.clone()))),
            _ => refuse(NEITHER),
        },
    }
}

fn refused(error: hayro_jpeg2000::DecodeError) -> DecodeError {
    DecodeError::corrupt(FORMAT, error.to_string())
}
