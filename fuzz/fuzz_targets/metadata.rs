//! What a file says is carried to a result of every format, which reads back.
#![no_main]

use imaging::{Change, EncodeOptions, Format, Limits, Pixels, Provenance, Reader};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(reader) = Reader::from_bytes(bytes, &Limits::default()) else {
        return;
    };
    let provenance = Provenance {
        software: "fuzz".to_owned(),
        model: "none".to_owned(),
        model_digest: None,
        timesteps: vec![200],
        seed: 1,
        color_fix: "none".to_owned(),
        tile: 128,
        overlap: 32,
        guidance: 1.0,
    };
    for format in Format::ALL {
        let carried = reader.metadata().for_result(&Change {
            format,
            width: 4,
            height: 4,
            scale: 4,
            strip_gps: bytes.len().is_multiple_of(2),
            provenance: Some(&provenance),
        });
        let options = EncodeOptions {
            metadata: carried.metadata,
            ..EncodeOptions::new(format)
        };
        let file = imaging::encode(&Pixels::gray(4, 4, &[9; 16]), &options);
        let file = file.expect("what is carried can be written");
        let again = Reader::from_bytes(&file, &Limits::default()).expect("what is written is read");
        assert!(again.metadata().blocks().contains(&"XMP"), "it says what was done");
    }
});
