//! Price: what a job will cost, in tile-steps, known before it is released.
//!
//! The size of an image stands near its beginning, so that the first bytes, which a submission reads
//! anyway to see that there is something, nearly always say it; a TIFF says in them where it does.
//! What cannot be understood within a few short reads is estimated from the file's length. Whether the
//! file is any good is not judged here: that is the worker's, which decodes it, and it refuses what is no
//! image before it costs anything.

mod header;

use std::time::Duration;

use upres_common::job::{UpscaleSpec, tile_steps};
use upres_common::objects::{ObjectError, ObjectStore, ObjectUri, Piece};

use header::{Pages, Pieces, Unread};

/// Read of a file's beginning: past the preview and the profile that a camera puts there.
const FIRST_BYTES: u64 = 64 * 1024;
/// Reads of other places until there is a size, together as long as this at most.
const MORE_READS: usize = 3;
/// And of the pages behind the first; those of books lie all over the file.
const MORE_PAGES: usize = 13;
const MORE_TIME: Duration = Duration::from_secs(5);
/// What workers accept unless told otherwise. A header may claim any size; what is claimed beyond this is most
/// likely refused, and must not make a batch look like years of work.
const MOST_PIXELS: u64 = 250_000_000;
/// Pixels for every byte of a file whose header says nothing: fewer in a TIFF, more in a JPEG.
const PIXELS_PER_BYTE: u64 = 1;

/// What the job costs; `None` when there is no input.
///
/// # Errors
/// [`ObjectError`] when the store does not say whether there is one.
pub async fn price(
    objects: &ObjectStore,
    input: &ObjectUri,
    upscale: &UpscaleSpec,
) -> Result<Option<u32>, ObjectError> {
    let Some(first) = objects.get_piece(input, 0, FIRST_BYTES).await? else {
        return Ok(None);
    };
    let object_bytes = first.object_bytes;
    let look = look_further(objects, input, first);
    let pages = tokio::time::timeout(MORE_TIME, look).await.ok().flatten();
    Ok(Some(match pages {
        Some(pages) => cost_of(&pages, object_bytes, upscale),
        None => {
            tracing::debug!(object.key = %input, object_bytes, "size of the image estimated from the file's length");
            estimated_cost(object_bytes, upscale)
        }
    }))
}

/// The cost of the pages that are wanted. Where not all were found, those that were stand for their part
/// of the file.
fn cost_of(pages: &Pages, object_bytes: u64, upscale: &UpscaleSpec) -> u32 {
    let known = pages.sizes.iter().zip(0..);
    let wanted = known.filter(|(_, page)| upscale.pages.contains(*page));
    let cost = wanted.fold(0_u64, |sum, (size, _)| {
        let (width, height) = at_most(MOST_PIXELS, *size);
        sum + u64::from(tile_steps(width, height, upscale))
    });
    let all = match pages.missing {
        Some(from) if upscale.pages.is_all() => {
            let read = u128::from(from.clamp(1, object_bytes.max(1)));
            let all = u128::from(cost) * u128::from(object_bytes.max(1)) / read;
            u64::try_from(all).unwrap_or(u64::MAX)
        }
        _ => cost,
    };
    // Even what comes to nothing is looked at.
    u32::try_from(all).unwrap_or(u32::MAX).max(1)
}

/// The size itself, or a square of `pixels`.
fn at_most(pixels: u64, (width, height): (u32, u32)) -> (u32, u32) {
    if u64::from(width) * u64::from(height) <= pixels {
        return (width, height);
    }
    let side = u32::try_from(pixels.isqrt()).unwrap_or(u32::MAX);
    (side, side)
}

/// What the job costs by the length of its file, until somebody has read the header.
#[must_use]
pub fn estimated_cost(object_bytes: u64, upscale: &UpscaleSpec) -> u32 {
    let (width, height) = estimate(object_bytes);
    tile_steps(width, height, upscale)
}

/// The pages, if a few reads beyond the first tell of one at least.
async fn look_further(objects: &ObjectStore, input: &ObjectUri, first: Piece) -> Option<Pages> {
    let object_bytes = first.object_bytes;
    let mut pieces = Pieces::new(first);
    let mut reads = 0;
    loop {
        let found = header::pages(&pieces);
        let (from, most) = match &found {
            Ok(Pages { missing, .. }) => (*missing, MORE_READS + MORE_PAGES),
            Err(Unread::Missing(from)) => (Some(*from), MORE_READS),
            Err(Unread::Unknown) => (None, 0),
        };
        let Some(from) = from.filter(|from| *from < object_bytes && reads < most) else {
            return found.ok();
        };
        let more = objects.get_piece(input, from, FIRST_BYTES).await;
        match more {
            Ok(Some(more)) => pieces.add(more),
            _ => return found.ok(),
        }
        reads += 1;
    }
}

/// A square of as many pixels as a file of this length may have.
fn estimate(object_bytes: u64) -> (u32, u32) {
    let pixels = object_bytes.saturating_mul(PIXELS_PER_BYTE);
    let side = u32::try_from(pixels.isqrt()).unwrap_or(u32::MAX);
    (side, side)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_that_is_wanted_costs() {
        let pages = |missing| Pages {
            sizes: vec![(128, 128), (224, 128), (128, 128)],
            missing,
        };
        let cost = |text: &str, missing| {
            let upscale = UpscaleSpec {
                pages: text.parse().unwrap(),
                ..UpscaleSpec::default()
            };
            cost_of(&pages(missing), 9_000, &upscale)
        };
        assert_eq!(cost("all", None), 4);
        assert_eq!(cost("2-3", None), 3);
        assert_eq!(cost("9", None), 1);
        // A third of the file has four tiles.
        assert_eq!(cost("all", Some(3_000)), 12);
        assert_eq!(cost("1,2", Some(3_000)), 3);
    }
}
