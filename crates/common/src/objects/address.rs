//! Addresses of objects. Every key that upres makes is built here and nowhere else.

use std::fmt;
use std::str::FromStr;

use crate::job::JobId;

const MAX_KEY_BYTES: usize = 1024;

/// `s3://bucket/key`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ObjectUri {
    bucket: String,
    key: String,
}

/// Why an address was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Another scheme, or none.
    #[error("`{0}` is not an object's address: write s3://bucket/key")]
    Scheme(String),
    /// Against the rules for bucket names.
    #[error("`{0}` is not a bucket name: 3 to 63 lower-case letters, digits, dots and hyphens")]
    Bucket(String),
    /// Nothing after the bucket.
    #[error("`{0}` names a bucket or a folder, not an object: write s3://bucket/key")]
    NoKey(String),
    /// Longer than stores accept.
    #[error("the key has {0} bytes, stores accept at most 1024")]
    TooLong(usize),
    /// Clients and proxies disagree on what such keys mean.
    #[error(
        "the key holds a control character, or a segment `.` or `..`, which some clients rewrite: rename the object"
    )]
    Ambiguous,
}

impl ObjectUri {
    /// The bucket's name.
    #[must_use]
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// The object's key.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }
}

impl FromStr for ObjectUri {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (bucket, key) = split(text)?;
        if key.is_empty() || key.ends_with('/') {
            return Err(AddressError::NoKey(text.to_owned()));
        }
        if key.len() > MAX_KEY_BYTES {
            return Err(AddressError::TooLong(key.len()));
        }
        if key.chars().any(char::is_control) || key.split('/').any(|s| s == "." || s == "..") {
            return Err(AddressError::Ambiguous);
        }
        Ok(Self {
            bucket: bucket.to_owned(),
            key: key.to_owned(),
        })
    }
}

impl fmt::Display for ObjectUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/{}", self.bucket, self.key)
    }
}

/// What an API key may touch: `*`, `s3://bucket/` or `s3://bucket/some/prefix`. A plain prefix of
/// the address, so end it with a slash unless `box-1` is meant to cover `box-12` too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UriPrefix(String);

impl UriPrefix {
    /// Whether `uri` lies under this prefix.
    #[must_use]
    pub fn covers(&self, uri: &ObjectUri) -> bool {
        self.0 == "*" || uri.to_string().starts_with(&self.0)
    }

    /// Whether this prefix covers anything whose address begins like this.
    #[must_use]
    pub fn overlaps(&self, beginning: &str) -> bool {
        self.0 == "*" || self.0.starts_with(beginning) || beginning.starts_with(&self.0)
    }

    /// Whether this prefix covers whatever the other covers.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        self.0 == "*" || other.0.starts_with(&self.0)
    }

    /// The prefix as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Bucket and the beginning of keys; `None` for `*`.
    #[must_use]
    pub fn bucket_and_key(&self) -> Option<(&str, &str)> {
        split(&self.0).ok()
    }
}

impl FromStr for UriPrefix {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text != "*" {
            split(text)?;
        }
        Ok(Self(text.to_owned()))
    }
}

/// The address under which a client's own file is stored, and the one suggested for its result.
///
/// Each tenant's lie under a folder of its own, so that a key's prefixes can tell tenants apart. `id` makes
/// them unique; of `file_name` only characters that are harmless everywhere are kept.
///
/// # Errors
/// [`AddressError`] when `uploads` is no valid place.
pub fn upload_address(
    uploads: &UriPrefix,
    tenant: &str,
    id: JobId,
    file_name: &str,
) -> Result<(ObjectUri, ObjectUri), AddressError> {
    let harmless = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let name: String = file_name
        .chars()
        .map(|c| if harmless(c) { c } else { '_' })
        .collect();
    let name = name.trim_start_matches('.');
    let name = if name.is_empty() { "image" } else { name };
    let place = uploads.as_str().trim_end_matches('/');
    Ok((
        format!("{place}/uploads/{tenant}/{id}/{name}").parse()?,
        format!("{place}/results/{tenant}/{id}/{name}").parse()?,
    ))
}

