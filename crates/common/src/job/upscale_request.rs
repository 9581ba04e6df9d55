//! How to upscale, as submitted, and what makes it acceptable.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::file_options::FileOptions;
use super::pages::{Pages, PagesError};
use super::request::FieldError;
use super::spec::{
    ColorFix, Guidance, OutputFormat, Timesteps, UpscaleSpec, check_overlap, check_tile,
    default_overlap,
};

/// How to upscale, as submitted: `steps` may stand for `timesteps`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpscaleRequest {
    /// Strictly descending timesteps in 1..=1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = json!([250, 150, 50]))]
    pub timesteps: Option<Vec<u32>>,
    /// The default schedule of 1 to 5 steps; not together with `timesteps`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<u32>,
    /// Keys the noise; 12345 unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// `wavelet` unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub color_fix: Option<ColorFix>,
    /// Side of a tile in low-resolution pixels; 128 unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tile: Option<u32>,
    /// What neighbouring tiles share at least, in low-resolution pixels; 32, or half a smaller tile,
    /// unless given. Less is faster, half a tile is the published tiling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlap: Option<u32>,
    /// How far to keep away from the model's negative prompt; 1, which is not at all, unless given.
    /// More takes every denoising step twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guidance: Option<f64>,
    /// `default` unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// `keep` unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<OutputFormat>,
    /// Leave out of the result where the picture was taken; kept unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strip_gps: Option<bool>,
    /// Write a record of what was done beside the result, `<output>.upres.json`; written unless this is
    /// false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sidecar: Option<bool>,
    /// SHA-256 that the input must have, in hexadecimal; any will do unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_sha256: Option<String>,
    /// How the file is written, beside its format.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<FileOptions>,
    /// Which pages of a TIFF of several: `all` unless given, `single` to refuse such files, or pages
    /// that rise, counted from 1, such as `1,3-5`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "1,3-5")]
    pub pages: Option<String>,
}

impl UpscaleRequest {
    pub(super) fn validate(self, errors: &mut Vec<FieldError>) -> Option<UpscaleSpec> {
        let before = errors.len();
        let defaults = UpscaleSpec::default();
        let timesteps = schedule(self.timesteps, self.steps, errors);
        let tile = self.tile.unwrap_or(defaults.tile);
        if let Err(detail) = check_tile(tile) {
            errors.push(FieldError::new("/upscale/tile", detail));
        }
        let overlap = self.overlap.unwrap_or_else(|| default_overlap(tile));
        if let Err(detail) = check_overlap(overlap, tile) {
            errors.push(FieldError::new("/upscale/overlap", detail));
        }
        let guidance = self.guidance.map_or(Ok(defaults.guidance), Guidance::new);
        let guidance = guidance
            .map_err(|error| errors.push(FieldError::new("/upscale/guidance", error.to_string())))
            .ok();
        let model = self.model.unwrap_or(defaults.model);
        if model != "default" {
            errors.push(FieldError::new(
                "/upscale/model",
                "unknown model: this deployment serves `default`",
            ));
        }
        let file = self.file.unwrap_or_default();
        file.check(errors);
        let pages = self.pages.map_or(Ok(Pages::All), |pages| pages.parse());
        let pages = pages
            .map_err(|error: PagesError| {
                errors.push(FieldError::new("/upscale/pages", error.to_string()))
            })
            .ok();
        if !self.input_sha256.as_deref().is_none_or(is_sha256) {
            errors.push(FieldError::new(
                "/upscale/input_sha256",
                "must be a SHA-256: 64 hexadecimal digits, as `sha256sum` prints them",
            ));
        }
        if errors.len() > before {
            return None;
        }
        Some(UpscaleSpec {
            timesteps: timesteps?,
            seed: self.seed.unwrap_or(defaults.seed),
            color_fix: self.color_fix.unwrap_or(defaults.color_fix),
            tile,
            overlap: Some(overlap),
            guidance: guidance?,
            model,
            format: self.format.unwrap_or(defaults.format),
            strip_gps: self.strip_gps.unwrap_or(defaults.strip_gps),
            sidecar: self.sidecar.unwrap_or(defaults.sidecar),
            file,
            pages: pages?,
            input_sha256: self.input_sha256.map(|digest| digest.to_ascii_lowercase()),
        })
    }
}

