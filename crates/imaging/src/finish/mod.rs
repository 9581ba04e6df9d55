//! From the rows that the engine gives back to the kind of picture that its source is.
//!
//! The engine sees 8 bit sRGB or finer, opaque. Here its rows get back what it has not seen:
//!
//! - **colour space**: from sRGB into that of the source, whose profile the file carries. Colours
//!   that sRGB cannot show were clipped for the engine; what was clipped off is enlarged by bicubic
//!   and added;
//! - **gray**: one channel, of the luminance;
//! - **16 bits**: the engine's values have them, as it was given all bits of the source. They carry its
//!   smoothness, not new information;
//! - **transparency**: the source's, enlarged by bicubic for itself.
//!
//! Rows come in any number at a time and may begin anywhere, so a half-written file is gone on with;
//! memory is some rows of the source.

mod bicubic;

use bicubic::{Bicubic, SCALE};

use crate::{
    DecodeError, EncodeOptions, Reader,
    colour::{Colour, Managed},
    decode::{Native, alphas, colours},
    samples::{Layout, push_unit},
};

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
    layout: Layout,
    result: Colour,
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
        let layout = options.layout();
        let result = colours.result();
        Self {
            unseen: Unseen::of(native, colours, layout),
            layout,
            result,
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
        let pixels = unit.len() / 3;
        let mut samples = Vec::with_capacity(pixels * self.layout.pixel_bytes());
        for (y, row) in (first_row..).zip(unit.chunks_exact(self.row_values)) {
            if let Some(unseen) = &mut self.unseen {
                unseen.reach(y)?;
            }
            self.finish_row(row, &mut samples);
        }
        Ok(samples)
    }

    fn finish_row(&self, row: &[f32], samples: &mut Vec<u8>) {
        let depth = self.layout.depth;
        for (x, &pixel) in row.as_chunks::<3>().0.iter().enumerate() {
            let mut srgb = pixel;
            let mut alpha = 1.0;
            if let Some(unseen) = &self.unseen {
                unseen.add(x, &mut srgb, &mut alpha);
            }
            if self.layout.gray {
                push_unit(self.result.gray_of(srgb), depth, samples);
            } else {
                for value in self.result.rgb_of(srgb) {
                    push_unit(value, depth, samples);
                }
            }
            if self.layout.alpha {
                push_unit(alpha, depth, samples);
            }
        }
    }
}

/// What of the source the engine does not see: colours outside sRGB, and transparency.
struct Unseen<'a> {
    native: Native<'a>,
    space: Colour,
    wide: bool,
    /// Values a pixel: three of colour if it is wide, then alpha if there is one.
    channels: usize,
    bicubic: Bicubic,
    stored: Vec<u8>,
    /// One row of the result.
    enlarged: Vec<f32>,
}

impl<'a> Unseen<'a> {
    /// `None` if the engine sees all that the result is to have.
    fn of(native: Native<'a>, colours: Managed, result: Layout) -> Option<Self> {
        let wide = colours.returns && colours.source.is_wide();
        let channels = if wide { 3 } else { 0 } + usize::from(result.alpha);
        let (width, height) = (native.info().width, native.info().height);
        let out_width = usize::try_from(width).unwrap_or(usize::MAX) * SCALE as usize;
        (channels > 0).then(|| Self {
            bicubic: Bicubic::new(width, height, channels),
            enlarged: vec![0.0; out_width * channels],
            stored: Vec::with_capacity(native.row_bytes()),
            native,
            space: colours.source,
            wide,
            channels,
        })
    }

    /// Makes row `y` of the result the present one.
    fn reach(&mut self, y: u32) -> Result<(), DecodeError> {
        while let Some(next) = self.bicubic.wants(y) {
            let behind = next.saturating_sub(self.native.next_row());
            self.native.skip(behind)?;
            self.stored.clear();
            let stored = &mut self.stored;
            self.native.read(1, |part| stored.extend_from_slice(part))?;
            let row = self.unseen_row();
            self.bicubic.push(&row);
        }
        self.bicubic.row(y, &mut self.enlarged);
        Ok(())
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
        let mut unseen = Vec::with_capacity(self.channels * width);
        for (pixel, alpha) in row.as_chunks::<3>().0.iter().zip(alpha) {
            // The colour of what cannot be seen stays unseen.
            let share = if alpha > 0.0 { 1.0 } else { 0.0 };
            unseen.extend(pixel.map(|value| share * (value - value.clamp(0.0, 1.0))));
            if self.channels == 4 {
                unseen.push(alpha);
            }
        }
        unseen
    }

    /// Adds what belongs to the pixel at `x` of the present row.
    fn add(&self, x: usize, srgb: &mut [f32; 3], alpha: &mut f32) {
        let found = &self.enlarged[x * self.channels..(x + 1) * self.channels];
        if self.wide {
            for (value, off) in srgb.iter_mut().zip(found) {
                *value += off;
            }
        }
        if self.channels != 3 {
            *alpha = found[self.channels - 1];
        }
    }
}
