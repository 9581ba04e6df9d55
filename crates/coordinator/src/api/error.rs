//! Every answer that is not a success: RFC 9457 problem documents. The one place where errors become
//! statuses; a cause is logged here and never shown.

use std::any::Any;

use axum::Json;
use axum::extract::FromRequest;
use axum::extract::rejection::JsonRejection;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use upres_common::job::request::FieldError;
use upres_common::objects::ObjectError;
use utoipa::ToSchema;

use super::problems::{self, Kind};
use crate::group::NotDone;
use crate::lease::ReviveError;
use crate::limits::TooMany;
use crate::publish::PublishError;
use crate::store::StoreError;
use crate::store::jobs::TransitionError;
use crate::submit::SubmitError;

/// A problem, as the client reads it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Problem {
    /// Stable; what programs look at.
    #[serde(rename = "type")]
    #[schema(example = "/problems/invalid-request")]
    pub problem_type: String,
    /// The same for every problem of the type.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong here, and what to do.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// The fields it is about.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
}

/// Why a request was not answered with success.
#[derive(Debug)]
pub enum ApiError {
    /// 400: not JSON, or not the expected shape.
    Malformed(Vec<FieldError>, String),
    /// 401: no key, or none in force.
    Unauthenticated(&'static str),
    /// 403: the key may not do this.
    Forbidden(Vec<FieldError>, String),
    /// 404.
    NotFound(&'static str),
    /// 405.
    Method,
    /// 409: the job's state, or an object that is there, stands against it.
    Conflict(Vec<FieldError>, String),
    /// 413.
    TooLarge,
    /// 415: the body is not said to be JSON.
    MediaType,
    /// 422: well-formed, but not acceptable.
    Invalid(Vec<FieldError>),
    /// 429: this tenant asks for too much.
    TooMany(TooMany),
    /// 503: the database or the object store is away. Nothing was done; try again.
    Unavailable(&'static str),
    /// 500.
    Internal,
}

impl ApiError {
    /// A problem with one field of a well-formed request.
    pub fn field(pointer: &str, detail: impl Into<String>) -> Self {
        Self::Invalid(vec![FieldError::new(pointer, detail)])
    }

    const fn kind(&self) -> Kind {
        match self {
            Self::Malformed(..) => problems::MALFORMED,
            Self::Unauthenticated(_) => problems::UNAUTHENTICATED,
            Self::Forbidden(..) => problems::FORBIDDEN,
            Self::NotFound(_) => problems::NOT_FOUND,
            Self::Method => problems::METHOD,
            Self::Conflict(..) => problems::CONFLICT,
            Self::TooLarge => problems::TOO_LARGE,
            Self::MediaType => problems::MEDIA_TYPE,
            Self::Invalid(_) => problems::INVALID,
            Self::TooMany(_) => problems::TOO_MANY,
            Self::Unavailable(_) => problems::UNAVAILABLE,
            Self::Internal => problems::INTERNAL,
        }
    }

    fn problem(self) -> Problem {
        let kind = self.kind();
        let (detail, errors) = match self {
            Self::Malformed(errors, detail)
            | Self::Forbidden(errors, detail)
            | Self::Conflict(errors, detail) => (detail, errors),
            Self::Unauthenticated(detail) | Self::NotFound(detail) | Self::Unavailable(detail) => {
                (detail.to_owned(), vec![])
            }
            Self::TooMany(too_many) => (too_many.detail, vec![]),
            Self::Method => ("see /docs for what each address takes".to_owned(), vec![]),
            Self::TooLarge => (
                "a request has at most 1 MiB, one with a batch 16 MiB".to_owned(),
                vec![],
            ),
            Self::MediaType => ("send Content-Type: application/json".to_owned(), vec![]),
            Self::Invalid(errors) => ("see `errors` for each field".to_owned(), errors),
            Self::Internal => (
                "the fault is ours and was logged; trying again is safe".to_owned(),
                vec![],
            ),
        };
        Problem {
            problem_type: format!("/problems/{}", kind.slug),
            title: kind.title.to_owned(),
            status: kind.status.as_u16(),
            detail,
            errors,
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let too_many = match &self {
            Self::TooMany(too_many) => Some((too_many.retry_after, too_many.standing)),
            _ => None,
        };
        let problem = self.problem();
        let status =
            StatusCode::from_u16(problem.status).expect("the status was made from a StatusCode");
        let mut response = (status, Json(&problem)).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("2"));
        }
        if let Some((wait, standing)) = too_many {
            // Whole seconds, rounded up: a client that comes too early is refused once more.
            headers.insert(
                header::RETRY_AFTER,
                HeaderValue::from(wait.as_secs() + u64::from(wait.subsec_nanos() > 0)),
            );
            headers.extend(standing.headers());
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::Database(
                sqlx::Error::PoolTimedOut
                | sqlx::Error::PoolClosed
                | sqlx::Error::Io(_)
                // A server that dies in the middle of an answer, or of letting us in.
                | sqlx::Error::Protocol(_)
                | sqlx::Error::WorkerCrashed,
            ) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "request refused: no database"
                );
                Self::Unavailable("the database does not answer; nothing was done, try again")
            }
            // Class 57: the server is starting, stopping, or was told to end the connection.
            StoreError::Database(sqlx::Error::Database(cause))
                if cause
                    .code()
                    .is_some_and(|code| code.starts_with("57") || code.starts_with("08")) =>
            {
                Self::Unavailable("the database restarts; nothing was done, try again")
            }
            _ => {
                tracing::error!(error = &error as &dyn std::error::Error, "request failed");
                Self::Internal
            }
        }
    }
}

