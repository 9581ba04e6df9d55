//! Sums into a tensor that nobody else uses any more: no new memory, all cores.

use candle_core::{CpuStorage, InplaceOp2, Layout, Result, Tensor, bail};
use rayon::prelude::*;

use super::host::{is_host_f32, values_mut};

/// Values that one core takes at a time.
const PART: usize = 1 << 14;

/// `fresh + other`, of equal shapes. `fresh` must be a result that only the caller holds: its memory
/// becomes the sum's.
pub(crate) fn add_into(fresh: Tensor, other: &Tensor) -> Result<Tensor> {
    if !is_host_f32(&fresh) || !fresh.is_contiguous() || !other.is_contiguous() {
        return fresh + other;
    }
    fresh.inplace_op2(other, &AddSame)?;
    Ok(fresh)
}

/// `fresh + row` for each row of the last side, on the same terms.
pub(crate) fn add_row_into(fresh: Tensor, row: &Tensor) -> Result<Tensor> {
    if !is_host_f32(&fresh) || !fresh.is_contiguous() || !row.is_contiguous() {
        return fresh.broadcast_add(row);
    }
    fresh.inplace_op2(row, &AddRow)?;
    Ok(fresh)
}

struct AddSame;

impl InplaceOp2 for AddSame {
    fn name(&self) -> &'static str {
        "add-same"
    }

    fn cpu_fwd(
        &self,
        sum: &mut CpuStorage,
        sum_layout: &Layout,
        other: &CpuStorage,
        other_layout: &Layout,
    ) -> Result<()> {
        let sum = values_mut(sum, sum_layout)?;
        let other = lent(other, other_layout)?;
        if sum.len() != other.len() {
            bail!("{} values cannot be added to {}", other.len(), sum.len());
        }
        let parts = sum.par_chunks_mut(PART).zip(other.par_chunks(PART));
        parts.for_each(|(sum, other)| sum.iter_mut().zip(other).for_each(|(sum, x)| *sum += x));
        Ok(())
    }
}

struct AddRow;

impl InplaceOp2 for AddRow {
    fn name(&self) -> &'static str {
        "add-row"
    }

    fn cpu_fwd(
        &self,
        sum: &mut CpuStorage,
        sum_layout: &Layout,
        row: &CpuStorage,
        row_layout: &Layout,
    ) -> Result<()> {
        let sum = values_mut(sum, sum_layout)?;
        let row = lent(row, row_layout)?;
        if row.is_empty() || !sum.len().is_multiple_of(row.len()) {
            bail!(
                "a row of {} values cannot be added to {}",
                row.len(),
                sum.len()
            );
        }
        let rows = sum
            .par_chunks_mut(row.len())
            .with_min_len(PART.div_ceil(row.len()));
        rows.for_each(|sum| sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += x));
        Ok(())
    }
}

fn lent<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage.as_slice::<f32>()?[start..end]),
        None => bail!("a sum wants contiguous tensors"),
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn sums_equal_the_library_s() {
        let random = |shape: &[usize]| Tensor::randn(0f32, 1f32, shape, &Device::Cpu).unwrap();
        let values = |t: Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let (x, y, row) = (random(&[2, 300, 70]), random(&[2, 300, 70]), random(&[70]));
        let expected = values((&x + &y).unwrap());
        assert_eq!(values(add_into(x.copy().unwrap(), &y).unwrap()), expected);
        let expected = values(x.broadcast_add(&row).unwrap());
        assert_eq!(
            values(add_row_into(x.copy().unwrap(), &row).unwrap()),
            expected
        );
    }
}
