//! Softmax attention without a full score matrix.
//!
//! On the CPU in `f32` a core takes some queries through all keys, a block of these at a time, and
//! corrects what it has summed when a larger score turns up: its scores stay in its cache. Elsewhere
//! the library's products take chunks of queries.

use candle_core::{DType, Device, Result, Tensor};
use pulp::Arch;
use rayon::prelude::*;

use super::host::{is_host_f32, with_values};
use super::math;
use super::product::{Matrix, product};

/// Queries that a core takes at a time.
const QUERIES: usize = 128;

/// Keys of a block: 512 KiB of scores.
const KEYS: usize = 1024;

/// Scores held at once for each head of each sample, where not the CPU computes: 4 MiB in `f32`.
const SCORES_PER_CHUNK: usize = 1 << 20;

/// `softmax(q k^T / sqrt(d)) v`.
///
/// - `q`: `[B, H, N, d]`; `k`, `v`: `[B, H, M, d]`; contiguous.
/// - returns `[B, H, N, d]`.
pub(crate) fn attention(q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor> {
    let head_dim = q.dim(3)?;
    let q = (q * (1.0 / (head_dim as f64).sqrt()))?;
    if is_host_f32(&q) {
        return attention_host(&q, k, v);
    }
    attention_in_chunks(&q, k, v)
}

fn attention_in_chunks(q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor> {
    let queries = q.dim(2)?;
    let k = k.transpose(2, 3)?;
    let chunk = (SCORES_PER_CHUNK / k.dim(3)?).clamp(1, queries);
    let mut parts = Vec::with_capacity(queries.div_ceil(chunk));
    for start in (0..queries).step_by(chunk) {
        let scores = q.narrow(2, start, chunk.min(queries - start))?.matmul(&k)?;
        let dtype = scores.dtype();
        let weights = candle_nn::ops::softmax_last_dim(&scores.to_dtype(DType::F32)?)?;
        parts.push(weights.to_dtype(dtype)?.matmul(v)?);
    }
    if let [whole] = &parts[..] {
        return Ok(whole.clone());
    }
    Tensor::cat(&parts, 2)
}

fn attention_host(q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor> {
    let (samples, heads, queries, width) = q.dims4()?;
    let keys = k.dim(2)?;
    if k.dims() != [samples, heads, keys, width] || v.dims() != k.dims() {
        candle_core::bail!(
            "attention of {:?} to {:?}, {:?}",
            q.dims(),
            k.dims(),
            v.dims()
        );
    }
    let mut out = vec![0.0; samples * heads * queries * width];
    let mut attend = |q: &[f32], k: &[f32], v: &[f32]| {
        let of_head = out
            .par_chunks_mut(queries * width)
            .zip(q.par_chunks(queries * width))
            .zip(k.par_chunks(keys * width).zip(v.par_chunks(keys * width)));
        of_head.for_each(|((out, q), (k, v))| {
            let blocks = out
                .par_chunks_mut(QUERIES * width)
                .zip(q.par_chunks(QUERIES * width));
            blocks.for_each(|(out, q)| attend_block(out, q, k, v, width));
        });
    };
    with_values(q, |q| {
        with_values(k, |k| with_values(v, |v| attend(q, k, v)))
    })???;
    Tensor::from_vec(out, q.shape(), &Device::Cpu)
}

/// Some queries of one head, through all its keys.
///
/// - `out`: zeros to begin with; rows of `width` values, like the others.
fn attend_block(out: &mut [f32], q: &[f32], k: &[f32], v: &[f32], width: usize) {
    let q = Matrix::of_rows(q, width);
    let keys = (k.len() / width).min(KEYS);
    let mut scores = vec![0.0; q.rows * keys];
    let mut sums = vec![Sum::default(); q.rows];
    let arch = Arch::new();
    for (k, v) in k.chunks(KEYS * width).zip(v.chunks(KEYS * width)) {
        let keys = k.len() / width;
        let scores = &mut scores[..q.rows * keys];
        let k = Matrix::of_rows(k, width);
        product(scores, false, q, k.transposed());
        arch.dispatch(|| {
            let rows = scores.chunks_mut(keys).zip(out.chunks_mut(width));
            for (sum, (scores, out)) in sums.iter_mut().zip(rows) {
                sum.weigh(scores, out);
            }
        });
        let weights = Matrix::of_rows(scores, keys);
        product(out, true, weights, Matrix::of_rows(v, width));
    }
    for (sum, out) in sums.iter().zip(out.chunks_mut(width)) {
        sum.divide(out);
    }
}

/// What a query has seen so far.
#[derive(Clone, Copy)]
struct Sum {
    /// The largest score.
    largest: f32,
    /// Of all weights, relative to that one's.
    total: f64,
}

impl Default for Sum {
    fn default() -> Self {
        Self {
            largest: f32::NEG_INFINITY,
            total: 0.0,
        }
    }
}

impl Sum {
    /// Turns the scores of a block into weights; `out`, the sum so far, shrinks to the same measure.
    #[inline(always)]
    fn weigh(&mut self, scores: &mut [f32], out: &mut [f32]) {
        let largest = largest(scores).max(self.largest);
        let shrink = math::exp(self.largest - largest);
        self.largest = largest;
        self.total = self.total * f64::from(shrink) + weigh(scores, largest);
        out.iter_mut().for_each(|out| *out *= shrink);
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "the factor has the data's precision"
    )]
    fn divide(&self, out: &mut [f32]) {
        let factor = (1.0 / self.total) as f32;
        out.iter_mut().for_each(|out| *out *= factor);
    }
}

/// Values that are looked at side by side, whatever the processor: the order of a sum is part of its
/// result.
const LANES: usize = 16;

#[inline(always)]
fn largest(scores: &[f32]) -> f32 {
    let mut largest = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = scores.as_chunks::<LANES>();
    for chunk in chunks {
        for (largest, x) in largest.iter_mut().zip(chunk) {
            *largest = if *x > *largest { *x } else { *largest };
        }
    }
    let all = largest.iter().chain(rest);
    all.fold(
        f32::NEG_INFINITY,
        |largest, x| if *x > largest { *x } else { largest },
    )
}

/// `e^(score - largest)` in place of each score; returns their sum.
#[inline(always)]
fn weigh(scores: &mut [f32], largest: f32) -> f64 {
    /// Values whose `f32` sum is still exact enough.
    const BLOCK: usize = 16 * LANES;
    let mut total = 0.0f64;
    for block in scores.chunks_mut(BLOCK) {
        let mut sums = [0.0f32; LANES];
        let (chunks, rest) = block.as_chunks_mut::<LANES>();
        for chunk in chunks {
            for (sum, x) in sums.iter_mut().zip(chunk) {
                *x = math::exp(*x - largest);
                *sum += *x;
            }
        }
        let mut sum = sums.iter().sum::<f32>();
        for x in rest {
            *x = math::exp(*x - largest);
            sum += *x;
        }
        total += f64::from(sum);
    }
    total
}

/// `[B, N, heads * d]` to contiguous `[B, heads, N, d]`.
pub(crate) fn split_heads(x: &Tensor, heads: usize) -> Result<Tensor> {
    let (samples, tokens, width) = x.dims3()?;
    x.reshape((samples, tokens, heads, width / heads))?
        .transpose(1, 2)?
        .contiguous()
}

/// `[B, heads, N, d]` to contiguous `[B, N, heads * d]`.
pub(crate) fn merge_heads(x: &Tensor) -> Result<Tensor> {
    x.transpose(1, 2)?.flatten_from(2)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    /// Scores that rise and fall by much, so that the largest changes from block to block.
    fn check(queries: usize, keys: usize, width: usize) {
        let random = |n| Tensor::randn(0f32, 1f32, (1, 2, n, width), &Device::Cpu).unwrap();
        let (q, k, v) = (random(queries), (random(keys) * 4.0).unwrap(), random(keys));
        let scale = 1.0 / (width as f64).sqrt();
        let scores = (q.matmul(&k.transpose(2, 3).unwrap()).unwrap() * scale).unwrap();
        let whole = candle_nn::ops::softmax_last_dim(&scores)
            .unwrap()
            .matmul(&v)
            .unwrap();
        let scaled = (&q * scale).unwrap();
        for found in [
            attention(&q, &k, &v).unwrap(),
            attention_in_chunks(&scaled, &k, &v).unwrap(),
        ] {
            let error = (found - &whole).unwrap().abs().unwrap().max_all().unwrap();
            assert!(error.to_scalar::<f32>().unwrap() < 2e-5);
        }
    }

    #[test]
    fn blocks_and_chunks_give_the_result_of_the_whole() {
        check(70, 30_000, 4);
        check(300, 1_024, 16);
        check(129, 2_049, 8);
        check(5, 77, 64);
        check(1, 1, 3);
    }

    #[test]
    fn what_is_not_a_number_is_not_hidden() {
        let one = |value: f32| Tensor::full(value, (1, 1, 1, 2), &Device::Cpu).unwrap();
        for value in [f32::NAN, f32::INFINITY] {
            let out = attention(&one(1.0), &one(value), &one(1.0)).unwrap();
            let out = out.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert!(out.iter().all(|value| value.is_nan()), "{out:?}");
        }
    }

    #[test]
    fn heads_survive_a_round_trip() {
        let x = Tensor::arange(0f32, 2.0 * 3.0 * 8.0, &Device::Cpu).unwrap();
        let x = x.reshape((2, 3, 8)).unwrap();
        let back = merge_heads(&split_heads(&x, 4).unwrap()).unwrap();
        assert_eq!(back.to_vec3::<f32>().unwrap(), x.to_vec3::<f32>().unwrap());
    }
}
