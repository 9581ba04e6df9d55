//! TIFF in `YCbCr` that is not JPEG: the colours that libtiff reads (`make_files.py`).

use imaging::{Limits, decode};

macro_rules! file {
    ($name:literal) => {
        (
            $name,
            include_bytes!(concat!($name, ".tif")).as_slice(),
            include_bytes!(concat!($name, ".rgb")).as_slice(),
        )
    };
}

/// Name, file, libtiff's reading.
const FILES: [(&str, &[u8], &[u8]); 5] = [
    file!("full"),
    file!("lzw"),
    file!("packbits"),
    file!("deflate"),
    file!("tiles"),
];

#[test]
fn the_colours_are_those_that_libtiff_reads() {
    for (name, file, expected) in FILES {
        let found = decode(file, &Limits::default()).unwrap();
        assert_eq!((found.info.width, found.info.height), (37, 21), "{name}");
        assert_eq!(found.pixels.rgb.len(), expected.len(), "{name}");
        let pairs = found.pixels.rgb.iter().zip(expected);
        let worst = pairs.map(|(ours, theirs)| ours.abs_diff(*theirs)).max();
        // libtiff scales chroma of a narrow range to whole numbers first.
        let most = if name == "tiles" { 3 } else { 1 };
        assert!(worst <= Some(most), "{name}: {worst:?} levels off");
    }
}

#[test]
fn a_file_that_is_cut_off_is_refused() {
    for (name, file, _) in FILES {
        let third = &file[..file.len() / 3];
        assert!(decode(third, &Limits::default()).is_err(), "{name}");
    }
}
