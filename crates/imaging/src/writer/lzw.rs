//! LZW as TIFF has it: codes from the most significant bit on, and one wider a code earlier than GIF's.

use weezl::{BitOrder, encode::Encoder};

/// Packs `bytes` into a stream of its own, from a clear code to an end code.
pub(super) fn stream(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = Encoder::with_tiff_size_switch(BitOrder::Msb, 8);
    let packed = encoder.encode(bytes);
    packed.expect("every byte is a symbol of 8 bits")
}
