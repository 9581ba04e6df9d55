//! The file formats that are read and written.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::Depth;

/// A file format that can be read and written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// JPEG; lossy, at most 65,535 px a side.
    Jpeg,
    /// PNG; lossless.
    Png,
    /// TIFF; lossless, becomes `BigTIFF` when classic TIFF could not hold it.
    Tiff,
    /// WebP; written lossless, at most 16,383 px a side.
    WebP,
}

/// A name that is not one of `jpeg`, `png`, `tiff`, `webp`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown image format {0:?}: use jpeg, png, tiff or webp")]
pub struct UnknownFormat(pub String);

impl Format {
    /// Every format, in the order of their names.
    pub const ALL: [Self; 4] = [Self::Jpeg, Self::Png, Self::Tiff, Self::WebP];

    /// The name used in options and messages: `jpeg`, `png`, `tiff`, `webp`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Jpeg => "jpeg",
            Self::Png => "png",
            Self::Tiff => "tiff",
            Self::WebP => "webp",
        }
    }

    /// The usual file name extension, without the dot: `jpg`, `png`, `tif`, `webp`.
    #[must_use]
    pub fn extension(self) -> &'static str {
        match self {
            Self::Jpeg => "jpg",
            Self::Png => "png",
            Self::Tiff => "tif",
            Self::WebP => "webp",
        }
    }

    /// The media type for HTTP and object stores, such as `image/jpeg`.
    #[must_use]
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Jpeg => "image/jpeg",
            Self::Png => "image/png",
            Self::Tiff => "image/tiff",
            Self::WebP => "image/webp",
        }
    }

    /// The format that `extension` (without the dot, in any case) promises, if it is one of ours.
    #[must_use]
    pub fn from_extension(extension: &str) -> Option<Self> {
        match extension.to_ascii_lowercase().as_str() {
            "jpg" | "jpeg" | "jpe" | "jfif" => Some(Self::Jpeg),
            "png" => Some(Self::Png),
            "tif" | "tiff" => Some(Self::Tiff),
            "webp" => Some(Self::WebP),
            _ => None,
        }
    }

    /// Whether what stands at a file's beginning is known only at its end: see
    /// [`Finished::head`](crate::Finished::head).
    #[must_use]
    pub fn head_comes_last(self) -> bool {
        self == Self::Tiff
    }

    /// The longest side this format can hold, in pixels.
    #[must_use]
    pub fn max_side(self) -> u32 {
        match self {
            Self::Jpeg => 65_535,
            Self::Png | Self::Tiff => i32::MAX.unsigned_abs(),
            Self::WebP => 16_383,
        }
    }

    /// The most bits a sample can have.
    #[must_use]
    pub fn max_depth(self) -> Depth {
        match self {
            Self::Png | Self::Tiff => Depth::Sixteen,
            Self::Jpeg | Self::WebP => Depth::Eight,
        }
    }

    /// Whether it holds transparency.
    #[must_use]
    pub fn holds_alpha(self) -> bool {
        self != Self::Jpeg
    }

    /// Whether a file can carry the profile of its picture. WebP stores gray as three equal channels, which a profile
    /// for gray does not fit.
    #[must_use]
    pub fn holds_profile(self, gray: bool) -> bool {
        !(gray && self == Self::WebP)
    }

    /// Whether a file is written in bands, with memory that does not grow with its height, and can
    /// be continued by another process: all but WebP, whose sides are short.
    #[must_use]
    pub fn streams(self) -> bool {
        match self {
            Self::Jpeg | Self::Png | Self::Tiff => true,
            Self::WebP => false,
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Format {
    type Err = UnknownFormat;

    /// Reads the names that [`Format::name`] gives, and nothing else.
    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|format| format.name() == name)
            .ok_or_else(|| UnknownFormat(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_extensions_read_back() {
        for format in Format::ALL {
            assert_eq!(format.name().parse(), Ok(format));
            assert_eq!(Format::from_extension(format.extension()), Some(format));
        }
        assert_eq!(Format::from_extension("TIFF"), Some(Format::Tiff));
        assert_eq!(Format::from_extension("gif"), None);
        assert!("jpg2000".parse::<Format>().is_err());
    }
}