/// The schedule, however it was given.
fn schedule(
    timesteps: Option<Vec<u32>>,
    steps: Option<u32>,
    errors: &mut Vec<FieldError>,
) -> Option<Timesteps> {
    let (pointer, schedule) = match (timesteps, steps) {
        (Some(_), Some(_)) => {
            let detail = "give `steps` or `timesteps`, not both";
            errors.push(FieldError::new("/upscale/steps", detail));
            return None;
        }
        (Some(list), None) => ("/upscale/timesteps", Timesteps::new(list)),
        (None, Some(steps)) => ("/upscale/steps", Timesteps::default_for(steps)),
        (None, None) => return Some(UpscaleSpec::default().timesteps),
    };
    schedule
        .map_err(|error| errors.push(FieldError::new(pointer, error.to_string())))
        .ok()
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|digit| digit.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn validated(request: serde_json::Value) -> Result<UpscaleSpec, Vec<String>> {
        let request: UpscaleRequest = serde_json::from_value(request).unwrap();
        let mut errors = Vec::new();
        let spec = request.validate(&mut errors);
        spec.ok_or_else(|| errors.into_iter().map(|error| error.pointer).collect())
    }

    #[test]
    fn the_overlap_is_32_px_or_half_a_smaller_tile_unless_said() {
        let overlap = |request| validated(request).unwrap().overlap;
        assert_eq!(overlap(serde_json::json!({})), Some(32));
        assert_eq!(overlap(serde_json::json!({"tile": 48})), Some(24));
        assert_eq!(overlap(serde_json::json!({"overlap": 16})), Some(16));
        assert_eq!(overlap(serde_json::json!({"overlap": 64})), Some(64));
        for refused in [0, 15, 66, 128, 4000] {
            let request = serde_json::json!({"overlap": refused});
            assert_eq!(
                validated(request).unwrap_err(),
                ["/upscale/overlap"],
                "{refused}"
            );
        }
    }

    #[test]
    fn guidance_is_one_unless_said_and_never_below() {
        let guidance = |request| validated(request).unwrap().guidance;
        assert!(!guidance(serde_json::json!({})).is_on());
        assert!(guidance(serde_json::json!({"guidance": 3.5})).is_on());
        for refused in [0.99, 0.0, -3.0, 100.1] {
            let request = serde_json::json!({"guidance": refused});
            assert_eq!(
                validated(request).unwrap_err(),
                ["/upscale/guidance"],
                "{refused}"
            );
        }
    }

    #[test]
    fn pages_are_all_unless_said() {
        let pages = |request| validated(request).map(|spec| spec.pages.to_string());
        assert_eq!(pages(serde_json::json!({})).unwrap(), "all");
        assert_eq!(
            pages(serde_json::json!({"pages": "1, 3-5"})).unwrap(),
            "1,3-5"
        );
        assert_eq!(
            pages(serde_json::json!({"pages": "5-3"})).unwrap_err(),
            ["/upscale/pages"]
        );
    }

    /// Rows of the database from before these settings.
    #[test]
    fn settings_from_before_are_read_with_the_defaults_of_then() {
        let mut stored = serde_json::to_value(UpscaleSpec::default()).unwrap();
        let fields = stored.as_object_mut().unwrap();
        fields.remove("overlap");
        fields.remove("guidance");
        let spec: UpscaleSpec = serde_json::from_value(stored).unwrap();
        assert_eq!(spec, UpscaleSpec::default());
    }
}
