//! The header and the directories of a TIFF file, one for each page, little-endian.

use super::{
    Shape,
    sheets::Sheet,
    tiff_entries::{Entry, append_offset, header, length, serialise},
    tiff_metadata,
};
use crate::{EncodeError, EncodeOptions, TiffCompression};

/// From this many bytes of samples, profile and metadata a TIFF is written as `BigTIFF`; classic TIFF
/// ends at 4 GiB, and deflate may grow a little.
const BIG_TIFF_BYTES: u64 = 4_000_000_000;

const STRIP_OFFSETS: u16 = 273;
const TILE_OFFSETS: u16 = 324;
const UNDEFINED: u16 = 7;

/// Returns everything in front of the strips: header, directories, and what they refer to.
///
/// - `sizes`: of all strips of all pages, in bytes.
/// - `place`: gives the offset of every strip, from the length of what is returned.
///
/// # Errors
/// [`EncodeError::Encoder`] if an offset does not fit.
pub(super) fn write(
    sheets: &[Sheet],
    sizes: &[u32],
    place: impl FnOnce(u64) -> Vec<u64>,
) -> Result<Vec<u8>, EncodeError> {
    let mut directories = Vec::with_capacity(sheets.len());
    let mut rest = sizes;
    for (index, sheet) in sheets.iter().enumerate() {
        let sizes;
        (sizes, rest) = rest.split_at(chunks(&sheet.shape).min(rest.len()));
        directories.push(entries(sheet, (index, sheets.len()), sizes));
    }
    let could_be = sheets.iter().zip(&directories);
    let could_be = could_be.map(|(sheet, entries)| most_bytes(sheet, entries));
    let big = could_be.fold(0, u64::saturating_add) >= BIG_TIFF_BYTES;
    // The lengths decide where the strips begin; the offsets themselves are filled in afterwards.
    for entries in &mut directories {
        let entry = offsets(entries);
        entry.reserve_offsets(entry.count, big);
    }

    let mut file = header(big)?;
    let directory_bytes: usize = directories.iter().map(|entries| length(entries, big)).sum();
    let mut places = place((file.len() + directory_bytes) as u64).into_iter();
    for entries in &mut directories {
        let entry = offsets(entries);
        entry.data.clear();
        for offset in places.by_ref().take(entry.count) {
            append_offset(offset, big, &mut entry.data)?;
        }
    }
    for (index, entries) in directories.iter().enumerate() {
        let next = file.len() + length(entries, big);
        let next = if index + 1 < directories.len() {
            next
        } else {
            0
        };
        file.extend(serialise(entries, file.len(), next, big)?);
    }
    Ok(file)
}

/// The entry with the places of strips or tiles.
fn offsets(entries: &mut [Entry]) -> &mut Entry {
    let mut entries = entries.iter_mut();
    let offsets = entries.find(|entry| matches!(entry.tag, STRIP_OFFSETS | TILE_OFFSETS));
    offsets.expect("it is in the list below")
}

/// Strips or tiles of a page.
fn chunks(shape: &Shape) -> usize {
    let bands = shape.height.div_ceil(shape.band_rows);
    usize::try_from(u64::from(bands) * u64::from(shape.across())).unwrap_or(usize::MAX)
}

/// Bytes of a page and what is written beside it, if nothing gets smaller: what decides about `BigTIFF`,
/// so that it is known from the start.
fn most_bytes(sheet: &Sheet, entries: &[Entry]) -> u64 {
    let shape = &sheet.shape;
    let beside: usize = entries.iter().map(|entry| entry.data.len()).sum();
    // Tiles at the edges are whole.
    let whole = |pixels: u32| pixels.next_multiple_of(shape.tile.unwrap_or(1));
    let row_bytes = u64::try_from(shape.layout.row_bytes(whole(shape.width))).unwrap_or(u64::MAX);
    let samples = row_bytes.saturating_mul(u64::from(whole(shape.height)));
    let packed = match sheet.options.tiff_compression {
        TiffCompression::Deflate => samples,
        // Codes have up to 12 bits, and may stand for one byte each.
        TiffCompression::Lzw => samples.saturating_add(samples / 2),
    };
    packed.saturating_add(beside as u64)
}

