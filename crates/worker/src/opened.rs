//! An input, opened: the pages that are wanted of it, and what becomes of each.

use std::fs::File;

use imaging::{
    Carried, DecodeError, EncodeOptions, Finish, Info, Limits, Metadata, Page, Reader, SharedFile,
    page_count,
};
use tokio::sync::mpsc;
use upres_common::job::pages::Unchosen;
use upres_common::job::{UpscaleSpec, tile_steps};
use upres_common::sidecar::PageRecord;

use crate::engine::{Closed, MadeBy, Sheet};
use crate::failure::ProcessError;
use crate::rows::{Bands, FileRows};
use crate::spec::{self, SCALE};

/// The pages of an input that are wanted.
pub(crate) struct Opened {
    file: SharedFile,
    limits: Limits,
    pages: Vec<OpenedPage>,
    /// Pages of the input.
    count: u32,
}

struct OpenedPage {
    /// In the input, from 0.
    index: u32,
    info: Info,
    /// Without what the file says beside its pixels.
    encode: EncodeOptions,
    metadata: Metadata,
    warnings: Vec<String>,
    held: u64,
}

impl OpenedPage {
    fn enlarged(&self) -> (u32, u32) {
        let side = |side: u32| side.saturating_mul(SCALE);
        (side(self.info.width), side(self.info.height))
    }
}

/// Opens the input, on a thread for blocking work. Before any time of the device is spent it checks that
/// the result will fit its format, and reads the file through once: damage may show in its last row.
pub(crate) async fn open(
    file: File,
    limits: Limits,
    upscale: UpscaleSpec,
    name: String,
) -> Result<Opened, ProcessError> {
    let panicked = DecodeError::NotAnImage("it made the decoder panic").into();
    let opened = tokio::task::spawn_blocking(move || {
        let file = SharedFile::new(file);
        let count = page_count(Box::new(file.clone()), &limits)?;
        let chosen = upscale.pages.choose(count);
        let chosen = chosen.map_err(|unchosen| match unchosen {
            Unchosen::Several => DecodeError::SeveralPages { pages: count },
            Unchosen::Missing(page) => DecodeError::NoSuchPage { page, pages: count },
        })?;
        let mut opened = Opened {
            file,
            limits,
            pages: Vec::with_capacity(chosen.len()),
            count,
        };
        for &index in &chosen {
            let page = opened.page(index, &upscale, &name)?;
            let (width, height) = page.enlarged();
            let fits = page.encode.check(width, height);
            let fits = fits.and_then(|()| page.encode.check_pages(chosen.len()));
            fits.map_err(ProcessError::Format)?;
            opened.pages.push(page);
        }
        for page in &opened.pages {
            reader(&opened.file, &limits, page.index)?.verify()?;
        }
        Ok(opened)
    });
    opened.await.unwrap_or(Err(panicked))
}

impl Opened {
    fn page(
        &self,
        index: u32,
        upscale: &UpscaleSpec,
        name: &str,
    ) -> Result<OpenedPage, DecodeError> {
        let reader = reader(&self.file, &self.limits, index)?;
        let encode = spec::encode(&reader, upscale);
        let mut warnings = reader.warnings_in(Some(encode.format));
        // Said of the file once.
        if self.pages.is_empty() {
            warnings.extend(reader.misnamed(name));
        }
        Ok(OpenedPage {
            index,
            info: reader.info().clone(),
            metadata: reader.metadata().clone(),
            held: reader.held_bytes(&encode),
            warnings,
            encode,
        })
    }

    /// Of the first page.
    pub(crate) fn info(&self) -> &Info {
        &self.pages[0].info
    }

    /// What lies in memory whole of the page that takes most, in bytes.
    pub(crate) fn held_bytes(&self) -> u64 {
        self.pages.iter().map(|page| page.held).max().unwrap_or(0)
    }

    /// How each page of the result is written, and what a careful person should know.
    pub(crate) fn carry(&self, spec: &UpscaleSpec, made_by: &MadeBy) -> (Vec<Page>, Vec<String>) {
        let (mut pages, mut warnings) = (Vec::new(), Vec::new());
        for page in &self.pages {
            let (width, height) = page.enlarged();
            let Carried {
                metadata,
                warnings: carrying,
            } = spec::carry(&page.metadata, spec, made_by, &page.encode, (width, height));
            for warning in page.warnings.iter().chain(&carrying) {
                warnings.push(if self.count > 1 {
                    format!("page {}: {warning}", page.index + 1)
                } else {
                    warning.clone()
                });
            }
            let options = EncodeOptions {
                metadata,
                ..page.encode.clone()
            };
            pages.push(Page {
                options,
                width,
                height,
            });
        }
        (pages, warnings)
    }

    /// The pages of an input of several, for the record.
    pub(crate) fn records(&self, spec: &UpscaleSpec) -> Vec<PageRecord> {
        if self.count == 1 {
            return Vec::new();
        }
        let steps = u32::try_from(spec.steps_a_tile()).unwrap_or(u32::MAX);
        let record = |page: &OpenedPage| PageRecord {
            page: page.index + 1,
            width: page.info.width,
            height: page.info.height,
            tiles: tile_steps(page.info.width, page.info.height, spec) / steps,
        };
        self.pages.iter().map(record).collect()
    }

    /// The pages for the engine, which opens one after the other; finished rows go to `bands`.
    pub(crate) fn into_pages(self, bands: &mpsc::Sender<Vec<u8>>) -> Vec<Closed> {
        let (file, limits) = (self.file, self.limits);
        let closed = self.pages.into_iter().map(|page| {
            let (file, to) = (file.clone(), bands.clone());
            Closed {
                size: (page.info.width, page.info.height),
                open: Box::new(move || {
                    let open = || reader(&file, &limits, page.index);
                    let finish = Finish::new(open()?, &page.encode);
                    Ok(Sheet {
                        source: Box::new(FileRows(open()?)),
                        sink: Box::new(Bands { finish, to }),
                    })
                }),
            }
        });
        closed.collect()
    }
}

fn reader(file: &SharedFile, limits: &Limits, index: u32) -> Result<Reader<'static>, DecodeError> {
    Reader::open_page(Box::new(file.clone()), limits, index)
}
