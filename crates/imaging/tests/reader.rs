//! A file read in pieces is the file read whole: the same pixels, the same verdict.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    io::{self, Cursor, Read, Seek, SeekFrom, Write},
    path::PathBuf,
};

use imaging::{
    DecodeError, EncodeOptions, Format, Limits, Pixels, Reader, Source, Writer, decode, encode,
};
use tiff::{encoder::TiffEncoder, tags::Tag};

const SIDES: (u32, u32) = (150, 101);

fn picture() -> Pixels {
    let (width, height) = SIDES;
    let sample = |i: u32| (i * 31 % 251 + i / 450).to_le_bytes()[0];
    Pixels {
        width,
        height,
        rgb: (0..width * height * 3).map(sample).collect(),
    }
}

/// Reads with buffers of 1, 2, 3 ... rows, with something left over in each.
fn in_pieces(source: Box<dyn Source + '_>) -> Result<Pixels, DecodeError> {
    let mut reader = Reader::open(source, &Limits::default())?;
    let (width, height) = (reader.info().width, reader.info().height);
    let mut rgb = Vec::new();
    for rows in 1.. {
        assert_eq!(rgb.len(), reader.next_row() as usize * reader.row_bytes());
        let mut buffer = vec![0; reader.row_bytes() * rows + 2];
        let read = reader.read_rows(&mut buffer)?;
        rgb.extend_from_slice(&buffer[..read as usize * reader.row_bytes()]);
        if read == 0 {
            break;
        }
    }
    Ok(Pixels { width, height, rgb })
}

/// The verdict in words, with what the decoder said.
fn words(error: &DecodeError) -> String {
    let cause = std::error::Error::source(error).map(ToString::to_string);
    format!("{}: {error}: {cause:?}", error.reason())
}

fn assert_same(name: &str, file: &[u8]) {
    let whole = decode(file, &Limits::default());
    let pieces = in_pieces(Box::new(Cursor::new(file)));
    let mut on_disk = tempfile::tempfile().unwrap();
    on_disk.write_all(file).unwrap();
    let from_disk = in_pieces(Box::new(on_disk));
    for read in [pieces, from_disk] {
        match (&whole, read) {
            (Ok(whole), Ok(read)) => assert!(whole.pixels == read, "{name}"),
            (Err(whole), Err(read)) => assert_eq!(words(whole), words(&read), "{name}"),
            (whole, read) => panic!("{name}: {:?} and {:?}", whole.is_ok(), read.is_ok()),
        }
    }
}

/// Files of every kind that is read in another way.
fn kinds() -> Vec<(&'static str, Vec<u8>)> {
    let pixels = picture();
    let mut files = Vec::new();
    for format in Format::ALL {
        for gray in [false, true] {
            let options = EncodeOptions {
                gray,
                ..EncodeOptions::new(format)
            };
            files.push((format.name(), encode(&pixels, &options).unwrap()));
            let most = EncodeOptions {
                alpha: format.holds_alpha(),
                depth: format.max_depth(),
                ..options
            };
            files.push((format.name(), encode(&pixels, &most).unwrap()));
        }
    }
    for planar in [false, true] {
        for tile in [None, Some((16, 32)), Some((160, 16)), Some((48, 112))] {
            files.push(("tiff chunks", tiff_of(&pixels, tile, planar)));
        }
    }
    let jpeg = encode(&pixels, &EncodeOptions::new(Format::Jpeg)).unwrap();
    files.push(("sideways jpeg", with_exif(&jpeg, 6)));
    files
}

/// Uncompressed strips of 7 rows, or tiles of so many columns and rows.
fn tiff_of(pixels: &Pixels, tile: Option<(u32, u32)>, planar: bool) -> Vec<u8> {
    tiff_in(
        pixels,
        tile.unwrap_or((pixels.width, 7)),
        tile.is_some(),
        planar,
    )
}

