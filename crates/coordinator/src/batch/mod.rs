//! Batches: many jobs from one source. A request is looked at and stored here; its items become jobs in
//! [`expand`]; what its owner asks for afterwards is carried out in [`carry_out`]; what became of every
//! input is in [`report`]. How its jobs take their turn is the outbox's affair.

mod bag;
pub mod carry_out;
pub mod estimate;
pub mod expand;
mod items;
mod manifest;
pub mod parent;
pub mod report;
mod sorted;
mod source;
mod template;
pub mod view;

use std::collections::HashSet;

use sha2::{Digest, Sha256};
use sqlx::{PgConnection, PgPool};
use upres_common::batch::{BatchId, BatchItem, BatchRequest};
use upres_common::job::IfExists;
use upres_common::job::request::{FieldError, PRIORITIES};
use upres_common::objects::{ObjectError, ObjectStore, ObjectUri, UriPrefix};

use crate::auth::Caller;
use crate::store::batches::{self, Insertion, NewBatch};
use crate::store::submissions::{self, NewKey};
use crate::store::{StoreError, within_patience};
use crate::submit::{SubmitError, no_bucket};
use items::Mould;
use template::Template;

/// More items than this belong into a manifest.
const MAX_ITEMS: usize = 10_000;
/// Stands for any input while the batch's own settings are checked.
const SAMPLE_NAME: &str = "sample.tif";

/// What became of an acceptable request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// A new batch.
    Fresh(BatchId),
    /// The batch of an earlier request under the same key.
    Earlier(BatchId),
}

/// The key of a request whose body is `body`, as the client wrote it: order and white space make no other
/// request.
#[must_use]
pub fn key(key: &str, body: &serde_json::Value) -> NewKey {
    NewKey {
        key: key.to_owned(),
        request_sha256: Sha256::digest(body.to_string()).to_vec(),
    }
}

/// The batch of an earlier request under the same key.
///
/// # Errors
/// [`SubmitError::KeyReused`] when it was another request, or the database's.
pub async fn earlier(
    pool: &PgPool,
    tenant: &str,
    key: &NewKey,
) -> Result<Option<BatchId>, SubmitError> {
    let known = within_patience(async {
        let mut conn = pool.acquire().await?;
        batches::of_key(&mut conn, tenant, &key.key).await
    });
    match known.await? {
        Some((_, sha256)) if sha256 != key.request_sha256 => Err(SubmitError::KeyReused),
        known => Ok(known.map(|(id, _)| id)),
    }
}

/// Accepts a batch, or says everything that is wrong with it. Its items are looked at later; each that is
/// not acceptable is in the report.
///
/// # Errors
/// [`SubmitError`]; nothing is stored then.
pub async fn create(
    pool: &PgPool,
    objects: &ObjectStore,
    caller: &Caller,
    request: BatchRequest,
    key: Option<NewKey>,
) -> Result<Created, SubmitError> {
    let new = NewBatch {
        key,
        ..check(caller, request)?
    };
    check_buckets(objects, &new).await?;
    check_report(objects, &new.request).await?;
    let inserted = within_patience(async {
        let mut conn = pool.acquire().await?;
        batches::insert(&mut conn, &new).await
    });
    match inserted.await? {
        Insertion::Done => {}
        Insertion::KeyTaken => {
            let key = new.key.as_ref().ok_or(SubmitError::KeyBusy)?;
            let earlier = earlier(pool, &new.tenant, key).await?;
            return earlier.map(Created::Earlier).ok_or(SubmitError::KeyBusy);
        }
        Insertion::ReportTaken => return Err(report_is_taken()),
    }
    tracing::info!(batch.id = %new.id, class = new.request.class.as_str(), "batch accepted");
    metrics::counter!("upres_batches_submitted_total").increment(1);
    Ok(Created::Fresh(new.id))
}

/// Refuses addresses whose bucket does not exist: three hundred thousand jobs would fail for it, one by one.
/// Of a template that is what stands before its first word. A store that does not answer refuses nothing.
async fn check_buckets(objects: &ObjectStore, new: &NewBatch) -> Result<(), SubmitError> {
    let request = &new.request;
    let named = [
        ("/prefix", &request.prefix, &new.read_prefixes),
        ("/manifest", &request.manifest, &new.read_prefixes),
        ("/output", &request.output, &new.write_prefixes),
        ("/report", &request.report, &new.write_prefixes),
    ];
    let mut errors = Vec::new();
    for (pointer, address, prefixes) in named {
        let Some(uri) = address.as_deref().and_then(some_object) else {
            continue;
        };
        // Nobody learns of buckets that his key does not reach.
        let reaches = |prefix: &UriPrefix| {
            let parts = prefix.bucket_and_key();
            parts.is_none_or(|(bucket, _)| bucket == uri.bucket())
        };
        if !prefixes.iter().any(reaches) {
            continue;
        }
        match objects.has_bucket(&uri).await {
            Ok(true) => {}
            Ok(false) => errors.push(no_bucket(pointer)),
            Err(error @ ObjectError::Refused { .. }) => {
                errors.push(FieldError::new(pointer, error.to_string()));
            }
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "a batch's bucket was not looked for"
                );
            }
        }
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(SubmitError::Invalid(errors))
}

