//! Deflate blocks that need nothing before them, so that bands can be compressed apart.
//!
//! The compressor is `fdeflate`, made for filtered pixels: several times faster than zlib's fastest
//! level at about its size. It writes whole zlib streams with one block; here that block is
//! taken out, marked as not the last one and padded to a whole byte.

/// The two bytes in front of every zlib stream: deflate, a window of 32 KiB, fast.
pub(super) const ZLIB_HEADER: [u8; 2] = [0x78, 0x01];

/// An empty block that is marked as the last one: ends any deflate stream.
pub(super) const LAST_BLOCK: [u8; 2] = [0x03, 0x00];

/// An empty stored block, less its first three bits: what zlib calls a sync flush.
const SYNC: [u8; 4] = [0x00, 0x00, 0xFF, 0xFF];

/// The most that a stored block can hold, in bytes.
const STORED_MAX: usize = 0xFFFF;
const STORED_HEAD: usize = 5;

/// Appends `data` to `out` as deflate blocks of which none is the last: they refer to nothing
/// before them and end on a whole byte. At most 5 bytes in 65,535 (and 5) longer than `data`.
pub(super) fn append_blocks(data: &[u8], out: &mut Vec<u8>) {
    let stream = fdeflate::compress_to_vec(data);
    let block = &stream[ZLIB_HEADER.len()..stream.len() - size_of::<u32>()];
    let stored = data.len() + data.len().div_ceil(STORED_MAX).max(1) * STORED_HEAD;
    if block.len() + SYNC.len() < stored {
        append_open(block, out);
    } else {
        append_stored(data, out);
    }
}

/// A whole zlib stream of `data`.
pub(crate) fn zlib_stream(data: &[u8]) -> Vec<u8> {
    let mut stream = Vec::with_capacity(data.len() / 2 + 64);
    stream.extend(ZLIB_HEADER);
    append_blocks(data, &mut stream);
    stream.extend(LAST_BLOCK);
    let mut adler = simd_adler32::Adler32::new();
    adler.write(data);
    stream.extend(adler.finish().to_be_bytes());
    stream
}

/// Appends the one block of an `fdeflate` stream, which is marked as the last one, as one that is
/// not, and pads it with an empty stored block.
fn append_open(block: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(block);
    // The first bit says whether the block is the last one.
    out[start] &= !1;
    // The code that ends a block has a 1 as its last bit in fdeflate's one table of codes, and zeros
    // pad the byte. The test below would notice another table.
    let padding = block.last().map_or(0, |last| last.leading_zeros());
    // A stored block begins with three bits 0 and continues at the next whole byte.
    if padding < 3 {
        out.push(0);
    }
    out.extend(SYNC);
}

fn append_stored(data: &[u8], out: &mut Vec<u8>) {
    for piece in data.chunks(STORED_MAX) {
        let length = u16::try_from(piece.len()).unwrap_or(u16::MAX);
        out.push(0);
        out.extend(length.to_le_bytes());
        out.extend((!length).to_le_bytes());
        out.extend_from_slice(piece);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    /// Decompresses with another library.
    fn inflate(stream: &[u8]) -> Vec<u8> {
        let mut data = Vec::new();
        flate2::read::ZlibDecoder::new(stream)
            .read_to_end(&mut data)
            .expect("a sound zlib stream");
        data
    }

    fn noise(length: usize, mask: u8) -> Vec<u8> {
        let mut state = 1_u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0] & mask
        };
        (0..length).map(|_| next()).collect()
    }

    #[test]
    fn blocks_join_at_every_alignment() {
        let mut adler = simd_adler32::Adler32::new();
        let mut stream = ZLIB_HEADER.to_vec();
        let mut expected = Vec::new();
        for length in 0..300 {
            let data = noise(length, if length % 3 == 0 { 255 } else { 3 });
            append_blocks(&data, &mut stream);
            adler.write(&data);
            expected.extend(data);
        }
        stream.extend(LAST_BLOCK);
        stream.extend(adler.finish().to_be_bytes());
        assert_eq!(inflate(&stream), expected);
    }

    #[test]
    fn noise_hardly_grows_and_zeros_shrink() {
        let data = noise(200_000, 255);
        let stream = zlib_stream(&data);
        assert!(
            stream.len() <= data.len() + 4 * STORED_HEAD + 8,
            "{}",
            stream.len()
        );
        assert_eq!(inflate(&stream), data);
        let zeros = zlib_stream(&vec![0; 200_000]);
        assert!(zeros.len() < 2_000, "{}", zeros.len());
        assert_eq!(inflate(&zeros).len(), 200_000);
    }
}
