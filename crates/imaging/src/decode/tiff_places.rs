//! Where the strips or tiles of a TIFF page lie in the file.

use std::io::{Read, Seek};

use ::tiff::{
    TiffError,
    decoder::{ChunkType, Decoder},
    tags::Tag,
};

use super::{
    input::Input,
    patched::Patched,
    tiff::{FORMAT, refused},
};
use crate::DecodeError;

/// Largest strip or tile, compressed, that is held at once, in bytes.
pub(super) const BUFFER_BYTES: usize = 256 << 20;

/// Offset and size of every strip or tile, in bytes.
pub(super) struct Places {
    offsets: Vec<u64>,
    sizes: Vec<u64>,
}

impl Places {
    pub(super) fn read<R: Read + Seek>(decoder: &mut Decoder<R>) -> Result<Self, DecodeError> {
        let (offsets, sizes) = match decoder.get_chunk_type() {
            ChunkType::Strip => (Tag::StripOffsets, Tag::StripByteCounts),
            ChunkType::Tile => (Tag::TileOffsets, Tag::TileByteCounts),
        };
        Ok(Self {
            offsets: decoder.get_tag_u64_vec(offsets).map_err(refused)?,
            sizes: decoder.get_tag_u64_vec(sizes).map_err(refused)?,
        })
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, u64)> {
        self.offsets.iter().copied().zip(self.sizes.iter().copied())
    }

    /// Offset and size of one.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] if the directory has fewer.
    pub(super) fn get(&self, index: usize) -> Result<(u64, u64), DecodeError> {
        let place = self.offsets.get(index).zip(self.sizes.get(index));
        let (offset, size) = place.ok_or(DecodeError::Truncated { format: FORMAT })?;
        Ok((*offset, *size))
    }

    /// The bytes of one as they are stored.
    ///
    /// # Errors
    /// As [`Self::get`], and [`DecodeError::Unsupported`] for more than [`BUFFER_BYTES`].
    pub(super) fn stored(
        &self,
        file: &mut Patched<Input<'_>>,
        index: usize,
    ) -> Result<Vec<u8>, DecodeError> {
        let (offset, size) = self.get(index)?;
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        if size > BUFFER_BYTES {
            return Err(refused(TiffError::LimitsExceeded));
        }
        let mut stored = vec![0; size];
        let read = file.read_at(offset, &mut stored);
        read.map_err(|error| refused(error.into()))?;
        Ok(stored)
    }
}
