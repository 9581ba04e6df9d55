//! Same job, same bytes, with networks: whatever the batch, whatever was done before, and whoever goes on.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{LazyLock, Mutex, MutexGuard};

use invsr::{
    ColorFix, DeviceSpec, Dtype, HandOver, ImageRows, InvSr, Observer, Options, Progress, RgbImage,
    RowSink, Schedule, Size, Start, Stop, Upscale, UpscaleError, write_random_model,
};
use proptest::prelude::*;

/// Two workers, and one that takes every job alone and from its beginning. All three have the jobs of other
/// cases behind them.
static WORKERS: LazyLock<Mutex<[InvSr; 3]>> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    write_random_model(Size::Tiny, 7, folder.path()).unwrap();
    let load = |path: &Path| InvSr::load(path, &DeviceSpec::Cpu, Dtype::F32).unwrap();
    Mutex::new([(); 3].map(|()| load(folder.path())))
});

fn workers() -> MutexGuard<'static, [InvSr; 3]> {
    WORKERS.lock().unwrap()
}

#[derive(Debug, Clone)]
struct Job {
    width: u32,
    height: u32,
    options: Options,
}

impl Job {
    fn image(&self) -> RgbImage {
        let count = self.width * self.height * 3;
        let value = |i: u32| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / 16_777_216.0;
        RgbImage::new(self.width, self.height, (0..count).map(value).collect()).unwrap()
    }
}

fn job() -> impl Strategy<Value = Job> {
    let schedules = [
        &[200][..],
        &[250, 100],
        &[100, 50, 1],
        &[250, 200, 150, 100, 50],
    ];
    let fixes = [
        ColorFix::None,
        ColorFix::Wavelet,
        ColorFix::YCbCr,
        ColorFix::AdaIn,
    ];
    (
        (1u32..56, 1u32..56),
        prop::sample::select(vec![16u32, 32]),
        prop::option::of(1u32..5),
        prop::sample::select(schedules.to_vec()),
        prop::sample::select(fixes.to_vec()),
        any::<u64>(),
        prop::sample::select(vec![1.0, 1.0, 4.0]),
    )
        .prop_map(
            |((width, height), tile_px, quarter, timesteps, color_fix, seed, guidance)| Job {
                width,
                height,
                options: Options {
                    tile_px,
                    overlap_px: quarter.map(|quarter| quarter * tile_px / 8 / 2 * 2),
                    schedule: Schedule::new(timesteps).unwrap(),
                    color_fix,
                    seed,
                    guidance,
                    ..Options::default()
                },
            },
        )
}

#[derive(Default)]
struct Rows(Vec<u32>);

impl RowSink for Rows {
    fn take(&mut self, _first_row: u32, rows: &[f32]) -> Result<(), Stop> {
        self.0.extend(rows.iter().map(|value| value.to_bits()));
        Ok(())
    }
}

/// Wants the run to be suspended after so many signs of progress.
struct After(usize);

impl Observer for After {
    fn progress(&mut self, _progress: Progress) -> ControlFlow<()> {
        self.0 = self.0.saturating_sub(1);
        ControlFlow::Continue(())
    }

    fn suspend(&mut self) -> bool {
        self.0 == 0
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10))]

    #[test]
    fn a_job_gives_the_same_bytes_in_any_company(
        job in job(),
        other in job(),
        batches in prop::collection::vec(1usize..5, 1..4),
        signs in 1usize..12,
    ) {
        let (mut workers, image) = (workers(), job.image());
        let [first, second, alone] = &mut *workers;
        let alone = alone.upscale(&image, &job.options, &mut ()).unwrap();
        let expected: Vec<_> = alone.image.data.iter().map(|value| value.to_bits()).collect();

        let (mut rows, mut start, mut times) = (Rows::default(), Start::Row(0), 0);
        loop {
            // Handed over in bytes, to a worker that did something else meanwhile and takes other batches.
            let worker = if times % 2 == 0 { &mut *first } else { &mut *second };
            if times < 2 {
                worker.upscale(&other.image(), &other.options, &mut ()).unwrap();
            }
            let options = Options { tile_batch: batches[times % batches.len()], ..job.options.clone() };
            let mut source = ImageRows::new(&image);
            match worker.upscale_rows(&mut source, start, &options, &mut rows, &mut After(signs)) {
                Ok(_) => break,
                Err(UpscaleError::Suspended(left)) => {
                    let found = HandOver::from_bytes(&left.to_bytes()).unwrap();
                    start = Start::HandOver(Box::new(found));
                    times += 1;
                }
                Err(error) => panic!("{error}"),
            }
        }
        prop_assert!(rows.0 == expected, "after {times} interruptions");
    }
}
