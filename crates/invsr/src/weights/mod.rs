//! Weights on disk: safetensors files read tensor by tensor, or PyTorch checkpoints.
//!
//! Nothing is mapped and no file is held whole, so that loading needs little more memory than the
//! weights themselves. A pickle is only ever read as data.

mod checkpoint;
mod locate;
mod names;
mod pickle;
mod safetensors_file;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::fmt::Display;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};

use self::checkpoint::Checkpoint;
pub use self::checkpoint::CheckpointError;
use self::locate::Kind;
use self::safetensors_file::SafetensorsFile;
use crate::error::LoadError;

/// One network's weights, handed out in the run's number format on the run's device.
pub(crate) struct Weights {
    path: PathBuf,
    source: Source,
    device: Device,
    /// `None`: each tensor as it is stored.
    dtype: Option<DType>,
}

enum Source {
    Files {
        files: Vec<RefCell<Stored>>,
        /// Which file holds a tensor, and its name there, by its plain name.
        places: HashMap<String, (usize, String)>,
    },
    #[cfg(test)]
    Held(HashMap<String, Tensor>),
    /// No weights: notes each tensor that a network asks for. `present` are said to be there.
    Shapes {
        present: HashSet<String>,
        asked: RefCell<Vec<(String, Vec<usize>)>>,
    },
}

enum Stored {
    Safetensors(SafetensorsFile),
    Checkpoint(Checkpoint),
}

impl Weights {
    /// Opens the weights in a network's folder: the diffusers files, with or without the `.fp16`
    /// suffix, else the folder's only `.safetensors` or `.pth`, else (for the noise predictor)
    /// the released checkpoint beside the folder.
    pub(crate) fn open(folder: &Path, device: &Device, dtype: DType) -> Result<Self, LoadError> {
        Self::open_files(&locate::files(folder)?, device, Some(dtype))
    }

    /// The same, in main memory and in the number format that they are stored in.
    pub(crate) fn open_as_stored(folder: &Path) -> Result<Self, LoadError> {
        Self::open_files(&locate::files(folder)?, &Device::Cpu, None)
    }

    /// Opens one file of either kind, in main memory and in the number format that it has.
    pub(crate) fn open_file_as_stored(path: &Path) -> Result<Self, LoadError> {
        Self::open_files(&[path.to_owned()], &Device::Cpu, None)
    }

    /// Opens a file of free-standing tensors, such as the encoded prompt.
    pub(crate) fn open_file(path: &Path, device: &Device) -> Result<Self, LoadError> {
        Self::open_files(&[path.to_owned()], device, Some(DType::F32))
    }

    fn open_files(
        paths: &[PathBuf],
        device: &Device,
        dtype: Option<DType>,
    ) -> Result<Self, LoadError> {
        let mut files = Vec::with_capacity(paths.len());
        let mut places = HashMap::new();
        for (i, path) in paths.iter().enumerate() {
            let file = Stored::open(path)?;
            for name in file.names() {
                let plain = plain_name(&name).to_owned();
                if places.insert(plain.clone(), (i, name)).is_some() {
                    return Err(LoadError::TwiceTheTensor {
                        path: path.clone(),
                        name: plain,
                    });
                }
            }
            files.push(RefCell::new(file));
        }
        Ok(Self {
            path: paths.first().cloned().unwrap_or_default(),
            source: Source::Files { files, places },
            device: device.clone(),
            dtype,
        })
    }

    /// Holds no weights: a network built from it only says which tensors it would read.
    pub(crate) fn shapes_only() -> Self {
        Self::shapes_with(HashSet::new())
    }

    /// Holds no weights, but has the names of these: a network built from it says which tensors of
    /// theirs it would read, and their shapes.
    pub(crate) fn shapes_like(&self) -> Self {
        Self::shapes_with(match &self.source {
            Source::Files { places, .. } => places.keys().cloned().collect(),
            #[cfg(test)]
            Source::Held(tensors) => tensors.keys().cloned().collect(),
            Source::Shapes { present, .. } => present.clone(),
        })
    }

    fn shapes_with(present: HashSet<String>) -> Self {
        let asked = RefCell::default();
        Self {
            path: PathBuf::new(),
            source: Source::Shapes { present, asked },
            device: Device::Cpu,
            dtype: None,
        }
    }

    /// The tensors asked for since [`Weights::shapes_only`], in order.
    pub(crate) fn into_shapes(self) -> Vec<(String, Vec<usize>)> {
        match self.source {
            Source::Shapes { asked, .. } => asked.into_inner(),
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
            dtype: Some(DType::F32),
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
            Source::Files { places, .. } => places.contains_key(name),
            #[cfg(test)]
            Source::Held(tensors) => tensors.contains_key(name),
            Source::Shapes { present, .. } => present.contains(name),
        }
    }

