//! Stage tensors as `.npy` files, to be compared with another implementation's.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use candle_core::Tensor;

use crate::nn::host;
use crate::upscale::Observer;

/// Data begin at a multiple of this, as the format asks.
const ALIGNMENT: usize = 64;

/// An [`Observer`] that writes every stage tensor to `NAME.npy` in a folder.
#[derive(Debug)]
pub struct NpyDump {
    folder: PathBuf,
}

impl NpyDump {
    /// Makes the folder, if it is not there.
    ///
    /// # Errors
    /// What the file system says.
    pub fn create(folder: &Path) -> std::io::Result<Self> {
        fs::create_dir_all(folder)?;
        Ok(Self {
            folder: folder.to_owned(),
        })
    }
}

impl Observer for NpyDump {
    fn tensor(&mut self, name: &str, value: &Tensor) -> Result<(), candle_core::Error> {
        let path = self.folder.join(format!("{name}.npy"));
        host::with_values(&value.contiguous()?, |values| {
            write(&path, value.dims(), values)
        })?
        .map_err(|error| candle_core::Error::from(error).with_path(path))
    }

    fn wants_tensors(&self) -> bool {
        true
    }
}

/// Writes one array, version 1.0 of the format. The tensor library's own writer makes a system call
/// for every value.
fn write(path: &Path, shape: &[usize], values: &[f32]) -> io::Result<()> {
    let sides = match shape {
        [side] => format!("{side},"),
        sides => sides
            .iter()
            .map(usize::to_string)
            .collect::<Vec<_>>()
            .join(", "),
    };
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({sides}), }}");
    let before = b"\x93NUMPY\x01\x00".len() + size_of::<u16>();
    let length = (before + header.len() + 1).next_multiple_of(ALIGNMENT) - before;
    let stored = u16::try_from(length).map_err(io::Error::other)?;

    let mut file = BufWriter::new(File::create(path)?);
    file.write_all(b"\x93NUMPY\x01\x00")?;
    file.write_all(&stored.to_le_bytes())?;
    writeln!(file, "{header:<width$}", width = length - 1)?;
    for value in values {
        file.write_all(&value.to_le_bytes())?;
    }
    file.flush()
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn a_dumped_tensor_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("new");
        let mut dump = NpyDump::create(&folder).unwrap();
        let row = Tensor::arange(0f32, 6.0, &Device::Cpu).unwrap();
        for shape in [vec![6], vec![1, 2, 3]] {
            let tensor = row.reshape(shape).unwrap();
            dump.tensor("latent_0", &tensor).unwrap();
            let back = Tensor::read_npy(folder.join("latent_0.npy")).unwrap();
            assert_eq!(back.dims(), tensor.dims());
            let values = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert_eq!(values(&back), values(&tensor));
        }
        // Data aligned, as the format asks: 6 values behind a whole number of stretches.
        let bytes = fs::read(folder.join("latent_0.npy")).unwrap();
        assert_eq!(bytes.len() % ALIGNMENT, 6 * size_of::<f32>());
    }
}
