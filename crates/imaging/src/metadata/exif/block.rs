//! Writes the directories as an EXIF block.

use super::{Exif, Field, tags};
use crate::metadata::resolution::Resolution;

/// Byte order, 42, and where the first directory is.
const HEADER_BYTES: usize = 8;
const ENTRY_BYTES: usize = 12;

/// The block while it is laid out.
struct Layout {
    /// Bytes that the maker's note has, if it keeps its place.
    note: Option<(usize, usize)>,
    bytes: Vec<u8>,
}

impl Layout {
    /// Finds room for `length` bytes behind all that is there, and beside the note.
    fn room(&mut self, length: usize) -> usize {
        let mut at = self.bytes.len().next_multiple_of(2);
        if let Some((from, to)) = self.note
            && at < to
            && at + length > from
        {
            at = to.next_multiple_of(2);
        }
        self.bytes.resize(at + length, 0);
        at
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        if self.bytes.len() < at + bytes.len() {
            self.bytes.resize(at + bytes.len(), 0);
        }
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }
}

impl Exif {
    /// The block, without the `Exif\0\0` that JPEG has before it.
    pub(crate) fn to_block(&self, resolution: Option<Resolution>) -> Vec<u8> {
        let note = self.note();
        let mut layout = Layout {
            note: note.map(|(at, data)| (at, at + data.len())),
            bytes: Vec::with_capacity(HEADER_BYTES),
        };
        layout.bytes.extend(if self.big_endian {
            *b"MM\0*"
        } else {
            *b"II*\0"
        });
        layout.bytes.resize(HEADER_BYTES, 0);

        let image = self.image_with(resolution);
        let pointers = [
            (
                !self.photo.is_empty() || !self.interop.is_empty(),
                tags::EXIF_DIRECTORY,
            ),
            (!self.gps.is_empty(), tags::GPS_DIRECTORY),
        ];
        let pointers: Vec<u16> = pointers
            .into_iter()
            .filter_map(|(is_there, tag)| is_there.then_some(tag))
            .collect();
        let (image_at, places) = self.write(&image, &pointers, &mut layout);
        layout.put(4, &self.long(number(image_at)));
        for (tag, place) in pointers.iter().zip(places) {
            let at = if *tag == tags::GPS_DIRECTORY {
                self.write(&self.gps, &[], &mut layout).0
            } else {
                self.write_photo(&mut layout)
            };
            layout.put(place, &self.long(number(at)));
        }
        if let Some((at, data)) = note {
            layout.put(at, data);
        }
        layout.bytes
    }

    fn write_photo(&self, layout: &mut Layout) -> usize {
        let pointers: &[u16] = if self.interop.is_empty() {
            &[]
        } else {
            &[tags::INTEROP_DIRECTORY]
        };
        let (at, places) = self.write(&self.photo, pointers, layout);
        if let Some(place) = places.first() {
            let interop = self.write(&self.interop, &[], layout).0;
            layout.put(*place, &self.long(number(interop)));
        }
        at
    }

    /// The main directory with the resolution of the result.
    pub(crate) fn image_with(&self, resolution: Option<Resolution>) -> Vec<Field> {
        let mut image = self.image.clone();
        if let Some(Resolution { x, y, unit }) = resolution {
            let ratio = |tag, (numerator, denominator)| Field {
                tag,
                kind: tags::RATIONAL,
                data: [self.long(numerator), self.long(denominator)].concat(),
            };
            super::set(&mut image, ratio(tags::X_RESOLUTION, x));
            super::set(&mut image, ratio(tags::Y_RESOLUTION, y));
            super::set(
                &mut image,
                Field {
                    tag: tags::RESOLUTION_UNIT,
                    kind: tags::SHORT,
                    data: self.short(unit.tag()),
                },
            );
        }
        image
    }

    /// The maker's note and where it stays, if it has a place.
    fn note(&self) -> Option<(usize, &[u8])> {
        let at = usize::try_from(self.note_at?).ok()?;
        let note = self
            .photo
            .iter()
            .find(|field| field.tag == tags::MAKER_NOTE && field.data.len() > 4)?;
        (at >= HEADER_BYTES).then_some((at, note.data.as_slice()))
    }

