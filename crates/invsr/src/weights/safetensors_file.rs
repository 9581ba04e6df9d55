//! Safetensors files, read tensor by tensor.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use safetensors::tensor::Metadata;

/// The largest header accepted, as in the reference implementation of the format.
const MAX_HEADER_BYTES: u64 = 100_000_000;

/// Bytes that are read at a time: they stay in the core's cache until they are numbers.
const PIECE: usize = 256 << 10;

/// A safetensors file, open at its data.
pub(super) struct SafetensorsFile {
    file: File,
    header: Metadata,
    data_start: u64,
}

impl SafetensorsFile {
    pub(super) fn open(path: &Path) -> candle_core::Result<Self> {
        let mut file = File::open(path)?;
        let mut length = [0; 8];
        file.read_exact(&mut length)
            .map_err(|_| damaged("it is cut short"))?;
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

    pub(super) fn names(&self) -> Vec<String> {
        self.header.offset_keys()
    }

    /// `None` also for a format that tensors here cannot have.
    pub(super) fn dtype_of(&self, name: &str) -> Option<DType> {
        DType::try_from(self.header.info(name)?.dtype).ok()
    }

    pub(super) fn read(
        &mut self,
        name: &str,
        device: &Device,
    ) -> candle_core::Result<Option<Tensor>> {
        let Some(info) = self.header.info(name) else {
            return Ok(None);
        };
        let (begin, end) = info.data_offsets;
        let (dtype, shape) = (DType::try_from(info.dtype)?, info.shape.as_slice());
        self.file
            .seek(SeekFrom::Start(self.data_start + begin as u64))?;
        let bytes = end - begin;
        let tensor = match dtype {
            // Of gigabytes, once: fresh memory costs as much as what is written into it.
            DType::F32 => {
                let values = numbers(&mut self.file, bytes, f32::from_le_bytes)?;
                Tensor::from_vec(values, shape, device)
            }
            _ => {
                let values = numbers(&mut self.file, bytes, u8::from_le_bytes)?;
                Tensor::from_raw_buffer(&values, dtype, shape, device)
            }
        };
        tensor.map(Some)
    }
}

/// Reads so many bytes as numbers of `N` bytes each.
fn numbers<const N: usize, T>(
    file: &mut File,
    bytes: usize,
    number: impl Fn([u8; N]) -> T,
) -> io::Result<Vec<T>> {
    let mut numbers = Vec::with_capacity(bytes / N);
    let mut piece = vec![0; PIECE.min(bytes)];
    let mut left = bytes;
    while left > 0 {
        let piece = &mut piece[..PIECE.min(left)];
        file.read_exact(piece)?;
        let (words, _) = piece.as_chunks();
        numbers.extend(words.iter().map(|word| number(*word)));
        left -= piece.len();
    }
    Ok(numbers)
}

fn damaged(what: &str) -> candle_core::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("not a safetensors file: {what}"),
    )
    .into()
}
