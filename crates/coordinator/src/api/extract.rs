//! Parts of a request's address, with problems as answers where axum would speak plain text.

use axum::extract::{FromRequestParts, Path, Query};
use axum::http::request::Parts;

use super::error::ApiError;

/// The one id in the path. One that cannot even be decoded names nothing.
pub struct Id(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        let Path(id) = path.map_err(|_| ApiError::NotFound("there is no such thing"))?;
        Ok(Self(id))
    }
}

/// The query string, in order.
pub struct Parameters(pub Vec<(String, String)>);

impl Parameters {
    /// The only parameter that there may be.
    ///
    /// # Errors
    /// [`ApiError::Invalid`] when there is another, or more than one.
    pub fn only(self, name: &str) -> Result<Option<String>, ApiError> {
        let mut found = None;
        for (other, value) in self.0 {
            if other != name {
                let detail = format!("there is no such parameter, only `{name}`");
                return Err(ApiError::field(&format!("/{other}"), detail));
            }
            if found.replace(value).is_some() {
                return Err(ApiError::field(&format!("/{name}"), "give it once"));
            }
        }
        Ok(found)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Parameters {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let query = Query::<Vec<(String, String)>>::from_request_parts(parts, state).await;
        let Query(pairs) = query.map_err(|error| ApiError::Malformed(vec![], error.body_text()))?;
        Ok(Self(pairs))
    }
}
