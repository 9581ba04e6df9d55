//! From what a source says to what its result says.

use super::{
    Exif, Field, Metadata, Provenance, Text,
    exif::Mend,
    provenance::Before,
    tags,
    xmp::{self, Addition, Mended},
    xmp_properties::names_a_place,
};
use crate::Format;

/// What became of a picture.
#[derive(Debug, Clone, Copy)]
pub struct Change<'a> {
    /// Of the result.
    pub format: Format,
    /// Of the result, in pixels.
    pub width: u32,
    /// Of the result, in pixels.
    pub height: u32,
    /// Result pixels for each of the source, in each direction.
    pub scale: u32,
    /// Leave out where the picture was taken.
    pub strip_gps: bool,
    /// What is recorded in the file; `None` records nothing and labels nothing.
    pub provenance: Option<&'a Provenance>,
}

/// What a result says, and what it cannot say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Carried {
    /// For [`EncodeOptions::metadata`](crate::EncodeOptions::metadata).
    pub metadata: Metadata,
    /// Sentences about what was left out.
    pub warnings: Vec<String>,
}

/// The longest block in a JPEG segment, behind the two bytes of its length.
const SEGMENT_BYTES: usize = 65_533;

impl Metadata {
    /// The keyword of a text is before its first zero byte.
    fn texts_for(&self, change: &Change<'_>) -> Vec<Text> {
        let keyword = |text: &Text| {
            text.data
                .split(|byte| *byte == 0)
                .next()
                .map(<[u8]>::to_vec)
        };
        let is_left_out = |text: &Text| {
            change.strip_gps && keyword(text).is_some_and(|word| names_a_place(&word))
        };
        self.texts
            .iter()
            .filter(|text| !is_left_out(text))
            .cloned()
            .collect()
    }

    /// The metadata of a result: mended where its pixels differ from the source's, and labelled.
    #[must_use]
    pub fn for_result(&self, change: &Change<'_>) -> Carried {
        let mut left_behind = self.left_behind.clone();
        let mut result = Self {
            exif: self.exif.clone(),
            resolution: self
                .resolution()
                .and_then(|resolution| resolution.times(change.scale)),
            iptc: self.iptc.clone(),
            comment: self.comment.clone(),
            texts: self.texts_for(change),
            ..Self::default()
        };
        if self.resolution.is_some() && result.resolution.is_none() {
            left_behind.push("the resolution, which is too large a number");
        }
        result.xmp = self.mended_xmp(change, &mut left_behind);
        if let Some(exif) = &mut result.exif {
            exif.mend(&Mend {
                width: change.width,
                height: change.height,
                scale: change.scale,
                turned: self.turned.at_all,
                strip_gps: change.strip_gps,
                software: change
                    .provenance
                    .map(|provenance| provenance.software.as_str()),
            });
        }
        result.fit(change.format, &mut left_behind);
        let warnings = if left_behind.is_empty() {
            Vec::new()
        } else {
            vec![format!(
                "not carried to the result: {}",
                left_behind.join(", ")
            )]
        };
        Carried {
            metadata: result,
            warnings,
        }
    }

    fn mended_xmp(
        &self,
        change: &Change<'_>,
        left_behind: &mut Vec<&'static str>,
    ) -> Option<Vec<u8>> {
        let addition = Addition {
            provenance: change.provenance,
            scale: change.scale,
            strip_gps: change.strip_gps,
            turned: self.turned.at_all,
        };
        let mut before = Before {
            software: self
                .exif
                .as_ref()
                .and_then(|exif| exif.text(tags::SOFTWARE)),
            resolution: self.resolution(),
            source_type: None,
        };
        if let Some(packet) = &self.xmp {
            match xmp::mend(packet, &addition, &mut before) {
                Ok(Mended {
                    packet,
                    lost_regions,
                }) if packet.len() <= most_xmp(change.format) => {
                    if lost_regions {
                        left_behind.push("marked regions, which are elsewhere in the result");
                    }
                    return Some(packet);
                }
                Ok(_) => left_behind.push("XMP, which is too long for the format"),
                Err(xmp::Unreadable) => left_behind.push("a damaged XMP packet"),
            }
        }
        change.provenance.map(|_| xmp::fresh(&addition, &before))
    }

    /// Leaves out what `format` cannot hold.
    fn fit(&mut self, format: Format, left_behind: &mut Vec<&'static str>) {
        if format != Format::Png && !std::mem::take(&mut self.texts).is_empty() {
            left_behind.push("texts");
        }
        if format != Format::Jpeg && self.comment.take().is_some() {
            left_behind.push("the comment");
        }
        match format {
            Format::Jpeg => self.fit_jpeg(left_behind),
            Format::WebP => {
                if self.iptc.take().is_some() {
                    left_behind.push("IPTC");
                }
                // It has no other place for the resolution.
                if self.resolution.is_some() {
                    self.exif.get_or_insert_with(upright);
                }
            }
            Format::Png | Format::Tiff => {}
        }
    }

    fn fit_jpeg(&mut self, left_behind: &mut Vec<&'static str>) {
        self.fit_exif(
            SEGMENT_BYTES - super::read_jpeg::EXIF_PREFIX.len(),
            left_behind,
        );
        let most = SEGMENT_BYTES - super::read_jpeg::PHOTOSHOP_PREFIX.len() - 16;
        if self.iptc.as_ref().is_some_and(|iptc| iptc.len() > most) {
            self.iptc = None;
            left_behind.push("IPTC, which is too long for jpeg");
        }
    }

