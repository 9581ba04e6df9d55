//! A batch as it is submitted.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::BatchId;
use crate::job::request::{Class, IfExists, UpscaleRequest};

/// Many jobs at once: exactly one of `prefix`, `manifest` and `items` says which, or `parent`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchRequest {
    /// Runs the sources of this batch again, which must be over: what it did not finish, and what has another
    /// input, other settings or no result any more. Settings that are not given are the parent's, but for
    /// `report`, `bagit`, `not_before` and `finish_by`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<BatchId>,
    /// Every object under this address, but for the records that lie beside results and for what is itself the
    /// result of something under it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "s3://masters/box-12/")]
    pub prefix: Option<String>,
    /// Of the objects under `prefix` only those that one of these patterns matches, relative to the prefix;
    /// all unless given. `*` stays within a folder, `**` does not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(example = json!(["**/*.tif"]))]
    pub include: Vec<String>,
    /// Of those, none that one of these patterns matches.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
    /// An object with one item a line, JSON lines or CSV by its name (`.jsonl`, `.ndjson`, `.csv`, each
    /// also with `.gz`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<String>,
    /// The items themselves, at most 10,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items: Option<Vec<BatchItem>>,
    /// Where results go: an address with `{bucket}`, `{prefix}`, `{dir}`, `{name}`, `{stem}`, `{ext}`,
    /// `{steps}` and `{line}`. May be left out when every item has an output of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "s3://derivatives/{dir}/{stem}.{ext}")]
    pub output: Option<String>,
    /// What to do when an output exists.
    #[serde(default)]
    pub if_exists: IfExists,
    /// How to upscale.
    #[serde(default)]
    pub upscale: UpscaleRequest,
    /// `bulk` unless given.
    #[serde(default = "bulk")]
    pub class: Class,
    /// Added to each item's own; -100 to 100.
    #[serde(default)]
    pub priority: i32,
    /// How many attempts of each job may fail; 1 to 25.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
    /// No job is started before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<DateTime<Utc>>,
    /// No job is started after this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_by: Option<DateTime<Utc>>,
    /// Free words for finding the batch and its jobs again.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Nothing is started unless every item is acceptable.
    #[serde(default)]
    pub atomic: bool,
    /// A folder in the object store where the report is written at the end, as `report.jsonl` and
    /// `report.csv`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "s3://derivatives/reports/box-12/")]
    pub report: Option<String>,
    /// Makes the report's folder a bag (BagIt, RFC 8493): manifests with the SHA-256 of every result and record.
    /// Complete if results go to `data/` below that folder; others are named in `fetch.txt`.
    #[serde(default)]
    pub bagit: bool,
    /// Where to tell that the batch is finished: one message for all its jobs, signed and delivered like
    /// those of single jobs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "https://example.org/hooks/upres")]
    pub webhook: Option<String>,
}

const fn bulk() -> Class {
    Class::Bulk
}

/// One item: an input, and what differs from the rest of the batch.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchItem {
    /// Where the image is.
    #[schema(example = "s3://masters/box-12/0001.tif")]
    pub input: String,
    /// Where its result goes; by the batch's template unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// What to do when its output exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_exists: Option<IfExists>,
    /// Settings that differ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upscale: Option<UpscaleRequest>,
    /// Within the batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
    /// Beside the batch's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}
