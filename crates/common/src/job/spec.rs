//! How an image is to be upscaled.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::file_options::FileOptions;
use super::pages::Pages;

/// The timesteps a noise predictor was trained to start from.
const TRAINED_STARTS: [u32; 4] = [250, 200, 150, 100];
/// The noise table's length; timesteps are 1-based indices into it.
const MAX_TIMESTEP: u32 = 1000;
/// Tile sides in low-resolution pixels: below 32 the window blends nothing, above 512 a tile's
/// attention alone outgrows a card.
const TILE_RANGE_PX: std::ops::RangeInclusive<u32> = 32..=512;

/// What neighbouring tiles share, as the engine does where nothing else is asked for.
const DEFAULT_OVERLAP_PX: u32 = 32;

/// The denoising schedule: strictly descending timesteps in 1..=1000.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "Vec<u32>", into = "Vec<u32>")]
#[schema(value_type = Vec<u32>, example = json!([250, 150, 50]))]
pub struct Timesteps(Vec<u32>);

/// Why a list of timesteps, or a number of steps, was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TimestepsError {
    /// Nothing to do.
    #[error("the list of timesteps is empty: give at least one, for example [200]")]
    Empty,
    /// Outside the noise table.
    #[error("timestep {0} is outside 1..=1000")]
    OutOfRange(u32),
    /// Not a descent.
    #[error("timesteps must fall strictly: {next} follows {previous}")]
    NotDescending {
        /// The earlier value.
        previous: u32,
        /// The value after it, not smaller.
        next: u32,
    },
    /// No default schedule of that length.
    #[error("steps must be 1 to 5, not {0}: for more, list the timesteps")]
    NoDefault(u32),
    /// Not a number.
    #[error("`{0}` is not a timestep: give whole numbers separated by commas, such as 250,150,50")]
    NotANumber(String),
}

impl Timesteps {
    /// A schedule of these timesteps.
    ///
    /// # Errors
    /// [`TimestepsError`] when the list is empty, leaves 1..=1000, or does not fall strictly.
    pub fn new(timesteps: Vec<u32>) -> Result<Self, TimestepsError> {
        if timesteps.is_empty() {
            return Err(TimestepsError::Empty);
        }
        if let Some(&outside) = timesteps.iter().find(|t| !(1..=MAX_TIMESTEP).contains(*t)) {
            return Err(TimestepsError::OutOfRange(outside));
        }
        for pair in timesteps.windows(2) {
            if pair[1] >= pair[0] {
                return Err(TimestepsError::NotDescending {
                    previous: pair[0],
                    next: pair[1],
                });
            }
        }
        Ok(Self(timesteps))
    }

    /// The published schedule of `steps` steps.
    ///
    /// # Errors
    /// [`TimestepsError::NoDefault`] outside one to five steps.
    pub fn default_for(steps: u32) -> Result<Self, TimestepsError> {
        let timesteps: &[u32] = match steps {
            1 => &[200],
            2 => &[200, 100],
            3 => &[200, 100, 50],
            4 => &[200, 150, 100, 50],
            5 => &[250, 200, 150, 100, 50],
            other => return Err(TimestepsError::NoDefault(other)),
        };
        Ok(Self(timesteps.to_vec()))
    }

    /// The timesteps, falling.
    #[must_use]
    pub fn as_slice(&self) -> &[u32] {
        &self.0
    }

    /// A sentence when the first timestep is one that the noise predictor never saw in training.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        let first = self.0[0];
        (!TRAINED_STARTS.contains(&first)).then(|| {
            format!("the first timestep is {first}; the noise predictor was trained to start at 250, 200, 150 or 100 only")
        })
    }
}

impl Default for Timesteps {
    fn default() -> Self {
        Self(vec![200])
    }
}

impl TryFrom<Vec<u32>> for Timesteps {
    type Error = TimestepsError;

    fn try_from(timesteps: Vec<u32>) -> Result<Self, Self::Error> {
        Self::new(timesteps)
    }
}

impl From<Timesteps> for Vec<u32> {
    fn from(timesteps: Timesteps) -> Self {
        timesteps.0
    }
}

impl FromStr for Timesteps {
    type Err = TimestepsError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = |part: &str| {
            part.trim()
                .parse()
                .map_err(|_| TimestepsError::NotANumber(part.trim().to_owned()))
        };
        Self::new(text.split(',').map(number).collect::<Result<_, _>>()?)
    }
}

impl fmt::Display for Timesteps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<_> = self.0.iter().map(u32::to_string).collect();
        f.write_str(&words.join(","))
    }
}

/// How the result's colours are brought back to the input's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ColorFix {
    /// Leave them.
    None,
    /// Low frequencies from the input (the paper's choice).
    #[default]
    Wavelet,
    /// Mean and deviation from the input, channel by channel.
    Adain,
    /// Chroma from the input.
    Ycbcr,
}

impl ColorFix {
    /// Its name in flags and JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Wavelet => "wavelet",
            Self::Adain => "adain",
            Self::Ycbcr => "ycbcr",
        }
    }
}

/// The file format of the result.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum OutputFormat {
    /// The input's format.
    #[default]
    Keep,
    /// PNG.
    Png,
    /// TIFF.
    Tiff,
    /// JPEG.
    Jpeg,
    /// WebP.
    Webp,
}

