//! Reading a part of an object: enough to know what it is.

use bytes::{Bytes, BytesMut};

use super::error::{classify, status_of};
use super::{ObjectError, ObjectStore, ObjectUri};

/// Bytes from within an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Where in the object they begin.
    pub from: u64,
    /// Fewer than were asked for where the object ends, or where the answer broke off.
    pub bytes: Bytes,
    /// Size of the whole object.
    pub object_bytes: u64,
}

/// Of an object without bytes no range can be had.
const RANGE_NOT_SATISFIABLE: u16 = 416;

impl ObjectStore {
    /// Reads up to `length` bytes of an object, from byte `from` on. Nothing there: `None`. What a store
    /// that ignores ranges sends beyond them is not read, and its answer counts from byte 0.
    ///
    /// # Errors
    /// [`ObjectError::Forbidden`] or [`ObjectError::Unavailable`].
    pub async fn get_piece(
        &self,
        uri: &ObjectUri,
        from: u64,
        length: u64,
    ) -> Result<Option<Piece>, ObjectError> {
        let last = from.saturating_add(length).saturating_sub(1);
        let answer = self
            .client
            .get_object()
            .bucket(uri.bucket())
            .key(uri.key())
            .range(format!("bytes={from}-{last}"))
            .send()
            .await;
        let object = match answer {
            Ok(object) => object,
            Err(error) if status_of(&error) == Some(RANGE_NOT_SATISFIABLE) => {
                return Ok(Some(Piece {
                    from,
                    bytes: Bytes::new(),
                    object_bytes: 0,
                }));
            }
            Err(error) => {
                return match classify(uri, &error) {
                    error if error.is_absence() => Ok(None),
                    error => Err(error),
                };
            }
        };
        let range = object.content_range().and_then(content_range);
        let whole = object.content_length().and_then(|n| u64::try_from(n).ok());
        let (from, object_bytes) = range.unwrap_or((0, whole.unwrap_or(0)));
        let limit = usize::try_from(length).unwrap_or(usize::MAX);
        let mut bytes = BytesMut::new();
        let mut body = object.body;
        while let Some(Ok(chunk)) = body.next().await {
            bytes.extend_from_slice(&chunk[..chunk.len().min(limit - bytes.len())]);
            if bytes.len() == limit {
                break;
            }
        }
        Ok(Some(Piece {
            from,
            bytes: bytes.freeze(),
            object_bytes,
        }))
    }
}

/// First byte and whole length of `bytes 0-99/1234`.
fn content_range(header: &str) -> Option<(u64, u64)> {
    let (range, whole) = header.strip_prefix("bytes ")?.split_once('/')?;
    let (first, _) = range.split_once('-')?;
    Some((first.parse().ok()?, whole.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_range_tells_where_and_how_much() {
        assert_eq!(content_range("bytes 100-199/1234"), Some((100, 1234)));
        for other in ["bytes */1234", "bytes 0-1/*", "items 0-1/2", ""] {
            assert_eq!(content_range(other), None, "{other}");
        }
    }
}
