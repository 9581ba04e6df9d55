//! A file of which two bytes read otherwise than they are stored.
//!
//! The `tiff` crate refuses to read samples whose meaning it does not know (a palette, CIELab). Told
//! that they are plain gray or unnamed bands, it unpacks them all the same, and what they mean is
//! applied here.

use std::io::{self, Read, Seek, SeekFrom};

/// Replaces two bytes.
pub(super) struct Patched<R> {
    file: R,
    position: u64,
    patch: Option<(u64, [u8; 2])>,
}

impl<R: Read + Seek> Patched<R> {
    /// - `patch`: where, and by what.
    pub(super) fn new(file: R, patch: Option<(u64, [u8; 2])>) -> Self {
        Self {
            file,
            position: 0,
            patch,
        }
    }

    /// Fills `buffer` from byte `at` on.
    pub(super) fn read_at(&mut self, at: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.seek(SeekFrom::Start(at))?;
        self.read_exact(buffer)
    }
}

impl<R: Read> Read for Patched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        if let Some((at, bytes)) = self.patch {
            for (place, byte) in (at..).zip(bytes) {
                let index = place.checked_sub(self.position);
                let index = index.and_then(|index| usize::try_from(index).ok());
                if let Some(found) = index.and_then(|index| buffer[..read].get_mut(index)) {
                    *found = byte;
                }
            }
        }
        self.position += read as u64;
        Ok(read)
    }
}

impl<R: Seek> Seek for Patched<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.position = self.file.seek(to)?;
        Ok(self.position)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    #[test]
    fn two_bytes_are_replaced_however_the_file_is_read() {
        for piece in 1..7 {
            let mut file = Patched::new(Cursor::new([0, 1, 2, 3, 4, 5]), Some((2, [8, 9])));
            let mut all = Vec::new();
            let mut buffer = vec![0; piece];
            loop {
                match file.read(&mut buffer).unwrap() {
                    0 => break,
                    read => all.extend_from_slice(&buffer[..read]),
                }
            }
            assert_eq!(all, [0, 1, 8, 9, 4, 5], "{piece}");
            let mut end = [0; 3];
            file.read_at(3, &mut end).unwrap();
            assert_eq!(end, [9, 4, 5]);
        }
    }
}
