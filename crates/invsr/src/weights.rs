//! Weights on disk: safetensors files read tensor by tensor, or the released `.pth` checkpoint.
//!
//! Nothing is mapped and no file is held whole, so that loading needs little more memory than the
//! weights themselves. A pickle is only ever read as data.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::Display;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use candle_core::pickle::PthTensors;
use candle_core::{DType, Device, Tensor};
use safetensors::tensor::Metadata;

use crate::error::LoadError;

/// The largest safetensors header accepted, as in the reference implementation of the format.
const MAX_HEADER_BYTES: u64 = 100_000_000;

/// Where the released noise predictor lies when it was never converted.
const RELEASED_CHECKPOINT: &str = "noise_predictor_sd_turbo_v5.pth";

/// One network's weights, handed out in the run's number format on the run's device.
pub(crate) struct Weights {
    path: PathBuf,
    source: Source,
    device: Device,
    dtype: DType,
}

enum Source {
    Safetensors(RefCell<SafetensorsFile>),
    Checkpoint {
        tensors: PthTensors,
        stored_names: HashMap<String, String>,
    },
    #[cfg(test)]
    Held(HashMap<String, Tensor>),
    /// No weights: notes each tensor that a network asks for.
    Shapes(RefCell<Vec<(String, Vec<usize>)>>),
}

impl Weights {
    /// Opens the weights in a network's folder: the diffusers file, with or without the `.fp16`
    /// suffix, else the folder's only `.safetensors` or `.pth`, else (for the noise predictor)
    /// the released checkpoint beside the folder.
    pub(crate) fn open(folder: &Path, device: &Device, dtype: DType) -> Result<Self, LoadError> {
        let path = find(folder)?;
        let source = if path.extension().is_some_and(|extension| extension == "pth") {
            open_checkpoint(&path)
        } else {
            SafetensorsFile::open(&path).map(|file| Source::Safetensors(RefCell::new(file)))
        };
        let source = source.map_err(|source| LoadError::Weights {
            path: path.clone(),
            source,
        })?;
        Ok(Self {
            path,
            source,
            device: device.clone(),
            dtype,
        })
    }

    /// Opens a file of free-standing tensors, such as the encoded prompt.
    pub(crate) fn open_file(path: &Path, device: &Device) -> Result<Self, LoadError> {
        let file = SafetensorsFile::open(path).map_err(|source| LoadError::Weights {
            path: path.to_owned(),
            source,
        })?;
        let source = Source::Safetensors(RefCell::new(file));
        Ok(Self {
            path: path.to_owned(),
            source,
            device: device.clone(),
            dtype: DType::F32,
        })
    }

    /// Holds no weights: a network built from it only says which tensors it would read.
    pub(crate) fn shapes_only() -> Self {
        let source = Source::Shapes(RefCell::default());
        Self {
            path: PathBuf::new(),
            source,
            device: Device::Cpu,
            dtype: DType::F32,
        }
    }

    /// The tensors asked for since [`Weights::shapes_only`], in order.
    pub(crate) fn into_shapes(self) -> Vec<(String, Vec<usize>)> {
        match self.source {
            Source::Shapes(asked) => asked.into_inner(),
            _ => Vec::new(),
        }
    }

    /// Wraps a few tensors.
    #[cfg(test)]
    pub(crate) fn of(tensors: &[(&str, Tensor)]) -> Self {
        let held = tensors
            .iter()
            .map(|(name, tensor)| ((*name).to_owned(), tensor.clone()));
        let source = Source::Held(held.collect());
        Self {
            path: PathBuf::new(),
            source,
            device: Device::Cpu,
            dtype: DType::F32,
        }
    }

    /// The top of the name tree.
    pub(crate) fn root(&self) -> Scope<'_> {
        Scope {
            weights: self,
            prefix: String::new(),
        }
    }

    fn contains(&self, name: &str) -> bool {
        match &self.source {
            Source::Safetensors(file) => file.borrow().header.info(name).is_some(),
            Source::Checkpoint { stored_names, .. } => stored_names.contains_key(name),
            #[cfg(test)]
            Source::Held(tensors) => tensors.contains_key(name),
            Source::Shapes(_) => false,
        }
    }

    fn read(&self, name: &str) -> candle_core::Result<Option<Tensor>> {
        let tensor = match &self.source {
            Source::Safetensors(file) => file.borrow_mut().read(name, &self.device)?,
            Source::Checkpoint {
                tensors,
                stored_names,
            } => match stored_names.get(name) {
                Some(stored) => tensors.get(stored)?,
                None => None,
            },
            #[cfg(test)]
            Source::Held(tensors) => tensors.get(name).cloned(),
            Source::Shapes(_) => None,
        };
        match tensor {
            Some(tensor) => Ok(Some(
                tensor
                    .to_device(&self.device)?
                    .to_dtype(self.dtype)?
                    .contiguous()?,
            )),
            None => Ok(None),
        }
    }
}

/// A place in a network's tree of names.
#[derive(Clone)]
pub(crate) struct Scope<'a> {
    weights: &'a Weights,
    prefix: String,
}

