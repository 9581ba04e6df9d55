//! `If-Match` and its relatives.

use s3s::dto::{ETag, ETagCondition, Timestamp};
use s3s::{S3Result, s3_error};

use crate::object::{Metadata, time_of};
use crate::store::Condition;

/// What a reader asks of the object it wants.
pub struct Reader {
    pub if_match: Option<ETagCondition>,
    pub if_none_match: Option<ETagCondition>,
    pub if_modified_since: Option<Timestamp>,
    pub if_unmodified_since: Option<Timestamp>,
}

impl Reader {
    /// Refuses with 412 or 304. A condition on the tag outweighs the one on time beside it.
    pub fn check(&self, object: &Metadata) -> S3Result<()> {
        // HTTP dates have no fractions: an object would else be newer than its own `Last-Modified`.
        let modified = Timestamp::from(time_of(object.modified_ms / 1000 * 1000));
        let matches = |condition: &ETagCondition| match condition {
            ETagCondition::Any => true,
            ETagCondition::ETag(etag) => etag.value() == object.etag,
        };
        let unfit = match (&self.if_match, &self.if_unmodified_since) {
            (Some(condition), _) => !matches(condition),
            (None, Some(since)) => modified > *since,
            (None, None) => false,
        };
        if unfit {
            return Err(s3_error!(PreconditionFailed));
        }
        let known = match (&self.if_none_match, &self.if_modified_since) {
            (Some(condition), _) => matches(condition),
            (None, Some(since)) => modified <= *since,
            (None, None) => false,
        };
        if known {
            Err(s3_error!(NotModified))
        } else {
            Ok(())
        }
    }
}

/// What a writer asks of the name it wants.
pub fn writer(
    if_match: Option<ETagCondition>,
    if_none_match: Option<ETagCondition>,
) -> S3Result<Condition> {
    match (if_match, if_none_match) {
        (None, None) => Ok(Condition::None),
        (None, Some(ETagCondition::Any)) => Ok(Condition::Absent),
        (Some(ETagCondition::Any), None) => Ok(Condition::Present(None)),
        (Some(ETagCondition::ETag(etag)), None) => Ok(Condition::Present(Some(etag.into_value()))),
        _ => Err(s3_error!(
            NotImplemented,
            "only If-None-Match: * or If-Match, one at a time"
        )),
    }
}

pub fn tag(etag: &str) -> Option<ETag> {
    Some(ETag::Strong(etag.to_owned()))
}
