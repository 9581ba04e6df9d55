//! Tiles packed with LZW that stick out of the picture: those whose codes end with their last sample, too.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Cursor;

use imaging::{Limits, decode};
use tiff::{encoder::TiffEncoder, tags::Tag};
use weezl::{BitOrder, encode::Encoder};

const SIDE: u32 = 16;

/// What a page is stored as.
#[derive(Clone, Copy)]
struct Way {
    samples: u16,
    wide: bool,
    predicted: bool,
}

impl Way {
    fn value(self, x: u32, y: u32, sample: u16) -> u16 {
        let value = u16::try_from(x * 3 + y * 2).unwrap() + sample * 20;
        if self.wide { value * 257 } else { value }
    }

    /// One tile, its part outside of the picture filled with the same.
    fn tile(self, left: u32, top: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        for y in top..top + SIDE {
            for x in left..left + SIDE {
                for sample in 0..self.samples {
                    let mut value = self.value(x % 40, y % 40, sample);
                    if self.predicted && x > left {
                        value = value.wrapping_sub(self.value((x - 1) % 40, y % 40, sample));
                    }
                    if self.wide {
                        bytes.extend(value.to_le_bytes());
                    } else {
                        bytes.push(value.to_le_bytes()[0]);
                    }
                }
            }
        }
        let mut encoder = Encoder::with_tiff_size_switch(BitOrder::Msb, 8);
        encoder.encode(&bytes).unwrap()
    }

    /// - `cut`: keeps an eighth of what each tile is packed into, less than any picture here needs.
    fn file(self, width: u32, height: u32, cut: bool) -> Vec<u8> {
        let mut file = Cursor::new(Vec::new());
        let mut encoder = TiffEncoder::new(&mut file).unwrap();
        let mut directory = encoder.image_directory().unwrap();
        let (mut offsets, mut sizes) = (Vec::new(), Vec::new());
        for top in (0..height).step_by(SIDE as usize) {
            for left in (0..width).step_by(SIDE as usize) {
                let mut tile = self.tile(left, top);
                if cut {
                    tile.truncate(tile.len() / 8);
                }
                sizes.push(u32::try_from(tile.len()).unwrap());
                let offset = directory.write_data(&tile[..]).unwrap();
                offsets.push(u32::try_from(offset).unwrap());
            }
        }
        let bits = vec![if self.wide { 16_u16 } else { 8 }; usize::from(self.samples)];
        let photometric = if self.samples == 1 { 1_u16 } else { 2 };
        directory.write_tag(Tag::ImageWidth, width).unwrap();
        directory.write_tag(Tag::ImageLength, height).unwrap();
        directory.write_tag(Tag::BitsPerSample, &bits[..]).unwrap();
        directory.write_tag(Tag::Compression, 5_u16).unwrap();
        directory
            .write_tag(Tag::PhotometricInterpretation, photometric)
            .unwrap();
        directory
            .write_tag(Tag::SamplesPerPixel, self.samples)
            .unwrap();
        let predictor = 1 + u16::from(self.predicted);
        directory.write_tag(Tag::Predictor, predictor).unwrap();
        directory.write_tag(Tag::TileWidth, SIDE).unwrap();
        directory.write_tag(Tag::TileLength, SIDE).unwrap();
        directory.write_tag(Tag::TileOffsets, &offsets[..]).unwrap();
        directory
            .write_tag(Tag::TileByteCounts, &sizes[..])
            .unwrap();
        directory.finish().unwrap();
        file.into_inner()
    }
}

#[test]
fn tiles_that_stick_out_are_read_to_their_last_sample() {
    for samples in [1, 3] {
        for (wide, predicted) in [(false, false), (false, true), (true, false), (true, true)] {
            let way = Way {
                samples,
                wide,
                predicted,
            };
            for (width, height) in [(33, 20), (17, 16), (16, 31), (5, 3), (32, 32)] {
                let file = way.file(width, height, false);
                let what = format!("{samples} {wide} {predicted} {width}x{height}");
                let found = decode(&file, &Limits::default()).expect(&what);
                for y in 0..height {
                    for x in 0..width {
                        let at = ((y * width + x) * 3) as usize;
                        let value = way.value(x, y, 0);
                        let expected = if wide { value / 257 } else { value };
                        assert_eq!(u16::from(found.pixels.rgb[at]), expected, "{what}: {x} {y}");
                    }
                }
                let cut = way.file(width, height, true);
                let error = decode(&cut, &Limits::default()).expect_err(&what);
                assert_eq!(error.reason(), "unreadable", "{what}: {error}");
            }
        }
    }
}
