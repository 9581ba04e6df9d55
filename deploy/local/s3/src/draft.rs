//! An object while it is being written: a temporary file that nobody lists and that goes away by itself
//! unless it is published.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use s3s::checksum::ChecksumHasher;
use s3s::crypto::{Checksum as _, Md5};

use crate::checksums::Checksums;
use crate::object::{self, Given, Metadata};

/// A file that is removed when this is dropped.
#[derive(Debug)]
pub struct Temporary(PathBuf);

impl Temporary {
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // Gone already where it was renamed into place.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Takes the data in order and hashes it on the way.
pub struct Draft {
    file: BufWriter<File>,
    temporary: Temporary,
    size: u64,
    md5: Md5,
    hasher: ChecksumHasher,
}

/// A complete object without a name.
#[derive(Debug)]
pub struct Finished {
    pub file: Temporary,
    pub metadata: Metadata,
}

impl Draft {
    /// Begins a file in `folder`, which must be on the file system of its later place.
    pub fn create(folder: &Path, hasher: ChecksumHasher) -> io::Result<Self> {
        let path = folder.join(uuid::Uuid::now_v7().simple().to_string());
        let file = BufWriter::with_capacity(256 << 10, File::create_new(&path)?);
        Ok(Self {
            file,
            temporary: Temporary(path),
            size: 0,
            md5: Md5::new(),
            hasher,
        })
    }

    pub fn write(&mut self, data: &[u8]) -> io::Result<()> {
        self.size += data.len() as u64;
        self.md5.update(data);
        self.hasher.update(data);
        self.file.write_all(data)
    }

    /// Ends the data. The file is complete when this returns; `etag` is the MD5 unless given.
    pub fn finish(mut self, given: Given, etag: Option<String>) -> io::Result<Finished> {
        let metadata = Metadata {
            size: self.size,
            etag: etag.unwrap_or_else(|| hex::encode(self.md5.finalize())),
            modified_ms: object::now_ms(),
            checksums: Checksums::computed(self.hasher),
            given,
        };
        object::write_metadata(&mut self.file, &metadata)?;
        self.file.flush()?;
        Ok(Finished {
            file: self.temporary,
            metadata,
        })
    }
}
