//! Any bytes are decoded or refused, page by page, with as many samples as the header says.
#![no_main]

use std::{io::Cursor, panic};

use imaging::{Limits, Reader};
use libfuzzer_sys::fuzz_target;

/// Small, so that an input that is refused late is still refused soon.
const LIMITS: Limits = Limits {
    max_pixels: 1_000_000,
    max_bytes: 1 << 20,
    max_side: 20_000,
    ..Limits::DEFAULT
};

fuzz_target!(
    // A codec may panic: `imaging` makes an error of it, and only what leaves `imaging` is a finding.
    init: panic::set_hook(Box::new(|_| {})),
    |bytes: &[u8]| {
        let file = || Box::new(Cursor::new(bytes));
        let pages = imaging::page_count(file(), &LIMITS).unwrap_or(0);
        // One page is decoded below.
        for page in (0..pages.min(3)).filter(|_| pages > 1) {
            if let Ok(reader) = Reader::open_page(file(), &LIMITS, page) {
                let _ = reader.verify();
            }
        }
        if let Ok(decoded) = imaging::decode(bytes, &LIMITS) {
            let pixels = u64::from(decoded.info.width) * u64::from(decoded.info.height);
            assert!(pixels <= LIMITS.max_pixels, "no more than the limit");
            assert_eq!(decoded.pixels.rgb.len() as u64, pixels * 3, "a sample for each");
        }
    }
);
