//! Takes luma from the image and chroma from the reference, both clamped, in the studio swing of
//! BT.601. Each pixel is fixed alone.

use rayon::prelude::*;

/// Fixes rows in place.
///
/// - `rows`, `reference`: as many rows of `stride` values, interleaved RGB.
pub(super) fn fix(rows: &mut [f32], reference: &[f32], stride: usize) {
    let pairs = rows
        .par_chunks_mut(stride)
        .zip(reference.par_chunks(stride));
    pairs.for_each(|(row, reference)| {
        let pixels = row.as_chunks_mut().0.iter_mut();
        for (rgb, pixel) in pixels.zip(reference.as_chunks().0) {
            let [luma, _, _] = to_ycbcr(*rgb);
            let [_, blue, red] = to_ycbcr(*pixel);
            *rgb = to_rgb([luma, blue, red]);
        }
    });
}

/// RGB in `[0, 1]` to Y, Cb, Cr, 0 to 255 where 1 would be white, clamped.
fn to_ycbcr([r, g, b]: [f32; 3]) -> [f32; 3] {
    [
        65.481 * r + 128.553 * g + 24.966 * b + 16.0,
        -37.797 * r - 74.203 * g + 112.0 * b + 128.0,
        112.0 * r - 93.786 * g - 18.214 * b + 128.0,
    ]
    .map(|value| value.clamp(0.0, 255.0))
}

/// Back to RGB in `[0, 1]`, clamped. The coefficients are the rounded ones of the reference.
fn to_rgb([y, cb, cr]: [f32; 3]) -> [f32; 3] {
    let luma = 0.004_566_21 * 255.0 * y;
    [
        luma + 0.006_258_93 * 255.0 * cr - 222.921,
        luma - 0.001_536_32 * 255.0 * cb - 0.003_188_11 * 255.0 * cr + 135.576,
        luma + 0.007_910_71 * 255.0 * cb - 276.836,
    ]
    .map(|value| (value / 255.0).clamp(0.0, 1.0))
}
