//! One result, filled by several cores at once.

#![expect(
    unsafe_code,
    reason = "rectangles of a matrix interleave in memory, which slices cannot say; they are cut here, once, so that none overlaps another"
)]

use std::marker::PhantomData;
use std::ops::Range;

/// A rectangle of a matrix, of which nobody else has any part.
pub(crate) struct Rectangle<'a> {
    /// The matrix' first value.
    start: *mut f32,
    /// Values from a row of the matrix to the next.
    width: usize,
    /// Neither is to be changed: what [`row`](Self::row) lends rests on them.
    rows: Range<usize>,
    columns: Range<usize>,
    matrix: PhantomData<&'a mut [f32]>,
}

// SAFETY: a rectangle lends its own part of a slice of `f32` that it borrows for writing, as
// `&mut [f32]` would; the parts of other rectangles are other memory.
unsafe impl Send for Rectangle<'_> {}

/// Cuts a matrix of `width` columns into rectangles of at most `rows_each` x `columns_each`, the
/// columns of a row of rectangles one after another.
///
/// # Panics
/// When the matrix is no whole number of rows, or a rectangle would be empty.
pub(crate) fn rectangles(
    matrix: &mut [f32],
    width: usize,
    rows_each: usize,
    columns_each: usize,
) -> Vec<Rectangle<'_>> {
    assert!(rows_each > 0 && columns_each > 0 && matrix.len().is_multiple_of(width));
    let height = matrix.len() / width;
    let start = matrix.as_mut_ptr();
    let cut = |all: usize, each: usize| {
        (0..all)
            .step_by(each)
            .map(move |first| first..(first + each).min(all))
    };
    cut(height, rows_each)
        .flat_map(|rows| cut(width, columns_each).map(move |columns| (rows.clone(), columns)))
        .map(|(rows, columns)| Rectangle {
            start,
            width,
            rows,
            columns,
            matrix: PhantomData,
        })
        .collect()
}

impl Rectangle<'_> {
    pub(crate) fn rows(&self) -> Range<usize> {
        self.rows.clone()
    }

    pub(crate) fn columns(&self) -> Range<usize> {
        self.columns.clone()
    }

    /// The rectangle's part of a row of the matrix.
    ///
    /// # Panics
    /// When the rectangle has no part of that row.
    pub(crate) fn row(&mut self, row: usize) -> &mut [f32] {
        assert!(self.rows.contains(&row), "row {row} is another's");
        // SAFETY: rows and columns were cut from inside the matrix, which is borrowed for as long as
        // the rectangle lives; `row` is one of its own, and `&mut self` lends one at a time.
        unsafe {
            let first = self.start.add(row * self.width + self.columns.start);
            std::slice::from_raw_parts_mut(first, self.columns.len())
        }
    }
}

#[cfg(test)]
mod tests {
    use rayon::prelude::*;

    use super::*;

    #[test]
    fn rectangles_cover_a_matrix_once() {
        for (height, width, rows_each, columns_each) in
            [(1, 1, 1, 1), (7, 10, 3, 4), (5, 64, 8, 32), (16, 3, 4, 9)]
        {
            let mut matrix = vec![0.0; height * width];
            let mut parts = rectangles(&mut matrix, width, rows_each, columns_each);
            parts.par_iter_mut().for_each(|part| {
                let columns = part.columns.clone();
                for row in part.rows.clone() {
                    for (value, column) in part.row(row).iter_mut().zip(columns.clone()) {
                        *value += (1 + row * width + column) as f32;
                    }
                }
            });
            let expected = (1..=height * width).map(|i| i as f32);
            assert!(matrix.iter().copied().eq(expected), "{height} x {width}");
        }
    }

    #[test]
    #[should_panic(expected = "is another's")]
    fn another_rectangle_s_row_is_refused() {
        let mut matrix = [0.0; 12];
        rectangles(&mut matrix, 4, 1, 4)[0].row(1);
    }
}
