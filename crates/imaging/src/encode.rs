//! Pixels in, a file out, with settings that keep up with a GPU.
//!
//! Levels of deflate above "fast" cost a minute for a large scan and save a few per cent.

use std::io::Cursor;

use image::{ExtendedColorType, ImageEncoder, codecs::jpeg::JpegEncoder};
use image_webp::WebPEncoder;
use tiff::{
    TiffResult,
    encoder::{
        Compression, DeflateLevel, TiffEncoder, TiffKind, TiffKindBig, TiffKindStandard, TiffValue,
        colortype::{ColorType, Gray8, RGB8},
    },
    tags::{Predictor, Tag, Type},
};

use crate::{EncodeError, Format, Pixels};

/// JPEG quality where nobody asked for another.
pub const DEFAULT_JPEG_QUALITY: u8 = 95;

/// From this many bytes of samples a TIFF is written as `BigTIFF`; classic TIFF ends at 4 GiB.
const BIG_TIFF_BYTES: usize = 4_000_000_000;

/// How a result is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodeOptions {
    /// The file format.
    pub format: Format,
    /// Write one channel, the luma of the pixels. WebP has no gray and keeps three equal ones.
    pub gray: bool,
    /// 1 (worst) to 100; used for JPEG only, which is written 4:4:4.
    pub jpeg_quality: u8,
    /// ICC profile to embed; `None` means sRGB.
    pub icc: Option<Vec<u8>>,
}

impl EncodeOptions {
    /// Colour, JPEG quality 95, no ICC profile.
    #[must_use]
    pub fn new(format: Format) -> Self {
        Self {
            format,
            gray: false,
            jpeg_quality: DEFAULT_JPEG_QUALITY,
            icc: None,
        }
    }
}

/// Says whether `format` can hold a result of this size; ask before computing it.
///
/// - `width`, `height`: of the result, in pixels.
///
/// # Errors
/// [`EncodeError::SideTooLong`], [`EncodeError::NoPixels`].
pub fn check_output(format: Format, width: u32, height: u32) -> Result<(), EncodeError> {
    if width == 0 || height == 0 {
        return Err(EncodeError::NoPixels { width, height });
    }
    let limit = format.max_side();
    if width.max(height) > limit {
        return Err(EncodeError::SideTooLong {
            format,
            width,
            height,
            limit,
        });
    }
    Ok(())
}

/// Writes `pixels` as a file. The same pixels and options give the same bytes.
///
/// # Errors
/// [`EncodeError`] when the format cannot hold the size, the buffer has a wrong length, or the
/// encoder refuses.
pub fn encode(pixels: &Pixels, options: &EncodeOptions) -> Result<Vec<u8>, EncodeError> {
    let Pixels { width, height, rgb } = pixels;
    check_output(options.format, *width, *height)?;
    let expected = u64::from(*width) * u64::from(*height) * 3;
    let found = u64::try_from(rgb.len()).unwrap_or(u64::MAX);
    if found != expected {
        return Err(EncodeError::WrongLength {
            width: *width,
            height: *height,
            expected,
            found,
        });
    }

    let luma = options.gray.then(|| pixels.luma());
    let image = Image {
        width: *width,
        height: *height,
        gray: options.gray,
        samples: luma.as_deref().unwrap_or(rgb),
        icc: options.icc.as_deref(),
    };
    match options.format {
        Format::Jpeg => jpeg(&image, options.jpeg_quality),
        Format::Png => png(&image),
        Format::Tiff => tiff(&image),
        Format::WebP => webp(&image),
    }
}

struct Image<'a> {
    width: u32,
    height: u32,
    gray: bool,
    /// One channel if `gray`, else three.
    samples: &'a [u8],
    icc: Option<&'a [u8]>,
}

