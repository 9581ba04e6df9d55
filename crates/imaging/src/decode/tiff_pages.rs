//! Which directories of a TIFF file are its pages.
//!
//! A file may hold several directories: pages, reduced copies of a page (a pyramid, a thumbnail)
//! and masks. One page is read at a time; of several, page one is never taken silently.
//! The walk reads a few tags of each directory itself, so that a declared size is judged before
//! a decoder looks at the rest.

use std::collections::HashSet;

use super::{Wanted, input::Input, patched::Patch, tiff::FORMAT};
use crate::{DecodeError, Limits};

/// More directories than any pyramid or thumbnail needs.
const MAX_DIRECTORIES: usize = 1_000;

/// How many pages may have as many blocks as one may have: all together ten times as many.
const PAGES_OF_MANY_BLOCKS: u32 = 10;

const NEW_SUBFILE_TYPE: u16 = 254;
const OLD_SUBFILE_TYPE: u16 = 255;
const IMAGE_WIDTH: u16 = 256;
const IMAGE_LENGTH: u16 = 257;
const PHOTOMETRIC: u16 = 262;
const ROWS_PER_STRIP: u16 = 278;
const SUB_DIRECTORIES: u16 = 330;

/// Bit 0 of `NewSubfileType`: a reduced copy of another image in this file.
const REDUCED: u64 = 1;
/// Bit 2 of `NewSubfileType`: a transparency mask for another image in this file.
const MASK: u64 = 4;

/// What one directory says about itself.
#[derive(Debug, Default, Clone, Copy)]
struct Directory {
    /// Where it is, in bytes.
    at: u64,
    /// Entries in it; where there are more than are allowed, none was looked at.
    entries: u64,
    kind: u64,
    width: u64,
    height: u64,
    photometric: Number,
    strip_rows: Number,
    /// It refers to others that are not in the chain.
    has_others: bool,
}

/// An unsigned number, and where in the file it stands.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Number {
    pub value: u64,
    /// Of its first byte; 0 where there is none.
    at: u64,
    size: usize,
    /// The file's byte order.
    little: bool,
}

impl Number {
    /// Where the bytes are that would have to be others for it to be `value`, and those.
    pub(super) fn patch(self, value: u64) -> Patch {
        let bytes = if self.little {
            value.to_le_bytes()[..self.size].to_vec()
        } else {
            value.to_be_bytes()[8 - self.size..].to_vec()
        };
        Patch { at: self.at, bytes }
    }
}

/// The page of a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Page {
    /// Where the file's first directory is.
    pub first: Number,
    /// Where its directory is, in bytes.
    pub at: u64,
    /// In pixels.
    pub height: u64,
    /// What the samples mean (tag 262).
    pub photometric: Number,
    /// Rows per strip (tag 278).
    pub strip_rows: Number,
}

/// Returns the page that is wanted.
///
/// # Errors
/// Those of [`pages`]; [`DecodeError::SeveralPages`] where the only one is wanted,
/// [`DecodeError::NoSuchPage`].
pub(super) fn wanted_page(input: &mut Input<'_>, wanted: &Wanted) -> Result<Page, DecodeError> {
    let found = pages(input, &wanted.limits)?;
    let count = u32::try_from(found.len()).unwrap_or(u32::MAX);
    let index = match wanted.page {
        None if count > 1 => return Err(DecodeError::SeveralPages { pages: count }),
        None => 0,
        Some(index) => index,
    };
    let page = found.get(usize::try_from(index).unwrap_or(usize::MAX));
    page.copied().ok_or(DecodeError::NoSuchPage {
        page: index.saturating_add(1),
        pages: count,
    })
}

/// Returns the pages in the chain of directories, at least one.
///
/// # Errors
/// [`DecodeError::Unsupported`] for a mask; [`DecodeError::Corrupt`] for a chain that loops, or has no
/// page; [`DecodeError::Truncated`] for one that leaves the file; a size over `limits`.
pub(super) fn pages(input: &mut Input<'_>, limits: &Limits) -> Result<Vec<Page>, DecodeError> {
    let (first, directories) = chain(input, limits)?;
    for directory in &directories {
        let side = |pixels| u32::try_from(pixels).unwrap_or(u32::MAX);
        limits.check_size(side(directory.width), side(directory.height))?;
    }
    if directories
        .iter()
        .any(|directory| directory.kind & MASK != 0)
    {
        let remedy = "flatten it onto a background";
        return Err(DecodeError::unsupported(
            FORMAT,
            "a transparency mask",
            remedy,
        ));
    }
    if let [only] = directories.as_slice()
        && only.kind & REDUCED != 0
        && only.has_others
    {
        let what = "a preview before the picture itself, as in raw photographs (DNG)";
        return Err(DecodeError::unsupported(
            FORMAT,
            what,
            "convert it to a plain TIFF",
        ));
    }
    let pages: Vec<Page> = directories
        .iter()
        .filter(|directory| directories.len() == 1 || directory.kind & REDUCED == 0)
        .map(|directory| Page {
            first,
            at: directory.at,
            height: directory.height,
            photometric: directory.photometric,
            strip_rows: directory.strip_rows,
        })
        .collect();
    if pages.is_empty() {
        return Err(DecodeError::corrupt(
            FORMAT,
            "there is no page in full resolution",
        ));
    }
    Ok(pages)
}

