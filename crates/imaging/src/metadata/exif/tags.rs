//! Numbers of TIFF and EXIF: tags that are looked at, and types of values.

pub(crate) const ORIENTATION: u16 = 274;
pub(crate) const X_RESOLUTION: u16 = 282;
pub(crate) const Y_RESOLUTION: u16 = 283;
pub(crate) const RESOLUTION_UNIT: u16 = 296;
pub(crate) const SOFTWARE: u16 = 305;
pub(crate) const XMP: u16 = 700;
pub(crate) const IPTC: u16 = 33_723;
pub(crate) const PHOTOSHOP: u16 = 34_377;
pub(crate) const EXIF_DIRECTORY: u16 = 34_665;
pub(crate) const GPS_DIRECTORY: u16 = 34_853;
pub(crate) const INTEROP_DIRECTORY: u16 = 40_965;

pub(super) const MAKER_NOTE: u16 = 37_500;
pub(super) const SUBJECT_AREA: u16 = 37_396;
pub(super) const SUBJECT_LOCATION: u16 = 41_492;
pub(super) const COMPRESSED_BITS: u16 = 37_122;
pub(super) const PIXEL_X_DIMENSION: u16 = 40_962;
pub(super) const PIXEL_Y_DIMENSION: u16 = 40_963;
pub(super) const FOCAL_PLANE_X_RESOLUTION: u16 = 41_486;
pub(super) const FOCAL_PLANE_Y_RESOLUTION: u16 = 41_487;

/// What a signed history of other bytes is called.
pub(in crate::metadata) const CONTENT_CREDENTIALS: &str = "content credentials (C2PA)";

pub(crate) const ASCII: u16 = 2;
pub(crate) const SHORT: u16 = 3;
pub(crate) const LONG: u16 = 4;
pub(crate) const RATIONAL: u16 = 5;
pub(crate) const UNDEFINED: u16 = 7;

/// Bytes in one value of a type, and in what is swapped when the byte order is: half of a fraction.
pub(super) fn sizes(kind: u16) -> Option<(usize, usize)> {
    Some(match kind {
        // BYTE, ASCII, SBYTE, UNDEFINED, and UTF-8 of EXIF 3.
        1 | 2 | 6 | 7 | 129 => (1, 1),
        // SHORT, SSHORT.
        3 | 8 => (2, 2),
        // LONG, SLONG, FLOAT, IFD.
        4 | 9 | 11 | 13 => (4, 4),
        // RATIONAL, SRATIONAL.
        5 | 10 => (8, 4),
        // DOUBLE. The types of BigTIFF, 16 to 18, are not those of EXIF.
        12 => (8, 8),
        _ => return None,
    })
}

/// Whether a tag of the main directory says how these very pixels are stored, and would be wrong or is
/// written anew for other pixels. What it names of scenes, people and machines is kept.
pub(super) fn is_of_the_pixels(tag: u16) -> bool {
    matches!(
        tag,
        // Sizes, layout, compression, places of strips.
        254..=266 | 273 | 277..=281 | 284 | 288..=293 | 297
        // Transfer curves, predictor, primaries, palettes, tiles, SubIFDs, inks, samples, tables.
        | 301 | 317..=347 | 351 | 400..=435 | 512..=521 | 529..=532 | 559
        // Colour filter arrays, geography by pixel, layers, DNG.
        | 33_421 | 33_422 | 33_550 | 33_922 | 34_264 | 34_735..=34_737 | 37_724 | 42_112 | 42_113
        | 50_255 | 50_706..=52_551
        // Blocks with a place of their own.
        | XMP | IPTC | PHOTOSHOP | 34_675 | EXIF_DIRECTORY | GPS_DIRECTORY | INTEROP_DIRECTORY
        // What is written anew.
        | ORIENTATION | X_RESOLUTION | Y_RESOLUTION | RESOLUTION_UNIT
    )
}

/// What a tag of the main directory holds that other pixels make wrong and nothing replaces, by name.
pub(super) fn left_behind(tag: u16) -> Option<&'static str> {
    Some(match tag {
        33_550 | 33_922 | 34_264 | 34_735 => "GeoTIFF",
        37_724 => "Photoshop layers",
        52_545 => CONTENT_CREDENTIALS,
        50_706..=52_551 => "settings of raw pictures (DNG)",
        _ => return None,
    })
}
