//! The comments of GIF. What else it may say, its decoder tells.

use super::{
    Metadata,
    source::{Bytes, MAX_BLOCK_BYTES},
};

const EXTENSION: u8 = 0x21;
const COMMENT: u8 = 0xFE;
const IMAGE: u8 = 0x2C;
/// Of the file, and of an image in it.
const HEAD_BYTES: u64 = 13;
const IMAGE_HEAD_BYTES: u64 = 10;

pub(super) fn read(bytes: &mut Bytes<'_>) -> Metadata {
    let mut metadata = Metadata::default();
    let Some([flags]) = bytes.array(10) else {
        return metadata;
    };
    let mut at = HEAD_BYTES + colours(flags);
    while let Some([kind]) = bytes.array(at) {
        match kind {
            EXTENSION => {
                let is_comment = bytes.array(at + 1) == Some([COMMENT]);
                let mut text = Vec::new();
                at = blocks(bytes, at + 2, is_comment.then_some(&mut text));
                if text.is_empty() {
                    continue;
                }
                match metadata.comment {
                    None => metadata.comment = Some(text),
                    Some(_) => metadata.leave_behind("further comments"),
                }
            }
            IMAGE => {
                let Some([flags]) = bytes.array(at + 9) else {
                    break;
                };
                // The size of its first code stands before its data.
                at = blocks(bytes, at + IMAGE_HEAD_BYTES + colours(flags) + 1, None);
            }
            _ => break,
        }
    }
    metadata
}

/// Bytes of a table of colours.
fn colours(flags: u8) -> u64 {
    if flags & 0x80 == 0 {
        return 0;
    }
    3 << ((flags & 7) + 1)
}

/// Passes over data in blocks, the last of which is empty, and puts them together.
fn blocks(bytes: &mut Bytes<'_>, mut at: u64, mut text: Option<&mut Vec<u8>>) -> u64 {
    while let Some([length]) = bytes.array(at) {
        at += 1;
        if length == 0 {
            break;
        }
        if let Some(text) = &mut text
            && text.len() < MAX_BLOCK_BYTES
        {
            text.extend(bytes.get(at, usize::from(length)).unwrap_or_default());
        }
        at += u64::from(length);
    }
    at
}
