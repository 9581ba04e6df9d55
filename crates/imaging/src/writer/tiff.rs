//! TIFF in bands: one strip or one row of tiles a band, and the directories in front of them, one for
//! each page.
//!
//! A directory holds the place of every strip, which is known only at the end, and must itself be
//! found from the first bytes of the file. Object stores cannot change bytes that they have, and
//! want at least 5 MiB in every part but the last. So the file begins with what is written last:
//!
//! ```text
//! head   header, directories, the last strips: 5 MiB of them, or all
//! body   the other strips, from the first one on
//! ```
//!
//! Strips may lie in any order, as the directory says where each is. What was released into the body
//! is never touched again. A file with less than 5 MiB of strips is all head, in natural order.

use std::collections::VecDeque;

use super::{
    Shape,
    sheets::{Sheet, Written},
    tiff_chunks, tiff_directory,
};
use crate::{EncodeError, EncodeOptions};

/// Bytes of strips that are kept back for the head, if there are so many: the least that an object
/// store takes as a part.
pub(super) const HEAD_BYTES: usize = 5 << 20;

/// The strips of all pages of a TIFF file, or their tiles: those released into the body, and the last
/// ones.
#[derive(Debug, Default)]
pub(super) struct Strips {
    /// Compressed size of every strip or tile so far, in bytes, without padding.
    pub sizes: Vec<u32>,
    /// The bands that are not released.
    held: VecDeque<Band>,
    held_bytes: usize,
}

/// A compressed band.
#[derive(Debug)]
struct Band {
    written: Written,
    /// Each strip or tile is padded to an even length.
    bytes: Vec<u8>,
}

impl Strips {
    /// Goes on with the bands `above`, of which the first ones are in the body and the others in `rest`,
    /// one behind the other; `None` if `rest` does not end where a band does.
    pub(super) fn resume(above: &[Written], sizes: Vec<u32>, mut rest: &[u8]) -> Option<Self> {
        let mut strips = Self::default();
        let mut end = sizes.len();
        for &written in above.iter().rev() {
            if rest.is_empty() {
                break;
            }
            let first = end.checked_sub(written.chunks)?;
            let band_bytes = sizes[first..end].iter().map(|size| padded(*size)).sum();
            let at = rest.len().checked_sub(band_bytes)?;
            let (before, band) = rest.split_at(at);
            strips.held_bytes += band.len();
            let bytes = band.to_vec();
            strips.held.push_front(Band { written, bytes });
            (rest, end) = (before, first);
        }
        strips.sizes = sizes;
        rest.is_empty().then_some(strips)
    }

    /// Compresses a band and releases into `body` what the head does not need.
    pub(super) fn push(
        &mut self,
        shape: &Shape,
        options: &EncodeOptions,
        samples: &[u8],
        rows: u32,
        body: &mut Vec<u8>,
    ) {
        let (bytes, sizes) = tiff_chunks::of_band(shape, options.tiff_compression, samples);
        let chunks = sizes.len();
        self.sizes.extend(sizes);
        self.held_bytes += bytes.len();
        let written = Written { chunks, rows };
        self.held.push_back(Band { written, bytes });
        self.release(body);
    }

    /// Moves into `body` the bands that the head does not need.
    pub(super) fn release(&mut self, body: &mut Vec<u8>) {
        while let Some(oldest) = self.held.front()
            && self.held_bytes - oldest.bytes.len() >= HEAD_BYTES
        {
            self.held_bytes -= oldest.bytes.len();
            body.extend_from_slice(&oldest.bytes);
            self.held.pop_front();
        }
    }

    /// Number of strips or tiles in the body.
    pub(super) fn released(&self) -> usize {
        let held: usize = self.held.iter().map(|band| band.written.chunks).sum();
        self.sizes.len() - held
    }

    /// Rows in the bands that are not released.
    pub(super) fn held_rows(&self) -> u32 {
        self.held.iter().map(|band| band.written.rows).sum()
    }

    /// The bands that are not released, one behind the other.
    pub(super) fn held(&self) -> impl Iterator<Item = &Vec<u8>> {
        self.held.iter().map(|band| &band.bytes)
    }

    /// The head of the file: header, directories and the strips that are not released.
    ///
    /// # Errors
    /// [`EncodeError::Encoder`] if an offset does not fit classic TIFF, which the choice of
    /// `BigTIFF` by the size of the samples prevents.
    pub(super) fn head(self, sheets: &[Sheet]) -> Result<Vec<u8>, EncodeError> {
        let released = self.released();
        let mut head = tiff_directory::write(sheets, &self.sizes, |data_at| {
            let mut offsets = Vec::with_capacity(self.sizes.len());
            let body_at = data_at + u64::try_from(self.held_bytes).unwrap_or(u64::MAX);
            let mut at = body_at;
            for &size in &self.sizes[..released] {
                offsets.push(at);
                at += u64::from(size) + u64::from(size % 2);
            }
            at = data_at;
            for &size in &self.sizes[released..] {
                offsets.push(at);
                at += u64::from(size) + u64::from(size % 2);
            }
            offsets
        })?;
        for band in self.held() {
            head.extend_from_slice(band);
        }
        // A file does not end with padding, which could be cut off without harm.
        if released == 0 && self.sizes.last().is_some_and(|size| size % 2 == 1) {
            head.pop();
        }
        Ok(head)
    }
}

fn padded(size: u32) -> usize {
    usize::try_from(size + size % 2).unwrap_or(usize::MAX)
}