/// Where the first directory is, and all there are.
fn chain(input: &mut Input<'_>, limits: &Limits) -> Result<(Number, Vec<Directory>), DecodeError> {
    let cut_off = || DecodeError::Truncated { format: FORMAT };
    let mut magic = [0; 4];
    input.read_at(0, &mut magic).map_err(|_| cut_off())?;
    let mut words = Words {
        input,
        most: limits.max_blocks.into(),
        little: magic.starts_with(b"II"),
        big: magic[2..] == *b"+\0" || magic[2..] == *b"\0+",
    };
    let mut directories = Vec::new();
    let mut seen = HashSet::new();
    let at = if words.big { 8 } else { 4 };
    let first = Number {
        value: words.offset(at).ok_or_else(cut_off)?,
        at,
        size: words.offset_size(),
        little: words.little,
    };
    // Each page that is opened costs a walk along the chain.
    let most_entries = limits.max_blocks.saturating_mul(PAGES_OF_MANY_BLOCKS);
    let mut entries = 0;
    let mut next = first.value;
    while next != 0 {
        if directories.len() == MAX_DIRECTORIES {
            let what = format!("more than {MAX_DIRECTORIES} pages");
            return Err(DecodeError::unsupported(
                FORMAT,
                what,
                "split it into several files",
            ));
        }
        if !seen.insert(next) {
            return Err(DecodeError::corrupt(
                FORMAT,
                "its chain of pages does not end",
            ));
        }
        let (directory, after) = words.directory(next).ok_or_else(cut_off)?;
        limits.check_blocks(FORMAT, directory.entries)?;
        entries += directory.entries;
        if entries > most_entries.into() {
            return Err(DecodeError::TooManyBlocks {
                format: FORMAT,
                limit: most_entries,
            });
        }
        directories.push(directory);
        next = after;
    }
    Ok((first, directories))
}

/// Numbers of the file, in its byte order and with its size of offsets.
struct Words<'r, 'a> {
    input: &'r mut Input<'a>,
    /// Entries of a directory that are looked at.
    most: u64,
    little: bool,
    big: bool,
}

impl Words<'_, '_> {
    /// The unsigned number of `size` bytes, at most 8, at byte `at`.
    fn number(&mut self, at: u64, size: usize) -> Option<u64> {
        let mut field = [0; 8];
        self.input.read_at(at, &mut field[..size]).ok()?;
        Some(self.joined(&field[..size]))
    }

    fn joined(&self, field: &[u8]) -> u64 {
        let join = |number: u64, byte: &u8| (number << 8) | u64::from(*byte);
        if self.little {
            field.iter().rev().fold(0, join)
        } else {
            field.iter().fold(0, join)
        }
    }

    /// Bytes of an offset.
    fn offset_size(&self) -> usize {
        if self.big { 8 } else { 4 }
    }

    fn offset(&mut self, at: u64) -> Option<u64> {
        self.number(at, self.offset_size())
    }

    /// The directory at byte `at`, and where the next one is (0: there is none).
    fn directory(&mut self, at: u64) -> Option<(Directory, u64)> {
        let (count_size, entry_size) = if self.big { (8, 20) } else { (2, 12) };
        let count = self.number(at, count_size)?;
        let entries = at.checked_add(count_size as u64)?;
        let entries_bytes = count.checked_mul(entry_size as u64)?;
        let end = entries.checked_add(entries_bytes)?;
        let mut directory = Directory {
            at,
            entries: count,
            ..Directory::default()
        };
        if end > self.input.len() {
            return None;
        }
        if count > self.most {
            return Some((directory, 0));
        }
        let mut all = vec![0; usize::try_from(entries_bytes).ok()?];
        self.input.read_at(entries, &mut all).ok()?;
        let next = self.offset(end)?;
        let places = (entries..).step_by(entry_size);
        for (at, entry) in places.zip(all.chunks_exact(entry_size)) {
            let tag = u16::try_from(self.joined(&entry[..2])).ok()?;
            directory.has_others |= tag == SUB_DIRECTORIES;
            let Some(number) = self.value(entry, at) else {
                continue;
            };
            let value = number.value;
            match tag {
                NEW_SUBFILE_TYPE => directory.kind |= value,
                // 2 is a reduced copy, 1 full resolution, 3 one page of several.
                OLD_SUBFILE_TYPE if value == 2 => directory.kind |= REDUCED,
                IMAGE_WIDTH => directory.width = value,
                IMAGE_LENGTH => directory.height = value,
                PHOTOMETRIC => directory.photometric = number,
                ROWS_PER_STRIP => directory.strip_rows = number,
                _ => {}
            }
        }
        Some((directory, next))
    }

    /// The first number of the entry at byte `at` if its type is an unsigned integer stored in place.
    fn value(&self, entry: &[u8], at: u64) -> Option<Number> {
        let size = match self.joined(&entry[2..4]) {
            1 => 1,
            3 => 2,
            4 => 4,
            16 if self.big => 8,
            _ => return None,
        };
        let within = if self.big { 12 } else { 8 };
        Some(Number {
            value: self.joined(&entry[within..within + size]),
            at: at + within as u64,
            size,
            little: self.little,
        })
    }
}
