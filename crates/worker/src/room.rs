//! Room: how much of the machine the engine may take, and what the rest of the worker takes beside it.

use invsr::MemoryLimit;

/// The runtime, the clients of store and broker, logs.
const WORKER: u64 = 64 << 20;
/// Of a job in flight: bands that wait, parts on their way to the store.
const A_JOB: u64 = 32 << 20;

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
///
/// - `picture`: what lies in memory whole of the page that takes most,
///   [`Reader::held_bytes`](imaging::Reader::held_bytes).
pub(crate) fn held_beside_the_engine(picture: u64, jobs_in_flight: usize) -> u64 {
    WORKER + jobs_in_flight as u64 * (A_JOB + picture)
}

#[cfg(test)]
mod tests {
    use imaging::{EncodeOptions, Format, Limits, Pixels, Reader};

    use super::*;

    #[test]
    fn what_lies_in_memory_whole_counts_for_each_job_in_flight() {
        let pixels = Pixels::gray(1000, 1000, &[7; 1_000_000]);
        let held = |from, to, jobs| {
            let file = imaging::encode(&pixels, &EncodeOptions::new(from)).unwrap();
            let reader = Reader::from_bytes(&file, &Limits::default()).unwrap();
            let picture = reader.held_bytes(&reader.encode_like(Some(to)));
            let held = held_beside_the_engine(picture, jobs);
            (held, file.len() as u64)
        };
        let (rows, _) = held(Format::Png, Format::Tiff, 2);
        let (whole, file_bytes) = held(Format::Jpeg, Format::Tiff, 2);
        assert_eq!(whole, rows + 2 * (3_000_000 + file_bytes));
        let (result, _) = held(Format::Png, Format::WebP, 1);
        assert_eq!(result, rows - A_JOB + 96_000_000);
    }
}
