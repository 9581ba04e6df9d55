//! Likeness to the truth, on luma as the field measures it: PSNR and SSIM.

use imaging::Pixels;

use super::plane::Plane;

/// What identical pictures get, in dB; their ratio is infinite.
const IDENTICAL_DB: f64 = 100.0;
/// Side of the SSIM window, in pixels.
pub const SSIM_WINDOW: usize = 11;

/// The peak signal-to-noise ratio of two pictures of one size, in dB; 100 where they agree.
pub fn psnr_y(a: &Pixels, b: &Pixels) -> f64 {
    let (a, b) = (Plane::luma(a), Plane::luma(b));
    let squares = a.values.iter().zip(&b.values).map(|(a, b)| (a - b).powi(2));
    let error = squares.sum::<f64>() / a.values.len() as f64;
    (10.0 * (255.0 * 255.0 / error).log10()).min(IDENTICAL_DB)
}

/// The structural similarity of two pictures of one size, at most 1: a Gaussian window of 11 px with
/// deviation 1.5, whole windows only. Both sides must hold one.
///
/// Source: Wang, Bovik, Sheikh, Simoncelli, "Image quality assessment" (2004).
pub fn ssim(a: &Pixels, b: &Pixels) -> f64 {
    let window = gaussian(SSIM_WINDOW, 1.5);
    let (a, b) = (Plane::luma(a), Plane::luma(b));
    let mean = |plane: &Plane| plane.filter(&window).values;
    let (mean_a, mean_b) = (mean(&a), mean(&b));
    let (aa, bb, ab) = (mean(&a.times(&a)), mean(&b.times(&b)), mean(&a.times(&b)));
    let (c1, c2) = ((0.01 * 255.0f64).powi(2), (0.03 * 255.0f64).powi(2));
    let mut sum = 0.0;
    for (i, (&x, &y)) in mean_a.iter().zip(&mean_b).enumerate() {
        let (variances, covariance) = (aa[i] - x * x + bb[i] - y * y, ab[i] - x * y);
        sum += (2.0 * x * y + c1) * (2.0 * covariance + c2)
            / ((x * x + y * y + c1) * (variances + c2));
    }
    sum / mean_a.len() as f64
}

/// A window of weights that sum to 1.
pub fn gaussian(length: usize, sigma: f64) -> Vec<f64> {
    let middle = (length - 1) as f64 / 2.0;
    let weight = |i| (-0.5 * ((i as f64 - middle) / sigma).powi(2)).exp();
    let weights: Vec<f64> = (0..length).map(weight).collect();
    let sum: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::plane::tests::pattern;

    #[test]
    fn equal_pictures_are_alike() {
        let picture = pattern(40, 32, 1);
        assert!((psnr_y(&picture, &picture) - 100.0).abs() < 1e-9);
        assert!((ssim(&picture, &picture) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn one_level_of_grey_is_what_it_is() {
        let grey = |level| Pixels::gray(16, 16, &[level; 256]);
        // One level of 8 bit grey is 219/255 of luma.
        let expected = 20.0 * (255.0f64 * 255.0 / 219.0).log10();
        assert!((psnr_y(&grey(10), &grey(11)) - expected).abs() < 1e-9);
    }

    #[test]
    fn known_values_of_a_pattern() {
        // Computed by an independent implementation in NumPy.
        let (a, b) = (pattern(40, 32, 1), pattern(40, 32, 2));
        assert!(
            (psnr_y(&a, &b) - 27.080_646).abs() < 1e-5,
            "{}",
            psnr_y(&a, &b)
        );
        assert!((ssim(&a, &b) - 0.822_396).abs() < 1e-5, "{}", ssim(&a, &b));
    }
}
