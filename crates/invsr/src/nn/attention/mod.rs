//! Softmax attention without a full score matrix: on the CPU in `f32` by `host.rs`, elsewhere by the
//! library's products over chunks of queries.

mod host;

use candle_core::{DType, Result, Tensor, bail};

use self::host::{Operand, Shape};
use super::host::{is_host_f32, with_values};
use super::product::Instructions;

/// Scores held at once for each head of each sample, where not the CPU computes: 4 MiB in `f32`.
const SCORES_PER_CHUNK: usize = 1 << 20;

/// `softmax(q k^T / sqrt(d)) v`, for each head.
///
/// - `q`: `[B, N, heads * d]`; `k`, `v`: `[B, M, heads * d]`, or `[1, M, heads * d]` for all samples.
/// - returns `[B, N, heads * d]`.
pub(crate) fn attention(q: &Tensor, k: &Tensor, v: &Tensor, heads: usize) -> Result<Tensor> {
    let (samples, _, all) = q.dims3()?;
    let shared = [1, k.dim(1)?, all];
    let own = [samples, k.dim(1)?, all];
    if v.dims() != k.dims() || (k.dims() != shared && k.dims() != own) || !all.is_multiple_of(heads)
    {
        bail!(
            "attention of {:?} to {:?}, {:?}",
            q.dims(),
            k.dims(),
            v.dims()
        );
    }
    if is_host_f32(q) {
        return attention_host(Instructions::best(), q, k, v, heads);
    }
    let own = |x: &Tensor| split_heads(&x.broadcast_as(&own)?, heads);
    let scaled = (q * (1.0 / ((all / heads) as f64).sqrt()))?;
    merge_heads(&attention_in_chunks(
        &split_heads(&scaled, heads)?,
        &own(k)?,
        &own(v)?,
    )?)
}

fn attention_host(
    cpu: Instructions,
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    heads: usize,
) -> Result<Tensor> {
    let (_, queries, all) = q.dims3()?;
    let keys = k.dim(1)?;
    let width = all / heads;
    let (q, k, v) = (q.contiguous()?, k.contiguous()?, v.contiguous()?);
    let mut out = vec![0.0; q.elem_count()];
    with_values(&q, |q| {
        with_values(&k, |k| {
            with_values(&v, |v| {
                let each = out
                    .chunks_exact_mut(queries * all)
                    .zip(q.chunks_exact(queries * all));
                let (k, v) = (k.chunks_exact(keys * all), v.chunks_exact(keys * all));
                for ((out, q), (k, v)) in each.zip(k.zip(v).cycle()) {
                    let [k, v] = [k, v].map(|values| Operand {
                        values,
                        tokens: keys,
                    });
                    let q = Operand {
                        values: q,
                        tokens: queries,
                    };
                    host::attend(cpu, Shape { heads, width }, q, k, v, out);
                }
            })
        })
    })???;
    Tensor::from_vec(out, q.shape(), q.device())
}

/// - `q`: `[B, H, N, d]`, scaled; `k`, `v`: `[B, H, M, d]`; contiguous.
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

    fn random(tokens: usize, width: usize) -> Tensor {
        Tensor::randn(0f32, 1f32, (2, tokens, width), &Device::Cpu).unwrap()
    }

    /// Scores that rise and fall by much, so that the largest changes on the way.
    fn check(queries: usize, keys: usize, heads: usize, width: usize) {
        let all = heads * width;
        let (q, k, v) = (
            random(queries, all),
            (random(keys, all) * 4.0).unwrap(),
            random(keys, all),
        );
        let split = |x: &Tensor| split_heads(x, heads).unwrap();
        let scaled = (split(&q) / (width as f64).sqrt()).unwrap();
        let scores = scaled.matmul(&split(&k).transpose(2, 3).unwrap()).unwrap();
        let weights = candle_nn::ops::softmax_last_dim(&scores).unwrap();
        let whole = merge_heads(&weights.matmul(&split(&v)).unwrap()).unwrap();
        let in_chunks = attention_in_chunks(&scaled, &split(&k), &split(&v)).unwrap();
        for found in [
            attention(&q, &k, &v, heads).unwrap(),
            merge_heads(&in_chunks).unwrap(),
        ] {
            let error = (found - &whole).unwrap().abs().unwrap().max_all().unwrap();
            assert!(error.to_scalar::<f32>().unwrap() < 2e-5);
        }
    }

    #[test]
    fn blocks_and_chunks_give_the_result_of_the_whole() {
        check(70, 30_000, 1, 4);
        check(300, 1_024, 3, 16);
        check(129, 2_049, 2, 9);
        check(5, 77, 5, 64);
        check(40, 500, 1, 520);
        check(1, 1, 1, 3);
    }

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        let (q, k, v) = (random(45, 30), random(300, 30), random(300, 30));
        let results = Instructions::all().into_iter().map(|cpu| {
            let out = attention_host(cpu, &q, &k, &v, 3).unwrap();
            out.flatten_all().unwrap().to_vec1::<f32>().unwrap()
        });
        let results: Vec<Vec<f32>> = results.collect();
        assert!(results.iter().all(|result| *result == results[0]));
    }

    #[test]
    fn keys_for_all_samples_are_those_of_each() {
        let (q, k) = (random(9, 12), random(20, 12).narrow(0, 0, 1).unwrap());
        let each = k.broadcast_as((2, 20, 12)).unwrap().contiguous().unwrap();
        let (shared, own) = (attention(&q, &k, &k, 2), attention(&q, &each, &each, 2));
        let values = |y: Result<Tensor>| y.unwrap().to_vec3::<f32>().unwrap();
        assert_eq!(values(shared), values(own));
    }

    #[test]
    fn what_is_not_a_number_is_not_hidden() {
        let one = |value: f32| Tensor::full(value, (1, 1, 2), &Device::Cpu).unwrap();
        for value in [f32::NAN, f32::INFINITY] {
            let out = attention(&one(1.0), &one(value), &one(1.0), 1).unwrap();
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
