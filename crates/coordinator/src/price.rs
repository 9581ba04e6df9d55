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

use header::{Pieces, Unread};

/// Read of a file's beginning: past the preview and the profile that a camera puts there.
const FIRST_BYTES: u64 = 64 * 1024;
/// Reads of other places, together as long as this at most.
const MORE_READS: usize = 3;
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
    let size = tokio::time::timeout(MORE_TIME, look).await.ok().flatten();
    let (width, height) = size.unwrap_or_else(|| {
        tracing::debug!(object.key = %input, object_bytes, "size of the image estimated from the file's length");
        estimate(object_bytes)
    });
    let (width, height) = at_most(MOST_PIXELS, (width, height));
    Ok(Some(tile_steps(width, height, upscale)))
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

/// The size, if a few reads beyond the first tell it.
async fn look_further(
    objects: &ObjectStore,
    input: &ObjectUri,
    first: Piece,
) -> Option<(u32, u32)> {
    let object_bytes = first.object_bytes;
    let mut pieces = Pieces::new(first);
    for _ in 0..MORE_READS {
        match header::size(&pieces) {
            Ok(size) => return Some(size),
            Err(Unread::Missing(from)) if from < object_bytes => {
                let more = objects.get_piece(input, from, FIRST_BYTES).await.ok()??;
                pieces.add(more);
            }
            Err(_) => return None,
        }
    }
    header::size(&pieces).ok()
}

/// A square of as many pixels as a file of this length may have.
fn estimate(object_bytes: u64) -> (u32, u32) {
    let pixels = object_bytes.saturating_mul(PIXELS_PER_BYTE);
    let side = u32::try_from(pixels.isqrt()).unwrap_or(u32::MAX);
    (side, side)
}
