//! Three by three.

/// Rows of numbers.
pub(crate) type Matrix = [[f32; 3]; 3];

/// From linear light in the profile connection space (XYZ, D50) to linear sRGB: the inverse of
/// sRGB's colorants after Bradford adaptation.
pub(crate) const SRGB_FROM_PCS: Matrix = [
    [3.133_856, -1.616_866_7, -0.490_614_6],
    [-0.978_768_4, 1.916_141_5, 0.033_454],
    [0.071_945_3, -0.228_991_4, 1.405_242_7],
];

pub(crate) fn multiply(matrix: &Matrix, [x, y, z]: [f32; 3]) -> [f32; 3] {
    matrix.map(|[a, b, c]| a * x + b * y + c * z)
}

/// `left` after `right`.
pub(super) fn product(left: &Matrix, right: &Matrix) -> Matrix {
    left.map(|row| {
        [0, 1, 2].map(|column| (0..3).map(|inner| row[inner] * right[inner][column]).sum())
    })
}

/// `None` where it has none.
pub(super) fn inverse(matrix: &Matrix) -> Option<Matrix> {
    let m = matrix.map(|row| row.map(f64::from));
    let minor = |row: usize, column: usize| {
        let at = |r: usize, c: usize| m[(row + r) % 3][(column + c) % 3];
        at(1, 1) * at(2, 2) - at(1, 2) * at(2, 1)
    };
    let determinant: f64 = (0..3).map(|column| m[0][column] * minor(0, column)).sum();
    if !determinant.is_finite() || determinant.abs() < 1e-6 {
        return None;
    }
    let entry = |row: usize, column: usize| narrow(minor(column, row) / determinant);
    Some([0, 1, 2].map(|row| [0, 1, 2].map(|column| entry(row, column))))
}

#[expect(clippy::cast_possible_truncation, reason = "it acts on f32 samples")]
pub(super) fn narrow(value: f64) -> f32 {
    value as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matrix_times_its_inverse_changes_nothing() {
        let there = inverse(&SRGB_FROM_PCS).unwrap();
        let both = product(&SRGB_FROM_PCS, &there);
        for (row, values) in both.iter().enumerate() {
            for (column, value) in values.iter().enumerate() {
                let expected = f32::from(u8::from(row == column));
                assert!((value - expected).abs() < 1e-5, "{both:?}");
            }
        }
        // White is white.
        let white = multiply(&SRGB_FROM_PCS, [0.9642, 1.0, 0.8249]);
        assert!(
            white.iter().all(|value| (value - 1.0).abs() < 1e-3),
            "{white:?}"
        );
        assert!(inverse(&[[1.0, 2.0, 3.0]; 3]).is_none());
    }
}
