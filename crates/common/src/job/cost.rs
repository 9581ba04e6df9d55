//! What a job costs, before anybody works on it.
//!
//! The unit is the tile-step: one tile through one denoising step; with guidance a step is two, one
//! for each prompt. Tiles are counted as the engine lays them; a test beside the stories holds both
//! counts against each other.

use super::UpscaleSpec;

/// Sides are padded to a multiple of this, the latent grid's step times the networks' own halvings.
const PADDING_PX: u64 = 16;

/// Tile-steps of an image of `width` by `height` px; turning it by a quarter changes nothing. An image
/// without pixels costs what one tile costs, and what is beyond counting is counted as a very large
/// image.
#[must_use]
pub fn tile_steps(width: u32, height: u32, upscale: &UpscaleSpec) -> u32 {
    let (tile, overlap) = (upscale.tile, upscale.overlap_px());
    let tiles = |side: u32| tiles_along(side.into(), tile.into(), overlap.into());
    let steps = upscale.steps_a_tile() as u64;
    let tile_steps = tiles(width)
        .saturating_mul(tiles(height))
        .saturating_mul(steps);
    u32::try_from(tile_steps).unwrap_or(u32::MAX)
}

/// Tiles along a side: one, and one more for whatever each of the others adds to it, or part of that.
fn tiles_along(side_px: u64, tile_px: u64, overlap_px: u64) -> u64 {
    let padded = side_px.max(tile_px).next_multiple_of(PADDING_PX);
    let added = tile_px.saturating_sub(overlap_px).max(1);
    1 + (padded - tile_px).div_ceil(added)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::spec::{Guidance, Timesteps};

    #[test]
    fn tiles_share_32_px_or_half_of_a_small_one() {
        for (side, tiles) in [
            (0, 1),
            (1, 1),
            (128, 1),
            (129, 2),
            (224, 2),
            (225, 3),
            (256, 3),
        ] {
            assert_eq!(tiles_along(side, 128, 32), tiles, "{side} px");
        }
        // A half tile of 24 px: padding from 80 to 96 px reaches into one more.
        assert_eq!((tiles_along(72, 48, 24), tiles_along(73, 48, 24)), (3, 3));
        assert_eq!(tiles_along(96, 48, 24), 3);
    }

    #[test]
    fn every_step_costs() {
        let upscale = UpscaleSpec {
            timesteps: Timesteps::new(vec![250, 150, 50]).unwrap(),
            ..UpscaleSpec::default()
        };
        assert_eq!(tile_steps(256, 192, &upscale), 3 * 2 * 3);
        let guided = UpscaleSpec {
            guidance: Guidance::new(2.0).unwrap(),
            ..upscale.clone()
        };
        assert_eq!(tile_steps(256, 192, &guided), 2 * 3 * 2 * 3);
        let half = UpscaleSpec {
            overlap: Some(64),
            ..upscale.clone()
        };
        assert_eq!(tile_steps(256, 192, &half), 3 * 2 * 3);
        assert_eq!(tile_steps(320, 192, &half), 4 * 2 * 3);
        assert_eq!(tile_steps(320, 192, &upscale), 3 * 2 * 3);
        assert_eq!(tile_steps(u32::MAX, u32::MAX, &upscale), u32::MAX);
    }
}
