//! Where tiles lie: padding, origins, and the way back to the image's own pixels.
//!
//! All of it is separable, so one [`Axis`] describes rows and another columns. A padded image is
//! never built: an axis maps each padded coordinate to the pixel that stands there, and does so
//! without a table, so that a high image costs no more than a low one.

use std::ops::Range;

use crate::config::SCALE;
use crate::error::UpscaleError;
use crate::upscale::Options;

/// The largest tile side accepted, in input pixels: far above what a device can hold.
const MAX_TILE_PX: u32 = 2048;

/// What the networks ask of the sizes they see.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cells {
    /// What both sides of the padded input must be multiples of.
    pub multiple: usize,
    /// Input pixels per latent pixel, each way.
    pub latent_px: usize,
}

impl Cells {
    /// Tiles must also be even, since they may overlap by half.
    pub(crate) fn tile_multiple_px(&self) -> u32 {
        u32::try_from(self.multiple.max(2)).unwrap_or(u32::MAX)
    }
}

/// Tiling along one side of the image, in low-resolution pixels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Axis {
    /// For a side shorter than a tile: the image's coordinate at each padded one.
    short: Option<Vec<usize>>,
    /// Padded pixels before the image's first.
    pub before: usize,
    /// The image's own length.
    pub length: usize,
    padded: usize,
    tile: usize,
    /// From one tile's origin to the next.
    stride: usize,
}

impl Axis {
    /// Pads `length` pixels to at least one tile, then to a multiple of `multiple`, and lays tiles
    /// `tile - overlap` apart. The last one is pulled back inside.
    ///
    /// Below one tile the padding is a reflection that does not repeat the border pixel, and is
    /// repeated, since one reflection can add at most `length - 1` pixels a side. A single pixel
    /// has nothing to reflect and is repeated instead. From one tile on, the padding is a
    /// reflection at the end.
    ///
    /// - `tile`: a multiple of `multiple`; `overlap`: less than a tile.
    pub(crate) fn new(length: usize, tile: usize, overlap: usize, multiple: usize) -> Self {
        let (short, before) = if length < tile {
            let (source, before) = reflected(length, tile);
            (Some(source), before)
        } else {
            (None, 0)
        };
        Self {
            short,
            before,
            length,
            padded: length.max(tile).next_multiple_of(multiple),
            tile,
            stride: tile - overlap,
        }
    }

    /// The image's coordinate that stands at a padded one.
    pub(crate) fn source(&self, at: usize) -> usize {
        match &self.short {
            Some(source) => source[at],
            None if at < self.length => at,
            None => 2 * (self.length - 1) - at,
        }
    }

    /// Padded length.
    pub(crate) fn padded(&self) -> usize {
        self.padded
    }

    /// Number of tiles.
    pub(crate) fn tiles(&self) -> usize {
        (self.padded - self.tile).div_ceil(self.stride) + 1
    }

    /// Where a tile begins, in padded coordinates: every stride from 0, pulled back where the tile
    /// would stick out. The last tile may lie almost on its neighbour.
    pub(crate) fn origin(&self, tile: usize) -> usize {
        (tile * self.stride).min(self.padded - self.tile)
    }

    /// The first tile that reaches beyond a padded coordinate.
    pub(crate) fn first_tile_over(&self, at: usize) -> usize {
        let regular = (at + 1).saturating_sub(self.tile).div_ceil(self.stride);
        regular.min(self.tiles() - 1)
    }

    /// The tiles that cover a padded coordinate, ascending.
    pub(crate) fn tiles_over(&self, at: usize) -> impl Iterator<Item = usize> + '_ {
        let reaching = self.first_tile_over(at)..self.tiles();
        reaching.take_while(move |&tile| self.origin(tile) <= at)
    }

    /// The image's coordinates that a tile, and in its beginning all after it, need.
    pub(crate) fn needed(&self, tile: usize) -> Range<usize> {
        if self.short.is_some() {
            return 0..self.length;
        }
        let top = self.origin(tile);
        let from = top.min(self.source(self.padded - 1));
        from..(top + self.tile).min(self.length)
    }
}

/// Reflects `length` pixels until they fill a tile; returns what stands where, and how many come
/// before the first.
fn reflected(length: usize, tile: usize) -> (Vec<usize>, usize) {
    if length == 1 {
        return (vec![0; tile], (tile - 1) / 2);
    }
    let mut source: Vec<usize> = (0..length).collect();
    let mut before = 0;
    while source.len() < tile {
        let n = source.len();
        let ahead = ((tile - n) / 2).min(n - 1);
        let behind = (tile - n - ahead).min(n - 1);
        let head = source[1..=ahead].iter().rev();
        let tail = source.iter().rev().skip(1).take(behind);
        source = head.chain(&source).chain(tail).copied().collect();
        before += ahead;
    }
    (source, before)
}

