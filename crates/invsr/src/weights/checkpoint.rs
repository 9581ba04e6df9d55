//! PyTorch checkpoints: a zip archive of one pickle, which describes the tensors, and their data.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use zip::ZipArchive;

use super::pickle::{self, StoredTensor};

/// Why a PyTorch checkpoint could not be read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// It asks for a name that describing tensors does not need.
    #[error(
        "it asks Python for {0}, which no weights need: the file is refused, and nothing in it was run"
    )]
    Refused(String),
    /// A file of PyTorch before 1.6, or a bare pickle.
    #[error(
        "it is in the format of PyTorch before 1.6: if you trust it, write it anew with torch.save(torch.load(FILE, weights_only=True), NEW)"
    )]
    Legacy,
    /// It breaks the rules of its own format.
    #[error("it is damaged or no PyTorch checkpoint: {0}")]
    Damaged(String),
    /// The archive cannot be read.
    #[error("its zip archive cannot be read")]
    Zip(#[from] zip::result::ZipError),
    /// The file cannot be read.
    #[error("it cannot be read")]
    Read(#[from] std::io::Error),
    /// The numbers do not make a tensor.
    #[error("its data do not make a tensor")]
    Tensor(#[from] candle_core::Error),
}

/// An open checkpoint.
pub(super) struct Checkpoint {
    archive: ZipArchive<BufReader<File>>,
    /// The folder of the archive that everything lies in, with its slash.
    folder: String,
    tensors: HashMap<String, StoredTensor>,
}

impl Checkpoint {
    pub(super) fn open(path: &Path) -> Result<Self, CheckpointError> {
        let mut archive = ZipArchive::new(BufReader::new(File::open(path)?))?;
        let mut folders = Vec::new();
        for name in archive.file_names() {
            if let Some(folder) = name?.strip_suffix("data.pkl") {
                folders.push(folder.to_owned());
            }
        }
        let [folder] = &folders[..] else {
            let count = folders.len();
            let what = format!("it has {count} members called data.pkl instead of one");
            return Err(CheckpointError::Damaged(what));
        };
        let folder = folder.clone();
        let order = format!("{folder}byteorder");
        if archive.index_for_name(&order).is_some()
            && member(&mut archive, &order, 16)? != b"little"
        {
            let what = "its numbers are not in little-endian order";
            return Err(CheckpointError::Damaged(what.to_owned()));
        }
        let pickle = member(
            &mut archive,
            &format!("{folder}data.pkl"),
            pickle::MAX_BYTES,
        )?;
        let mut tensors = HashMap::new();
        for (name, tensor) in pickle::read(&pickle)? {
            tensors.insert(name, tensor);
        }
        if tensors.is_empty() {
            let what = "it holds no tensors, neither bare nor under state_dict";
            return Err(CheckpointError::Damaged(what.to_owned()));
        }
        Ok(Self {
            archive,
            folder,
            tensors,
        })
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &String> {
        self.tensors.keys()
    }

    pub(super) fn dtype_of(&self, name: &str) -> Option<DType> {
        Some(self.tensors.get(name)?.storage.dtype)
    }

    pub(super) fn read(&mut self, name: &str) -> Result<Option<Tensor>, CheckpointError> {
        let Some(tensor) = self.tensors.get(name) else {
            return Ok(None);
        };
        let outside = || CheckpointError::Damaged(format!("tensor {name:?} leaves its storage"));
        let size = tensor.storage.dtype.size_in_bytes();
        let end = tensor.end().ok_or_else(outside)?;
        let wanted = end.checked_mul(size).ok_or_else(outside)?;
        let path = format!("{}data/{}", self.folder, tensor.storage.key);
        let storage = member(&mut self.archive, &path, u64::MAX)?;
        let storage = storage.get(..wanted).ok_or_else(outside)?;
        let count: usize = tensor.shape.iter().product();
        let bytes = if tensor.is_contiguous() {
            storage[tensor.offset * size..].to_vec()
        } else {
            let mut bytes = Vec::with_capacity(count * size);
            tensor.for_each_place(|place| {
                bytes.extend_from_slice(&storage[place * size..][..size]);
            });
            bytes
        };
        let dtype = tensor.storage.dtype;
        Ok(Some(Tensor::from_raw_buffer(
            &bytes,
            dtype,
            &tensor.shape,
            &Device::Cpu,
        )?))
    }
}

/// Reads a member of the archive, whose claim of its own length is not believed.
fn member(
    archive: &mut ZipArchive<BufReader<File>>,
    name: &str,
    limit: u64,
) -> Result<Vec<u8>, CheckpointError> {
    let mut bytes = Vec::new();
    archive.by_name(name)?.take(limit).read_to_end(&mut bytes)?;
    if bytes.len() as u64 == limit {
        let what = format!("{name} has {limit} bytes or more");
        return Err(CheckpointError::Damaged(what));
    }
    Ok(bytes)
}

impl StoredTensor {
    /// The place after the tensor's last element; `None` for a tensor without elements, and unless
    /// each of its elements has a place of its own in a storage that memory can hold.
    fn end(&self) -> Option<usize> {
        if self.strides.len() != self.shape.len() {
            return None;
        }
        let count = self
            .shape
            .iter()
            .try_fold(1usize, |count, side| count.checked_mul(*side))?;
        if count == 0 {
            return None;
        }
        let mut last = self.offset;
        for (side, stride) in self.shape.iter().zip(&self.strides) {
            last = last.checked_add((side - 1).checked_mul(*stride)?)?;
        }
        // Repeated places (strides of 0) could claim far more elements than the file has.
        let end = last.checked_add(1)?;
        (count <= end - self.offset).then_some(end)
    }

    fn is_contiguous(&self) -> bool {
        let mut expected = 1;
        for (side, stride) in self.shape.iter().zip(&self.strides).rev() {
            if *side != 1 && *stride != expected {
                return false;
            }
            expected *= side;
        }
        true
    }

    /// Visits the place of each element, in row-major order.
    fn for_each_place(&self, mut visit: impl FnMut(usize)) {
        let mut index = vec![0; self.shape.len()];
        let mut place = self.offset;
        loop {
            visit(place);
            let mut axis = index.len();
            loop {
                let Some(next) = axis.checked_sub(1) else {
                    return;
                };
                axis = next;
                index[axis] += 1;
                place += self.strides[axis];
                if index[axis] < self.shape[axis] {
                    break;
                }
                place -= index[axis] * self.strides[axis];
                index[axis] = 0;
            }
        }
    }
}
