//! A walk over the marker segments of a JPEG stream.
//!
//! It reads the declared size before anything is allocated, and tells whether the stream has an end. Whether
//! everything before that end is there is for [`super::jpeg_scans`] to say.

/// What the markers say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Markers {
    /// The frame header, if there was one.
    pub frame: Option<Frame>,
    /// Byte after the end-of-image marker; `None` when the stream is cut off.
    pub end: Option<usize>,
    /// Segments beside the scans.
    pub segments: u64,
    /// Number of scans.
    pub scans: usize,
    /// There are Huffman tables.
    pub tables: bool,
    /// What Adobe's marker says of the colours: 0 as they are, 1 `YCbCr`, 2 YCCK.
    pub adobe: Option<u8>,
    /// There is some of a colour profile.
    pub profile: bool,
    /// More than one frame header: not one picture.
    pub several_frames: bool,
}

/// A frame header (SOFn).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame {
    /// n of SOFn: 0 baseline, 1 extended, 2 progressive, others are rare.
    pub kind: u8,
    /// Bits per sample.
    pub precision: u8,
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
    /// Number of colour components.
    pub components: u8,
    /// The components are sampled as usual: by powers of two, and none more finely than the first.
    pub usual_sampling: bool,
}

const EOI: u8 = 0xD9;
const SOS: u8 = 0xDA;

/// Walks from the start-of-image marker to the end-of-image marker, as far as the bytes go.
pub(super) fn walk(bytes: &[u8]) -> Markers {
    let mut found = Markers::default();
    let mut at = 2;
    loop {
        let Some((marker, after)) = next_marker(bytes, at) else {
            return found;
        };
        at = after;
        if marker == EOI {
            found.end = Some(at);
            return found;
        }
        // TEM and RSTn stand alone; a second SOI is left to the decoder.
        if matches!(marker, 0x01 | 0xD0..=0xD8) {
            continue;
        }
        let Some(payload) = segment(bytes, at) else {
            return found;
        };
        at += 2 + payload.len();
        note(&mut found, marker, payload);
        if marker == SOS {
            found.scans += 1;
            at = after_scan(bytes, at);
        } else {
            found.segments += 1;
        }
    }
}

/// The next marker at or after `at`, and the byte after it.
pub(super) fn next_marker(bytes: &[u8], at: usize) -> Option<(u8, usize)> {
    let rest = bytes.get(at..)?;
    let pair = rest
        .windows(2)
        .position(|pair| pair[0] == 0xFF && !matches!(pair[1], 0 | 0xFF))?;
    Some((rest[pair + 1], at + pair + 2))
}

pub(super) fn segment(bytes: &[u8], at: usize) -> Option<&[u8]> {
    let length = usize::from(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
    bytes.get(at + 2..at + length.max(2))
}

/// Skips entropy-coded data: up to the next marker that is not a restart.
pub(super) fn after_scan(bytes: &[u8], mut at: usize) -> usize {
    while let Some((marker, after)) = next_marker(bytes, at) {
        if !matches!(marker, 0xD0..=0xD7) {
            return after - 2;
        }
        at = after;
    }
    bytes.len()
}

fn note(found: &mut Markers, marker: u8, payload: &[u8]) {
    match marker {
        // SOF0..SOF15 without DHT (C4), JPG (C8) and DAC (CC).
        0xC0..=0xCF if !matches!(marker, 0xC4 | 0xC8 | 0xCC) => {
            found.several_frames |= found.frame.is_some();
            found.frame = frame(marker - 0xC0, payload);
        }
        0xC4 => found.tables = true,
        0xE2 if payload.starts_with(b"ICC_PROFILE\0") => found.profile = true,
        // "Adobe", version, two words of flags, transform.
        0xEE => {
            if let [
                b'A',
                b'd',
                b'o',
                b'b',
                b'e',
                _,
                _,
                _,
                _,
                _,
                _,
                transform,
                ..,
            ] = *payload
            {
                found.adobe = Some(transform);
            }
        }
        _ => {}
    }
}

fn frame(kind: u8, payload: &[u8]) -> Option<Frame> {
    let [precision, h1, h0, w1, w0, components, ref parts @ ..] = *payload else {
        return None;
    };
    let mut factors = parts
        .chunks_exact(3)
        .map(|part| (part[1] >> 4, part[1] & 15));
    let first = factors.clone().next().unwrap_or((1, 1));
    let usual_sampling = factors.all(|(across, down)| {
        let powers = matches!(across, 1 | 2 | 4) && matches!(down, 1 | 2 | 4);
        powers && across <= first.0 && down <= first.1 && (first.1 < 4 || matches!(down, 1 | 4))
    });
    Some(Frame {
        kind,
        precision,
        width: u32::from(u16::from_be_bytes([w1, w0])),
        height: u32::from(u16::from_be_bytes([h1, h0])),
        components,
        usual_sampling,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_stream_has_no_end() {
        let stream = [
            0xFF, 0xD8, 0xFF, 0xC0, 0, 11, 8, 0, 2, 0, 3, 1, 1, 0x11, 0, 0xFF, 0xDA, 0, 3, 1, 7,
            0xFF, 0, 9, 0xFF, 0xD0, 4, 0xFF, 0xD9, 42,
        ];
        let found = walk(&stream);
        assert_eq!(found.end, Some(stream.len() - 1));
        assert_eq!(
            found.frame,
            Some(Frame {
                kind: 0,
                precision: 8,
                width: 3,
                height: 2,
                components: 1,
                usual_sampling: true
            })
        );
        for length in 0..stream.len() - 1 {
            assert_eq!(walk(&stream[..length]).end, None, "{length}");
        }
    }
}
