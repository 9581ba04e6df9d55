use std::fs::File;
use std::io::{Read as _, Write as _};

use proptest::prelude::*;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use super::*;

/// What `torch.save` writes, see `tests/fixtures/record_checkpoint.py`.
fn saved_by_torch() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/torch.pth")
}

fn pickle_of_torch() -> Vec<u8> {
    let mut archive = ZipArchive::new(File::open(saved_by_torch()).unwrap()).unwrap();
    let mut pickle = Vec::new();
    let mut member = archive.by_name("torch/data.pkl").unwrap();
    member.read_to_end(&mut pickle).unwrap();
    pickle
}

/// An archive of these members, stored plainly.
fn archive(members: &[(&str, &[u8])]) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut archive = ZipWriter::new(file.reopen().unwrap());
    let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    for (name, bytes) in members {
        archive.start_file(*name, stored).unwrap();
        archive.write_all(bytes).unwrap();
    }
    archive.finish().unwrap();
    file
}

/// A dictionary with one tensor `t` of the given offset, sides and strides in a storage of floats.
fn one_tensor(offset: u8, shape: &[u8], strides: &[u8]) -> Vec<u8> {
    let numbers = |numbers: &[u8]| {
        let items: Vec<u8> = numbers.iter().flat_map(|n| [b'K', *n]).collect();
        [b"(", &items[..], b"t"].concat()
    };
    [
        b"}X\x01\0\0\0tctorch._utils\n_rebuild_tensor_v2\n(",
        &b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x04tQ"[..],
        &[b'K', offset],
        &numbers(shape),
        &numbers(strides),
        b"\x89NtRs.",
    ]
    .concat()
}

fn told(result: std::result::Result<impl Sized, CheckpointError>) -> String {
    result.map(drop).unwrap_err().to_string()
}

#[test]
fn what_torch_saves_is_read() {
    let weights = Weights::open_file_as_stored(&saved_by_torch()).unwrap();
    let count: Vec<f32> = (0..24u8).map(f32::from).collect();
    let reshaped = |shape: &[usize]| Tensor::from_slice(&count, shape, &Device::Cpu).unwrap();
    let values = |tensor: Tensor| {
        let tensor = tensor.to_dtype(DType::F32).unwrap().flatten_all();
        tensor.unwrap().to_vec1::<f32>().unwrap()
    };
    let read = |name: &str, shape: &[usize]| values(weights.root().tensor(name, shape).unwrap());
    assert_eq!(read("plain", &[2, 3, 4]), count);
    assert_eq!(read("parameter", &[4]), [0.0, 0.5, 1.0, 1.5]);
    assert_eq!(read("half", &[3]), [0.0, 1.0, 2.0]);
    assert_eq!(read("bfloat", &[3]), [0.0, 1.0, 2.0]);
    let transposed = reshaped(&[4, 6]).t().unwrap().contiguous().unwrap();
    assert_eq!(read("transposed", &[6, 4]), values(transposed));
    assert_eq!(read("channels_last", &[1, 2, 3, 4]), count);
    assert_eq!(read("view", &[4]), count[5..9]);
    assert_eq!(weights.dtype_of("half").unwrap(), DType::F16);
    assert_eq!(weights.dtype_of("bfloat").unwrap(), DType::BF16);
    assert!(!weights.root().has("epoch"));
}

#[test]
fn every_beginning_of_a_pickle_is_refused() {
    let pickle = pickle_of_torch();
    assert!(pickle::read(&pickle).is_ok());
    for end in 0..pickle.len() {
        assert!(pickle::read(&pickle[..end]).is_err(), "cut at {end}");
    }
}

#[test]
fn names_that_describe_no_tensor_are_refused_by_name() {
    for (pickle, name) in [
        (&b"cos\nsystem\n(X\x02\0\0\0lstR."[..], "os.system"),
        (b"cbuiltins\neval\n.", "builtins.eval"),
        (b"\x80\x04\x8c\x05posix\x8c\x06system\x93.", "posix.system"),
        (b"ctorch\nload\n.", "torch.load"),
        (b"ctorch._utils\n_rebuild_tensor_v2\n)R.", "unknown way"),
        (b"X\x01\0\0\0a)R.", "what is no name"),
        (b"iposix\nsystem\n.", "0x69"),
    ] {
        let told = told(pickle::read(pickle));
        assert!(told.contains(name), "{told}");
    }
}

#[test]
fn doubling_and_nesting_cost_no_more_than_their_length() {
    // A tuple of twice the same tuple, sixty levels deep: 2^60 values if they were copied.
    let mut doubled = b")q\0".to_vec();
    for level in 0..60 {
        doubled.extend([b'h', level, b'h', level, 0x86, b'q', level + 1]);
    }
    doubled.push(b'.');
    assert!(told(pickle::read(&doubled)).contains("no dictionary"));

    let deep = [
        vec![b']'; 1],
        [&b"\x85"[..]].concat().repeat(1_000_000),
        b".".to_vec(),
    ]
    .concat();
    assert!(told(pickle::read(&deep)).contains("no dictionary"));

    let own_member = b"}q\0X\x01\0\0\0ah\0s.";
    assert_eq!(pickle::read(own_member).unwrap(), []);
}

