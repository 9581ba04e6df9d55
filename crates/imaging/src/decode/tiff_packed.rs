//! Strips and tiles that are unpacked here, whole. The `tiff` crate reads no further than the picture goes, so not
//! always to the checksum of Deflate; and of tiles packed with LZW that stick out of the picture it takes some for
//! cut off, because it asks for the rest of a row where the codes have just ended.

use ::tiff::{
    decoder::{ChunkType, Decoder},
    tags::{ByteOrder, CompressionMethod, Tag},
};
use fdeflate::DecompressionError;
use weezl::{BitOrder, LzwStatus, decode};

use super::{
    input::Input,
    patched::Patched,
    tiff::{FORMAT, compression, refused},
    tiff_places::{BUFFER_BYTES, Places},
};
use crate::DecodeError;

/// The chunks of a page. A chunk is a strip or a tile.
pub(super) struct PackedChunks {
    places: Places,
    packing: Packing,
    /// Samples are stored as differences from the pixel before.
    predicted: bool,
    wide: bool,
    big_endian: bool,
}

#[derive(Debug, Clone, Copy)]
enum Packing {
    Lzw,
    Deflate,
}

/// Rows of a chunk: of the whole, and as far as the picture goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extent {
    pub whole_row_bytes: usize,
    pub row_bytes: usize,
    /// A strip at the picture's lower end may have fewer.
    pub whole_rows: usize,
    pub rows: usize,
}

impl PackedChunks {
    /// `None` for what is packed otherwise, and for strips packed with LZW, which have no checksum.
    ///
    /// - `bits`: of a sample.
    ///
    /// # Errors
    /// [`DecodeError::Unsupported`] for samples stored as differences of an unusual kind.
    pub(super) fn read(
        decoder: &mut Decoder<Patched<Input<'_>>>,
        bits: u8,
    ) -> Result<Option<Self>, DecodeError> {
        let packing = match (compression(decoder)?, decoder.get_chunk_type()) {
            (Some(CompressionMethod::LZW), ChunkType::Tile) => Packing::Lzw,
            (Some(CompressionMethod::Deflate | CompressionMethod::OldDeflate), _) => {
                Packing::Deflate
            }
            _ => return Ok(None),
        };
        let places = Places::read(decoder)?;
        let predictor = decoder.find_tag_unsigned::<u16>(Tag::Predictor);
        let predicted = match predictor.map_err(refused)? {
            None | Some(1) => false,
            Some(2) if bits >= 8 => true,
            Some(_) => {
                let what = "an unusual predictor";
                return Err(DecodeError::unsupported(
                    FORMAT,
                    what,
                    "save it without one",
                ));
            }
        };
        Ok(Some(Self {
            places,
            packing,
            predicted,
            wide: bits == 16,
            big_endian: decoder.byte_order() == ByteOrder::BigEndian,
        }))
    }

    /// The rows of a chunk as far as the picture goes, samples of 16 bits in this machine's byte order.
    ///
    /// - `samples`: of a pixel.
    pub(super) fn chunk(
        &self,
        file: &mut Patched<Input<'_>>,
        index: u32,
        extent: Extent,
        samples: usize,
    ) -> Result<Vec<u8>, DecodeError> {
        let wanted = extent.whole_row_bytes.saturating_mul(extent.rows);
        let too_large = match self.packing {
            Packing::Lzw => wanted > BUFFER_BYTES,
            // It is counted into the memory that the file takes, and a tile is held against the limits.
            Packing::Deflate => false,
        };
        if too_large {
            return Err(refused(::tiff::TiffError::LimitsExceeded));
        }
        let packed = self.places.stored(file, index as usize)?;
        let unpacked = match self.packing {
            Packing::Lzw => unpack_lzw(&packed, wanted)?,
            Packing::Deflate => {
                let most = extent.whole_row_bytes.saturating_mul(extent.whole_rows);
                unpack_deflate(&packed, most)?
            }
        };
        if unpacked.len() < wanted {
            return Err(DecodeError::Truncated { format: FORMAT });
        }
        let mut chunk = Vec::with_capacity(extent.row_bytes * extent.rows);
        let rows = unpacked.chunks_exact(extent.whole_row_bytes.max(1));
        for row in rows.take(extent.rows) {
            let from = chunk.len();
            chunk.extend_from_slice(&row[..extent.row_bytes]);
            self.restore(&mut chunk[from..], samples);
        }
        Ok(chunk)
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

/// All of what was packed, its checksum compared: `most` bytes, or somewhat more where a program filled a strip up.
pub(super) fn unpack_deflate(packed: &[u8], most: usize) -> Result<Vec<u8>, DecodeError> {
    const SMALL: usize = 1 << 20;
    let damaged = |what: String| DecodeError::corrupt(FORMAT, what);
    let mut decoder = fdeflate::Decompressor::new();
    let filled_up = most.saturating_mul(2).max(most.saturating_add(SMALL));
    // Room for one byte too many, which tells that there are more.
    let mut unpacked = vec![0; most.saturating_add(1)];
    let (mut read, mut written) = (0, 0);
    while !decoder.is_done() {
        let done = decoder.read(&packed[read..], &mut unpacked, written, true);
        let (more_read, more_written) = match done {
            Ok(done) => done,
            Err(DecompressionError::InsufficientInput) => {
                return Err(DecodeError::Truncated { format: FORMAT });
            }
            Err(error) => return Err(damaged(format!("deflate: {error:?}"))),
        };
        read += more_read;
        written += more_written;
        if written > filled_up {
            return Err(damaged(
                "a strip or tile holds more than its pixels".to_owned(),
            ));
        }
        if written > most {
            unpacked.resize(filled_up.saturating_add(1), 0);
        }
    }
    unpacked.truncate(written);
    Ok(unpacked)
}
