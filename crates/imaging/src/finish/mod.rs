//! From the rows that the engine gives back to the kind of picture that its source is.
//!
//! The engine sees 8 bit sRGB or finer, opaque. Here its rows get back what it has not seen:
//!
//! - **colour space**: from sRGB into that of the source, whose profile the file carries. Colours
//!   that sRGB cannot show were clipped for the engine; what was clipped off is enlarged by bicubic
//!   and added;
//! - **gray**: one channel, of the luminance; where the format has none for a profile of gray, on sRGB's curve;
//! - **16 bits**: the engine's values have them, as it was given all bits of the source. They carry its
//!   smoothness, not new information;
//! - **transparency**: the source's, enlarged by bicubic for itself.
//!
//! Rows come in any number at a time and may begin anywhere, so a half-written file is gone on with;
//! memory is some rows of the source. Rows of one call are worked on in parallel.

mod bicubic;

use bicubic::{Bicubic, SCALE};
use rayon::prelude::*;

use crate::{
    DecodeError, EncodeOptions, Reader,
    colour::Colour,
    decode::{Native, alphas, colours},
    samples::{Layout, push_unit},
};

/// Rows that are worked on together, in parallel. What the engine has not seen of them is in memory.
const ROWS_AT_ONCE: usize = 8;

/// Brings rows of the engine back.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use imaging::{EncodeOptions, Finish, Format, Limits, Pixels, Reader, Writer};
/// # let file = imaging::encode(&Pixels::gray(2, 1, &[1; 2]), &EncodeOptions::new(Format::Png))?;
/// let reader = Reader::from_bytes(&file, &Limits::default())?;
/// let options = reader.encode_like(None);
/// let mut finish = Finish::new(reader, &options);
/// let mut writer = Writer::new(&options, 8, 4)?;
/// let engine = vec![0.5; 8 * 4 * 3];
/// writer.push_samples(&finish.rows(0, &engine)?)?;
/// assert_eq!(writer.next_row(), 4);
/// # Ok(())
/// # }
/// ```
pub struct Finish<'a> {
    target: Target,
    /// Values in a row of the engine.
    row_values: usize,
    /// What the engine has not seen, if there is any.
    unseen: Option<Unseen<'a>>,
}

impl<'a> Finish<'a> {
    /// - `reader`: of the same file that the engine is given, nothing read. Let go of at once if the
    ///   file has nothing that the engine does not see.
    /// - `options`: those the result is written with.
    #[must_use]
    pub fn new(reader: Reader<'a>, options: &EncodeOptions) -> Self {
        let (native, colours) = reader.into_parts();
        let width = usize::try_from(native.info().width).unwrap_or(usize::MAX);
        let target = Target {
            layout: options.layout(),
            colour: if options.format.holds_profile(options.gray) {
                colours.result()
            } else {
                Colour::Srgb
            },
            wide: colours.returns && colours.source.is_wide(),
        };
        Self {
            unseen: Unseen::of(native, colours.source, &target),
            target,
            row_values: width.saturating_mul(SCALE as usize).saturating_mul(3),
        }
    }

    /// Turns rows of the engine into samples for [`Writer::push_samples`](crate::Writer::push_samples).
    ///
    /// - `first_row`: where they are in the result; behind the rows of every call before.
    /// - `unit`: whole rows of `4 * width * 3` values, red green blue of sRGB, in `[0, 1]` but for
    ///   rounding.
    ///
    /// # Errors
    /// [`DecodeError`] if the source cannot be read.
    pub fn rows(&mut self, first_row: u32, unit: &[f32]) -> Result<Vec<u8>, DecodeError> {
        let row_bytes = self.row_values / 3 * self.target.layout.pixel_bytes();
        let mut samples = vec![0; unit.len() / self.row_values * row_bytes];
        let pieces = unit.chunks(ROWS_AT_ONCE * self.row_values);
        let places = samples.chunks_mut(ROWS_AT_ONCE * row_bytes);
        for (first, (rows, samples)) in (first_row..).step_by(ROWS_AT_ONCE).zip(pieces.zip(places))
        {
            let unseen = self.unseen_rows(first, rows.len() / self.row_values)?;
            let target = &self.target;
            // Curves are powers, and the engine waits.
            samples
                .par_chunks_exact_mut(row_bytes)
                .zip(rows.par_chunks_exact(self.row_values))
                .enumerate()
                .for_each(|(index, (samples, row))| {
                    let unseen = unseen.get(index).map(Vec::as_slice);
                    samples.copy_from_slice(&target.finished(row, unseen));
                });
        }
        Ok(samples)
    }

