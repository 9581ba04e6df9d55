//! Hand over: what a drained worker has and nobody else could know, as one object for the next one.
//!
//! Three pieces, each behind its length in eight bytes, little-endian: what the writer of the file has to
//! remember (JSON), the bytes that it holds, and what the engine keeps.

use imaging::{Checkpoint, Page, Writer};
use invsr::{HandOver, Start};
use upres_common::lease::HandedOver;
use upres_common::objects::{ObjectError, ObjectStore, sha256_hex};

/// Of wider pictures (some 100,000 px) nothing is left: they go on behind their parts.
const MAX_BYTES: u64 = 4 << 30;

/// `None` for a format that is written in one go.
pub(crate) fn to_bytes(writer: Writer, engine: &HandOver) -> Option<Vec<u8>> {
    let (checkpoint, held) = writer.suspend()?;
    let checkpoint = serde_json::to_vec(&checkpoint).ok()?;
    let mut bytes = Vec::new();
    for piece in [checkpoint, held, engine.to_bytes()] {
        bytes.extend((piece.len() as u64).to_le_bytes());
        bytes.extend(piece);
    }
    Some(bytes)
}

/// Work to go on with.
pub(crate) struct Found {
    pub(crate) writer: Writer,
    /// The page, and where on it.
    pub(crate) start: (usize, Start),
    /// Bytes of the file that lie in its parts.
    pub(crate) uploaded: u64,
}

/// Fetches what was left, if it is still there and still the same.
pub(crate) async fn find(
    objects: &ObjectStore,
    left: &HandedOver,
    pages: Vec<Page>,
) -> Option<Found> {
    let bytes = match fetch(objects, left).await {
        Ok(bytes) => bytes,
        Err(error) => {
            tracing::warn!(
                object.key = left.address,
                error = &error as &dyn std::error::Error,
                "what was left cannot be had"
            );
            return None;
        }
    };
    let found = (sha256_hex(&bytes) == left.sha256)
        .then(|| from_bytes(&bytes, pages))
        .flatten();
    if found.is_none() {
        tracing::warn!(
            object.key = left.address,
            "what was left is of another attempt or another version"
        );
    }
    found
}

async fn fetch(objects: &ObjectStore, left: &HandedOver) -> Result<Vec<u8>, ObjectError> {
    let broken = |reason: String| ObjectError::Unavailable {
        uri: left.address.clone(),
        reason,
    };
    let address = left.address.parse();
    let address =
        address.map_err(|error: upres_common::objects::AddressError| broken(error.to_string()))?;
    let mut file = objects.fetch(&address, MAX_BYTES).await?.file;
    let read = tokio::task::spawn_blocking(move || {
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut file, &mut bytes).map(|_| bytes)
    });
    match read.await {
        Ok(read) => read.map_err(|error| broken(error.to_string())),
        Err(error) => Err(broken(error.to_string())),
    }
}

fn from_bytes(bytes: &[u8], pages: Vec<Page>) -> Option<Found> {
    let (checkpoint, rest) = piece(bytes)?;
    let (held, rest) = piece(rest)?;
    let (engine, _) = piece(rest)?;
    let checkpoint: Checkpoint = serde_json::from_slice(checkpoint).ok()?;
    let engine = HandOver::from_bytes(engine)?;
    let uploaded = checkpoint.bytes;
    let writer = Writer::resume_pages(pages, checkpoint, held).ok()?;
    let (page, row) = writer.place();
    // What the engine keeps is of one page, and says which of its rows comes next.
    if row != engine.next_row() {
        return None;
    }
    Some(Found {
        writer,
        start: (page, Start::HandOver(Box::new(engine))),
        uploaded,
    })
}

fn piece(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)
}
