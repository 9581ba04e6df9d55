//! Which file becomes which: decided for all inputs before anything is computed.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::failure::Failure;
use imaging::{Format, InputFormat};
use upres_common::job::spec::OutputFormat;

/// Enough for [`imaging::sniff`].
const HEAD_BYTES: u64 = 512;

/// What the command line asks for.
pub struct Request<'a> {
    /// Files and folders.
    pub inputs: &'a [PathBuf],
    /// A file for one input file, else a folder.
    pub out: &'a Path,
    pub format: FormatChoice,
}

/// The `--format` flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FormatChoice {
    /// Not given: as the output's extension says, or like the input.
    Unsaid,
    /// `keep`: like the input.
    Keep,
    Fixed(Format),
}

impl From<Option<OutputFormat>> for FormatChoice {
    fn from(flag: Option<OutputFormat>) -> Self {
        match flag {
            None => Self::Unsaid,
            Some(OutputFormat::Keep) => Self::Keep,
            Some(OutputFormat::Png) => Self::Fixed(Format::Png),
            Some(OutputFormat::Tiff) => Self::Fixed(Format::Tiff),
            Some(OutputFormat::Jpeg) => Self::Fixed(Format::Jpeg),
            Some(OutputFormat::Webp) => Self::Fixed(Format::WebP),
        }
    }
}

/// One input, and what shall become of it.
#[derive(Debug)]
pub struct Item {
    pub input: PathBuf,
    /// `Err` when the file can be refused by its first bytes.
    pub target: Result<Target, Failure>,
}

/// Where a result goes.
#[derive(Debug, PartialEq, Eq)]
pub struct Target {
    pub output: PathBuf,
    pub format: Format,
}

/// All inputs in the order of the command line; those of a folder by name.
#[derive(Debug)]
pub struct Plan {
    pub items: Vec<Item>,
    pub passed_over: PassedOver,
}

/// What lies in the folders and is not worked on.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct PassedOver {
    /// No picture by name or content.
    pub files: usize,
    pub folders: usize,
}

impl PassedOver {
    /// For a person; nothing where there is nothing to say.
    #[must_use]
    pub fn sentences(self) -> Vec<String> {
        let said = [
            (self.files, "file is no picture", "files are no picture"),
            (self.folders, "folder lies inside", "folders lie inside"),
        ];
        let said = said.into_iter().filter(|(count, ..)| *count > 0);
        said.map(|(count, one, several)| {
            let what = if count == 1 { one } else { several };
            format!("{count} {what}: passed over")
        })
        .collect()
    }
}

/// A command line that cannot be carried out; nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    #[error("there is no picture in {0}")]
    NoPictures(PathBuf),
    #[error("read folder {path}")]
    ReadFolder {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{first} and {second} would both become {output}: give them different folders")]
    SameOutput {
        first: PathBuf,
        second: PathBuf,
        output: PathBuf,
    },
    #[error("{0} is an input: a picture is never written onto its source")]
    OutputIsInput(PathBuf),
    #[error("{0} is a file: several inputs need a folder")]
    NeedsFolder(PathBuf),
    #[error("results are not written as {0:?}: name a .png, .tif, .jpg or .webp file")]
    UnknownExtension(PathBuf),
    #[error("{path} is named like {named} but would be {format}: change the name or --format")]
    OtherExtension {
        path: PathBuf,
        named: Format,
        format: Format,
    },
}

/// Lists the inputs and names the outputs.
///
/// # Errors
/// [`PlanError`]; a single file that cannot be read is an [`Item`], not an error.
pub fn plan(request: &Request<'_>) -> Result<Plan, PlanError> {
    let (inputs, passed_over) = expand(request.inputs)?;
    let folder = needs_folder(request)?;
    let mut items = Vec::with_capacity(inputs.len());
    for input in inputs {
        let target = match read_format(&input) {
            Ok(found) if folder => Ok(in_folder(request, &input, found)),
            Ok(found) => Ok(as_file(request, found)?),
            Err(failure) => Err(failure),
        };
        items.push(Item { input, target });
    }
    refuse_same_output(&items)?;
    refuse_output_on_input(&items)?;
    Ok(Plan { items, passed_over })
}

/// Replaces each folder by the pictures in it, by name; also counts what was passed over.
fn expand(inputs: &[PathBuf]) -> Result<(Vec<PathBuf>, PassedOver), PlanError> {
    let mut files = Vec::new();
    let mut passed_over = PassedOver::default();
    for input in inputs {
        if !input.is_dir() {
            files.push(input.clone());
            continue;
        }
        let fail = |source| PlanError::ReadFolder {
            path: input.clone(),
            source,
        };
        let mut found = Vec::new();
        for entry in fs::read_dir(input).map_err(fail)? {
            let path = entry.map_err(fail)?.path();
            if is_hidden(&path) {
                continue;
            }
            if path.is_dir() {
                passed_over.folders += 1;
            } else if path.is_file() && is_picture(&path) {
                found.push(path);
            } else {
                passed_over.files += 1;
            }
        }
        if found.is_empty() {
            return Err(PlanError::NoPictures(input.clone()));
        }
        found.sort();
        files.append(&mut found);
    }
    Ok((files, passed_over))
}

