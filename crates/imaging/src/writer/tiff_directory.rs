//! The header and the one directory of a TIFF file, little-endian.

use super::Shape;
use crate::{EncodeError, Format};

/// From this many bytes of samples and profile a TIFF is written as `BigTIFF`; classic TIFF ends
/// at 4 GiB, and deflate may grow a little.
const BIG_TIFF_BYTES: u64 = 4_000_000_000;

const SHORT: u16 = 3;
const LONG: u16 = 4;
const RATIONAL: u16 = 5;
const UNDEFINED: u16 = 7;
const LONG8: u16 = 16;

/// One entry of the directory.
struct Entry {
    tag: u16,
    kind: u16,
    count: usize,
    data: Vec<u8>,
}

/// Returns everything in front of the strips: header, directory, and what it refers to.
///
/// - `sizes`: of all strips, in bytes.
/// - `place`: gives the offset of every strip, from the length of what is returned.
///
/// # Errors
/// [`EncodeError::Encoder`] if an offset does not fit.
pub(super) fn write(
    shape: &Shape,
    icc: Option<&[u8]>,
    sizes: &[u32],
    place: impl FnOnce(u64) -> Vec<u64>,
) -> Result<Vec<u8>, EncodeError> {
    let big = is_big(shape, icc);
    let offset_bytes = if big { 8 } else { 4 };
    // The lengths decide where the strips begin; the offsets themselves are filled in afterwards.
    let mut entries = entries(shape, icc, sizes);
    let offsets = entries.iter().position(|entry| entry.tag == STRIP_OFFSETS);
    let offsets = &mut entries[offsets.expect("it is in the list below")];
    offsets.kind = if big { LONG8 } else { LONG };
    offsets.data = vec![0; sizes.len() * offset_bytes];

    let (header, count, entry) = if big { (16, 8, 20) } else { (8, 2, 12) };
    let referred_at = header + count + entries.len() * entry + offset_bytes;
    let referred: usize = entries
        .iter()
        .filter(|entry| entry.data.len() > offset_bytes)
        .map(|entry| entry.data.len().next_multiple_of(2))
        .sum();
    let data_at = u64::try_from(referred_at + referred).unwrap_or(u64::MAX);

    let mut data = Vec::new();
    for offset in place(data_at) {
        append_offset(offset, big, &mut data)?;
    }
    for entry in &mut entries {
        if entry.tag == STRIP_OFFSETS {
            entry.data = std::mem::take(&mut data);
        }
    }
    serialise(&entries, big, referred_at)
}

/// Whether the file is `BigTIFF`: decided by what could be, so that it is known from the start.
fn is_big(shape: &Shape, icc: Option<&[u8]>) -> bool {
    let icc = u64::try_from(icc.map_or(0, <[u8]>::len)).unwrap_or(u64::MAX);
    let rows = u64::from(shape.height);
    let samples = u64::try_from(shape.row_bytes()).unwrap_or(u64::MAX);
    samples.saturating_mul(rows).saturating_add(icc) >= BIG_TIFF_BYTES
}

const STRIP_OFFSETS: u16 = 273;

fn entries(shape: &Shape, icc: Option<&[u8]>, sizes: &[u32]) -> Vec<Entry> {
    let channels = shape.channels();
    let samples = u16::try_from(channels).unwrap_or(u16::MAX);
    let bits = u16::from(shape.layout.depth.bits());
    let rows = shape.band_rows.min(shape.height);
    let mut entries = vec![
        long(256, &[shape.width]),
        long(257, &[shape.height]),
        short(258, &vec![bits; channels]),
        // Deflate, in a zlib stream.
        short(259, &[8]),
        // 1: black is zero; 2: RGB.
        short(262, &[if shape.gray() { 1 } else { 2 }]),
        Entry {
            tag: STRIP_OFFSETS,
            kind: LONG,
            count: sizes.len(),
            data: Vec::new(),
        },
        short(277, &[samples]),
        long(278, &[rows]),
        long(279, sizes),
        // Square pixels of no particular size.
        rational(282),
        rational(283),
        short(284, &[1]),
        short(296, &[1]),
        // Horizontal differences.
        short(317, &[2]),
    ];
    if shape.layout.alpha {
        // The last channel is alpha, and colours are not multiplied by it.
        entries.push(short(338, &[2]));
    }
    entries.extend(icc.map(|icc| Entry {
        tag: 34_675,
        kind: UNDEFINED,
        count: icc.len(),
        data: icc.to_vec(),
    }));
    entries
}

fn short(tag: u16, values: &[u16]) -> Entry {
    Entry {
        tag,
        kind: SHORT,
        count: values.len(),
        data: values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect(),
    }
}

