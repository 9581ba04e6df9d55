//! A band of TIFF as compressed chunks: one strip, or a row of tiles.

use std::borrow::Cow;

use super::{Shape, deflate, filter, lzw};
use crate::TiffCompression;

/// The chunks of a band, from left to right, each padded to an even length; and their sizes without
/// padding, in bytes.
pub(super) fn of_band(
    shape: &Shape,
    compression: TiffCompression,
    samples: &[u8],
) -> (Vec<u8>, Vec<u32>) {
    let (mut chunks, mut sizes) = (Vec::new(), Vec::new());
    for column in 0..shape.across() {
        let (chunk, row_bytes) = match shape.tile {
            None => (Cow::Borrowed(samples), shape.row_bytes()),
            Some(side) => tile(shape, samples, column, side),
        };
        let differences = if shape.is_deep() {
            filter::tiff_deep_rows(&chunk, row_bytes, shape.channels())
        } else {
            filter::tiff_rows(&chunk, row_bytes, shape.channels())
        };
        let packed = match compression {
            TiffCompression::Deflate => deflate::zlib_stream(&differences),
            TiffCompression::Lzw => lzw::stream(&differences),
        };
        sizes.push(u32::try_from(packed.len()).expect("a band is far below 4 GiB"));
        chunks.extend(packed);
        // Readers may want chunks and the directory at even offsets.
        chunks.resize(chunks.len().next_multiple_of(2), 0);
    }
    (chunks, sizes)
}

/// The samples of a tile of `side` by `side` pixels, and the bytes of a row of it. What lies outside the
/// picture is zero.
fn tile<'a>(shape: &Shape, samples: &[u8], column: u32, side: u32) -> (Cow<'a, [u8]>, usize) {
    let row_bytes = shape.layout.row_bytes(side);
    let from = shape.layout.row_bytes(column * side);
    let rows = usize::try_from(side).unwrap_or(usize::MAX);
    let mut tile = vec![0; rows * row_bytes];
    let stored = samples.chunks_exact(shape.row_bytes());
    for (out, row) in tile.chunks_exact_mut(row_bytes).zip(stored) {
        let there = &row[from..row.len().min(from + row_bytes)];
        out[..there.len()].copy_from_slice(there);
    }
    (Cow::Owned(tile), row_bytes)
}