fn tiff_in(pixels: &Pixels, chunk: (u32, u32), tiled: bool, planar: bool) -> Vec<u8> {
    let (chunk_width, chunk_height) = chunk;
    let mut chunks: Vec<Vec<u8>> = Vec::new();
    for component in 0..if planar { 3 } else { 1 } {
        for top in (0..pixels.height).step_by(chunk_height as usize) {
            for left in (0..pixels.width).step_by(chunk_width as usize) {
                // Tiles are padded at the bottom, strips are not.
                let below = if tiled { u32::MAX } else { pixels.height };
                let mut chunk = Vec::new();
                for y in top..top.saturating_add(chunk_height).min(below) {
                    for x in left..left + chunk_width {
                        let at = (y.min(pixels.height - 1) * pixels.width + x.min(pixels.width - 1))
                            as usize
                            * 3;
                        let pixel = &pixels.rgb[at..at + 3];
                        if planar {
                            chunk.push(pixel[component]);
                        } else {
                            chunk.extend_from_slice(pixel);
                        }
                    }
                }
                chunks.push(chunk);
            }
        }
    }
    let mut file = Cursor::new(Vec::new());
    let mut encoder = TiffEncoder::new(&mut file).unwrap();
    let mut page = encoder.image_directory().unwrap();
    let mut offsets = Vec::new();
    let mut sizes = Vec::new();
    for chunk in &chunks {
        offsets.push(u32::try_from(page.write_data(chunk.as_slice()).unwrap()).unwrap());
        sizes.push(u32::try_from(chunk.len()).unwrap());
    }
    let (places, counts) = if tiled {
        page.write_tag(Tag::TileWidth, chunk_width).unwrap();
        page.write_tag(Tag::TileLength, chunk_height).unwrap();
        (Tag::TileOffsets, Tag::TileByteCounts)
    } else {
        page.write_tag(Tag::RowsPerStrip, chunk_height).unwrap();
        (Tag::StripOffsets, Tag::StripByteCounts)
    };
    page.write_tag(places, &offsets[..]).unwrap();
    page.write_tag(counts, &sizes[..]).unwrap();
    page.write_tag(Tag::ImageWidth, pixels.width).unwrap();
    page.write_tag(Tag::ImageLength, pixels.height).unwrap();
    page.write_tag(Tag::BitsPerSample, &[8_u16; 3][..]).unwrap();
    page.write_tag(Tag::PhotometricInterpretation, 2_u16)
        .unwrap();
    page.write_tag(Tag::SamplesPerPixel, 3_u16).unwrap();
    let planes = if planar { 2_u16 } else { 1 };
    page.write_tag(Tag::PlanarConfiguration, planes).unwrap();
    page.finish().unwrap();
    file.into_inner()
}

fn with_exif(jpeg: &[u8], orientation: u8) -> Vec<u8> {
    let mut exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".to_vec();
    exif.extend_from_slice(&[orientation, 0, 0, 0, 0, 0, 0, 0]);
    let length = u16::try_from(exif.len() + 2).unwrap().to_be_bytes();
    [&jpeg[..2], &[0xFF, 0xE1], &length, &exif, &jpeg[2..]].concat()
}

#[test]
fn both_ways_can_be_on_a_thread_of_their_own() {
    fn is_send<T: Send>() {}
    is_send::<Reader<'static>>();
    is_send::<Writer>();
}

#[test]
fn every_kind_of_file_gives_the_same_in_pieces() {
    for (name, file) in kinds() {
        assert_same(name, &file);
        assert!(decode(&file, &Limits::default()).is_ok(), "{name}");
    }
}

#[test]
fn strips_tiles_and_planes_give_the_picture() {
    for (name, file) in kinds() {
        if name == "tiff chunks" {
            let pixels = decode(&file, &Limits::default()).unwrap().pixels;
            assert!(pixels == picture());
        }
    }
}