impl Scope<'_> {
    /// The place `name` below this one.
    pub(crate) fn at(&self, name: impl Display) -> Self {
        Self {
            weights: self.weights,
            prefix: format!("{}{name}.", self.prefix),
        }
    }

    /// Whether this place holds a tensor called `leaf`.
    pub(crate) fn has(&self, leaf: &str) -> bool {
        self.weights.contains(&format!("{}{leaf}", self.prefix))
    }

    /// Reads the tensor `leaf`. Trailing sides of 1 do not count, since old files store some
    /// linear layers as 1x1 convolutions.
    pub(crate) fn tensor(&self, leaf: &str, expected: &[usize]) -> Result<Tensor, LoadError> {
        let name = format!("{}{leaf}", self.prefix);
        let path = || self.weights.path.clone();
        if let Source::Shapes(asked) = &self.weights.source {
            asked.borrow_mut().push((name, expected.to_vec()));
            return Tensor::zeros((), DType::F32, &Device::Cpu)
                .and_then(|zero| zero.broadcast_as(expected))
                .map_err(LoadError::Prepare);
        }
        let tensor = self.any_shape(leaf)?;
        if without_unit_tail(tensor.dims()) != without_unit_tail(expected) {
            let (found, expected) = (tensor.dims().to_vec(), expected.to_vec());
            return Err(LoadError::TensorShape {
                path: path(),
                name,
                found,
                expected,
            });
        }
        tensor
            .reshape(expected)
            .map_err(|source| LoadError::Weights {
                path: path(),
                source,
            })
    }

    /// Reads the tensor `leaf`, whatever its shape.
    pub(crate) fn any_shape(&self, leaf: &str) -> Result<Tensor, LoadError> {
        let name = format!("{}{leaf}", self.prefix);
        let path = || self.weights.path.clone();
        match self.weights.read(&name) {
            Ok(Some(tensor)) => Ok(tensor),
            Ok(None) => Err(LoadError::MissingTensor { path: path(), name }),
            Err(source) => Err(LoadError::Weights {
                path: path(),
                source,
            }),
        }
    }
}

fn without_unit_tail(mut shape: &[usize]) -> &[usize] {
    while let [head @ .., 1] = shape {
        shape = head;
    }
    shape
}

fn find(folder: &Path) -> Result<PathBuf, LoadError> {
    for name in [
        "diffusion_pytorch_model.safetensors",
        "diffusion_pytorch_model.fp16.safetensors",
    ] {
        let path = folder.join(name);
        if path.is_file() {
            return Ok(path);
        }
    }
    let entries = fs::read_dir(folder).map_err(|source| LoadError::Read {
        path: folder.to_owned(),
        source,
    })?;
    let mut candidates: Vec<PathBuf> = entries.filter_map(|e| e.ok().map(|e| e.path())).collect();
    candidates.sort();
    if folder
        .file_name()
        .is_some_and(|name| name == "noise_predictor")
    {
        candidates.push(folder.with_file_name(RELEASED_CHECKPOINT));
    }
    for extension in ["safetensors", "pth"] {
        let mut found = candidates
            .iter()
            .filter(|path| path.extension().is_some_and(|end| end == extension) && path.is_file());
        if let Some(path) = found.next() {
            return Ok(path.clone());
        }
    }
    Err(LoadError::NoWeights(folder.to_owned()))
}

/// Opens a PyTorch checkpoint: a dictionary of tensors, bare or under `state_dict`, whose names
/// may carry the prefixes that parallel and compiled training leave behind.
fn open_checkpoint(path: &Path) -> candle_core::Result<Source> {
    let mut tensors = PthTensors::new(path, None)?;
    if tensors.tensor_infos().is_empty() {
        tensors = PthTensors::new(path, Some("state_dict"))?;
    }
    let plain = |name: &str| {
        let name = name.strip_prefix("module.").unwrap_or(name);
        name.strip_prefix("_orig_mod.").unwrap_or(name).to_owned()
    };
    let stored_names = tensors
        .tensor_infos()
        .keys()
        .map(|stored| (plain(stored), stored.clone()))
        .collect();
    Ok(Source::Checkpoint {
        tensors,
        stored_names,
    })
}

/// A safetensors file, open at its data.
struct SafetensorsFile {
    file: File,
    header: Metadata,
    data_start: u64,
}

impl SafetensorsFile {
    fn open(path: &Path) -> candle_core::Result<Self> {
        let mut file = File::open(path)?;
        let mut length = [0; 8];
        file.read_exact(&mut length)?;
        let length = u64::from_le_bytes(length);
        if length > MAX_HEADER_BYTES {
            return Err(damaged("its header is too long"));
        }
        let mut header = Vec::new();
        file.by_ref().take(length).read_to_end(&mut header)?;
        let header: Metadata =
            serde_json::from_slice(&header).map_err(|e| damaged(&format!("its header: {e}")))?;
        let data_start = 8 + length;
        if file.metadata()?.len() < data_start + header.data_len() as u64 {
            return Err(damaged("it is cut short"));
        }
        Ok(Self {
            file,
            header,
            data_start,
        })
    }

    fn read(&mut self, name: &str, device: &Device) -> candle_core::Result<Option<Tensor>> {
        let Some(info) = self.header.info(name) else {
            return Ok(None);
        };
        let (begin, end) = info.data_offsets;
        let mut bytes = vec![0; end - begin];
        self.file
            .seek(SeekFrom::Start(self.data_start + begin as u64))?;
        self.file.read_exact(&mut bytes)?;
        Tensor::from_raw_buffer(&bytes, DType::try_from(info.dtype)?, &info.shape, device).map(Some)
    }
}

fn damaged(what: &str) -> candle_core::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("not a safetensors file: {what}"),
    )
    .into()
}
