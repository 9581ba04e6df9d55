//! What a submission is, and all that can be found wrong with it before anything is sent.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use imaging::{Format, InputFormat};
use upres_common::job::file_options::FileOptions;
use upres_common::job::request::UpscaleRequest;
use upres_common::job::spec::OutputFormat;
use upres_common::job::{IfExists, JobRequest};

use super::SubmitArgs;
use crate::cli::Usage;
use crate::upscale::plan::{FormatChoice, PlanError, identity, named_format, promised, read_head};
use crate::upscale::write;

/// Stand in for the addresses of a file that is not uploaded yet while the request is checked.
pub const NOT_UPLOADED: [&str; 2] = ["s3://not-uploaded/input", "s3://not-uploaded/output"];

/// What is submitted, once it was found to be possible as far as this machine can tell.
pub struct Prepared {
    pub input: Input,
    /// `None`: the input's.
    pub format: Option<OutputFormat>,
}

pub enum Input {
    /// It is in the store already.
    Object(String),
    /// It is uploaded first.
    File {
        name: String,
        path: PathBuf,
        /// Its first bytes.
        head: Vec<u8>,
    },
}

/// Refuses what can be refused before anything is sent.
///
/// # Errors
/// [`Usage`], or the files cannot be read or written.
pub fn prepare(args: &SubmitArgs) -> anyhow::Result<Prepared> {
    let input = if args.input.starts_with("s3://") {
        if args.output.is_none() {
            let problem = "say where the result goes: --output s3://bucket/key";
            bail!(Usage(problem.to_owned()));
        }
        Input::Object(args.input.clone())
    } else {
        let path = Path::new(&args.input);
        if let Some(out) = &args.download
            && identity(path).is_some_and(|file| identity(out) == Some(file))
        {
            bail!(Usage(PlanError::OutputIsInput(out.clone()).to_string()));
        }
        read(path)?
    };
    let format = format(args, &input).map_err(|error| Usage(error.to_string()))?;
    let prepared = Prepared { input, format };
    let [input, output] = match &prepared.input {
        Input::Object(uri) => [uri.as_str(), NOT_UPLOADED[1]],
        Input::File { .. } => NOT_UPLOADED,
    };
    let output = args.output.as_deref().unwrap_or(output);
    if let Err(errors) = request(args, format, input, output)?.validate() {
        let sentences: Vec<_> = errors
            .iter()
            .map(|error| {
                format!(
                    "{}: {}",
                    error.pointer.trim_start_matches('/'),
                    error.detail
                )
            })
            .collect();
        bail!(Usage(sentences.join("\n  ")));
    }
    if let Some(file) = &args.download {
        write::check(file, args.overwrite).map_err(|failure| anyhow!(failure.detail))?;
    }
    Ok(prepared)
}

fn read(path: &Path) -> anyhow::Result<Input> {
    let head = read_head(path).with_context(|| format!("cannot read {}", path.display()))?;
    let name = path.file_name().unwrap_or_default();
    Ok(Input::File {
        name: name.to_string_lossy().into_owned(),
        path: path.to_owned(),
        head,
    })
}

/// The format that the results' names ask for, unless a flag does; a name that would lie is refused.
fn format(args: &SubmitArgs, input: &Input) -> Result<Option<OutputFormat>, PlanError> {
    let found = match input {
        Input::Object(uri) => promised(Path::new(uri)),
        // What is no picture is refused by the queue, in its own words.
        Input::File { head, .. } => imaging::sniff(head).ok().map(InputFormat::kept),
    };
    let object = args.output.as_deref().map(Path::new);
    let object = object.filter(|uri| promised(uri).is_some());
    let mut choice = FormatChoice::from(args.spec.format);
    for name in args.download.as_deref().into_iter().chain(object) {
        if let Some(format) = named_format(name, choice, found)? {
            choice = FormatChoice::Fixed(format);
        }
    }
    Ok(match choice {
        FormatChoice::Fixed(Format::Png) => Some(OutputFormat::Png),
        FormatChoice::Fixed(Format::Tiff) => Some(OutputFormat::Tiff),
        FormatChoice::Fixed(Format::Jpeg) => Some(OutputFormat::Jpeg),
        FormatChoice::Fixed(Format::WebP) => Some(OutputFormat::Webp),
        FormatChoice::Keep | FormatChoice::Unsaid => None,
    })
}

