//! Linear layers on the CPU, with weights in the order in which the kernel reads them.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::nn::product::{BLOCK, DEPTH, Instructions, LANES, ROWS, Rectangle, Rows, rectangles};

/// Tokens that a core takes at a time: their part of the input stays in the second cache.
const TOKENS: usize = 256;

/// A weight matrix as panels of [`LANES`] outputs, each with a row of them for every input; zeros
/// where the last panel is not full.
#[derive(Debug)]
pub(super) struct Packed {
    panels: Vec<f32>,
    inputs: usize,
    pub(super) outputs: usize,
}

/// A sample's tokens, `[N, in]`, of any strides.
#[derive(Clone, Copy)]
pub(super) struct Tokens<'a> {
    /// From the first token's first value on.
    pub values: &'a [f32],
    pub count: usize,
    /// Values from a token to the next.
    pub apart: usize,
    /// Values from one of a token's to the next.
    pub step: usize,
}

impl Packed {
    /// - `weight`: `[out, in]`.
    pub(super) fn new(weight: &[f32], inputs: usize) -> Self {
        let outputs = weight.len() / inputs;
        let mut panels = vec![0.0; outputs.div_ceil(LANES) * LANES * inputs];
        let panel = panels
            .par_chunks_mut(LANES * inputs)
            .zip(weight.par_chunks(LANES * inputs));
        panel.for_each(|(panel, weight)| {
            for (lane, row) in weight.chunks(inputs).enumerate() {
                for (lanes, x) in panel.chunks_exact_mut(LANES).zip(row) {
                    lanes[lane] = *x;
                }
            }
        });
        Self {
            panels,
            inputs,
            outputs,
        }
    }

    /// Fills `out`, `[N, out]` of one sample, with `finish` of each sum and its output's number.
    pub(super) fn forward(
        &self,
        cpu: Instructions,
        tokens: Tokens<'_>,
        out: &mut [f32],
        finish: impl Fn(f32, usize) -> f32 + Sync,
    ) {
        let each = tokens_each(tokens.count);
        let chunks = out.par_chunks_mut(each * self.outputs).enumerate();
        chunks.for_each(|(chunk, out)| {
            let part = Part::of(tokens, chunk * each, out.len() / self.outputs, self.inputs);
            let mut sums = part.room();
            for panel in 0..self.panels() {
                self.sums(cpu, panel, &part, &mut sums);
                let outputs = self.outputs_of(panel);
                let rows = out
                    .chunks_exact_mut(self.outputs)
                    .zip(sums.chunks_exact(LANES));
                for (out, sums) in rows {
                    let out = out[outputs.clone()].iter_mut().zip(outputs.clone());
                    out.zip(sums)
                        .for_each(|((out, output), sum)| *out = finish(*sum, output));
                }
            }
        });
    }

    /// The same with two layers of as many outputs, whose sums `finish` takes together.
    pub(super) fn forward_with(
        &self,
        other: &Self,
        cpu: Instructions,
        tokens: Tokens<'_>,
        out: &mut [f32],
        finish: impl Fn(f32, f32, usize) -> f32 + Sync,
    ) {
        let each = tokens_each(tokens.count);
        let arch = Arch::new();
        let chunks = out.par_chunks_mut(each * self.outputs).enumerate();
        chunks.for_each(|(chunk, out)| {
            let part = Part::of(tokens, chunk * each, out.len() / self.outputs, self.inputs);
            let (mut sums, mut others) = (part.room(), part.room());
            for panel in 0..self.panels() {
                self.sums(cpu, panel, &part, &mut sums);
                other.sums(cpu, panel, &part, &mut others);
                arch.dispatch(FinishBoth {
                    out,
                    width: self.outputs,
                    outputs: self.outputs_of(panel),
                    sums: [&sums, &others],
                    finish: &finish,
                });
            }
        });
    }

