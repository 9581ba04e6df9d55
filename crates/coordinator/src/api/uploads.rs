//! `/v1/uploads`: a place for the files of clients that hold no S3 keys.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use upres_common::job::JobId;
use upres_common::objects::upload_address;
use utoipa::ToSchema;

use super::App;
use super::caller::require;
use super::error::{ApiError, Body, Problem, cannot_sign};
use crate::auth::{Caller, Scope};

/// How long the link takes a file.
const LINK_LIFETIME: Duration = Duration::from_secs(3600);

/// A file to be uploaded.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UploadRequest {
    /// Its name; kept, as far as it is harmless, in the addresses.
    #[serde(default)]
    file_name: String,
}

/// Where to put it.
#[derive(Debug, Serialize, ToSchema)]
pub struct UploadView {
    /// PUT the bytes here within an hour.
    url: String,
    /// Then give this as a job's `input` …
    input: String,
    /// … and this, or another address, as its `output`.
    output: String,
}

/// Ask for a link to upload a file to. Each tenant's files lie under a folder of its own.
#[utoipa::path(post, path = "/v1/uploads", tag = "jobs", request_body = UploadRequest,
    responses((status = 201, body = UploadView, description = "A link that takes one file"),
        (status = 403, body = Problem, description = "Not for this key")), security(("key" = ["submit"])))]
pub async fn create(
    State(app): State<App>,
    caller: Caller,
    Body(request): Body<UploadRequest>,
) -> Result<(StatusCode, Json<UploadView>), ApiError> {
    require(&caller, Scope::Submit)?;
    let Some(uploads) = &app.uploads else {
        let detail =
            "this deployment takes no uploads: put the file into a bucket and submit its address";
        return Err(ApiError::Forbidden(vec![], detail.to_owned()));
    };
    let (tenant, name) = (&caller.tenant, &request.file_name);
    let (input, output) = upload_address(uploads, tenant, JobId::fresh(), name)
        .map_err(|error| ApiError::field("/file_name", error.to_string()))?;
    if !caller.may_read(&input) || !caller.may_write(&output) {
        let place = uploads.as_str().trim_end_matches('/');
        let detail = format!(
            "uploads take a key that may read {place}/uploads/{tenant}/ and write {place}/results/{tenant}/"
        );
        return Err(ApiError::Forbidden(vec![], detail));
    }
    let url = app
        .objects
        .presign_put(&input, LINK_LIFETIME)
        .await
        .map_err(|error| cannot_sign(&error))?;
    let view = UploadView {
        url,
        input: input.to_string(),
        output: output.to_string(),
    };
    Ok((StatusCode::CREATED, Json(view)))
}
