//! Large strips that are not compressed: many scanners write a whole picture as one. Their rows are
//! where one can tell, so the strip need not be in memory.

use std::io::{Read, Seek};

use ::tiff::{
    decoder::{ChunkType, Decoder},
    tags::{ByteOrder, CompressionMethod, Tag},
};

use super::{
    Header,
    input::Input,
    patched::Patched,
    rows::StoredRows,
    tiff::{FORMAT, compression, refused},
    tiff_kind::Kind,
    tiff_places::Places,
};
use crate::DecodeError;

/// Bytes that are read at a time, and the size from which a strip is large.
const READ_BYTES: usize = 2 << 20;

/// The rows of strips that are not compressed.
pub(super) struct PlainStrips<'a> {
    decoder: Decoder<Patched<Input<'a>>>,
    kind: Kind,
    places: Places,
    width: usize,
    row_bytes: usize,
    rows_per_strip: u32,
    height: u32,
    row: u32,
}

/// Whether the page has such strips.
pub(super) fn is_plain<R: Read + Seek>(
    decoder: &mut Decoder<R>,
    kind: &Kind,
    header: &Header,
) -> Result<bool, DecodeError> {
    let mut tag = |tag| decoder.find_tag_unsigned::<u16>(tag).map_err(refused);
    let planar = tag(Tag::PlanarConfiguration)? == Some(2) && kind.samples() > 1;
    let predicted = tag(Tag::Predictor)?.is_some_and(|predictor| predictor != 1);
    let compressed = compression(decoder)?.is_some_and(|method| method != CompressionMethod::None);
    let rows = decoder.chunk_dimensions().1.min(header.height);
    let strip_bytes = header.row_bytes().saturating_mul(rows as usize);
    Ok(kind.is_plain()
        && decoder.get_chunk_type() == ChunkType::Strip
        && strip_bytes > READ_BYTES
        && !(compressed || predicted || planar))
}

impl<'a> PlainStrips<'a> {
    /// - `decoder`: of a page that [`is_plain`].
    pub(super) fn new(
        mut decoder: Decoder<Patched<Input<'a>>>,
        kind: Kind,
        header: &Header,
    ) -> Result<Self, DecodeError> {
        let places = Places::read(&mut decoder)?;
        Ok(Self {
            kind,
            places,
            width: header.row_bytes() / header.layout.pixel_bytes(),
            row_bytes: header.row_bytes(),
            rows_per_strip: decoder.chunk_dimensions().1,
            height: header.height,
            row: 0,
            decoder,
        })
    }

    /// Turns samples of two bytes into the machine's order.
    fn order(&self, samples: &mut [u8]) {
        let stored_little = matches!(self.decoder.byte_order(), ByteOrder::LittleEndian);
        if self.kind.sample_bytes() == 2 && stored_little != cfg!(target_endian = "little") {
            for sample in samples.as_chunks_mut::<2>().0 {
                sample.swap(0, 1);
            }
        }
    }
}

impl StoredRows for PlainStrips<'_> {
    fn next(&mut self, samples: &mut Vec<u8>) -> Result<(), DecodeError> {
        let within = self.row % self.rows_per_strip;
        let in_strip = (self.rows_per_strip - within).min(self.height - self.row);
        let at_once = u32::try_from(READ_BYTES / self.row_bytes).unwrap_or(u32::MAX);
        let rows = at_once.clamp(1, in_strip);

        let strip = self.row / self.rows_per_strip;
        let (offset, size) = self.places.get(strip as usize)?;
        let from = u64::from(within) * self.row_bytes as u64;
        let length = rows as usize * self.row_bytes;
        if from + length as u64 > size {
            return Err(DecodeError::Truncated { format: FORMAT });
        }
        samples.resize(length, 0);
        let read = self.decoder.inner().read_at(offset + from, samples);
        read.map_err(|error| refused(error.into()))?;
        self.order(samples);
        *samples = self.kind.convert(std::mem::take(samples), self.width);
        self.row += rows;
        Ok(())
    }

    fn skip(&mut self, rows: u32) -> Result<u32, DecodeError> {
        self.row += rows;
        Ok(rows)
    }
}
