//! PNG in bands: one IDAT chunk a band, compressed for itself.

use super::{
    Shape, deflate,
    deflate::{LAST_BLOCK, ZLIB_HEADER},
    filter,
};

/// Appends a band, with the end of the file if it is the last one.
///
/// - `adler`: of all filtered rows before; of all filtered rows so far, afterwards.
pub(super) fn append_band(
    shape: &Shape,
    samples: &[u8],
    position: Position,
    adler: &mut u32,
    out: &mut Vec<u8>,
) {
    let stored;
    let samples = if shape.is_deep() && cfg!(target_endian = "little") {
        stored = swapped(samples);
        &stored
    } else {
        samples
    };
    let filtered = filter::png_rows(samples, shape.row_bytes(), shape.pixel_bytes());
    let mut running = simd_adler32::Adler32::from_checksum(*adler);
    running.write(&filtered);
    *adler = running.finish();

    let mut data = Vec::new();
    if position.first {
        data.extend(ZLIB_HEADER);
    }
    deflate::append_blocks(&filtered, &mut data);
    if position.last {
        data.extend(LAST_BLOCK);
        data.extend(adler.to_be_bytes());
    }
    append_chunk(*b"IDAT", &data, out);
    if position.last {
        append_chunk(*b"IEND", &[], out);
    }
}

/// Samples of two bytes with the other one first.
fn swapped(samples: &[u8]) -> Vec<u8> {
    let pairs = samples.as_chunks::<2>().0.iter();
    pairs
        .flat_map(|[first, second]| [*second, *first])
        .collect()
}

/// Where in the picture a band is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Position {
    pub first: bool,
    pub last: bool,
}

pub(super) fn append_chunk(name: [u8; 4], data: &[u8], out: &mut Vec<u8>) {
    let length = u32::try_from(data.len()).expect("bands and profiles are far below 4 GiB");
    out.extend(length.to_be_bytes());
    let start = out.len();
    out.extend(name);
    out.extend_from_slice(data);
    out.extend(crc32fast::hash(&out[start..]).to_be_bytes());
}
