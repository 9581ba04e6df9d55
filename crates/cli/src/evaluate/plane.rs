//! One channel of a picture, for the metrics.

use imaging::Pixels;

/// Rows of values, from the top.
#[derive(Debug, Clone, PartialEq)]
pub struct Plane {
    pub width: usize,
    pub height: usize,
    pub values: Vec<f64>,
}

impl Plane {
    /// BT.601 luma, 16 to 235.
    pub fn luma(pixels: &Pixels) -> Self {
        let luma = |&[red, green, blue]: &[u8; 3]| {
            let of_255 = |weight: f64, sample: u8| weight * f64::from(sample) / 255.0;
            16.0 + of_255(65.481, red) + of_255(128.553, green) + of_255(24.966, blue)
        };
        Self {
            width: pixels.width as usize,
            height: pixels.height as usize,
            values: pixels.rgb.as_chunks::<3>().0.iter().map(luma).collect(),
        }
    }

    pub fn at(&self, x: usize, y: usize) -> f64 {
        self.values[y * self.width + x]
    }

    pub fn times(&self, other: &Self) -> Self {
        let products = self.values.iter().zip(&other.values).map(|(a, b)| a * b);
        Self {
            values: products.collect(),
            ..*self
        }
    }

    /// The top left part.
    pub fn cut(&self, width: usize, height: usize) -> Self {
        let rows = self.values.chunks_exact(self.width).take(height);
        Self {
            width,
            height,
            values: rows.flat_map(|row| &row[..width]).copied().collect(),
        }
    }

    /// Repeats the border `by` times on every side.
    pub fn padded(&self, by: usize) -> Self {
        let (width, height) = (self.width + 2 * by, self.height + 2 * by);
        let inside = |at: usize, length: usize| at.saturating_sub(by).min(length - 1);
        let value = |i: usize| {
            self.at(
                inside(i % width, self.width),
                inside(i / width, self.height),
            )
        };
        Self {
            width,
            height,
            values: (0..width * height).map(value).collect(),
        }
    }

    /// The weighted means of all whole windows, the same `weights` across and down.
    pub fn filter(&self, weights: &[f64]) -> Self {
        let (width, height) = (
            self.width + 1 - weights.len(),
            self.height + 1 - weights.len(),
        );
        let mut across = Vec::with_capacity(width * self.height);
        for row in self.values.chunks_exact(self.width) {
            let weighted = |window: &[f64]| window.iter().zip(weights).map(|(v, w)| v * w).sum();
            across.extend(row.windows(weights.len()).map::<f64, _>(weighted));
        }
        let mut values = vec![0.0; width * height];
        for (y, out) in values.chunks_exact_mut(width).enumerate() {
            let rows = across.chunks_exact(width).skip(y);
            for (row, weight) in rows.zip(weights) {
                for (out, value) in out.iter_mut().zip(row) {
                    *out += weight * value;
                }
            }
        }
        Self {
            width,
            height,
            values,
        }
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A picture with edges, slopes and grain, from whole numbers only.
    pub fn pattern(width: u32, height: u32, seed: u32) -> Pixels {
        let mut rgb = Vec::new();
        for y in 0..height {
            for x in 0..width {
                let mixed = x.wrapping_mul(73_856_093)
                    ^ y.wrapping_mul(19_349_663)
                    ^ seed.wrapping_mul(83_492_791);
                let grain = mixed.wrapping_mul(2_654_435_761) >> 27;
                let ground = (3 * x + 2 * y) % 160 + if (x / 7 + y / 5) % 2 == 0 { 40 } else { 0 };
                for channel in 0..3 {
                    let sample = (ground + grain + 8 * channel).min(255);
                    rgb.push(u8::try_from(sample).unwrap());
                }
            }
        }
        Pixels { width, height, rgb }
    }

    #[test]
    fn black_and_white_have_the_luma_of_video() {
        let plane = Plane::luma(&Pixels::gray(2, 1, &[0, 255]));
        assert!((plane.at(0, 0) - 16.0).abs() < 1e-9 && (plane.at(1, 0) - 235.0).abs() < 1e-9);
    }

    #[test]
    fn a_filter_sees_whole_windows_only() {
        let plane = Plane::luma(&pattern(9, 7, 0));
        let same = plane.padded(2).filter(&[0.0, 0.0, 1.0, 0.0, 0.0]);
        assert_eq!(same, plane);
        let filtered = plane.filter(&[0.5, 0.5]);
        assert_eq!((filtered.width, filtered.height), (8, 6));
        let mean = (plane.at(0, 0) + plane.at(1, 0) + plane.at(0, 1) + plane.at(1, 1)) / 4.0;
        assert!((filtered.at(0, 0) - mean).abs() < 1e-9);
        assert_eq!(plane.cut(3, 2).at(2, 1), plane.at(2, 1));
    }
}
