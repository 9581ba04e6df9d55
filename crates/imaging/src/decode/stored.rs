//! How a file stores its picture, for people: a result may have it otherwise.

use serde::Serialize;

/// How a file stores a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Stored {
    /// Of a sample, or of an index into a palette.
    pub bits: u8,
    /// Such as `gray`, `rgb`, `palette`, `cmyk`, `ycbcr`, `lab`.
    pub color: &'static str,
    /// Such as `none`, `lzw`, `deflate`, `progressive`, `lossless`.
    pub compression: &'static str,
}

impl Stored {
    pub(super) const fn new(bits: u8, color: &'static str, compression: &'static str) -> Self {
        Self {
            bits,
            color,
            compression,
        }
    }
}
