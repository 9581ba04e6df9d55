//! Directories of TIFF as bytes, little-endian.

use crate::{EncodeError, Format};

const SHORT: u16 = 3;
const LONG: u16 = 4;
const RATIONAL: u16 = 5;
const LONG8: u16 = 16;

/// One entry of a directory.
pub(super) struct Entry {
    pub tag: u16,
    pub kind: u16,
    pub count: usize,
    /// Little-endian.
    pub data: Vec<u8>,
    /// The directory that it refers to; `data` is empty then.
    pub directory: Option<Vec<Entry>>,
}

impl Entry {
    pub(super) fn new(tag: u16, kind: u16, count: usize, data: Vec<u8>) -> Self {
        Self {
            tag,
            kind,
            count,
            data,
            directory: None,
        }
    }

    /// One that refers to a directory of its own.
    pub(super) fn directory(tag: u16, directory: Vec<Entry>) -> Self {
        Self {
            directory: Some(directory),
            ..Self::new(tag, LONG, 1, Vec::new())
        }
    }

    pub(super) fn short(tag: u16, values: &[u16]) -> Self {
        let data = values.iter().flat_map(|value| value.to_le_bytes());
        Self::new(tag, SHORT, values.len(), data.collect())
    }

    pub(super) fn long(tag: u16, values: &[u32]) -> Self {
        let data = values.iter().flat_map(|value| value.to_le_bytes());
        Self::new(tag, LONG, values.len(), data.collect())
    }

    pub(super) fn rational(tag: u16, (numerator, denominator): (u32, u32)) -> Self {
        let data = [numerator, denominator].map(u32::to_le_bytes).concat();
        Self::new(tag, RATIONAL, 1, data)
    }

    /// Makes it a list of `count` offsets of which the values are not known yet.
    pub(super) fn reserve_offsets(&mut self, count: usize, big: bool) {
        self.kind = if big { LONG8 } else { LONG };
        self.data = vec![0; count * offset_bytes(big)];
    }
}

/// Header, and where its first directory is, in bytes.
pub(super) fn header(big: bool) -> Result<Vec<u8>, EncodeError> {
    let mut header = b"II".to_vec();
    if big {
        // 43, then eight bytes an offset and a zero, then where the directory is.
        header.extend([43, 0, 8, 0, 0, 0]);
        append_offset(16, big, &mut header)?;
    } else {
        header.extend([42, 0]);
        append_offset(8, big, &mut header)?;
    }
    Ok(header)
}

pub(super) fn offset_bytes(big: bool) -> usize {
    if big { 8 } else { 4 }
}

/// Bytes of a directory with all that it refers to; even.
pub(super) fn length(entries: &[Entry], big: bool) -> usize {
    let referred = entries.iter().map(|entry| match &entry.directory {
        Some(directory) => length(directory, big),
        None => outside(&entry.data, big),
    });
    own_length(entries, big) + referred.sum::<usize>()
}

/// Bytes of a directory alone; even.
fn own_length(entries: &[Entry], big: bool) -> usize {
    let (count, entry) = if big { (8, 20) } else { (2, 12) };
    count + entries.len() * entry + offset_bytes(big)
}

/// Bytes that a value takes outside its entry.
fn outside(data: &[u8], big: bool) -> usize {
    if data.len() <= offset_bytes(big) {
        0
    } else {
        data.len().next_multiple_of(2)
    }
}

/// A directory that stands at byte `at`, with all that it refers to behind it.
///
/// - `entries`: in the order of their tags.
/// - `next`: where the next one is; 0 if there is none.
///
/// # Errors
/// [`EncodeError::Encoder`] if an offset does not fit.
pub(super) fn serialise(
    entries: &[Entry],
    at: usize,
    next: usize,
    big: bool,
) -> Result<Vec<u8>, EncodeError> {
    let offset_bytes = offset_bytes(big);
    let referred_at = at + own_length(entries, big);
    let mut out = Vec::with_capacity(length(entries, big));
    if big {
        append_offset(entries.len() as u64, big, &mut out)?;
    } else {
        let count = u16::try_from(entries.len()).unwrap_or(u16::MAX);
        out.extend(count.to_le_bytes());
    }
    let mut referred = Vec::new();
    for entry in entries {
        let place = referred_at + referred.len();
        out.extend(entry.tag.to_le_bytes());
        let is_long = entry.directory.is_some() && big;
        out.extend(if is_long { LONG8 } else { entry.kind }.to_le_bytes());
        append_offset(entry.count as u64, big, &mut out)?;
        if let Some(directory) = &entry.directory {
            append_offset(place as u64, big, &mut out)?;
            referred.extend(serialise(directory, place, 0, big)?);
        } else if entry.data.len() <= offset_bytes {
            out.extend_from_slice(&entry.data);
            out.resize(out.len() + offset_bytes - entry.data.len(), 0);
        } else {
            append_offset(place as u64, big, &mut out)?;
            referred.extend_from_slice(&entry.data);
            referred.resize(referred.len().next_multiple_of(2), 0);
        }
    }
    append_offset(next as u64, big, &mut out)?;
    out.extend(referred);
    Ok(out)
}

pub(super) fn append_offset(offset: u64, big: bool, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    if big {
        out.extend(offset.to_le_bytes());
    } else {
        let offset =
            u32::try_from(offset).map_err(|error| EncodeError::encoder(Format::Tiff, error))?;
        out.extend(offset.to_le_bytes());
    }
    Ok(())
}