/// Larger strips than are read at once: one, and two of which the second is shorter.
#[test]
fn large_plain_strips_are_read_in_pieces() {
    let (width, height) = (1_200, 1_000);
    let sample = |i: u32| (i * 31 % 251 + i / 450).to_le_bytes()[0];
    let pixels = Pixels {
        width,
        height,
        rgb: (0..width * height * 3).map(sample).collect(),
    };
    for rows in [height, 800, u32::MAX] {
        let file = tiff_in(&pixels, (width, rows), false, false);
        assert_same("large strips", &file);
        assert!(decode(&file, &Limits::default()).unwrap().pixels == pixels);
        let mut reader = Reader::from_bytes(&file, &Limits::default()).unwrap();
        let mut row = vec![0; reader.row_bytes()];
        reader.skip_rows(901).unwrap();
        reader.read_rows(&mut row).unwrap();
        assert!(row == pixels.rgb[901 * row.len()..902 * row.len()]);
    }
    let gray = Pixels::gray(2_000, 1_500, &vec![50; 3_000_000]);
    let mut file = Cursor::new(Vec::new());
    let mut encoder = TiffEncoder::new(&mut file).unwrap();
    let mut page = encoder
        .new_image::<tiff::encoder::colortype::Gray8>(2_000, 1_500)
        .unwrap();
    page.rows_per_strip(1_500).unwrap();
    page.encoder()
        .write_tag(Tag::PhotometricInterpretation, 0_u16)
        .unwrap();
    page.write_data(&vec![205; 3_000_000]).unwrap();
    let found = decode(file.get_ref(), &Limits::default()).unwrap();
    assert!(found.pixels == gray, "white is zero");
}

#[test]
fn every_shared_file_gives_the_same_in_pieces() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let folders = [
        "../../samples",
        "../../../shared/data/edge",
        "../../../shared/data/lowres",
        "../../../shared/data/scans",
    ];
    let mut files = 0;
    for folder in folders {
        let Ok(entries) = fs::read_dir(root.join(folder)) else {
            continue;
        };
        for entry in entries {
            let path = entry.unwrap().path();
            // A valid picture of 400 million pixels, black and white, would be 1.2 GB twice.
            let huge = path.to_string_lossy().contains("bomb_valid");
            if path.is_file() && !huge {
                files += 1;
                assert_same(&path.to_string_lossy(), &fs::read(&path).unwrap());
            }
        }
    }
    assert!(files > 0, "the samples are in the repository");
}

#[test]
fn skipped_rows_are_left_out() {
    for (name, file) in kinds() {
        let all = decode(&file, &Limits::default()).unwrap().pixels;
        for (first, second) in [(0, 1), (1, 31), (33, 7), (64, 60), (100, 0), (500, 0)] {
            let mut reader = Reader::from_bytes(&file, &Limits::default()).unwrap();
            let mut row = vec![0; reader.row_bytes()];
            let mut expected = all.rgb.chunks(reader.row_bytes());
            reader.skip_rows(first).unwrap();
            for skip in [first, second] {
                let wanted = expected.nth(skip as usize);
                let read = reader.read_rows(&mut row).unwrap();
                assert_eq!(read == 1, wanted.is_some(), "{name} {first} {second}");
                assert!(
                    wanted.is_none_or(|wanted| wanted == row),
                    "{name} {first} {second}"
                );
                reader.skip_rows(second).unwrap();
            }
        }
    }
}

