//! Bands: that cutting an image into them, or beginning in its middle, shows in no bit; that no more
//! is read than is needed; that source and sink can end the work.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::cell::Cell;
use std::path::Path;
use std::sync::OnceLock;

use invsr::{
    ColorFix, DeviceSpec, Dtype, Fault, Identity, ImageRows, InvSr, Options, Progress, RgbImage,
    RowSink, RowSource, Schedule, Size, Spent, Start, Stop, Upscale, UpscaleError,
    write_random_model,
};
use proptest::prelude::*;
use tempfile::TempDir;

fn picture(width: u32, height: u32) -> RgbImage {
    let count = width * height * 3;
    let data = (0..count).map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / 16_777_216.0);
    RgbImage::new(width, height, data.collect()).unwrap()
}

fn quarter() -> InvSr {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        write_random_model(Size::Quarter, 7, folder.path()).unwrap();
        folder
    });
    let folder: &Path = folder.path();
    InvSr::load(folder, &DeviceSpec::Cpu, Dtype::F32).unwrap()
}

/// Keeps rows and where each band began.
#[derive(Default)]
struct Bands {
    begins: Vec<u32>,
    rows: Vec<u32>,
}

impl RowSink for Bands {
    fn take(&mut self, first_row: u32, rows: &[f32]) -> Result<(), Stop> {
        self.begins.push(first_row);
        self.rows.extend(rows.iter().map(|value| value.to_bits()));
        Ok(())
    }
}

fn from_row(
    model: &mut dyn Upscale,
    image: &RgbImage,
    first_row: u32,
    options: &Options,
) -> (Bands, Spent) {
    let mut bands = Bands::default();
    let mut source = ImageRows::new(image);
    let spent = model
        .upscale_rows(
            &mut source,
            Start::Row(first_row),
            options,
            &mut bands,
            &mut (),
        )
        .unwrap();
    (bands, spent)
}

/// Runs whole, then from every resume point that the whole run announced and from `also`.
fn resumes_with_the_same_bits(
    model: &mut dyn Upscale,
    image: &RgbImage,
    options: &Options,
    also: &[u32],
) {
    let whole = model.upscale(image, options, &mut ()).unwrap();
    let whole_bits: Vec<u32> = whole.image.data.iter().map(|v| v.to_bits()).collect();
    let stride = 3 * whole.image.width as usize;
    let (bands, spent) = from_row(model, image, 0, options);
    assert!(bands.rows == whole_bits);
    assert_eq!(
        (spent.tiles, spent.tile_steps),
        (whole.tiles, whole.tile_steps)
    );
    for &first_row in bands.begins.iter().chain(also) {
        // Other numbers, since the worker that goes on may have another device or less memory.
        let options = Options {
            tile_batch: options.tile_batch % 3 + 1,
            band_rows: 5 + options.band_rows % 9,
            ..options.clone()
        };
        let (resumed, spent) = from_row(model, image, first_row, &options);
        assert_eq!(resumed.begins[0], first_row);
        let wanted = &whole_bits[first_row as usize * stride..];
        assert!(resumed.rows == wanted, "from row {first_row}");
        assert!(spent.tiles <= whole.tiles);
    }
}

const FIXES: [ColorFix; 4] = [
    ColorFix::None,
    ColorFix::Wavelet,
    ColorFix::AdaIn,
    ColorFix::YCbCr,
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn any_cut_gives_the_same_bits(
        width in 1u32..70,
        height in 1u32..150,
        tile in 1u32..4,
        half_overlap in 1u32..18,
        official in any::<bool>(),
        tile_batch in 1usize..6,
        fix in prop::sample::select(FIXES.to_vec()),
        begin in any::<prop::sample::Index>(),
    ) {
        let tile_px = 16 * tile;
        let overlap_px = (!official).then(|| 2 * half_overlap.min(3 * tile_px / 8));
        let options = Options { tile_px, overlap_px, tile_batch, color_fix: fix, ..Options::default() };
        let also = u32::try_from(begin.index(4 * height as usize)).unwrap();
        resumes_with_the_same_bits(&mut Identity, &picture(width, height), &options, &[also]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3))]

    /// The networks add noise that is keyed by tile; resumed tiles must get their own.
    #[test]
    fn the_model_goes_on_where_it_was(height in 20u32..44, overlap in 1u32..8, fix in 0usize..2) {
        let options = Options {
            schedule: Schedule::new(&[200]).unwrap(),
            tile_px: 16,
            overlap_px: Some(2 * overlap.min(4)),
            color_fix: FIXES[fix],
            ..Options::default()
        };
        resumes_with_the_same_bits(&mut quarter(), &picture(17, height), &options, &[]);
    }
}

