//! Keys to file names and back.
//!
//! A key may hold any character and be longer than a file name; a name may not hold `/` or be `..`. So a
//! key is percent-encoded, which leaves ordinary keys readable, and cut into pieces of [`PIECE`] bytes:
//! all pieces but the last become folders, marked with `+`, a character that encoding never yields.

use std::path::{Path, PathBuf};

/// Bytes of a key in one file name: encoded at most 240 characters, where file systems allow 255.
const PIECE: usize = 80;

/// The file of `key` below `folder`. A non-empty key never leaves `folder`.
pub fn path_of(folder: &Path, key: &str) -> PathBuf {
    let mut path = folder.to_path_buf();
    let mut pieces = key.as_bytes().chunks(PIECE).peekable();
    while let Some(piece) = pieces.next() {
        let mut name = encode(piece);
        if pieces.peek().is_some() {
            name.push('+');
        }
        path.push(name);
    }
    path
}

/// All keys below `folder`, in the order of their bytes.
pub fn keys_in(folder: &Path) -> std::io::Result<Vec<String>> {
    let mut keys = Vec::new();
    collect(folder, &mut Vec::new(), &mut keys)?;
    keys.sort_unstable();
    Ok(keys)
}

fn collect(folder: &Path, before: &mut Vec<u8>, keys: &mut Vec<String>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let name = entry?.file_name();
        let Some(name) = name.to_str() else { continue };
        let length = before.len();
        if let Some(piece) = name.strip_suffix('+') {
            if let Some(piece) = decode(piece) {
                before.extend(piece);
                collect(&folder.join(name), before, keys)?;
            }
        } else if let Some(piece) = decode(name) {
            before.extend(piece);
            keys.extend(String::from_utf8(before.clone()));
        }
        before.truncate(length);
    }
    Ok(())
}

/// Percent-encoding as S3 lists keys under `encoding-type=url`, but with a leading dot encoded as well,
/// or a key could be the name of the folder above.
fn encode(piece: &[u8]) -> String {
    let name = percent_encode(piece, b"-_.~");
    match name.strip_prefix('.') {
        Some(rest) => format!("%2E{rest}"),
        None => name,
    }
}

/// Encodes all bytes but letters, digits and those in `plain`.
pub fn percent_encode(bytes: &[u8], plain: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || plain.contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

/// `None` for a name that [`encode`] does not make: not one of ours.
fn decode(name: &str) -> Option<Vec<u8>> {
    let mut piece = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    loop {
        match rest {
            [] => break,
            [b'%', high, low, tail @ ..] => {
                piece.extend(hex::decode([*high, *low]).ok()?);
                rest = tail;
            }
            [byte, tail @ ..] => {
                piece.push(*byte);
                rest = tail;
            }
        }
    }
    (encode(&piece) == name).then_some(piece)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ordinary_keys_stay_readable() {
        let path = path_of(Path::new("/b"), "box-12/0001.tif");
        assert_eq!(path, Path::new("/b/box-12%2F0001.tif"));
    }

    #[test]
    fn hostile_keys_stay_inside() {
        for key in [
            ".",
            "..",
            "../../etc/passwd",
            "/",
            "//",
            "a/../../b",
            "\0",
            "%2E",
            "+",
            "a+",
        ] {
            let path = path_of(Path::new("/b"), key);
            assert!(path.starts_with("/b"), "{key:?}");
            assert_eq!(path.components().count(), 3, "{key:?} becomes {path:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn every_key_comes_back(keys in proptest::collection::btree_set(".{1,300}", 1..20)) {
            let folder = tempfile::tempdir().unwrap();
            for key in &keys {
                let path = path_of(folder.path(), key);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, []).unwrap();
            }
            let listed = keys_in(folder.path()).unwrap();
            prop_assert_eq!(listed, keys.into_iter().collect::<Vec<_>>());
        }
    }
}
