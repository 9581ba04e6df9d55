//! Suspended runs: another process goes on at the very tile, and no bit shows it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::ops::ControlFlow;

use invsr::{
    ColorFix, Fault, HandOver, Identity, ImageRows, Observer, Options, Progress, RgbImage, RowSink,
    Start, Stop, Upscale, UpscaleError,
};
use proptest::prelude::*;

fn picture(width: u32, height: u32) -> RgbImage {
    let count = width * height * 3;
    let data = (0..count).map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / 16_777_216.0);
    RgbImage::new(width, height, data.collect()).unwrap()
}

/// Checks that rows come once and in order.
#[derive(Default)]
struct Rows {
    stride: usize,
    bits: Vec<u32>,
}

impl RowSink for Rows {
    fn take(&mut self, first_row: u32, rows: &[f32]) -> Result<(), Stop> {
        assert_eq!(first_row as usize, self.bits.len() / self.stride);
        self.bits.extend(rows.iter().map(|value| value.to_bits()));
        Ok(())
    }
}

/// Wants the run to be suspended after so many questions.
struct After {
    questions: usize,
    /// Whether to give up the batch under way as well.
    at_once: bool,
}

impl Observer for After {
    fn progress(&mut self, _progress: Progress) -> ControlFlow<()> {
        let over = self.questions == 0;
        self.questions = self.questions.saturating_sub(1);
        if over && self.at_once {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }

    fn suspend(&mut self) -> bool {
        self.questions == 0
    }
}

/// Runs an image, suspended again and again, each time in bytes on the way to the next. Returns the
/// result's bits, the tiles computed, and how often it was suspended.
fn in_pieces(
    image: &RgbImage,
    options: &Options,
    first_row: u32,
    questions: usize,
    at_once: bool,
) -> (Rows, usize, usize) {
    let stride = 12 * image.width as usize;
    let mut rows = Rows {
        stride,
        bits: vec![0; first_row as usize * stride],
    };
    let (mut start, mut computed, mut times) = (Start::Row(first_row), 0, 0);
    loop {
        let options = Options {
            tile_batch: (options.tile_batch + times) % 4 + 1,
            ..options.clone()
        };
        // One question at least is answered before each stop, or nothing would ever be done.
        let mut observer = After {
            questions: questions + usize::from(at_once),
            at_once,
        };
        let mut source = ImageRows::new(image);
        match Identity.upscale_rows(&mut source, start, &options, &mut rows, &mut observer) {
            Ok(spent) => return (rows, computed + spent.tiles, times),
            Err(UpscaleError::Suspended(left)) => {
                computed += left.computed();
                times += 1;
                let found = HandOver::from_bytes(&left.to_bytes()).unwrap();
                assert_eq!(found.next_row() as usize, rows.bits.len() / stride);
                start = Start::HandOver(Box::new(found));
            }
            Err(error) => panic!("{error}"),
        }
    }
}

const STREAMING: [ColorFix; 3] = [ColorFix::None, ColorFix::Wavelet, ColorFix::YCbCr];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn suspended_anywhere_it_gives_the_same_bits_and_computes_no_tile_twice(
        width in 1u32..90,
        height in 1u32..150,
        half_overlap in 1u32..15,
        official in any::<bool>(),
        tile_batch in 0usize..4,
        fix in prop::sample::select(STREAMING.to_vec()),
        questions in 1usize..12,
        at_once in any::<bool>(),
        begin in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let overlap_px = (!official).then_some(2 * half_overlap);
        let options = Options { tile_px: 32, overlap_px, tile_batch, color_fix: fix, ..Options::default() };
        let image = picture(width, height);
        let first_row = u32::try_from(begin.map_or(0, |begin| begin.index(4 * height as usize))).unwrap();
        let whole = Options { tile_batch: 3, ..options.clone() };
        let whole = Identity.upscale(&image, &whole, &mut ()).unwrap();
        let (rows, computed, _) = in_pieces(&image, &options, first_row, questions, at_once);
        let unwanted = first_row as usize * rows.stride;
        let wanted = whole.image.data[unwanted..].iter().map(|value| value.to_bits());
        prop_assert!(wanted.eq(rows.bits[unwanted..].iter().copied()));
        prop_assert!(computed <= whole.tiles);
        prop_assert!(first_row > 0 || computed == whole.tiles);
    }
}

