//! API keys: what a caller may do, and with which objects.

use std::fmt;
use std::ops::Deref;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use sqlx::PgConnection;
use upres_common::objects::{ObjectUri, UriPrefix};
use utoipa::ToSchema;

use crate::store::StoreError;
use crate::store::keys::{self, StoredKey};

/// The tenant of the first key.
const FIRST_TENANT: &str = "default";

/// What a key may do.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema, clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Submit jobs.
    Submit,
    /// Read jobs and results.
    Read,
    /// Cancel jobs.
    Cancel,
    /// Manage keys.
    Admin,
    /// Claim and settle leases.
    Worker,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 5] = [
        Self::Submit,
        Self::Read,
        Self::Cancel,
        Self::Admin,
        Self::Worker,
    ];

    /// The scope as it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Submit => "submit",
            Self::Read => "read",
            Self::Cancel => "cancel",
            Self::Admin => "admin",
            Self::Worker => "worker",
        }
    }
}

/// Who calls, once the key was found valid. Remembered for a while, so a clone of it is one pointer.
#[derive(Debug, Clone)]
pub struct Caller(Arc<Rights>);

impl Deref for Caller {
    type Target = Rights;

    fn deref(&self) -> &Rights {
        &self.0
    }
}

/// What a key stands for.
#[derive(Debug)]
pub struct Rights {
    /// The key's public half.
    pub key_id: String,
    /// Whose jobs it sees.
    pub tenant: String,
    scopes: Vec<String>,
    read_prefixes: Vec<UriPrefix>,
    write_prefixes: Vec<UriPrefix>,
}

impl Rights {
    /// Whether the key has this scope.
    #[must_use]
    pub fn has(&self, scope: Scope) -> bool {
        self.scopes.iter().any(|held| held == scope.as_str())
    }

    /// Whether its jobs may read every object under this prefix.
    #[must_use]
    pub fn may_list(&self, prefix: &UriPrefix) -> bool {
        self.read_prefixes.iter().any(|held| held.contains(prefix))
    }

    /// What its jobs may read, and where they may write.
    #[must_use]
    pub fn prefixes(&self) -> (&[UriPrefix], &[UriPrefix]) {
        (&self.read_prefixes, &self.write_prefixes)
    }

    /// Whether it may hand out a key with these rights: no key makes a mightier one than itself.
    #[must_use]
    pub fn may_grant(&self, scopes: &[String], read: &[UriPrefix], write: &[UriPrefix]) -> bool {
        let covered =
            |held: &[UriPrefix], wanted: &UriPrefix| held.iter().any(|held| held.contains(wanted));
        scopes.iter().all(|scope| self.scopes.contains(scope))
            && read
                .iter()
                .all(|wanted| covered(&self.read_prefixes, wanted))
            && write
                .iter()
                .all(|wanted| covered(&self.write_prefixes, wanted))
    }

    /// Whether its jobs may read this object.
    #[must_use]
    pub fn may_read(&self, uri: &ObjectUri) -> bool {
        self.read_prefixes.iter().any(|prefix| prefix.covers(uri))
    }

    /// Whether its jobs may write this object.
    #[must_use]
    pub fn may_write(&self, uri: &ObjectUri) -> bool {
        self.write_prefixes.iter().any(|prefix| prefix.covers(uri))
    }

    /// Whether its jobs may write some object whose address begins like this.
    #[must_use]
    pub fn may_write_below(&self, beginning: &str) -> bool {
        let overlaps = |prefix: &UriPrefix| prefix.overlaps(beginning);
        self.write_prefixes.iter().any(overlaps)
    }
}

/// A whole key, as its owner presents it: `upres_<id>_<secret>`.
pub struct PresentedKey {
    id: String,
    secret: String,
}

/// Text that is no key at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an API key: expected upres_<id>_<secret>")]
pub struct MalformedKey;

impl PresentedKey {
    fn fresh() -> Self {
        let mut random = [0u8; 40];
        getrandom::fill(&mut random).expect("the operating system hands out randomness");
        let (id, secret) = random.split_at(8);
        Self {
            id: hex::encode(id),
            secret: hex::encode(secret),
        }
    }

    /// The public half.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Of the secret half; what is stored of it.
    #[must_use]
    pub fn digest(&self) -> Vec<u8> {
        Sha256::digest(self.secret.as_bytes()).to_vec()
    }
}

