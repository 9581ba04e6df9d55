//! How strips and tiles of a TIFF file are packed.

use serde::{Deserialize, Serialize};

/// A compression without loss, always behind a horizontal predictor.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TiffCompression {
    /// Zlib streams: smaller and faster than the other.
    #[default]
    Deflate,
    /// For readers that know nothing newer.
    Lzw,
}
