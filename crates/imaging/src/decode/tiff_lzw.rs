//! LZW of TIFF, and tiles packed with it. Strips are the `tiff` crate's; of tiles that stick out of the picture it
//! takes some whole ones for cut off, because it asks for the rest of a row where the codes have just ended.

use ::tiff::{
    decoder::{ChunkType, Decoder},
    tags::{ByteOrder, CompressionMethod, Tag},
};
use weezl::{BitOrder, LzwStatus, decode};

use super::{
    input::Input,
    patched::Patched,
    tiff::{BUFFER_BYTES, FORMAT, compression, places, refused},
};
use crate::DecodeError;

/// The tiles of a page that are packed with LZW.
pub(super) struct LzwTiles {
    offsets: Vec<u64>,
    sizes: Vec<u64>,
    /// Samples are stored as differences from the pixel before.
    predicted: bool,
    wide: bool,
    big_endian: bool,
}

impl LzwTiles {
    /// `None` for what is packed otherwise, or in strips.
    ///
    /// - `bits`: of a sample.
    pub(super) fn read(
        decoder: &mut Decoder<Patched<Input<'_>>>,
        bits: u8,
    ) -> Result<Option<Self>, DecodeError> {
        let is_lzw = compression(decoder)? == Some(CompressionMethod::LZW);
        if !is_lzw || decoder.get_chunk_type() != ChunkType::Tile {
            return Ok(None);
        }
        let (offsets, sizes) = places(decoder)?;
        let predictor = decoder.find_tag_unsigned::<u16>(Tag::Predictor);
        Ok(Some(Self {
            offsets,
            sizes,
            predicted: predictor.map_err(refused)? == Some(2),
            wide: bits == 16,
            big_endian: decoder.byte_order() == ByteOrder::BigEndian,
        }))
    }

    /// The rows of a tile as far as the picture goes, samples of 16 bits in this machine's byte order.
    ///
    /// - `row_bytes`: of the whole tile, and of what lies in the picture,
    /// - `rows`: in the picture,
    /// - `samples`: of a pixel.
    pub(super) fn tile(
        &self,
        file: &mut Patched<Input<'_>>,
        index: u32,
        (tile_row_bytes, row_bytes): (usize, usize),
        rows: usize,
        samples: usize,
    ) -> Result<Vec<u8>, DecodeError> {
        let at = usize::try_from(index).unwrap_or(usize::MAX);
        let place = self.offsets.get(at).zip(self.sizes.get(at));
        let cut_off = || DecodeError::Truncated { format: FORMAT };
        let (offset, size) = place.ok_or_else(cut_off)?;
        let size = usize::try_from(*size).unwrap_or(usize::MAX);
        let wanted = tile_row_bytes.saturating_mul(rows);
        if size > BUFFER_BYTES || wanted > BUFFER_BYTES {
            return Err(refused(::tiff::TiffError::LimitsExceeded));
        }
        let mut packed = vec![0; size];
        let read = file.read_at(*offset, &mut packed);
        read.map_err(|error| refused(error.into()))?;
        let unpacked = unpack_lzw(&packed, wanted)?;
        if unpacked.len() < wanted {
            return Err(cut_off());
        }
        let mut tile = Vec::with_capacity(row_bytes * rows);
        for row in unpacked.chunks_exact(tile_row_bytes.max(1)) {
            let from = tile.len();
            tile.extend_from_slice(&row[..row_bytes]);
            self.restore(&mut tile[from..], samples);
        }
        Ok(tile)
    }

    fn restore(&self, row: &mut [u8], samples: usize) {
        if self.wide {
            let pairs = row.as_chunks_mut::<2>().0;
            for at in 0..pairs.len() {
                let sample = if self.big_endian {
                    u16::from_be_bytes(pairs[at])
                } else {
                    u16::from_le_bytes(pairs[at])
                };
                let before = match at.checked_sub(samples) {
                    Some(before) if self.predicted => u16::from_ne_bytes(pairs[before]),
                    _ => 0,
                };
                pairs[at] = sample.wrapping_add(before).to_ne_bytes();
            }
        } else if self.predicted {
            for at in samples..row.len() {
                row[at] = row[at].wrapping_add(row[at - samples]);
            }
        }
    }
}

/// At most `most` bytes of what was packed.
pub(super) fn unpack_lzw(packed: &[u8], most: usize) -> Result<Vec<u8>, DecodeError> {
    let mut decoder = decode::Decoder::with_tiff_size_switch(BitOrder::Msb, 8);
    let mut unpacked = vec![0; most];
    let (mut read, mut written) = (0, 0);
    while written < most {
        let done = decoder.decode_bytes(&packed[read..], &mut unpacked[written..]);
        read += done.consumed_in;
        written += done.consumed_out;
        match done.status {
            Ok(LzwStatus::Ok) => {}
            Ok(LzwStatus::NoProgress | LzwStatus::Done) => break,
            Err(error) => return Err(DecodeError::corrupt(FORMAT, error)),
        }
    }
    unpacked.truncate(written);
    Ok(unpacked)
}
