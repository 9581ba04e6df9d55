//! Writes a network's weights anew: those that the engine reads, checked, in one number format.

use std::cmp::Reverse;
use std::io::Write;

use candle_core::{DType, Tensor};
use safetensors::View;
use safetensors::tensor::{Dtype as StoredDtype, Metadata, TensorInfo};

use super::staging::Staging;
use super::{ImportError, ImportProgress, Load, Watch};
use crate::device::Dtype;
use crate::error::LoadError;
use crate::weights::Weights;

/// A tensor of the file to be.
struct Planned {
    name: String,
    shape: Vec<usize>,
    dtype: DType,
}

impl Planned {
    fn bytes(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.size_in_bytes()
    }
}

/// Writes the tensors that `load` asks for into the network's file, one at a time.
pub(super) fn network(
    network: &'static str,
    weights: &Weights,
    dtype: Option<Dtype>,
    load: Load<'_>,
    staging: &mut Staging,
    watch: &mut Watch<'_>,
) -> Result<(), ImportError> {
    let tensors = plan(weights, dtype, load).map_err(|error| match error {
        LoadError::MissingTensor { path, name } if network == "noise_predictor" => {
            ImportError::NotThePredictor { path, name }
        }
        error => error.into(),
    })?;
    let halves = tensors.iter().all(|tensor| tensor.dtype == DType::F16);
    let suffix = if halves { ".fp16" } else { "" };
    let name = format!("{network}/diffusion_pytorch_model{suffix}.safetensors");

    let mut file = staging.create(&name)?;
    let failed = |source| staging.failed(&name, source);
    file.write_all(&header(&tensors)?).map_err(failed)?;
    let total = tensors.iter().map(|tensor| tensor.bytes() as u64).sum();
    let mut done = 0;
    for planned in &tensors {
        let stored = weights.root().tensor(&planned.name, &planned.shape)?;
        let converted = convert(network, planned, &stored)?;
        file.write_all(&View::data(&converted)).map_err(failed)?;
        done += planned.bytes() as u64;
        let stage = network;
        if watch(ImportProgress { stage, done, total }).is_break() {
            return Err(ImportError::Cancelled);
        }
    }
    staging.close(&name, file)
}

/// What the network asks for, in the order that safetensors files have.
fn plan(
    weights: &Weights,
    dtype: Option<Dtype>,
    load: Load<'_>,
) -> Result<Vec<Planned>, LoadError> {
    let shapes = weights.shapes_like();
    load(&shapes.root())?;
    let mut tensors = Vec::new();
    for (name, shape) in shapes.into_shapes() {
        let stored = weights.dtype_of(&name)?;
        let dtype = match (dtype, stored) {
            (Some(dtype), _) => dtype.into(),
            (None, DType::F16 | DType::BF16) => stored,
            (None, _) => DType::F32,
        };
        tensors.push(Planned { name, shape, dtype });
    }
    tensors.sort_by(|a, b| {
        let key = |t: &Planned| Reverse(StoredDtype::from(t.dtype));
        key(a).cmp(&key(b)).then_with(|| a.name.cmp(&b.name))
    });
    Ok(tensors)
}

/// The start of a safetensors file of these tensors, padded to 8 bytes as its authors do.
fn header(tensors: &[Planned]) -> Result<Vec<u8>, ImportError> {
    let mut infos = Vec::with_capacity(tensors.len());
    let mut offset = 0;
    for tensor in tensors {
        let end = offset + tensor.bytes();
        let info = TensorInfo {
            dtype: tensor.dtype.into(),
            shape: tensor.shape.clone(),
            data_offsets: (offset, end),
        };
        infos.push((tensor.name.clone(), info));
        offset = end;
    }
    let metadata = [("format".to_owned(), "pt".to_owned())].into();
    let header = Metadata::new(Some(metadata), infos).map_err(ImportError::Lay)?;
    let mut text = serde_json::to_vec(&header).map_err(|e| ImportError::Lay(e.into()))?;
    text.resize(text.len().next_multiple_of(8), b' ');
    Ok([&(text.len() as u64).to_le_bytes(), &text[..]].concat())
}

fn convert(
    network: &'static str,
    planned: &Planned,
    stored: &Tensor,
) -> Result<Tensor, ImportError> {
    let name = || planned.name.clone();
    if !is_finite(stored)? {
        let name = name();
        return Err(ImportError::NotFinite { network, name });
    }
    let converted = stored.to_dtype(planned.dtype).map_err(LoadError::Prepare)?;
    if stored.dtype() != planned.dtype && !is_finite(&converted)? {
        let name = name();
        return Err(ImportError::Overflow { network, name });
    }
    Ok(converted)
}

/// Whether no value is an infinity or not a number.
pub(super) fn is_finite(tensor: &Tensor) -> Result<bool, LoadError> {
    let values = tensor
        .to_dtype(DType::F32)
        .and_then(|tensor| tensor.flatten_all()?.to_vec1::<f32>());
    let values = values.map_err(LoadError::Prepare)?;
    Ok(values.iter().all(|value| value.is_finite()))
}