/// The tiles of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tiling {
    pub rows: Axis,
    pub columns: Axis,
    /// Side of a tile, in low-resolution pixels.
    pub tile: usize,
    /// What neighbouring tiles share at least, in low-resolution pixels.
    pub overlap: usize,
}

impl Tiling {
    /// Lays tiles over an image.
    ///
    /// # Errors
    /// The image, the tile, the overlap or the batch cannot be.
    pub(crate) fn new(
        width: u32,
        height: u32,
        options: &Options,
        cells: Cells,
    ) -> Result<Self, UpscaleError> {
        let (tile_px, multiple) = (options.tile_px, cells.tile_multiple_px());
        if tile_px == 0 || !tile_px.is_multiple_of(multiple) || tile_px > MAX_TILE_PX {
            return Err(UpscaleError::TileSize {
                tile_px,
                multiple,
                largest: MAX_TILE_PX,
            });
        }
        if options.tile_batch == 0 {
            return Err(UpscaleError::EmptyTileBatch);
        }
        let scale = u32::try_from(SCALE).unwrap_or(u32::MAX);
        if width == 0
            || height == 0
            || width.checked_mul(scale).is_none()
            || height.checked_mul(scale).is_none()
        {
            return Err(UpscaleError::ImageSize { width, height });
        }
        let (tile, overlap) = (tile_px as usize, overlap(options, cells)?);
        let axis = |length: u32| Axis::new(length as usize, tile, overlap, cells.multiple);
        Ok(Self {
            rows: axis(height),
            columns: axis(width),
            tile,
            overlap,
        })
    }

    /// Number of tiles.
    pub(crate) fn len(&self) -> usize {
        self.rows.tiles() * self.columns.tiles()
    }

    /// The row of tiles that a tile lies in; tiles count in raster order.
    pub(crate) fn row_of(&self, tile: usize) -> usize {
        tile / self.columns.tiles()
    }

    /// Top and left of a tile, in padded pixels.
    pub(crate) fn origin(&self, tile: usize) -> (usize, usize) {
        let column = tile % self.columns.tiles();
        (
            self.rows.origin(self.row_of(tile)),
            self.columns.origin(column),
        )
    }

    /// Appends the pixels of a tile, planes of `[3, p, p]`.
    ///
    /// - `row`: gives a row of the image, interleaved RGB.
    pub(crate) fn cut<'r>(
        &self,
        row: impl Fn(usize) -> &'r [f32],
        tile: usize,
        out: &mut Vec<f32>,
    ) {
        let (top, left) = self.origin(tile);
        let columns: Vec<usize> = (left..left + self.tile)
            .map(|x| 3 * self.columns.source(x))
            .collect();
        for channel in 0..3 {
            for y in top..top + self.tile {
                let row = row(self.rows.source(y));
                out.extend(columns.iter().map(|&x| row[x + channel]));
            }
        }
    }

    /// Whether one tile covers all, so that nothing is blended.
    pub(crate) fn is_single(&self) -> bool {
        self.rows.padded() == self.tile && self.columns.padded() == self.tile
    }

    /// Whether tiles overlap by half, as the method was published.
    pub(crate) fn is_official(&self) -> bool {
        2 * self.overlap == self.tile
    }

    /// Side of an enlarged tile.
    pub(crate) fn enlarged_tile(&self) -> usize {
        SCALE * self.tile
    }
}

