//! Width and height from the few bytes of a file that hold them. No codec: nothing is decoded, and
//! nothing else is believed or checked. Sizes are as stored, before any turning.

use upres_common::objects::Piece;

/// Directories of a TIFF that are looked at until one is no thumbnail.
const MAX_DIRECTORIES: usize = 8;
/// Entries of one directory; the three that matter have low tags and come first.
const MAX_ENTRIES: u64 = 1000;

/// Why the size is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unread {
    /// It takes the bytes from here on.
    Missing(u64),
    /// This is no image, or none of a known kind.
    Unknown,
}

use Unread::{Missing, Unknown};

/// The parts of a file that were read.
#[derive(Debug)]
pub(super) struct Pieces(Vec<Piece>);

impl Pieces {
    pub(super) fn new(first: Piece) -> Self {
        Self(vec![first])
    }

    pub(super) fn add(&mut self, piece: Piece) {
        self.0.push(piece);
    }

    fn at<const N: usize>(&self, from: u64) -> Result<[u8; N], Unread> {
        let found = self.0.iter().find_map(|piece| {
            let start = usize::try_from(from.checked_sub(piece.from)?).ok()?;
            piece.bytes.get(start..)?.first_chunk::<N>()
        });
        found.copied().ok_or(Missing(from))
    }
}

/// Width and height.
///
/// # Errors
/// [`Unread`].
pub(super) fn size(file: &Pieces) -> Result<(u32, u32), Unread> {
    match file.at::<4>(0)? {
        [0xFF, 0xD8, 0xFF, _] => jpeg(file),
        [0x89, b'P', b'N', b'G'] => png(file),
        [b'R', b'I', b'F', b'F'] if file.at(8)? == *b"WEBP" => webp(file),
        [b'G', b'I', b'F', b'8'] => gif(file),
        [b'B', b'M', ..] if file.at(6)? == [0; 4] => bmp(file),
        [b'I', b'I', b'*' | b'+', 0] | [b'M', b'M', 0, b'*' | b'+'] => tiff(file),
        _ => Err(Unknown),
    }
}

fn png(file: &Pieces) -> Result<(u32, u32), Unread> {
    Ok((
        u32::from_be_bytes(file.at(16)?),
        u32::from_be_bytes(file.at(20)?),
    ))
}

fn webp(file: &Pieces) -> Result<(u32, u32), Unread> {
    match &file.at::<4>(12)? {
        b"VP8X" => {
            let side = |[a, b, c]: [u8; 3]| u32::from_le_bytes([a, b, c, 0]) + 1;
            Ok((side(file.at(24)?), side(file.at(27)?)))
        }
        b"VP8L" => {
            let bits = u32::from_le_bytes(file.at(21)?);
            Ok(((bits & 0x3FFF) + 1, ((bits >> 14) & 0x3FFF) + 1))
        }
        b"VP8 " => {
            let side = |bytes| u32::from(u16::from_le_bytes(bytes) & 0x3FFF);
            Ok((side(file.at(26)?), side(file.at(28)?)))
        }
        _ => Err(Unknown),
    }
}

fn gif(file: &Pieces) -> Result<(u32, u32), Unread> {
    let side = |bytes| u32::from(u16::from_le_bytes(bytes));
    Ok((side(file.at(6)?), side(file.at(8)?)))
}

fn bmp(file: &Pieces) -> Result<(u32, u32), Unread> {
    // The oldest kind of header has sides of two bytes.
    if u32::from_le_bytes(file.at(14)?) == 12 {
        let side = |bytes| u32::from(u16::from_le_bytes(bytes));
        return Ok((side(file.at(18)?), side(file.at(20)?)));
    }
    // Rows from the top downwards have a negative number.
    let side = |bytes| i32::from_le_bytes(bytes).unsigned_abs();
    Ok((side(file.at(18)?), side(file.at(22)?)))
}

/// Goes from marker to marker until a frame header.
fn jpeg(file: &Pieces) -> Result<(u32, u32), Unread> {
    let mut at = 2;
    loop {
        let [lead, marker] = file.at(at)?;
        match (lead, marker) {
            // Any marker may be preceded by fill bytes.
            (0xFF, 0xFF) => at += 1,
            // SOF0 to SOF15 without DHT, JPG and DAC.
            (0xFF, 0xC0..=0xCF) if !matches!(marker, 0xC4 | 0xC8 | 0xCC) => {
                let [h1, h0, w1, w0] = file.at(at + 5)?;
                let side = |high, low| u32::from(u16::from_be_bytes([high, low]));
                return Ok((side(w1, w0), side(h1, h0)));
            }
            (0xFF, 0x01 | 0xD0..=0xD8) => at += 2,
            // Pixels, or the end, without a frame.
            (0xFF, 0xD9 | 0xDA) => return Err(Unknown),
            (0xFF, _) => at += 2 + u64::from(u16::from_be_bytes(file.at(at + 2)?)).max(2),
            _ => return Err(Unknown),
        }
    }
}

/// The first directory that is no reduced copy of another.
fn tiff(file: &Pieces) -> Result<(u32, u32), Unread> {
    let start: [u8; 4] = file.at(0)?;
    let numbers = Numbers {
        file,
        little: start[0] == b'I',
        big: start.contains(&b'+'),
    };
    let mut directory = numbers.offset(if numbers.big { 8 } else { 4 })?;
    for _ in 0..MAX_DIRECTORIES {
        if directory == 0 {
            break;
        }
        let (found, next) = numbers.directory(directory)?;
        if let Some(size) = found {
            return Ok(size);
        }
        directory = next;
    }
    Err(Unknown)
}

