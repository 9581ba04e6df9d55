//! The bytes of a file, or of a block in it, wherever one looks.

use std::io::{Cursor, Read, Seek, SeekFrom};

/// A block of metadata is left out if it is larger than this, in bytes.
pub(super) const MAX_BLOCK_BYTES: usize = 16 << 20;

/// What can be read and sought.
pub(crate) trait ReadSeek: Read + Seek {}

impl<T: Read + Seek> ReadSeek for T {}

/// A file that is read here and there.
pub(super) struct Bytes<'r>(pub &'r mut dyn ReadSeek);

impl Bytes<'_> {
    /// Fills `buffer` from byte `at` on; `None` if the file ends before.
    pub(super) fn fill(&mut self, at: u64, buffer: &mut [u8]) -> Option<()> {
        self.0.seek(SeekFrom::Start(at)).ok()?;
        self.0.read_exact(buffer).ok()
    }

    /// `length` bytes from byte `at` on; `None` if the file ends before or they are more than
    /// [`MAX_BLOCK_BYTES`].
    pub(super) fn get(&mut self, at: u64, length: usize) -> Option<Vec<u8>> {
        if length > MAX_BLOCK_BYTES {
            return None;
        }
        let mut bytes = vec![0; length];
        self.fill(at, &mut bytes)?;
        Some(bytes)
    }

    /// The bytes at `at`, as many as the array has.
    pub(super) fn array<const N: usize>(&mut self, at: u64) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        self.fill(at, &mut bytes)?;
        Some(bytes)
    }
}

/// Looks at `block` as at a file.
pub(super) fn in_block<T>(block: &[u8], look: impl FnOnce(&mut Bytes<'_>) -> T) -> T {
    look(&mut Bytes(&mut Cursor::new(block)))
}