/// What [`create`] would refuse because of batches that are not over.
async fn check_promised(pool: &PgPool, new: &NewBatch) -> Result<(), SubmitError> {
    let Some(folder) = &new.request.report else {
        return Ok(());
    };
    if new.request.if_exists == IfExists::Overwrite {
        return Ok(());
    }
    let promised = within_patience(async {
        let mut conn = pool.acquire().await?;
        batches::is_promised(&mut conn, new.id, folder).await
    });
    match promised.await? {
        true => Err(report_is_taken()),
        false => Ok(()),
    }
}

fn report_is_taken() -> SubmitError {
    let detail = "another batch writes its report there, or has just done so: name another folder, or \"if_exists\": \"overwrite\"";
    SubmitError::Conflict(vec![FieldError::new("/report", detail)])
}

/// The folder of a report, if the address is that of a file in one.
#[must_use]
pub fn report_folder(address: &str) -> Option<&str> {
    let (folder, name) = address.rsplit_once('/')?;
    let mut reports = report::Form::ALL.map(report::Form::file_name).into_iter();
    let is_one = reports.any(|report| report == name) || bag::TAGS.contains(&name);
    is_one.then_some(folder)
}

/// Which of these addresses are results of what lies under `prefix`, or files of a report.
async fn made(
    conn: &mut PgConnection,
    tenant: &str,
    prefix: &str,
    addresses: &[String],
) -> Result<HashSet<String>, StoreError> {
    let mut made = submissions::results_of(conn, tenant, prefix, addresses).await?;
    let folder = |address: &String| report_folder(address).map(str::to_owned);
    let folders: HashSet<_> = addresses.iter().filter_map(folder).collect();
    if folders.is_empty() {
        return Ok(made);
    }
    let folders: Vec<_> = folders.into_iter().collect();
    let reports = batches::report_folders(conn, tenant, &folders).await?;
    let is_report = |address: &&String| folder(address).is_some_and(|at| reports.contains(&at));
    made.extend(addresses.iter().filter(is_report).cloned());
    Ok(made)
}

/// Refuses a folder that has a report, or a bag if one is to be made: it would be overwritten hours later.
async fn check_report(objects: &ObjectStore, request: &BatchRequest) -> Result<(), SubmitError> {
    let Some(folder) = &request.report else {
        return Ok(());
    };
    if request.if_exists == IfExists::Overwrite {
        return Ok(());
    }
    let reports = report::Form::ALL.map(report::Form::file_name);
    let tags = bag::TAGS.into_iter().filter(|_| request.bagit);
    for name in reports.into_iter().chain(tags) {
        let Ok(uri) = report::file(folder, name) else {
            continue;
        };
        match objects.head(&uri).await {
            Ok(Some(_)) => {
                let detail = format!(
                    "{uri} is there already: name another folder, or \"if_exists\": \"overwrite\""
                );
                let taken = FieldError::new("/report", detail);
                return Err(SubmitError::Conflict(vec![taken]));
            }
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "an earlier report was not looked for"
                );
            }
        }
    }
    Ok(())
}

/// An object in the bucket that an address, or the beginning of one, names.
fn some_object(address: &str) -> Option<ObjectUri> {
    let (bucket, _) = address.strip_prefix("s3://")?.split_once('/')?;
    if bucket.contains('{') {
        return None;
    }
    format!("s3://{bucket}/{SAMPLE_NAME}").parse().ok()
}

/// The batch that a request asks for, with every rule checked that holds for all its items.
fn check(caller: &Caller, request: BatchRequest) -> Result<NewBatch, SubmitError> {
    let mut errors = Vec::new();
    let mut forbidden = Vec::new();
    check_source(caller, &request, &mut errors, &mut forbidden);
    check_output(caller, &request, &mut errors, &mut forbidden);
    check_folder(caller, &request, &mut errors, &mut forbidden);
    if request.bagit && request.report.is_none() {
        let detail = "the bag is made around the report: say where, with `report`";
        errors.push(FieldError::new("/bagit", detail));
    }
    // The database keeps the request, and holds no such text.
    if serde_json::to_string(&request).is_ok_and(|text| text.contains("\\u0000")) {
        let detail = "a text in the request holds the character NUL, which is not stored";
        errors.push(FieldError::new("", detail));
    }
    let (read, write) = caller.prefixes();
    if errors.is_empty() {
        check_settings(&request, &mut errors);
    }
    if !errors.is_empty() {
        return Err(SubmitError::Invalid(errors));
    }
    if !forbidden.is_empty() {
        return Err(SubmitError::Forbidden(forbidden));
    }
    Ok(NewBatch {
        id: BatchId::fresh(),
        tenant: caller.tenant.clone(),
        key: None,
        request,
        read_prefixes: read.to_vec(),
        write_prefixes: write.to_vec(),
    })
}