impl FromStr for PresentedKey {
    type Err = MalformedKey;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rest = text.strip_prefix("upres_").ok_or(MalformedKey)?;
        let (id, secret) = rest.split_once('_').ok_or(MalformedKey)?;
        if id.is_empty() || secret.is_empty() {
            return Err(MalformedKey);
        }
        Ok(Self {
            id: id.to_owned(),
            secret: secret.to_owned(),
        })
    }
}

impl fmt::Display for PresentedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "upres_{}_{}", self.id, self.secret)
    }
}

/// What a new key is to be.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// Whose jobs it sees.
    pub tenant: String,
    /// What it is for.
    pub label: String,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// What its jobs may read.
    pub read_prefixes: Vec<UriPrefix>,
    /// Where its jobs may write.
    pub write_prefixes: Vec<UriPrefix>,
    /// For how long it is good; for ever, unless given.
    pub lifetime: Option<Duration>,
}

/// Makes a key. Returns it whole, for the only time, and its public id.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn create(
    conn: &mut PgConnection,
    new: NewKey,
) -> Result<(PresentedKey, String), StoreError> {
    let key = PresentedKey::fresh();
    let words = |prefixes: Vec<UriPrefix>| {
        prefixes
            .iter()
            .map(|prefix| prefix.as_str().to_owned())
            .collect()
    };
    let stored = StoredKey {
        key_id: key.id.clone(),
        tenant: new.tenant,
        label: new.label,
        secret_sha256: key.digest(),
        scopes: new
            .scopes
            .iter()
            .map(|scope| scope.as_str().to_owned())
            .collect(),
        read_prefixes: words(new.read_prefixes),
        write_prefixes: words(new.write_prefixes),
        // The database sets its own times; these are not stored.
        created_at: chrono::DateTime::UNIX_EPOCH,
        expires_at: None,
    };
    keys::insert(conn, &stored, new.lifetime).await?;
    Ok((key, stored.key_id))
}

/// Makes a key that may do everything, if there is no key yet. Of several programs that start at
/// once, one does.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn create_first(conn: &mut PgConnection) -> Result<Option<PresentedKey>, StoreError> {
    if !keys::lock_and_is_empty(conn).await? {
        return Ok(None);
    }
    let everything: UriPrefix = "*".parse().expect("a star covers everything");
    let new = NewKey {
        tenant: FIRST_TENANT.to_owned(),
        label: "first admin key".to_owned(),
        scopes: Scope::ALL.to_vec(),
        read_prefixes: vec![everything.clone()],
        write_prefixes: vec![everything],
        lifetime: None,
    };
    Ok(Some(create(conn, new).await?.0))
}

/// Who presents this key; `None` when there is no such key in force.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn authenticate(
    conn: &mut PgConnection,
    key: &PresentedKey,
) -> Result<Option<Caller>, StoreError> {
    let Some(stored) = keys::find(conn, &key.id).await? else {
        return Ok(None);
    };
    if !equal_in_constant_time(&stored.secret_sha256, &key.digest()) {
        return Ok(None);
    }
    let prefixes = |words: Vec<String>| words.iter().filter_map(|word| word.parse().ok()).collect();
    Ok(Some(Caller(Arc::new(Rights {
        key_id: stored.key_id,
        tenant: stored.tenant,
        scopes: stored.scopes,
        read_prefixes: prefixes(stored.read_prefixes),
        write_prefixes: prefixes(stored.write_prefixes),
    }))))
}

/// Looks at every byte whatever it finds, so that the time taken tells nothing.
pub(crate) fn equal_in_constant_time(left: &[u8], right: &[u8]) -> bool {
    left.len() == right.len()
        && left
            .iter()
            .zip(right)
            .fold(0, |differences, (l, r)| differences | (l ^ r))
            == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_a_round_trip_and_garbage_does_not() {
        let key = PresentedKey::fresh();
        let read: PresentedKey = key.to_string().parse().unwrap();
        assert_eq!((&read.id, &read.secret), (&key.id, &key.secret));
        for garbage in ["", "upres_", "upres_a", "upres__b", "upres_a_", "other_a_b"] {
            assert!(garbage.parse::<PresentedKey>().is_err(), "{garbage}");
        }
    }
}
