//! The pages of a file, as if they lay one below the other: rows are counted through all of them.

use super::Shape;
use crate::{EncodeError, EncodeOptions, Format};

/// One page of a file that is to be written.
#[derive(Debug, Clone)]
pub struct Page {
    /// How it is written; the format is the same for all pages of a file.
    pub options: EncodeOptions,
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
}

/// A page, and where it begins.
#[derive(Debug, Clone)]
pub(super) struct Sheet {
    pub options: EncodeOptions,
    pub shape: Shape,
    /// Rows of all pages before it.
    pub above: u32,
}

/// A band that was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Written {
    /// Strips or tiles in it.
    pub chunks: usize,
    pub rows: u32,
}

/// All pages of a file, at least one.
#[derive(Debug, Clone)]
pub(super) struct Sheets(Vec<Sheet>);

impl Sheets {
    /// # Errors
    /// [`EncodeError::NoPages`], [`EncodeError::SeveralPages`], and those of [`EncodeOptions::check`].
    pub(super) fn new(pages: Vec<Page>) -> Result<Self, EncodeError> {
        let count = pages.len();
        let mut sheets = Vec::with_capacity(count);
        let mut above = 0_u32;
        for page in pages {
            let Page {
                options,
                width,
                height,
            } = page;
            options.check(width, height)?;
            options.check_pages(count)?;
            sheets.push(Sheet {
                shape: Shape::new(&options, width, height),
                options,
                above,
            });
            above = above.checked_add(height).ok_or(EncodeError::TooManyRows)?;
        }
        if sheets.is_empty() {
            return Err(EncodeError::NoPages);
        }
        Ok(Self(sheets))
    }

    pub(super) fn format(&self) -> Format {
        self.0[0].options.format
    }

    pub(super) fn all(&self) -> &[Sheet] {
        &self.0
    }

    /// Rows of all pages.
    pub(super) fn rows(&self) -> u32 {
        self.0
            .last()
            .map_or(0, |last| last.above + last.shape.height)
    }

    /// The page with row `row` of all, and which of its rows that is; behind the last row the last page
    /// and its height.
    pub(super) fn find(&self, row: u32) -> (usize, u32) {
        let index = self.0.partition_point(|sheet| sheet.above <= row) - 1;
        (index, row - self.0[index].above)
    }

    /// Whether a band begins at row `row` of all, or the file ends there.
    pub(super) fn is_at_a_band(&self, row: u32) -> bool {
        let (index, row) = self.find(row);
        let shape = &self.0[index].shape;
        row.is_multiple_of(shape.band_rows) && row < shape.height || row == shape.height
    }

    /// The bands above row `row` of all, at which one begins; from the first one on.
    pub(super) fn bands_above(&self, row: u32) -> Vec<Written> {
        let mut bands = Vec::new();
        for Sheet { shape, above, .. } in &self.0 {
            let end = row.saturating_sub(*above).min(shape.height);
            let mut top = 0;
            while top < end {
                let rows = shape.rows_of_band(top);
                let chunks = usize::try_from(shape.across()).unwrap_or(usize::MAX);
                bands.push(Written { chunks, rows });
                top += rows;
            }
        }
        bands
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TiffTile;

    fn page(width: u32, height: u32, tile: Option<u32>) -> Page {
        let tiff_tile = tile.map(|side| TiffTile::try_from(side).unwrap());
        let options = EncodeOptions {
            tiff_tile,
            ..EncodeOptions::new(Format::Tiff)
        };
        Page {
            options,
            width,
            height,
        }
    }

    #[test]
    fn rows_are_counted_through_all_pages() {
        let pages = vec![
            page(10, 5, None),
            page(200, 130, Some(64)),
            page(7, 1, None),
        ];
        let sheets = Sheets::new(pages).unwrap();
        assert_eq!(sheets.rows(), 136);
        let places = [
            (0, (0, 0)),
            (4, (0, 4)),
            (5, (1, 0)),
            (134, (1, 129)),
            (135, (2, 0)),
            (136, (2, 1)),
        ];
        for (row, place) in places {
            assert_eq!(sheets.find(row), place, "{row}");
        }
        for (row, begins) in [
            (0, true),
            (3, false),
            (5, true),
            (69, true),
            (70, false),
            (133, true),
            (136, true),
        ] {
            assert_eq!(sheets.is_at_a_band(row), begins, "{row}");
        }
        let bands = |row| {
            sheets
                .bands_above(row)
                .iter()
                .map(|band| (band.chunks, band.rows))
                .collect::<Vec<_>>()
        };
        assert_eq!(bands(0), []);
        assert_eq!(bands(69), [(1, 5), (4, 64)]);
        assert_eq!(bands(136), [(1, 5), (4, 64), (4, 64), (4, 2), (1, 1)]);
    }

    #[test]
    fn only_tiff_has_several_pages_and_none_has_none() {
        for format in [Format::Png, Format::Jpeg, Format::WebP] {
            let page = Page {
                options: EncodeOptions::new(format),
                width: 1,
                height: 1,
            };
            assert!(Sheets::new(vec![page.clone()]).is_ok());
            let error = Sheets::new(vec![page.clone(), page])
                .unwrap_err()
                .to_string();
            assert!(error.contains("2 pages: use tiff"), "{error}");
        }
        assert!(matches!(Sheets::new(Vec::new()), Err(EncodeError::NoPages)));
    }
}