fn long(tag: u16, values: &[u32]) -> Entry {
    Entry {
        tag,
        kind: LONG,
        count: values.len(),
        data: values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect(),
    }
}

/// One, as a fraction.
fn rational(tag: u16) -> Entry {
    Entry {
        tag,
        kind: RATIONAL,
        count: 1,
        data: [1_u32, 1]
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect(),
    }
}

fn serialise(entries: &[Entry], big: bool, referred_at: usize) -> Result<Vec<u8>, EncodeError> {
    let offset_bytes = if big { 8 } else { 4 };
    let mut file = b"II".to_vec();
    if big {
        // 43, then eight bytes an offset and a zero, then where the directory is.
        file.extend([43, 0, 8, 0, 0, 0]);
        append_offset(16, big, &mut file)?;
        append_offset(entries.len() as u64, big, &mut file)?;
    } else {
        file.extend([42, 0]);
        append_offset(8, big, &mut file)?;
        file.extend(
            u16::try_from(entries.len())
                .unwrap_or(u16::MAX)
                .to_le_bytes(),
        );
    }
    let mut referred = Vec::new();
    for entry in entries {
        file.extend(entry.tag.to_le_bytes());
        file.extend(entry.kind.to_le_bytes());
        append_offset(entry.count as u64, big, &mut file)?;
        if entry.data.len() <= offset_bytes {
            file.extend_from_slice(&entry.data);
            file.resize(file.len() + offset_bytes - entry.data.len(), 0);
        } else {
            append_offset((referred_at + referred.len()) as u64, big, &mut file)?;
            referred.extend_from_slice(&entry.data);
            referred.resize(referred.len().next_multiple_of(2), 0);
        }
    }
    // There is no other directory.
    append_offset(0, big, &mut file)?;
    file.extend(referred);
    Ok(file)
}

fn append_offset(offset: u64, big: bool, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    if big {
        out.extend(offset.to_le_bytes());
    } else {
        let offset =
            u32::try_from(offset).map_err(|error| EncodeError::encoder(Format::Tiff, error))?;
        out.extend(offset.to_le_bytes());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use ::tiff::{decoder::Decoder, tags::Tag};

    use super::*;
    use crate::samples::Layout;

    /// The directory as another reader finds it: whether it is `BigTIFF`, and its tags.
    fn read(height: u32, icc: Option<&[u8]>) -> (bool, Decoder<Cursor<Vec<u8>>>) {
        let shape = Shape {
            width: 40_000,
            height,
            layout: Layout::RGB8,
            band_rows: 17,
        };
        let strips = u64::from(height.div_ceil(17));
        let sizes: Vec<u32> = (0..height.div_ceil(17))
            .map(|index| 1_000 + index)
            .collect();
        let file = write(&shape, icc, &sizes, |data_at| {
            (0..strips).map(|index| data_at + index * 800_000).collect()
        });
        let file = file.unwrap();
        (file[2] == 43, Decoder::new(Cursor::new(file)).unwrap())
    }

    #[test]
    fn the_size_of_the_samples_decides_between_classic_and_big() {
        for (height, big) in [
            (17, false),
            (33_333, false),
            (33_334, true),
            (100_000, true),
        ] {
            let (found, mut decoder) = read(height, Some(&[7; 333]));
            assert_eq!(found, big, "{height}");
            assert_eq!(decoder.dimensions().unwrap(), (40_000, height));
            assert_eq!(decoder.chunk_dimensions(), (40_000, 17));
            let offsets = decoder.get_tag_u64_vec(Tag::StripOffsets).unwrap();
            let sizes = decoder.get_tag_u64_vec(Tag::StripByteCounts).unwrap();
            let strips = u64::from(height.div_ceil(17));
            assert_eq!((offsets.len() as u64, sizes.len() as u64), (strips, strips));
            assert_eq!(
                offsets[offsets.len() - 1],
                offsets[0] + (strips - 1) * 800_000
            );
            assert_eq!(sizes[sizes.len() - 1], 1_000 + strips - 1);
            let icc = decoder.get_tag_u8_vec(Tag::IccProfile).unwrap();
            assert_eq!(icc, [7; 333]);
        }
    }

    #[test]
    fn offsets_that_classic_tiff_cannot_hold_are_an_error() {
        let shape = Shape {
            width: 10,
            height: 10,
            layout: Layout::GRAY8,
            band_rows: 10,
        };
        let place = |_| vec![u64::from(u32::MAX) + 1];
        assert!(write(&shape, None, &[1], place).is_err());
    }
}