fn jpeg(image: &Image<'_>, quality: u8) -> Result<Vec<u8>, EncodeError> {
    let mut file = Vec::new();
    let mut encoder = JpegEncoder::new_with_quality(&mut file, quality.clamp(1, 100));
    if let Some(icc) = image.icc {
        encoder
            .set_icc_profile(icc.to_vec())
            .map_err(|error| EncodeError::encoder(Format::Jpeg, error))?;
    }
    let color = if image.gray {
        ExtendedColorType::L8
    } else {
        ExtendedColorType::Rgb8
    };
    encoder
        .encode(image.samples, image.width, image.height, color)
        .map_err(|error| EncodeError::encoder(Format::Jpeg, error))?;
    Ok(file)
}

fn png(image: &Image<'_>) -> Result<Vec<u8>, EncodeError> {
    let fail = |error: ::png::EncodingError| EncodeError::encoder(Format::Png, error);
    let mut info = ::png::Info::with_size(image.width, image.height);
    info.color_type = if image.gray {
        ::png::ColorType::Grayscale
    } else {
        ::png::ColorType::Rgb
    };
    info.bit_depth = ::png::BitDepth::Eight;
    info.icc_profile = image.icc.map(Into::into);
    let mut file = Vec::new();
    let mut encoder = ::png::Encoder::with_info(&mut file, info).map_err(fail)?;
    encoder.set_compression(::png::Compression::Fast);
    encoder.set_filter(::png::Filter::Adaptive);
    let mut writer = encoder.write_header().map_err(fail)?;
    writer.write_image_data(image.samples).map_err(fail)?;
    writer.finish().map_err(fail)?;
    Ok(file)
}

fn webp(image: &Image<'_>) -> Result<Vec<u8>, EncodeError> {
    let mut file = Vec::new();
    let mut encoder = WebPEncoder::new(&mut file);
    if let Some(icc) = image.icc {
        encoder.set_icc_profile(icc.to_vec());
    }
    let color = if image.gray {
        image_webp::ColorType::L8
    } else {
        image_webp::ColorType::Rgb8
    };
    encoder
        .encode(image.samples, image.width, image.height, color)
        .map_err(|error| EncodeError::encoder(Format::WebP, error))?;
    Ok(file)
}

fn tiff(image: &Image<'_>) -> Result<Vec<u8>, EncodeError> {
    let written = match (image.samples.len() >= BIG_TIFF_BYTES, image.gray) {
        (false, true) => tiff_as::<TiffKindStandard, Gray8>(image),
        (false, false) => tiff_as::<TiffKindStandard, RGB8>(image),
        (true, true) => tiff_as::<TiffKindBig, Gray8>(image),
        (true, false) => tiff_as::<TiffKindBig, RGB8>(image),
    };
    written.map_err(|error| EncodeError::encoder(Format::Tiff, error))
}

fn tiff_as<K: TiffKind, C: ColorType<Inner = u8>>(image: &Image<'_>) -> TiffResult<Vec<u8>> {
    let mut file = Cursor::new(Vec::new());
    let mut encoder = TiffEncoder::<_, K>::new_generic(&mut file)?
        .with_compression(Compression::Deflate(DeflateLevel::Fast))
        .with_predictor(Predictor::Horizontal);
    let mut page = encoder.new_image::<C>(image.width, image.height)?;
    if let Some(icc) = image.icc {
        page.encoder().write_tag(Tag::IccProfile, Undefined(icc))?;
    }
    page.write_data(image.samples)?;
    Ok(file.into_inner())
}

/// Bytes of the TIFF type `UNDEFINED`, which the ICC profile must have.
struct Undefined<'a>(&'a [u8]);

impl TiffValue for Undefined<'_> {
    const BYTE_LEN: u8 = 1;
    const FIELD_TYPE: Type = Type::UNDEFINED;

    fn count(&self) -> usize {
        self.0.len()
    }

    fn data(&self) -> std::borrow::Cow<'_, [u8]> {
        self.0.into()
    }
}
