//! A result on its way: written under a temporary name as it comes, it appears under its own when it
//! is whole.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use imaging::{Finished, Format};
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

use super::failure::Failure;
use super::write::{failed, folder_there, keep, temporary};

/// Bytes copied at a time.
const PIECE: usize = 1 << 20;

/// A file that nobody sees yet; dropped, it leaves nothing.
pub struct Draft {
    output: PathBuf,
    file: NamedTempFile,
    /// What follows a beginning that is known last; without a name.
    body: Option<File>,
    sha256: Sha256,
    bytes: u64,
}

/// What became of a draft.
pub struct Written {
    pub bytes: u64,
    /// Lower-case hex.
    pub sha256: String,
}

impl Draft {
    /// Begins in the output's folder, or the nearest to it that is there.
    ///
    /// # Errors
    /// As [`check`](super::write::check): the folder takes no file.
    pub fn begin(output: &Path, format: Format) -> Result<Self, Failure> {
        let folder = folder_there(output);
        let begin = || -> io::Result<_> {
            let body = format.head_comes_last();
            let body = body.then(|| tempfile::tempfile_in(folder)).transpose()?;
            Ok((temporary(folder)?, body))
        };
        let (file, body) = begin().map_err(|error| failed(output, &error))?;
        Ok(Self {
            output: output.to_owned(),
            file,
            body,
            sha256: Sha256::new(),
            bytes: 0,
        })
    }

    /// Adds what the encoder finished.
    ///
    /// # Errors
    /// The disk is full, or worse.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let pushed = match &mut self.body {
            Some(body) => body.write_all(bytes),
            None => self.append(bytes),
        };
        pushed.map_err(|error| failed(&self.output, &error))
    }

    /// Adds the ends and gives the file its name; its folder is made.
    ///
    /// # Errors
    /// As [`write`](super::write::write); then no file is left.
    pub fn finish(mut self, ends: &Finished, overwrite: bool) -> Result<Written, Failure> {
        self.complete(ends)
            .map_err(|error| failed(&self.output, &error))?;
        keep(self.file, &self.output, overwrite)?;
        Ok(Written {
            bytes: self.bytes,
            sha256: hex::encode(self.sha256.finalize()),
        })
    }

    fn complete(&mut self, ends: &Finished) -> io::Result<()> {
        self.append(&ends.head)?;
        if let Some(mut body) = self.body.take() {
            body.rewind()?;
            let mut piece = vec![0; PIECE];
            loop {
                let read = body.read(&mut piece)?;
                if read == 0 {
                    break;
                }
                self.append(&piece[..read])?;
            }
        }
        self.append(&ends.tail)?;
        self.file.as_file().sync_all()?;
        let folder = self.output.parent().filter(|f| !f.as_os_str().is_empty());
        folder.map_or(Ok(()), fs::create_dir_all)
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sha256.update(bytes);
        self.bytes += bytes.len() as u64;
        self.file.write_all(bytes)
    }
}

#[cfg(test)]
mod tests {
    use imaging::{EncodeOptions, Pixels, Writer};

    use super::*;

    /// Written in bands and at once, a file is the same.
    #[test]
    fn a_draft_becomes_the_file_that_the_encoder_makes_of_the_whole() {
        let folder = tempfile::tempdir().unwrap();
        let (width, height) = (700, 2000);
        let rgb: Vec<u8> = (0..width * height * 3)
            .map(|i: u32| (i.wrapping_mul(2_654_435_761) >> 24).to_le_bytes()[0])
            .collect();
        let pixels = Pixels { width, height, rgb };
        for format in [Format::Png, Format::Tiff, Format::Jpeg, Format::WebP] {
            let options = EncodeOptions::new(format);
            let output = folder.path().join(format!("new/{format}"));
            let mut draft = Draft::begin(&output, format).unwrap();
            let mut writer = Writer::new(&options, width, height).unwrap();
            for rows in pixels.rgb.chunks(3 * 700 * 96) {
                writer.push_rows(rows).unwrap();
                draft.push(&writer.take()).unwrap();
            }
            let written = draft.finish(&writer.finish().unwrap(), false).unwrap();
            let found = fs::read(&output).unwrap();
            assert!(
                found == imaging::encode(&pixels, &options).unwrap(),
                "{format}"
            );
            assert_eq!(written.bytes, found.len() as u64);
            assert_eq!(written.sha256, hex::encode(Sha256::digest(&found)));
        }
        assert_eq!(fs::read_dir(folder.path().join("new")).unwrap().count(), 4);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_draft_that_is_given_up_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        for format in [Format::Png, Format::Tiff] {
            let mut draft = Draft::begin(&folder.path().join("new/a"), format).unwrap();
            draft.push(b"some").unwrap();
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
