//! Softmax attention in chunks of queries, so that a full score matrix never exists.

use candle_core::{CpuStorage, DType, InplaceOp1, Layout, Result, Tensor};
use rayon::prelude::*;

use super::host::{is_host_f32, values_mut};
use super::math;

/// Scores held at once for each head of each sample: 4 MiB in `f32`.
const SCORES_PER_CHUNK: usize = 1 << 20;

/// `softmax(q k^T / sqrt(d)) v`.
///
/// - `q`: `[B, H, N, d]`; `k`, `v`: `[B, H, M, d]`; contiguous.
/// - returns `[B, H, N, d]`.
pub(crate) fn attention(q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor> {
    let (_, _, queries, head_dim) = q.dims4()?;
    let q = (q * (1.0 / (head_dim as f64).sqrt()))?;
    let k = k.transpose(2, 3)?;
    let chunk = queries_at_once(queries, k.dim(3)?);
    let mut parts = Vec::with_capacity(queries.div_ceil(chunk));
    for start in (0..queries).step_by(chunk) {
        let scores = q.narrow(2, start, chunk.min(queries - start))?.matmul(&k)?;
        parts.push(softmax(scores)?.matmul(v)?);
    }
    if let [whole] = &parts[..] {
        return Ok(whole.clone());
    }
    Tensor::cat(&parts, 2)
}

fn queries_at_once(queries: usize, keys: usize) -> usize {
    (SCORES_PER_CHUNK / keys).clamp(1, queries)
}

/// The scores that exist at once for a head of a sample.
pub(crate) fn attention_scores(queries: usize, keys: usize) -> usize {
    queries_at_once(queries, keys) * keys
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

fn softmax(scores: Tensor) -> Result<Tensor> {
    if is_host_f32(&scores) {
        let width = scores.dim(3)?;
        scores.inplace_op1(&SoftmaxRows { width })?;
        return Ok(scores);
    }
    let dtype = scores.dtype();
    candle_nn::ops::softmax_last_dim(&scores.to_dtype(DType::F32)?)?.to_dtype(dtype)
}

/// Softmax over rows of `width` values, in place.
struct SoftmaxRows {
    width: usize,
}

impl InplaceOp1 for SoftmaxRows {
    fn name(&self) -> &'static str {
        "softmax-rows"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let values = values_mut(storage, layout)?;
        values
            .par_chunks_mut(self.width)
            .with_min_len(4)
            .for_each(softmax_row);
        Ok(())
    }
}

fn softmax_row(row: &mut [f32]) {
    /// Values whose `f32` sum is still exact enough.
    const BLOCK: usize = 256;
    const LANES: usize = 8;
    let mut largest = [f32::NEG_INFINITY; LANES];
    for chunk in row.chunks(LANES) {
        for (largest, x) in largest.iter_mut().zip(chunk) {
            *largest = if *x > *largest { *x } else { *largest };
        }
    }
    let largest = largest.into_iter().fold(f32::NEG_INFINITY, f32::max);
    let mut total = 0.0f64;
    for block in row.chunks_mut(BLOCK) {
        let mut sums = [0.0f32; LANES];
        for chunk in block.chunks_mut(LANES) {
            for (sum, x) in sums.iter_mut().zip(chunk) {
                *x = math::exp(*x - largest);
                *sum += *x;
            }
        }
        total += f64::from(sums.iter().sum::<f32>());
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the factor has the data's precision"
    )]
    let factor = (1.0 / total) as f32;
    row.iter_mut().for_each(|x| *x *= factor);
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn chunks_of_queries_give_the_unchunked_result() {
        let (queries, keys, width) = (70, 30_000, 4);
        let random = |n| Tensor::randn(0f32, 1f32, (1, 2, n, width), &Device::Cpu).unwrap();
        let (q, k, v) = (random(queries), random(keys), random(keys));
        let chunked = attention(&q, &k, &v).unwrap();
        let scores = (q.matmul(&k.transpose(2, 3).unwrap()).unwrap() * 0.5).unwrap();
        let whole = candle_nn::ops::softmax_last_dim(&scores)
            .unwrap()
            .matmul(&v)
            .unwrap();
        let error = (chunked - whole).unwrap().abs().unwrap().max_all().unwrap();
        assert!(error.to_scalar::<f32>().unwrap() < 1e-5);
    }

    #[test]
    fn heads_survive_a_round_trip() {
        let x = Tensor::arange(0f32, 2.0 * 3.0 * 8.0, &Device::Cpu).unwrap();
        let x = x.reshape((2, 3, 8)).unwrap();
        let back = merge_heads(&split_heads(&x, 4).unwrap()).unwrap();
        assert_eq!(back.to_vec3::<f32>().unwrap(), x.to_vec3::<f32>().unwrap());
    }
}
