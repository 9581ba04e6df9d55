//! What a picture of 180 MB costs in memory when it is written and read in rows. The one test of its
//! binary, because the peak is the process's.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs::File,
    io::{Seek, Write},
};

use imaging::{EncodeOptions, Finished, Format, Limits, Reader, Writer};

/// Far below the picture, far above what bands need.
const GROWTH_LIMIT_KIB: u64 = 48 * 1024;

/// The most memory this process ever had resident, in KiB; `None` where the system does not tell.
fn peak_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Smooth with some grain; each row is a piece of it, different from its neighbours.
fn texture(row_bytes: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let sample = |x: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let [grain, ..] = state.to_be_bytes();
        (x / 300 % 128).to_le_bytes()[0] + (grain & 15)
    };
    (0..row_bytes + SHIFTS).map(sample).collect()
}

/// A prime, so that rows repeat late.
const SHIFTS: usize = 997;

fn row(texture: &[u8], y: u32) -> &[u8] {
    let shift = y as usize * 31 % SHIFTS;
    &texture[shift..shift + texture.len() - SHIFTS]
}

/// Writes the picture into a file, as an uploader would into parts.
fn write(format: Format, width: u32, height: u32) -> File {
    let mut writer = Writer::new(&EncodeOptions::new(format), width, height).unwrap();
    let texture = texture(width as usize * 3);
    let mut body = tempfile::tempfile().unwrap();
    for y in 0..height {
        writer.push_rows(row(&texture, y)).unwrap();
        if writer.ready_bytes() >= 5 << 20 {
            body.write_all(&writer.take()).unwrap();
        }
    }
    let Finished { head, tail } = writer.finish().unwrap();
    body.write_all(&tail).unwrap();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&head).unwrap();
    body.rewind().unwrap();
    std::io::copy(&mut body, &mut file).unwrap();
    file
}

#[test]
fn memory_does_not_follow_the_size_of_the_picture() {
    let (width, height) = (20_000, 3_000);
    let before = peak_kib();
    for format in [Format::Png, Format::Tiff] {
        let file = write(format, width, height);
        let mut reader = Reader::open(Box::new(file), &Limits::default()).unwrap();
        assert_eq!((reader.info().width, reader.info().height), (width, height));
        let mut rows = vec![0; reader.row_bytes() * 7];
        let texture = texture(reader.row_bytes());
        let mut y = 0;
        loop {
            let read = reader.read_rows(&mut rows).unwrap();
            for found in rows.chunks(reader.row_bytes()).take(read as usize) {
                assert!(found == row(&texture, y), "{format} row {y}");
                y += 1;
            }
            if read == 0 {
                break;
            }
        }
        assert_eq!(y, height, "{format}");
    }
    if let (Some(before), Some(after)) = (before, peak_kib()) {
        let grown = after - before;
        assert!(grown < GROWTH_LIMIT_KIB, "grew by {grown} KiB");
    }
}
