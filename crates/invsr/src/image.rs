//! Pixels as the engine takes and gives them.

/// An RGB image in memory: interleaved rows from the top, values in `[0, 1]`.
#[derive(Debug, Clone, PartialEq)]
pub struct RgbImage {
    /// Pixels a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// `height * width * 3` values: R, G, B of the first pixel, then of its right neighbour.
    pub data: Vec<f32>,
}

impl RgbImage {
    /// Wraps pixels.
    ///
    /// # Errors
    /// [`ImageSizeError`] unless both sides are positive and `data` holds exactly
    /// `height * width * 3` values.
    pub fn new(width: u32, height: u32, data: Vec<f32>) -> Result<Self, ImageSizeError> {
        let expected = [width as usize, height as usize, 3]
            .into_iter()
            .try_fold(1usize, usize::checked_mul)
            .filter(|&values| values > 0);
        if expected == Some(data.len()) {
            Ok(Self {
                width,
                height,
                data,
            })
        } else {
            Err(ImageSizeError {
                width,
                height,
                values: data.len(),
            })
        }
    }

    /// The three values of row `y`, from the left.
    pub(crate) fn row(&self, y: usize) -> &[f32] {
        let stride = self.width as usize * 3;
        &self.data[y * stride..(y + 1) * stride]
    }
}

/// Sides and data that do not belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an RGB image of {width}x{height} px cannot have {values} values")]
pub struct ImageSizeError {
    width: u32,
    height: u32,
    values: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_must_match_the_sides() {
        assert!(RgbImage::new(2, 3, vec![0.0; 18]).is_ok());
        for (width, height, values) in [(2, 3, 17), (0, 3, 0), (u32::MAX, u32::MAX, 3)] {
            assert!(RgbImage::new(width, height, vec![0.0; values]).is_err());
        }
    }
}
