//! A result appears whole under its name, or not at all.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use tempfile::NamedTempFile;
use upres_common::job::ErrorType;

use super::failure::Failure;

/// Says before computing whether `output` can be written: what it would replace, and whether a new
/// file can be made where it goes. Leaves nothing behind.
///
/// # Errors
/// [`ErrorType::OutputExists`] without `overwrite` or for a folder, [`ErrorType::OutputForbidden`],
/// [`ErrorType::Storage`].
pub fn check(output: &Path, overwrite: bool) -> Result<(), Failure> {
    if output.is_dir() {
        let detail = format!("{} is a folder: name a file", output.display());
        return Err(Failure::new(ErrorType::OutputExists, detail));
    }
    match output.symlink_metadata() {
        Ok(_) if !overwrite => return Err(exists(output)),
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(failed(output, &error));
        }
        _ => {}
    }
    match temporary(folder_there(output)) {
        Ok(_) => Ok(()),
        Err(error) => Err(failed(output, &error)),
    }
}

/// Writes `bytes` under a temporary name in the output's folder, which is made, and renames.
///
/// # Errors
/// [`ErrorType::OutputExists`], [`ErrorType::OutputForbidden`], [`ErrorType::Storage`]; then no
/// file is left.
pub fn write(output: &Path, bytes: &[u8], overwrite: bool) -> Result<(), Failure> {
    let mut file = begin(output)?;
    file.write_all(bytes)
        .map_err(|error| failed(output, &error))?;
    finish(file, output, overwrite)
}

/// A file under a temporary name in the output's folder, which is made. Dropped, it is removed.
///
/// # Errors
/// [`ErrorType::OutputForbidden`], [`ErrorType::Storage`].
pub fn begin(output: &Path) -> Result<NamedTempFile, Failure> {
    let folder = folder_of(output);
    fs::create_dir_all(folder)
        .and_then(|()| temporary(folder))
        .map_err(|error| failed(output, &error))
}

/// Gives a file that [`begin`] made its name, once its bytes are on the disk.
///
/// # Errors
/// As [`write`].
pub fn finish(file: NamedTempFile, output: &Path, overwrite: bool) -> Result<(), Failure> {
    file.as_file()
        .sync_all()
        .map_err(|error| failed(output, &error))?;
    keep(file, output, overwrite)
}

/// Gives a file its name.
pub(super) fn keep(file: NamedTempFile, output: &Path, overwrite: bool) -> Result<(), Failure> {
    let kept = if overwrite {
        file.persist(output)
    } else {
        file.persist_noclobber(output)
    };
    match kept {
        Ok(_) => Ok(()),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Err(exists(output)),
        Err(error) => Err(failed(output, &error.error)),
    }
}

/// The folder that `path` lies in, or the nearest around it: those that are missing would be made
/// there.
pub(super) fn folder_there(path: &Path) -> &Path {
    let mut folders = path.ancestors().map(folder_of);
    let there = folders.find(|folder| folder.symlink_metadata().is_ok());
    there.unwrap_or(Path::new("."))
}

/// The folder that `path` lies in.
fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Made by hand: with the permissions of any new file, and errors that do not speak of its name.
pub(super) fn temporary(folder: &Path) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".upres-").suffix(".part");
    builder.make_in(folder, |path| File::create_new(path))
}

fn exists(output: &Path) -> Failure {
    let detail = format!("{} exists: --overwrite replaces it", output.display());
    Failure::new(ErrorType::OutputExists, detail)
}

pub(super) fn failed(output: &Path, error: &io::Error) -> Failure {
    let kind = match error.kind() {
        io::ErrorKind::PermissionDenied => ErrorType::OutputForbidden,
        _ => ErrorType::Storage,
    };
    Failure::new(
        kind,
        format!("{} cannot be written: {error}", output.display()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_only_when_asked_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("new/a.png");
        write(&output, b"one", false).unwrap();
        assert_eq!(
            write(&output, b"two", false).unwrap_err().kind,
            ErrorType::OutputExists
        );
        assert!(check(&output, false).is_err() && check(&output, true).is_ok());
        write(&output, b"three", true).unwrap();
        assert_eq!(fs::read(&output).unwrap(), b"three");
        assert_eq!(fs::read_dir(output.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn where_nothing_can_be_written_is_known_before_and_nothing_is_left_by_asking() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("notes.txt");
        fs::write(&file, "notes").unwrap();
        for output in [file.join("a.png"), file.join("new/a.png")] {
            let failure = check(&output, true).unwrap_err();
            let sentence = format!("{} cannot be written: ", output.display());
            assert!(failure.detail.starts_with(&sentence), "{}", failure.detail);
            assert!(!failure.detail.contains(".part"), "{}", failure.detail);
        }
        let failure = check(folder.path(), true).unwrap_err();
        assert!(failure.detail.contains("is a folder"), "{}", failure.detail);
        check(&folder.path().join("new/folder/a.png"), false).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
