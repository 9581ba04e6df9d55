//! Strips and tiles of a TIFF page, decoded and put together into rows.

use ::tiff::{decoder::Decoder, tags::Tag};

use super::{
    Header,
    input::Input,
    patched::Patched,
    rows::StoredRows,
    tiff::{refused, whole_rows},
    tiff_jpeg::JpegChunks,
    tiff_kind::Kind,
    tiff_packed::{Extent, PackedChunks},
};
use crate::DecodeError;

/// The rows of one page. A chunk is a strip or a tile.
pub(super) struct Chunks<'a> {
    decoder: Decoder<Patched<Input<'a>>>,
    kind: Kind,
    /// Each component has chunks of its own.
    planar: bool,
    width: u32,
    height: u32,
    /// Bytes of a pixel as it is given out.
    pixel_bytes: usize,
    chunk_width: u32,
    chunk_height: u32,
    jpegs: Option<JpegChunks>,
    packed: Option<PackedChunks>,
    /// First row of the next row of chunks.
    row: u32,
}

impl<'a> Chunks<'a> {
    pub(super) fn new(
        mut decoder: Decoder<Patched<Input<'a>>>,
        kind: Kind,
        header: &Header,
    ) -> Result<Self, DecodeError> {
        let planar = decoder
            .find_tag_unsigned::<u16>(Tag::PlanarConfiguration)
            .map_err(refused)?
            == Some(2);
        let jpegs = JpegChunks::read(&mut decoder, header.height)?;
        let packed = PackedChunks::read(&mut decoder, kind.bits())?;
        let (chunk_width, chunk_height) = decoder.chunk_dimensions();
        Ok(Self {
            decoder,
            packed,
            kind,
            planar,
            width: header.width,
            height: header.height,
            pixel_bytes: header.layout.pixel_bytes(),
            chunk_width,
            chunk_height,
            jpegs,
            row: 0,
        })
    }

    fn rows_of_chunks(&self) -> u32 {
        self.chunk_height.min(self.height - self.row)
    }

    fn row_bytes(&self) -> usize {
        bytes(self.width, self.pixel_bytes)
    }

    /// Decodes the chunk at column `column` of the current row of chunks: its width in pixels, which
    /// ends with the picture, and its samples as they are given out. Behind the rows of the picture
    /// there may be more.
    fn chunk(&mut self, column: u32) -> Result<(usize, Vec<u8>), DecodeError> {
        let across = self.width.div_ceil(self.chunk_width);
        let down = self.height.div_ceil(self.chunk_height);
        let index = self.row / self.chunk_height * across + column;
        let width = bytes(
            self.chunk_width.min(self.width - column * self.chunk_width),
            1,
        );
        let samples = self.kind.samples();
        let stored = if self.planar && samples > 1 {
            let sample_bytes = self.kind.sample_bytes();
            let mut joined = Vec::new();
            for plane in 0..samples {
                let of_plane = across * down * u32::try_from(plane).unwrap_or(u32::MAX);
                let stored = self.stored(index + of_plane, 1)?;
                joined.resize(stored.len() * samples, 0);
                let pixels = joined.chunks_exact_mut(sample_bytes * samples);
                for (pixel, sample) in pixels.zip(stored.chunks_exact(sample_bytes)) {
                    pixel[plane * sample_bytes..][..sample_bytes].copy_from_slice(sample);
                }
            }
            joined
        } else {
            self.stored(index, samples)?
        };
        Ok((width, self.kind.convert(stored, width)))
    }

    /// The stored samples of one chunk, `samples` a pixel.
    fn stored(&mut self, index: u32, samples: usize) -> Result<Vec<u8>, DecodeError> {
        let (width, height) = self.decoder.chunk_data_dimensions(index);
        if let Some(jpegs) = &self.jpegs {
            let file = self.decoder.inner();
            return jpegs.samples(file, index, (width, height), samples);
        }
        let row_bytes = self.kind.stored_bytes(bytes(width, 1), samples);
        if let Some(packed) = &self.packed {
            let extent = Extent {
                whole_row_bytes: self.kind.stored_bytes(bytes(self.chunk_width, 1), samples),
                row_bytes,
                whole_rows: bytes(whole_rows(&mut self.decoder, self.height), 1),
                rows: bytes(height, 1),
            };
            return packed.chunk(self.decoder.inner(), index, extent, samples);
        }
        let mut stored = vec![0; row_bytes * bytes(height, 1)];
        self.decoder
            .read_chunk_bytes(index, &mut stored)
            .map_err(refused)?;
        Ok(stored)
    }
}

impl StoredRows for Chunks<'_> {
    fn next(&mut self, samples: &mut Vec<u8>) -> Result<(), DecodeError> {
        let rows = self.rows_of_chunks();
        let band_bytes = self.row_bytes() * bytes(rows, 1);
        if self.chunk_width >= self.width {
            *samples = self.chunk(0)?.1;
            samples.truncate(band_bytes);
        } else {
            samples.clear();
            samples.resize(band_bytes, 0);
            for column in 0..self.width.div_ceil(self.chunk_width) {
                let (width, chunk) = self.chunk(column)?;
                let from = bytes(column * self.chunk_width, self.pixel_bytes);
                let to = from + width * self.pixel_bytes;
                let stored = chunk.chunks_exact(width * self.pixel_bytes);
                for (row, stored) in samples.chunks_exact_mut(self.row_bytes()).zip(stored) {
                    row[from..to].copy_from_slice(stored);
                }
            }
        }
        self.row += rows;
        Ok(())
    }

    fn skip(&mut self, rows: u32) -> Result<u32, DecodeError> {
        let skipped = if rows >= self.height - self.row {
            self.height - self.row
        } else {
            rows / self.chunk_height * self.chunk_height
        };
        self.row += skipped;
        Ok(skipped)
    }
}

fn bytes(pixels: u32, each: usize) -> usize {
    usize::try_from(pixels)
        .unwrap_or(usize::MAX)
        .saturating_mul(each)
}
