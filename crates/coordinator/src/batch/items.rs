//! From an item of a batch to a job, or to the sentence that says why there is none.

use serde_json::{Map, Value};
use upres_common::batch::{BatchItem, BatchRequest};
use upres_common::job::JobRequest;
use upres_common::job::request::{FieldError, UpscaleRequest, ValidJob};
use upres_common::objects::{ObjectUri, UriPrefix};

use super::report_folder;
use super::template::{Template, Words};

/// What every item of a batch is made from, and what it may touch.
#[derive(Debug, Clone)]
pub struct Mould {
    /// The batch's own settings; its source is not looked at.
    pub request: BatchRequest,
    /// Where results go, unless the item says.
    pub output: Option<Template>,
    /// The beginning of keys that `{prefix}` and `{dir}` go by.
    pub key_prefix: String,
    /// What the batch's key may read.
    pub read_prefixes: Vec<UriPrefix>,
    /// Where it may write.
    pub write_prefixes: Vec<UriPrefix>,
}

impl Mould {
    /// The mould of a batch that was accepted, or is looked at.
    ///
    /// # Errors
    /// A sentence when its template cannot be read.
    pub fn new(
        request: BatchRequest,
        read_prefixes: Vec<UriPrefix>,
        write_prefixes: Vec<UriPrefix>,
    ) -> Result<Self, String> {
        let key_prefix = request
            .prefix
            .as_ref()
            .and_then(|prefix| prefix.parse::<UriPrefix>().ok())
            .and_then(|prefix| prefix.bucket_and_key().map(|(_, key)| key.to_owned()));
        Ok(Self {
            output: request.output.as_deref().map(Template::parse).transpose()?,
            key_prefix: key_prefix.unwrap_or_default(),
            request,
            read_prefixes,
            write_prefixes,
        })
    }

    /// What is wrong with the batch's own settings, tried on an item that is sound.
    ///
    /// # Errors
    /// The fields, as they stand in the batch.
    pub fn try_settings(&self, item: BatchItem) -> Result<(), Vec<FieldError>> {
        match self.request_for(item, 1) {
            Ok(request) => request.validate().map(drop),
            Err(problem) => Err(vec![FieldError::new("/output", problem)]),
        }
    }

    /// The job that an item stands for.
    ///
    /// # Errors
    /// Why there is none, in one line.
    pub fn cast(&self, item: BatchItem, line: u64) -> Result<ValidJob, String> {
        let request = self.request_for(item, line)?;
        let job = request.validate().map_err(|errors| sentence(&errors))?;
        if !self.read_prefixes.iter().any(|p| p.covers(&job.input)) {
            return Err(
                "input: the batch's key may not read objects under that address".to_owned(),
            );
        }
        if !self.write_prefixes.iter().any(|p| p.covers(&job.output)) {
            return Err(format!(
                "output: the batch's key may not write {}",
                job.output
            ));
        }
        // It would be replaced when the batch ends.
        let folder = self
            .request
            .report
            .as_deref()
            .map(|it| it.trim_end_matches('/'));
        let address = job.output.to_string();
        if folder.is_some() && folder == report_folder(&address) {
            return Err(format!("output: the batch writes its report to {address}"));
        }
        Ok(job)
    }

    fn request_for(&self, item: BatchItem, line: u64) -> Result<JobRequest, String> {
        let batch = &self.request;
        let upscale = match item.upscale {
            Some(own) => merge(&batch.upscale, &own),
            None => batch.upscale.clone(),
        };
        let output = match item.output {
            Some(output) => output,
            None => self.output_of(&item.input, &upscale, line)?,
        };
        let mut labels = batch.labels.clone();
        labels.extend(item.labels);
        let mut request = JobRequest::new(item.input, output);
        request.if_exists = item.if_exists.unwrap_or(batch.if_exists);
        request.upscale = upscale;
        request.class = batch.class;
        request.priority = item.priority.unwrap_or(0);
        request.max_attempts = batch.max_attempts.unwrap_or(request.max_attempts);
        request.not_before = batch.not_before;
        request.finish_by = batch.finish_by;
        request.labels = labels;
        Ok(request)
    }

