//! The way from tensors to plain slices, for the layers that have a CPU path of their own.

use candle_core::{CpuStorage, DType, Layout, Result, Storage, Tensor, bail};

/// Whether the CPU paths apply: `f32` on the CPU.
pub(crate) fn is_host_f32(tensor: &Tensor) -> bool {
    tensor.device().is_cpu() && tensor.dtype() == DType::F32
}

/// Lends the values of a contiguous `f32` tensor on the CPU.
pub(crate) fn with_values<R>(tensor: &Tensor, read: impl FnOnce(&[f32]) -> R) -> Result<R> {
    let (storage, layout) = tensor.storage_and_layout();
    let Storage::Cpu(storage) = &*storage else {
        bail!(
            "a tensor that should lie in main memory lies on {:?}",
            tensor.device().location()
        );
    };
    let Some((start, end)) = layout.contiguous_offsets() else {
        bail!(
            "a tensor of shape {:?} should be contiguous",
            tensor.shape()
        );
    };
    Ok(read(&storage.as_slice::<f32>()?[start..end]))
}

/// Lends the values of an `f32` tensor on the CPU from its first on, and the strides of its sides.
pub(crate) fn with_strided<R>(
    tensor: &Tensor,
    read: impl FnOnce(&[f32], &[usize]) -> R,
) -> Result<R> {
    let (storage, layout) = tensor.storage_and_layout();
    let Storage::Cpu(storage) = &*storage else {
        bail!(
            "a tensor that should lie in main memory lies on {:?}",
            tensor.device().location()
        );
    };
    let values = &storage.as_slice::<f32>()?[layout.start_offset()..];
    Ok(read(values, layout.stride()))
}

/// Lends the values of a contiguous storage for writing, to an in-place operation.
pub(crate) fn values_mut<'a>(
    storage: &'a mut CpuStorage,
    layout: &Layout,
) -> Result<&'a mut [f32]> {
    let CpuStorage::F32(values) = storage else {
        bail!("an in-place operation wants f32");
    };
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&mut values[start..end]),
        None => bail!("an in-place operation wants a contiguous tensor"),
    }
}