#[test]
fn the_identity_engine_gives_the_picture_back() {
    let flat = RgbImage::new(90, 70, [0.2, 0.5, 0.9].repeat(90 * 70)).unwrap();
    for overlap_px in [None, Some(4), Some(30)] {
        let options = Options {
            tile_px: 32,
            overlap_px,
            ..Options::default()
        };
        let large = Identity.upscale(&flat, &options, &mut ()).unwrap().image;
        assert_eq!((large.width, large.height), (360, 280));
        for (found, wanted) in large.data.iter().zip([0.2, 0.5, 0.9].iter().cycle()) {
            assert!((found - wanted).abs() < 1e-5, "{found} for {wanted}");
        }
    }
}

/// Counts what is asked of it, and may fail.
struct Counted<'a> {
    rows: ImageRows<'a>,
    skipped: u32,
    read: &'a Cell<u32>,
    fail_at: Option<u32>,
}

impl RowSource for Counted<'_> {
    fn width(&self) -> u32 {
        self.rows.width()
    }

    fn height(&self) -> u32 {
        self.rows.height()
    }

    fn read_row(&mut self, row: &mut [f32]) -> Result<(), Stop> {
        if self.fail_at == Some(self.read.get()) {
            return Err(std::io::Error::other("the file ends here").into());
        }
        self.read.set(self.read.get() + 1);
        self.rows.read_row(row)
    }

    fn skip(&mut self, rows: u32) -> Result<(), Stop> {
        self.skipped += rows;
        self.rows.skip(rows)
    }
}

/// Notes how many input rows had been read when a band came; may stop.
struct Prompt<'a> {
    read: &'a Cell<u32>,
    ends: Vec<(u32, u32)>,
    stride: usize,
    stop: fn(u32) -> Result<(), Stop>,
}

impl RowSink for Prompt<'_> {
    fn take(&mut self, first_row: u32, rows: &[f32]) -> Result<(), Stop> {
        (self.stop)(first_row)?;
        let rows = u32::try_from(rows.len() / self.stride).unwrap();
        self.ends.push((first_row + rows, self.read.get()));
        Ok(())
    }
}

fn options_of_32(color_fix: ColorFix) -> Options {
    Options {
        tile_px: 32,
        overlap_px: Some(8),
        tile_batch: 1,
        color_fix,
        ..Options::default()
    }
}

#[test]
fn rows_come_as_soon_as_no_tile_can_touch_them() {
    let (image, read) = (picture(80, 32 + 24 * 9), Cell::new(0));
    for (fix, context) in [(ColorFix::None, 0), (ColorFix::Wavelet, 31)] {
        read.set(0);
        let rows = ImageRows::new(&image);
        let mut source = Counted {
            rows,
            skipped: 0,
            read: &read,
            fail_at: None,
        };
        let stop = |_| Ok(());
        let mut sink = Prompt {
            read: &read,
            ends: Vec::new(),
            stride: 960,
            stop,
        };
        Identity
            .upscale_rows(
                &mut source,
                Start::Row(0),
                &options_of_32(fix),
                &mut sink,
                &mut (),
            )
            .unwrap();
        // After a row of tiles has been read, rows are final down to where the next row begins.
        for tile_row in 0..9 {
            let known = sink
                .ends
                .iter()
                .filter(|(_, read)| *read <= 32 + 24 * tile_row);
            let last = known.map(|(end, _)| *end).max().unwrap();
            assert_eq!(last, 4 * 24 * (tile_row + 1) - context, "{fix}, {tile_row}");
        }
    }
}

