//! A job as it is submitted, and what makes it acceptable.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use chrono::{DateTime, Datelike, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::spec::UpscaleSpec;
pub use super::upscale_request::UpscaleRequest;
use crate::objects::ObjectUri;

const MAX_LABELS: usize = 16;
const MAX_LABEL_CHARS: usize = 64;
/// What a job's or a batch's priority may be.
pub const PRIORITIES: RangeInclusive<i32> = -100..=100;
const MAX_ATTEMPTS: u32 = 25;
const MAX_WEBHOOK_BYTES: usize = 2000;
const YEARS: RangeInclusive<i32> = 1970..=9999;

/// What to do when something is already stored under the output's address.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum IfExists {
    /// Refuse, at submission and again at publication.
    #[default]
    Fail,
    /// Replace it; never when it is the input of some job.
    Overwrite,
}

/// Which line a job stands in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Somebody waits for it.
    #[default]
    Interactive,
    /// Part of a large amount of work.
    Bulk,
}

impl Class {
    /// Both classes, the more urgent first.
    pub const ALL: [Self; 2] = [Self::Interactive, Self::Bulk];

    /// The class as it is written in JSON, SQL and queue names.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Interactive => "interactive",
            Self::Bulk => "bulk",
        }
    }
}

/// A job as submitted. Everything but `input` and `output` has a default.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JobRequest {
    /// Where the image is.
    #[schema(example = "s3://masters/box-12/0001.tif")]
    pub input: String,
    /// Where the result goes.
    #[schema(example = "s3://derivatives/box-12/0001.tif")]
    pub output: String,
    /// What to do when the output exists.
    #[serde(default)]
    pub if_exists: IfExists,
    /// How to upscale.
    #[serde(default)]
    pub upscale: UpscaleRequest,
    /// `interactive` (somebody waits) or `bulk`.
    #[serde(default)]
    pub class: Class,
    /// Higher goes first within its class; -100 to 100.
    #[serde(default)]
    pub priority: i32,
    /// How many attempts may fail before the job does; 1 to 25.
    #[serde(default = "default_max_attempts")]
    pub max_attempts: u32,
    /// Not to be started before this time.
    #[serde(default)]
    pub not_before: Option<DateTime<Utc>>,
    /// Not to be started after this time: the job expires.
    #[serde(default)]
    pub finish_by: Option<DateTime<Utc>>,
    /// Free words for finding it again; up to 16 of up to 64 characters.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Where to tell of the job's end: an address that takes POST requests, signed by the Standard Webhooks
    /// specification. The tenant needs a signing secret first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "https://example.org/hooks/upres")]
    pub webhook: Option<String>,
}

const fn default_max_attempts() -> u32 {
    5
}

/// One thing wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FieldError {
    /// JSON pointer to the field.
    #[schema(example = "/upscale/timesteps")]
    pub pointer: String,
    /// What is wrong with it, and what to do.
    pub detail: String,
}

impl FieldError {
    /// An error at `pointer`.
    #[must_use]
    pub fn new(pointer: &str, detail: impl Into<String>) -> Self {
        Self {
            pointer: pointer.to_owned(),
            detail: detail.into(),
        }
    }
}

/// A request that was found acceptable in itself; whether its key may touch those addresses, and
/// whether anything is stored there, is another question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidJob {
    /// Where the image is.
    pub input: ObjectUri,
    /// Where the result goes; never the input.
    pub output: ObjectUri,
    /// What to do when the output exists.
    pub if_exists: IfExists,
    /// How to upscale.
    pub upscale: UpscaleSpec,
    /// Which line it stands in.
    pub class: Class,
    /// Higher goes first within its class.
    pub priority: i32,
    /// How many attempts may fail.
    pub max_attempts: u32,
    /// Not to be started before.
    pub not_before: Option<DateTime<Utc>>,
    /// Not to be started after.
    pub finish_by: Option<DateTime<Utc>>,
    /// For finding it again.
    pub labels: BTreeMap<String, String>,
    /// Where to tell of its end.
    pub webhook: Option<String>,
    /// Accepted, but worth a word.
    pub warnings: Vec<String>,
}

impl JobRequest {
    /// A request with nothing but defaults.
    #[must_use]
    pub fn new(input: impl Into<String>, output: impl Into<String>) -> Self {
        Self {
            input: input.into(),
            output: output.into(),
            if_exists: IfExists::default(),
            upscale: UpscaleRequest::default(),
            class: Class::default(),
            priority: 0,
            max_attempts: default_max_attempts(),
            not_before: None,
            finish_by: None,
            labels: BTreeMap::new(),
            webhook: None,
        }
    }

