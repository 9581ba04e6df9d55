//! The wavelet fix of an image in memory, channel by channel, written for clarity: what the bands
//! must give bit for bit.

use super::wavelet::LEVELS;
use crate::image::RgbImage;
use crate::resample::Reference;

/// Fixes `image`, four times as large each way as `input`.
pub(super) fn wavelet(image: &mut RgbImage, input: &RgbImage) {
    let (width, stride) = (image.width as usize, 3 * image.width as usize);
    let reference = Reference::new(input.width as usize, input.height as usize);
    let mut row = vec![0.0; stride];
    let mut planes = vec![Vec::new(); 3];
    for (y, line) in image.data.chunks_exact(stride).enumerate() {
        reference.row(y, |y| input.row(y), &mut row);
        for (i, (wanted, value)) in row.iter().zip(line).enumerate() {
            planes[i % 3].push(wanted - value);
        }
    }
    for (channel, plane) in planes.iter_mut().enumerate() {
        for level in 0..LEVELS {
            *plane = blurred(plane, width, 1 << level);
        }
        let values = image.data.iter_mut().skip(channel).step_by(3);
        for (value, low) in values.zip(plane) {
            *value = (*value + *low).clamp(0.0, 1.0);
        }
    }
}

/// `[1 2 1] / 4` each way, the taps `reach` pixels apart, borders repeated.
fn blurred(plane: &[f32], width: usize, reach: usize) -> Vec<f32> {
    let (right, bottom) = (width - 1, plane.len() / width - 1);
    let sideways = |y: usize, x: usize| {
        let row = &plane[y * width..(y + 1) * width];
        0.25 * (row[x.saturating_sub(reach)] + row[(x + reach).min(right)]) + 0.5 * row[x]
    };
    let value = |i: usize| {
        let (y, x) = (i / width, i % width);
        let (above, below) = (y.saturating_sub(reach), (y + reach).min(bottom));
        0.25 * (sideways(above, x) + sideways(below, x)) + 0.5 * sideways(y, x)
    };
    (0..plane.len()).map(value).collect()
}