    fn unseen_rows(&mut self, first: u32, rows: usize) -> Result<Vec<Vec<f32>>, DecodeError> {
        match &mut self.unseen {
            Some(source) => (first..).take(rows).map(|y| source.row(y)).collect(),
            None => Ok(Vec::new()),
        }
    }
}

/// What a pixel is to be.
struct Target {
    layout: Layout,
    colour: Colour,
    /// The source has colours that sRGB has not.
    wide: bool,
}

impl Target {
    /// Values of a pixel that the engine does not see: three of colour if it is wide, then alpha if
    /// there is one.
    fn unseen(&self) -> usize {
        3 * usize::from(self.wide) + usize::from(self.layout.alpha)
    }

    /// The samples of one row.
    ///
    /// - `unseen`: of the same pixels.
    fn finished(&self, row: &[f32], unseen: Option<&[f32]>) -> Vec<u8> {
        let (layout, channels) = (self.layout, self.unseen());
        let pixels = row.as_chunks::<3>().0;
        let mut samples = Vec::with_capacity(pixels.len() * layout.pixel_bytes());
        for (x, &pixel) in pixels.iter().enumerate() {
            let found = unseen.map(|unseen| &unseen[x * channels..(x + 1) * channels]);
            let found = found.unwrap_or_default();
            let mut srgb = pixel;
            if self.wide {
                for (value, off) in srgb.iter_mut().zip(found) {
                    *value += off;
                }
            }
            if layout.gray {
                push_unit(self.colour.gray_of(srgb), layout.depth, &mut samples);
            } else {
                for value in self.colour.rgb_of(srgb) {
                    push_unit(value, layout.depth, &mut samples);
                }
            }
            if layout.alpha {
                let alpha = found.last().copied().unwrap_or(1.0);
                push_unit(alpha, layout.depth, &mut samples);
            }
        }
        samples
    }
}

/// What of the source the engine does not see: colours outside sRGB, and transparency.
struct Unseen<'a> {
    native: Native<'a>,
    space: Colour,
    wide: bool,
    alpha: bool,
    bicubic: Bicubic,
    stored: Vec<u8>,
    /// Values in a row of the result.
    row_values: usize,
}

impl<'a> Unseen<'a> {
    /// `None` if the engine sees all that the result is to have.
    fn of(native: Native<'a>, space: Colour, target: &Target) -> Option<Self> {
        let channels = target.unseen();
        let (width, height) = (native.info().width, native.info().height);
        let out_width = usize::try_from(width).unwrap_or(usize::MAX) * SCALE as usize;
        (channels > 0).then(|| Self {
            bicubic: Bicubic::new(width, height, channels),
            stored: Vec::with_capacity(native.row_bytes()),
            native,
            space,
            wide: target.wide,
            alpha: target.layout.alpha,
            row_values: out_width * channels,
        })
    }

    /// Row `y` of the result.
    fn row(&mut self, y: u32) -> Result<Vec<f32>, DecodeError> {
        while let Some(next) = self.bicubic.wants(y) {
            let behind = next.saturating_sub(self.native.next_row());
            self.native.skip(behind)?;
            self.stored.clear();
            let stored = &mut self.stored;
            self.native.read(1, |part| stored.extend_from_slice(part))?;
            let row = self.unseen_row();
            self.bicubic.push(&row);
        }
        let mut enlarged = vec![0.0; self.row_values];
        self.bicubic.row(y, &mut enlarged);
        Ok(enlarged)
    }

    /// The values of the stored row.
    fn unseen_row(&self) -> Vec<f32> {
        let layout = self.native.layout();
        let width = self.stored.len() / layout.pixel_bytes();
        let mut alpha = vec![1.0; width];
        if layout.alpha {
            alphas(&self.stored, layout, &mut alpha);
        }
        if !self.wide {
            return alpha;
        }
        let mut row = vec![0.0; 3 * width];
        colours(&self.stored, layout, &mut row);
        self.space.to_srgb(&mut row);
        let mut unseen = Vec::with_capacity(4 * width);
        for (pixel, alpha) in row.as_chunks::<3>().0.iter().zip(alpha) {
            // The colour of what cannot be seen stays unseen.
            let share = if alpha > 0.0 { 1.0 } else { 0.0 };
            unseen.extend(pixel.map(|value| share * (value - value.clamp(0.0, 1.0))));
            if self.alpha {
                unseen.push(alpha);
            }
        }
        unseen
    }
}
