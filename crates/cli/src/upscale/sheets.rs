//! The pages of a picture that are wanted, and how each is to be written.

use imaging::{
    Carried, Change, DecodeError, EncodeOptions, Format, Info, Limits, Metadata, Page, Provenance,
    Reader, SharedFile, page_count,
};
use upres_common::job::pages::{Pages, Unchosen};

use super::failure::Failure;
use super::picture::SCALE;
use crate::spec::SpecArgs;

/// One page that is wanted, and what becomes of it.
pub struct Sheet {
    /// From 0.
    index: u32,
    pub info: Info,
    /// Without what the file says beside its pixels.
    encode: EncodeOptions,
    metadata: Metadata,
    /// In memory while it is worked on, in bytes.
    pub held: u64,
    warnings: Vec<String>,
}

/// The pages of a file that are wanted.
pub struct Sheets {
    file: SharedFile,
    limits: Limits,
    pub all: Vec<Sheet>,
    /// Of the file.
    pub count: u32,
}

impl Sheet {
    /// Its number, from 1.
    pub fn number(&self) -> u32 {
        self.index + 1
    }

    fn enlarged(&self) -> (u32, u32) {
        let side = |side: u32| side.saturating_mul(SCALE);
        (side(self.info.width), side(self.info.height))
    }
}

/// The pages of `count` that are chosen, from 0.
///
/// # Errors
/// `input/unsupported`, in the words of the decoder.
pub fn choose(pages: &Pages, count: u32) -> Result<Vec<u32>, Failure> {
    let refused = |unchosen| match unchosen {
        Unchosen::Several => DecodeError::SeveralPages { pages: count },
        Unchosen::Missing(page) => DecodeError::NoSuchPage { page, pages: count },
    };
    let chosen = pages.choose(count);
    chosen.map_err(|unchosen| Failure::decoding(&refused(unchosen)))
}

impl Sheets {
    /// Reads the headers of all wanted pages and makes sure that the result can be written; then all
    /// pixels once, since damage may show in the last row.
    ///
    /// # Errors
    /// [`Failure`], in a sentence for a person.
    pub fn read(
        file: SharedFile,
        format: Format,
        spec: &SpecArgs,
        limits: Limits,
    ) -> Result<Self, Failure> {
        let decoding = |error| Failure::decoding(&error);
        let encoding = |error| Failure::encoding(&error);
        let count = page_count(Box::new(file.clone()), &limits).map_err(decoding)?;
        let chosen = choose(&spec.pages, count)?;
        let mut all = Vec::with_capacity(chosen.len());
        for &index in &chosen {
            let reader = open(&file, &limits, index)?;
            let encode = spec.file.encode(reader.encode_like(Some(format)));
            let sheet = Sheet {
                index,
                info: reader.info().clone(),
                metadata: reader.metadata().clone(),
                held: reader.held_bytes(&encode),
                warnings: reader.warnings_in(Some(format)),
                encode,
            };
            let (width, height) = sheet.enlarged();
            sheet.encode.check(width, height).map_err(encoding)?;
            sheet.encode.check_pages(chosen.len()).map_err(encoding)?;
            all.push(sheet);
        }
        for sheet in &all {
            open(&file, &limits, sheet.index)?
                .verify()
                .map_err(decoding)?;
        }
        Ok(Self {
            file,
            limits,
            all,
            count,
        })
    }

    pub fn open(&self, sheet: &Sheet) -> Result<Reader<'static>, Failure> {
        open(&self.file, &self.limits, sheet.index)
    }

    /// What the result's file is to say, page by page, and all warnings.
    pub fn carry(&mut self, strip_gps: bool, provenance: &Provenance) -> (Vec<Page>, Vec<String>) {
        let (mut pages, mut warnings) = (Vec::new(), Vec::new());
        for sheet in &mut self.all {
            let (width, height) = sheet.enlarged();
            let Carried {
                metadata,
                warnings: carrying,
            } = std::mem::take(&mut sheet.metadata).for_result(&Change {
                format: sheet.encode.format,
                width,
                height,
                scale: SCALE,
                strip_gps,
                provenance: Some(provenance),
            });
            sheet.warnings.extend(carrying);
            for warning in sheet.warnings.drain(..) {
                warnings.push(if self.count > 1 {
                    format!("page {}: {warning}", sheet.index + 1)
                } else {
                    warning
                });
            }
            let options = EncodeOptions {
                metadata,
                ..sheet.encode.clone()
            };
            pages.push(Page {
                options,
                width,
                height,
            });
        }
        (pages, warnings)
    }
}

fn open(file: &SharedFile, limits: &Limits, index: u32) -> Result<Reader<'static>, Failure> {
    let opened = Reader::open_page(Box::new(file.clone()), limits, index);
    opened.map_err(|error| Failure::decoding(&error))
}

#[cfg(test)]
mod tests {
    use upres_common::job::ErrorType;

    use super::*;

    #[test]
    fn pages_that_are_not_there_are_refused_in_the_words_of_the_decoder() {
        for (pages, sentence) in [
            ("single", "has 3 pages, where one was wanted"),
            ("2-4", "has 3 pages, page 4 was asked for"),
        ] {
            let failure = choose(&pages.parse().unwrap(), 3).unwrap_err();
            assert_eq!(failure.kind, ErrorType::InputUnsupported);
            assert!(failure.detail.contains(sentence), "{}", failure.detail);
        }
    }
}
