//! Strips and tiles packed with Deflate: the checksum behind them is compared, wherever the picture ends in them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{Cursor, Write as _};

use flate2::{Compression, write::ZlibEncoder};
use imaging::{DecodeError, EncodeOptions, Format, Limits, Pixels, Reader, decode};
use tiff::{encoder::TiffEncoder, tags::Tag};

/// A gray page, cut into chunks that may all be whole, those at its end too.
#[derive(Clone, Copy)]
struct Page {
    width: u32,
    height: u32,
    chunk_width: u32,
    chunk_height: u32,
    is_tiled: bool,
    level: u32,
}

fn value(x: u32, y: u32) -> u8 {
    // Grain, so that what is packed is as large as what it holds.
    (x * 37 + y * 101 + x * y % 89).to_le_bytes()[0]
}

impl Page {
    /// The chunks, row by row.
    fn chunks(self, more_rows: u32) -> Vec<Vec<u8>> {
        let (width, height) = (self.chunk_width, self.chunk_height);
        let mut chunks = Vec::new();
        for top in (0..self.height).step_by(height as usize) {
            for left in (0..self.width).step_by(width as usize) {
                let mut encoder = ZlibEncoder::new(Vec::new(), Compression::new(self.level));
                for y in top..top + height + more_rows {
                    let row: Vec<u8> = (left..left + width).map(|x| value(x, y)).collect();
                    encoder.write_all(&row).unwrap();
                }
                chunks.push(encoder.finish().unwrap());
            }
        }
        chunks
    }

    fn file(self, chunks: &[Vec<u8>]) -> Vec<u8> {
        let mut file = Cursor::new(Vec::new());
        let mut encoder = TiffEncoder::new(&mut file).unwrap();
        let mut page = encoder.image_directory().unwrap();
        let (mut offsets, mut sizes) = (Vec::new(), Vec::new());
        for chunk in chunks {
            offsets.push(u32::try_from(page.write_data(&chunk[..]).unwrap()).unwrap());
            sizes.push(u32::try_from(chunk.len()).unwrap());
        }
        page.write_tag(Tag::ImageWidth, self.width).unwrap();
        page.write_tag(Tag::ImageLength, self.height).unwrap();
        page.write_tag(Tag::BitsPerSample, 8_u16).unwrap();
        page.write_tag(Tag::Compression, 8_u16).unwrap();
        page.write_tag(Tag::PhotometricInterpretation, 1_u16)
            .unwrap();
        page.write_tag(Tag::SamplesPerPixel, 1_u16).unwrap();
        if self.is_tiled {
            page.write_tag(Tag::TileWidth, self.chunk_width).unwrap();
            page.write_tag(Tag::TileLength, self.chunk_height).unwrap();
            page.write_tag(Tag::TileOffsets, &offsets[..]).unwrap();
            page.write_tag(Tag::TileByteCounts, &sizes[..]).unwrap();
        } else {
            page.write_tag(Tag::RowsPerStrip, self.chunk_height)
                .unwrap();
            page.write_tag(Tag::StripOffsets, &offsets[..]).unwrap();
            page.write_tag(Tag::StripByteCounts, &sizes[..]).unwrap();
        }
        page.finish().unwrap();
        file.into_inner()
    }

    fn pixels(self) -> Pixels {
        let rows = (0..self.height).flat_map(|y| (0..self.width).map(move |x| value(x, y)));
        Pixels::gray(self.width, self.height, &rows.collect::<Vec<u8>>())
    }
}

fn pages() -> impl Iterator<Item = Page> {
    let cuts = [
        (300, 300, 256, 256, true),
        (44, 44, 256, 256, true),
        (300, 500, 300, 190, false),
        (300, 500, 300, 500, false),
    ];
    cuts.into_iter().flat_map(|cut| {
        let (width, height, chunk_width, chunk_height, is_tiled) = cut;
        [0, 9].map(|level| Page {
            width,
            height,
            chunk_width,
            chunk_height,
            is_tiled,
            level,
        })
    })
}

fn refusal(file: &[u8]) -> DecodeError {
    let decoded = decode(file, &Limits::default());
    decoded.map(|decoded| decoded.info).unwrap_err()
}

#[test]
fn a_flipped_bit_in_any_chunk_is_damage() {
    for page in pages() {
        let chunks = page.chunks(0);
        let sound = decode(&page.file(&chunks), &Limits::default()).unwrap();
        assert_eq!(sound.pixels, page.pixels());
        for damaged in 0..chunks.len() {
            // A sample, or a code; and the checksum itself.
            for at in [100, chunks[damaged].len() - 1] {
                let mut chunks = chunks.clone();
                chunks[damaged][at] ^= 0x40;
                let error = refusal(&page.file(&chunks));
                assert_eq!(error.reason(), "unreadable", "{error}");
            }
        }
    }
}

#[test]
fn a_chunk_without_its_checksum_is_cut_off() {
    for page in pages() {
        let mut chunks = page.chunks(0);
        for chunk in &mut chunks {
            chunk.truncate(chunk.len() - 4);
        }
        let error = refusal(&page.file(&chunks));
        assert!(error.to_string().contains("cut off"), "{error}");
    }
}

/// Some programs fill strips up. The checksum tells that from a code that became another and stands for more.
#[test]
fn more_in_a_chunk_than_its_rows_is_read_if_its_checksum_is_right() {
    for page in pages() {
        let mut chunks = page.chunks(14);
        let filled_up = decode(&page.file(&chunks), &Limits::default()).unwrap();
        assert_eq!(filled_up.pixels, page.pixels());
        *chunks[0].last_mut().unwrap() ^= 1;
        let error = refusal(&page.file(&chunks));
        assert_eq!(error.reason(), "unreadable", "{error}");
    }
}

#[test]
fn many_times_what_a_chunk_should_hold_is_damage() {
    for page in pages() {
        let error = refusal(&page.file(&page.chunks(8_000)));
        assert_eq!(error.reason(), "unreadable", "{error}");
    }
}

#[test]
fn a_tile_counts_into_the_memory_of_its_file_and_is_held_against_the_limits() {
    let page = Page {
        width: 16,
        height: 16,
        chunk_width: 512,
        chunk_height: 512,
        is_tiled: true,
        level: 9,
    };
    let file = page.file(&page.chunks(0));
    let reader = Reader::open(Box::new(Cursor::new(&file)), &Limits::default()).unwrap();
    let held = reader.held_bytes(&EncodeOptions::new(Format::Png));
    assert!(held >= 512 * 512, "{held}");
    let limits = Limits {
        max_pixels: 100_000,
        ..Limits::default()
    };
    let error = imaging::probe(&file, &limits).unwrap_err();
    assert!(error.to_string().contains("large strips or tiles"));
}
