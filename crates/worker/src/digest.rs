//! The SHA-256 of a file while it is written, whose beginning may be known only at its end.

use std::fs::File;
use std::io::{self, Read, Seek, Write};

use imaging::Format;
use sha2::{Digest, Sha256};

/// Follows a file's bytes.
pub(crate) enum FileDigest {
    /// They come in order.
    Running(Sha256),
    /// All but the first come first: kept on disk, in `TMPDIR`, until those are known.
    Kept(Option<File>),
    /// Some were never seen.
    Unseen,
}

impl FileDigest {
    /// Of a file from its first row.
    pub(crate) fn new(format: Format) -> Self {
        if format.head_comes_last() {
            Self::Kept(None)
        } else {
            Self::Running(Sha256::new())
        }
    }

    /// Takes the next bytes behind the head.
    ///
    /// # Errors
    /// Those of the disk.
    pub(crate) fn follow(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Running(sha256) => sha256.update(bytes),
            Self::Kept(Some(file)) => file.write_all(bytes)?,
            Self::Kept(none) => none.insert(tempfile::tempfile()?).write_all(bytes)?,
            Self::Unseen => {}
        }
        Ok(())
    }

    /// The digest of `head` and all that followed, lower-case hex; `None` if some was never seen.
    ///
    /// # Errors
    /// Those of the disk.
    pub(crate) fn finish(self, head: &[u8]) -> io::Result<Option<String>> {
        let sha256 = match self {
            Self::Running(sha256) => sha256,
            Self::Kept(file) => {
                let mut sha256 = Sha256::new();
                sha256.update(head);
                if let Some(mut file) = file {
                    file.rewind()?;
                    let mut piece = vec![0; 1 << 20];
                    loop {
                        match file.read(&mut piece)? {
                            0 => break,
                            read => sha256.update(&piece[..read]),
                        }
                    }
                }
                sha256
            }
            Self::Unseen => return Ok(None),
        };
        Ok(Some(hex::encode(sha256.finalize())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_that_comes_last_counts_first() {
        for (format, head) in [(Format::Png, ""), (Format::Tiff, "head ")] {
            let mut digest = FileDigest::new(format);
            digest.follow(b"of ").unwrap();
            digest.follow(b"a file").unwrap();
            let whole = format!("{head}of a file");
            let expected = hex::encode(Sha256::digest(whole.as_bytes()));
            assert_eq!(digest.finish(head.as_bytes()).unwrap(), Some(expected));
        }
        assert_eq!(FileDigest::Unseen.finish(b"").unwrap(), None);
    }
}