/// The folder of what drained workers leave for others, beside the clients' files.
///
/// # Errors
/// [`AddressError`] when `uploads` is no valid place.
pub fn hand_over_folder(uploads: &UriPrefix) -> Result<UriPrefix, AddressError> {
    format!("{}/hand-over/", uploads.as_str().trim_end_matches('/')).parse()
}

/// Where a drained worker leaves what it has not uploaded of a job.
///
/// # Errors
/// [`AddressError`] when `uploads` is no valid place.
pub fn hand_over_address(uploads: &UriPrefix, id: JobId) -> Result<ObjectUri, AddressError> {
    format!("{}{id}", hand_over_folder(uploads)?.as_str()).parse()
}

/// The job that an object of the hand-over folder belongs to.
#[must_use]
pub fn hand_over_job(uri: &ObjectUri) -> Option<JobId> {
    uri.key().rsplit('/').next()?.parse().ok()
}

/// Bucket and key, the bucket checked.
fn split(text: &str) -> Result<(&str, &str), AddressError> {
    let rest = text
        .strip_prefix("s3://")
        .ok_or_else(|| AddressError::Scheme(text.to_owned()))?;
    let (bucket, key) = rest
        .split_once('/')
        .ok_or_else(|| AddressError::NoKey(text.to_owned()))?;
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '.' || c == '-';
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let valid = (3..=63).contains(&bucket.len())
        && bucket.chars().all(allowed)
        && edge(bucket.chars().next())
        && edge(bucket.chars().last())
        && !bucket.contains("..");
    if !valid {
        return Err(AddressError::Bucket(bucket.to_owned()));
    }
    Ok((bucket, key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_a_round_trip() {
        for text in [
            "s3://masters/box-12/0001.tif",
            "s3://a.b-c/späce šcan n°1.jpg",
            "s3://abc//x",
        ] {
            assert_eq!(text.parse::<ObjectUri>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for text in [
            "masters/1.tif",
            "http://masters/1.tif",
            "s3://masters",
            "s3://masters/",
            "s3://masters/a/",
            "s3://Masters/a",
            "s3://a/b",
            "s3://masters/a/../b",
            "s3://masters/./b",
            "s3://masters/a\nb",
            "s3:///a",
        ] {
            assert!(text.parse::<ObjectUri>().is_err(), "{text}");
        }
        assert!(
            format!("s3://masters/{}", "x".repeat(1025))
                .parse::<ObjectUri>()
                .is_err()
        );
    }

    #[test]
    fn a_prefix_covers_what_begins_with_it_and_nothing_else() {
        let prefix: UriPrefix = "s3://masters/box-1/".parse().unwrap();
        assert!(prefix.covers(&"s3://masters/box-1/a.tif".parse().unwrap()));
        for other in ["s3://masters/box-12/a.tif", "s3://masters2/box-1/a.tif"] {
            assert!(!prefix.covers(&other.parse().unwrap()), "{other}");
        }
        for (other, contained) in [
            ("s3://masters/box-1/a", true),
            ("s3://masters/", false),
            ("*", false),
        ] {
            assert_eq!(
                prefix.contains(&other.parse().unwrap()),
                contained,
                "{other}"
            );
        }
        assert!(
            "*".parse::<UriPrefix>()
                .unwrap()
                .covers(&"s3://any/thing".parse().unwrap())
        );
    }

    #[test]
    fn an_uploaded_name_cannot_leave_its_folder() {
        let uploads: UriPrefix = "s3://upres/".parse().unwrap();
        let (input, output) =
            upload_address(&uploads, "a", JobId::fresh(), "../../etc/pass wd").unwrap();
        assert!(
            input.key().starts_with("uploads/a/") && input.key().ends_with("/_.._etc_pass_wd"),
            "{input}"
        );
        assert!(output.key().starts_with("results/a/"));
    }
}
