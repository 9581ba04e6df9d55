//! Matrix products on one core, into memory that is there already; for work that shares itself out
//! over the cores and knows a better grain than a product does.

use gemm::{Parallelism, gemm};

/// A matrix in a slice.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a> {
    pub values: &'a [f32],
    pub rows: usize,
    pub columns: usize,
    /// Values from a row to the next.
    pub down: usize,
    /// Values from a column to the next.
    pub right: usize,
}

impl<'a> Matrix<'a> {
    /// Row after row, without gaps.
    pub(super) fn of_rows(values: &'a [f32], columns: usize) -> Self {
        Self {
            values,
            rows: values.len() / columns,
            columns,
            down: columns,
            right: 1,
        }
    }

    pub(super) fn transposed(self) -> Self {
        Self {
            values: self.values,
            rows: self.columns,
            columns: self.rows,
            down: self.right,
            right: self.down,
        }
    }

    /// The largest index that a product reads.
    fn last(&self) -> usize {
        (self.rows - 1) * self.down + (self.columns - 1) * self.right
    }
}

/// `out = a b`, or `out += a b`; `out` row after row without gaps.
///
/// # Panics
/// When the sizes do not fit each other or the slices.
pub(super) fn product(out: &mut [f32], add: bool, a: Matrix<'_>, b: Matrix<'_>) {
    let (rows, inner, columns) = (a.rows, a.columns, b.columns);
    assert!(rows > 0 && inner > 0 && columns > 0, "an empty product");
    assert_eq!(inner, b.rows, "the factors do not fit each other");
    assert_eq!(out.len(), rows * columns, "the product does not fit");
    assert!(a.last() < a.values.len() && b.last() < b.values.len());
    let stride = |values: usize| isize::try_from(values).unwrap_or(isize::MAX);
    #[expect(
        unsafe_code,
        reason = "the library takes pointers; the assertions above bound every index that these sizes and strides reach"
    )]
    // SAFETY: `out` is `rows * columns` values that nobody else has, `a` and `b` are only read, and
    // the last index of each is inside its slice.
    unsafe {
        gemm(
            rows,
            columns,
            inner,
            out.as_mut_ptr(),
            1,
            stride(columns),
            add,
            a.values.as_ptr(),
            stride(a.right),
            stride(a.down),
            b.values.as_ptr(),
            stride(b.right),
            stride(b.down),
            1.0,
            1.0,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_follow_their_definition() {
        let values = |count: usize| (0..count).map(|i| (i * 7 % 13) as f32 - 6.0).collect();
        let (a, b): (Vec<f32>, Vec<f32>) = (values(5 * 9), values(4 * 9));
        let mut out = vec![0.5; 20];
        let (a, b) = (Matrix::of_rows(&a, 9), Matrix::of_rows(&b, 9).transposed());
        for (add, begun) in [(true, 0.5), (false, 0.0), (true, 0.0)] {
            let before = if add { out[0] } else { begun };
            product(&mut out, add, a, b);
            let sum: f32 = (0..9).map(|i| a.values[i] * b.values[i]).sum();
            assert_eq!(out[0], before + sum);
        }
        for (i, found) in out.iter().enumerate() {
            let (row, column) = (i / 4, i % 4);
            let sum: f32 = (0..9)
                .map(|k| a.values[row * 9 + k] * b.values[column * 9 + k])
                .sum();
            // Twice: the last two products.
            assert_eq!(*found, 2.0 * sum, "{row}, {column}");
        }
    }

    #[test]
    #[should_panic(expected = "do not fit each other")]
    fn factors_that_do_not_fit_are_refused() {
        let values = [0.0; 12];
        let mut out = [0.0; 9];
        let (a, b) = (Matrix::of_rows(&values, 4), Matrix::of_rows(&values, 3));
        product(&mut out, false, a, b.transposed());
    }
}
