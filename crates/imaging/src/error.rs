//! Why a file was refused, and why a result could not be written.

use std::{error::Error, io};

use crate::{Format, InputFormat};

/// What a decoder or an encoder of another crate said.
pub(crate) type Cause = Box<dyn Error + Send + Sync>;

/// Why a file was not decoded. The file's fault, so that trying again gives the same answer, but for
/// [`DecodeError::Read`].
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The bytes could not be read from where they are; nothing is known about the file.
    #[error("the file cannot be read")]
    Read(#[source] io::Error),
    /// No bytes at all.
    #[error("the file is empty")]
    Empty,
    /// Neither an image that is read here nor one that is known by name.
    #[error("not an image that can be read: {0}")]
    NotAnImage(&'static str),
    /// The end of the file is missing.
    #[error("the {format} file is cut off: copy or scan it again")]
    Truncated {
        /// The format of the file.
        format: InputFormat,
    },
    /// Damaged inside.
    #[error("the {format} file is damaged: copy or scan it again")]
    Corrupt {
        /// The format of the file.
        format: InputFormat,
        /// What the decoder found.
        #[source]
        source: Cause,
    },
    /// More pixels than [`Limits::max_pixels`](crate::Limits::max_pixels).
    #[error(
        "the image is {width}x{height} px, more than the {limit} pixels accepted: reduce or crop it"
    )]
    TooManyPixels {
        /// Width as stored, in pixels.
        width: u32,
        /// Height as stored, in pixels.
        height: u32,
        /// The limit in force, in pixels.
        limit: u64,
    },
    /// A side longer than [`Limits::max_side`](crate::Limits::max_side).
    #[error("the image is {width}x{height} px, a side may have {limit} px: reduce or crop it")]
    SideTooLong {
        /// Width as stored, in pixels.
        width: u32,
        /// Height as stored, in pixels.
        height: u32,
        /// The limit in force, in pixels.
        limit: u32,
    },
    /// Sides that are too different: [`Limits::max_aspect`](crate::Limits::max_aspect).
    #[error(
        "the image is {width}x{height} px, one side may be {limit} times as long as the other: \
         cut it into pieces"
    )]
    TooNarrow {
        /// Width as stored, in pixels.
        width: u32,
        /// Height as stored, in pixels.
        height: u32,
        /// The limit in force.
        limit: u32,
    },
    /// More beside the pixels than [`Limits::max_blocks`](crate::Limits::max_blocks).
    #[error(
        "the {format} file has more than {limit} blocks beside its pixels: save it anew without them"
    )]
    TooManyBlocks {
        /// The format of the file.
        format: InputFormat,
        /// The limit in force.
        limit: u32,
    },
    /// A page that the file does not have.
    #[error("the file has {}, page {page} was asked for: choose others", count(*.pages))]
    NoSuchPage {
        /// What was asked for, from 1.
        page: u32,
        /// What there is.
        pages: u32,
    },
    /// Several pages where one was wanted.
    #[error("the file has {pages} pages, where one was wanted: choose pages, or split it")]
    SeveralPages {
        /// What there is.
        pages: u32,
    },
    /// A larger file than [`Limits::max_bytes`](crate::Limits::max_bytes).
    #[error("the file has {size_bytes} bytes, {limit} are accepted: compress or split it")]
    TooManyBytes {
        /// Size of the file, in bytes.
        size_bytes: u64,
        /// The limit in force, in bytes.
        limit: u64,
    },
    /// An image, but of a format that is not read.
    #[error("{0} is not supported: convert it to tiff, png, jpeg or webp first")]
    UnsupportedFormat(&'static str),
    /// A format that is read, used in a way that is not handled and would be damaged.
    #[error("{format} with {what} is not supported yet: {remedy}")]
    Unsupported {
        /// The format of the file.
        format: InputFormat,
        /// What it contains.
        what: String,
        /// What to do about it.
        remedy: &'static str,
    },
}

impl DecodeError {
    pub(crate) fn corrupt(format: InputFormat, source: impl Into<Cause>) -> Self {
        Self::Corrupt {
            format,
            source: source.into(),
        }
    }

    pub(crate) fn unsupported(
        format: InputFormat,
        what: impl Into<String>,
        remedy: &'static str,
    ) -> Self {
        Self::Unsupported {
            format,
            what: what.into(),
            remedy,
        }
    }

    /// The stable error type of a job: `unreadable`, `too_large` or `unsupported` if it is the file's
    /// fault, `storage` if it is not.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Empty | Self::NotAnImage(_) | Self::Truncated { .. } | Self::Corrupt { .. } => {
                "unreadable"
            }
            Self::Read(_) => "storage",
            Self::TooManyPixels { .. }
            | Self::SideTooLong { .. }
            | Self::TooNarrow { .. }
            | Self::TooManyBlocks { .. }
            | Self::TooManyBytes { .. } => "too_large",
            Self::UnsupportedFormat(_)
            | Self::Unsupported { .. }
            | Self::NoSuchPage { .. }
            | Self::SeveralPages { .. } => "unsupported",
        }
    }
}

fn count(pages: u32) -> String {
    if pages == 1 {
        "1 page".to_owned()
    } else {
        format!("{pages} pages")
    }
}

/// Why a result could not be written.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// The format cannot hold an image of this size.
    #[error(
        "{format} holds at most {limit} px a side, the result has {width}x{height}: \
         use png or tiff"
    )]
    SideTooLong {
        /// The format asked for.
        format: Format,
        /// Width of the result, in pixels.
        width: u32,
        /// Height of the result, in pixels.
        height: u32,
        /// The longest side of the format, in pixels.
        limit: u32,
    },
    /// The format has no transparency, and the picture does.
    #[error("{format} holds no transparency: use png, tiff or webp, or flatten the picture")]
    NoTransparency {
        /// The format asked for.
        format: Format,
    },
    /// The format has one page, and the file has more.
    #[error("{format} holds one picture, the file has {pages} pages: use tiff, or choose one page")]
    SeveralPages {
        /// The format asked for.
        format: Format,
        /// Pages of the result.
        pages: usize,
    },
    /// A file without a page.
    #[error("there is no page to write")]
    NoPages,
    /// Rows are counted through all pages.
    #[error("the pages have more rows than can be counted: split the file")]
    TooManyRows,
    /// No pixels.
    #[error("the result is {width}x{height} px: there is nothing to write")]
    NoPixels {
        /// Width of the result, in pixels.
        width: u32,
        /// Height of the result, in pixels.
        height: u32,
    },
    /// `Pixels::rgb` has another length than `width * height * 3`.
    #[error("the pixel buffer has {found} bytes, {width}x{height} px need {expected}")]
    WrongLength {
        /// Width of the result, in pixels.
        width: u32,
        /// Height of the result, in pixels.
        height: u32,
        /// Bytes needed.
        expected: u64,
        /// Bytes there.
        found: u64,
    },
    /// A half-written file cannot be continued from this checkpoint.
    #[error("the file cannot be continued: {0}")]
    Checkpoint(&'static str),
    /// The encoder refused.
    #[error("write {format}")]
    Encoder {
        /// The format asked for.
        format: Format,
        /// What the encoder said.
        #[source]
        source: Cause,
    },
}

impl EncodeError {
    pub(crate) fn encoder(format: Format, source: impl Into<Cause>) -> Self {
        Self::Encoder {
            format,
            source: source.into(),
        }
    }
}
