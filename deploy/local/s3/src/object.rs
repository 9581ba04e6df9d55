//! An object's file: the data, then what is known about it, then where that begins.
//!
//! ```text
//! data | metadata, JSON | length of the JSON, u32 little-endian | "UPRESOB1"
//! ```
//!
//! The metadata comes last because size and checksums are known last, and the data is written once.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::checksums::Checksums;

const MAGIC: &[u8; 8] = b"UPRESOB1";
const FOOTER: i64 = 12;

/// What is stored beside an object's data.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Metadata {
    pub size: u64,
    /// Without quotes.
    pub etag: String,
    /// Since 1970.
    pub modified_ms: u64,
    pub checksums: Checksums,
    pub given: Given,
}

/// The part of the metadata that the client chose.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Given {
    pub content_type: Option<String>,
    pub content_encoding: Option<String>,
    pub content_disposition: Option<String>,
    pub content_language: Option<String>,
    pub cache_control: Option<String>,
    pub user: BTreeMap<String, String>,
}

/// The time that is `ms` after 1970 began.
pub fn time_of(ms: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(ms)
}

/// Milliseconds since 1970.
pub fn now_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Completes a file whose data has been written.
pub fn write_metadata(file: &mut impl Write, metadata: &Metadata) -> io::Result<()> {
    let json = serde_json::to_vec(metadata)?;
    let length = u32::try_from(json.len()).map_err(io::Error::other)?;
    file.write_all(&json)?;
    file.write_all(&length.to_le_bytes())?;
    file.write_all(MAGIC)
}

/// Reads what a complete file says about itself; the file is then at the start of its data.
pub fn read_metadata(file: &mut File) -> io::Result<Metadata> {
    let mut footer = [0; 12];
    file.seek(SeekFrom::End(-FOOTER))?;
    file.read_exact(&mut footer)?;
    let (length, magic) = footer.split_at(4);
    let length: [u8; 4] = length.try_into().map_err(io::Error::other)?;
    if magic != MAGIC {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "not an object of this store",
        ));
    }
    let length = u32::from_le_bytes(length);
    file.seek(SeekFrom::End(-FOOTER - i64::from(length)))?;
    let metadata = serde_json::from_reader((&*file).take(u64::from(length)))?;
    file.seek(SeekFrom::Start(0))?;
    Ok(metadata)
}
