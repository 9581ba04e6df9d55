//! `YCbCr` in a TIFF page: what it means in red, green and blue, and chroma stored at a lower resolution.
//!
//! Chroma of a JPEG strip was brought to full size by its decoder; other strips and tiles hold units of
//! several luma samples and one pair of chroma, which the `tiff` crate does not read.

use std::io::{Read, Seek};

use ::tiff::{
    decoder::{ChunkType, Decoder, ifd::Value},
    tags::{CompressionMethod, Tag},
};

use super::{
    Header,
    input::Input,
    patched::Patched,
    rows::StoredRows,
    tiff::{FORMAT, compression, refused, whole_rows},
    tiff_packed::{unpack_deflate, unpack_lzw},
    tiff_places::{BUFFER_BYTES, Places},
};
use crate::DecodeError;

const COEFFICIENTS: Tag = Tag::Unknown(529);
const REFERENCE_BLACK_WHITE: Tag = Tag::Unknown(532);

/// How luma and chroma become red, green and blue.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Colours {
    /// The shares of red, green and blue in luma.
    shares: [f32; 3],
    /// The stored values of black and white, of no and most blue chroma, and of no and most red.
    range: [f32; 6],
}

impl Colours {
    /// ITU-R BT.601 at full range, as JFIF and TIFF's defaults have it.
    pub(super) const FULL_RANGE: Self = Self {
        shares: [0.299, 0.587, 0.114],
        range: [0.0, 255.0, 128.0, 255.0, 128.0, 255.0],
    };

    /// What the directory says, or the default.
    ///
    /// # Errors
    /// [`DecodeError::Corrupt`] for numbers that make no colours.
    pub(super) fn read<R: Read + Seek>(reader: &mut Decoder<R>) -> Result<Self, DecodeError> {
        let colours = Self {
            shares: numbers(reader, COEFFICIENTS)?.unwrap_or(Self::FULL_RANGE.shares),
            range: numbers(reader, REFERENCE_BLACK_WHITE)?.unwrap_or(Self::FULL_RANGE.range),
        };
        let [_, green, _] = colours.shares;
        let spans = colours.range.as_chunks::<2>().0;
        if green > 0.0 && spans.iter().all(|[low, high]| high > low) {
            return Ok(colours);
        }
        Err(DecodeError::corrupt(FORMAT, "YCbCr colours of no meaning"))
    }

    /// The colour of a pixel.
    pub(super) fn to_rgb(self, stored: [u8; 3]) -> [u8; 3] {
        let [red, green, blue] = self.shares;
        let [black, white, no_blue, most_blue, no_red, most_red] = self.range;
        let [y, cb, cr] = stored.map(f32::from);
        let y = (y - black) * (255.0 / (white - black));
        let cb = (cb - no_blue) * (127.0 / (most_blue - no_blue));
        let cr = (cr - no_red) * (127.0 / (most_red - no_red));
        let r = y + cr * (2.0 - 2.0 * red);
        let b = y + cb * (2.0 - 2.0 * blue);
        let g = (y - r * red - b * blue) / green;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "clamped"
        )]
        [r, g, b].map(|value| value.round().clamp(0.0, 255.0) as u8)
    }
}

/// The `N` numbers of a tag.
fn numbers<R: Read + Seek, const N: usize>(
    reader: &mut Decoder<R>,
    tag: Tag,
) -> Result<Option<[f32; N]>, DecodeError> {
    let Some(value) = reader.find_tag(tag).map_err(refused)? else {
        return Ok(None);
    };
    let list = match value {
        Value::List(list) => list,
        one => vec![one],
    };
    #[expect(clippy::cast_precision_loss, reason = "shares and levels of 8 bits")]
    let number = |value| match value {
        Value::Rational(above, below) => Some(above as f32 / below as f32),
        Value::Short(number) => Some(f32::from(number)),
        Value::Float(number) => Some(number),
        _ => None,
    };
    let numbers: Option<Vec<f32>> = list.into_iter().map(number).collect();
    let numbers = numbers.and_then(|numbers| <[f32; N]>::try_from(numbers).ok());
    numbers
        .filter(|numbers| numbers.iter().all(|number| number.is_finite()))
        .map(Some)
        .ok_or_else(|| {
            DecodeError::corrupt(FORMAT, format!("wrong numbers in tag {}", tag.to_u16()))
        })
}

