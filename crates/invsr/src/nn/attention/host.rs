//! Softmax attention on the CPU.
//!
//! A core takes some queries of a head through all keys, [`DEPTH`] of these at a time, and corrects
//! its sums when a larger score turns up. Scores stand in the order in which the next product reads
//! them: a row for each key, with [`LANES`] queries side by side, so that nothing is turned round in
//! between and each query's maximum and sum are a lane's.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::nn::math;
use crate::nn::product::{DEPTH, Instructions, LANES, ROWS, Rectangle, Rows, rectangles};

/// Panels of queries that a core takes at a time: it reads keys and values once for all of them.
const PANELS: usize = 4;

/// One operand: `[B, tokens, heads x width]`, contiguous.
#[derive(Clone, Copy)]
pub(super) struct Operand<'a> {
    pub values: &'a [f32],
    pub tokens: usize,
}

/// How the operands' values are shared out.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    pub heads: usize,
    /// Values of a token in a head.
    pub width: usize,
}

impl Shape {
    fn all(self) -> usize {
        self.heads * self.width
    }
}

/// Fills `out`, `[tokens of q, heads x width]` of one sample.
pub(super) fn attend(
    cpu: Instructions,
    shape: Shape,
    q: Operand<'_>,
    k: Operand<'_>,
    v: Operand<'_>,
    out: &mut [f32],
) {
    let heads: Vec<Keys> = (0..shape.heads)
        .into_par_iter()
        .map(|head| Keys::of(shape, head, k, v))
        .collect();
    rectangles(out, shape.all(), PANELS * LANES, shape.width)
        .into_par_iter()
        .for_each(|out| heads[out.columns().start / shape.width].answer(cpu, shape, q, out));
}

/// A head's keys and values as the kernel's left factors.
struct Keys {
    /// [`ROWS`] keys side by side, their values in turn.
    keys: Vec<f32>,
    /// [`ROWS`] places of a value side by side, the tokens in turn.
    values: Vec<f32>,
    tokens: usize,
}

impl Keys {
    fn of(shape: Shape, head: usize, k: Operand<'_>, v: Operand<'_>) -> Self {
        let Shape { width, .. } = shape;
        let tokens = k.tokens;
        let rows_of = |values| {
            let rows = <[f32]>::chunks_exact(values, shape.all());
            rows.map(move |row| &row[head * width..][..width])
        };
        let mut keys = vec![0.0; tokens.next_multiple_of(ROWS) * width];
        for (i, row) in rows_of(k.values).enumerate() {
            let group = &mut keys[i / ROWS * ROWS * width..][..ROWS * width];
            for (out, x) in group[i % ROWS..].iter_mut().step_by(ROWS).zip(row) {
                *out = *x;
            }
        }
        let mut values = vec![0.0; width.next_multiple_of(ROWS) * tokens];
        for (i, row) in rows_of(v.values).enumerate() {
            for (group, row) in row.chunks(ROWS).enumerate() {
                values[(group * tokens + i) * ROWS..][..row.len()].copy_from_slice(row);
            }
        }
        Self {
            keys,
            values,
            tokens,
        }
    }

    /// Some queries, through all keys.
    fn answer(&self, cpu: Instructions, shape: Shape, q: Operand<'_>, mut out: Rectangle<'_>) {
        let head = out.columns();
        let tokens = out.rows();
        let first = tokens.clone().step_by(LANES);
        let mut panels: Vec<Panel> = first
            .map(|first| Panel::of(shape, q, head.start, first..tokens.end.min(first + LANES)))
            .collect();
        let mut scores = vec![0.0; DEPTH * LANES];
        for first in (0..self.tokens).step_by(DEPTH) {
            let count = DEPTH.min(self.tokens - first);
            let scores = &mut scores[..count * LANES];
            for panel in &mut panels {
                self.score(cpu, shape.width, first, &panel.queries, scores);
                panel.weigh(scores);
                self.sum(cpu, shape.width, first, scores, &mut panel.sums);
            }
        }
        for (panel, first) in panels.iter().zip(tokens.clone().step_by(LANES)) {
            for token in first..tokens.end.min(first + LANES) {
                panel.write(token - first, out.row(token));
            }
        }
    }

