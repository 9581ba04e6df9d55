//! What bringing a wide, deep, transparent picture back costs in memory: 16,000x2,400 px, 307 MB of
//! samples. The one test of its binary, because the peak is the process's.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fs::File, io::Write};

use imaging::{Depth, EncodeOptions, Finish, Finished, Format, Limits, Reader, Writer};

/// Far below the picture, far above what bands need.
const GROWTH_LIMIT_KIB: u64 = 64 * 1024;
const WIDTH: u32 = 4_000;
const HEIGHT: u32 = 600;

/// The most memory this process ever had resident, in KiB; `None` where the system does not tell.
fn peak_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// The picture, in a file on disk.
fn source() -> File {
    let icc = moxcms::ColorProfile::new_display_p3().encode().unwrap();
    let options = EncodeOptions {
        alpha: true,
        depth: Depth::Sixteen,
        icc: Some(icc),
        ..EncodeOptions::new(Format::Png)
    };
    let mut writer = Writer::new(&options, WIDTH, HEIGHT).unwrap();
    let mut file = tempfile::tempfile().unwrap();
    for y in 0..HEIGHT {
        let row: Vec<u8> = (0..WIDTH * 4)
            .flat_map(|i| (i.wrapping_mul(16) + y * 40).to_ne_bytes()[..2].to_vec())
            .collect();
        writer.push_samples(&row).unwrap();
        file.write_all(&writer.take()).unwrap();
    }
    file.write_all(&writer.finish().unwrap().tail).unwrap();
    file
}

#[test]
fn memory_does_not_follow_the_size_of_the_picture() {
    let before = peak_kib();
    let open = || Reader::open(Box::new(source()), &Limits::default()).unwrap();
    let mut reader = open();
    let options = reader.encode_like(None);
    assert!(options.alpha && options.depth == Depth::Sixteen);
    let mut finish = Finish::new(open(), &options);
    let mut writer = Writer::new(&options, 4 * WIDTH, 4 * HEIGHT).unwrap();
    let mut row = vec![0.0; reader.row_bytes()];
    let mut written = 0;
    while reader.next_row() < HEIGHT {
        reader.read_unit_rows(&mut row).unwrap();
        let mut wide = Vec::with_capacity(row.len() * 4);
        for pixel in row.as_chunks::<3>().0 {
            wide.extend(pixel.iter().cycle().take(12));
        }
        let samples = finish.rows(writer.next_row(), &wide.repeat(4)).unwrap();
        writer.push_samples(&samples).unwrap();
        written += writer.take().len();
    }
    let Finished { head, tail } = writer.finish().unwrap();
    written += head.len() + tail.len();
    assert!(written > 20 << 20, "{written} bytes");
    if let (Some(before), Some(after)) = (before, peak_kib()) {
        let grown = after - before;
        println!("grew by {grown} KiB for {written} bytes");
        assert!(grown < GROWTH_LIMIT_KIB, "grew by {grown} KiB");
    }
}