/// - `page`: which, from 0, and of how many.
fn entries(sheet: &Sheet, (page, pages): (usize, usize), sizes: &[u32]) -> Vec<Entry> {
    let Sheet { options, shape, .. } = sheet;
    let channels = shape.channels();
    let samples = u16::try_from(channels).unwrap_or(u16::MAX);
    let bits = u16::from(shape.layout.depth.bits());
    let mut entries = vec![
        Entry::long(256, &[shape.width]),
        Entry::long(257, &[shape.height]),
        Entry::short(258, &vec![bits; channels]),
        Entry::short(259, &[compression(options)]),
        // 1: black is zero; 2: RGB.
        Entry::short(262, &[if shape.gray() { 1 } else { 2 }]),
        Entry::short(277, &[samples]),
        Entry::short(284, &[1]),
        // Horizontal differences.
        Entry::short(317, &[2]),
    ];
    entries.extend(match shape.tile {
        None => vec![
            Entry::new(STRIP_OFFSETS, 0, sizes.len(), Vec::new()),
            Entry::long(278, &[shape.band_rows.min(shape.height)]),
            Entry::long(279, sizes),
        ],
        Some(side) => vec![
            Entry::long(322, &[side]),
            Entry::long(323, &[side]),
            Entry::new(TILE_OFFSETS, 0, sizes.len(), Vec::new()),
            Entry::long(325, sizes),
        ],
    });
    if shape.layout.alpha {
        // The last channel is alpha, and colours are not multiplied by it.
        entries.push(Entry::short(338, &[2]));
    }
    if pages > 1 {
        let number = |number: usize| u16::try_from(number).unwrap_or(u16::MAX);
        // One page of several, and which.
        entries.push(Entry::long(254, &[2]));
        entries.push(Entry::short(297, &[number(page), number(pages)]));
    }
    let icc = options.icc.as_ref();
    entries.extend(icc.map(|icc| Entry::new(34_675, UNDEFINED, icc.len(), icc.clone())));
    tiff_metadata::append(&options.metadata, &mut entries);
    entries.sort_by_key(|entry| entry.tag);
    entries
}

/// The value of the tag: 5 is LZW, 8 deflate in a zlib stream.
fn compression(options: &EncodeOptions) -> u16 {
    match options.tiff_compression {
        TiffCompression::Deflate => 8,
        TiffCompression::Lzw => 5,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use ::tiff::{decoder::Decoder, tags::Tag};

    use super::*;
    use crate::{Format, samples::Layout};

    fn sheet(shape: Shape, options: EncodeOptions) -> Sheet {
        Sheet {
            options,
            shape,
            above: 0,
        }
    }

    /// The directory as another reader finds it: whether it is `BigTIFF`, and its tags.
    fn read(height: u32, icc: &[u8]) -> (bool, Decoder<Cursor<Vec<u8>>>) {
        let shape = Shape {
            width: 40_000,
            height,
            layout: Layout::RGB8,
            band_rows: 17,
            tile: None,
        };
        let strips = u64::from(height.div_ceil(17));
        let sizes: Vec<u32> = (0..height.div_ceil(17))
            .map(|index| 1_000 + index)
            .collect();
        let options = EncodeOptions {
            icc: Some(icc.to_vec()),
            ..EncodeOptions::new(Format::Tiff)
        };
        let file = write(&[sheet(shape, options)], &sizes, |data_at| {
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
            let (found, mut decoder) = read(height, &[7; 333]);
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
            tile: None,
        };
        let place = |_| vec![u64::from(u32::MAX) + 1];
        let options = EncodeOptions::new(Format::Tiff);
        assert!(write(&[sheet(shape, options)], &[1], place).is_err());
    }
}