fn check_source(
    caller: &Caller,
    request: &BatchRequest,
    errors: &mut Vec<FieldError>,
    forbidden: &mut Vec<FieldError>,
) {
    let no_reading =
        |pointer| FieldError::new(pointer, "this key may not read objects under that address");
    match (&request.prefix, &request.manifest, &request.items) {
        (Some(prefix), None, None) => match prefix.parse::<UriPrefix>() {
            Ok(parsed) if parsed.bucket_and_key().is_some() => {
                if !caller.may_list(&parsed) {
                    forbidden.push(no_reading("/prefix"));
                }
            }
            Ok(_) => errors.push(FieldError::new("/prefix", "write s3://bucket/some/prefix/")),
            Err(error) => errors.push(FieldError::new("/prefix", error.to_string())),
        },
        (None, Some(manifest), None) => match manifest.parse::<ObjectUri>() {
            Ok(uri) if !caller.may_read(&uri) => forbidden.push(no_reading("/manifest")),
            Ok(_) => {}
            Err(error) => errors.push(FieldError::new("/manifest", error.to_string())),
        },
        (None, None, Some(items)) if items.is_empty() => {
            errors.push(FieldError::new("/items", "give at least one item"));
        }
        (None, None, Some(items)) if items.len() > MAX_ITEMS => errors.push(FieldError::new(
            "/items",
            "at most 10,000: put more into a manifest",
        )),
        (None, None, Some(_)) => {}
        _ => errors.push(FieldError::new(
            "/prefix",
            "give exactly one of `prefix`, `manifest` and `items`",
        )),
    }
    for (pointer, texts) in [
        ("/include", &request.include),
        ("/exclude", &request.exclude),
    ] {
        if request.prefix.is_none() && !texts.is_empty() {
            let detail = "patterns choose from the objects under a `prefix`: leave them out";
            errors.push(FieldError::new(pointer, detail));
        }
        if let Err((index, problem)) = source::patterns(texts) {
            errors.push(FieldError::new(&format!("{pointer}/{index}"), problem));
        }
    }
}

fn check_output(
    caller: &Caller,
    request: &BatchRequest,
    errors: &mut Vec<FieldError>,
    forbidden: &mut Vec<FieldError>,
) {
    let Some(output) = &request.output else {
        if request.prefix.is_some() {
            let detail = "say where results go, e.g. s3://derivatives/{dir}/{stem}.{ext}";
            errors.push(FieldError::new("/output", detail));
        }
        return;
    };
    match Template::parse(output) {
        Err(problem) => errors.push(FieldError::new("/output", problem)),
        Ok(template) if !template.tells_inputs_apart() => errors.push(FieldError::new(
            "/output",
            "all results would go to one address: use {stem}, {name} or {line}",
        )),
        // Every item would be refused for it, one by one.
        Ok(template) if !caller.may_write_below(template.beginning()) => {
            forbidden.push(FieldError::new(
                "/output",
                "this key may not write objects under that address",
            ));
        }
        Ok(_) => {}
    }
}

/// Where the report and the bag go.
fn check_folder(
    caller: &Caller,
    request: &BatchRequest,
    errors: &mut Vec<FieldError>,
    forbidden: &mut Vec<FieldError>,
) {
    let Some(folder) = &request.report else {
        return;
    };
    let reports = report::Form::ALL.map(report::Form::file_name);
    let tags = bag::TAGS.into_iter().filter(|_| request.bagit);
    for name in reports.into_iter().chain(tags) {
        match report::file(folder, name) {
            Err(error) => errors.push(FieldError::new("/report", error.to_string())),
            Ok(uri) if !caller.may_write(&uri) => forbidden.push(FieldError::new(
                "/report",
                "this key may not write objects under that address",
            )),
            Ok(uri)
                if request
                    .manifest
                    .as_ref()
                    .is_some_and(|it| *it == uri.to_string()) =>
            {
                let detail = format!("{uri} is the manifest: name another folder");
                errors.push(FieldError::new("/report", detail));
            }
            Ok(_) => continue,
        }
        // The others would be refused for the same.
        return;
    }
}

/// Tries the settings on an item that nothing else is wrong with.
fn check_settings(request: &BatchRequest, errors: &mut Vec<FieldError>) {
    let everything = || vec!["*".parse().expect("a star covers everything")];
    let mut request = request.clone();
    if !PRIORITIES.contains(&request.priority) {
        errors.push(FieldError::new("/priority", "must be -100 to 100"));
    }
    let input = match &request.prefix {
        Some(prefix) => format!("{}/{SAMPLE_NAME}", prefix.trim_end_matches('/')),
        None => format!("s3://sample/{SAMPLE_NAME}"),
    };
    if request.output.is_none() {
        request.output = Some("s3://sample/{stem}/result".to_owned());
    }
    let item = BatchItem {
        input,
        ..BatchItem::default()
    };
    let Ok(mould) = Mould::new(request, everything(), everything()) else {
        return;
    };
    if let Err(found) = mould.try_settings(item) {
        errors.extend(found);
    }
}
