//! Where tiles lie: padding, origins, and the way back to the image's own pixels.
//!
//! All of it is separable, so one [`Axis`] describes rows and another columns. A padded image is
//! never built: an axis maps each padded coordinate to the pixel that stands there.

use crate::config::SCALE;
use crate::image::RgbImage;

/// Tiling along one side of the image, in low-resolution pixels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Axis {
    /// For each padded coordinate, the image's own.
    source: Vec<usize>,
    /// Padded pixels before the image's first.
    pub before: usize,
    /// The image's own length.
    pub length: usize,
    /// Where tiles begin, ascending, in padded coordinates.
    pub origins: Vec<usize>,
}

impl Axis {
    /// Pads `length` pixels to at least one tile, then to a multiple of `multiple`, and lays tiles
    /// half a tile apart. The last one is pulled back inside.
    ///
    /// Below one tile the padding is a reflection that does not repeat the border pixel, and is
    /// repeated, since one reflection can add at most `length - 1` pixels a side. A single pixel
    /// has nothing to reflect and is repeated instead.
    pub(crate) fn new(length: usize, tile: usize, multiple: usize) -> Self {
        let mut source: Vec<usize> = (0..length).collect();
        let mut before = 0;
        if length == 1 {
            before = (tile - 1) / 2;
            source = vec![0; tile];
        }
        while source.len() < tile {
            let n = source.len();
            let ahead = ((tile - n) / 2).min(n - 1);
            let behind = (tile - n - ahead).min(n - 1);
            source = reflect(&source, ahead, behind);
            before += ahead;
        }
        let missing = source.len().next_multiple_of(multiple) - source.len();
        source = reflect(&source, 0, missing);
        let origins = origins(source.len(), tile);
        Self {
            source,
            before,
            length,
            origins,
        }
    }

    /// Padded length.
    pub(crate) fn padded(&self) -> usize {
        self.source.len()
    }
}

fn reflect(source: &[usize], ahead: usize, behind: usize) -> Vec<usize> {
    let head = source[1..=ahead].iter().rev();
    let tail = source.iter().rev().skip(1).take(behind);
    head.chain(source).chain(tail).copied().collect()
}

/// Every half tile from 0, pulled back where the tile would stick out, each place once. The last
/// tile may lie almost on its neighbour.
fn origins(length: usize, tile: usize) -> Vec<usize> {
    let mut origins: Vec<usize> = (0..length)
        .step_by(tile / 2)
        .map(|origin| origin.min(length - tile))
        .collect();
    origins.dedup();
    origins
}

/// The tiles of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tiling {
    pub rows: Axis,
    pub columns: Axis,
    /// Side of a tile, in low-resolution pixels.
    pub tile: usize,
}

impl Tiling {
    /// - `tile`: a positive multiple of `multiple`, and even.
    pub(crate) fn new(width: u32, height: u32, tile: usize, multiple: usize) -> Self {
        let axis = |length: u32| Axis::new(length as usize, tile, multiple);
        Self {
            rows: axis(height),
            columns: axis(width),
            tile,
        }
    }

    /// Number of tiles.
    pub(crate) fn len(&self) -> usize {
        self.rows.origins.len() * self.columns.origins.len()
    }

    /// Top and left of a tile, in padded pixels; tiles count in raster order.
    pub(crate) fn origin(&self, tile: usize) -> (usize, usize) {
        let per_row = self.columns.origins.len();
        (
            self.rows.origins[tile / per_row],
            self.columns.origins[tile % per_row],
        )
    }

    /// Appends the pixels of a tile, planes of `[3, p, p]`, values as in the image.
    pub(crate) fn cut(&self, image: &RgbImage, tile: usize, out: &mut Vec<f32>) {
        let (top, left) = self.origin(tile);
        for channel in 0..3 {
            for &y in &self.rows.source[top..top + self.tile] {
                let row = image.row(y);
                let columns = &self.columns.source[left..left + self.tile];
                out.extend(columns.iter().map(|&x| row[3 * x + channel]));
            }
        }
    }

    /// Whether one tile covers all, so that nothing is blended.
    pub(crate) fn is_single(&self) -> bool {
        self.rows.padded() == self.tile && self.columns.padded() == self.tile
    }

    /// Side of an enlarged tile.
    pub(crate) fn enlarged_tile(&self) -> usize {
        SCALE * self.tile
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn origins_keep_the_nearly_redundant_last_tile() {
        assert_eq!(origins(128, 128), [0]);
        assert_eq!(origins(200, 128), [0, 64, 72]);
        assert_eq!(origins(256, 128), [0, 64, 128]);
        assert_eq!(origins(257, 128), [0, 64, 128, 129]);
    }

    #[test]
    fn a_short_side_is_reflected_as_often_as_it_takes() {
        let axis = Axis::new(3, 16, 16);
        assert_eq!(axis.before, 2 + 4);
        assert_eq!(
            axis.source,
            [2, 1, 0, 1, 2, 1, 0, 1, 2, 1, 0, 1, 2, 1, 0, 1]
        );
    }

    #[test]
    fn a_single_pixel_is_repeated() {
        let axis = Axis::new(1, 16, 16);
        assert_eq!((axis.before, axis.source), (7, vec![0; 16]));
    }

    #[test]
    fn a_long_side_is_padded_at_its_end() {
        let axis = Axis::new(37, 32, 16);
        assert_eq!((axis.before, axis.padded()), (0, 48));
        assert_eq!(
            axis.source[37..],
            [35, 34, 33, 32, 31, 30, 29, 28, 27, 26, 25]
        );
        assert_eq!(axis.origins, [0, 16]);
    }

    #[test]
    fn a_tile_is_cut_into_planes() {
        let data: Vec<f32> = (0u8..2 * 2 * 3).map(f32::from).collect();
        let image = RgbImage::new(2, 2, data).unwrap();
        let mut planes = Vec::new();
        Tiling::new(2, 2, 2, 2).cut(&image, 0, &mut planes);
        assert_eq!(planes, [0., 3., 6., 9., 1., 4., 7., 10., 2., 5., 8., 11.]);
    }

    proptest! {
        #[test]
        fn tiles_cover_every_pixel_and_never_leave_the_image(
            length in 1usize..900, halves in 1usize..9, multiple in prop::sample::select(vec![4, 8, 16]),
        ) {
            let tile = 2 * multiple * halves;
            let axis = Axis::new(length, tile, multiple);
            prop_assert!(axis.padded() >= tile && axis.padded().is_multiple_of(multiple));
            prop_assert!(axis.before + length <= axis.padded());
            prop_assert_eq!(&axis.source[axis.before..axis.before + length], (0..length).collect::<Vec<_>>());
            prop_assert_eq!(axis.origins[0], 0);
            prop_assert_eq!(axis.origins[axis.origins.len() - 1] + tile, axis.padded());
            prop_assert!(axis.origins.windows(2).all(|o| o[0] < o[1] && o[1] - o[0] <= tile / 2));
        }

        #[test]
        fn neighbours_in_the_padding_are_neighbours_in_the_image(length in 2usize..300, halves in 1usize..9) {
            let axis = Axis::new(length, 16 * halves, 16);
            prop_assert!(axis.source.windows(2).all(|pair| pair[0].abs_diff(pair[1]) == 1));
        }
    }
}
