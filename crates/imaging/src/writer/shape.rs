//! The size of a picture, and how it is cut into bands.

use super::jpeg;
use crate::{Depth, EncodeOptions, Format, TiffTile, samples::Layout};

/// Samples in a band, in bytes: enough that what each band costs on top does not count.
const BAND_BYTES: usize = 2 << 20;

/// The size of a picture and how it is cut.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub width: u32,
    pub height: u32,
    pub layout: Layout,
    /// Rows in every band but the last, which may have fewer.
    pub band_rows: u32,
    /// Side of the tiles of a TIFF that has some, in pixels.
    pub tile: Option<u32>,
}

impl Shape {
    pub(super) fn new(options: &EncodeOptions, width: u32, height: u32) -> Self {
        let mut shape = Self {
            width,
            height,
            layout: options.layout(),
            band_rows: height,
            tile: None,
        };
        let fitting = u32::try_from(BAND_BYTES / shape.row_bytes()).unwrap_or(u32::MAX);
        shape.band_rows = match options.format {
            Format::Png => fitting.max(1),
            Format::Tiff => {
                shape.tile = options.tiff_tile.map(TiffTile::side);
                shape.tile.unwrap_or(fitting.max(1))
            }
            Format::Jpeg => {
                let rows = fitting.min(jpeg::max_band_rows(width));
                (rows / jpeg::BLOCK_ROWS).max(1) * jpeg::BLOCK_ROWS
            }
            Format::WebP => height,
        };
        shape
    }

    pub(super) fn gray(&self) -> bool {
        self.layout.gray
    }

    pub(super) fn channels(&self) -> usize {
        self.layout.channels()
    }

    pub(super) fn pixel_bytes(&self) -> usize {
        self.layout.pixel_bytes()
    }

    pub(super) fn is_deep(&self) -> bool {
        self.layout.depth == Depth::Sixteen
    }

    /// Bytes in a row of samples as they are written.
    pub(super) fn row_bytes(&self) -> usize {
        self.layout.row_bytes(self.width)
    }

    /// Bytes in a row of 8 bit RGB.
    pub(super) fn row_rgb(&self) -> usize {
        usize::try_from(self.width)
            .unwrap_or(usize::MAX)
            .saturating_mul(3)
    }

    /// Chunks beside each other in a band of TIFF.
    pub(super) fn across(&self) -> u32 {
        self.tile.map_or(1, |side| self.width.div_ceil(side))
    }

    /// Rows in the band that begins at `row`.
    pub(super) fn rows_of_band(&self, row: u32) -> u32 {
        self.band_rows.min(self.height - row)
    }
}
