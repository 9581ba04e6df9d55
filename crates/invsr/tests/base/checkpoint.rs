//! Writes PyTorch checkpoints: a zip archive of a pickle and the tensors' data.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use candle_core::Tensor;
use safetensors::View;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// Writes `pickle` and the tensors' data as `torch.save` does.
pub fn write(path: &Path, pickle: &[u8], tensors: &[(String, Tensor)]) {
    let mut archive = ZipWriter::new(File::create(path).unwrap());
    let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    archive.start_file("model/data.pkl", stored).unwrap();
    archive.write_all(pickle).unwrap();
    archive.start_file("model/byteorder", stored).unwrap();
    archive.write_all(b"little").unwrap();
    for (i, (_, tensor)) in tensors.iter().enumerate() {
        archive
            .start_file(format!("model/data/{i}"), stored)
            .unwrap();
        archive.write_all(&View::data(tensor)).unwrap();
    }
    archive.finish().unwrap();
}

/// A pickle of the tensors, in an ordered dictionary.
pub fn bare(tensors: &[(String, Tensor)]) -> Vec<u8> {
    [b"\x80\x02", &dictionary(tensors)[..], b"."].concat()
}

/// A pickle of the tensors under `state_dict`, beside an entry of training.
pub fn under_state_dict(tensors: &[(String, Tensor)]) -> Vec<u8> {
    let mut pickle = b"\x80\x02}(".to_vec();
    pickle.extend(text("epoch"));
    pickle.extend(b"K\x03");
    pickle.extend(text("state_dict"));
    pickle.extend(dictionary(tensors));
    pickle.extend(b"u.");
    pickle
}

/// A dictionary with the tensors and, behind them, what calls `os.system(command)` in Python.
pub fn hostile(tensors: &[(String, Tensor)], command: &str) -> Vec<u8> {
    let mut pickle = b"\x80\x02}(".to_vec();
    pickle.extend(text("state_dict"));
    pickle.extend(dictionary(tensors));
    pickle.extend(text("extra"));
    pickle.extend(b"cos\nsystem\n(");
    pickle.extend(text(command));
    pickle.extend(b"tRu.");
    pickle
}

pub fn text(text: &str) -> Vec<u8> {
    let length = u32::try_from(text.len()).unwrap();
    [b"X", &length.to_le_bytes()[..], text.as_bytes()].concat()
}

fn integer(value: usize) -> Vec<u8> {
    let value = i32::try_from(value).unwrap();
    [b"J", &value.to_le_bytes()[..]].concat()
}

fn dictionary(tensors: &[(String, Tensor)]) -> Vec<u8> {
    let mut pickle = b"ccollections\nOrderedDict\n)R(".to_vec();
    for (i, (name, tensor)) in tensors.iter().enumerate() {
        pickle.extend(text(name));
        pickle.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        pickle.extend(text("storage"));
        let kind = format!("ctorch\n{}\n", storage_kind(tensor));
        pickle.extend(kind.as_bytes());
        pickle.extend([text(&i.to_string()), text("cuda:0")].concat());
        pickle.extend(integer(tensor.elem_count()));
        pickle.extend(b"tQK\x00(");
        pickle.extend(tensor.dims().iter().flat_map(|side| integer(*side)));
        pickle.extend(b"t(");
        pickle.extend(tensor.stride().iter().flat_map(|stride| integer(*stride)));
        pickle.extend(b"t\x89ccollections\nOrderedDict\n)RtR");
    }
    pickle.push(b'u');
    pickle
}

fn storage_kind(tensor: &Tensor) -> &'static str {
    match tensor.dtype() {
        candle_core::DType::F16 => "HalfStorage",
        candle_core::DType::BF16 => "BFloat16Storage",
        _ => "FloatStorage",
    }
}
