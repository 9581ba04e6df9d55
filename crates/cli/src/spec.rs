//! The flags that say how an image is upscaled, here or by the queue.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use upres_common::job::spec::{ColorFix, OutputFormat, Timesteps, TimestepsError, check_tile};

/// How an image is upscaled.
#[derive(Debug, Clone, clap::Args)]
pub struct SpecArgs {
    /// Number of denoising steps, 1 to 5, on the published schedule [default: 1]
    #[arg(long, value_name = "N", value_parser = default_schedule, conflicts_with = "timesteps")]
    pub steps: Option<Timesteps>,
    /// Denoising schedule, strictly falling whole numbers from 1000 to 1, such as 250,150,50
    #[arg(long, value_name = "T,T,...", value_parser = parse_timesteps)]
    pub timesteps: Option<Timesteps>,
    /// Seed of the noise: same picture, same settings, same seed, same bytes
    #[arg(long, default_value_t = 12345)]
    pub seed: u64,
    /// Side of a tile, in pixels of the input: a multiple of 16 from 32 to 512
    #[arg(long, value_name = "PX", default_value = "128", value_parser = parse_tile)]
    pub tile: u32,
    /// How the result's colours are brought back to the input's
    #[arg(long, default_value = "wavelet", value_parser = color_fix())]
    pub color_fix: ColorFix,
    /// File format of the result: `keep` is the input's [default: by the output's name, or keep]
    #[arg(long, value_parser = output_format())]
    pub format: Option<OutputFormat>,
}

impl SpecArgs {
    /// The schedule asked for, or one step.
    pub fn schedule(&self) -> Timesteps {
        self.timesteps
            .clone()
            .or_else(|| self.steps.clone())
            .unwrap_or_default()
    }
}

fn default_schedule(text: &str) -> Result<Timesteps, String> {
    let steps = text
        .parse()
        .map_err(|_| "steps must be a whole number, 1 to 5".to_owned())?;
    Timesteps::default_for(steps).map_err(|error| error.to_string())
}

fn parse_timesteps(text: &str) -> Result<Timesteps, String> {
    text.parse()
        .map_err(|error: TimestepsError| error.to_string())
}

fn parse_tile(text: &str) -> Result<u32, String> {
    let tile = text
        .parse()
        .map_err(|_| format!("`{text}` is not a number of pixels"))?;
    check_tile(tile)?;
    Ok(tile)
}

fn color_fix() -> impl TypedValueParser<Value = ColorFix> {
    PossibleValuesParser::new(["none", "wavelet", "adain", "ycbcr"]).map(|name| {
        match name.as_str() {
            "none" => ColorFix::None,
            "adain" => ColorFix::Adain,
            "ycbcr" => ColorFix::Ycbcr,
            _ => ColorFix::Wavelet,
        }
    })
}

fn output_format() -> impl TypedValueParser<Value = OutputFormat> {
    PossibleValuesParser::new(["png", "tiff", "jpeg", "webp", "keep"]).map(|name| {
        match name.as_str() {
            "png" => OutputFormat::Png,
            "tiff" => OutputFormat::Tiff,
            "jpeg" => OutputFormat::Jpeg,
            "webp" => OutputFormat::Webp,
            _ => OutputFormat::Keep,
        }
    })
}
