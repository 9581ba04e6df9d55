//! Differences between neighbours: the row filters of PNG and the horizontal predictor of TIFF.

/// The filter types of PNG, as they stand in front of a row.
const NONE: u8 = 0;
const SUB: u8 = 1;
const UP: u8 = 2;
const AVERAGE: u8 = 3;
const PAETH: u8 = 4;

/// Filters a band of PNG rows, each with the filter whose differences are smallest in sum. The first
/// row is not compared with the row above it, which another process may have written.
///
/// - `samples`: whole rows of `row_bytes` bytes, `channels` bytes a pixel, of 16 bits twice as many.
/// - returns the rows, each behind its filter type.
pub(super) fn png_rows(samples: &[u8], row_bytes: usize, channels: usize) -> Vec<u8> {
    let rows = samples.len() / row_bytes;
    let mut filtered = Vec::with_capacity(rows * (row_bytes + 1));
    let mut best = vec![0; row_bytes];
    let mut other = vec![0; row_bytes];
    let mut above = None;
    for row in samples.chunks_exact(row_bytes) {
        let mut kind = NONE;
        let mut least = sum_of_differences(row);
        best.copy_from_slice(row);
        let mut compare = |candidate: u8, filter: &mut dyn FnMut(&mut [u8])| {
            filter(&mut other);
            let sum = sum_of_differences(&other);
            if sum < least {
                (kind, least) = (candidate, sum);
                std::mem::swap(&mut best, &mut other);
            }
        };
        compare(SUB, &mut |out| sub(row, channels, out));
        if let Some(above) = above {
            compare(UP, &mut |out| up(row, above, out));
            compare(AVERAGE, &mut |out| average(row, above, channels, out));
            compare(PAETH, &mut |out| paeth(row, above, channels, out));
        }
        filtered.push(kind);
        filtered.extend_from_slice(&best);
        above = Some(row);
    }
    filtered
}

/// Replaces every sample by its difference from the one `channels` samples to its left.
pub(super) fn tiff_rows(samples: &[u8], row_bytes: usize, channels: usize) -> Vec<u8> {
    let mut differences = vec![0; samples.len()];
    let rows = samples.chunks_exact(row_bytes);
    for (row, out) in rows.zip(differences.chunks_exact_mut(row_bytes)) {
        sub(row, channels, out);
    }
    differences
}

/// [`tiff_rows`] for samples of 16 bits in the machine's order; the differences are little-endian.
pub(super) fn tiff_deep_rows(samples: &[u8], row_bytes: usize, channels: usize) -> Vec<u8> {
    let mut differences = Vec::with_capacity(samples.len());
    for row in samples.chunks_exact(row_bytes) {
        let row = row.as_chunks::<2>().0;
        for (index, sample) in row.iter().enumerate() {
            let left = index.checked_sub(channels).map_or([0; 2], |left| row[left]);
            let difference = u16::from_ne_bytes(*sample).wrapping_sub(u16::from_ne_bytes(left));
            differences.extend(difference.to_le_bytes());
        }
    }
    differences
}

fn sub(row: &[u8], channels: usize, out: &mut [u8]) {
    out[..channels].copy_from_slice(&row[..channels]);
    let pairs = row[channels..].iter().zip(row);
    for (out, (sample, left)) in out[channels..].iter_mut().zip(pairs) {
        *out = sample.wrapping_sub(*left);
    }
}

fn up(row: &[u8], above: &[u8], out: &mut [u8]) {
    for (out, (sample, above)) in out.iter_mut().zip(row.iter().zip(above)) {
        *out = sample.wrapping_sub(*above);
    }
}

fn average(row: &[u8], above: &[u8], channels: usize, out: &mut [u8]) {
    for index in 0..channels {
        out[index] = row[index].wrapping_sub(above[index] / 2);
    }
    let near = row.iter().zip(&above[channels..]);
    for (out, (sample, (left, above))) in out[channels..]
        .iter_mut()
        .zip(row[channels..].iter().zip(near))
    {
        // Half the sum of both, without a ninth bit.
        *out = sample.wrapping_sub((left & above) + ((left ^ above) >> 1));
    }
}

fn paeth(row: &[u8], above: &[u8], channels: usize, out: &mut [u8]) {
    up(&row[..channels], &above[..channels], &mut out[..channels]);
    let near = row.iter().zip(&above[channels..]).zip(above);
    for (out, (sample, ((left, above), corner))) in out[channels..]
        .iter_mut()
        .zip(row[channels..].iter().zip(near))
    {
        *out = sample.wrapping_sub(predicted(*left, *above, *corner));
    }
}

/// Of the three neighbours, the one nearest to `left + above - corner`; the first of equals.
fn predicted(left: u8, above: u8, corner: u8) -> u8 {
    let [a, b, c] = [left, above, corner].map(i16::from);
    let (from_a, from_b, from_c) = ((b - c).abs(), (a - c).abs(), (a + b - 2 * c).abs());
    let of_others = if from_b <= from_c { above } else { corner };
    if from_a <= from_b && from_a <= from_c {
        left
    } else {
        of_others
    }
}

/// The sum of the samples' sizes, read as differences from -128 to 127.
fn sum_of_differences(row: &[u8]) -> u64 {
    let size = |sample: &u8| u32::from(sample.cast_signed().unsigned_abs());
    // Short sums stay in narrow lanes.
    row.chunks(4096)
        .map(|piece| u64::from(piece.iter().map(size).sum::<u32>()))
        .sum()
}
