//! The flags that say how an image is upscaled, here or by the queue.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use imaging::{EncodeOptions, TiffCompression};
use upres_common::job::file_options::{FileOptions, TiffPacking, check_tiff_tile};
use upres_common::job::pages::{Pages, PagesError};
use upres_common::job::spec::{
    ColorFix, OutputFormat, Timesteps, TimestepsError, check_overlap, check_tile,
};

use crate::cli::Usage;

/// How an image is upscaled.
#[derive(Debug, Clone, clap::Args)]
pub struct SpecArgs {
    /// Number of denoising steps, 1 to 5, on the published schedule [default: 1]
    #[arg(long, value_name = "N", value_parser = default_schedule, conflicts_with = "timesteps", allow_hyphen_values = true)]
    pub steps: Option<Timesteps>,
    /// Denoising schedule, strictly falling whole numbers from 1000 to 1, such as 250,150,50
    #[arg(long, value_name = "T,T,...", value_parser = parse_timesteps, allow_hyphen_values = true)]
    pub timesteps: Option<Timesteps>,
    /// Seed of the noise: same picture, same settings, same seed, same bytes
    #[arg(long, value_name = "N", default_value = "12345", value_parser = parse_seed, allow_negative_numbers = true)]
    pub seed: u64,
    /// Side of a tile, in pixels of the input: a multiple of 16 from 32 to 512
    #[arg(long, value_name = "PX", default_value = "128", value_parser = parse_tile, allow_negative_numbers = true)]
    pub tile: u32,
    /// What neighbouring tiles share, in pixels of the input: more hides their borders better, less
    /// is faster; an even number, up to half a tile [default: 32, or half a tile]
    #[arg(
        long,
        value_name = "PX",
        conflicts_with = "exact",
        allow_negative_numbers = true
    )]
    pub overlap: Option<u32>,
    /// Lay the tiles as the official program does: each overlaps the next by half; tiles up to 256 px, as it
    /// takes larger ones through its VAE in pieces
    #[arg(long)]
    pub exact: bool,
    /// Keep away from the model's negative prompt, the further the higher: about twice the time a
    /// step; 1 is off, as published
    #[arg(
        long,
        value_name = "SCALE",
        default_value_t = 1.0,
        allow_negative_numbers = true
    )]
    pub guidance: f64,
    /// How the result's colours are brought back to the input's
    #[arg(long, default_value = "wavelet", value_parser = color_fix())]
    pub color_fix: ColorFix,
    /// File format of the result: `keep` is the input's [default: by the output's name, or keep]
    #[arg(long, value_parser = output_format())]
    pub format: Option<OutputFormat>,
    #[command(flatten)]
    pub file: FileArgs,
    /// Pages of a tiff of several: all, some such as 1,3-5, or single to refuse such files
    #[arg(long, value_name = "PAGES", default_value = "all", value_parser = parse_pages, allow_hyphen_values = true)]
    pub pages: Pages,
    /// Leave out of the result where the picture was taken
    #[arg(long)]
    pub strip_gps: bool,
}

/// How the file of the result is written.
#[derive(Debug, Clone, clap::Args)]
pub struct FileArgs {
    /// Quality of a jpeg result, 1 to 100 [default: 95]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=100))]
    pub jpeg_quality: Option<u8>,
    /// Write a tiff result in square tiles of this side, in pixels: a multiple of 16 from 64 to 1024
    #[arg(long, value_name = "PX", value_parser = parse_tiff_tile)]
    pub tiff_tile: Option<u32>,
    /// How a tiff result is packed: deflate or lzw [default: deflate]
    #[arg(long, value_parser = tiff_packing())]
    pub compression: Option<TiffPacking>,
}

impl FileArgs {
    /// `options` with what the flags say; the queue's workers do the same.
    pub fn encode(&self, options: EncodeOptions) -> EncodeOptions {
        EncodeOptions {
            jpeg_quality: self.jpeg_quality.unwrap_or(options.jpeg_quality),
            tiff_tile: self.tiff_tile.and_then(|side| side.try_into().ok()),
            tiff_compression: match self.compression {
                None => options.tiff_compression,
                Some(TiffPacking::Deflate) => TiffCompression::Deflate,
                Some(TiffPacking::Lzw) => TiffCompression::Lzw,
            },
            ..options
        }
    }

    /// In the words of a job.
    pub fn options(&self) -> FileOptions {
        FileOptions {
            jpeg_quality: self.jpeg_quality,
            tiff_tile: self.tiff_tile,
            tiff_compression: self.compression,
        }
    }
}

/// Pages as they are written on the command line.
pub fn parse_pages(text: &str) -> Result<Pages, String> {
    text.parse().map_err(|error: PagesError| error.to_string())
}

fn tiff_packing() -> impl TypedValueParser<Value = TiffPacking> {
    PossibleValuesParser::new(["deflate", "lzw"]).map(|name| match name.as_str() {
        "lzw" => TiffPacking::Lzw,
        _ => TiffPacking::Deflate,
    })
}

fn parse_tiff_tile(text: &str) -> Result<u32, String> {
    let side = text
        .parse()
        .map_err(|_| format!("`{text}` is not a number of pixels"))?;
    check_tiff_tile(side)?;
    Ok(side)
}

