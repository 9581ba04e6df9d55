//! The file formats that are read: those that are written too, and a few more.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Format;

/// A file format that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InputFormat {
    /// JPEG.
    Jpeg,
    /// PNG.
    Png,
    /// TIFF and `BigTIFF`.
    Tiff,
    /// WebP.
    WebP,
    /// GIF; stills only.
    Gif,
    /// Windows bitmap.
    Bmp,
    /// JPEG 2000, if the cargo feature `jpeg2000` is on.
    Jpeg2000,
}

impl InputFormat {
    /// Every format.
    pub const ALL: [Self; 7] = [
        Self::Jpeg,
        Self::Png,
        Self::Tiff,
        Self::WebP,
        Self::Gif,
        Self::Bmp,
        Self::Jpeg2000,
    ];

    /// The name used in messages: `jpeg`, `png`, `tiff`, `webp`, `gif`, `bmp`, `jpeg2000`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Gif => "gif",
            Self::Bmp => "bmp",
            Self::Jpeg2000 => "jpeg2000",
            Self::Jpeg | Self::Png | Self::Tiff | Self::WebP => self.kept().name(),
        }
    }

    /// The format of a result that is to follow its source: the same, or for what is not written PNG, and
    /// TIFF for JPEG 2000, which archives have in its place.
    #[must_use]
    pub fn kept(self) -> Format {
        match self {
            Self::Jpeg => Format::Jpeg,
            Self::Tiff | Self::Jpeg2000 => Format::Tiff,
            Self::WebP => Format::WebP,
            Self::Png | Self::Gif | Self::Bmp => Format::Png,
        }
    }

    /// The format that `extension` (without the dot, in any case) promises, if it is one of these.
    #[must_use]
    pub fn from_extension(extension: &str) -> Option<Self> {
        match extension.to_ascii_lowercase().as_str() {
            "gif" => Some(Self::Gif),
            "bmp" | "dib" => Some(Self::Bmp),
            "jp2" | "j2k" | "j2c" | "jpf" | "jpx" | "jpeg2000" => Some(Self::Jpeg2000),
            other => Format::from_extension(other).map(Self::from),
        }
    }
}

impl From<Format> for InputFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Jpeg => Self::Jpeg,
            Format::Png => Self::Png,
            Format::Tiff => Self::Tiff,
            Format::WebP => Self::WebP,
        }
    }
}

impl fmt::Display for InputFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_extensions_too_and_what_is_written_keeps_its_format() {
        for format in InputFormat::ALL {
            assert_eq!(InputFormat::from_extension(format.name()), Some(format));
        }
        for format in Format::ALL {
            assert_eq!(InputFormat::from(format).kept(), format);
        }
        assert_eq!(InputFormat::Gif.kept(), Format::Png);
        assert_eq!(InputFormat::from_extension("psd"), None);
    }
}
