//! A thousand changed copies of each small test image: an answer each time, soon, in little memory.
//!
//! The images are not part of the repository; without them there is nothing to test here, and
//! `mutations.rs` does the same to files that it makes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    io::Cursor,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use imaging::{DecodeError, Limits, Reader, page_count};

const MUTATIONS: u32 = 1_000;
const LONGEST: Duration = Duration::from_secs(10);
/// Far below what a lying header asks for, far above what these pictures need.
const GROWTH_LIMIT_KIB: u64 = 512 * 1024;

const LIMITS: Limits = Limits {
    max_pixels: 1_000_000,
    max_bytes: 1 << 20,
    max_side: 10_000,
    ..Limits::DEFAULT
};

/// The most memory this process ever had resident, in KiB; `None` where the system does not tell.
fn peak_kib() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Marsaglia's xorshift, of 32 bits.
struct Random(u32);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        usize::try_from(self.0).unwrap() % limit.max(1)
    }

    fn byte(&mut self) -> u8 {
        self.below(256).to_le_bytes()[0]
    }
}

/// One to four changes: a byte, a bit, a number of four bytes, a cut, a piece left out or twice.
fn mutated(file: &[u8], random: &mut Random) -> Vec<u8> {
    let mut file = file.to_vec();
    for _ in 0..=random.below(4) {
        if file.is_empty() {
            break;
        }
        // Half of the changes near the beginning, where headers are.
        let reach = if random.below(2) == 0 {
            256
        } else {
            file.len()
        };
        let at = random.below(reach.min(file.len()));
        let end = (at + 1 + random.below(32)).min(file.len());
        match random.below(7) {
            0 => file[at] = random.byte(),
            1 => file[at] ^= 1 << random.below(8),
            2 => file[at..(at + 4).min(end)].fill(0xFF),
            3 => file[at..(at + 4).min(end)].fill(0),
            4 => drop(file.drain(at..end)),
            5 => {
                let copy = file[at..end].to_vec();
                file.splice(at..at, copy);
            }
            _ if random.below(8) == 0 => file.truncate(at),
            _ => file[at] = random.byte(),
        }
    }
    file
}

fn read(file: &[u8]) -> Result<(), DecodeError> {
    // A chain of directories that a mutation made long is not read to its end.
    for page in 0..page_count(Box::new(Cursor::new(file)), &LIMITS)?.min(4) {
        let mut reader = Reader::open_page(Box::new(Cursor::new(file)), &LIMITS, page)?;
        let mut rows = vec![0.0; reader.row_bytes() * 16];
        while reader.read_unit_rows(&mut rows)? > 0 {}
    }
    Ok(())
}

fn check(path: &Path) {
    let name = path.display();
    let file = fs::read(path).unwrap();
    let mut random = Random(2_463_534_242);
    for number in 0..MUTATIONS {
        let changed = mutated(&file, &mut random);
        let started = Instant::now();
        let answer = read(&changed);
        let took = started.elapsed();
        assert!(took < LONGEST, "{name} {number}: {took:?}");
        if let Err(error) = answer {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            let gave_up = cause.as_deref() == Some("the decoder gave up");
            assert!(!gave_up, "{name} {number}: a decoder panicked");
        }
    }
}

#[test]
fn every_change_to_an_edge_case_is_answered() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/edge");
    let Ok(entries) = fs::read_dir(folder) else {
        println!("skipped: the shared test images are not there");
        return;
    };
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let before = peak_kib();
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(path) = paths.get(next.fetch_add(1, Ordering::Relaxed)) {
            check(path);
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    if let (Some(before), Some(after)) = (before, peak_kib()) {
        let grown = after - before;
        assert!(grown < GROWTH_LIMIT_KIB, "grew by {grown} KiB");
        println!("{} files, grew by {grown} KiB", paths.len());
    }
}
