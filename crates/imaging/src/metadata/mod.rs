//! What a file says beside its pixels: EXIF, XMP, IPTC, resolution, texts.
//!
//! `read_*` finds the blocks of a format, [`Metadata::for_result`] mends what is not true of an upright
//! and larger picture, and the writers put the blocks in their places. A block that cannot be read or
//! kept costs a warning, never the picture. Blocks are read only up to 16 MiB, and nothing is inflated
//! beyond 1 MiB.

mod exif;
mod photoshop;
mod provenance;
mod read_bmp;
mod read_gif;
mod read_jp2;
mod read_jpeg;
mod read_png;
mod read_tiff;
mod read_webp;
mod resolution;
mod result;
mod source;
mod xmp;
mod xmp_properties;

pub(crate) use exif::{Exif, Field, tags};
pub(crate) use photoshop::with_iptc;
pub use provenance::{COMPOSITE, Provenance};
pub(crate) use read_jpeg::{EXIF_PREFIX, PHOTOSHOP_PREFIX, XMP_PREFIX};
pub(crate) use read_png::{IPTC_KEYWORD, XMP_KEYWORD, iptc_profile};
pub use resolution::{Resolution, Unit};
pub use result::{Carried, Change};
use source::Bytes;
pub(crate) use source::ReadSeek;

use crate::InputFormat;

/// What a file says beside its pixels; of a source as it was read, or of a result as it is written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    pub(crate) exif: Option<Exif>,
    /// A packet in UTF-8.
    pub(crate) xmp: Option<Vec<u8>>,
    /// Records of IIM.
    pub(crate) iptc: Option<Vec<u8>>,
    pub(crate) resolution: Option<Resolution>,
    /// The comment of a JPEG or GIF file.
    pub(crate) comment: Option<Vec<u8>>,
    /// The text chunks of a PNG file.
    pub(crate) texts: Vec<Text>,
    /// What EXIF says of the stored pixels' orientation, from 1.
    orientation: Option<u8>,
    /// The pixels are stored in another orientation than they are shown in.
    turned: Turned,
    /// What was found and is not carried, by name.
    left_behind: Vec<&'static str>,
}

/// A text chunk of PNG, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Text {
    /// `tEXt`, `zTXt` or `iTXt`.
    pub chunk: [u8; 4],
    pub data: Vec<u8>,
}

/// How the picture that is shown differs from the stored one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Turned {
    /// At all.
    pub at_all: bool,
    /// Its sides are swapped.
    pub sideways: bool,
}

impl Metadata {
    /// Reads what the file of `format` holds; damage is left out.
    ///
    /// - `directory`: where the directory of a page of TIFF is, in bytes.
    pub(crate) fn read(
        format: InputFormat,
        directory: Option<u64>,
        file: &mut dyn ReadSeek,
    ) -> Self {
        let mut bytes = Bytes(file);
        match format {
            InputFormat::Jpeg => read_jpeg::read(&mut bytes),
            InputFormat::Png => read_png::read(&mut bytes),
            InputFormat::Tiff => read_tiff::read(&mut bytes, directory),
            InputFormat::WebP => read_webp::read(&mut bytes),
            InputFormat::Bmp => read_bmp::read(&mut bytes),
            InputFormat::Jpeg2000 => read_jp2::read(&mut bytes),
            InputFormat::Gif => read_gif::read(&mut bytes),
        }
    }

    /// How EXIF says that the stored pixels are to be turned, from 1.
    pub(crate) const fn orientation(&self) -> Option<u8> {
        self.orientation
    }

    /// The same with how the reader turns the pixels.
    pub(crate) fn of_turned(self, turned: Turned) -> Self {
        Self { turned, ..self }
    }

    /// Pixels to a length, where the file says so.
    #[must_use]
    pub fn resolution(&self) -> Option<Resolution> {
        let resolution = self.resolution?;
        Some(if self.turned.sideways {
            resolution.turned()
        } else {
            resolution
        })
    }

    /// Names of the blocks that are there, such as `EXIF`, `GPS`, `XMP`, `IPTC`, `text`, `comment`.
    #[must_use]
    pub fn blocks(&self) -> Vec<&'static str> {
        let has = |directory: fn(&Exif) -> bool| self.exif.as_ref().is_some_and(directory);
        let blocks = [
            ("EXIF", has(|exif| !exif.is_empty())),
            ("GPS", has(|exif| !exif.gps.is_empty())),
            ("XMP", self.xmp.is_some()),
            ("IPTC", self.iptc.is_some()),
            ("text", !self.texts.is_empty()),
            ("comment", self.comment.is_some()),
        ];
        let there = blocks.into_iter().filter(|(_, is_there)| *is_there);
        there.map(|(name, _)| name).collect()
    }

    /// Names of what was found and cannot be carried to a result.
    #[must_use]
    pub fn left_behind(&self) -> &[&'static str] {
        &self.left_behind
    }

    /// All that is written, as bytes: equal for equal metadata of a result.
    pub(crate) fn fingerprint(&self) -> Vec<u8> {
        let exif = self
            .exif
            .as_ref()
            .map(|exif| exif.to_block(self.resolution));
        let resolution = self.resolution.map(|Resolution { x, y, unit }| {
            let numbers = [x.0, x.1, y.0, y.1, u32::from(unit.tag())];
            numbers.map(u32::to_le_bytes).concat()
        });
        let mut all = Vec::new();
        let blocks = [&exif, &self.xmp, &self.iptc, &resolution, &self.comment];
        let texts = self
            .texts
            .iter()
            .flat_map(|text| [Some(text.chunk.to_vec()), Some(text.data.clone())]);
        for block in blocks.into_iter().cloned().chain(texts) {
            let block = block.unwrap_or_default();
            all.extend((block.len() as u64).to_le_bytes());
            all.extend(block);
        }
        all
    }

    /// Pixels that are not square, in a file that tells no length.
    fn note_aspect(&mut self, x: u32, y: u32) {
        if x != y {
            self.leave_behind("the shape of pixels that are not square");
        }
    }

    fn leave_behind(&mut self, name: &'static str) {
        if !self.left_behind.contains(&name) {
            self.left_behind.push(name);
        }
    }

    /// Takes over what a TIFF file or an EXIF block holds.
    fn set_exif(&mut self, found: exif::Found) {
        if found.incomplete {
            self.leave_behind("damaged parts of EXIF");
        }
        for name in found.left_behind {
            self.leave_behind(name);
        }
        self.resolution = self.resolution.or(found.resolution);
        self.orientation = self.orientation.or(found.orientation);
        self.exif = (!found.exif.is_empty()).then_some(found.exif);
    }

    /// Takes over an EXIF block, with or without the `Exif\0\0` before it.
    fn set_exif_block(&mut self, block: &[u8]) {
        let block = block.strip_prefix(b"Exif\0\0").unwrap_or(block);
        let found = source::in_block(block, |bytes| exif::Directories::open(bytes)?.read(None));
        match found {
            Some(found) => self.set_exif(found),
            None => self.leave_behind("a damaged EXIF block"),
        }
    }

    fn set_photoshop(&mut self, list: &[u8]) {
        let resources = photoshop::read(list);
        if resources.others {
            self.leave_behind("Photoshop settings");
        }
        self.iptc = self.iptc.take().or(resources.iptc);
    }
}