/// The overlap asked for. Half a tile is always good; another must keep the latents of neighbours
/// on one grid.
fn overlap(options: &Options, cells: Cells) -> Result<usize, UpscaleError> {
    let tile_px = options.tile_px;
    let overlap_px = options.overlap();
    let multiple = u32::try_from(cells.latent_px).unwrap_or(u32::MAX);
    let fits = (1..tile_px).contains(&overlap_px)
        && (2 * overlap_px == tile_px || overlap_px.is_multiple_of(multiple));
    if !fits {
        return Err(UpscaleError::Overlap {
            overlap_px,
            tile_px,
            multiple,
        });
    }
    Ok(overlap_px as usize)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn origins(axis: &Axis) -> Vec<usize> {
        (0..axis.tiles()).map(|tile| axis.origin(tile)).collect()
    }

    fn sources(axis: &Axis) -> Vec<usize> {
        (0..axis.padded()).map(|at| axis.source(at)).collect()
    }

    #[test]
    fn origins_keep_the_nearly_redundant_last_tile() {
        let origins = |length| origins(&Axis::new(length, 128, 64, 1));
        assert_eq!(origins(128), [0]);
        assert_eq!(origins(200), [0, 64, 72]);
        assert_eq!(origins(256), [0, 64, 128]);
        assert_eq!(origins(257), [0, 64, 128, 129]);
    }

    #[test]
    fn a_smaller_overlap_needs_fewer_tiles() {
        let axis = Axis::new(3000, 128, 32, 16);
        assert_eq!(
            (axis.tiles(), axis.origin(1), axis.origin(30)),
            (31, 96, 2880)
        );
    }

    #[test]
    fn a_short_side_is_reflected_as_often_as_it_takes() {
        let axis = Axis::new(3, 16, 8, 16);
        assert_eq!(axis.before, 2 + 4);
        assert_eq!(
            sources(&axis),
            [2, 1, 0, 1, 2, 1, 0, 1, 2, 1, 0, 1, 2, 1, 0, 1]
        );
    }

    #[test]
    fn a_single_pixel_is_repeated() {
        let axis = Axis::new(1, 16, 8, 16);
        assert_eq!((axis.before, sources(&axis)), (7, vec![0; 16]));
    }

    #[test]
    fn a_long_side_is_padded_at_its_end() {
        let axis = Axis::new(37, 32, 16, 16);
        assert_eq!((axis.before, axis.padded()), (0, 48));
        assert_eq!(
            sources(&axis)[37..],
            [35, 34, 33, 32, 31, 30, 29, 28, 27, 26, 25]
        );
        assert_eq!(origins(&axis), [0, 16]);
    }

    #[test]
    fn a_tile_is_cut_into_planes() {
        let data: Vec<f32> = (0u8..2 * 2 * 3).map(f32::from).collect();
        let mut planes = Vec::new();
        let axis = Axis::new(2, 2, 1, 2);
        let tiling = Tiling {
            rows: axis.clone(),
            columns: axis,
            tile: 2,
            overlap: 1,
        };
        tiling.cut(|y| &data[6 * y..6 * y + 6], 0, &mut planes);
        assert_eq!(planes, [0., 3., 6., 9., 1., 4., 7., 10., 2., 5., 8., 11.]);
    }

    /// A length, a tile, an overlap of less than a tile, and a multiple.
    fn axes() -> impl Strategy<Value = Axis> {
        let multiple = prop::sample::select(vec![4usize, 8, 16]);
        (
            1usize..900,
            1usize..9,
            multiple,
            any::<prop::sample::Index>(),
        )
            .prop_map(|(length, n, multiple, share)| {
                let tile = 2 * multiple * n;
                Axis::new(length, tile, 1 + share.index(tile - 1), multiple)
            })
    }

    proptest! {
        #[test]
        fn tiles_cover_every_pixel_and_never_leave_the_image(axis in axes()) {
            prop_assert!(axis.padded() >= axis.tile);
            prop_assert!(axis.before + axis.length <= axis.padded());
            let own = &sources(&axis)[axis.before..axis.before + axis.length];
            prop_assert_eq!(own, (0..axis.length).collect::<Vec<_>>());
            let origins = origins(&axis);
            prop_assert_eq!(origins[0], 0);
            prop_assert_eq!(origins[origins.len() - 1] + axis.tile, axis.padded());
            prop_assert!(origins.windows(2).all(|o| o[0] < o[1] && o[1] - o[0] <= axis.stride));
        }

        #[test]
        fn the_tiles_over_a_pixel_are_those_that_reach_it(axis in axes()) {
            let origins = origins(&axis);
            for at in 0..axis.padded() {
                let reach = |&tile: &usize| (origins[tile]..origins[tile] + axis.tile).contains(&at);
                let wanted: Vec<usize> = (0..axis.tiles()).filter(reach).collect();
                prop_assert_eq!(axis.first_tile_over(at), wanted[0]);
                prop_assert_eq!(axis.tiles_over(at).collect::<Vec<_>>(), wanted);
            }
        }

        #[test]
        fn nothing_before_a_tiles_need_is_read_later(axis in axes()) {
            for tile in 0..axis.tiles() {
                let needed = axis.needed(tile);
                let top = axis.origin(tile);
                let own = (top..top + axis.tile).map(|at| axis.source(at));
                prop_assert!(own.clone().all(|at| needed.contains(&at)));
                let later = (top..axis.padded()).map(|at| axis.source(at)).min();
                prop_assert_eq!(Some(needed.start), later);
            }
        }

        #[test]
        fn neighbours_in_the_padding_are_neighbours_in_the_image(length in 2usize..300, halves in 1usize..9) {
            let axis = Axis::new(length, 16 * halves, 8 * halves, 16);
            prop_assert!(sources(&axis).windows(2).all(|pair| pair[0].abs_diff(pair[1]) == 1));
        }
    }
}