#[test]
fn what_is_copied_is_short() {
    // A long text, recalled as often as it has bytes: as a parameter, as a name.
    let length = 100_000_u32;
    let text = |length: u32| {
        [
            b"X",
            &length.to_le_bytes()[..],
            &vec![b'n'; length as usize],
        ]
        .concat()
    };
    let again = |part: &[u8]| part.repeat(length as usize);
    let parameter = [
        &text(length),
        &b"q\0ctorch._utils\n_rebuild_parameter\nq\x01"[..],
        &again(b"h\x01h\0\x85R0"),
        b".",
    ];
    assert!(told(pickle::read(&parameter.concat())).contains("in an unknown way"));

    let tensor = one_tensor(0, &[1], &[1]);
    let named = |length, times: &[u8]| {
        // In place of the one entry `t`, the same tensor under a name of this length, again and again.
        let (head, entry) = tensor.split_at(1);
        let value = entry.strip_prefix(b"X\x01\0\0\0t").unwrap();
        let value = value.strip_suffix(b"s.").unwrap();
        [head, &text(length), b"q\x20", value, b"q\x21s", times, b"."].concat()
    };
    assert_eq!(pickle::read(&named(9, b"")).unwrap().len(), 1);
    assert_eq!(
        pickle::read(&named(1001, b"")).unwrap(),
        [],
        "no tensor is called so"
    );
    let many = told(pickle::read(&named(9, &again(b"h\x20h\x21s"))));
    assert!(many.contains("more than 100000 tensors"), "{many}");
    let sides = told(pickle::read(&one_tensor(0, &[1; 9], &[1; 9])));
    assert!(sides.contains("not described"), "{sides}");
}

#[test]
fn tensors_stay_in_their_storage() {
    let data: Vec<u8> = [1f32, 2.0, 3.0, 4.0]
        .iter()
        .flat_map(|x| x.to_le_bytes())
        .collect();
    let read = |pickle: Vec<u8>| {
        let file = archive(&[("m/data.pkl", &pickle), ("m/data/0", &data)]);
        Checkpoint::open(file.path()).and_then(|mut checkpoint| checkpoint.read("t"))
    };
    let column = read(one_tensor(1, &[2], &[2])).unwrap().unwrap();
    assert_eq!(column.to_vec1::<f32>().unwrap(), [2.0, 4.0]);
    for (offset, shape, strides) in [
        (0, &[5][..], &[1][..]),
        (4, &[1], &[1]),
        (1, &[2, 2], &[2, 1]),
        (0, &[200, 200, 200], &[0, 0, 0]),
        (0, &[0, 4], &[4, 1]),
        (0, &[2, 2], &[2]),
    ] {
        let told = told(read(one_tensor(offset, shape, strides)));
        assert!(told.contains("leaves its storage"), "{told}");
    }
}

#[test]
fn archives_that_are_no_checkpoint_are_told_apart() {
    let open = |members: &[(&str, &[u8])]| told(Checkpoint::open(archive(members).path()));
    assert!(open(&[("m/version", b"3")]).contains("0 members called data.pkl"));
    let two = [("a/data.pkl", &b"}."[..]), ("b/data.pkl", b"}.")];
    assert!(open(&two).contains("2 members called data.pkl"));
    let big = [("m/data.pkl", &b"}."[..]), ("m/byteorder", b"big")];
    assert!(open(&big).contains("little-endian"));
    assert!(open(&[("m/data.pkl", b"}.")]).contains("holds no tensors"));
    let long = vec![b'N'; usize::try_from(pickle::MAX_BYTES).unwrap()];
    assert!(open(&[("m/data.pkl", &long)]).contains("or more"));
}

#[test]
fn prefixes_of_training_are_taken_off_and_must_not_collide() {
    assert_eq!(plain_name("module._orig_mod.encoder.x"), "encoder.x");
    assert_eq!(plain_name("_orig_mod.module.encoder.x"), "encoder.x");
    assert_eq!(plain_name("encoder.module.x"), "encoder.module.x");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("twice.safetensors");
    let one = Tensor::zeros(1, DType::F32, &Device::Cpu).unwrap();
    let tensors = HashMap::from([("x".to_owned(), one.clone()), ("module.x".to_owned(), one)]);
    candle_core::safetensors::save(&tensors, &path).unwrap();
    let error = Weights::open_file_as_stored(&path).err().unwrap();
    assert!(matches!(error, LoadError::TwiceTheTensor { .. }), "{error}");
}

proptest! {
    #[test]
    fn no_damage_to_a_pickle_makes_it_panic(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut pickle = pickle_of_torch();
        for (place, byte) in damage {
            let place = place.index(pickle.len());
            pickle[place] = byte;
        }
        let _ = pickle::read(&pickle);
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = pickle::read(&bytes);
    }
}
