//! A job's settings in the words of the engine and of the files.

use imaging::{
    Carried, Change, EncodeOptions, Format, Metadata, Provenance, Reader, TiffCompression,
};
use invsr::{Options, Schedule};
use upres_common::job::UpscaleSpec;
use upres_common::job::file_options::TiffPacking;
use upres_common::job::spec::{ColorFix, OutputFormat};

use crate::engine::MadeBy;
use crate::failure::ProcessError;

/// The engine multiplies each side by this.
pub(crate) const SCALE: u32 = 4;

/// How a result names this program.
pub(crate) const SOFTWARE: &str = concat!("upres ", env!("CARGO_PKG_VERSION"));

/// What the result's file says beside its pixels, and warnings about what it cannot say.
pub(crate) fn carry(
    metadata: &Metadata,
    spec: &UpscaleSpec,
    made_by: &MadeBy,
    options: &EncodeOptions,
    (width, height): (u32, u32),
) -> Carried {
    metadata.for_result(&Change {
        format: options.format,
        width,
        height,
        scale: SCALE,
        strip_gps: spec.strip_gps,
        provenance: Some(&provenance(spec, made_by)),
    })
}

/// The options of the result's file, but for what it says beside its pixels.
pub(crate) fn encode(reader: &Reader<'_>, spec: &UpscaleSpec) -> EncodeOptions {
    let options = reader.encode_like(output_format(spec.format));
    let file = &spec.file;
    EncodeOptions {
        jpeg_quality: file.jpeg_quality.unwrap_or(options.jpeg_quality),
        // Another side was refused with the job.
        tiff_tile: file.tiff_tile.and_then(|side| side.try_into().ok()),
        tiff_compression: match file.tiff_compression {
            None => options.tiff_compression,
            Some(TiffPacking::Deflate) => TiffCompression::Deflate,
            Some(TiffPacking::Lzw) => TiffCompression::Lzw,
        },
        ..options
    }
}

/// The job's settings in the engine's words.
pub(crate) fn options(spec: &UpscaleSpec, tile_batch: usize) -> Result<Options, ProcessError> {
    let schedule = Schedule::new(spec.timesteps.as_slice());
    Ok(Options {
        schedule: schedule.map_err(|error| ProcessError::Lease(error.to_string()))?,
        seed: spec.seed,
        tile_px: spec.tile,
        overlap_px: Some(spec.overlap_px()),
        guidance: spec.guidance.scale(),
        tile_batch,
        color_fix: match spec.color_fix {
            ColorFix::None => invsr::ColorFix::None,
            ColorFix::Wavelet => invsr::ColorFix::Wavelet,
            ColorFix::Adain => invsr::ColorFix::AdaIn,
            ColorFix::Ycbcr => invsr::ColorFix::YCbCr,
        },
        ..Options::default()
    })
}

/// What the result's file says of how it was made; the command line writes the same.
fn provenance(spec: &UpscaleSpec, made_by: &MadeBy) -> Provenance {
    Provenance {
        software: SOFTWARE.to_owned(),
        model: made_by.model.clone(),
        model_digest: made_by
            .model_sha256
            .as_ref()
            .map(|digest| format!("sha256:{digest}")),
        timesteps: spec.timesteps.as_slice().to_vec(),
        seed: spec.seed,
        color_fix: spec.color_fix.name().to_owned(),
        tile: spec.tile,
        overlap: spec.overlap_px(),
        guidance: spec.guidance.scale(),
    }
}

/// `None`: the input's.
fn output_format(format: OutputFormat) -> Option<Format> {
    match format {
        OutputFormat::Keep => None,
        OutputFormat::Png => Some(Format::Png),
        OutputFormat::Tiff => Some(Format::Tiff),
        OutputFormat::Jpeg => Some(Format::Jpeg),
        OutputFormat::Webp => Some(Format::WebP),
    }
}

/// Whether the input is the one that was meant.
///
/// # Errors
/// [`ProcessError::OtherInput`].
pub(crate) fn check_input(spec: &UpscaleSpec, sha256: &str) -> Result<(), ProcessError> {
    match &spec.input_sha256 {
        Some(expected) if expected != sha256 => Err(ProcessError::OtherInput {
            found: sha256.to_owned(),
            expected: expected.clone(),
        }),
        _ => Ok(()),
    }
}
