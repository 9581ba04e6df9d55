//! Room: how much of the machine the engine may take, and what the rest of the worker takes beside it.

use imaging::{Format, Info};
use invsr::MemoryLimit;

/// The runtime, the clients of store and broker, logs.
const WORKER: u64 = 64 << 20;
/// Of a job in flight: bands that wait, parts on their way to the store.
const A_JOB: u64 = 32 << 20;
/// The engine multiplies each side by this.
const SCALE: u64 = 4;

/// What the engine may take.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// Tiles at once, at most.
    pub tile_batch: usize,
    /// Main memory of the whole process.
    pub memory: MemoryLimit,
}

/// What the worker holds beside the engine while that works on a picture, in bytes, at most about. The
/// other jobs in flight are taken to be like this one.
pub(crate) fn held_beside_the_engine(info: &Info, to: Format, jobs_in_flight: usize) -> u64 {
    let pixels = u64::from(info.width) * u64::from(info.height);
    let decoder = match info.format {
        // Formats that know no rows lie in memory whole, samples and file.
        Format::Jpeg | Format::WebP => 4 * pixels,
        Format::Png | Format::Tiff => 0,
    };
    // Samples of the result, and the file that they become.
    let encoder = if to.streams() {
        0
    } else {
        2 * 3 * pixels * SCALE * SCALE
    };
    WORKER + jobs_in_flight as u64 * (A_JOB + decoder + encoder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_in_memory_whole_counts_for_each_job_in_flight() {
        let file = imaging::encode(
            &imaging::Pixels::gray(1000, 1000, &[7; 1_000_000]),
            &imaging::EncodeOptions::new(Format::Png),
        );
        let info = imaging::probe(&file.unwrap(), &imaging::Limits::default()).unwrap();
        let held = |from, to, jobs| {
            let info = Info {
                format: from,
                ..info.clone()
            };
            held_beside_the_engine(&info, to, jobs)
        };
        let rows = held(Format::Png, Format::Tiff, 2);
        assert_eq!(held(Format::Jpeg, Format::Tiff, 2), rows + 2 * 4_000_000);
        assert_eq!(
            held(Format::Png, Format::WebP, 1),
            rows - A_JOB + 96_000_000
        );
    }
}
