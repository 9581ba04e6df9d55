//! Stage tensors as `.npy` files, to be compared with another implementation's.

use std::fs;
use std::path::{Path, PathBuf};

use candle_core::Tensor;

use crate::upscale::Observer;

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
        value
            .contiguous()?
            .write_npy(self.folder.join(format!("{name}.npy")))
    }

    fn wants_tensors(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn a_dumped_tensor_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("new");
        let tensor = Tensor::arange(0f32, 6.0, &Device::Cpu)
            .unwrap()
            .reshape((1, 2, 3))
            .unwrap();
        NpyDump::create(&folder)
            .unwrap()
            .tensor("latent_0", &tensor)
            .unwrap();
        let back = Tensor::read_npy(folder.join("latent_0.npy")).unwrap();
        assert_eq!(
            back.to_vec3::<f32>().unwrap(),
            tensor.to_vec3::<f32>().unwrap()
        );
    }
}
