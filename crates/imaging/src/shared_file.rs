//! One file on disk, read in several places at once.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;

/// A file that several readers read, each in its own place: a [`Source`](crate::Source) for
/// [`Reader`](crate::Reader). Copies of a handle would share one place.
#[derive(Debug, Clone)]
pub struct SharedFile {
    file: Arc<File>,
    position: u64,
}

impl SharedFile {
    /// At the beginning of `file`, wherever its handle stands.
    #[must_use]
    pub fn new(file: File) -> Self {
        Self {
            file: Arc::new(file),
            position: 0,
        }
    }
}

impl Read for SharedFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = read_at(&self.file, buffer, self.position)?;
        self.position += read as u64;
        Ok(read)
    }
}

impl Seek for SharedFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let place = match to {
            SeekFrom::Start(place) => Some(place),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
            SeekFrom::End(by) => self.file.metadata()?.len().checked_add_signed(by),
        };
        self.position = place.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

#[cfg(unix)]
fn read_at(file: &File, buffer: &mut [u8], place: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, buffer, place)
}

#[cfg(windows)]
fn read_at(file: &File, buffer: &mut [u8], place: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, buffer, place)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn each_reads_in_its_own_place() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"abcdef").unwrap();
        let mut first = SharedFile::new(file);
        let mut second = first.clone();
        let (mut two, mut rest) = ([0; 2], String::new());
        first.read_exact(&mut two).unwrap();
        second.seek(SeekFrom::End(-1)).unwrap();
        second.read_to_string(&mut rest).unwrap();
        assert_eq!((&two, rest.as_str()), (b"ab", "f"));
        rest.clear();
        first.seek(SeekFrom::Current(1)).unwrap();
        first.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "def");
        assert!(first.seek(SeekFrom::Current(-7)).is_err());
    }
}
