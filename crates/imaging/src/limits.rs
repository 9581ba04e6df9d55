//! How large an input may be; decided from the header, before any large allocation.

use crate::{DecodeError, InputFormat};

/// The largest input that is accepted. Every field is inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Width times height, in pixels. Decoding needs about 3 bytes a pixel, a progressive JPEG 12.
    pub max_pixels: u64,
    /// Size of the file, in bytes.
    pub max_bytes: u64,
    /// Width and height, in pixels.
    pub max_side: u32,
    /// The longer side divided by the shorter.
    pub max_aspect: u32,
    /// Chunks of PNG, segments of JPEG, entries of a TIFF directory: what a file has beside its pixels.
    pub max_blocks: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl Limits {
    /// 250 megapixels, 2 GiB, 100,000 px a side and one side 10,000 times the other, 10,000 blocks beside
    /// the pixels.
    pub const DEFAULT: Self = Self {
        max_pixels: 250_000_000,
        max_bytes: 2 << 30,
        max_side: 100_000,
        max_aspect: 10_000,
        max_blocks: 10_000,
    };

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
        let shorter = u64::from(width.min(height));
        // Without pixels is another complaint.
        if shorter > 0 && u64::from(width.max(height)) > shorter * u64::from(self.max_aspect) {
            return Err(DecodeError::TooNarrow {
                width,
                height,
                limit: self.max_aspect,
            });
        }
        Ok(())
    }

    pub(crate) fn check_blocks(&self, format: InputFormat, blocks: u64) -> Result<(), DecodeError> {
        if blocks > u64::from(self.max_blocks) {
            return Err(DecodeError::TooManyBlocks {
                format,
                limit: self.max_blocks,
            });
        }
        Ok(())
    }
}
