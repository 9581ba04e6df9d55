//! Manifests: a file with an item a line, as JSON lines or CSV, plain or compressed. Read from a copy on
//! disk, line by line, so that memory does not grow with it.

use std::fs::File;
use std::io::{BufRead, BufReader, Read as _};

use flate2::bufread::MultiGzDecoder;
use serde_json::{Map, Value};
use upres_common::batch::BatchItem;
use upres_common::objects::{ObjectError, ObjectStore, ObjectUri};

use super::source::{Chunk, Position, Read, SourceError};

/// Larger manifests are refused: ten million lines.
const MAX_BYTES: u64 = 4 << 30;
/// A longer line is none.
const MAX_LINE_BYTES: u64 = 64 * 1024;
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
    /// A reader stopped in the middle.
    #[error("reading the manifest was given up")]
    Abandoned,
}

type Lines = Box<dyn BufRead + Send>;

/// A manifest on this machine's disk.
pub struct Manifest {
    lines: Form,
}

impl std::fmt::Debug for Manifest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Manifest")
    }
}

enum Form {
    Json { lines: Lines, line: u64 },
    Csv(Box<csv::Reader<Lines>>, Vec<Column>),
}

impl Manifest {
    /// Copies the manifest and goes to `position` in it.
    ///
    /// # Errors
    /// [`SourceError`].
    pub(super) async fn open(
        objects: &ObjectStore,
        address: &str,
        position: Position,
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
        let line = position.line;
        let manifest = tokio::task::spawn_blocking(move || {
            manifest.skip_to(line)?;
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
        let lines = match name.rsplit_once('.').map(|(_, ending)| ending) {
            Some("jsonl" | "ndjson") => Form::Json { lines, line: 0 },
            Some("csv") => {
                let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(lines);
                let headers = reader
                    .headers()
                    .map_err(|error| ManifestError::Broken(1, error.to_string()))?;
                let columns = columns(headers)?;
                Form::Csv(Box::new(reader), columns)
            }
            _ => return Err(ManifestError::UnknownFormat),
        };
        Ok(Self { lines })
    }

    fn skip_to(&mut self, line: u64) -> Result<(), ManifestError> {
        let mut at = 0;
        while at < line {
            match self.lines.read()? {
                Some(read) => at = read.line,
                None => break,
            }
        }
        Ok(())
    }

    /// The items that follow.
    pub(super) fn next(&mut self, limit: usize, from: Position) -> Result<Chunk, ManifestError> {
        let mut chunk = Chunk {
            position: from,
            ..Chunk::default()
        };
        while chunk.reads.len() < limit {
            let Some(read) = self.lines.read()? else {
                chunk.end = true;
                break;
            };
            chunk.position.line = read.line;
            chunk.reads.push(read);
        }
        Ok(chunk)
    }
}

impl Form {
    /// The next line that is not blank.
    fn read(&mut self) -> Result<Option<Read>, ManifestError> {
        match self {
            Self::Json { lines, line } => loop {
                let mut text = Vec::new();
                let broken =
                    |error: std::io::Error| ManifestError::Broken(*line, error.to_string());
                let limited = &mut lines.as_mut().take(MAX_LINE_BYTES);
                if limited.read_until(b'\n', &mut text).map_err(broken)? == 0 {
                    return Ok(None);
                }
                if text.len() as u64 == MAX_LINE_BYTES && text.last() != Some(&b'\n') {
                    let detail = "the next line has more than 64 KiB".to_owned();
                    return Err(ManifestError::Broken(*line, detail));
                }
                *line += 1;
                if !text.trim_ascii().is_empty() {
                    return Ok(Some(from_json(*line, text.trim_ascii())));
                }
            },
            Self::Csv(reader, columns) => {
                let mut record = csv::StringRecord::new();
                let line = reader.position().line();
                let more = reader.read_record(&mut record);
                match more {
                    Ok(false) => Ok(None),
                    Ok(true) => {
                        let line = record.position().map_or(line, csv::Position::line);
                        Ok(Some(from_csv(line, columns, &record)))
                    }
                    Err(error) => Err(ManifestError::Broken(line, error.to_string())),
                }
            }
        }
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
    serde_path_to_error::deserialize(value).map_err(|error| error.to_string())
}

/// What a column holds.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Column {
    /// A field of the item, as text.
    Text(&'static str),
    /// One of its numbers.
    Number(&'static str),
    /// A field of its settings.
    Setting(&'static str, bool),
    /// The schedule.
    Timesteps,
    /// One of its labels.
    Label(String),
}

fn columns(headers: &csv::StringRecord) -> Result<Vec<Column>, ManifestError> {
    const KNOWN: &str = "input, output, if_exists, priority, steps, timesteps, seed, color_fix, tile, format, label.NAME";
    // A byte order mark is not part of the first name.
    let names = headers
        .iter()
        .map(|name| name.trim_start_matches('\u{feff}').trim());
    let columns = names.map(|name| match name {
        "input" => Ok(Column::Text("input")),
        "output" => Ok(Column::Text("output")),
        "if_exists" => Ok(Column::Text("if_exists")),
        "priority" => Ok(Column::Number("priority")),
        "steps" => Ok(Column::Setting("steps", true)),
        "seed" => Ok(Column::Setting("seed", true)),
        "tile" => Ok(Column::Setting("tile", true)),
        "color_fix" => Ok(Column::Setting("color_fix", false)),
        "format" => Ok(Column::Setting("format", false)),
        "timesteps" => Ok(Column::Timesteps),
        other => match other.strip_prefix("label.") {
            Some(label) => Ok(Column::Label(label.to_owned())),
            None => Err(ManifestError::Columns(format!(
                "the manifest has a column `{other}` that nobody knows; there are {KNOWN}"
            ))),
        },
    });
    let columns: Vec<_> = columns.collect::<Result<_, _>>()?;
    if columns.contains(&Column::Text("input")) {
        Ok(columns)
    } else {
        Err(ManifestError::Columns(
            "the manifest's first line must name its columns, `input` among them".to_owned(),
        ))
    }
}

fn from_csv(line: u64, columns: &[Column], record: &csv::StringRecord) -> Read {
    let (mut fields, mut settings, mut labels) = (Map::new(), Map::new(), Map::new());
    let mut input = String::new();
    for (column, cell) in columns.iter().zip(record) {
        if cell.is_empty() {
            continue;
        }
        let text = Value::from(cell);
        // A number that is none stays text, and is refused as such.
        let number = || {
            cell.trim()
                .parse::<u64>()
                .map_or_else(|_| signed(cell), Value::from)
        };
        match column {
            Column::Text("input") => {
                cell.clone_into(&mut input);
                fields.insert("input".to_owned(), text);
            }
            Column::Text(name) => drop(fields.insert((*name).to_owned(), text)),
            Column::Number(name) => drop(fields.insert((*name).to_owned(), number())),
            Column::Setting(name, true) => drop(settings.insert((*name).to_owned(), number())),
            Column::Setting(name, false) => drop(settings.insert((*name).to_owned(), text)),
            Column::Timesteps => drop(settings.insert("timesteps".to_owned(), schedule(cell))),
            Column::Label(name) => drop(labels.insert(name.clone(), text)),
        }
    }
    if !settings.is_empty() {
        fields.insert("upscale".to_owned(), Value::Object(settings));
    }
    if !labels.is_empty() {
        fields.insert("labels".to_owned(), Value::Object(labels));
    }
    let short = record.len() != columns.len();
    let cells = (record.len(), columns.len());
    Read {
        line,
        input,
        bytes: None,
        item: if short {
            Err(format!(
                "the line has {} cells, the first has {}",
                cells.0, cells.1
            ))
        } else {
            item(Value::Object(fields))
        },
    }
}

fn signed(cell: &str) -> Value {
    cell.trim()
        .parse::<i64>()
        .map_or_else(|_| Value::from(cell), Value::from)
}

/// `250,150,50`, or with spaces or semicolons.
fn schedule(cell: &str) -> Value {
    let numbers = cell.split([',', ';', ' ']).filter(|part| !part.is_empty());
    numbers
        .map(|part| {
            part.parse::<u32>()
                .map_or_else(|_| Value::from(part), Value::from)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, Write};

    use super::*;

    fn read_all(name: &str, bytes: &[u8], from: u64) -> Result<Vec<Read>, ManifestError> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file.rewind().unwrap();
        let mut manifest = Manifest::from_file(file, name)?;
        manifest.skip_to(from)?;
        let position = Position {
            line: from,
            ..Position::default()
        };
        Ok(manifest.next(usize::MAX, position)?.reads)
    }

    #[test]
    fn lines_keep_their_numbers_and_their_faults() {
        let text = b"{\"input\":\"s3://in-1/1.tif\"}\n\n{\"input\":\"s3://in-1/2.tif\",\"colour\":1}\nnothing\n";
        let reads = read_all("list.jsonl", text, 0).unwrap();
        let lines: Vec<_> = reads.iter().map(|read| read.line).collect();
        assert_eq!(lines, [1, 3, 4]);
        assert!(reads[0].item.is_ok());
        assert!(reads[1].item.as_ref().unwrap_err().contains("colour"));
        assert_eq!(reads[2].input, "nothing");
        assert_eq!(read_all("list.ndjson", text, 1).unwrap().len(), 2);
    }

    #[test]
    fn a_table_says_the_same_as_json_plain_or_compressed() {
        let text = "\u{feff}input,output,timesteps,seed,priority,label.box\n\
            s3://in-1/1.tif,s3://out-1/1.tif,\"250,150,50\",7,-3,12\n\
            s3://in-1/2.tif,,,,,\n\
            s3://in-1/3.tif,,,many,,\n\
            s3://in-1/4.tif\n";
        let mut zipped = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        zipped.write_all(text.as_bytes()).unwrap();
        let zipped = zipped.finish().unwrap();
        for (name, bytes) in [("m.csv", text.as_bytes()), ("m.csv.gz", &zipped)] {
            let reads = read_all(name, bytes, 0).unwrap();
            let first = reads[0].item.clone().unwrap();
            let upscale = first.upscale.unwrap();
            assert_eq!(upscale.timesteps, Some(vec![250, 150, 50]));
            assert_eq!((upscale.seed, first.priority), (Some(7), Some(-3)));
            assert_eq!(first.labels["box"], "12");
            assert!(reads[1].item.as_ref().unwrap().upscale.is_none());
            assert!(reads[2].item.as_ref().unwrap_err().contains("seed"));
            assert!(reads[3].item.as_ref().unwrap_err().contains("cells"));
            assert_eq!(reads[3].line, 5);
            assert_eq!(read_all(name, bytes, 3).unwrap().len(), 2);
        }
    }

    #[test]
    fn what_is_no_manifest_says_why() {
        for (name, text) in [
            ("m.txt", ""),
            ("m.csv", "output\n"),
            ("m.csv", "input,colour\n"),
        ] {
            assert!(read_all(name, text.as_bytes(), 0).is_err(), "{name} {text}");
        }
        let cut = &[0x1f, 0x8b, 8, 0][..];
        assert!(matches!(
            read_all("m.jsonl.gz", cut, 0),
            Err(ManifestError::Broken(0, _))
        ));
    }
}
