//! A block of sums in registers.
//!
//! Each instruction set has its own loop over the same arithmetic: with fused multiply-adds and a
//! fixed order of terms, all of them give the same bits.

#![expect(
    unsafe_code,
    reason = "vector instructions take pointers, and only a processor that has them may meet them: `multiply` checks every index, and an `Instructions` exists for what this processor has"
)]

use super::{BLOCK, LANES, ROWS};

/// What this processor can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Instructions(Set);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Set {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// Whatever the build is for: quick where that includes fused multiply-adds (64-bit ARM), slow
    /// but right elsewhere.
    Plain,
}

impl Instructions {
    /// The best that this processor has.
    pub(crate) fn best() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") {
                return Self(Set::Avx512);
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                return Self(Set::Avx2);
            }
        }
        Self(Set::Plain)
    }

    /// All that this processor has, the best first.
    #[cfg(test)]
    pub(crate) fn all() -> Vec<Self> {
        let best = Self::best();
        let mut all = vec![best];
        #[cfg(target_arch = "x86_64")]
        if best.0 == Set::Avx512 {
            all.push(Self(Set::Avx2));
        }
        if best.0 != Set::Plain {
            all.push(Self(Set::Plain));
        }
        all
    }
}

/// Up to [`ROWS`] rows of the left factor, anywhere in a slice.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    /// Begins with the first row's first term.
    pub values: &'a [f32],
    pub count: usize,
    /// Values from a row to the next.
    pub apart: usize,
    /// Values from a term to the next.
    pub step: usize,
}

impl Rows<'_> {
    /// The largest index of `depth` terms of each row; `None` where it is beyond all numbers.
    fn last_index(&self, depth: usize) -> Option<usize> {
        let row = (self.count - 1).checked_mul(self.apart)?;
        row.checked_add((depth - 1).checked_mul(self.step)?)
    }
}

impl Instructions {
    /// `sums[i][j] = sum over k of a[i][k] b[k][j]`, or `+=`, for the rows that `a` has.
    ///
    /// - `sums`: rows of [`LANES`] values.
    /// - `b`: a row of [`LANES`] values for each term.
    ///
    /// # Panics
    /// When the sizes do not fit each other or the slices.
    #[inline]
    pub(crate) fn multiply(self, sums: &mut [f32], add: bool, a: Rows<'_>, b: &[f32]) {
        let depth = b.len() / LANES;
        assert!(
            depth > 0 && b.len().is_multiple_of(LANES),
            "an empty factor"
        );
        assert!((1..=ROWS).contains(&a.count), "{} rows", a.count);
        assert!(a.count * LANES <= sums.len() && sums.len() <= BLOCK);
        let last = a.last_index(depth);
        assert!(
            last.is_some_and(|last| last < a.values.len()),
            "the factor ends before its last term"
        );
        let factor = Factor {
            values: a.values.as_ptr(),
            apart: a.apart,
            step: a.step,
        };
        let (b, sums) = (b.as_ptr(), sums.as_mut_ptr());
        // SAFETY: `sums` is lent for writing and holds `count` rows of `LANES`, `b` holds `depth` of
        // them, and `last` is the largest index that a kernel reads of the left factor. A value of
        // `Set` that names instructions was made where they were found.
        unsafe {
            match self.0 {
                #[cfg(target_arch = "x86_64")]
                Set::Avx512 => x86::avx512(a.count, depth, factor, b, sums, add),
                #[cfg(target_arch = "x86_64")]
                Set::Avx2 => x86::avx2(a.count, depth, factor, b, sums, add),
                Set::Plain => plain(a.count, depth, factor, b, sums, add),
            }
        }
    }
}

/// The left factor, by its addresses.
#[derive(Clone, Copy)]
struct Factor {
    values: *const f32,
    apart: usize,
    step: usize,
}

impl Factor {
    /// # Safety
    /// The caller knows that the factor has this row and term.
    #[inline(always)]
    unsafe fn at(self, row: usize, term: usize) -> f32 {
        unsafe { *self.values.add(row * self.apart + term * self.step) }
    }
}

