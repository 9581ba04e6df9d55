//! How the file of a result is written, beside its format.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::request::FieldError;

/// Sides of tiles that every reader of TIFF knows, in pixels; multiples of 16.
const TIFF_TILE_RANGE_PX: std::ops::RangeInclusive<u32> = 64..=1_024;

/// How the file is written; what is not of its format is ignored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FileOptions {
    /// Quality of a JPEG, 1 to 100; 95 unless given. It is written without chroma subsampling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jpeg_quality: Option<u8>,
    /// Side of the tiles of a TIFF in pixels, a multiple of 16 from 64 to 1,024; strips unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tiff_tile: Option<u32>,
    /// How a TIFF is packed, always behind a horizontal predictor; `deflate` unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tiff_compression: Option<TiffPacking>,
}

/// How a TIFF is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum TiffPacking {
    /// Zlib streams, the smaller ones.
    Deflate,
    /// For readers that know nothing newer.
    Lzw,
}

impl FileOptions {
    pub(super) fn check(&self, errors: &mut Vec<FieldError>) {
        if self
            .jpeg_quality
            .is_some_and(|quality| !(1..=100).contains(&quality))
        {
            errors.push(FieldError::new(
                "/upscale/file/jpeg_quality",
                "must be 1 to 100",
            ));
        }
        if let Some(Err(detail)) = self.tiff_tile.map(check_tiff_tile) {
            errors.push(FieldError::new("/upscale/file/tiff_tile", detail));
        }
    }
}

/// Why a side of tiles was refused.
///
/// # Errors
/// A sentence, when `side` is outside 64..=1024 px or no multiple of 16.
pub fn check_tiff_tile(side: u32) -> Result<(), String> {
    if TIFF_TILE_RANGE_PX.contains(&side) && side.is_multiple_of(16) {
        return Ok(());
    }
    Err(format!(
        "tiles of {side} px are refused: give a multiple of 16 from 64 to 1024"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_file_can_have_is_refused_by_its_field() {
        let options = FileOptions {
            jpeg_quality: Some(0),
            tiff_tile: Some(100),
            ..FileOptions::default()
        };
        let mut errors = Vec::new();
        options.check(&mut errors);
        let pointers: Vec<_> = errors.iter().map(|error| error.pointer.as_str()).collect();
        assert_eq!(
            pointers,
            ["/upscale/file/jpeg_quality", "/upscale/file/tiff_tile"]
        );
        errors.clear();
        FileOptions::default().check(&mut errors);
        assert_eq!(errors, []);
    }
}