impl SpecArgs {
    /// What neighbouring tiles are to share, in pixels of the input, if anything was said.
    ///
    /// # Errors
    /// [`Usage`], when it is no overlap for the tile, or what the official program does is not known here.
    pub fn overlap(&self) -> Result<Option<u32>, Usage> {
        if self.exact && self.tile > EXACT_TILE_PX {
            let problem = format!(
                "--exact is for tiles up to {EXACT_TILE_PX} px: the official program takes larger ones through its VAE in pieces, this one whole"
            );
            return Err(Usage(problem));
        }
        if self.exact {
            return Ok(Some(self.tile / 2));
        }
        if let Some(overlap) = self.overlap {
            check_overlap(overlap, self.tile).map_err(|why| Usage(format!("--overlap: {why}")))?;
        }
        Ok(self.overlap)
    }

    /// The schedule asked for, or one step.
    pub fn schedule(&self) -> Timesteps {
        self.timesteps
            .clone()
            .or_else(|| self.steps.clone())
            .unwrap_or_default()
    }
}

/// The largest tile that the official program takes through its VAE whole.
const EXACT_TILE_PX: u32 = 256;

/// The published schedule of so many steps.
pub fn default_schedule(text: &str) -> Result<Timesteps, String> {
    let steps = text
        .parse()
        .map_err(|_| "steps must be a whole number, 1 to 5".to_owned())?;
    Timesteps::default_for(steps).map_err(|error| error.to_string())
}

/// A schedule as it is written on the command line.
pub fn parse_timesteps(text: &str) -> Result<Timesteps, String> {
    if text.trim().is_empty() {
        let problem = "the list is empty: give whole numbers separated by commas";
        return Err(format!("{problem}, such as 250,150,50"));
    }
    text.parse()
        .map_err(|error: TimestepsError| error.to_string())
}

fn parse_seed(text: &str) -> Result<u64, String> {
    let seed = text.parse();
    seed.map_err(|_| {
        format!(
            "`{text}` is no seed: write a whole number from 0 to {}",
            u64::MAX
        )
    })
}

/// A side that the engine can cut, in pixels of the input.
pub fn parse_tile(text: &str) -> Result<u32, String> {
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

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;
    use crate::cli::{Cli, Command};

    fn parse(flags: &[&str]) -> Result<SpecArgs, String> {
        let line = [&["upres", "upscale", "a.png", "-o", "b.png"], flags].concat();
        match Cli::try_parse_from(line)
            .map_err(|error| error.to_string())?
            .command
        {
            Command::Upscale(args) => Ok(args.spec),
            other => Err(format!("{other:?}")),
        }
    }

    #[test]
    fn exact_is_what_the_official_program_does_or_nothing() {
        let overlap = |flags: &[&str]| parse(flags).unwrap().overlap();
        assert_eq!(overlap(&["--exact"]).unwrap(), Some(64));
        assert_eq!(overlap(&["--exact", "--tile", "256"]).unwrap(), Some(128));
        let refused = overlap(&["--exact", "--tile", "272"]).unwrap_err();
        assert!(refused.0.contains("tiles up to 256 px"), "{refused}");
        assert_eq!(overlap(&["--tile", "272"]).unwrap(), None);
        assert_eq!(overlap(&["--overlap", "64"]).unwrap(), Some(64));
        for wrong in ["66", "0", "31"] {
            let refused = overlap(&["--overlap", wrong]).unwrap_err();
            let sentence = format!("--overlap: an overlap of {wrong} px is refused");
            assert!(refused.to_string().starts_with(&sentence), "{refused}");
        }
    }

    #[test]
    fn the_flags_agree_with_each_other() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_is_not_said_has_the_published_default() {
        let spec = parse(&[]).unwrap();
        assert_eq!(spec.schedule().as_slice(), [200]);
        assert_eq!((spec.seed, spec.tile), (12345, 128));
        assert_eq!((spec.color_fix, spec.format), (ColorFix::Wavelet, None));
    }

    #[test]
    fn what_is_said_is_read() {
        let flags = [
            "--timesteps",
            "250,150,50",
            "--color-fix",
            "ycbcr",
            "--format",
            "keep",
        ];
        let spec = parse(&flags).unwrap();
        assert_eq!(spec.schedule().as_slice(), [250, 150, 50]);
        assert_eq!(spec.color_fix, ColorFix::Ycbcr);
        assert_eq!(spec.format, Some(OutputFormat::Keep));
        let spec = parse(&["--steps", "4", "--seed", "18446744073709551615"]).unwrap();
        assert_eq!(spec.schedule().as_slice(), [200, 150, 100, 50]);
        assert_eq!(spec.seed, u64::MAX);
    }

    #[test]
    fn what_cannot_be_is_refused_in_a_sentence() {
        for (flags, sentence) in [
            (["--timesteps", "200,200"], "timesteps must fall strictly"),
            (["--timesteps", "200,0"], "timestep 0 is outside"),
            (["--timesteps", "200;100"], "not a timestep"),
            (["--timesteps", "-5"], "`-5` is not a timestep"),
            (["--timesteps", ""], "the list is empty"),
            (["--steps", "-1"], "steps must be a whole number"),
            (["--tile", "-1"], "`-1` is not a number of pixels"),
            (["--steps", "six"], "steps must be a whole number"),
            (["--tile", "100"], "multiple of 16"),
            (["--tiff-tile", "100"], "multiple of 16"),
            (["--jpeg-quality", "0"], "0 is not in"),
            (["--format", "gif"], "possible values: png, tiff"),
            (["--pages", "3,1"], "pages must rise"),
            (["--compression", "zip"], "possible values: deflate, lzw"),
            (["--tile-batch", "0"], "0 is not in"),
        ] {
            let error = parse(&flags).unwrap_err();
            assert!(error.contains(sentence), "{error}");
        }
    }
}