impl From<sqlx::Error> for ApiError {
    fn from(error: sqlx::Error) -> Self {
        StoreError::Database(error).into()
    }
}

impl From<SubmitError> for ApiError {
    fn from(error: SubmitError) -> Self {
        match error {
            SubmitError::Invalid(errors) => Self::Invalid(errors),
            SubmitError::Forbidden(errors) => Self::Forbidden(
                errors,
                "the key's prefixes do not cover these objects".to_owned(),
            ),
            SubmitError::Conflict(errors) => Self::Conflict(errors, String::new()),
            SubmitError::KeyReused => Self::field(
                "/Idempotency-Key",
                "this key stands for another request of the last 24 hours: take a fresh one",
            ),
            SubmitError::KeyBusy => Self::Conflict(
                vec![],
                "a request with this idempotency key is under way: ask again in a moment"
                    .to_owned(),
            ),
            SubmitError::Objects(cause) => {
                tracing::warn!(
                    error = &cause as &dyn std::error::Error,
                    "submission refused"
                );
                Self::Unavailable(
                    "the object store does not answer; nothing was accepted, try again",
                )
            }
            SubmitError::Store(error) => error.into(),
            SubmitError::NotDone(error) => error.into(),
        }
    }
}

impl From<NotDone> for ApiError {
    fn from(_: NotDone) -> Self {
        Self::Unavailable("the database does not answer; nothing was done, ask again")
    }
}

impl From<PublishError> for ApiError {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::Objects(cause) => {
                tracing::warn!(
                    error = &cause as &dyn std::error::Error,
                    "publication interrupted"
                );
                Self::Unavailable("the object store does not answer; ask again, it is safe")
            }
            PublishError::OutputBusy => {
                Self::Unavailable("another job is writing this output; ask again, it is safe")
            }
            PublishError::Store(error) => error.into(),
            PublishError::NotDone(error) => error.into(),
        }
    }
}

impl From<ReviveError> for ApiError {
    fn from(error: ReviveError) -> Self {
        match error {
            ReviveError::Closed(why) => Self::Conflict(vec![], why.to_owned()),
            ReviveError::Transition(error) => error.into(),
        }
    }
}

impl From<TransitionError> for ApiError {
    fn from(error: TransitionError) -> Self {
        match error {
            TransitionError::Refused(refusal) => Self::Conflict(vec![], refusal.to_string()),
            TransitionError::NoSuchJob(_) => Self::NotFound("there is no such job"),
            TransitionError::Store(error) => error.into(),
        }
    }
}

/// A JSON object as body; what cannot be read becomes a problem that names the field.
pub struct Body<T>(pub T);

impl<S: Send + Sync, T: serde::de::DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: axum::extract::Request, state: &S) -> Result<Self, ApiError> {
        // In two steps: an object first, because a list would do for a struct, too, and then the
        // fields, whose path the second step knows.
        let body = match Json::<serde_json::Value>::from_request(request, state).await {
            Ok(Json(body)) => body,
            Err(error) if error.status() == StatusCode::PAYLOAD_TOO_LARGE => {
                return Err(ApiError::TooLarge);
            }
            Err(JsonRejection::MissingJsonContentType(_)) => return Err(ApiError::MediaType),
            Err(error) => return Err(ApiError::Malformed(vec![], error.body_text())),
        };
        if !body.is_object() {
            let error = FieldError::new("", "the body must be a JSON object");
            return Err(ApiError::Malformed(vec![error], String::new()));
        }
        read(body).map(Self)
    }
}

/// What a body says.
///
/// # Errors
/// [`ApiError::Malformed`], which names the field.
pub fn read<T: serde::de::DeserializeOwned>(body: serde_json::Value) -> Result<T, ApiError> {
    serde_path_to_error::deserialize(body)
        .map_err(|error| unreadable_field(error.path(), &error.inner().to_string()))
}

fn unreadable_field(path: &serde_path_to_error::Path, detail: &str) -> ApiError {
    use serde_path_to_error::Segment;
    let mut pointer = String::new();
    for segment in path.iter() {
        match segment {
            Segment::Seq { index } => pointer.push_str(&format!("/{index}")),
            Segment::Map { key } => pointer.push_str(&format!("/{key}")),
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    // Serde names a missing field in its message only, and the path ends above it.
    if let Some(field) = detail.strip_prefix("missing field `") {
        pointer.push_str(&format!("/{}", field.trim_end_matches('`')));
    }
    ApiError::Malformed(
        vec![FieldError {
            pointer,
            detail: detail.to_owned(),
        }],
        String::new(),
    )
}

/// A link could not be made: the credentials' source is away.
pub fn cannot_sign(error: &ObjectError) -> ApiError {
    tracing::error!(
        error = error as &dyn std::error::Error,
        "cannot sign a link"
    );
    ApiError::Unavailable("no link can be signed now, try again")
}

pub async fn no_such_page() -> ApiError {
    ApiError::NotFound("there is nothing at this address; see /docs")
}

pub async fn no_such_method() -> ApiError {
    ApiError::Method
}

pub fn panicked(payload: Box<dyn Any + Send>) -> Response {
    let said = payload
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| payload.downcast_ref::<&str>().copied());
    tracing::error!(
        said = said.unwrap_or("nothing that can be shown"),
        "a handler panicked"
    );
    ApiError::Internal.into_response()
}
