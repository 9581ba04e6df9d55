//! Strips and tiles of a TIFF page that are JPEG streams. The `tiff` crate would trust them, and refuses those
//! wider or higher than 16,384 px.

use ::tiff::{
    decoder::{ChunkType, Decoder, ifd::Value},
    tags::{CompressionMethod, Tag},
};

use super::{
    input::Input,
    jpeg,
    jpeg_markers::walk,
    jpeg_scans::{self, Fault},
    jpeg_tables::Tables,
    patched::Patched,
    tiff::{FORMAT, compression, refused},
    tiff_places::Places,
};
use crate::DecodeError;

/// Most bytes of the tables that the streams share, which are read anew with each: all there can be take 3,000.
const TABLES_BYTES: usize = 64 << 10;

/// Side of the largest minimum coded unit, in pixels: four blocks.
const UNIT: u32 = 32;

/// The streams of a page.
pub(super) struct JpegChunks {
    places: Places,
    tables: Tables,
    /// The stream of the tables, without its end; empty if there is none.
    head: Vec<u8>,
    width: u32,
    /// Most rows of a stream: the last strip may be whole although the page ends in it, and one that is higher than
    /// the page end with a minimum coded unit.
    most_rows: u32,
}

impl JpegChunks {
    /// `None` for what is compressed otherwise.
    ///
    /// - `height`: of the page.
    pub(super) fn read(
        decoder: &mut Decoder<Patched<Input<'_>>>,
        height: u32,
    ) -> Result<Option<Self>, DecodeError> {
        if compression(decoder)? != Some(CompressionMethod::ModernJPEG) {
            return Ok(None);
        }
        let places = Places::read(decoder)?;
        let shared = decoder.find_tag(Tag::JPEGTables).map_err(refused)?;
        let shared = shared.map(Value::into_u8_vec).transpose();
        let mut head = shared.map_err(refused)?.unwrap_or_default();
        let Some((tables, end)) = Tables::read(&head).filter(|_| head.len() <= TABLES_BYTES) else {
            let what = "the tables of its JPEG strips or tiles are not what they should be";
            return Err(DecodeError::corrupt(FORMAT, what));
        };
        head.truncate(end);
        let (width, rows) = decoder.chunk_dimensions();
        Ok(Some(Self {
            places,
            tables,
            head,
            width,
            most_rows: match decoder.get_chunk_type() {
                ChunkType::Strip if rows >= height => height.saturating_add(UNIT),
                ChunkType::Strip | ChunkType::Tile => rows,
            },
        }))
    }

    /// The stored samples of one stream, as many rows as lie in the picture.
    ///
    /// - `width`, `rows`: of what lies in the picture,
    /// - `components`: samples of a pixel.
    pub(super) fn samples(
        &self,
        file: &mut Patched<Input<'_>>,
        index: u32,
        (width, rows): (u32, u32),
        components: usize,
    ) -> Result<Vec<u8>, DecodeError> {
        let stream = self.checked(file, index, rows, components)?;
        let mut samples = jpeg::stored_samples(&stream, components)
            .map_err(|error| DecodeError::corrupt(FORMAT, error))?;
        let bytes = |pixels: u32| pixels as usize * components;
        if samples.len() < bytes(self.width) * rows as usize {
            return Err(wrong());
        }
        for row in 0..rows as usize {
            let stored = row * bytes(self.width);
            samples.copy_within(stored..stored + bytes(width), row * bytes(width));
        }
        samples.truncate(bytes(width) * rows as usize);
        Ok(samples)
    }

    /// One stream with its tables, complete and of the size that the directory promises: the decoder would trust it.
    fn checked(
        &self,
        file: &mut Patched<Input<'_>>,
        index: u32,
        rows: u32,
        components: usize,
    ) -> Result<Vec<u8>, DecodeError> {
        let mut stream = self.places.stored(file, index as usize)?;
        let markers = walk(&stream);
        let frame = markers.frame.filter(|frame| {
            frame.width == self.width
                && (rows..=self.most_rows).contains(&frame.height)
                && usize::from(frame.components) == components
        });
        let Some(frame) = frame.filter(|_| markers.end.is_some() && !markers.several_frames) else {
            return Err(wrong());
        };
        jpeg::check_scans(&markers, frame)?;
        jpeg_scans::check(&stream, &mut self.tables.clone()).map_err(damaged)?;
        if !self.head.is_empty() {
            // Both begin with a start-of-image marker.
            stream.splice(..2, self.head.iter().copied());
        }
        Ok(stream)
    }
}

/// Bytes that decoding a strip or tile takes beside those stored and those given out: its samples, and if it is
/// progressive (which only the stream says) its coefficients, two bytes each.
pub(super) fn held_bytes(width: u32, height: u32, components: usize) -> u64 {
    let whole = |pixels: u32| u64::from(pixels).next_multiple_of(UNIT.into()) + u64::from(UNIT);
    let samples = whole(width).saturating_mul(whole(height));
    samples.saturating_mul(3 * components as u64)
}

fn wrong() -> DecodeError {
    DecodeError::corrupt(FORMAT, "a JPEG strip or tile is not what it should be")
}

fn damaged(fault: Fault) -> DecodeError {
    let what = match fault {
        Fault::Short => "a JPEG strip or tile ends before its picture does",
        Fault::Unfinished => "scans of a JPEG strip or tile are missing",
        Fault::Damaged => "the coded pixels of a JPEG strip or tile are damaged",
    };
    DecodeError::corrupt(FORMAT, what)
}