#[test]
fn it_is_suspended_as_often_as_it_is_asked_to() {
    let options = Options {
        tile_px: 32,
        tile_batch: 1,
        ..Options::default()
    };
    let image = picture(200, 300);
    let (_, computed, times) = in_pieces(&image, &options, 0, 1, false);
    let plan = Identity.plan(200, 300, &options).unwrap();
    assert_eq!(computed, plan.tiles);
    assert!(times > 30, "{times} times for {} tiles", plan.tiles);
}

#[test]
fn what_belongs_to_another_run_is_refused() {
    let options = Options {
        tile_px: 32,
        ..Options::default()
    };
    let run = |image: &RgbImage, options: &Options, start| {
        let mut rows = Rows {
            stride: 12 * image.width as usize,
            bits: Vec::new(),
        };
        let mut observer = After {
            questions: 1,
            at_once: false,
        };
        let mut source = ImageRows::new(image);
        Identity.upscale_rows(&mut source, start, options, &mut rows, &mut observer)
    };
    let image = picture(200, 100);
    let stopped = run(&image, &options, Start::Row(0)).unwrap_err();
    assert_eq!(stopped.fault(), Fault::Cancelled);
    let UpscaleError::Suspended(left) = stopped else {
        panic!("{stopped}");
    };
    let other_fix = Options {
        color_fix: ColorFix::None,
        ..options.clone()
    };
    let other_overlap = Options {
        overlap_px: Some(8),
        ..options.clone()
    };
    for (image, options) in [
        (&picture(201, 100), &options),
        (&image, &other_fix),
        (&image, &other_overlap),
    ] {
        let refused = run(image, options, Start::HandOver(left.clone())).unwrap_err();
        assert!(matches!(refused, UpscaleError::HandOver), "{refused}");
    }
    let bytes = left.to_bytes();
    assert!(HandOver::from_bytes(&bytes[..bytes.len() - 1]).is_none());
}

/// Its mean is known at the end only: such a run is cancelled, not suspended.
#[test]
fn a_fix_that_does_not_stream_is_never_suspended() {
    let options = Options {
        tile_px: 32,
        color_fix: ColorFix::AdaIn,
        ..Options::default()
    };
    let image = picture(200, 100);
    let mut rows = Rows {
        stride: 2400,
        bits: Vec::new(),
    };
    let mut observer = After {
        questions: 2,
        at_once: true,
    };
    let mut source = ImageRows::new(&image);
    let stopped = Identity.upscale_rows(
        &mut source,
        Start::Row(0),
        &options,
        &mut rows,
        &mut observer,
    );
    assert!(matches!(stopped, Err(UpscaleError::Cancelled)));
}

/// In the middle of a row of tiles of 128 px, where most is held.
#[test]
fn what_is_left_grows_with_the_width_alone() {
    let size = |width, height| {
        let image = picture(width, height);
        let mut rows = Rows {
            stride: 12 * width as usize,
            bits: Vec::new(),
        };
        let options = Options {
            tile_batch: 1,
            ..Options::default()
        };
        let tiles_a_row = Identity.plan(width, 128, &options).unwrap().tiles;
        let mut observer = After {
            questions: 3 * tiles_a_row - 1,
            at_once: false,
        };
        let mut source = ImageRows::new(&image);
        let stopped = Identity.upscale_rows(
            &mut source,
            Start::Row(0),
            &options,
            &mut rows,
            &mut observer,
        );
        match stopped {
            Err(UpscaleError::Suspended(left)) => left.to_bytes().len(),
            other => panic!("{other:?}"),
        }
    };
    let (low, high) = (size(416, 416), size(416, 608));
    assert_eq!(low, high);
    assert!(low < 35_000 * 416, "{} bytes a pixel", low / 416);
    assert!(low > 20_000 * 416, "{} bytes a pixel", low / 416);
}
