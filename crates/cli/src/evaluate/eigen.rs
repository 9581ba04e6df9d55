//! What a distance between distributions needs of linear algebra.

/// Eigenvalues smaller than this share of the largest count as zero.
const SMALLEST: f64 = 1e-15;
/// Jacobi converges quadratically: ten sweeps are enough for any matrix of this size.
const SWEEPS: usize = 30;

/// A symmetric matrix.
#[derive(Debug, Clone)]
pub struct Symmetric {
    size: usize,
    values: Vec<f64>,
}

impl Symmetric {
    pub fn zero(size: usize) -> Self {
        Self {
            size,
            values: vec![0.0; size * size],
        }
    }

    pub fn get(&self, i: usize, j: usize) -> f64 {
        self.values[i * self.size + j]
    }

    /// Sets both places.
    pub fn set(&mut self, i: usize, j: usize, value: f64) {
        self.values[i * self.size + j] = value;
        self.values[j * self.size + i] = value;
    }

    fn off_diagonal(&self) -> f64 {
        let pairs = (0..self.size).flat_map(|i| (0..i).map(move |j| (i, j)));
        pairs.map(|(i, j)| self.get(i, j).powi(2)).sum()
    }
}

/// `v^T M^+ v` with the pseudo-inverse of `matrix`, by Jacobi's rotations of both.
pub fn squared_length_under_inverse(mut matrix: Symmetric, vector: &[f64]) -> f64 {
    let mut vector = vector.to_vec();
    let whole: f64 = matrix.values.iter().map(|value| value * value).sum();
    for _ in 0..SWEEPS {
        if matrix.off_diagonal() <= 1e-32 * whole {
            break;
        }
        for i in 0..matrix.size {
            for j in 0..i {
                rotate(&mut matrix, &mut vector, i, j);
            }
        }
    }
    let values: Vec<f64> = (0..matrix.size).map(|i| matrix.get(i, i)).collect();
    let largest = values.iter().fold(0.0, |a: f64, b| a.max(b.abs()));
    let directions = values.iter().zip(&vector);
    directions
        .filter(|(value, _)| value.abs() > SMALLEST * largest)
        .map(|(value, part)| part * part / value)
        .sum()
}

/// Turns the axes `i` and `j` so that the matrix has a zero there.
fn rotate(matrix: &mut Symmetric, vector: &mut [f64], i: usize, j: usize) {
    let between = matrix.get(i, j);
    if between == 0.0 {
        return;
    }
    let theta = (matrix.get(j, j) - matrix.get(i, i)) / (2.0 * between);
    let sign = if theta < 0.0 { -1.0 } else { 1.0 };
    let tangent = sign / (theta.abs() + (theta * theta + 1.0).sqrt());
    let cosine = 1.0 / (tangent * tangent + 1.0).sqrt();
    let sine = tangent * cosine;
    let (own_i, own_j) = (matrix.get(i, i), matrix.get(j, j));
    for k in (0..matrix.size).filter(|&k| k != i && k != j) {
        let (a, b) = (matrix.get(i, k), matrix.get(j, k));
        matrix.set(i, k, cosine * a - sine * b);
        matrix.set(j, k, sine * a + cosine * b);
    }
    matrix.set(i, i, own_i - tangent * between);
    matrix.set(j, j, own_j + tangent * between);
    matrix.set(i, j, 0.0);
    let (a, b) = (vector[i], vector[j]);
    vector[i] = cosine * a - sine * b;
    vector[j] = sine * a + cosine * b;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(rows: &[&[f64]]) -> Symmetric {
        let mut matrix = Symmetric::zero(rows.len());
        for (i, row) in rows.iter().enumerate() {
            for (j, value) in row.iter().enumerate() {
                matrix.set(i, j, *value);
            }
        }
        matrix
    }

    #[test]
    fn the_inverse_is_that_of_the_matrix() {
        // [[4, 1], [1, 3]] has the inverse [[3, -1], [-1, 4]] / 11.
        let found = squared_length_under_inverse(matrix(&[&[4.0], &[1.0, 3.0]]), &[1.0, 2.0]);
        assert!((found - 15.0 / 11.0).abs() < 1e-12, "{found}");
        let three = matrix(&[&[2.0], &[0.5, 1.0], &[0.25, -0.5, 3.0]]);
        let found = squared_length_under_inverse(three, &[1.0, -1.0, 2.0]);
        assert!((found - 2.726_027_397_3).abs() < 1e-9, "{found}");
    }

    #[test]
    fn a_direction_without_extent_is_left_out() {
        let flat = matrix(&[&[1.0], &[1.0, 1.0]]);
        let found = squared_length_under_inverse(flat, &[1.0, 1.0]);
        assert!((found - 1.0).abs() < 1e-12, "{found}");
    }
}