#[test]
fn damage_is_found_in_its_row() {
    let pixels = picture();
    let file = tiff_of(&pixels, Some((16, 32)), false);
    // Strips of 7 rows, compressed, the third one damaged.
    let mut strips = Cursor::new(Vec::new());
    let mut encoder = TiffEncoder::new(&mut strips).unwrap().with_compression(
        tiff::encoder::Compression::Deflate(tiff::encoder::DeflateLevel::Fast),
    );
    let mut page = encoder
        .new_image::<tiff::encoder::colortype::RGB8>(pixels.width, pixels.height)
        .unwrap();
    page.rows_per_strip(7).unwrap();
    page.write_data(&pixels.rgb).unwrap();
    let mut strips = strips.into_inner();
    let mut decoder = tiff::decoder::Decoder::new(Cursor::new(&strips[..])).unwrap();
    let third = usize::try_from(decoder.get_tag_u64_vec(Tag::StripOffsets).unwrap()[2]).unwrap();
    strips[third] = 0xFF;

    let mut reader = Reader::from_bytes(&strips, &Limits::default()).unwrap();
    let mut rows = vec![0; reader.row_bytes() * 14];
    assert_eq!(reader.read_rows(&mut rows).unwrap(), 14);
    assert!(rows == pixels.rgb[..rows.len()]);
    let error = reader.read_rows(&mut rows).unwrap_err();
    assert_eq!(error.reason(), "unreadable", "{error}");
    assert!(reader.read_rows(&mut rows).is_err(), "and stays so");
    // What is left out is not examined.
    let mut reader = Reader::from_bytes(&strips, &Limits::default()).unwrap();
    reader.skip_rows(21).unwrap();
    assert_eq!(reader.read_rows(&mut rows).unwrap(), 14);
    assert!(decode(&file, &Limits::default()).is_ok());
}

/// A disk that fails behind byte `limit`.
struct Failing<'a> {
    file: Cursor<&'a [u8]>,
    limit: u64,
}

impl Read for Failing<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.file.position() >= self.limit {
            return Err(io::Error::other("the disk is gone"));
        }
        let most = usize::try_from(self.limit - self.file.position()).unwrap();
        let length = buffer.len().min(most);
        self.file.read(&mut buffer[..length])
    }
}

impl Seek for Failing<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

#[test]
fn a_failing_disk_is_not_the_files_fault() {
    for (name, file) in kinds() {
        for limit in [0, 3, 40, file.len() / 2] {
            let limit = limit as u64;
            let file = Cursor::new(&file[..]);
            let read = in_pieces(Box::new(Failing { file, limit })).map(|_| ());
            let error = read.expect_err(name);
            assert_eq!(error.reason(), "storage", "{name} at {limit}: {error}");
        }
    }
}

/// What the reader of this file holds beside rows and bands, in bytes.
fn held(file: &[u8]) -> u64 {
    let reader = Reader::open(Box::new(Cursor::new(file)), &Limits::default()).unwrap();
    reader.held_bytes(&EncodeOptions::new(Format::Png))
}

#[test]
fn a_compressed_strip_counts_into_the_memory_that_a_file_takes() {
    const SIDE: u32 = 400;
    let samples = vec![7_u8; (SIDE * SIDE) as usize];
    let in_strips_of = |rows, compression| {
        let mut file = Cursor::new(Vec::new());
        let mut encoder = TiffEncoder::new(&mut file)
            .unwrap()
            .with_compression(compression);
        let mut image = encoder
            .new_image::<tiff::encoder::colortype::Gray8>(SIDE, SIDE)
            .unwrap();
        image.rows_per_strip(rows).unwrap();
        image.write_data(&samples).unwrap();
        held(&file.into_inner())
    };
    let whole = u64::from(SIDE * SIDE);
    let lzw = tiff::encoder::Compression::Lzw;
    assert!(in_strips_of(SIDE, lzw) > 3 * whole);
    assert!(in_strips_of(8, lzw) < whole / 10);

    // Interlaced: the header says so, whatever follows.
    let mut png = Cursor::new(Vec::new());
    let pixels = image::GrayImage::from_pixel(SIDE, SIDE, image::Luma([7]));
    pixels.write_to(&mut png, image::ImageFormat::Png).unwrap();
    let mut png = png.into_inner();
    assert_eq!(held(&png), 0);
    png[28] = 1;
    let checksum = crc32fast::hash(&png[12..29]).to_be_bytes();
    png[29..33].copy_from_slice(&checksum);
    assert_eq!(held(&png), whole);
}
