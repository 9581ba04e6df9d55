//! Pixels in, a file out: how it is to be written, and in one go.

use crate::{
    Depth, EncodeError, Finished, Format, Metadata, Pixels, TiffCompression, TiffTile, Writer,
    samples::Layout,
};

/// JPEG quality where nobody asked for another.
pub const DEFAULT_JPEG_QUALITY: u8 = 95;

/// How a result is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodeOptions {
    /// The file format.
    pub format: Format,
    /// Write one channel, the luma of the pixels. WebP has no gray and keeps three equal ones.
    pub gray: bool,
    /// Write transparency behind the colours; not for JPEG.
    pub alpha: bool,
    /// Bits in a sample; 16 for PNG and TIFF only.
    pub depth: Depth,
    /// 1 (worst) to 100; used for JPEG only, which is written 4:4:4.
    pub jpeg_quality: u8,
    /// ICC profile to embed; `None` means sRGB.
    pub icc: Option<Vec<u8>>,
    /// Square tiles in place of strips, for viewers that show a part of a large picture; used for TIFF
    /// only.
    pub tiff_tile: Option<TiffTile>,
    /// How strips and tiles are packed; used for TIFF only.
    pub tiff_compression: TiffCompression,
    /// What the file says beside its pixels, from [`Metadata::for_result`].
    pub metadata: Metadata,
}

impl EncodeOptions {
    /// Colour of 8 bits without transparency, JPEG quality 95, no ICC profile, no metadata.
    #[must_use]
    pub fn new(format: Format) -> Self {
        Self {
            format,
            gray: false,
            alpha: false,
            depth: Depth::Eight,
            jpeg_quality: DEFAULT_JPEG_QUALITY,
            icc: None,
            tiff_tile: None,
            tiff_compression: TiffCompression::default(),
            metadata: Metadata::default(),
        }
    }

    /// Says whether a result of this size can be written so; ask before computing it.
    ///
    /// - `width`, `height`: of the result, in pixels.
    ///
    /// # Errors
    /// Those of [`check_output`], and [`EncodeError::NoTransparency`].
    pub fn check(&self, width: u32, height: u32) -> Result<(), EncodeError> {
        if self.alpha && !self.format.holds_alpha() {
            return Err(EncodeError::NoTransparency {
                format: self.format,
            });
        }
        check_output(self.format, width, height)
    }

    /// Says whether so many pages fit into one file.
    ///
    /// # Errors
    /// [`EncodeError::SeveralPages`] for more than one, but for TIFF.
    pub fn check_pages(&self, pages: usize) -> Result<(), EncodeError> {
        if pages > 1 && self.format != Format::Tiff {
            return Err(EncodeError::SeveralPages {
                format: self.format,
                pages,
            });
        }
        Ok(())
    }

    /// Bytes of all samples of a result of this size, before they are compressed.
    #[must_use]
    pub fn samples_bytes(&self, width: u32, height: u32) -> u64 {
        let row_bytes = u64::try_from(self.layout().row_bytes(width)).unwrap_or(u64::MAX);
        row_bytes.saturating_mul(u64::from(height))
    }

    /// The samples that are written.
    pub(crate) fn layout(&self) -> Layout {
        Layout {
            gray: self.gray,
            alpha: self.alpha,
            depth: self.depth.min(self.format.max_depth()),
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

/// Writes `pixels` as a file. The same pixels and options give the same bytes, which are also those
/// of a [`Writer`].
///
/// # Errors
/// [`EncodeError`] when the format cannot hold the size, the buffer has a wrong length, or the
/// encoder refuses.
pub fn encode(pixels: &Pixels, options: &EncodeOptions) -> Result<Vec<u8>, EncodeError> {
    let mut writer = Writer::new(options, pixels.width, pixels.height)?;
    writer.push_rows(&pixels.rgb)?;
    let Finished { head, tail } = writer.finish()?;
    if head.is_empty() {
        return Ok(tail);
    }
    Ok([head, tail].concat())
}
