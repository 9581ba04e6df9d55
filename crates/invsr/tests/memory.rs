//! Memory does not grow with the image's height. A program of its own with a single test, because
//! the peak is the process's.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;

use invsr::{ColorFix, Identity, Options, RowSink, RowSource, Start, Stop, Upscale};

const WIDTH: u32 = 500;

/// A generated image of any height.
struct Generated {
    height: u32,
    next: u32,
}

impl RowSource for Generated {
    fn width(&self) -> u32 {
        WIDTH
    }

    fn height(&self) -> u32 {
        self.height
    }

    fn read_row(&mut self, row: &mut [f32]) -> Result<(), Stop> {
        for (x, value) in (0u32..).zip(row) {
            let wave = x.wrapping_mul(7) ^ self.next.wrapping_mul(13);
            *value = (wave % 256) as f32 / 255.0;
        }
        self.next += 1;
        Ok(())
    }
}

/// Looks at every value, keeps none.
#[derive(Default)]
struct Looked {
    rows: usize,
    outside: usize,
}

impl RowSink for Looked {
    fn take(&mut self, first_row: u32, rows: &[f32]) -> Result<(), Stop> {
        assert_eq!(first_row as usize, self.rows);
        self.rows += rows.len() / (12 * WIDTH as usize);
        self.outside += rows.iter().filter(|v| !(0.0..=1.0).contains(*v)).count();
        Ok(())
    }
}

/// The most memory that this process ever had, in bytes.
fn peak() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kilobytes = line.unwrap().split_whitespace().nth(1).unwrap();
    kilobytes.parse::<usize>().unwrap() * 1024
}

#[test]
fn the_height_of_an_image_costs_no_memory() {
    let options = Options {
        overlap_px: Some(16),
        color_fix: ColorFix::Wavelet,
        ..Options::default()
    };
    let run = |height| {
        let mut looked = Looked::default();
        let mut source = Generated { height, next: 0 };
        Identity
            .upscale_rows(&mut source, Start::Row(0), &options, &mut looked, &mut ())
            .unwrap();
        assert_eq!((looked.rows, looked.outside), (4 * height as usize, 0));
    };
    let before = peak();
    run(1_000);
    let low = peak() - before;
    run(10_000);
    let high = peak() - before;
    let image = 16 * 10_000 * WIDTH as usize * 3 * size_of::<f32>();
    println!("{low} bytes for 1,000 rows, {high} for 10,000, whose result has {image}");
    assert!(high < 96 << 20, "{high}");
    assert!(high < low + (8 << 20), "{high} after {low}");
    assert!(image > 8 * high);
}