    fn output_of(
        &self,
        input: &str,
        upscale: &UpscaleRequest,
        line: u64,
    ) -> Result<String, String> {
        let Some(template) = &self.output else {
            return Err(
                "output: neither the item nor the batch says where the result goes".to_owned(),
            );
        };
        let input: ObjectUri = input.parse().map_err(|error| format!("input: {error}"))?;
        let listed = upscale.timesteps.as_ref().map(Vec::len);
        let steps = upscale.steps.and_then(|steps| usize::try_from(steps).ok());
        Ok(template.fill(&Words {
            input: &input,
            prefix: &self.key_prefix,
            format: upscale.format.unwrap_or_default(),
            steps: listed.or(steps).unwrap_or(1),
            line,
        }))
    }
}

/// The batch's settings with an item's own in their place; a schedule replaces a schedule, however each
/// is written.
fn merge(batch: &UpscaleRequest, own: &UpscaleRequest) -> UpscaleRequest {
    let fields = |request: &UpscaleRequest| -> Map<String, Value> {
        match serde_json::to_value(request) {
            Ok(Value::Object(fields)) => fields,
            _ => Map::new(),
        }
    };
    let (mut merged, own_fields) = (fields(batch), fields(own));
    if own.steps.is_some() || own.timesteps.is_some() {
        merged.remove("steps");
        merged.remove("timesteps");
    }
    merged.extend(own_fields);
    serde_json::from_value(Value::Object(merged)).unwrap_or_else(|_| own.clone())
}

/// All that is wrong, in one line.
pub(super) fn sentence(errors: &[FieldError]) -> String {
    let words: Vec<_> = errors
        .iter()
        .map(|error| {
            format!(
                "{}: {}",
                error.pointer.trim_start_matches('/'),
                error.detail
            )
        })
        .collect();
    words.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mould(request: Value) -> Mould {
        let everything: Vec<UriPrefix> = vec!["*".parse().unwrap()];
        let only = vec!["s3://out-1/".parse().unwrap()];
        Mould::new(serde_json::from_value(request).unwrap(), everything, only).unwrap()
    }

    fn item(value: Value) -> BatchItem {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn an_items_schedule_replaces_the_batchs() {
        let mould = mould(serde_json::json!({
            "output": "s3://out-1/{stem}-{steps}.{ext}", "labels": {"box": "12"},
            "upscale": {"steps": 3, "seed": 7},
        }));
        let own = serde_json::json!({
            "input": "s3://in-1/a/1.tif", "upscale": {"timesteps": [150, 50]}, "labels": {"page": "1"},
        });
        let job = mould.cast(item(own), 1).unwrap();
        assert_eq!(job.output.to_string(), "s3://out-1/1-2.tif");
        assert_eq!(job.upscale.timesteps.as_slice(), [150, 50]);
        assert_eq!((job.upscale.seed, job.labels.len()), (7, 2));
        let plain = mould.cast(item(serde_json::json!({"input": "s3://in-1/2.tif"})), 2);
        assert_eq!(plain.unwrap().upscale.timesteps.as_slice(), [200, 100, 50]);
    }

    #[test]
    fn an_item_is_held_against_the_rules_of_jobs_and_of_the_key() {
        let mould = mould(serde_json::json!({"upscale": {}}));
        for (value, word) in [
            (
                serde_json::json!({"input": "s3://in-1/1.tif"}),
                "where the result goes",
            ),
            (
                serde_json::json!({"input": "1.tif", "output": "s3://out-1/1.tif"}),
                "input:",
            ),
            (
                serde_json::json!({"input": "s3://in-1/1.tif", "output": "s3://else/1.tif"}),
                "may not write",
            ),
            (
                serde_json::json!({"input": "s3://out-1/1.tif", "output": "s3://out-1/1.tif"}),
                "master",
            ),
        ] {
            let refused = mould.cast(item(value), 1).unwrap_err();
            assert!(refused.contains(word), "{refused}");
        }
    }
}
