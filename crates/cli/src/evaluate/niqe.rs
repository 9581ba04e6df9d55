//! NIQE: how far a picture's local statistics are from those of undamaged photographs, without a
//! truth to compare with. Lower is better; what is undamaged has 2 to 5.
//!
//! Source: Mittal, Soundararajan, Bovik, "Making a Completely Blind Image Quality Analyzer" (2013).

use std::f64::consts::PI;
use std::sync::LazyLock;

use imaging::Pixels;
use invsr::RgbImage;

use super::eigen::{Symmetric, squared_length_under_inverse};
use super::metrics::gaussian;
use super::plane::Plane;
use super::resize::{SOFT, resize};

/// Features at both scales.
const FEATURES: usize = 36;
/// Side of a block at full size, in pixels.
const BLOCK: usize = 96;
/// Neighbours whose products with a pixel are looked at: right, below, and both diagonals.
const NEIGHBOURS: [(usize, isize); 4] = [(0, 1), (1, 0), (1, 1), (1, -1)];

/// The distance; `None` for a picture that holds fewer than two blocks of 96 px, or is too flat.
pub fn niqe(picture: &Pixels) -> Option<f64> {
    let plane = Plane::luma(picture);
    let (columns, rows) = (plane.width / BLOCK, plane.height / BLOCK);
    if columns * rows < 2 {
        return None;
    }
    let mut plane = plane.cut(columns * BLOCK, rows * BLOCK);
    plane
        .values
        .iter_mut()
        .for_each(|value| *value = value.round());
    let mut features = vec![Vec::with_capacity(FEATURES); columns * rows];
    for side in [BLOCK, BLOCK / 2] {
        let normalised = normalised(&plane);
        for (i, features) in features.iter_mut().enumerate() {
            let (left, top) = (i % columns * side, i / columns * side);
            features.extend(block_features(&normalised, left, top, side));
        }
        plane = halved(&plane);
    }
    features.retain(|features| features.iter().all(|value| value.is_finite()));
    if features.len() < 2 {
        return None;
    }
    let distance = distance(&features);
    distance.is_finite().then_some(distance)
}

/// From the photographs' distribution of features to that of a picture's blocks.
fn distance(features: &[Vec<f64>]) -> f64 {
    let count = features.len() as f64;
    let mean_of = |i: usize| features.iter().map(|block| block[i]).sum::<f64>() / count;
    let mean: Vec<f64> = (0..FEATURES).map(mean_of).collect();
    let (expected, mut spread) = (&PRISTINE.0, PRISTINE.1.clone());
    for i in 0..FEATURES {
        for j in 0..=i {
            let products = features
                .iter()
                .map(|block| (block[i] - mean[i]) * (block[j] - mean[j]));
            let covariance = products.sum::<f64>() / (count - 1.0);
            spread.set(i, j, (spread.get(i, j) + covariance) / 2.0);
        }
    }
    let difference: Vec<f64> = expected.iter().zip(&mean).map(|(a, b)| a - b).collect();
    squared_length_under_inverse(spread, &difference).sqrt()
}

/// Mean and covariance of the features of undamaged photographs.
static PRISTINE: LazyLock<(Vec<f64>, Symmetric)> = LazyLock::new(|| {
    let lines = include_str!("niqe_parameters.txt").lines();
    let mut rows = lines.filter(|line| !line.starts_with('#')).map(|line| {
        line.split(' ')
            .map(|number| number.parse().expect("the file holds numbers"))
            .collect::<Vec<f64>>()
    });
    let mean = rows.next().unwrap_or_default();
    let mut covariance = Symmetric::zero(FEATURES);
    for (i, row) in rows.enumerate() {
        for (j, value) in row.into_iter().enumerate() {
            covariance.set(i, j, value);
        }
    }
    (mean, covariance)
});

/// Each pixel less its surroundings' mean, over their deviation plus one.
fn normalised(plane: &Plane) -> Plane {
    let window = gaussian(7, 7.0 / 6.0);
    let padded = plane.padded(3);
    let mean = padded.filter(&window).values;
    let squares = padded.times(&padded).filter(&window).values;
    let value = |(i, value): (usize, &f64)| {
        let deviation = (squares[i] - mean[i] * mean[i]).abs().sqrt();
        (value - mean[i]) / (deviation + 1.0)
    };
    Plane {
        values: plane.values.iter().enumerate().map(value).collect(),
        ..*plane
    }
}

#[expect(clippy::cast_possible_truncation, reason = "luma has eight bits")]
fn halved(plane: &Plane) -> Plane {
    let grey = plane.values.iter().flat_map(|&value| [value as f32; 3]);
    let image = RgbImage {
        width: u32::try_from(plane.width).unwrap_or(u32::MAX),
        height: u32::try_from(plane.height).unwrap_or(u32::MAX),
        data: grey.collect(),
    };
    let (width, height) = (plane.width / 2, plane.height / 2);
    let small = resize(&image, width, height, SOFT);
    Plane {
        width,
        height,
        values: small
            .data
            .iter()
            .step_by(3)
            .copied()
            .map(f64::from)
            .collect(),
    }
}

/// The 18 features of the block at (`left`, `top`).
fn block_features(plane: &Plane, left: usize, top: usize, side: usize) -> Vec<f64> {
    let row = |y: usize| &plane.values[(top + y) * plane.width + left..][..side];
    let block: Vec<f64> = (0..side).flat_map(row).copied().collect();
    let own = Fit::of(&block);
    let mut features = vec![own.shape, (own.left + own.right) / 2.0];
    for (down, right) in NEIGHBOURS {
        // Around the corner of the block, as the reference does it.
        let at = |i: usize| {
            let y = (i / side + side - down) % side;
            let x = (i % side + side).saturating_add_signed(-right) % side;
            block[y * side + x]
        };
        let products = block.iter().enumerate().map(|(i, value)| value * at(i));
        let fit = Fit::of(&products.collect::<Vec<_>>());
        let mean = (fit.right - fit.left) * gamma(2.0 / fit.shape) / gamma(1.0 / fit.shape);
        features.extend([fit.shape, mean, fit.left, fit.right]);
    }
    features
}