/// Settings of one upscale, valid by construction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UpscaleSpec {
    /// The denoising schedule.
    pub timesteps: Timesteps,
    /// Keys the noise; same job, same seed, same bytes.
    pub seed: u64,
    /// How colours are corrected.
    pub color_fix: ColorFix,
    /// Side of a tile in low-resolution pixels.
    pub tile: u32,
    /// What neighbouring tiles share at least, in low-resolution pixels. Jobs from before this setting
    /// have none: 32, or half a smaller tile.
    #[serde(default)]
    pub overlap: Option<u32>,
    /// How far to keep away from the negative prompt; above 1 every step is done twice.
    #[serde(default)]
    pub guidance: Guidance,
    /// Which of the deployment's models; `default` is the one its workers hold.
    pub model: String,
    /// The result's file format.
    pub format: OutputFormat,
    /// The result does not say where the picture was taken.
    #[serde(default)]
    pub strip_gps: bool,
    /// A record lies beside the result, under its address with `.upres.json` behind it.
    #[serde(default)]
    pub sidecar: bool,
    /// What the input's SHA-256 must be, lower-case hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_sha256: Option<String>,
    /// How the file is written.
    #[serde(default)]
    pub file: FileOptions,
    /// Which pages of a file of several.
    #[serde(default, skip_serializing_if = "Pages::is_all")]
    #[schema(value_type = String, example = "1,3-5")]
    pub pages: Pages,
}

impl Default for UpscaleSpec {
    fn default() -> Self {
        Self {
            timesteps: Timesteps::default(),
            seed: 12345,
            color_fix: ColorFix::default(),
            tile: 128,
            overlap: None,
            guidance: Guidance::default(),
            model: "default".to_owned(),
            format: OutputFormat::default(),
            strip_gps: false,
            sidecar: true,
            input_sha256: None,
            file: FileOptions::default(),
            pages: Pages::default(),
        }
    }
}

impl UpscaleSpec {
    /// What neighbouring tiles share at least, in low-resolution pixels.
    #[must_use]
    pub fn overlap_px(&self) -> u32 {
        self.overlap.unwrap_or_else(|| default_overlap(self.tile))
    }

    /// Steps of a tile, those for the negative prompt counted too.
    #[must_use]
    pub fn steps_a_tile(&self) -> usize {
        let passes = if self.guidance.is_on() { 2 } else { 1 };
        passes * self.timesteps.as_slice().len()
    }
}

/// How far each step goes from what the negative prompt suggests towards what the prompt does, and
/// beyond: 1 (the prompt alone) to 100.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "f64", into = "f64")]
#[schema(value_type = f64, example = 1.0)]
pub struct Guidance(f64);

/// No scale of guidance.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("guidance is {0}: give 1 for none, or more up to 100")]
pub struct GuidanceError(f64);

/// Never not-a-number, hence equal to itself.
impl Eq for Guidance {}

impl Default for Guidance {
    fn default() -> Self {
        Self(1.0)
    }
}

impl Guidance {
    /// A scale that can be worked with.
    ///
    /// # Errors
    /// [`GuidanceError`] outside 1 to 100.
    pub fn new(scale: f64) -> Result<Self, GuidanceError> {
        if (1.0..=100.0).contains(&scale) {
            return Ok(Self(scale));
        }
        Err(GuidanceError(scale))
    }

    /// Whether the negative prompt has a say.
    #[must_use]
    pub fn is_on(self) -> bool {
        self.0 > 1.0
    }

    /// The scale.
    #[must_use]
    pub fn scale(self) -> f64 {
        self.0
    }
}

impl TryFrom<f64> for Guidance {
    type Error = GuidanceError;

    fn try_from(scale: f64) -> Result<Self, Self::Error> {
        Self::new(scale)
    }
}

impl From<Guidance> for f64 {
    fn from(guidance: Guidance) -> Self {
        guidance.0
    }
}

/// The overlap where none is asked for, in low-resolution pixels.
#[must_use]
pub fn default_overlap(tile: u32) -> u32 {
    DEFAULT_OVERLAP_PX.min(tile / 2)
}

/// Why an overlap was refused.
///
/// # Errors
/// A sentence, when `overlap` is odd, nothing, or more than half of `tile`: tiles that share more only
/// repeat each other.
pub fn check_overlap(overlap: u32, tile: u32) -> Result<(), String> {
    if overlap > 0 && overlap <= tile / 2 && overlap.is_multiple_of(2) {
        return Ok(());
    }
    Err(format!(
        "an overlap of {overlap} px is refused: give an even number from 2 to {}, half a tile",
        tile / 2
    ))
}

/// Why a tile side was refused.
///
/// # Errors
/// A sentence, when `tile` is outside 32..=512 px or no multiple of 16.
pub fn check_tile(tile: u32) -> Result<(), String> {
    if TILE_RANGE_PX.contains(&tile) && tile.is_multiple_of(16) {
        return Ok(());
    }
    Err(format!(
        "a tile of {tile} px is refused: give a multiple of 16 from 32 to 512"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rising_repeated_and_foreign_timesteps_are_refused() {
        for refused in [vec![], vec![50, 250], vec![0], vec![200, 200], vec![1001]] {
            assert!(Timesteps::new(refused.clone()).is_err(), "{refused:?}");
        }
    }

    #[test]
    fn an_untrained_start_is_accepted_with_a_warning() {
        assert!("237,61".parse::<Timesteps>().unwrap().warning().is_some());
        assert!(
            "250,150,50"
                .parse::<Timesteps>()
                .unwrap()
                .warning()
                .is_none()
        );
    }

    proptest::proptest! {
        #[test]
        fn exactly_the_strictly_falling_lists_are_accepted(list in proptest::collection::vec(0u32..1100, 0..6)) {
            let falls = list.windows(2).all(|p| p[0] > p[1]);
            let inside = list.iter().all(|t| (1..=1000).contains(t));
            proptest::prop_assert_eq!(Timesteps::new(list.clone()).is_ok(), falls && inside && !list.is_empty());
        }
    }
}
