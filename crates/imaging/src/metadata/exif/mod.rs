//! EXIF: directories of tagged values, in JPEG, PNG and WebP as a block that is a small TIFF file, in
//! TIFF as part of the file's own directory.
//!
//! A directory is read into [`Field`]s, mended, and written anew. What is not understood is kept byte
//! for byte, so the block keeps its byte order; the notes of camera makers, which refer to places in
//! the block, also keep their place where they can.

mod block;
mod mend;
mod parse;
pub(crate) mod tags;

pub(super) use mend::Mend;
pub(super) use parse::{Directories, Found};

/// One value, or list of values, with its tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Field {
    pub tag: u16,
    pub kind: u16,
    /// In the byte order of its [`Exif`].
    pub data: Vec<u8>,
}

/// All directories of a picture, each in the order of its tags.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Exif {
    /// Numbers have their most significant byte first.
    pub big_endian: bool,
    /// The main directory, without what is about stored pixels.
    pub image: Vec<Field>,
    /// How the picture was taken.
    pub photo: Vec<Field>,
    /// Where it was taken.
    pub gps: Vec<Field>,
    pub interop: Vec<Field>,
    /// Where in its block the maker's note was, in bytes.
    note_at: Option<u32>,
}

impl Exif {
    pub(super) fn is_empty(&self) -> bool {
        [&self.image, &self.photo, &self.gps, &self.interop]
            .iter()
            .all(|directory| directory.is_empty())
    }

    /// The text of a tag of the main directory.
    pub(super) fn text(&self, tag: u16) -> Option<String> {
        let field = self.image.iter().find(|field| field.tag == tag)?;
        let text = String::from_utf8_lossy(&field.data);
        let text = text.trim_end_matches('\0').trim();
        (!text.is_empty()).then(|| text.to_owned())
    }

    /// Lets the maker's note stand anywhere; says whether it had a place.
    pub(super) fn release_note(&mut self) -> bool {
        self.note_at.take().is_some()
    }

    /// Leaves the maker's note out; says whether there was one.
    pub(super) fn remove_note(&mut self) -> bool {
        let before = self.photo.len();
        self.photo.retain(|field| field.tag != tags::MAKER_NOTE);
        self.photo.len() < before
    }

    pub(super) fn short(&self, number: u16) -> Vec<u8> {
        if self.big_endian {
            number.to_be_bytes().to_vec()
        } else {
            number.to_le_bytes().to_vec()
        }
    }

    pub(super) fn long(&self, number: u32) -> Vec<u8> {
        if self.big_endian {
            number.to_be_bytes().to_vec()
        } else {
            number.to_le_bytes().to_vec()
        }
    }

    /// The unsigned numbers of a field of type SHORT or LONG; none of any other.
    fn numbers(&self, field: &Field) -> Vec<u32> {
        let join = |number: u32, byte: &u8| (number << 8) | u32::from(*byte);
        let joined = |bytes: &[u8]| {
            if self.big_endian {
                bytes.iter().fold(0, join)
            } else {
                bytes.iter().rev().fold(0, join)
            }
        };
        match field.kind {
            tags::SHORT => field.data.chunks_exact(2).map(joined).collect(),
            tags::LONG | tags::RATIONAL => field.data.chunks_exact(4).map(joined).collect(),
            _ => Vec::new(),
        }
    }
}

impl Field {
    /// Number of values, and the values with the least significant byte first.
    pub(crate) fn little_endian(&self, big_endian: bool) -> (usize, Vec<u8>) {
        let (size, swapped) = tags::sizes(self.kind).unwrap_or((1, 1));
        let mut data = self.data.clone();
        if big_endian {
            data.chunks_exact_mut(swapped).for_each(<[u8]>::reverse);
        }
        (self.data.len() / size, data)
    }
}

/// Puts a field in its place in the order of tags; instead of one that is there.
pub(super) fn set(directory: &mut Vec<Field>, field: Field) {
    match directory.binary_search_by_key(&field.tag, |field| field.tag) {
        Ok(at) => directory[at] = field,
        Err(at) => directory.insert(at, field),
    }
}