/// Luma samples across and down that share a pair of chroma: 1, 2 or 4 each.
pub(super) type Sharing = (u32, u32);

/// Reads it; two by two where nothing is said.
///
/// # Errors
/// [`DecodeError::Corrupt`] for other numbers.
pub(super) fn sharing<R: Read + Seek>(reader: &mut Decoder<R>) -> Result<Sharing, DecodeError> {
    let tag = reader.find_tag_unsigned_vec::<u16>(Tag::ChromaSubsampling);
    match tag.map_err(refused)?.as_deref() {
        None => Ok((2, 2)),
        Some(&[across @ (1 | 2 | 4), down @ (1 | 2 | 4)]) => Ok((across.into(), down.into())),
        Some(_) => Err(DecodeError::corrupt(FORMAT, "a wrong share of chroma")),
    }
}

/// The rows of a page in whose strips or tiles several pixels share their chroma.
pub(super) struct SharedChroma<'a> {
    decoder: Decoder<Patched<Input<'a>>>,
    colours: Colours,
    sharing: Sharing,
    packing: Packing,
    places: Places,
    width: u32,
    height: u32,
    chunk_width: u32,
    chunk_height: u32,
    row: u32,
}

#[derive(Debug, Clone, Copy)]
enum Packing {
    None,
    Lzw,
    Deflate,
    PackBits,
}

impl<'a> SharedChroma<'a> {
    /// # Errors
    /// [`DecodeError::Unsupported`] for what is stored in a way that nobody writes.
    pub(super) fn new(
        mut decoder: Decoder<Patched<Input<'a>>>,
        colours: Colours,
        sharing: Sharing,
        header: &Header,
    ) -> Result<Self, DecodeError> {
        let mut tag = |tag| decoder.find_tag_unsigned::<u16>(tag).map_err(refused);
        let odd = tag(Tag::PlanarConfiguration)?.is_some_and(|planes| planes != 1)
            || tag(Tag::Predictor)?.is_some_and(|predictor| predictor != 1);
        let packing = match compression(&mut decoder)? {
            None | Some(CompressionMethod::None) => Some(Packing::None),
            Some(CompressionMethod::LZW) => Some(Packing::Lzw),
            Some(CompressionMethod::Deflate | CompressionMethod::OldDeflate) => {
                Some(Packing::Deflate)
            }
            Some(CompressionMethod::PackBits) => Some(Packing::PackBits),
            Some(_) => None,
        };
        let Some(packing) = packing.filter(|_| !odd) else {
            let what = "YCbCr colour in an unusual storage";
            return Err(DecodeError::unsupported(FORMAT, what, "convert it to RGB"));
        };
        let (chunk_width, chunk_height) = decoder.chunk_dimensions();
        let places = Places::read(&mut decoder)?;
        Ok(Self {
            decoder,
            colours,
            sharing,
            packing,
            places,
            width: header.width,
            height: header.height,
            chunk_width,
            chunk_height,
            row: 0,
        })
    }

    /// The units of one strip or tile.
    ///
    /// - `rows`: that are wanted,
    /// - `most_rows`: that it may have.
    fn units(&mut self, index: usize, rows: u32, most_rows: u32) -> Result<Vec<u8>, DecodeError> {
        let (across, down) = self.sharing;
        let unit_bytes = u64::from(across * down + 2);
        let bytes = |rows: u32| {
            let units =
                u64::from(self.chunk_width.div_ceil(across)) * u64::from(rows.div_ceil(down));
            usize::try_from(units * unit_bytes).unwrap_or(usize::MAX)
        };
        let (wanted, most) = (bytes(rows), bytes(most_rows));
        if wanted > BUFFER_BYTES {
            return Err(refused(::tiff::TiffError::LimitsExceeded));
        }
        let packed = self.places.stored(self.decoder.inner(), index)?;
        let mut units = self.packing.unpack(packed, wanted, most)?;
        if units.len() < wanted {
            return Err(DecodeError::Truncated { format: FORMAT });
        }
        units.truncate(wanted);
        Ok(units)
    }
}

