//! The model folder while it is made: beside its place, under another name.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::ImportError;
use crate::manifest::{MANIFEST_FILE, Manifest};

/// A folder that is taken away again unless it is finished.
pub(super) struct Staging {
    folder: TempDir,
    out: PathBuf,
    digests: BTreeMap<String, String>,
}

impl Staging {
    /// Starts a folder that will become `out`, which must not exist or be empty.
    pub(super) fn beside(out: &Path) -> Result<Self, ImportError> {
        let taken = match out.read_dir() {
            Ok(mut entries) => entries.next().is_some(),
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        };
        if taken {
            return Err(ImportError::Taken(out.to_owned()));
        }
        // An absolute path has a parent, unless it is the root, which is taken.
        let absolute = std::path::absolute(out).map_err(|source| failed(out, source))?;
        let parent = absolute.parent().unwrap_or(&absolute);
        fs::create_dir_all(parent).map_err(|source| failed(parent, source))?;
        let folder = tempfile::Builder::new()
            .prefix(".importing-")
            .tempdir_in(parent)
            .map_err(|source| failed(parent, source))?;
        Ok(Self {
            folder,
            out: absolute,
            digests: BTreeMap::new(),
        })
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Copies a file of the input.
    pub(super) fn copy(&mut self, name: &str, from: &Path) -> Result<(), ImportError> {
        let bytes = fs::read(from).map_err(|source| ImportError::Read {
            path: from.to_owned(),
            source,
        })?;
        self.write(name, &bytes)
    }

    pub(super) fn write(&mut self, name: &str, bytes: &[u8]) -> Result<(), ImportError> {
        let mut file = self.create(name)?;
        let written = file.write_all(bytes);
        written.map_err(|source| failed(&self.out.join(name), source))?;
        self.close(name, file)
    }

    /// Starts a file, to be written in pieces and closed.
    pub(super) fn create(&self, name: &str) -> Result<DigestedFile, ImportError> {
        let path = self.folder.path().join(name);
        let opened = match path.parent() {
            Some(folder) => fs::create_dir_all(folder).and_then(|()| File::create(&path)),
            None => File::create(&path),
        };
        let file = opened.map_err(|source| failed(&self.out.join(name), source))?;
        Ok(DigestedFile {
            file: BufWriter::with_capacity(1 << 20, file),
            digest: Sha256::new(),
        })
    }

    /// Ends a file and notes its digest.
    pub(super) fn close(&mut self, name: &str, file: DigestedFile) -> Result<(), ImportError> {
        let ended = file.end();
        let digest = ended.map_err(|source| failed(&self.out.join(name), source))?;
        self.digests.insert(name.to_owned(), digest);
        Ok(())
    }

    /// The error of a file that cannot be written, under the name that it would have had.
    pub(super) fn failed(&self, name: &str, source: io::Error) -> ImportError {
        failed(&self.out.join(name), source)
    }

    /// Writes the manifest and gives the folder its name.
    pub(super) fn finish(
        mut self,
        manifest: impl FnOnce(BTreeMap<String, String>) -> Manifest,
    ) -> Result<Manifest, ImportError> {
        let manifest = manifest(std::mem::take(&mut self.digests));
        let text = serde_json::to_string_pretty(&manifest).map_err(io::Error::from);
        let text = text.map_err(|source| self.failed(MANIFEST_FILE, source))?;
        self.write(MANIFEST_FILE, format!("{text}\n").as_bytes())?;
        let renamed = sync_folders(self.folder.path())
            .and_then(|()| fs::rename(self.folder.path(), &self.out))
            .and_then(|()| self.out.parent().map_or(Ok(()), sync));
        renamed.map_err(|source| failed(&self.out, source))?;
        self.folder.disable_cleanup(true);
        Ok(manifest)
    }
}

/// So that a power cut cannot leave a folder whose files are there by name only.
fn sync_folders(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            sync_folders(&path)?;
        }
    }
    sync(folder)
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn failed(path: &Path, source: io::Error) -> ImportError {
    ImportError::Write {
        path: path.to_owned(),
        source,
    }
}

/// A file whose SHA-256 is known when it is written.
pub(super) struct DigestedFile {
    file: BufWriter<File>,
    digest: Sha256,
}

impl DigestedFile {
    /// Brings the file to the disk; returns its digest in hexadecimal.
    fn end(self) -> io::Result<String> {
        let file = self
            .file
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        Ok(hex::encode(self.digest.finalize()))
    }
}

impl Write for DigestedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.digest.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
