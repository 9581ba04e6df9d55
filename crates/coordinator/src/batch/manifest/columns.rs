//! Manifests as tables. A cell holds no line break: a quote that is not closed spoils its own line, and no other.

use serde_json::{Map, Value};

use super::super::source::Read;
use super::{ManifestError, item};

/// What a column holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Column {
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

/// What the columns of a table hold, by its first line.
pub(super) fn columns(headers: &csv::StringRecord) -> Result<Vec<Column>, ManifestError> {
    const KNOWN: &str = "input, output, if_exists, priority, steps, timesteps, seed, color_fix, tile, format, label.NAME";
    let names = headers.iter().map(str::trim);
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
    if let Some(twice) = (1..columns.len()).find(|at| columns[..*at].contains(&columns[*at])) {
        return Err(ManifestError::Columns(format!(
            "the manifest has the column `{}` twice",
            headers[twice].trim()
        )));
    }
    if columns.contains(&Column::Text("input")) {
        Ok(columns)
    } else {
        Err(ManifestError::Columns(
            "the manifest's first line must name its columns, `input` among them".to_owned(),
        ))
    }
}

/// The item of one line.
pub(super) fn from_csv(line: u64, columns: &[Column], record: &csv::StringRecord) -> Read {
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

/// The cells of one line of CSV.
pub(super) fn cells(text: &[u8]) -> Result<csv::StringRecord, String> {
    let quotes = text.iter().filter(|byte| **byte == b'"').count();
    if quotes % 2 == 1 {
        return Err("a quote is opened and not closed in the line".to_owned());
    }
    // A table would take what is behind it for another line, which has no number.
    if text.trim_ascii().contains(&b'\r') {
        return Err(
            "a carriage return stands within the line: lines end with LF or CR LF".to_owned(),
        );
    }
    let text = str::from_utf8(text).map_err(|_| "the line is not in UTF-8".to_owned())?;
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .buffer_capacity(text.len().max(1))
        .from_reader(text.as_bytes());
    let mut record = csv::StringRecord::new();
    let read = reader.read_record(&mut record);
    read.map_err(|error| error.to_string())?;
    Ok(record)
}
