//! Image files in and out: sniff, limit, decode, encode.
//!
//! Owns everything that is about a file format: which bytes are a picture, how large it may be,
//! how its orientation is applied, and how a result is written. Knows no job and no tensor.
//!
//! What is not handled is refused with a sentence, never damaged silently. Handled are JPEG, PNG,
//! TIFF (classic and `BigTIFF`) and WebP with 8 bit (or 1 bit) gray or RGB samples and one page.
//! An ICC profile is kept and embedded again, so that the colours stay what they were.
//!
//! [`Reader`] and [`Writer`] work in rows, so that neither file nor picture need fit in memory, and a
//! half-written file can be continued by another process. [`decode`] and [`encode()`] are the same in
//! one go.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use imaging::{EncodeOptions, Format, Limits, Pixels};
//!
//! let file = imaging::encode(&Pixels::gray(2, 1, &[0, 255]), &EncodeOptions::new(Format::Png))?;
//! let decoded = imaging::decode(&file, &Limits::default())?;
//! assert_eq!((decoded.info.width, decoded.info.height), (2, 1));
//! let again = imaging::encode(&decoded.pixels, &decoded.encode_like(None))?;
//! assert!(!again.is_empty());
//! # Ok(())
//! # }
//! ```

mod decode;
mod encode;
mod error;
mod format;
mod limits;
mod pixels;
mod sniff;
mod writer;

pub use decode::{Decoded, Info, Reader, Source, decode, probe};
pub use encode::{DEFAULT_JPEG_QUALITY, EncodeOptions, check_output, encode};
pub use error::{DecodeError, EncodeError};
pub use format::{Format, UnknownFormat};
pub use limits::Limits;
pub use pixels::Pixels;
pub use sniff::sniff;
pub use writer::{Checkpoint, Finished, Writer};
