//! Any bytes have a format or a reason, and the header of a file is read within limits.
#![no_main]

use imaging::Limits;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let sniffed = imaging::sniff(bytes);
    let probed = imaging::probe(bytes, &Limits::default());
    if let Ok(info) = probed {
        assert!(sniffed.is_ok(), "what is read has a format");
        assert!(info.width > 0 && info.height > 0, "what is read has pixels");
    }
});
