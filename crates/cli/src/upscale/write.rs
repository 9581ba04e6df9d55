//! A result appears whole under its name, or not at all.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use upres_common::job::ErrorType;

use super::failure::Failure;

/// Says before computing whether `output` may be written.
///
/// # Errors
/// [`ErrorType::OutputExists`] without `overwrite`.
pub fn check(output: &Path, overwrite: bool) -> Result<(), Failure> {
    if !overwrite && output.symlink_metadata().is_ok() {
        return Err(exists(output));
    }
    Ok(())
}

/// Writes `bytes` under a temporary name in the output's folder, which is made, and renames.
///
/// # Errors
/// [`ErrorType::OutputExists`], [`ErrorType::OutputForbidden`], [`ErrorType::Storage`]; then no
/// file is left.
pub fn write(output: &Path, bytes: &[u8], overwrite: bool) -> Result<(), Failure> {
    let folder = match output.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let fail = |error: &io::Error| failed(output, error);
    fs::create_dir_all(folder).map_err(|error| fail(&error))?;
    let mut builder = tempfile::Builder::new();
    builder.prefix(".upres-").suffix(".part");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // Like any new file, less the umask; a temporary file would be private.
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    let mut file = builder.tempfile_in(folder).map_err(|error| fail(&error))?;
    file.write_all(bytes)
        .and_then(|()| file.as_file().sync_all())
        .map_err(|error| fail(&error))?;
    let kept = if overwrite {
        file.persist(output)
    } else {
        file.persist_noclobber(output)
    };
    match kept {
        Ok(_) => Ok(()),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Err(exists(output)),
        Err(error) => Err(fail(&error.error)),
    }
}

fn exists(output: &Path) -> Failure {
    let detail = format!("{} exists: --overwrite replaces it", output.display());
    Failure::new(ErrorType::OutputExists, detail)
}

fn failed(output: &Path, error: &io::Error) -> Failure {
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
}