/// An asymmetric generalised Gaussian.
struct Fit {
    /// 2 for a Gaussian, less for a sharper peak; 0.2 to 10.
    shape: f64,
    /// Width below zero.
    left: f64,
    /// Width above zero.
    right: f64,
}

/// Shapes that are tried, and what the ratio of moments is for each.
static SHAPES: LazyLock<Vec<(f64, f64)>> = LazyLock::new(|| {
    let ratio = |shape: f64| gamma(2.0 / shape).powi(2) / (gamma(1.0 / shape) * gamma(3.0 / shape));
    let shapes = (0..=9800).map(|i| 0.2 + 0.001 * f64::from(i));
    shapes.map(|shape| (shape, ratio(shape))).collect()
});

impl Fit {
    /// By matching moments. Not finite where the values are all zero or all of one sign.
    fn of(values: &[f64]) -> Self {
        let deviation = |wanted: fn(f64) -> bool| {
            let chosen = values.iter().filter(|value| wanted(**value));
            let (sum, count) =
                chosen.fold((0.0, 0.0), |(sum, count), v| (sum + v * v, count + 1.0));
            f64::sqrt(sum / count)
        };
        let (left, right) = (deviation(|v| v < 0.0), deviation(|v| v > 0.0));
        let skew = left / right;
        let count = values.len() as f64;
        let magnitude = values.iter().map(|v| v.abs()).sum::<f64>() / count;
        let square = values.iter().map(|v| v * v).sum::<f64>() / count;
        let ratio = magnitude * magnitude / square * (skew.powi(3) + 1.0) * (skew + 1.0)
            / (skew * skew + 1.0).powi(2);
        let shape = shape_with(ratio);
        let scale = (gamma(1.0 / shape) / gamma(3.0 / shape)).sqrt();
        Self {
            shape,
            left: left * scale,
            right: right * scale,
        }
    }
}

/// The shape whose ratio is nearest; ratios rise with the shape.
fn shape_with(ratio: f64) -> f64 {
    let after = SHAPES.partition_point(|(_, known)| *known < ratio);
    let near = &SHAPES[after.saturating_sub(1)..(after + 1).min(SHAPES.len())];
    near.iter()
        .min_by(|a, b| (a.1 - ratio).abs().total_cmp(&(b.1 - ratio).abs()))
        .map_or(f64::NAN, |(shape, _)| *shape)
}

/// The gamma function of a positive number, by Lanczos' approximation (g = 7, nine terms).
fn gamma(x: f64) -> f64 {
    const TERMS: [f64; 9] = [
        0.999_999_999_999_809_9,
        676.520_368_121_885_1,
        -1_259.139_216_722_402_8,
        771.323_428_777_653_1,
        -176.615_029_162_140_6,
        12.507_343_278_686_905,
        -0.138_571_095_265_720_12,
        9.984_369_578_019_572e-6,
        1.505_632_735_149_311_6e-7,
    ];
    if x < 0.5 {
        return PI / ((PI * x).sin() * gamma(1.0 - x));
    }
    let x = x - 1.0;
    let rest = TERMS.iter().enumerate().skip(1);
    let series = TERMS[0] + rest.map(|(i, term)| term / (x + i as f64)).sum::<f64>();
    let t = x + 7.5;
    (2.0 * PI).sqrt() * t.powf(x + 0.5) * (-t).exp() * series
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::plane::tests::pattern;

    #[test]
    fn gamma_has_its_known_values() {
        for (x, expected) in [
            (1.0, 1.0),
            (0.5, PI.sqrt()),
            (5.0, 24.0),
            (15.0, 87_178_291_200.0),
        ] {
            assert!((gamma(x) / expected - 1.0).abs() < 1e-12, "{x}");
        }
    }

    #[test]
    fn a_fit_finds_the_shape_of_a_sample() {
        // Quantiles of a Gaussian are not at hand; a triangle wave is uniform, whose shape is large.
        let uniform: Vec<f64> = (0..1000).map(|i| f64::from(i) / 500.0 - 0.999).collect();
        assert!(Fit::of(&uniform).shape > 8.0);
        // Laplacian quantiles: shape 1.
        let laplacian = (1..1000).map(|i| {
            let p = f64::from(i) / 1000.0 - 0.5001;
            -p.signum() * (1.0 - 2.0 * p.abs()).ln()
        });
        let fit = Fit::of(&laplacian.collect::<Vec<_>>());
        assert!((fit.shape - 1.0).abs() < 0.05, "{}", fit.shape);
        assert!((fit.left / fit.right - 1.0).abs() < 0.02);
    }

    #[test]
    fn known_values_of_patterns() {
        // Computed by an independent implementation in NumPy with the same parameters.
        for (width, height, seed, expected) in [(192, 192, 1, 31.5314), (300, 200, 2, 27.8296)] {
            let found = niqe(&pattern(width, height, seed)).unwrap();
            assert!((found - expected).abs() < 2e-3, "{found} {expected}");
        }
    }

    #[test]
    fn what_is_too_small_or_flat_has_no_value() {
        assert!(niqe(&pattern(191, 95, 1)).is_none());
        assert!(niqe(&Pixels::gray(256, 256, &[7; 65_536])).is_none());
    }
}
