//! Manifests: a file with an item a line, as JSON lines or CSV, plain or compressed. Read from a copy on
//! disk, line by line, so that memory does not grow with it.

mod columns;

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};

use flate2::bufread::MultiGzDecoder;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use upres_common::batch::BatchItem;
use upres_common::objects::{ObjectError, ObjectStore, ObjectUri};

use super::source::{Chunk, Position, Read, SourceError};
use columns::{Column, cells, columns, from_csv};

/// Larger manifests are refused: ten million lines.
const MAX_BYTES: u64 = 4 << 30;
/// A longer line is none.
const MAX_LINE_BYTES: u64 = 64 * 1024;
/// What holds no item, empty lines or one far too long, is passed over up to so many bytes: others wait for their turn.
const MAX_PASSED_BYTES: u64 = 16 << 20;
/// A chunk ends behind so many bytes, however few items were among them.
const CHUNK_BYTES: u64 = 64 << 20;
/// Of a line that names no input, what the report shows.
const SHOWN_CHARS: usize = 200;

/// Why a manifest cannot be read on.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// By its name it is none of those that are read.
    #[error(
        "the manifest's name must end with .jsonl, .ndjson or .csv, perhaps with .gz behind it"
    )]
    UnknownFormat,
    /// Not as it was when it was first opened.
    #[error("the manifest was replaced while it was being read: submit the batch again")]
    Replaced,
    /// CSV without the one column that must be there, or with one that nobody knows.
    #[error("{0}")]
    Columns(String),
    /// Damaged.
    #[error("the manifest breaks off behind line {0}: {1}")]
    Broken(u64, String),
    /// The program was told to stop.
    #[error("the program stops")]
    Stopped,
    /// A reader stopped in the middle.
    #[error("reading the manifest was given up")]
    Abandoned,
}

type Lines = Box<dyn BufRead + Send>;

/// A manifest on this machine's disk.
pub struct Manifest {
    lines: Lines,
    /// Lines that were read.
    line: u64,
    /// Bytes that were read, unpacked.
    taken: u64,
    form: Form,
    /// Why it breaks off behind what was given out last.
    broken: Option<ManifestError>,
}

impl std::fmt::Debug for Manifest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Manifest")
    }
}

enum Form {
    Json,
    Csv(Vec<Column>),
}

/// The bytes of a line, or what is wrong with them.
type Line = Result<Vec<u8>, String>;

impl Manifest {
    /// Copies the manifest and goes to `position` in it.
    ///
    /// # Errors
    /// [`SourceError`].
    pub(super) async fn open(
        objects: &ObjectStore,
        address: &str,
        position: Position,
        stop: &CancellationToken,
    ) -> Result<(Self, Position), SourceError> {
        let uri: ObjectUri = address
            .parse()
            .map_err(|_| ObjectError::NotFound(address.to_owned()))?;
        let fetched = objects.fetch(&uri, MAX_BYTES).await?;
        let sha256 = Some(fetched.read.sha256);
        if position.sha256.is_some() && position.sha256 != sha256 {
            return Err(ManifestError::Replaced.into());
        }
        let mut manifest = Self::from_file(fetched.file, uri.key())?;
        let (line, stop) = (position.line, stop.clone());
        let manifest = tokio::task::spawn_blocking(move || {
            manifest.skip_to(line, &stop)?;
            Ok::<_, ManifestError>(manifest)
        });
        let manifest = manifest.await.map_err(|_| ManifestError::Abandoned)??;
        Ok((manifest, Position { sha256, ..position }))
    }

    fn from_file(file: File, name: &str) -> Result<Self, ManifestError> {
        let plain = name.strip_suffix(".gz");
        let file = BufReader::new(file);
        let lines: Lines = match plain {
            Some(_) => Box::new(BufReader::new(MultiGzDecoder::new(file))),
            None => Box::new(file),
        };
        let name = plain.unwrap_or(name);
        let mut manifest = Self {
            lines,
            line: 0,
            taken: 0,
            form: Form::Json,
            broken: None,
        };
        match name.rsplit_once('.').map(|(_, ending)| ending) {
            Some("jsonl" | "ndjson") => {}
            Some("csv") => {
                let first = manifest.next_line()?.unwrap_or_else(|| Ok(Vec::new()));
                let names = first.and_then(|text| cells(&text));
                let names = names.map_err(|error| ManifestError::Broken(1, error))?;
                manifest.form = Form::Csv(columns(&names)?);
            }
            _ => return Err(ManifestError::UnknownFormat),
        }
        Ok(manifest)
    }

    /// Gives up on `stop`: gigabytes may lie before the line.
    fn skip_to(&mut self, line: u64, stop: &CancellationToken) -> Result<(), ManifestError> {
        let mut at = 0;
        while at < line {
            if stop.is_cancelled() {
                return Err(ManifestError::Stopped);
            }
            match self.read()? {
                Some(read) => at = read.line,
                None => break,
            }
        }
        Ok(())
    }

