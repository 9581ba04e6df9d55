//! The entries of a TIFF directory that say something beside the pixels.

use super::tiff_entries::Entry;
use crate::metadata::{Exif, Field, Metadata, tags};

/// Appends what `metadata` says, in no order.
pub(super) fn append(metadata: &Metadata, entries: &mut Vec<Entry>) {
    append_resolution(metadata, entries);
    if let Some(exif) = &metadata.exif {
        append_exif(exif, entries);
    }
    // Type 1 is BYTE, which is what XMP has in TIFF.
    let blocks = [
        (tags::XMP, 1, &metadata.xmp),
        (tags::IPTC, tags::UNDEFINED, &metadata.iptc),
    ];
    for (tag, kind, block) in blocks {
        if let Some(block) = block {
            entries.push(Entry::new(tag, kind, block.len(), block.clone()));
        }
    }
}

/// A TIFF must have a resolution: where none is known, square pixels of no particular size.
fn append_resolution(metadata: &Metadata, entries: &mut Vec<Entry>) {
    let (x, y, unit) = metadata
        .resolution
        .map_or(((1, 1), (1, 1), 1), |resolution| {
            (resolution.x, resolution.y, resolution.unit.tag())
        });
    entries.extend([
        Entry::rational(tags::X_RESOLUTION, x),
        Entry::rational(tags::Y_RESOLUTION, y),
        Entry::short(tags::RESOLUTION_UNIT, &[unit]),
    ]);
}

fn append_exif(exif: &Exif, entries: &mut Vec<Entry>) {
    let written = |fields: &[Field]| -> Vec<Entry> {
        let entries = fields.iter().map(|field| {
            let (count, data) = field.little_endian(exif.big_endian);
            Entry::new(field.tag, field.kind, count, data)
        });
        entries.collect()
    };
    entries.extend(written(&exif.image));
    let mut photo = written(&exif.photo);
    if !exif.interop.is_empty() {
        photo.push(Entry::directory(
            tags::INTEROP_DIRECTORY,
            written(&exif.interop),
        ));
        photo.sort_by_key(|entry| entry.tag);
    }
    for (tag, directory) in [
        (tags::EXIF_DIRECTORY, photo),
        (tags::GPS_DIRECTORY, written(&exif.gps)),
    ] {
        if !directory.is_empty() {
            entries.push(Entry::directory(tag, directory));
        }
    }
}