    /// The scores of keys from `first` on, a row for each.
    fn score(
        &self,
        cpu: Instructions,
        width: usize,
        first: usize,
        queries: &[f32],
        scores: &mut [f32],
    ) {
        for (part, b) in queries.chunks(DEPTH * LANES).enumerate() {
            for (group, scores) in scores.chunks_mut(ROWS * LANES).enumerate() {
                let begin = (first / ROWS + group) * ROWS * width;
                let keys = Rows {
                    values: &self.keys[begin + part * DEPTH * ROWS..],
                    count: scores.len() / LANES,
                    apart: 1,
                    step: ROWS,
                };
                cpu.multiply(scores, part > 0, keys, b);
            }
        }
    }

    /// Adds the weighed values of tokens from `first` on.
    fn sum(
        &self,
        cpu: Instructions,
        width: usize,
        first: usize,
        weights: &[f32],
        sums: &mut [f32],
    ) {
        for (group, sums) in sums.chunks_mut(ROWS * LANES).enumerate() {
            let values = Rows {
                values: &self.values[(group * self.tokens + first) * ROWS..],
                count: (width - group * ROWS).min(ROWS),
                apart: 1,
                step: ROWS,
            };
            cpu.multiply(sums, true, values, weights);
        }
    }
}

/// [`Panel::weigh`] with the widest instructions. No closure: compiled on its own, it would have only those of
/// any processor.
struct Weigh<'a> {
    panel: &'a mut Panel,
    scores: &'a mut [f32],
}

impl WithSimd for Weigh<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        self.panel.weigh_lanes(self.scores);
    }
}

/// [`LANES`] queries side by side, and what they have seen so far.
struct Panel {
    /// A row for each place of a query, in measure of the softmax.
    queries: Vec<f32>,
    /// A row for each place of a value: the values' weighed sums.
    sums: Vec<f32>,
    /// The largest scores.
    largest: [f32; LANES],
    /// Of all weights, relative to those of the largest scores.
    totals: [f32; LANES],
}

impl Panel {
    fn of(shape: Shape, q: Operand<'_>, head: usize, tokens: std::ops::Range<usize>) -> Self {
        let width = shape.width;
        let scale = 1.0 / (width as f32).sqrt();
        let mut queries = vec![0.0; width * LANES];
        for (lane, token) in tokens.enumerate() {
            let row = &q.values[token * shape.all() + head..][..width];
            for (lanes, x) in queries.chunks_exact_mut(LANES).zip(row) {
                lanes[lane] = x * scale;
            }
        }
        Self {
            queries,
            sums: vec![0.0; width * LANES],
            largest: [f32::NEG_INFINITY; LANES],
            totals: [0.0; LANES],
        }
    }

    /// Turns the scores of some keys into weights; the sums so far shrink to the same measure.
    fn weigh(&mut self, scores: &mut [f32]) {
        Arch::new().dispatch(Weigh {
            panel: self,
            scores,
        });
    }

    #[inline(always)]
    fn weigh_lanes(&mut self, scores: &mut [f32]) {
        let (rows, _) = scores.as_chunks_mut::<LANES>();
        let mut largest = self.largest;
        for row in rows.iter() {
            for (largest, x) in largest.iter_mut().zip(row) {
                *largest = if *x > *largest { *x } else { *largest };
            }
        }
        let mut shrink = [0.0; LANES];
        for ((shrink, before), now) in shrink.iter_mut().zip(&self.largest).zip(&largest) {
            *shrink = math::exp(before - now);
        }
        let mut totals = [0.0; LANES];
        for row in rows {
            for ((x, total), largest) in row.iter_mut().zip(&mut totals).zip(&largest) {
                *x = math::exp(*x - largest);
                *total += *x;
            }
        }
        for ((total, new), shrink) in self.totals.iter_mut().zip(&totals).zip(&shrink) {
            *total = *total * shrink + new;
        }
        self.largest = largest;
        if shrink != [1.0; LANES] {
            let (rows, _) = self.sums.as_chunks_mut::<LANES>();
            for row in rows {
                row.iter_mut()
                    .zip(&shrink)
                    .for_each(|(sum, shrink)| *sum *= shrink);
            }
        }
    }

    fn write(&self, lane: usize, out: &mut [f32]) {
        let total = self.totals[lane];
        for (out, sums) in out.iter_mut().zip(self.sums.chunks_exact(LANES)) {
            *out = sums[lane] / total;
        }
    }
}
