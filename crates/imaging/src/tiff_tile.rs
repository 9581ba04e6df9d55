//! The tiles of a TIFF file.

use serde::{Deserialize, Serialize};

/// The side of a tile, in pixels: a multiple of 16 from 64 to 1,024.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct TiffTile(u32);

/// A side that no tile may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("tiles of {0} px are refused: give a multiple of 16 from 64 to 1024")]
pub struct NoTiffTile(pub u32);

impl TiffTile {
    /// In pixels.
    #[must_use]
    pub fn side(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for TiffTile {
    type Error = NoTiffTile;

    fn try_from(side: u32) -> Result<Self, NoTiffTile> {
        if (64..=1_024).contains(&side) && side.is_multiple_of(16) {
            Ok(Self(side))
        } else {
            Err(NoTiffTile(side))
        }
    }
}

impl From<TiffTile> for u32 {
    fn from(tile: TiffTile) -> Self {
        tile.0
    }
}