    /// Writes a directory with its values. Returns where it is, and where each of the `pointers` is to
    /// be written.
    fn write(
        &self,
        fields: &[Field],
        pointers: &[u16],
        layout: &mut Layout,
    ) -> (usize, Vec<usize>) {
        let mut entries: Vec<Entry<'_>> = fields.iter().map(Entry::Value).collect();
        entries.extend(pointers.iter().map(|tag| Entry::Pointer(*tag)));
        entries.sort_by_key(Entry::tag);
        let at = layout.room(2 + entries.len() * ENTRY_BYTES + 4);
        layout.put(
            at,
            &self.short(u16::try_from(entries.len()).unwrap_or(u16::MAX)),
        );
        let mut places = Vec::new();
        for (index, entry) in entries.iter().enumerate() {
            let entry_at = at + 2 + index * ENTRY_BYTES;
            let place = entry_at + 8;
            layout.put(entry_at, &self.short(entry.tag()));
            let Entry::Value(field) = entry else {
                layout.put(entry_at + 2, &self.short(tags::LONG));
                layout.put(entry_at + 4, &self.long(1));
                places.push(place);
                continue;
            };
            let size = tags::sizes(field.kind).map_or(1, |(size, _)| size);
            layout.put(entry_at + 2, &self.short(field.kind));
            layout.put(entry_at + 4, &self.long(number(field.data.len() / size)));
            if field.data.len() <= 4 {
                layout.put(place, &field.data);
            } else {
                let data_at = match (field.tag, layout.note) {
                    (tags::MAKER_NOTE, Some((note_at, _))) => note_at,
                    _ => {
                        let data_at = layout.room(field.data.len());
                        layout.put(data_at, &field.data);
                        data_at
                    }
                };
                layout.put(place, &self.long(number(data_at)));
            }
        }
        (at, places)
    }
}

enum Entry<'a> {
    Value(&'a Field),
    Pointer(u16),
}

impl Entry<'_> {
    fn tag(&self) -> u16 {
        match self {
            Self::Value(field) => field.tag,
            Self::Pointer(tag) => *tag,
        }
    }
}

/// Blocks are far below 4 GiB.
fn number(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::exif::Directories;
    use crate::metadata::resolution::Unit;
    use crate::metadata::source::in_block;

    fn field(tag: u16, kind: u16, data: &[u8]) -> Field {
        Field {
            tag,
            kind,
            data: data.to_vec(),
        }
    }

    fn exif(big_endian: bool, note_at: Option<u32>) -> Exif {
        Exif {
            big_endian,
            image: vec![
                field(271, tags::ASCII, b"Maker\0"),
                field(315, tags::ASCII, b"Me\0"),
            ],
            photo: vec![
                field(36_867, tags::ASCII, b"1999:12:31 23:59:58\0"),
                field(tags::MAKER_NOTE, tags::UNDEFINED, &[7; 40]),
            ],
            gps: vec![
                field(1, tags::ASCII, b"N\0"),
                field(2, tags::RATIONAL, &[1; 24]),
            ],
            interop: vec![field(1, tags::ASCII, b"R98\0")],
            note_at,
        }
    }

    fn read(block: &[u8]) -> super::super::Found {
        in_block(block, |bytes| {
            Directories::open(bytes).unwrap().read(None).unwrap()
        })
    }

    #[test]
    fn what_is_written_reads_back_wherever_the_note_stays() {
        let resolution = Resolution::new((1200, 1), (1200, 1), Unit::Inch);
        for big_endian in [false, true] {
            for note_at in (8..500).step_by(3).map(Some).chain([None]) {
                let written = exif(big_endian, note_at);
                let block = written.to_block(resolution);
                let found = read(&block);
                assert!(!found.incomplete);
                assert_eq!(found.resolution, resolution);
                if let Some(at) = note_at {
                    assert_eq!(found.exif.note_at, Some(at), "the note stays");
                }
                let found = Exif {
                    note_at,
                    ..found.exif
                };
                assert_eq!(found, written, "{note_at:?}");
            }
        }
    }

    #[test]
    fn a_block_that_is_cut_off_never_panics_and_says_that_something_is_missing() {
        let block = exif(true, None).to_block(None);
        for length in 0..block.len() {
            let cut = &block[..length];
            let found = in_block(cut, |bytes| Directories::open(bytes)?.read(None));
            if let Some(found) = found {
                assert!(found.incomplete, "{length} of {}", block.len());
            }
        }
    }
}
