//! What lies beside a file while it is fetched: its bytes so far, and what is known of them.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{HubError, Identity};

/// A hidden file beside another, which holds an [`Identity`].
pub(super) struct Beside {
    pub path: PathBuf,
}

/// A path with `suffix` behind its name.
pub fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    path.with_file_name(name)
}

/// Where it is noted of which content a whole file is.
pub fn note_of(path: &Path) -> PathBuf {
    Beside::of(path, ".hub.json").path
}

impl Beside {
    pub(super) fn of(path: &Path, suffix: &str) -> Self {
        let mut name = OsString::from(".");
        name.push(path.file_name().unwrap_or_default());
        name.push(suffix);
        Self {
            path: path.with_file_name(name),
        }
    }

    /// `None` when it is missing or cannot be understood: then the download starts anew.
    pub(super) fn read(&self) -> Option<Identity> {
        serde_json::from_slice(&fs::read(&self.path).ok()?).ok()
    }

    pub(super) fn write(&self, identity: &Identity) -> Result<(), HubError> {
        let text = serde_json::to_vec(identity).map_err(io::Error::from);
        text.and_then(|text| fs::write(&self.path, text))
            .map_err(|source| write_failed(&self.path, source))
    }
}

/// A file's length; 0 when there is none.
pub(super) fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}

/// Takes a file away, if there is one.
pub(super) fn remove(path: &Path) -> Result<(), HubError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(write_failed(path, error)),
        _ => Ok(()),
    }
}

pub(super) fn write_failed(path: &Path, source: io::Error) -> HubError {
    HubError::Write {
        path: path.to_owned(),
        source,
    }
}
