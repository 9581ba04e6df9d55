//! Sources with metadata, put together by hand, and a walk over the tags of a result.

use std::collections::BTreeMap;

use imaging::{EncodeOptions, Format, Pixels, encode};

pub mod tags {
    pub const ORIENTATION: u16 = 274;
    pub const X_RESOLUTION: u16 = 282;
    pub const Y_RESOLUTION: u16 = 283;
    pub const RESOLUTION_UNIT: u16 = 296;
    pub const SOFTWARE: u16 = 305;
    pub const ARTIST: u16 = 315;
    pub const XMP: u16 = 700;
    pub const IPTC: u16 = 33_723;
    pub const EXIF: u16 = 34_665;
    pub const GPS: u16 = 34_853;
    pub const MAKER_NOTE: u16 = 37_500;
    pub const PIXEL_X: u16 = 40_962;
    pub const PIXEL_Y: u16 = 40_963;
    pub const INTEROP: u16 = 40_965;
    pub const GPS_LATITUDE: u16 = 2;
}

pub const NOTE: &[u8] = b"NOTE of a maker, which refers to places in the block";
pub const THUMBNAIL: &[u8] = b"a thumbnail that would show the source";
/// As bytes, in either order: it is searched for.
pub const LATITUDE: &[u8] = &[0x51, 0x51, 0x51, 0x51];
pub const IPTC: &[u8] = b"\x1c\x02\x05\0\x05Box 7\x1c\x02\x19\0\x07archive";

const XMP: &str = r#"<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:i="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" xmlns:exif="http://ns.adobe.com/exif/1.0/" i:DigitalSourceType="urn:print" dc:source="Box 7" exif:GPSLatitude="51,28.6N"/></rdf:RDF></x:xmpmeta><?xpacket end="w"?>"#;

/// A source to be made.
pub struct Source {
    pub big_endian: bool,
    pub orientation: u16,
}

impl Default for Source {
    fn default() -> Self {
        Self {
            big_endian: true,
            orientation: 3,
        }
    }
}

impl Source {
    /// A JPEG file with 300 dots an inch across and 600 down, and every block there is.
    pub fn jpeg(&self, side: u32) -> Vec<u8> {
        let samples = vec![90; (side * side) as usize];
        let options = EncodeOptions::new(Format::Jpeg);
        let mut file = encode(&Pixels::gray(side, side, &samples), &options).expect("a JPEG");
        file[13..18].copy_from_slice(&[1, 1, 44, 2, 88]);
        let iptc_bytes = u8::try_from(IPTC.len()).expect("short");
        let photoshop = [
            b"Photoshop 3.0\x008BIM\x04\x04\0\0\0\0\0",
            &[iptc_bytes][..],
            IPTC,
        ]
        .concat();
        let blocks = [
            (0xE1, [b"Exif\0\0", &self.exif()[..]].concat()),
            (
                0xE1,
                [b"http://ns.adobe.com/xap/1.0/\0", XMP.as_bytes()].concat(),
            ),
            (0xED, photoshop),
            (0xFE, b"a comment".to_vec()),
        ];
        for (marker, block) in blocks.into_iter().rev() {
            let length = u16::try_from(block.len() + 2).expect("short").to_be_bytes();
            file.splice(20..20, [&[0xFF, marker], &length[..], &block].concat());
        }
        file
    }

    fn short(&self, number: u16) -> Vec<u8> {
        let [high, low] = number.to_be_bytes();
        if self.big_endian {
            vec![high, low]
        } else {
            vec![low, high]
        }
    }

    fn long(&self, number: usize) -> Vec<u8> {
        let mut bytes = u32::try_from(number).expect("short").to_be_bytes().to_vec();
        if !self.big_endian {
            bytes.reverse();
        }
        bytes
    }

    /// Tag, type, values as bytes; a directory is laid out in front of them.
    fn directory(&self, at: usize, entries: &[(u16, u16, usize, Vec<u8>)], next: usize) -> Vec<u8> {
        let mut out = self.short(u16::try_from(entries.len()).expect("few"));
        let mut values_at = at + 2 + entries.len() * 12 + 4;
        let mut values = Vec::new();
        for (tag, kind, count, data) in entries {
            out.extend(self.short(*tag));
            out.extend(self.short(*kind));
            out.extend(self.long(*count));
            let mut place = data.clone();
            if data.len() > 4 {
                place = self.long(values_at);
                values.extend_from_slice(data);
                values_at += data.len();
            }
            place.resize(4, 0);
            out.extend(place);
        }
        out.extend(self.long(next));
        out.extend(values);
        out
    }