#[test]
fn a_resumed_run_reads_and_computes_only_what_it_needs() {
    let (image, read) = (picture(80, 32 + 24 * 9), Cell::new(0));
    let rows = ImageRows::new(&image);
    let mut source = Counted {
        rows,
        skipped: 0,
        read: &read,
        fail_at: None,
    };
    let mut bands = Bands::default();
    let options = options_of_32(ColorFix::Wavelet);
    // What was handed over after the sixth row of tiles.
    let first_row = 4 * 24 * 6 - 31;
    let spent = Identity
        .upscale_rows(
            &mut source,
            Start::Row(first_row),
            &options,
            &mut bands,
            &mut (),
        )
        .unwrap();
    // The sixth is done again for the fix's context: rows of it show in the rows wanted.
    let plan = Identity.plan(80, image.height, &options).unwrap();
    assert_eq!(spent.tiles, plan.tiles - 5 * 3);
    assert_eq!(source.skipped, 24 * 5);
    assert_eq!(read.get(), image.height - 24 * 5);
}

#[test]
fn source_and_sink_can_end_the_work() {
    let (image, read) = (picture(80, 100), Cell::new(0));
    let run = |fail_at, stop| {
        read.set(0);
        let rows = ImageRows::new(&image);
        let mut source = Counted {
            rows,
            skipped: 0,
            read: &read,
            fail_at,
        };
        let mut sink = Prompt {
            read: &read,
            ends: Vec::new(),
            stride: 960,
            stop,
        };
        let options = options_of_32(ColorFix::Wavelet);
        Identity.upscale_rows(&mut source, Start::Row(0), &options, &mut sink, &mut ())
    };
    let failed = run(Some(50), |_| Ok(())).unwrap_err();
    assert_eq!(failed.fault(), Fault::Caller);
    let UpscaleError::Source(cause) = failed else {
        panic!("{failed}");
    };
    assert_eq!(cause.to_string(), "the file ends here");
    let failed = run(None, |row| {
        if row > 0 {
            Err(std::fmt::Error.into())
        } else {
            Ok(())
        }
    });
    assert!(matches!(failed, Err(UpscaleError::Sink(_))));
    let stopped = run(None, |_| Err(Stop::Cancelled)).unwrap_err();
    assert!(matches!(stopped, UpscaleError::Cancelled));
    assert!(run(None, |_| Ok(())).is_ok());
}

#[test]
fn progress_goes_on_where_it_was() {
    #[derive(Default)]
    struct Heard(Vec<Progress>);
    impl invsr::Observer for Heard {
        fn progress(&mut self, progress: Progress) -> std::ops::ControlFlow<()> {
            self.0.push(progress);
            std::ops::ControlFlow::Continue(())
        }
    }
    let image = picture(80, 128);
    let mut heard = Heard::default();
    let options = options_of_32(ColorFix::None);
    Identity
        .upscale_rows(
            &mut ImageRows::new(&image),
            Start::Row(300),
            &options,
            &mut Bands::default(),
            &mut heard,
        )
        .unwrap();
    let plan = Identity.plan(80, 128, &options).unwrap();
    assert_eq!(heard.0[0].tiles_done, 2 * 3);
    assert_eq!(heard.0[heard.0.len() - 1].tiles_done, plan.tiles);
    assert!(heard.0.iter().all(|heard| heard.tiles_total == plan.tiles));
}

#[test]
fn what_cannot_be_is_refused_in_a_sentence() {
    let refusal = |first_row, tile_px, overlap_px| {
        let options = Options {
            tile_px,
            overlap_px,
            ..Options::default()
        };
        let image = picture(40, 30);
        let mut source = ImageRows::new(&image);
        let refused = Identity
            .upscale_rows(
                &mut source,
                Start::Row(first_row),
                &options,
                &mut Bands::default(),
                &mut (),
            )
            .unwrap_err();
        assert_eq!(refused.fault(), Fault::Input);
        refused.to_string()
    };
    assert_eq!(
        refusal(120, 32, None),
        "row 120 is not in the result, which has 120 rows"
    );
    let overlap = |overlap_px| refusal(0, 32, Some(overlap_px));
    let sentence =
        "an overlap of 32 px does not fit tiles of 32 px: use a multiple of 2 px, less than a tile";
    assert_eq!(overlap(32), sentence);
    for wrong in [0, 7, 33, u32::MAX] {
        overlap(wrong);
    }
}
