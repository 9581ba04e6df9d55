//! Which properties of XMP are not true of a result.

const TIFF: &[u8] = b"http://ns.adobe.com/tiff/1.0/";
const EXIF: &[u8] = b"http://ns.adobe.com/exif/1.0/";
const XMP: &[u8] = b"http://ns.adobe.com/xap/1.0/";
const XMP_NOTE: &[u8] = b"http://ns.adobe.com/xmp/note/";
const DIMENSIONS: &[u8] = b"http://ns.adobe.com/xap/1.0/sType/Dimensions#";
const REGIONS: &[u8] = b"http://www.metadataworkinggroup.com/schemas/regions/";
const MICROSOFT_PHOTO: &[u8] = b"http://ns.microsoft.com/photo/1.2/";
pub(super) const IPTC_EXT: &[u8] = b"http://iptc.org/std/Iptc4xmpExt/2008-02-29/";
/// The namespace of our own properties; described in `docs/provenance.md`.
pub(super) const UPRES: &[u8] = b"urn:upres:provenance:1:";

/// Whether a property is one of GPS, in EXIF's or a maker's namespace: drones have some of their own.
pub(super) fn names_a_place(name: &[u8]) -> bool {
    name.windows(3)
        .any(|word| word.eq_ignore_ascii_case(b"gps"))
}

/// Whether a property says what is not true of a result, or says what is said anew.
pub(super) fn is_outdated(namespace: &[u8], local: &[u8], labelled: bool) -> bool {
    match namespace {
        TIFF => matches!(
            local,
            b"ImageWidth"
                | b"ImageLength"
                | b"Orientation"
                | b"XResolution"
                | b"YResolution"
                | b"ResolutionUnit"
                | b"BitsPerSample"
                | b"Compression"
                | b"SamplesPerPixel"
                | b"PhotometricInterpretation"
                | b"PlanarConfiguration"
                | b"YCbCrSubSampling"
                | b"YCbCrPositioning"
                | b"NativeDigest"
        ),
        EXIF => matches!(
            local,
            b"PixelXDimension"
                | b"PixelYDimension"
                | b"CompressedBitsPerPixel"
                | b"SubjectArea"
                | b"SubjectLocation"
                | b"FocalPlaneXResolution"
                | b"FocalPlaneYResolution"
                | b"FocalPlaneResolutionUnit"
                | b"NativeDigest"
        ),
        XMP => local == b"Thumbnails",
        XMP_NOTE => local == b"HasExtendedXMP",
        IPTC_EXT => labelled && local == b"DigitalSourceType",
        UPRES => labelled,
        _ => false,
    }
}

/// Whether a property marks regions, such as faces, by shares of the picture's sides: they hold for a larger picture,
/// and not for one that was turned.
pub(super) fn marks_regions(namespace: &[u8], local: &[u8]) -> bool {
    match namespace {
        REGIONS => local == b"Regions",
        MICROSOFT_PHOTO => local == b"RegionInfo",
        IPTC_EXT => local == b"ImageRegion",
        _ => false,
    }
}

/// Whether IPTC's regions are marked in pixels, and not in shares as others are.
pub(super) fn marks_pixels(packet: &str) -> bool {
    let mut units = packet.match_indices("rbUnit");
    units.any(|(at, unit)| {
        let value = packet[at + unit.len()..].trim_start_matches(['>', '=', '"', '\'', ' ', '\n']);
        value.starts_with("pixel")
    })
}

/// Whether a part of marked regions is the size of their picture.
pub(super) fn is_size(namespace: &[u8], local: &[u8]) -> bool {
    namespace == REGIONS && local == b"AppliedToDimensions"
}

/// Whether a part of a size is one of its two sides.
pub(super) fn is_side(namespace: &[u8], local: &[u8]) -> bool {
    namespace == DIMENSIONS && matches!(local, b"w" | b"h")
}

/// A side of the result, in pixels; what is no number stays.
pub(super) fn scaled(side: &str, scale: u32) -> String {
    match side.trim().parse::<f64>() {
        Ok(side) if side.is_finite() => (side * f64::from(scale)).to_string(),
        _ => side.to_owned(),
    }
}