fn is_hidden(path: &Path) -> bool {
    path.file_name()
        .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

/// A picture by content, or one that its name promises: if it is broken, a person should hear.
fn is_picture(path: &Path) -> bool {
    let extension = path.extension().and_then(OsStr::to_str);
    extension.and_then(InputFormat::from_extension).is_some() || read_format(path).is_ok()
}

/// The format that the name of a result promises.
pub fn promised(path: &Path) -> Option<Format> {
    Format::from_extension(path.extension()?.to_str()?)
}

/// The format that a result keeps from a picture, by the picture's first bytes.
///
/// # Errors
/// The file cannot be read, or is no picture.
pub fn read_format(path: &Path) -> Result<Format, Failure> {
    let head = read_head(path).map_err(|error| Failure::reading(&error))?;
    let found = imaging::sniff(&head).map_err(|error| Failure::decoding(&error))?;
    Ok(found.kept())
}

/// The first bytes of a file, by which its format is known.
///
/// # Errors
/// It cannot be read.
pub fn read_head(path: &Path) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    File::open(path)?.take(HEAD_BYTES).read_to_end(&mut head)?;
    Ok(head)
}

fn needs_folder(request: &Request<'_>) -> Result<bool, PlanError> {
    let out = request.out;
    let named_folder = out.is_dir() || out.as_os_str().as_encoded_bytes().last() == Some(&b'/');
    let one_file = matches!(request.inputs, [input] if !input.is_dir());
    if one_file {
        return Ok(named_folder);
    }
    if out.exists() && !out.is_dir() {
        return Err(PlanError::NeedsFolder(out.to_owned()));
    }
    Ok(true)
}

fn in_folder(request: &Request<'_>, input: &Path, found: Format) -> Target {
    let format = match request.format {
        FormatChoice::Fixed(format) => format,
        FormatChoice::Keep | FormatChoice::Unsaid => found,
    };
    // The input's own spelling stays where it is right: `a.tiff` does not become `a.tif`.
    let extension = match input.extension() {
        Some(own) if promised(input) == Some(format) => own,
        _ => OsStr::new(format.extension()),
    };
    let mut name = input.file_stem().unwrap_or_default().to_owned();
    name.push(".");
    name.push(extension);
    Target {
        output: request.out.join(name),
        format,
    }
}

fn as_file(request: &Request<'_>, found: Format) -> Result<Target, PlanError> {
    let format = named_format(request.out, request.format, Some(found))?;
    Ok(Target {
        output: request.out.to_owned(),
        format: format.unwrap_or(found),
    })
}

/// The format of a result that will be named `path`, `None` when it is that of an input nobody has
/// seen. `found` is the input's format where it is known.
///
/// # Errors
/// [`PlanError::UnknownExtension`], and [`PlanError::OtherExtension`] when the name would lie.
pub fn named_format(
    path: &Path,
    choice: FormatChoice,
    found: Option<Format>,
) -> Result<Option<Format>, PlanError> {
    let path = path.to_owned();
    let named = promised(&path);
    let format = match choice {
        FormatChoice::Fixed(format) => Some(format),
        FormatChoice::Keep => found,
        FormatChoice::Unsaid if named.is_none() && path.extension().is_some() => {
            return Err(PlanError::UnknownExtension(path));
        }
        FormatChoice::Unsaid => named.or(found),
    };
    match (named, format) {
        (Some(named), Some(format)) if named != format => Err(PlanError::OtherExtension {
            path,
            named,
            format,
        }),
        _ => Ok(format),
    }
}

fn refuse_same_output(items: &[Item]) -> Result<(), PlanError> {
    let mut taken: HashMap<&Path, &Path> = HashMap::new();
    for item in items {
        let Ok(target) = &item.target else {
            continue;
        };
        if let Some(first) = taken.insert(&target.output, &item.input) {
            return Err(PlanError::SameOutput {
                first: first.to_owned(),
                second: item.input.clone(),
                output: target.output.clone(),
            });
        }
    }
    Ok(())
}

fn refuse_output_on_input(items: &[Item]) -> Result<(), PlanError> {
    let inputs: HashSet<_> = items
        .iter()
        .filter_map(|item| identity(&item.input))
        .collect();
    for target in items.iter().filter_map(|item| item.target.as_ref().ok()) {
        if identity(&target.output).is_some_and(|output| inputs.contains(&output)) {
            return Err(PlanError::OutputIsInput(target.output.clone()));
        }
    }
    Ok(())
}

/// Equal for two names of the same file, through links of either kind and `..`; `None` when nothing
/// is there.
#[cfg(unix)]
pub fn identity(path: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    let file = fs::metadata(path).ok()?;
    Some((file.dev(), file.ino()))
}

/// Equal for two names of the same file, through symbolic links and `..`; `None` when nothing is
/// there.
#[cfg(not(unix))]
pub fn identity(path: &Path) -> Option<PathBuf> {
    path.canonicalize().ok()
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
