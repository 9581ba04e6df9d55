//! Buckets and objects on disk. Blocking; nothing here knows HTTP.
//!
//! ```text
//! ROOT/buckets/NAME/objects/…    one file an object, see `names` and `object`
//! ROOT/buckets/NAME/uploads/ID/  a multipart upload under way, see `uploads`
//! ROOT/drafts/                   what has no name yet; emptied at the start
//! ```

use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use crate::draft::Finished;
use crate::names;
use crate::object::{self, Metadata};

/// Why the store would not.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The bucket does not exist.
    #[error("no such bucket")]
    NoSuchBucket,
    /// The bucket exists already.
    #[error("bucket exists")]
    BucketExists,
    /// The bucket still holds objects.
    #[error("bucket is not empty")]
    BucketNotEmpty,
    /// The name cannot be one of a bucket.
    #[error("not a bucket name")]
    InvalidBucketName,
    /// There is no object of that key.
    #[error("no such key")]
    NoSuchKey,
    /// The upload never was, or was completed or aborted.
    #[error("no such upload")]
    NoSuchUpload,
    /// A part to complete with is not there, or is another.
    #[error("part {0} was not uploaded, or its ETag differs")]
    InvalidPart(i32),
    /// Parts to complete with are not in ascending order.
    #[error("parts are not in ascending order")]
    InvalidPartOrder,
    /// The object is, or is not, what the condition asks for.
    #[error("a condition of the request does not hold")]
    PreconditionFailed,
    /// The data is not what its sender hashed.
    #[error("the data does not have the {0} that was sent with it")]
    BadDigest(String),
    /// The disk said no.
    #[error("file system")]
    Io(#[from] io::Error),
}

/// What must be true of the name for an object to take it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    None,
    /// No object has it.
    Absent,
    /// An object with this `ETag`, or any, has it.
    Present(Option<String>),
}

/// All buckets below one folder.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    /// Held while a name changes hands, which is a few system calls: a condition that was looked at
    /// still holds when the name is taken.
    naming: Mutex<()>,
}