/// # Safety
/// `a` has `rows` x `depth` values, `b` `depth` x `LANES`, `sums` `rows` x `LANES`.
unsafe fn plain(rows: usize, depth: usize, a: Factor, b: *const f32, sums: *mut f32, add: bool) {
    for row in 0..rows {
        let mut chain = [0.0f32; LANES];
        for term in 0..depth {
            let (x, b) = unsafe { (a.at(row, term), b.add(term * LANES)) };
            for (lane, sum) in chain.iter_mut().enumerate() {
                *sum = x.mul_add(unsafe { *b.add(lane) }, *sum);
            }
        }
        for (lane, sum) in chain.into_iter().enumerate() {
            unsafe {
                let out = sums.add(row * LANES + lane);
                *out = if add { *out + sum } else { sum };
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{Factor, LANES};

    /// # Safety
    /// As [`super::plain`]; the processor has AVX-512F.
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn avx512(
        rows: usize,
        depth: usize,
        a: Factor,
        b: *const f32,
        sums: *mut f32,
        add: bool,
    ) {
        unsafe {
            match rows {
                1 => rows_512::<1>(depth, a, b, sums, add),
                2 => rows_512::<2>(depth, a, b, sums, add),
                3 => rows_512::<3>(depth, a, b, sums, add),
                4 => rows_512::<4>(depth, a, b, sums, add),
                5 => rows_512::<5>(depth, a, b, sums, add),
                6 => rows_512::<6>(depth, a, b, sums, add),
                7 => rows_512::<7>(depth, a, b, sums, add),
                _ => rows_512::<8>(depth, a, b, sums, add),
            }
        }
    }

    /// Sixteen registers of sums: two rows of 16 lanes for each of eight rows.
    #[target_feature(enable = "avx512f")]
    unsafe fn rows_512<const R: usize>(
        depth: usize,
        mut a: Factor,
        mut b: *const f32,
        sums: *mut f32,
        add: bool,
    ) {
        let mut left = [_mm512_setzero_ps(); R];
        let mut right = [_mm512_setzero_ps(); R];
        unsafe {
            for _ in 0..depth {
                let (b_left, b_right) = (_mm512_loadu_ps(b), _mm512_loadu_ps(b.add(16)));
                for row in 0..R {
                    let x = _mm512_set1_ps(a.at(row, 0));
                    left[row] = _mm512_fmadd_ps(x, b_left, left[row]);
                    right[row] = _mm512_fmadd_ps(x, b_right, right[row]);
                }
                a.values = a.values.wrapping_add(a.step);
                b = b.add(LANES);
            }
            for row in 0..R {
                for (half, sum) in [left[row], right[row]].into_iter().enumerate() {
                    let out = sums.add(row * LANES + half * 16);
                    let before = if add {
                        _mm512_loadu_ps(out)
                    } else {
                        _mm512_setzero_ps()
                    };
                    _mm512_storeu_ps(out, if add { _mm512_add_ps(before, sum) } else { sum });
                }
            }
        }
    }

    /// # Safety
    /// As [`super::plain`]; the processor has AVX2 and FMA.
    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn avx2(
        rows: usize,
        depth: usize,
        a: Factor,
        b: *const f32,
        sums: *mut f32,
        add: bool,
    ) {
        let mut first = 0;
        while first < rows {
            let here = match rows - first {
                4 => 2, // two and two: a row alone would wait for its own sums
                left => left.min(3),
            };
            let a = Factor {
                values: a.values.wrapping_add(first * a.apart),
                ..a
            };
            unsafe {
                let sums = sums.add(first * LANES);
                match here {
                    1 => rows_256::<1>(depth, a, b, sums, add),
                    2 => rows_256::<2>(depth, a, b, sums, add),
                    _ => rows_256::<3>(depth, a, b, sums, add),
                }
            }
            first += here;
        }
    }

    /// Twelve registers of sums, all lanes of three rows, three of the left factor and one of the right: all
    /// sixteen. With eight of sums a core waits for the last product of each.
    #[target_feature(enable = "avx2,fma")]
    unsafe fn rows_256<const R: usize>(
        depth: usize,
        mut a: Factor,
        mut b: *const f32,
        sums: *mut f32,
        add: bool,
    ) {
        const QUARTERS: usize = LANES / 8;
        let mut all = [[_mm256_setzero_ps(); R]; QUARTERS];
        unsafe {
            for _ in 0..depth {
                let mut x = [_mm256_setzero_ps(); R];
                for (row, x) in x.iter_mut().enumerate() {
                    *x = _mm256_set1_ps(a.at(row, 0));
                }
                for (quarter, rows) in all.iter_mut().enumerate() {
                    let b = _mm256_loadu_ps(b.add(8 * quarter));
                    for (sum, x) in rows.iter_mut().zip(x) {
                        *sum = _mm256_fmadd_ps(x, b, *sum);
                    }
                }
                a.values = a.values.wrapping_add(a.step);
                b = b.wrapping_add(LANES);
            }
            for (quarter, rows) in all.into_iter().enumerate() {
                for (row, sum) in rows.into_iter().enumerate() {
                    let out = sums.add(row * LANES + quarter * 8);
                    let sum = if add {
                        _mm256_add_ps(_mm256_loadu_ps(out), sum)
                    } else {
                        sum
                    };
                    _mm256_storeu_ps(out, sum);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(count: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / 8_388_608.0 - 1.0
        };
        (0..count).map(|_| next()).collect()
    }

    /// Rows one after another, and rows interleaved.
    fn left_factors(values: &[f32], count: usize, depth: usize) -> [Rows<'_>; 2] {
        let (apart, step) = (depth, 1);
        let one_after_another = Rows {
            values,
            count,
            apart,
            step,
        };
        let (apart, step) = (1, ROWS);
        [
            one_after_another,
            Rows {
                values,
                count,
                apart,
                step,
            },
        ]
    }

    #[test]
    fn all_instructions_give_the_bits_of_the_definition() {
        for (count, depth) in [
            (8, 256),
            (8, 1),
            (7, 31),
            (5, 2),
            (4, 77),
            (3, 9),
            (2, 40),
            (1, 3),
        ] {
            let (a, b) = (values(ROWS * depth, 1), values(depth * LANES, 2));
            for add in [false, true] {
                for a in left_factors(&a, count, depth) {
                    let before = values(count * LANES, 3);
                    let mut expected = before.clone();
                    for (i, sum) in expected.iter_mut().enumerate() {
                        let (row, lane) = (i / LANES, i % LANES);
                        let term = |k| a.values[row * a.apart + k * a.step];
                        let chain = (0..depth)
                            .fold(0.0f32, |sum, k| term(k).mul_add(b[k * LANES + lane], sum));
                        *sum = if add { *sum + chain } else { chain };
                    }
                    for instructions in Instructions::all() {
                        let mut sums = before.clone();
                        instructions.multiply(&mut sums, add, a, &b);
                        assert!(
                            sums == expected,
                            "{instructions:?}, {count} x {depth}, {add}"
                        );
                    }
                }
            }
        }
    }

    /// Whether two rows, 8 values apart, of so many terms are taken from a slice of nine.
    fn takes(depth: usize) -> bool {
        let values = [0.0; 9];
        let rows = Rows {
            values: &values,
            count: 2,
            apart: 8,
            step: 1,
        };
        let b = vec![0.0; depth * LANES];
        let product = || Instructions::best().multiply(&mut [0.0; BLOCK], false, rows, &b);
        std::panic::catch_unwind(product).is_ok()
    }

    #[test]
    fn a_factor_that_ends_before_its_last_term_is_refused() {
        assert!(takes(1), "the last term is the slice's last value");
        assert!(!takes(2), "the last term is one beyond the slice");
    }
}