    /// The request with every rule checked.
    ///
    /// # Errors
    /// Everything that is wrong with it, at once.
    pub fn validate(self) -> Result<ValidJob, Vec<FieldError>> {
        let mut errors = Vec::new();
        self.check_limits(&mut errors);
        let input = address("/input", &self.input, &mut errors);
        let output = address("/output", &self.output, &mut errors);
        if output.is_some() && input == output {
            errors.push(FieldError::new(
                "/output",
                "the output is the input: a master is never overwritten, give another address",
            ));
        }
        let upscale = self.upscale.validate(&mut errors);
        let (Some(input), Some(output), Some(upscale), true) =
            (input, output, upscale, errors.is_empty())
        else {
            return Err(errors);
        };
        Ok(ValidJob {
            input,
            output,
            if_exists: self.if_exists,
            warnings: upscale.timesteps.warning().into_iter().collect(),
            upscale,
            class: self.class,
            priority: self.priority,
            max_attempts: self.max_attempts,
            not_before: self.not_before,
            finish_by: self.finish_by,
            labels: self.labels,
            webhook: self.webhook,
        })
    }

    fn check_limits(&self, errors: &mut Vec<FieldError>) {
        if !(1..=MAX_ATTEMPTS).contains(&self.max_attempts) {
            errors.push(FieldError::new("/max_attempts", "must be 1 to 25"));
        }
        if !PRIORITIES.contains(&self.priority) {
            errors.push(FieldError::new("/priority", "must be -100 to 100"));
        }
        let dates = [
            ("/not_before", self.not_before),
            ("/finish_by", self.finish_by),
        ];
        for (pointer, date) in dates {
            if date.is_some_and(|date| !YEARS.contains(&date.year())) {
                errors.push(FieldError::new(
                    pointer,
                    "must be in a year from 1970 to 9999",
                ));
            }
        }
        if let (Some(start), Some(end)) = (self.not_before, self.finish_by)
            && end <= start
        {
            errors.push(FieldError::new("/finish_by", "must be after `not_before`"));
        }
        if self.labels.len() > MAX_LABELS {
            errors.push(FieldError::new("/labels", "at most 16 labels"));
        }
        for (name, value) in &self.labels {
            let fits = |text: &str| text.chars().count() <= MAX_LABEL_CHARS && !text.contains('\0');
            if name.is_empty() || !fits(name) || !fits(value) {
                errors.push(FieldError::new(
                    &format!("/labels/{}", name.replace('~', "~0").replace('/', "~1")),
                    "names have 1 to 64 characters, values at most 64",
                ));
            }
        }
        if let Some(webhook) = &self.webhook
            && !is_web_address(webhook)
        {
            errors.push(FieldError::new(
                "/webhook",
                "write an address like https://example.org/path, of at most 2000 characters",
            ));
        }
    }
}

/// Whether it looks like one at all; who may be called is for the coordinator to say.
fn is_web_address(text: &str) -> bool {
    let rest = ["https://", "http://"]
        .iter()
        .find_map(|scheme| text.strip_prefix(scheme));
    text.len() <= MAX_WEBHOOK_BYTES
        && rest.is_some_and(|rest| !rest.is_empty())
        && text.chars().all(|c| c.is_ascii_graphic())
}

fn address(pointer: &str, text: &str, errors: &mut Vec<FieldError>) -> Option<ObjectUri> {
    text.parse()
        .map_err(|error: crate::objects::AddressError| {
            errors.push(FieldError::new(pointer, error.to_string()));
        })
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pointers(request: serde_json::Value) -> Vec<String> {
        let request: JobRequest = serde_json::from_value(request).unwrap();
        let errors = request.validate().err().unwrap_or_default();
        errors.into_iter().map(|error| error.pointer).collect()
    }

    #[test]
    fn every_problem_is_named_at_once() {
        let request = serde_json::json!({
            "input": "http://masters/1.tif", "output": "s3://x", "max_attempts": 0, "priority": 101,
            "upscale": {"timesteps": [50, 250], "tile": 100, "model": "other", "input_sha256": "0f"},
            "labels": {"a/b": "x".repeat(65)}, "webhook": "ftp://example.org",
        });
        assert_eq!(
            pointers(request),
            [
                "/max_attempts",
                "/priority",
                "/labels/a~1b",
                "/webhook",
                "/input",
                "/output",
                "/upscale/timesteps",
                "/upscale/tile",
                "/upscale/model",
                "/upscale/input_sha256",
            ]
        );
    }

    #[test]
    fn no_priority_lies_outside_the_limits() {
        for (priority, is_refused) in [(-100, false), (100, false), (-101, true), (i32::MIN, true)]
        {
            let request = serde_json::json!({
                "input": "s3://in/1.png", "output": "s3://out/1.png", "priority": priority
            });
            let refused = pointers(request);
            assert_eq!(
                refused.contains(&"/priority".to_owned()),
                is_refused,
                "{priority}"
            );
        }
    }

    #[test]
    fn an_output_on_its_own_input_is_refused() {
        let both = "s3://masters/1.tif";
        assert_eq!(
            pointers(serde_json::json!({"input": both, "output": both})),
            ["/output"]
        );
    }

    #[test]
    fn steps_stand_for_their_default_schedule() {
        let mut request = JobRequest::new("s3://in-bucket/1.tif", "s3://out-bucket/1.tif");
        request.upscale.steps = Some(3);
        assert_eq!(
            request.validate().unwrap().upscale.timesteps.as_slice(),
            [200, 100, 50]
        );
    }
}
