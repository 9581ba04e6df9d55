//! Width and height from the few bytes of a file that hold them. No codec: nothing is decoded, and
//! nothing else is believed or checked. Sizes are as stored, before any turning.

use std::collections::HashSet;

use upres_common::objects::Piece;

/// Directories of a TIFF that are looked at: pages and thumbnails. A worker refuses a file with more.
const MAX_DIRECTORIES: usize = 1_000;
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

/// The pages of a file, as far as it was read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Pages {
    /// Width and height of each.
    pub(super) sizes: Vec<(u32, u32)>,
    /// Where more are to be read, if there may be more.
    pub(super) missing: Option<u64>,
}

/// Width and height of every page that the bytes at hand tell of, one at least.
///
/// # Errors
/// [`Unread`].
pub(super) fn pages(file: &Pieces) -> Result<Pages, Unread> {
    match file.at::<4>(0)? {
        [b'I', b'I', b'*' | b'+', 0] | [b'M', b'M', 0, b'*' | b'+'] => tiff(file),
        start => Ok(Pages {
            sizes: vec![size(file, start)?],
            missing: None,
        }),
    }
}

/// Of a file of one page.
fn size(file: &Pieces, start: [u8; 4]) -> Result<(u32, u32), Unread> {
    match start {
        [0xFF, 0xD8, 0xFF, _] => jpeg(file),
        [0x89, b'P', b'N', b'G'] => png(file),
        [b'R', b'I', b'F', b'F'] if file.at(8)? == *b"WEBP" => webp(file),
        [b'G', b'I', b'F', b'8'] => gif(file),
        [b'B', b'M', ..] if file.at(6)? == [0; 4] => bmp(file),
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

/// The directories that are no reduced copies of others.
fn tiff(file: &Pieces) -> Result<Pages, Unread> {
    let start: [u8; 4] = file.at(0)?;
    let numbers = Numbers {
        file,
        little: start[0] == b'I',
        big: start.contains(&b'+'),
    };
    let mut pages = Pages::default();
    let mut seen = HashSet::new();
    let mut directory = numbers.offset(if numbers.big { 8 } else { 4 })?;
    for _ in 0..MAX_DIRECTORIES {
        // A chain that bites its tail claims pages without end.
        if directory == 0 || !seen.insert(directory) {
            break;
        }
        match numbers.directory(directory) {
            Ok((found, next)) => {
                pages.sizes.extend(found);
                directory = next;
            }
            Err(Missing(from)) if !pages.sizes.is_empty() => {
                pages.missing = Some(from);
                return Ok(pages);
            }
            // Whatever is wrong with a later page, the worker will say.
            Err(_) if !pages.sizes.is_empty() => break,
            Err(unread) => return Err(unread),
        }
    }
    if pages.sizes.is_empty() {
        return Err(Unknown);
    }
    Ok(pages)
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

    /// The size in the directory at byte `at` unless it is a thumbnail's, and where the next one is (0:
    /// there is none).
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
        let next = self.offset(entry(count).ok_or(Unknown)?)?;
        let is_page = kind & REDUCED == 0;
        Ok((width.zip(height).filter(|_| is_page), next))
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

    fn whole(bytes: &[u8]) -> Pieces {
        Pieces::new(Piece {
            from: 0,
            bytes: bytes.to_vec().into(),
            object_bytes: bytes.len() as u64,
        })
    }

    /// The only page.
    fn look(bytes: &[u8]) -> Result<(u32, u32), Unread> {
        let pages = pages(&whole(bytes))?;
        assert_eq!((pages.sizes.len(), pages.missing), (1, None));
        Ok(pages.sizes[0])
    }

    /// A directory of a size, and perhaps a kind, with where the next one is.
    fn directory(size: (u32, u32), kind: u32, next: u32) -> Vec<u8> {
        let mut directory = 3_u16.to_le_bytes().to_vec();
        for (tag, value) in [(254_u16, kind), (256, size.0), (257, size.1)] {
            directory.extend(tag.to_le_bytes());
            directory.extend(4_u16.to_le_bytes());
            directory.extend(1_u32.to_le_bytes());
            directory.extend(value.to_le_bytes());
        }
        directory.extend(next.to_le_bytes());
        directory
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
        let directory = directory((30_000, 20_000), 0, 0);
        let piece = |from, bytes: Vec<u8>| Piece {
            from,
            bytes: bytes.into(),
            object_bytes: 2_000_000,
        };
        let mut pieces = Pieces::new(piece(0, start));
        assert_eq!(pages(&pieces), Err(Missing(u64::from(far))));
        pieces.add(piece(u64::from(far), directory));
        assert_eq!(pages(&pieces).unwrap().sizes, [(30_000, 20_000)]);
    }

    #[test]
    fn all_pages_are_counted_and_no_thumbnail() {
        const EACH: u32 = 42;
        let mut file = b"II*\0\x08\0\0\0".to_vec();
        file.extend(directory((300, 200), 0, 8 + EACH));
        file.extend(directory((30, 20), 1, 8 + 2 * EACH));
        file.extend(directory((100, 50), 2, 8 + 3 * EACH));
        let known = pages(&whole(&file)).unwrap();
        assert_eq!(known.sizes, [(300, 200), (100, 50)]);
        assert_eq!(known.missing, Some(u64::from(8 + 3 * EACH)));
        file.extend(directory((7, 7), 0, 0));
        let known = pages(&whole(&file)).unwrap();
        assert_eq!(known.sizes, [(300, 200), (100, 50), (7, 7)]);
        assert_eq!(known.missing, None);
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
