//! Safetensors files, read tensor by tensor.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;
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

    pub(super) fn read(&self, name: &str, device: &Device) -> candle_core::Result<Option<Tensor>> {
        let Some(info) = self.header.info(name) else {
            return Ok(None);
        };
        let (begin, end) = info.data_offsets;
        let (dtype, shape) = (DType::try_from(info.dtype)?, info.shape.as_slice());
        let place = (self.data_start + begin as u64, end - begin);
        let tensor = match dtype {
            // Of gigabytes, once: fresh memory costs as much as what is written into it.
            DType::F32 => {
                let values = numbers(&self.file, place, f32::from_le_bytes)?;
                Tensor::from_vec(values, shape, device)
            }
            _ => {
                let values = numbers(&self.file, place, u8::from_le_bytes)?;
                Tensor::from_raw_buffer(&values, dtype, shape, device)
            }
        };
        tensor.map(Some)
    }
}

/// Reads what begins at a place of the file and has so many bytes, as numbers of `N` bytes each, on all cores.
fn numbers<const N: usize, T: Clone + Default + Send>(
    file: &File,
    (start, bytes): (u64, usize),
    number: impl Fn([u8; N]) -> T + Sync,
) -> io::Result<Vec<T>> {
    let mut numbers = vec![T::default(); bytes / N];
    let pieces = numbers.par_chunks_mut(PIECE / N).enumerate();
    pieces.try_for_each_init(
        || vec![0; PIECE],
        |piece, (i, numbers)| {
            let piece = &mut piece[..numbers.len() * N];
            file.read_exact_at(piece, start + (i * PIECE) as u64)?;
            let (words, _) = piece.as_chunks();
            for (slot, word) in numbers.iter_mut().zip(words) {
                *slot = number(*word);
            }
            io::Result::Ok(())
        },
    )?;
    Ok(numbers)
}

fn damaged(what: &str) -> candle_core::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("not a safetensors file: {what}"),
    )
    .into()
}