impl Packing {
    /// What was packed, as far as `wanted` bytes; of Deflate all, at most `most`, because its checksum comes last.
    fn unpack(self, packed: Vec<u8>, wanted: usize, most: usize) -> Result<Vec<u8>, DecodeError> {
        match self {
            Self::None => Ok(packed),
            Self::Lzw => unpack_lzw(&packed, wanted),
            Self::Deflate => unpack_deflate(&packed, most),
            Self::PackBits => Ok(unpack_bits(&packed, wanted)),
        }
    }
}

/// Runs of equal bytes, and stretches of others, each behind its length.
fn unpack_bits(packed: &[u8], most: usize) -> Vec<u8> {
    let mut unpacked = Vec::with_capacity(most);
    let mut rest = packed;
    while let Some((&length, behind)) = rest.split_first() {
        let others = usize::from(length) + 1;
        rest = match length {
            128 => behind,
            129.. => {
                let Some((byte, behind)) = behind.split_first() else {
                    break;
                };
                unpacked.resize(unpacked.len() + 257 - usize::from(length), *byte);
                behind
            }
            _ => {
                let Some((bytes, behind)) = behind.split_at_checked(others) else {
                    break;
                };
                unpacked.extend_from_slice(bytes);
                behind
            }
        };
        if unpacked.len() >= most {
            break;
        }
    }
    unpacked
}

impl StoredRows for SharedChroma<'_> {
    fn next(&mut self, samples: &mut Vec<u8>) -> Result<(), DecodeError> {
        let chunks_across = self.width.div_ceil(self.chunk_width);
        let rows = self.chunk_height.min(self.height - self.row);
        let most_rows = whole_rows(&mut self.decoder, self.height);
        // A tile is whole at the picture's lower end, a strip ends with it.
        let stored_rows = match self.decoder.get_chunk_type() {
            ChunkType::Tile => most_rows,
            ChunkType::Strip => rows,
        };
        let (across, down) = self.sharing;
        let unit_bytes = (across * down + 2) as usize;
        let row_bytes = 3 * self.width as usize;
        samples.clear();
        samples.resize(row_bytes * rows as usize, 0);
        for column in 0..chunks_across {
            let index = self.row / self.chunk_height * chunks_across + column;
            let units = self.units(index as usize, stored_rows, most_rows)?;
            let left = column * self.chunk_width;
            let width = self.chunk_width.min(self.width - left);
            let units_across = self.chunk_width.div_ceil(across);
            for y in 0..rows {
                for x in 0..width {
                    let unit = (y / down * units_across + x / across) as usize * unit_bytes;
                    let luma = units[unit + (y % down * across + x % across) as usize];
                    let chroma = &units[unit + unit_bytes - 2..];
                    let colour = self.colours.to_rgb([luma, chroma[0], chroma[1]]);
                    let at = row_bytes * y as usize + 3 * (left + x) as usize;
                    samples[at..at + 3].copy_from_slice(&colour);
                }
            }
        }
        self.row += rows;
        Ok(())
    }

    fn skip(&mut self, rows: u32) -> Result<u32, DecodeError> {
        let skipped = match rows >= self.height - self.row {
            true => self.height - self.row,
            false => rows / self.chunk_height * self.chunk_height,
        };
        self.row += skipped;
        Ok(skipped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_bits_come_out_in_order() {
        let packed = [254, 7, 128, 2, 1, 2, 3, 255, 9, 5, 0];
        assert_eq!(unpack_bits(&packed, 99), [7, 7, 7, 1, 2, 3, 9, 9]);
        assert_eq!(unpack_bits(&packed, 4).len(), 6, "no further than needed");
    }

    #[test]
    fn narrow_range_and_other_shares_are_kept_to() {
        let full = Colours::FULL_RANGE;
        assert_eq!(full.to_rgb([90, 128, 128]), [90; 3]);
        assert_eq!(full.to_rgb([76, 85, 255]), [254, 0, 0]);
        let video = Colours {
            range: [16.0, 235.0, 128.0, 240.0, 128.0, 240.0],
            ..full
        };
        assert_eq!(video.to_rgb([16, 128, 128]), [0; 3]);
        assert_eq!(video.to_rgb([235, 128, 128]), [255; 3]);
    }
}
