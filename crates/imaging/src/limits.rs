//! How large an input may be; decided from the header, before any large allocation.

use crate::DecodeError;

/// The largest input that is accepted. Every field is inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Width times height, in pixels. Decoding needs about 3 bytes a pixel, a progressive JPEG 12.
    pub max_pixels: u64,
    /// Size of the file, in bytes.
    pub max_bytes: u64,
    /// Width and height, in pixels.
    pub max_side: u32,
}

impl Default for Limits {
    /// 250 megapixels, 1 GiB, 100,000 px a side.
    fn default() -> Self {
        Self {
            max_pixels: 250_000_000,
            max_bytes: 1 << 30,
            max_side: 100_000,
        }
    }
}

impl Limits {
    pub(crate) fn check_bytes(&self, size_bytes: u64) -> Result<(), DecodeError> {
        if size_bytes > self.max_bytes {
            return Err(DecodeError::TooManyBytes {
                size_bytes,
                limit: self.max_bytes,
            });
        }
        Ok(())
    }

    pub(crate) fn check_size(&self, width: u32, height: u32) -> Result<(), DecodeError> {
        if u64::from(width) * u64::from(height) > self.max_pixels {
            return Err(DecodeError::TooManyPixels {
                width,
                height,
                limit: self.max_pixels,
            });
        }
        if width.max(height) > self.max_side {
            return Err(DecodeError::SideTooLong {
                width,
                height,
                limit: self.max_side,
            });
        }
        Ok(())
    }
}