    fn exif(&self) -> Vec<u8> {
        const PHOTO_AT: usize = 200;
        const GPS_AT: usize = 400;
        const INTEROP_AT: usize = 500;
        const THUMBNAIL_AT: usize = 600;
        let text = |tag, text: &[u8]| (tag, 2, text.len(), text.to_vec());
        let ratio = |tag, number| (tag, 5, 1, [self.long(number), self.long(1)].concat());
        let pointer = |tag, at| (tag, 4, 1, self.long(at));
        let image = [
            (tags::ORIENTATION, 3, 1, self.short(self.orientation)),
            ratio(tags::X_RESOLUTION, 300),
            ratio(tags::Y_RESOLUTION, 600),
            (tags::RESOLUTION_UNIT, 3, 1, self.short(2)),
            text(tags::SOFTWARE, b"scan 1.0\0"),
            text(tags::ARTIST, b"Jo\0"),
            pointer(tags::EXIF, PHOTO_AT),
            pointer(tags::GPS, GPS_AT),
        ];
        let photo = [
            (tags::MAKER_NOTE, 7, NOTE.len(), NOTE.to_vec()),
            (tags::PIXEL_X, 4, 1, self.long(16)),
            (tags::PIXEL_Y, 4, 1, self.long(16)),
            pointer(tags::INTEROP, INTEROP_AT),
        ];
        let gps = [
            text(1, b"N\0"),
            (tags::GPS_LATITUDE, 5, 3, LATITUDE.repeat(6)),
        ];
        let interop = [text(1, b"R98\0")];
        let thumbnail_at = THUMBNAIL_AT + 2 + 24 + 4;
        let thumbnail = [pointer(513, thumbnail_at), pointer(514, THUMBNAIL.len())];

        let mut block = if self.big_endian {
            b"MM\0*".to_vec()
        } else {
            b"II*\0".to_vec()
        };
        block.extend(self.long(8));
        for (at, directory) in [
            (8, self.directory(8, &image, THUMBNAIL_AT)),
            (PHOTO_AT, self.directory(PHOTO_AT, &photo, 0)),
            (GPS_AT, self.directory(GPS_AT, &gps, 0)),
            (INTEROP_AT, self.directory(INTEROP_AT, &interop, 0)),
            (THUMBNAIL_AT, self.directory(THUMBNAIL_AT, &thumbnail, 0)),
        ] {
            assert!(block.len() <= at, "directories overlap");
            block.resize(at, 0);
            block.extend(directory);
        }
        block.extend_from_slice(THUMBNAIL);
        block
    }
}

/// Tags and their values as bytes.
pub type Tags = BTreeMap<u16, Vec<u8>>;

/// The main directory of a classic TIFF file or EXIF block, and those for EXIF, GPS and interoperability.
/// Fails where a directory is not in order or leaves the block.
pub fn walk(block: &[u8]) -> [Tags; 4] {
    let image = directory(block, join(block, &block[4..8]));
    let sub = |of: &Tags, tag| of.get(&tag).map(|at| directory(block, join(block, at)));
    let photo = sub(&image, tags::EXIF).unwrap_or_default();
    let gps = sub(&image, tags::GPS).unwrap_or_default();
    let interop = sub(&photo, tags::INTEROP).unwrap_or_default();
    [image, photo, gps, interop]
}

/// The first number of a tag: SHORT, LONG, or the numerator of a fraction.
pub fn number(block: &[u8], tags: &Tags, tag: u16) -> Option<u32> {
    let value = tags.get(&tag)?;
    let first = &value[..value.len().min(4)];
    u32::try_from(join(block, first)).ok()
}

fn directory(block: &[u8], at: usize) -> Tags {
    let count = join(block, &block[at..at + 2]);
    let mut tags = Tags::new();
    for entry in block[at + 2..at + 2 + 12 * count].chunks_exact(12) {
        let tag = u16::try_from(join(block, &entry[..2])).expect("two bytes");
        assert!(
            tags.last_key_value().is_none_or(|(last, _)| *last < tag),
            "in order"
        );
        let size = [0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8][join(block, &entry[2..4])];
        let length = size * join(block, &entry[4..8]);
        let value = if length <= 4 {
            &entry[8..8 + length]
        } else {
            let at = join(block, &entry[8..12]);
            &block[at..at + length]
        };
        tags.insert(tag, value.to_vec());
    }
    let next = at + 2 + 12 * count;
    assert_eq!(join(block, &block[next..next + 4]), 0, "no other directory");
    tags
}

fn join(block: &[u8], bytes: &[u8]) -> usize {
    let join = |number: usize, byte: &u8| (number << 8) | usize::from(*byte);
    if block.starts_with(b"MM") {
        bytes.iter().fold(0, join)
    } else {
        bytes.iter().rev().fold(0, join)
    }
}
