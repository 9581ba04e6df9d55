//! What can go wrong with an object store, in the few cases that callers tell apart.

use std::fmt::Display;

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

/// Why the store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// Nothing is stored under that address.
    #[error("there is no object {0}")]
    NotFound(String),
    /// Not even the bucket of that address exists.
    #[error("there is no bucket for {0}: create it, or correct the address")]
    NoBucket(String),
    /// The store refuses these credentials.
    #[error("the object store refuses access to {0}")]
    Forbidden(String),
    /// The store will not do it for anybody: the bucket lies in another region, demands or forbids something,
    /// or the object's key is gone.
    #[error("the object store refuses {uri}: {reason}")]
    Refused {
        /// Which object.
        uri: String,
        /// In the store's words.
        reason: String,
    },
    /// More bytes than the caller accepts.
    #[error("{uri} has {bytes} bytes, at most {limit} are accepted")]
    TooLarge {
        /// Which object.
        uri: String,
        /// Its size.
        bytes: u64,
        /// The caller's limit.
        limit: u64,
    },
    /// The store failed or did not answer; trying again later can help.
    #[error("the object store failed on {uri}: {reason}")]
    Unavailable {
        /// Which object.
        uri: String,
        /// In the store's words.
        reason: String,
    },
}

impl ObjectError {
    /// Whether it says that there is nothing, in whatever way.
    #[must_use]
    pub const fn is_absence(&self) -> bool {
        matches!(self, Self::NotFound(_) | Self::NoBucket(_))
    }

    /// Whether trying again changes nothing until somebody else did something.
    #[must_use]
    pub const fn is_refusal(&self) -> bool {
        self.is_absence() || matches!(self, Self::Forbidden(_) | Self::Refused { .. })
    }
}

pub(super) fn status_of<E>(error: &SdkError<E>) -> Option<u16> {
    error
        .raw_response()
        .map(|response| response.status().as_u16())
}

/// Sorts the store's answers into the few cases that callers tell apart.
pub(super) fn classify<E>(uri: &(impl Display + ?Sized), error: &SdkError<E>) -> ObjectError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    match (error.code(), status_of(error)) {
        (Some("NoSuchBucket"), _) => ObjectError::NoBucket(uri.to_string()),
        (Some("NoSuchKey" | "NotFound" | "NoSuchUpload"), _) | (_, Some(404)) => {
            ObjectError::NotFound(uri.to_string())
        }
        (Some("AccessDenied"), _) | (_, Some(401 | 403)) => ObjectError::Forbidden(uri.to_string()),
        (code, Some(status)) if stays(code, status) => ObjectError::Refused {
            uri: uri.to_string(),
            reason: reason(error),
        },
        _ => ObjectError::Unavailable {
            uri: uri.to_string(),
            reason: reason(error),
        },
    }
}

/// Whether an answer stays the same until somebody changes the bucket, its keys or our settings. A 400 without a word,
/// as a HEAD has it, may be one of those that pass.
fn stays(code: Option<&str>, status: u16) -> bool {
    const PASSING: [&str; 8] = [
        "BadDigest",
        "ExpiredToken",
        "IncompleteBody",
        "OperationAborted",
        "RequestTimeout",
        "TemporaryRedirect",
        "TokenRefreshRequired",
        "XAmzContentSHA256Mismatch",
    ];
    let passes = code.is_some_and(|code| PASSING.contains(&code));
    match status {
        400 if code.is_none() => false,
        307 | 408 | 409 | 412 | 425 | 429 => false,
        300..=499 | 501 => !passes,
        _ => false,
    }
}

/// In a sentence: the store's code and message, or why there is no answer. Not its whole answer, which names
/// times and hosts and differs each time.
fn reason<E>(error: &SdkError<E>) -> String
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let said = [error.code(), error.message()];
    let said: Vec<_> = said.into_iter().flatten().collect();
    if !said.is_empty() {
        return said.join(": ");
    }
    if let Some(status) = status_of(error) {
        if status == 301 {
            return "its bucket is in another region than --s3-region says".to_owned();
        }
        return format!("it answered {status}");
    }
    let mut reasons = vec![error.to_string()];
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let reason = error.to_string();
        // Many layers say what the one below says.
        if !reasons.contains(&reason) {
            reasons.push(reason);
        }
        cause = error.source();
    }
    reasons.join(": ")
}

#[cfg(test)]
mod tests {
    use aws_sdk_s3::config::http::HttpResponse;
    use aws_sdk_s3::error::ErrorMetadata;
    use aws_sdk_s3::operation::put_object::PutObjectError;
    use aws_sdk_s3::primitives::SdkBody;

    use super::*;

    fn answer(status: u16, said: ErrorMetadata) -> SdkError<PutObjectError> {
        let response = HttpResponse::new(status.try_into().unwrap(), SdkBody::empty());
        SdkError::service_error(PutObjectError::generic(said), response)
    }

    #[test]
    fn a_reason_is_what_the_store_said_or_why_it_said_nothing() {
        let busy = ErrorMetadata::builder()
            .code("SlowDown")
            .message("Less, please");
        let busy = answer(503, busy.build());
        assert_eq!(reason(&busy), "SlowDown: Less, please");
        let nothing = answer(503, ErrorMetadata::builder().build());
        assert_eq!(reason(&nothing), "it answered 503");
        let silent = SdkError::<PutObjectError>::timeout_error("after 60 s");
        assert_eq!(reason(&silent), "request has timed out: after 60 s");
        let told = classify("s3://masters/1.tif", &busy).to_string();
        assert_eq!(
            told,
            "the object store failed on s3://masters/1.tif: SlowDown: Less, please"
        );
    }

    #[test]
    fn only_what_the_store_refuses_is_a_refusal() {
        let of = |status, code| {
            classify(
                "x",
                &answer(status, ErrorMetadata::builder().code(code).build()),
            )
        };
        assert!(matches!(of(404, "NoSuchBucket"), ObjectError::NoBucket(_)));
        assert!(matches!(of(404, "NoSuchUpload"), ObjectError::NotFound(_)));
        assert!(matches!(
            of(403, "SignatureDoesNotMatch"),
            ObjectError::Forbidden(_)
        ));
        assert!(of(403, "AccessDenied").is_refusal());
        for (status, code) in [
            (301, "PermanentRedirect"),
            (400, "InvalidRequest"),
            (400, "KMS.DisabledException"),
            (405, "MethodNotAllowed"),
            (501, "NotImplemented"),
        ] {
            let refused = of(status, code);
            assert!(matches!(refused, ObjectError::Refused { .. }), "{code}");
            assert!(refused.is_refusal() && !refused.is_absence(), "{code}");
        }
        for (status, code) in [
            (503, "SlowDown"),
            (500, "InternalError"),
            (429, "TooManyRequests"),
            (409, "OperationAborted"),
            (400, "RequestTimeout"),
            (400, "ExpiredToken"),
            (400, "BadDigest"),
            (307, "TemporaryRedirect"),
        ] {
            assert!(!of(status, code).is_refusal(), "{code}");
        }
        // A HEAD has no words.
        let wordless = answer(400, ErrorMetadata::builder().build());
        assert!(!classify("x", &wordless).is_refusal());
        let elsewhere = answer(301, ErrorMetadata::builder().build());
        let told = classify("s3://masters/1.tif", &elsewhere).to_string();
        assert!(told.contains("another region"), "{told}");
    }
}