    /// Makes the EXIF block fit into `most` bytes. The note of a camera's maker, and the gap that keeps it in its
    /// place, may be most of it: they go first.
    fn fit_exif(&mut self, most: usize, left_behind: &mut Vec<&'static str>) {
        let resolution = self.resolution;
        let is_too_long = |exif: &Exif| exif.to_block(resolution).len() > most;
        let Some(exif) = &mut self.exif else {
            return;
        };
        let mut lost = None;
        if is_too_long(exif) && exif.release_note() {
            lost = Some("the place of the maker's note, which is too far back for jpeg");
        }
        if is_too_long(exif) && exif.remove_note() {
            lost = Some("the maker's note, which is too long for jpeg");
        }
        if is_too_long(exif) {
            lost = Some("EXIF, which is too long for jpeg");
            self.exif = None;
        }
        left_behind.extend(lost);
    }
}

fn most_xmp(format: Format) -> usize {
    match format {
        Format::Jpeg => SEGMENT_BYTES - super::read_jpeg::XMP_PREFIX.len(),
        Format::Png | Format::Tiff | Format::WebP => usize::MAX,
    }
}

/// EXIF of a result whose source had none.
fn upright() -> Exif {
    let mut exif = Exif::default();
    let data = exif.short(1);
    exif.image.push(Field {
        tag: tags::ORIENTATION,
        kind: tags::SHORT,
        data,
    });
    exif
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::Turned;

    const DATE: u16 = 36_867;
    const NOTE: u16 = 37_500;
    const COMMENT: u16 = 37_510;

    const JPEG: Change<'static> = Change {
        format: Format::Jpeg,
        width: 64,
        height: 64,
        scale: 4,
        strip_gps: false,
        provenance: None,
    };

    /// An EXIF block with a date, a maker's note and a comment.
    fn block(note_at: usize, note_bytes: usize, comment_bytes: usize) -> Vec<u8> {
        const PHOTO_AT: usize = 26;
        const DATE_AT: usize = 100;
        let entry = |tag: u16, kind: u16, count: usize, value: usize| {
            let long = |number: usize| u32::try_from(number).unwrap().to_le_bytes();
            let (count, value) = (long(count), long(value));
            [&tag.to_le_bytes()[..], &kind.to_le_bytes(), &count, &value].concat()
        };
        let comment_at = note_at + note_bytes;
        let mut block = b"II*\0\x08\0\0\0\x01\0".to_vec();
        block.extend(entry(tags::EXIF_DIRECTORY, tags::LONG, 1, PHOTO_AT));
        block.extend([0; 4]);
        block.extend([3, 0]);
        block.extend(entry(DATE, tags::ASCII, 20, DATE_AT));
        block.extend(entry(NOTE, tags::UNDEFINED, note_bytes, note_at));
        block.extend(entry(COMMENT, tags::UNDEFINED, comment_bytes, comment_at));
        block.resize(DATE_AT, 0);
        block.extend(b"1999:12:31 23:59:58\0");
        block.resize(note_at, 0);
        block.resize(comment_at, 7);
        block.resize(comment_at + comment_bytes, 8);
        block
    }

    #[test]
    fn of_exif_too_long_for_jpeg_the_note_of_the_maker_goes_first() {
        let all = [DATE, NOTE, COMMENT];
        let cases = [
            ((200, 900, 900), &all[..], None),
            (
                (50_000, 30_720, 900),
                &all,
                Some("the place of the maker's note"),
            ),
            (
                (200, 70_000, 900),
                &[DATE, COMMENT],
                Some("the maker's note,"),
            ),
            ((200, 900, 70_000), &[], Some("EXIF")),
        ];
        for ((note_at, note_bytes, comment_bytes), kept, lost) in cases {
            let mut metadata = Metadata::default();
            metadata.set_exif_block(&block(note_at, note_bytes, comment_bytes));
            let carried = metadata.for_result(&JPEG);
            let photo = carried.metadata.exif.as_ref().map(|exif| &exif.photo);
            let found = photo.into_iter().flatten().map(|field| field.tag);
            let found: Vec<u16> = found.filter(|tag| all.contains(tag)).collect();
            assert_eq!(found, kept, "{note_at} {note_bytes} {comment_bytes}");
            let warning = lost.map(|lost| format!("not carried to the result: {lost}"));
            assert_eq!(carried.warnings.len(), warning.iter().len());
            for (found, expected) in carried.warnings.iter().zip(warning) {
                assert!(found.starts_with(&expected), "{found}");
            }
        }
    }

    #[test]
    fn regions_that_are_left_out_of_a_turned_picture_are_named() {
        let packet = br#"<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description
            xmlns:r="http://www.metadataworkinggroup.com/schemas/regions/"><r:Regions/></rdf:Description></rdf:RDF>"#;
        for (at_all, warnings) in [(false, 0), (true, 1)] {
            let metadata = Metadata {
                xmp: Some(packet.to_vec()),
                ..Metadata::default()
            };
            let turned = Turned {
                at_all,
                sideways: at_all,
            };
            let carried = metadata.of_turned(turned).for_result(&JPEG);
            let packet = String::from_utf8(carried.metadata.xmp.unwrap()).unwrap();
            assert_eq!(packet.contains("<r:Regions/>"), !at_all);
            assert_eq!(carried.warnings.len(), warnings);
            assert!(
                carried
                    .warnings
                    .iter()
                    .all(|it| it.contains("marked regions"))
            );
        }
    }
}
