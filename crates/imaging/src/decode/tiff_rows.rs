//! Strips and tiles of a TIFF page, decoded and put together into rows.

use ::tiff::{
    ColorType,
    decoder::Decoder,
    tags::{CompressionMethod, Tag},
};

use super::{
    Header,
    input::Input,
    jpeg_markers::walk,
    rows::StoredRows,
    tiff::{BUFFER_BYTES, FORMAT, compression, places, refused},
};
use crate::DecodeError;

/// The rows of one page. A chunk is a strip or a tile.
pub(super) struct Chunks<'a> {
    decoder: Decoder<Input<'a>>,
    color: ColorType,
    /// Each component has chunks of its own.
    planar: bool,
    width: u32,
    height: u32,
    channels: usize,
    chunk_width: u32,
    chunk_height: u32,
    /// Offset and size of every chunk, if they are compressed as JPEG.
    jpegs: Option<(Vec<u64>, Vec<u64>)>,
    /// First row of the next row of chunks.
    row: u32,
}

impl<'a> Chunks<'a> {
    pub(super) fn new(
        mut decoder: Decoder<Input<'a>>,
        header: &Header,
    ) -> Result<Self, DecodeError> {
        let color = decoder.colortype().map_err(refused)?;
        let planar = decoder
            .find_tag_unsigned::<u16>(Tag::PlanarConfiguration)
            .map_err(refused)?
            == Some(2);
        let jpegs = match compression(&mut decoder)? {
            Some(CompressionMethod::ModernJPEG) => Some(places(&mut decoder)?),
            _ => None,
        };
        let (chunk_width, chunk_height) = decoder.chunk_dimensions();
        Ok(Self {
            decoder,
            color,
            planar,
            width: header.width,
            height: header.height,
            channels: header.channels(),
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
        bytes(self.width, self.channels)
    }

    /// Decodes the chunk at column `column` of the current row of chunks: its width in pixels, which
    /// ends with the picture, and its gray or RGB samples.
    fn chunk(&mut self, column: u32) -> Result<(usize, Vec<u8>), DecodeError> {
        let across = self.width.div_ceil(self.chunk_width);
        let down = self.height.div_ceil(self.chunk_height);
        let index = self.row / self.chunk_height * across + column;
        let width = self.chunk_width.min(self.width - column * self.chunk_width);
        let pixels = bytes(width, 1) * bytes(self.rows_of_chunks(), 1);
        let samples = if self.planar && self.channels > 1 {
            let mut samples = vec![0; pixels * self.channels];
            for plane in 0..self.channels {
                let of_plane = across * down * u32::try_from(plane).unwrap_or(u32::MAX);
                let stored = self.stored(index + of_plane, 1)?;
                let places = samples.iter_mut().skip(plane).step_by(self.channels);
                places
                    .zip(stored)
                    .for_each(|(place, sample)| *place = sample);
            }
            samples
        } else {
            self.stored(index, self.channels)?
        };
        Ok((bytes(width, 1), samples))
    }

    /// The samples of one chunk, `components` a pixel. Behind the rows of the picture there may be
    /// more.
    fn stored(&mut self, index: u32, components: usize) -> Result<Vec<u8>, DecodeError> {
        self.check_jpeg(index, components)?;
        let (width, height) = self.decoder.chunk_data_dimensions(index);
        let (width, height) = (bytes(width, 1), bytes(height, 1));
        let bilevel = self.color == ColorType::Gray(1);
        let row_bytes = if bilevel {
            width.div_ceil(8)
        } else {
            width * components
        };
        let mut stored = vec![0; row_bytes * height];
        self.decoder
            .read_chunk_bytes(index, &mut stored)
            .map_err(refused)?;
        Ok(match self.color {
            ColorType::Gray(1) => expand_bits(&stored, width),
            ColorType::YCbCr(_) => ycbcr_to_rgb(stored),
            _ => stored,
        })
    }

    /// Checks that a chunk compressed as JPEG is complete and has the size that the directory
    /// promises: the decoder would trust it.
    fn check_jpeg(&mut self, index: u32, components: usize) -> Result<(), DecodeError> {
        let Some((offsets, sizes)) = &self.jpegs else {
            return Ok(());
        };
        let at = usize::try_from(index).unwrap_or(usize::MAX);
        let wrong =
            || DecodeError::corrupt(FORMAT, "a JPEG strip or tile is not what it should be");
        let (offset, size) = offsets.get(at).zip(sizes.get(at)).ok_or_else(wrong)?;
        let size = usize::try_from(*size).unwrap_or(usize::MAX);
        if size > BUFFER_BYTES {
            return Err(refused(::tiff::TiffError::LimitsExceeded));
        }
        let mut chunk = vec![0; size];
        let read = self.decoder.inner().read_at(*offset, &mut chunk);
        read.map_err(|error| refused(error.into()))?;
        let markers = walk(&chunk);
        let rows = self.decoder.chunk_data_dimensions(index).1;
        let fits = markers.frame.is_some_and(|frame| {
            frame.width == self.chunk_width
                && (rows..=self.chunk_height).contains(&frame.height)
                && usize::from(frame.components) == components
        });
        if markers.end.is_none() || markers.several_frames || !fits {
            return Err(wrong());
        }
        Ok(())
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
                let from = bytes(column * self.chunk_width, self.channels);
                let to = from + width * self.channels;
                let stored = chunk.chunks_exact(width * self.channels);
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

/// One bit a sample, rows padded to whole bytes, becomes 0 or 255.
fn expand_bits(stored: &[u8], width: usize) -> Vec<u8> {
    let mut samples = Vec::with_capacity(stored.len() * 8);
    for row in stored.chunks_exact(width.div_ceil(8)) {
        let bits = row
            .iter()
            .flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1));
        samples.extend(bits.take(width).map(|bit| bit * u8::MAX));
    }
    samples
}

/// ITU-R BT.601 full range, as JFIF and the TIFF defaults have it, in place.
fn ycbcr_to_rgb(mut stored: Vec<u8>) -> Vec<u8> {
    for pixel in stored.as_chunks_mut::<3>().0 {
        let [y, cb, cr] = pixel.map(|sample| i32::from(sample) << 16);
        let (cb, cr) = ((cb >> 16) - 128, (cr >> 16) - 128);
        // The coefficients 1.402, 0.344136, 0.714136 and 1.772 in 1/65,536, rounded.
        *pixel = [
            y + 91_881 * cr,
            y - 22_554 * cb - 46_802 * cr,
            y + 116_130 * cb,
        ]
        .map(|sum| u8::try_from(((sum + 32_768) >> 16).clamp(0, 255)).unwrap_or(u8::MAX));
    }
    stored
}
