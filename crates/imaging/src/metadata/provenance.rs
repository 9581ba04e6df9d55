//! What was done to a picture, as its file says it.

use super::resolution::Resolution;

/// What made a result, for the file to say. Everything here is the same whenever the same job is done
/// again: no date, no name of a machine.
#[derive(Debug, Clone, PartialEq)]
pub struct Provenance {
    /// Name and version of the program, such as `upres 0.1.0`.
    pub software: String,
    /// Name of the model.
    pub model: String,
    /// What names the model's weights, such as `sha256:…`, where it is known.
    pub model_digest: Option<String>,
    /// The denoising schedule, falling.
    pub timesteps: Vec<u32>,
    /// What keys the noise.
    pub seed: u64,
    /// How colours were brought back: `none`, `wavelet`, `adain`, `ycbcr`.
    pub color_fix: String,
    /// Side of a tile, in pixels of the source.
    pub tile: u32,
    /// What neighbouring tiles share, in pixels of the source.
    pub overlap: u32,
    /// How far the model kept away from its negative prompt; 1 is not at all.
    pub guidance: f64,
}

/// The value of `DigitalSourceType` for a picture that was enhanced by a generative model.
pub const COMPOSITE: &str =
    "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia";

/// What is recorded of the source because the result says something else in its place.
#[derive(Debug, Default)]
pub(super) struct Before {
    pub software: Option<String>,
    pub resolution: Option<Resolution>,
    pub source_type: Option<String>,
}

impl Provenance {
    /// Names of properties and their values, in the order in which they are written.
    pub(super) fn properties(&self, scale: u32, before: &Before) -> Vec<(&'static str, Value)> {
        let text = |text: &str| Value::Text(text.to_owned());
        let mut properties = vec![
            ("Software", text(&self.software)),
            ("Model", text(&self.model)),
        ];
        properties.extend(
            self.model_digest
                .as_deref()
                .map(|digest| ("ModelDigest", text(digest))),
        );
        let timesteps = self.timesteps.iter().map(u32::to_string).collect();
        properties.extend([
            ("Timesteps", Value::List(timesteps)),
            ("Seed", Value::Text(self.seed.to_string())),
            ("ColorFix", text(&self.color_fix)),
            ("TilePx", Value::Text(self.tile.to_string())),
            ("OverlapPx", Value::Text(self.overlap.to_string())),
            ("Guidance", Value::Text(self.guidance.to_string())),
            ("Scale", Value::Text(scale.to_string())),
        ]);
        if let Some(Resolution { x, y, unit }) = before.resolution {
            let ratio =
                |(numerator, denominator)| Value::Text(format!("{numerator}/{denominator}"));
            properties.extend([
                ("CaptureXResolution", ratio(x)),
                ("CaptureYResolution", ratio(y)),
                ("CaptureResolutionUnit", text(unit.name())),
            ]);
        }
        let kept = [
            ("SourceSoftware", &before.software),
            ("SourceDigitalSourceType", &before.source_type),
        ];
        for (name, value) in kept {
            properties.extend(value.as_deref().map(|value| (name, text(value))));
        }
        properties
    }
}

/// The value of a property.
pub(super) enum Value {
    Text(String),
    /// In order.
    List(Vec<String>),
}
