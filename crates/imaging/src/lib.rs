//! Image files in and out: sniff, limit, decode, encode.
//!
//! Owns everything that is about a file format: which bytes are a picture, how large it may be,
//! how its orientation is applied, and how a result is written. Knows no job and no tensor.
//!
//! What is not handled is refused with a sentence, never damaged silently. Handled are JPEG, PNG,
//! TIFF (classic and `BigTIFF`, of one page or several), WebP, GIF and BMP: gray, RGB or palette, with or
//! without transparency, 1 to 16 bits a sample. The engine sees 8 bit sRGB or finer; [`Finish`] brings
//! its rows back into the colour space, the depth and the channels of the source. EXIF, XMP, IPTC and the
//! resolution are mended for the larger picture by [`Metadata::for_result`] and written again.
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

mod colour;
mod decode;
mod encode;
mod error;
mod finish;
mod format;
mod input_format;
mod limits;
mod metadata;
mod pixels;
mod samples;
mod shared_file;
mod sniff;
mod tiff_compression;
mod tiff_tile;
mod writer;

pub use decode::{Decoded, Info, Reader, Source, Stored, decode, page_count, probe};
pub use encode::{DEFAULT_JPEG_QUALITY, EncodeOptions, check_output, encode};
pub use error::{DecodeError, EncodeError};
pub use finish::Finish;
pub use format::{Format, UnknownFormat};
pub use input_format::InputFormat;
pub use limits::Limits;
pub use metadata::{COMPOSITE, Carried, Change, Metadata, Provenance, Resolution, Unit};
pub use pixels::Pixels;
pub use samples::Depth;
pub use shared_file::SharedFile;
pub use sniff::sniff;
pub use tiff_compression::TiffCompression;
pub use tiff_tile::{NoTiffTile, TiffTile};
pub use writer::{Checkpoint, Finished, Page, Writer};