    /// The number format that a tensor is stored in.
    pub(crate) fn dtype_of(&self, name: &str) -> Result<DType, LoadError> {
        let dtype = match &self.source {
            Source::Files { files, places } => places
                .get(name)
                .and_then(|(file, stored)| files[*file].borrow().dtype_of(stored)),
            #[cfg(test)]
            Source::Held(tensors) => tensors.get(name).map(Tensor::dtype),
            Source::Shapes { .. } => None,
        };
        dtype.ok_or_else(|| LoadError::MissingTensor {
            path: self.path.clone(),
            name: name.to_owned(),
        })
    }

    fn read(&self, name: &str) -> Result<Option<Tensor>, LoadError> {
        let tensor = match &self.source {
            Source::Files { files, places } => match places.get(name) {
                Some((file, stored)) => {
                    let mut file = files[*file].borrow_mut();
                    file.read(stored, &self.path, &self.device)?
                }
                None => None,
            },
            #[cfg(test)]
            Source::Held(tensors) => tensors.get(name).cloned(),
            Source::Shapes { .. } => None,
        };
        let Some(tensor) = tensor else {
            return Ok(None);
        };
        let dtype = self.dtype.unwrap_or(tensor.dtype());
        let ready = tensor
            .to_device(&self.device)
            .and_then(|tensor| tensor.to_dtype(dtype)?.contiguous());
        ready.map(Some).map_err(|source| LoadError::Weights {
            path: self.path.clone(),
            source,
        })
    }
}

/// A tensor's name without the prefixes that parallel and compiled training leave behind.
fn plain_name(mut name: &str) -> &str {
    while let Some(rest) = name
        .strip_prefix("module.")
        .or_else(|| name.strip_prefix("_orig_mod."))
    {
        name = rest;
    }
    name
}

impl Stored {
    fn open(path: &Path) -> Result<Self, LoadError> {
        let failed = |source| LoadError::Checkpoint {
            path: path.to_owned(),
            source,
        };
        let kind = Kind::of(path).map_err(|source| LoadError::Read {
            path: path.to_owned(),
            source,
        })?;
        match kind {
            Kind::Safetensors => {
                SafetensorsFile::open(path)
                    .map(Self::Safetensors)
                    .map_err(|source| LoadError::Weights {
                        path: path.to_owned(),
                        source,
                    })
            }
            Kind::Checkpoint => Checkpoint::open(path).map(Self::Checkpoint).map_err(failed),
            Kind::Legacy => Err(failed(CheckpointError::Legacy)),
            Kind::LfsPointer => Err(LoadError::LfsPointer(path.to_owned())),
            Kind::WebPage => Err(LoadError::WebPage(path.to_owned())),
        }
    }

    fn names(&self) -> Vec<String> {
        match self {
            Self::Safetensors(file) => file.names(),
            Self::Checkpoint(checkpoint) => checkpoint.names().cloned().collect(),
        }
    }

    fn dtype_of(&self, name: &str) -> Option<DType> {
        match self {
            Self::Safetensors(file) => file.dtype_of(name),
            Self::Checkpoint(checkpoint) => checkpoint.dtype_of(name),
        }
    }

    fn read(
        &mut self,
        name: &str,
        path: &Path,
        device: &Device,
    ) -> Result<Option<Tensor>, LoadError> {
        let path = || path.to_owned();
        match self {
            Self::Safetensors(file) => {
                file.read(name, device)
                    .map_err(|source| LoadError::Weights {
                        path: path(),
                        source,
                    })
            }
            Self::Checkpoint(checkpoint) => {
                checkpoint
                    .read(name)
                    .map_err(|source| LoadError::Checkpoint {
                        path: path(),
                        source,
                    })
            }
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

    /// Whether nothing is behind the tensors: they are only asked for so that their shapes are known.
    pub(crate) fn notes_shapes_only(&self) -> bool {
        matches!(self.weights.source, Source::Shapes { .. })
    }

    /// Reads the tensor `leaf`. Trailing sides of 1 do not count, since old files store some
    /// linear layers as 1x1 convolutions.
    pub(crate) fn tensor(&self, leaf: &str, expected: &[usize]) -> Result<Tensor, LoadError> {
        let name = format!("{}{leaf}", self.prefix);
        let path = || self.weights.path.clone();
        if let Source::Shapes { asked, .. } = &self.weights.source {
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
        let missing = || LoadError::MissingTensor {
            path: self.weights.path.clone(),
            name: name.clone(),
        };
        self.weights.read(&name)?.ok_or_else(missing)
    }
}

fn without_unit_tail(mut shape: &[usize]) -> &[usize] {
    while let [head @ .., 1] = shape {
        shape = head;
    }
    shape
}
