//! Reads the directories of a TIFF file, or of an EXIF block, which is one.

use super::{Exif, Field, tags};
use crate::metadata::resolution::{Resolution, Unit};
use crate::metadata::source::{Bytes, MAX_BLOCK_BYTES};

/// More than any program writes into one directory.
const MAX_FIELDS: u64 = 4_000;
/// A maker's note further back than this is not worth the gap that keeps it there.
const MAX_NOTE_AT: u64 = 60_000;

/// What a TIFF file, or an EXIF block, holds of metadata.
#[derive(Debug, Default)]
pub(in crate::metadata) struct Found {
    pub exif: Exif,
    pub resolution: Option<Resolution>,
    pub xmp: Option<Vec<u8>>,
    pub iptc: Option<Vec<u8>>,
    pub photoshop: Option<Vec<u8>>,
    /// What is not carried, by name.
    pub left_behind: Vec<&'static str>,
    /// How the stored picture is to be turned, from 1.
    pub orientation: Option<u8>,
    /// A value lies outside the file, is too large or of an unknown type.
    pub incomplete: bool,
}

/// The directories of a file.
pub(in crate::metadata) struct Directories<'s, 'r> {
    bytes: &'s mut Bytes<'r>,
    big_endian: bool,
    /// `BigTIFF`: offsets have eight bytes.
    big: bool,
    /// Bytes that may still be read.
    left: usize,
    incomplete: bool,
    left_behind: Vec<&'static str>,
    note_at: Option<u32>,
}

impl<'s, 'r> Directories<'s, 'r> {
    /// `None` if it does not begin like a TIFF file.
    pub(in crate::metadata) fn open(bytes: &'s mut Bytes<'r>) -> Option<Self> {
        let (big_endian, big) = match &bytes.array::<4>(0)? {
            b"II*\0" => (false, false),
            b"MM\0*" => (true, false),
            b"II+\0" => (false, true),
            b"MM\0+" => (true, true),
            _ => return None,
        };
        Some(Self {
            bytes,
            big_endian,
            big,
            left: MAX_BLOCK_BYTES,
            incomplete: false,
            left_behind: Vec::new(),
            note_at: None,
        })
    }

    /// Reads the directory at byte `at`, or the first one, and those it refers to.
    pub(in crate::metadata) fn read(mut self, at: Option<u64>) -> Option<Found> {
        let at = match at {
            Some(at) => at,
            None => self.number(if self.big { 8 } else { 4 }, self.offset_bytes())?,
        };
        let fields = self.directory(at, wanted)?;
        Some(self.assemble(fields))
    }

    fn assemble(mut self, mut image: Vec<Field>) -> Found {
        let photo = self.sub_directory(&image, tags::EXIF_DIRECTORY);
        let gps = self.sub_directory(&image, tags::GPS_DIRECTORY);
        let interop = self.sub_directory(&photo, tags::INTEROP_DIRECTORY);
        let mut take = |tag| {
            let at = image.iter().position(|field| field.tag == tag)?;
            Some(image.remove(at).data)
        };
        let (xmp, iptc, photoshop) = (take(tags::XMP), take(tags::IPTC), take(tags::PHOTOSHOP));
        let resolution = self.resolution(&image);
        let orientation = find(&image, tags::ORIENTATION).map(|field| self.joined(&field.data));
        image.retain(|field| !tags::is_of_the_pixels(field.tag));
        let without_pointers = |mut fields: Vec<Field>| {
            fields.retain(|field| field.tag != tags::INTEROP_DIRECTORY);
            fields
        };
        Found {
            exif: Exif {
                big_endian: self.big_endian,
                image,
                photo: without_pointers(photo),
                gps,
                interop,
                note_at: self.note_at,
            },
            resolution,
            xmp,
            iptc,
            photoshop,
            left_behind: self.left_behind,
            orientation: orientation.and_then(|orientation| u8::try_from(orientation).ok()),
            incomplete: self.incomplete,
        }
    }

