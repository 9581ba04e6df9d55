//! The resolution of a Windows bitmap.

use super::{Metadata, Resolution, source::Bytes};

/// Where the length of the second header is, and where that has pixels a metre, in bytes.
const HEADER_AT: u64 = 14;
const METRES_AT: u64 = 38;
/// The shortest header that has them.
const INFO_HEADER_BYTES: u32 = 40;

pub(super) fn read(bytes: &mut Bytes<'_>) -> Metadata {
    let header_bytes = bytes.array(HEADER_AT).map(u32::from_le_bytes);
    let metres = bytes
        .array(METRES_AT)
        .zip(bytes.array(METRES_AT + 4))
        .filter(|_| header_bytes.is_some_and(|bytes| bytes >= INFO_HEADER_BYTES));
    let resolution = metres
        .and_then(|(x, y)| Resolution::from_metres(u32::from_le_bytes(x), u32::from_le_bytes(y)));
    Metadata {
        resolution,
        ..Metadata::default()
    }
}
