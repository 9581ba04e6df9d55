//! Multipart uploads: parts wait in a folder of their own until they become an object, or nothing.

use std::fs::File;
use std::io::{self, ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use s3s::checksum::ChecksumHasher;
use s3s::crypto::{Checksum as _, Md5};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::checksums::Checksums;
use crate::draft::{Draft, Finished};
use crate::object::{self, Given, Metadata};
use crate::store::{Condition, Store, StoreError, open_complete};

/// An upload under way.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Upload {
    pub id: String,
    pub key: String,
    pub begun_ms: u64,
    given: Given,
}

/// A part as the client names it to complete.
#[derive(Debug, Clone)]
pub struct Chosen {
    pub number: i32,
    pub etag: String,
}

/// How an upload becomes an object.
pub struct Completion {
    pub parts: Vec<Chosen>,
    pub condition: Condition,
    /// Checksums of the whole object, to be borne out.
    pub claimed: Checksums,
    pub hasher: ChecksumHasher,
}

impl Store {
    pub(crate) fn begin_upload(
        &self,
        bucket: &str,
        key: &str,
        given: Given,
    ) -> Result<Upload, StoreError> {
        let uploads = self.bucket(bucket)?.join("uploads");
        let id = Uuid::now_v7().simple().to_string();
        let upload = Upload {
            id,
            key: key.to_owned(),
            begun_ms: object::now_ms(),
            given,
        };
        // Named when complete: half an upload is never listed.
        let draft = self.drafts().join(&upload.id);
        std::fs::create_dir(&draft)?;
        std::fs::write(
            draft.join("upload.json"),
            serde_json::to_vec(&upload).map_err(io::Error::other)?,
        )?;
        std::fs::rename(draft, uploads.join(&upload.id))?;
        Ok(upload)
    }

    /// The upload of that id if it is one of that key, and its folder.
    pub(crate) fn upload(
        &self,
        bucket: &str,
        key: &str,
        id: &str,
    ) -> Result<(Upload, PathBuf), StoreError> {
        let uploads = self.bucket(bucket)?.join("uploads");
        // Anything but an id of ours could be a path to somewhere.
        let id = Uuid::try_parse(id)
            .map_err(|_| StoreError::NoSuchUpload)?
            .simple()
            .to_string();
        let folder = uploads.join(id);
        let upload = read_upload(&folder)?.ok_or(StoreError::NoSuchUpload)?;
        if upload.key != key {
            return Err(StoreError::NoSuchUpload);
        }
        Ok((upload, folder))
    }

    /// Uploads under way whose key begins with `prefix`, in order of key, then of age.
    pub(crate) fn uploads(&self, bucket: &str, prefix: &str) -> Result<Vec<Upload>, StoreError> {
        let mut uploads = Vec::new();
        for entry in std::fs::read_dir(self.bucket(bucket)?.join("uploads"))? {
            uploads.extend(read_upload(&entry?.path())?);
        }
        uploads.retain(|upload| upload.key.starts_with(prefix));
        uploads.sort_unstable_by(|a, b| (&a.key, &a.id).cmp(&(&b.key, &b.id)));
        Ok(uploads)
    }

    /// Keeps a part; one of the same number is replaced.
    pub(crate) fn keep_part(
        &self,
        folder: &Path,
        number: i32,
        part: &Finished,
    ) -> Result<(), StoreError> {
        let _naming = self.naming();
        match std::fs::rename(part.file.path(), part_path(folder, number)) {
            Err(error) if error.kind() == ErrorKind::NotFound => Err(StoreError::NoSuchUpload),
            done => Ok(done?),
        }
    }

    /// Parts that were kept, in order of their numbers.
    pub(crate) fn parts(&self, folder: &Path) -> Result<Vec<(i32, Metadata)>, StoreError> {
        let mut parts = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let Some(number) = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok())
            else {
                continue;
            };
            parts.extend(open_complete(&entry.path())?.map(|(_, metadata)| (number, metadata)));
        }
        parts.sort_unstable_by_key(|(number, _)| *number);
        Ok(parts)
    }

    /// Assembles the parts, then gives the object its name and ends the upload. A process that dies in
    /// between leaves the upload as it was, or the object with an upload that can be completed again.
    pub(crate) fn complete_upload(
        &self,
        bucket: &str,
        (upload, folder): (Upload, PathBuf),
        completion: Completion,
    ) -> Result<Metadata, StoreError> {
        let etag = etag_of(&completion.parts)?;
        let mut draft = Draft::create(&self.drafts(), completion.hasher)?;
        for part in &completion.parts {
            let (mut file, kept) = open_chosen(&folder, part)?;
            copy_data(&mut file, kept.size, &mut draft)?;
        }
        let object = draft.finish(upload.given, Some(etag))?;
        if let Some(wrong) = completion.claimed.refuted_by(&object.metadata.checksums) {
            return Err(StoreError::BadDigest(wrong.to_owned()));
        }
        {
            let _naming = self.naming();
            // Another request may have completed or aborted it while this one copied.
            if !folder.is_dir() {
                return Err(StoreError::NoSuchUpload);
            }
            self.publish_named(bucket, &upload.key, &object, &completion.condition)?;
            std::fs::rename(&folder, self.drafts().join(&upload.id))?;
        }
        std::fs::remove_dir_all(self.drafts().join(&upload.id))?;
        Ok(object.metadata)
    }

    pub(crate) fn abort_upload(
        &self,
        (upload, folder): &(Upload, PathBuf),
    ) -> Result<(), StoreError> {
        let away = self.drafts().join(&upload.id);
        {
            let _naming = self.naming();
            match std::fs::rename(folder, &away) {
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    return Err(StoreError::NoSuchUpload);
                }
                done => done?,
            }
        }
        Ok(std::fs::remove_dir_all(away)?)
    }
}

/// Moves the data of one file into a draft.
pub(crate) fn copy_data(file: &mut File, size: u64, draft: &mut Draft) -> io::Result<()> {
    let mut left = size;
    let mut buffer = vec![0; 256 << 10];
    while left > 0 {
        let most = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let read = file.read(&mut buffer[..most])?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        draft.write(&buffer[..read])?;
        left -= read as u64;
    }
    Ok(())
}

fn read_upload(folder: &Path) -> io::Result<Option<Upload>> {
    match std::fs::read(folder.join("upload.json")) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        read => Ok(Some(serde_json::from_slice(&read?)?)),
    }
}

fn part_path(folder: &Path, number: i32) -> PathBuf {
    folder.join(format!("{number:05}"))
}

fn open_chosen(folder: &Path, chosen: &Chosen) -> Result<(File, Metadata), StoreError> {
    match open_complete(&part_path(folder, chosen.number))? {
        Some((file, kept)) if kept.etag == chosen.etag => Ok((file, kept)),
        _ => Err(StoreError::InvalidPart(chosen.number)),
    }
}

/// The MD5 of the parts' MD5s, and how many they are.
fn etag_of(parts: &[Chosen]) -> Result<String, StoreError> {
    if !parts.is_sorted_by(|a, b| a.number < b.number) {
        return Err(StoreError::InvalidPartOrder);
    }
    let mut md5 = Md5::new();
    for part in parts {
        md5.update(&hex::decode(&part.etag).map_err(|_| StoreError::InvalidPart(part.number))?);
    }
    Ok(format!("{}-{}", hex::encode(md5.finalize()), parts.len()))
}
