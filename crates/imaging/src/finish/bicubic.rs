//! Rows four times as large each way, by cubic convolution (a = -1/2), some rows at a time.

use std::collections::VecDeque;

/// Output pixels for each input pixel, in each direction.
pub(super) const SCALE: u32 = 4;

/// How output pixel `4 i + phase` is made: offset from `i` of the first of four input pixels, and
/// their weights.
const PHASES: [(i64, [f32; 4]); 4] = [
    (-2, phase(0.625)),
    (-2, phase(0.875)),
    (-1, phase(0.125)),
    (-1, phase(0.375)),
];

/// Weights of the pixels at -1, 0, 1 and 2 for a place at `t` between 0 and 1.
const fn phase(t: f32) -> [f32; 4] {
    [
        t * (-0.5 + t * (1.0 - 0.5 * t)),
        1.0 + t * t * (-2.5 + 1.5 * t),
        t * (0.5 + t * (2.0 - 1.5 * t)),
        t * t * (-0.5 + 0.5 * t),
    ]
}

/// The input rows that an output row needs.
pub(super) fn needed(row: u32, height: u32) -> [u32; 4] {
    taps(row, height).map(|(at, _)| at)
}

/// Input positions and weights for output position `out`; beyond the border its pixel is repeated.
fn taps(out: u32, length: u32) -> [(u32, f32); 4] {
    let (first, weights) = PHASES[(out % SCALE) as usize];
    let place = i64::from(out / SCALE) + first;
    [0, 1, 2, 3].map(|tap: u8| {
        let at = (place + i64::from(tap)).clamp(0, i64::from(length) - 1);
        (u32::try_from(at).unwrap_or(0), weights[usize::from(tap)])
    })
}

/// Input rows, enlarged in width.
#[derive(Debug)]
pub(super) struct Bicubic {
    width: u32,
    height: u32,
    channels: usize,
    held: VecDeque<Vec<f32>>,
    /// Of the first row held.
    first: u32,
}

impl Bicubic {
    /// - `width`, `height`: of the input, in pixels.
    /// - `channels`: values a pixel.
    pub(super) fn new(width: u32, height: u32, channels: usize) -> Self {
        Self {
            width,
            height,
            channels,
            held: VecDeque::new(),
            first: 0,
        }
    }

    /// The input row that [`push`](Self::push) takes next, to make output row `row`, if it needs more.
    /// What is not needed any more is dropped.
    pub(super) fn wants(&mut self, row: u32) -> Option<u32> {
        let [from, .., to] = needed(row, self.height);
        while self.first < from && self.held.pop_front().is_some() {
            self.first += 1;
        }
        if self.held.is_empty() {
            self.first = from;
        }
        let next = self.first + u32::try_from(self.held.len()).unwrap_or(u32::MAX);
        (next <= to).then_some(next)
    }

    /// Takes an input row.
    pub(super) fn push(&mut self, row: &[f32]) {
        let channels = self.channels;
        let mut large = vec![0.0; row.len() * SCALE as usize];
        for (x, pixel) in (0..).zip(large.chunks_exact_mut(channels)) {
            for (at, weight) in taps(x, self.width) {
                let from = at as usize * channels;
                for (sum, value) in pixel.iter_mut().zip(&row[from..from + channels]) {
                    *sum += weight * value;
                }
            }
        }
        self.held.push_back(large);
    }

    /// Output row `row`, for which nothing is [wanted](Self::wants) any more.
    pub(super) fn row(&self, row: u32, out: &mut [f32]) {
        out.fill(0.0);
        for (at, weight) in taps(row, self.height) {
            let held = &self.held[(at - self.first) as usize];
            for (sum, value) in out.iter_mut().zip(held) {
                *sum += weight * value;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enlarge(rows: &[Vec<f32>], first: u32) -> Vec<Vec<f32>> {
        let (width, height) = (
            u32::try_from(rows[0].len()).unwrap(),
            u32::try_from(rows.len()).unwrap(),
        );
        let mut bicubic = Bicubic::new(width, height, 1);
        (first..SCALE * height)
            .map(|y| {
                while let Some(next) = bicubic.wants(y) {
                    bicubic.push(&rows[next as usize]);
                }
                let mut row = vec![0.0; rows[0].len() * 4];
                bicubic.row(y, &mut row);
                row
            })
            .collect()
    }

    #[test]
    fn a_plane_stays_a_plane_inside() {
        let rows: Vec<Vec<f32>> = (0..9_u8)
            .map(|y| {
                (0..11_u8)
                    .map(|x| f32::from(x) * 3.0 + f32::from(y))
                    .collect()
            })
            .collect();
        for (y, row) in enlarge(&rows, 0).iter().enumerate().skip(8).take(20) {
            for (x, value) in row.iter().enumerate().skip(8).take(28) {
                let at = |place: usize| (place as f32 + 0.5) / 4.0 - 0.5;
                let expected = 3.0 * at(x) + at(y);
                assert!(
                    (value - expected).abs() < 1e-4,
                    "{x} {y}: {value} {expected}"
                );
            }
        }
    }

    #[test]
    fn any_row_can_be_the_first() {
        let rows: Vec<Vec<f32>> = (0..7_u8)
            .map(|y| {
                (0..5_u8)
                    .map(|x| f32::from(x * 31 % 7 + y * 17 % 11))
                    .collect()
            })
            .collect();
        let whole = enlarge(&rows, 0);
        for first in 0..28 {
            assert!(enlarge(&rows, first) == whole[first as usize..], "{first}");
        }
    }

    #[test]
    fn one_pixel_is_enlarged_too() {
        assert_eq!(enlarge(&[vec![0.25]], 0), vec![vec![0.25; 4]; 4]);
    }
}