impl Store {
    /// Opens the store in `root`, made if need be, and sweeps out what an earlier process left behind.
    ///
    /// # Errors
    /// [`StoreError::Io`]
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        let store = Self {
            root: root.to_path_buf(),
            naming: Mutex::new(()),
        };
        match std::fs::remove_dir_all(store.drafts()) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        std::fs::create_dir_all(store.drafts())?;
        std::fs::create_dir_all(store.root.join("buckets"))?;
        Ok(store)
    }

    pub(crate) fn drafts(&self) -> PathBuf {
        self.root.join("drafts")
    }

    /// The folder of an existing bucket.
    pub(crate) fn bucket(&self, name: &str) -> Result<PathBuf, StoreError> {
        let path = self.bucket_path(name)?;
        path.is_dir()
            .then_some(path)
            .ok_or(StoreError::NoSuchBucket)
    }

    fn bucket_path(&self, name: &str) -> Result<PathBuf, StoreError> {
        let valid = s3s::path::check_bucket_name(name);
        valid
            .then(|| self.root.join("buckets").join(name))
            .ok_or(StoreError::InvalidBucketName)
    }

    pub(crate) fn naming(&self) -> MutexGuard<'_, ()> {
        // A panic elsewhere leaves the files as they were: there is nothing to repair.
        self.naming.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a bucket.
    ///
    /// # Errors
    /// [`StoreError::BucketExists`], [`StoreError::InvalidBucketName`], [`StoreError::Io`]
    pub fn create_bucket(&self, name: &str) -> Result<(), StoreError> {
        let path = self.bucket_path(name)?;
        let _naming = self.naming();
        if path.exists() {
            return Err(StoreError::BucketExists);
        }
        // Named when complete: a bucket that lacks a folder would be neither there nor to be made.
        let draft = self
            .drafts()
            .join(uuid::Uuid::now_v7().simple().to_string());
        std::fs::create_dir_all(draft.join("objects"))?;
        std::fs::create_dir(draft.join("uploads"))?;
        Ok(std::fs::rename(draft, path)?)
    }

    pub(crate) fn delete_bucket(&self, name: &str) -> Result<(), StoreError> {
        let path = self.bucket(name)?;
        let _naming = self.naming();
        if !names::keys_in(&path.join("objects"))?.is_empty() {
            return Err(StoreError::BucketNotEmpty);
        }
        std::fs::remove_dir_all(path)?;
        Ok(())
    }

    /// Names and when they were made, in order.
    pub(crate) fn buckets(&self) -> Result<Vec<(String, SystemTime)>, StoreError> {
        let mut buckets = Vec::new();
        for entry in std::fs::read_dir(self.root.join("buckets"))? {
            let entry = entry?;
            // Nothing is made in the folder itself after the bucket is, so its date stays.
            let made = entry.metadata()?.modified()?;
            buckets.push((entry.file_name().to_string_lossy().into_owned(), made));
        }
        buckets.sort_unstable();
        Ok(buckets)
    }

    /// The keys of a bucket, in order.
    pub(crate) fn keys(&self, bucket: &str) -> Result<Vec<String>, StoreError> {
        Ok(names::keys_in(&self.bucket(bucket)?.join("objects"))?)
    }

    /// Opens an object, at the start of its data. Whatever happens to the name afterwards, the file
    /// stays this object's.
    pub(crate) fn open_object(
        &self,
        bucket: &str,
        key: &str,
    ) -> Result<(File, Metadata), StoreError> {
        let path = names::path_of(&self.bucket(bucket)?.join("objects"), key);
        open_complete(&path)?.ok_or(StoreError::NoSuchKey)
    }

    /// Gives an object its name, for readers all at once, if `condition` holds.
    pub(crate) fn publish(
        &self,
        bucket: &str,
        key: &str,
        object: &Finished,
        condition: &Condition,
    ) -> Result<(), StoreError> {
        let _naming = self.naming();
        self.publish_named(bucket, key, object, condition)
    }

    /// As [`Store::publish`], for a caller that holds [`Store::naming`].
    pub(crate) fn publish_named(
        &self,
        bucket: &str,
        key: &str,
        object: &Finished,
        condition: &Condition,
    ) -> Result<(), StoreError> {
        let path = names::path_of(&self.bucket(bucket)?.join("objects"), key);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        match condition {
            Condition::None => {}
            Condition::Absent => {
                // Unlike a look and a rename, a link cannot take a name that exists, whoever made it.
                return match std::fs::hard_link(object.file.path(), &path) {
                    Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                        Err(StoreError::PreconditionFailed)
                    }
                    done => Ok(done?),
                };
            }
            Condition::Present(etag) => {
                let (_, current) = open_complete(&path)?.ok_or(StoreError::NoSuchKey)?;
                if etag.as_ref().is_some_and(|etag| *etag != current.etag) {
                    return Err(StoreError::PreconditionFailed);
                }
            }
        }
        Ok(std::fs::rename(object.file.path(), path)?)
    }

    /// Removes an object; that there is none is no error.
    pub(crate) fn delete_object(&self, bucket: &str, key: &str) -> Result<(), StoreError> {
        let path = names::path_of(&self.bucket(bucket)?.join("objects"), key);
        let _naming = self.naming();
        match std::fs::remove_file(path) {
            Err(error) if is_absence(&error) => Ok(()),
            done => Ok(done?),
        }
    }
}

/// Opens a complete file, or `None` if there is none.
pub(crate) fn open_complete(path: &Path) -> io::Result<Option<(File, Metadata)>> {
    let mut file = match File::open(path) {
        Err(error) if is_absence(&error) => return Ok(None),
        opened => opened?,
    };
    let metadata = object::read_metadata(&mut file)?;
    Ok(Some((file, metadata)))
}

fn is_absence(error: &io::Error) -> bool {
    error.kind() == ErrorKind::NotFound
}
