//! The report: what became of every input, as JSON lines and as CSV, over the API and as two objects.
//! Written from the rows, page by page: its lines balance with the listing because they are the listing.

use std::collections::VecDeque;

use bytes::Bytes;
use futures_util::stream::{self, Stream};
use sqlx::PgPool;
use upres_common::batch::BatchId;
use upres_common::batch::view::ReportLine;
use upres_common::objects::{AddressError, ObjectError, ObjectStore, ObjectUri};

use super::bag::put_and_digest;
use crate::store::batches::report::lines;
use crate::store::{StoreError, within_patience};

/// Lines read at once.
const PAGE: i64 = 1000;
/// The first line of the table; the order of [`row`].
const COLUMNS: [&str; 17] = [
    "line",
    "status",
    "input",
    "output",
    "job_id",
    "error_type",
    "reason",
    "input_sha256",
    "output_sha256",
    "bytes",
    "width",
    "height",
    "timesteps",
    "cost",
    "attempts",
    "seconds",
    "warnings",
];

/// How a report is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// An object a line.
    JsonLines,
    /// A table with a first line of names.
    Csv,
}

impl Form {
    /// Both.
    pub const ALL: [Self; 2] = [Self::JsonLines, Self::Csv];

    /// The file's name.
    #[must_use]
    pub const fn file_name(self) -> &'static str {
        match self {
            Self::JsonLines => "report.jsonl",
            Self::Csv => "report.csv",
        }
    }

    /// For `Content-Type`.
    #[must_use]
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::JsonLines => "application/jsonl",
            Self::Csv => "text/csv; charset=utf-8",
        }
    }

    fn render(self, lines: &[ReportLine]) -> Vec<u8> {
        let mut text = Vec::new();
        match self {
            Self::JsonLines => {
                for line in lines {
                    serde_json::to_writer(&mut text, line).expect("a line is plain data");
                    text.push(b'\n');
                }
            }
            Self::Csv => {
                let mut table = csv::Writer::from_writer(&mut text);
                for line in lines {
                    table
                        .write_record(row(line))
                        .expect("memory takes everything");
                }
                table.flush().expect("memory takes everything");
                drop(table);
            }
        }
        text
    }

    fn head(self) -> Vec<u8> {
        match self {
            Self::JsonLines => Vec::new(),
            Self::Csv => format!("{}\r\n", COLUMNS.join(",")).into_bytes(),
        }
    }
}

fn row(line: &ReportLine) -> [String; 17] {
    fn text<T: ToString>(value: Option<&T>) -> String {
        value.map(T::to_string).unwrap_or_default()
    }
    let timesteps: Vec<_> = line.timesteps.iter().map(u32::to_string).collect();
    [
        line.line.to_string(),
        line.status.clone(),
        line.input.clone(),
        text(line.output.as_ref()),
        text(line.job_id.as_ref()),
        text(line.error_type.as_ref()),
        text(line.reason.as_ref()),
        text(line.input_sha256.as_ref()),
        text(line.output_sha256.as_ref()),
        text(line.bytes.as_ref()),
        text(line.width.as_ref()),
        text(line.height.as_ref()),
        timesteps.join(" "),
        text(line.cost.as_ref()),
        line.attempts.to_string(),
        text(line.seconds.as_ref()),
        line.warnings.join("; "),
    ]
}

/// The report as it is now, in pieces.
pub fn pieces(
    pool: PgPool,
    id: BatchId,
    form: Form,
) -> impl Stream<Item = Result<Bytes, StoreError>> {
    let head = VecDeque::from([Bytes::from(form.head())]);
    stream::try_unfold(
        (pool, head, Some(0)),
        move |(pool, mut head, after)| async move {
            if let Some(first) = head.pop_front() {
                return Ok(Some((first, (pool, head, after))));
            }
            let Some(after) = after else { return Ok(None) };
            let page = within_patience(async {
                let mut conn = pool.acquire().await?;
                lines(&mut conn, id, after, PAGE).await
            });
            let page = page.await?;
            let next = page.last().map(|line| line.line);
            let piece = Bytes::from(form.render(&page));
            Ok(next.map(|next| (piece, (pool, head, Some(next)))))
        },
    )
}

/// Why a report could not be written.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The address of the folder.
    #[error("the report's folder is no place for objects")]
    Address(#[from] AddressError),
    /// The object store.
    #[error(transparent)]
    Objects(#[from] ObjectError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ReportError {
    /// Whether trying again is of no use: the batch ends without it, and the API has it.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        match self {
            Self::Address(_) => true,
            Self::Objects(error) => error.is_refusal(),
            Self::Store(_) => false,
        }
    }
}

/// Where a report is written.
///
/// # Errors
/// [`AddressError`].
pub fn address(folder: &str, form: Form) -> Result<ObjectUri, AddressError> {
    file(folder, form.file_name())
}

/// Where a file of a report's folder goes.
pub(super) fn file(folder: &str, name: &str) -> Result<ObjectUri, AddressError> {
    format!("{}/{name}", folder.trim_end_matches('/')).parse()
}

/// Writes both forms into the folder, in place of what was there. Returns the name and SHA-256 of each.
///
/// # Errors
/// [`ReportError`].
pub async fn write(
    pool: &PgPool,
    objects: &ObjectStore,
    id: BatchId,
    folder: &str,
) -> Result<Vec<(String, String)>, ReportError> {
    let mut written = Vec::new();
    for form in Form::ALL {
        let uri = address(folder, form)?;
        let pieces = pieces(pool.clone(), id, form);
        let sha256 = put_and_digest(objects, &uri, form.media_type(), pieces).await?;
        written.push((form.file_name().to_owned(), sha256));
    }
    Ok(written)
}
