//! A file of which some bytes read otherwise than they are stored.
//!
//! The `tiff` crate refuses to read samples whose meaning it does not know (a palette, CIELab). Told
//! that they are plain gray or unnamed bands, it unpacks them all the same, and what they mean is
//! applied here. Numbers that its decoders refuse, and that mean no more than others, are told as those.

use std::io::{self, Read, Seek, SeekFrom};

/// Bytes that stand in for those of the file.
#[derive(Debug, Clone)]
pub(super) struct Patch {
    /// Where in the file.
    pub at: u64,
    pub bytes: Vec<u8>,
}

/// Replaces some bytes.
pub(super) struct Patched<R> {
    file: R,
    position: u64,
    patches: Vec<Patch>,
    /// Offset and end of stretches whose bytes have their lowest bit first, in order.
    reversed: Vec<(u64, u64)>,
}

impl<R: Read + Seek> Patched<R> {
    pub(super) fn new(file: R, patches: Vec<Patch>) -> Self {
        Self {
            file,
            position: 0,
            patches,
            reversed: Vec::new(),
        }
    }

    /// From now on the bits of each byte in these stretches (offset and length) come in reverse order.
    pub(super) fn reverse_bits(&mut self, stretches: impl Iterator<Item = (u64, u64)>) {
        self.reversed = stretches
            .map(|(offset, length)| (offset, offset.saturating_add(length)))
            .collect();
        self.reversed.sort_unstable();
        // A byte of two stretches is turned round once.
        let mut end = 0;
        for stretch in &mut self.reversed {
            stretch.0 = stretch.0.max(end);
            end = end.max(stretch.1);
        }
    }

    /// Fills `buffer` from byte `at` on.
    pub(super) fn read_at(&mut self, at: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.seek(SeekFrom::Start(at))?;
        self.read_exact(buffer)
    }
}

impl<R> Patched<R> {
    fn reverse(&self, read: &mut [u8]) {
        let last = self.position + read.len() as u64;
        let from = self
            .reversed
            .partition_point(|(_, end)| *end <= self.position);
        for (offset, end) in self.reversed[from..]
            .iter()
            .take_while(|(offset, _)| *offset < last)
        {
            let within = |at: u64| {
                usize::try_from(at.clamp(self.position, last) - self.position).unwrap_or(0)
            };
            let (first, end) = (within(*offset), within(*end));
            if first < end {
                read[first..end]
                    .iter_mut()
                    .for_each(|byte| *byte = byte.reverse_bits());
            }
        }
    }
}

impl<R: Read> Read for Patched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        for Patch { at, bytes } in &self.patches {
            for (place, byte) in (*at..).zip(bytes) {
                let index = place.checked_sub(self.position);
                let index = index.and_then(|index| usize::try_from(index).ok());
                if let Some(found) = index.and_then(|index| buffer[..read].get_mut(index)) {
                    *found = *byte;
                }
            }
        }
        self.reverse(&mut buffer[..read]);
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
    fn bits_of_stretches_are_turned_round_once_however_the_file_is_read() {
        for piece in 1..7 {
            let mut file = Patched::new(Cursor::new([1, 1, 1, 1, 1, 1]), Vec::new());
            file.reverse_bits([(4, 1), (1, 2), (2, 1)].into_iter());
            let mut all = Vec::new();
            let mut buffer = vec![0; piece];
            loop {
                match file.read(&mut buffer).unwrap() {
                    0 => break,
                    read => all.extend_from_slice(&buffer[..read]),
                }
            }
            assert_eq!(all, [1, 128, 128, 1, 128, 1], "{piece}");
        }
    }

    #[test]
    fn bytes_are_replaced_however_the_file_is_read() {
        for piece in 1..7 {
            let patch = |at, bytes: &[u8]| Patch {
                at,
                bytes: bytes.to_vec(),
            };
            let patches = vec![patch(2, &[8, 9]), patch(5, &[7])];
            let mut file = Patched::new(Cursor::new([0, 1, 2, 3, 4, 5]), patches);
            let mut all = Vec::new();
            let mut buffer = vec![0; piece];
            loop {
                match file.read(&mut buffer).unwrap() {
                    0 => break,
                    read => all.extend_from_slice(&buffer[..read]),
                }
            }
            assert_eq!(all, [0, 1, 8, 9, 4, 7], "{piece}");
            let mut end = [0; 3];
            file.read_at(3, &mut end).unwrap();
            assert_eq!(end, [9, 4, 7]);
        }
    }
}