    /// Fills `out`, `[out, N]` of one sample: the result as planes. `finish` takes a plane's row of
    /// sums, the plane's number and the first token's.
    pub(super) fn forward_to_planes(
        &self,
        cpu: Instructions,
        tokens: Tokens<'_>,
        out: &mut [f32],
        finish: impl Fn(&mut [f32], usize, usize) + Sync,
    ) {
        let each = tokens_each(tokens.count);
        let fill = |mut out: Rectangle<'_>| {
            let first = out.columns().start;
            let part = Part::of(tokens, first, out.columns().len(), self.inputs);
            let mut sums = part.room();
            for panel in 0..self.panels() {
                self.sums(cpu, panel, &part, &mut sums);
                for (lane, output) in self.outputs_of(panel).enumerate() {
                    let row = out.row(output);
                    for (out, sums) in row.iter_mut().zip(sums.chunks_exact(LANES)) {
                        *out = sums[lane];
                    }
                    finish(row, output, first);
                }
            }
        };
        rectangles(out, tokens.count, self.outputs, each)
            .into_par_iter()
            .for_each(fill);
    }

    fn panels(&self) -> usize {
        self.outputs.div_ceil(LANES)
    }

    fn outputs_of(&self, panel: usize) -> std::ops::Range<usize> {
        panel * LANES..((panel + 1) * LANES).min(self.outputs)
    }

    /// A panel's outputs for all tokens of a part, [`LANES`] for each token.
    fn sums(&self, cpu: Instructions, panel: usize, part: &Part<'_>, sums: &mut [f32]) {
        let panel = &self.panels[panel * LANES * self.inputs..][..LANES * self.inputs];
        for (i, b) in panel.chunks(DEPTH * LANES).enumerate() {
            for (group, sums) in sums.chunks_mut(BLOCK).enumerate() {
                cpu.multiply(sums, i > 0, part.rows(group, i * DEPTH), b);
            }
        }
    }
}

/// How many tokens a core takes, so that every core has some.
fn tokens_each(tokens: usize) -> usize {
    let cores = rayon::current_num_threads();
    tokens
        .div_ceil(4 * cores)
        .next_multiple_of(ROWS)
        .min(TOKENS)
}

/// Some tokens, in an order that the kernel reads well.
struct Part<'a> {
    tokens: Tokens<'a>,
    /// Where a token's values lie far apart: [`ROWS`] tokens side by side, their values in turn.
    gathered: Option<Vec<f32>>,
    inputs: usize,
}

impl<'a> Part<'a> {
    fn of(all: Tokens<'a>, first: usize, count: usize, inputs: usize) -> Self {
        let values = &all.values[first * all.apart..];
        let tokens = Tokens {
            values,
            count,
            ..all
        };
        let gathered = (all.step != 1).then(|| tokens.gather(inputs));
        Self {
            tokens,
            gathered,
            inputs,
        }
    }

    fn room(&self) -> Vec<f32> {
        vec![0.0; self.tokens.count * LANES]
    }

    fn rows(&self, group: usize, term: usize) -> Rows<'_> {
        let count = (self.tokens.count - group * ROWS).min(ROWS);
        match &self.gathered {
            Some(gathered) => Rows {
                values: &gathered[(group * self.inputs + term) * ROWS..],
                count,
                apart: 1,
                step: ROWS,
            },
            None => Rows {
                values: &self.tokens.values[group * ROWS * self.tokens.apart + term..],
                count,
                apart: self.tokens.apart,
                step: 1,
            },
        }
    }
}

impl Tokens<'_> {
    fn gather(self, inputs: usize) -> Vec<f32> {
        let mut gathered = vec![0.0; self.count.next_multiple_of(ROWS) * inputs];
        for term in 0..inputs {
            let values = &self.values[term * self.step..];
            for group in 0..self.count.div_ceil(ROWS) {
                let row = &mut gathered[(group * inputs + term) * ROWS..][..ROWS];
                let here = (self.count - group * ROWS).min(ROWS);
                for (i, out) in row[..here].iter_mut().enumerate() {
                    *out = values[(group * ROWS + i) * self.apart];
                }
            }
        }
        gathered
    }
}

/// What becomes of two layers' sums, with the widest registers; a closure would have only those of any processor.
struct FinishBoth<'a, F> {
    /// Rows of `width` values.
    out: &'a mut [f32],
    width: usize,
    outputs: std::ops::Range<usize>,
    /// Rows of [`LANES`] values.
    sums: [&'a [f32]; 2],
    finish: &'a F,
}

impl<F: Fn(f32, f32, usize) -> f32> WithSimd for FinishBoth<'_, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let [sums, others] = self.sums.map(|sums| sums.chunks_exact(LANES));
        for (out, (sums, others)) in self.out.chunks_exact_mut(self.width).zip(sums.zip(others)) {
            let out = out[self.outputs.clone()]
                .iter_mut()
                .zip(self.outputs.clone());
            for ((out, output), (sum, other)) in out.zip(sums.iter().zip(others)) {
                *out = (self.finish)(*sum, *other, output);
            }
        }
    }
}