    /// The items that follow. Where the file breaks off, those before are given out first.
    pub(super) fn next(&mut self, limit: usize, from: Position) -> Result<Chunk, ManifestError> {
        let mut chunk = Chunk {
            position: from,
            ..Chunk::default()
        };
        if let Some(broken) = self.broken.take() {
            return Err(broken);
        }
        let end = self.taken + CHUNK_BYTES;
        while chunk.reads.len() < limit && self.taken < end {
            match self.read() {
                Ok(Some(read)) => {
                    chunk.position.line = read.line;
                    chunk.reads.push(read);
                }
                Ok(None) => {
                    chunk.end = true;
                    break;
                }
                Err(error) if chunk.reads.is_empty() => return Err(error),
                Err(error) => {
                    self.broken = Some(error);
                    break;
                }
            }
        }
        Ok(chunk)
    }

    /// The item of the next line that is not blank.
    fn read(&mut self) -> Result<Option<Read>, ManifestError> {
        let end = self.taken + MAX_PASSED_BYTES;
        while let Some(text) = self.next_line()? {
            let text = match &text {
                Ok(text) => text.trim_ascii(),
                Err(detail) => return Ok(Some(spoilt(self.line, b"", detail.clone()))),
            };
            if !text.is_empty() {
                return Ok(Some(match &self.form {
                    Form::Json => from_json(self.line, text),
                    Form::Csv(columns) => match cells(text) {
                        Ok(cells) => from_csv(self.line, columns, &cells),
                        Err(detail) => spoilt(self.line, text, detail),
                    },
                }));
            }
            if self.taken > end {
                let detail = "more than 16 MiB of empty lines follow one another".to_owned();
                return Err(ManifestError::Broken(self.line, detail));
            }
        }
        Ok(None)
    }

    fn next_line(&mut self) -> Result<Option<Line>, ManifestError> {
        let read = bounded_line(&mut self.lines, &mut self.taken);
        let read = read.map_err(|error| ManifestError::Broken(self.line, error.to_string()))?;
        let Some(mut line) = read else {
            return Ok(None);
        };
        self.line += 1;
        // A byte order mark is not part of the first line.
        if self.line == 1
            && let Ok(text) = &mut line
            && text.starts_with("\u{feff}".as_bytes())
        {
            text.drain(.."\u{feff}".len());
        }
        Ok(Some(line))
    }
}

/// The next line; one that is too long is passed over to its end. `None` behind the last. What was read is added to
/// `taken`.
fn bounded_line(lines: &mut Lines, taken: &mut u64) -> io::Result<Option<Line>> {
    let most = *taken + MAX_PASSED_BYTES;
    let mut text = Vec::new();
    let limited = &mut lines.as_mut().take(MAX_LINE_BYTES);
    if limited.read_until(b'\n', &mut text)? == 0 {
        return Ok(None);
    }
    *taken += text.len() as u64;
    if (text.len() as u64) < MAX_LINE_BYTES || text.ends_with(b"\n") {
        return Ok(Some(Ok(text)));
    }
    loop {
        let buffer = lines.fill_buf()?;
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let passed = end.map_or(buffer.len(), |end| end + 1);
        let is_over = end.is_some() || buffer.is_empty();
        lines.consume(passed);
        *taken += passed as u64;
        if *taken > most {
            return Err(io::Error::other("a line has more than 16 MiB"));
        }
        if is_over {
            return Ok(Some(Err("the line has more than 64 KiB".to_owned())));
        }
    }
}

/// A line of which nothing can be made.
fn spoilt(line: u64, text: &[u8], detail: String) -> Read {
    let text = String::from_utf8_lossy(text);
    Read {
        line,
        input: text.chars().take(SHOWN_CHARS).collect(),
        bytes: None,
        item: Err(detail),
    }
}

fn from_json(line: u64, text: &[u8]) -> Read {
    let read: Result<Value, _> = serde_json::from_slice(text);
    let input = read
        .as_ref()
        .ok()
        .and_then(|value| value.get("input")?.as_str());
    let shown = || {
        let text = String::from_utf8_lossy(text);
        text.chars().take(SHOWN_CHARS).collect()
    };
    Read {
        line,
        input: input.map_or_else(shown, str::to_owned),
        bytes: None,
        item: read
            .map_err(|error| format!("not JSON: {error}"))
            .and_then(item),
    }
}

fn item(value: Value) -> Result<BatchItem, String> {
    // A list would do for a struct, too.
    if !value.is_object() {
        return Err("an item is a JSON object with an `input`".to_owned());
    }
    serde_path_to_error::deserialize(value).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests;