    fn resolution(&mut self, image: &[Field]) -> Option<Resolution> {
        let numbers = |tag| {
            let bytes = &find(image, tag)?.data;
            let size = if bytes.len() == 8 { 4 } else { 2 };
            let mut numbers = bytes.chunks_exact(size).map(|bytes| self.joined(bytes));
            let number = u32::try_from(numbers.next()?).ok()?;
            Some((
                number,
                numbers.next().and_then(|second| u32::try_from(second).ok()),
            ))
        };
        let ratio = |tag| numbers(tag).and_then(|(first, second)| Some((first, second?)));
        let unit = match numbers(tags::RESOLUTION_UNIT).map(|(unit, _)| unit) {
            None | Some(2) => Unit::Inch,
            Some(3) => Unit::Centimetre,
            Some(_) => {
                let says_something = ratio(tags::X_RESOLUTION).is_some_and(|x| x.0 != x.1);
                self.left_behind
                    .extend(says_something.then_some("the resolution, which has no unit"));
                return None;
            }
        };
        let x = ratio(tags::X_RESOLUTION)?;
        let y = ratio(tags::Y_RESOLUTION).unwrap_or(x);
        Resolution::new(x, y, unit)
    }

    fn sub_directory(&mut self, fields: &[Field], pointer: u16) -> Vec<Field> {
        let Some(field) = find(fields, pointer) else {
            return Vec::new();
        };
        let at = self.joined(&field.data);
        match self.directory(at, |_| true) {
            Some(fields) => fields,
            None => {
                self.incomplete = true;
                Vec::new()
            }
        }
    }

    /// The directory at byte `at`, in the order of its tags, and where the next one is.
    fn directory(&mut self, at: u64, wanted: fn(u16) -> bool) -> Option<Vec<Field>> {
        let (count_bytes, entry_bytes) = if self.big { (8, 20) } else { (2, 12) };
        let count = self.number(at, count_bytes)?;
        if count > MAX_FIELDS {
            return None;
        }
        let entries = at.checked_add(count_bytes as u64)?;
        let mut fields = Vec::new();
        for index in 0..count {
            let entry = entries.checked_add(index * entry_bytes)?;
            let tag = u16::try_from(self.number(entry, 2)?).ok()?;
            if !wanted(tag) {
                self.left_behind.extend(tags::left_behind(tag));
                continue;
            }
            match self.field(entry, tag) {
                Some(field) => fields.push(field),
                None => self.incomplete = true,
            }
        }
        fields.sort_by_key(|field: &Field| field.tag);
        fields.dedup_by_key(|field| field.tag);
        Some(fields)
    }

    fn field(&mut self, entry: u64, tag: u16) -> Option<Field> {
        let kind = u16::try_from(self.number(entry + 2, 2)?).ok()?;
        let count = usize::try_from(self.number(entry + 4, self.offset_bytes())?).ok()?;
        // Pointers of BigTIFF have eight bytes.
        let is_pointer = matches!(
            tag,
            tags::EXIF_DIRECTORY | tags::GPS_DIRECTORY | tags::INTEROP_DIRECTORY
        );
        let size = match kind {
            16 | 18 if is_pointer => 8,
            _ => tags::sizes(kind)?.0,
        };
        let length = count.checked_mul(size)?;
        let place = entry + 4 + self.offset_bytes() as u64;
        let at = if length <= self.offset_bytes() {
            place
        } else {
            self.number(place, self.offset_bytes())?
        };
        if length == 0 || length > self.left {
            return None;
        }
        let data = self.bytes.get(at, length)?;
        self.left -= length;
        if tag == tags::MAKER_NOTE && length > 4 && at < MAX_NOTE_AT {
            self.note_at = u32::try_from(at).ok();
        }
        Some(Field { tag, kind, data })
    }

    fn offset_bytes(&self) -> usize {
        if self.big { 8 } else { 4 }
    }

    fn number(&mut self, at: u64, size: usize) -> Option<u64> {
        let mut bytes = [0; 8];
        self.bytes.fill(at, &mut bytes[..size])?;
        Some(self.joined(&bytes[..size]))
    }

    fn joined(&self, bytes: &[u8]) -> u64 {
        let join = |number: u64, byte: &u8| (number << 8) | u64::from(*byte);
        if self.big_endian {
            bytes.iter().fold(0, join)
        } else {
            bytes.iter().rev().fold(0, join)
        }
    }
}

/// Whether a field of the main directory is read: not the long lists of the strips.
fn wanted(tag: u16) -> bool {
    let looked_at = matches!(
        tag,
        tags::XMP
            | tags::IPTC
            | tags::PHOTOSHOP
            | tags::EXIF_DIRECTORY
            | tags::GPS_DIRECTORY
            | tags::X_RESOLUTION
            | tags::Y_RESOLUTION
            | tags::RESOLUTION_UNIT
            | tags::ORIENTATION
    );
    looked_at || !tags::is_of_the_pixels(tag)
}

fn find(fields: &[Field], tag: u16) -> Option<&Field> {
    fields.iter().find(|field| field.tag == tag)
}