/// The request that the flags make.
///
/// # Errors
/// [`Usage`], where two of them contradict each other.
pub fn request(
    args: &SubmitArgs,
    format: Option<OutputFormat>,
    input: &str,
    output: &str,
) -> Result<JobRequest, Usage> {
    let mut request = JobRequest::new(input, output);
    request.if_exists = if args.overwrite {
        IfExists::Overwrite
    } else {
        IfExists::Fail
    };
    request.class = args.class;
    request.priority = args.priority;
    request.labels = args.labels.iter().cloned().collect::<BTreeMap<_, _>>();
    request.upscale = UpscaleRequest {
        timesteps: Some(args.spec.schedule().into()),
        steps: None,
        seed: Some(args.spec.seed),
        color_fix: Some(args.spec.color_fix),
        strip_gps: args.spec.strip_gps.then_some(true),
        file: Some(args.spec.file.options()).filter(|file| *file != FileOptions::default()),
        sidecar: args.no_sidecar.then_some(false),
        input_sha256: args.input_sha256.clone(),
        tile: Some(args.spec.tile),
        overlap: args.spec.overlap()?,
        guidance: Some(args.spec.guidance),
        model: None,
        format,
        pages: (!args.spec.pages.is_all()).then(|| args.spec.pages.to_string()),
    };
    Ok(request)
}

/// The address suggested for a result is named like its input, which may be of another format.
pub fn named_like(output: String, format: Option<OutputFormat>) -> String {
    let FormatChoice::Fixed(format) = FormatChoice::from(format) else {
        return output;
    };
    let path = Path::new(&output);
    match promised(path) {
        Some(named) if named != format => {
            let renamed = path.with_extension(format.extension());
            renamed.to_string_lossy().into_owned()
        }
        _ => output,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn args(line: &[&str]) -> SubmitArgs {
        match Cli::parse_from([&["upres", "submit"], line].concat()).command {
            Command::Submit(args) => *args,
            other => panic!("{other:?}"),
        }
    }

    fn asked(line: &[&str], found: Format) -> Result<Option<OutputFormat>, String> {
        let head: &[u8] = match found {
            Format::Png => b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
            _ => b"\xff\xd8\xff\xe0\0\x10JFIF\0",
        };
        assert_eq!(imaging::sniff(head).ok(), Some(found.into()));
        let args = args(line);
        let input = match args.input.starts_with("s3://") {
            true => Input::Object(args.input.clone()),
            false => Input::File {
                name: args.input.clone(),
                path: PathBuf::from(&args.input),
                head: head.to_vec(),
            },
        };
        format(&args, &input).map_err(|error| error.to_string())
    }

    #[test]
    fn the_name_of_the_result_says_its_format() {
        for (line, expected) in [
            (vec!["a.jpg", "-o", "a.png"], Some(OutputFormat::Png)),
            (vec!["a.jpg", "-o", "a"], Some(OutputFormat::Jpeg)),
            (vec!["a.jpg"], None),
            (
                vec!["a.jpg", "--format", "keep", "-o", "b.jpg"],
                Some(OutputFormat::Jpeg),
            ),
            (
                vec!["s3://abc/a.jpg", "--output", "s3://abc/b.tif"],
                Some(OutputFormat::Tiff),
            ),
            (vec!["s3://abc/a", "--output", "s3://abc/b"], None),
            (vec!["s3://abc/a", "--output", "s3://abc/b.2026"], None),
        ] {
            assert_eq!(asked(&line, Format::Jpeg), Ok(expected), "{line:?}");
        }
    }

    #[test]
    fn a_name_that_would_lie_is_refused() {
        for line in [
            vec!["a.jpg", "-o", "a.png", "--format", "jpeg"],
            vec!["a.jpg", "-o", "a.png", "--format", "keep"],
            vec!["a.jpg", "-o", "a.png", "--output", "s3://abc/a.jpg"],
            vec!["a.jpg", "--format", "png", "--output", "s3://abc/a.jpg"],
        ] {
            let problem = asked(&line, Format::Jpeg).unwrap_err();
            assert!(problem.contains("is named like"), "{problem}");
        }
        let problem = asked(&["a.png", "-o", "a.gif"], Format::Png).unwrap_err();
        assert!(problem.contains("not written as"), "{problem}");
    }

    #[test]
    fn the_suggested_address_gets_the_formats_extension() {
        let suggested = || "s3://upres/results/1/a.jpg".to_owned();
        let named = |format| named_like(suggested(), format);
        assert_eq!(named(None), suggested());
        assert_eq!(named(Some(OutputFormat::Jpeg)), suggested());
        assert_eq!(named(Some(OutputFormat::Png)), "s3://upres/results/1/a.png");
    }
}