struct Numbers<'a> {
    file: &'a Pieces,
    little: bool,
    big: bool,
}

impl Numbers<'_> {
    fn short(&self, at: u64) -> Result<u64, Unread> {
        let bytes = self.file.at(at)?;
        Ok(u64::from(if self.little {
            u16::from_le_bytes(bytes)
        } else {
            u16::from_be_bytes(bytes)
        }))
    }

    fn long(&self, at: u64) -> Result<u64, Unread> {
        let bytes = self.file.at(at)?;
        Ok(u64::from(if self.little {
            u32::from_le_bytes(bytes)
        } else {
            u32::from_be_bytes(bytes)
        }))
    }

    fn offset(&self, at: u64) -> Result<u64, Unread> {
        if !self.big {
            return self.long(at);
        }
        let bytes = self.file.at(at)?;
        Ok(if self.little {
            u64::from_le_bytes(bytes)
        } else {
            u64::from_be_bytes(bytes)
        })
    }

    /// The size in the directory at byte `at` unless it is a thumbnail's, and where the next one is.
    fn directory(&self, at: u64) -> Result<(Option<(u32, u32)>, u64), Unread> {
        const KIND: u64 = 254;
        const WIDTH: u64 = 256;
        const HEIGHT: u64 = 257;
        const REDUCED: u64 = 1;
        let (count, count_bytes, entry_bytes) = if self.big {
            (self.offset(at)?, 8, 20)
        } else {
            (self.short(at)?, 2, 12)
        };
        let entry = |index: u64| {
            let start = at.checked_add(count_bytes)?;
            start.checked_add(index.checked_mul(entry_bytes)?)
        };
        let (mut kind, mut width, mut height) = (0, None, None);
        for index in 0..count.min(MAX_ENTRIES) {
            let at = entry(index).ok_or(Unknown)?;
            match self.short(at)? {
                KIND => kind = self.value(at)?,
                WIDTH => width = u32::try_from(self.value(at)?).ok(),
                HEIGHT => height = u32::try_from(self.value(at)?).ok(),
                // In ascending order, whatever else they say.
                tag if tag > HEIGHT => break,
                _ => {}
            }
        }
        if kind & REDUCED == 0 {
            return Ok((width.zip(height), 0));
        }
        Ok((None, self.offset(entry(count).ok_or(Unknown)?)?))
    }

    /// The number of an entry, which is a byte, a short, a long or, in large files, twice as long.
    fn value(&self, entry: u64) -> Result<u64, Unread> {
        let at = entry + if self.big { 12 } else { 8 };
        match self.short(entry + 2)? {
            1 => Ok(u64::from(self.file.at::<1>(at)?[0])),
            3 => self.short(at),
            4 => self.long(at),
            16 if self.big => self.offset(at),
            _ => Err(Unknown),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(bytes: &[u8]) -> Result<(u32, u32), Unread> {
        size(&Pieces::new(Piece {
            from: 0,
            bytes: bytes.to_vec().into(),
            object_bytes: bytes.len() as u64,
        }))
    }

    #[test]
    fn what_is_no_image_is_unknown_and_a_cut_header_says_where() {
        assert_eq!(look(b"hello, world"), Err(Unknown));
        assert_eq!(look(b""), Err(Missing(0)));
        assert_eq!(look(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"), Err(Missing(16)));
        // A segment of 0x1234 bytes, behind which the file goes on.
        assert_eq!(look(b"\xFF\xD8\xFF\xE1\x12\x34"), Err(Missing(4 + 0x1234)));
    }

    #[test]
    fn stills_of_other_formats_have_their_size_at_the_beginning() {
        assert_eq!(look(b"GIF89a\x2C\x01\x05\0\0\0"), Ok((300, 5)));
        let mut bitmap = b"BM\0\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0".to_vec();
        bitmap.extend(640_i32.to_le_bytes());
        bitmap.extend((-480_i32).to_le_bytes());
        assert_eq!(look(&bitmap), Ok((640, 480)));
    }

    #[test]
    fn a_directory_at_the_end_is_found_with_a_second_look() {
        let far = 1_000_000_u32;
        let mut start = b"II*\0".to_vec();
        start.extend(far.to_le_bytes());
        let mut directory = 2_u16.to_le_bytes().to_vec();
        for (tag, value) in [(256_u16, 30_000_u32), (257, 20_000)] {
            directory.extend(tag.to_le_bytes());
            directory.extend(4_u16.to_le_bytes());
            directory.extend(1_u32.to_le_bytes());
            directory.extend(value.to_le_bytes());
        }
        let piece = |from, bytes: Vec<u8>| Piece {
            from,
            bytes: bytes.into(),
            object_bytes: 2_000_000,
        };
        let mut pieces = Pieces::new(piece(0, start));
        assert_eq!(size(&pieces), Err(Missing(u64::from(far))));
        pieces.add(piece(u64::from(far), directory));
        assert_eq!(size(&pieces), Ok((30_000, 20_000)));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_looked_at_without_harm(
            magic in 0_usize..6, rest in proptest::collection::vec(proptest::num::u8::ANY, 0..400),
        ) {
            let magics: [&[u8]; 6] =
                [b"", b"\xFF\xD8\xFF", b"\x89PNG", b"RIFF\0\0\0\0WEBPVP8", b"II*\0", b"MM\0+"];
            let _ = look(&[magics[magic], &rest].concat());
        }
    }
}
