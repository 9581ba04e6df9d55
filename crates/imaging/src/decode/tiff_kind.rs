//! What the samples of a TIFF page mean, and how they become gray or RGB, with alpha behind.

use std::io::{Read, Seek};

use ::tiff::{
    decoder::Decoder,
    tags::{CompressionMethod, Tag},
};

use super::{
    lab,
    stored::Stored,
    tiff::{FORMAT, compression, refused},
    tiff_ycbcr::{Colours, Sharing, sharing},
};
use crate::{
    DecodeError,
    colour::Inks,
    samples::{Depth, Layout, push_unit, unit_at},
};

/// What the stored samples are.
#[derive(Debug, Clone)]
enum Meaning {
    /// One channel; the highest value is black if `inverted`.
    Gray {
        inverted: bool,
    },
    /// Indexes into 8 bit RGB colours.
    Palette(Vec<[u8; 3]>),
    Rgb,
    /// Of which several pixels may share the last two; not those from a JPEG, whose decoder has brought
    /// them to full size.
    YCbCr(Colours, Sharing),
    /// Photometric 8: L*, then a* and b* as signed numbers.
    Lab,
    /// Photometric 5, and what the inks look like.
    Cmyk(Inks),
}

/// How the samples of a page are stored, and what they become.
#[derive(Debug, Clone)]
pub(super) struct Kind {
    meaning: Meaning,
    /// Bits in a stored sample: 1, 2, 4, 8 or 16.
    bits: u8,
    /// Stored samples a pixel.
    samples: usize,
    /// Colours are multiplied by alpha.
    associated: bool,
    /// What they become.
    pub layout: Layout,
}

impl Kind {
    /// Reads what the directory says.
    ///
    /// - `photometric`: what the samples mean (tag 262),
    /// - `icc`: the page's profile, needed for ink colours.
    ///
    /// # Errors
    /// [`DecodeError::Unsupported`] for what would come out wrong.
    pub(super) fn read<R: Read + Seek>(
        reader: &mut Decoder<R>,
        photometric: u64,
        icc: Option<&[u8]>,
    ) -> Result<Self, DecodeError> {
        let refuse = |what: String, remedy| Err(DecodeError::unsupported(FORMAT, what, remedy));
        let samples = tag(reader, Tag::SamplesPerPixel)?.unwrap_or(1);
        let bits = sample_bits(reader)?;
        check_format(reader)?;
        let extra = tags(reader, Tag::ExtraSamples)?.unwrap_or_default();
        let (alpha, associated) = match *extra.as_slice() {
            [] => (false, false),
            [1] => (true, true),
            [2] => (true, false),
            _ => {
                let what = "extra channels that are no transparency";
                return refuse(what.to_owned(), "remove them");
            }
        };
        let jpeg = compression(reader)? == Some(CompressionMethod::ModernJPEG);
        let (meaning, colours) = match photometric {
            0 => (Meaning::Gray { inverted: true }, 1),
            1 => (Meaning::Gray { inverted: false }, 1),
            2 => (Meaning::Rgb, 3),
            3 => (Meaning::Palette(palette(reader, bits)?), 1),
            5 if jpeg => {
                return refuse("CMYK colour in JPEG strips".to_owned(), "convert it to RGB");
            }
            5 => match Inks::of(icc) {
                Some(inks) => (Meaning::Cmyk(inks), 4),
                None => {
                    let what = "CMYK colour and no profile that says what it looks like";
                    return refuse(what.to_owned(), "convert it to RGB");
                }
            },
            6 if jpeg => (Meaning::YCbCr(Colours::FULL_RANGE, (1, 1)), 3),
            6 => (Meaning::YCbCr(Colours::read(reader)?, sharing(reader)?), 3),
            8 => (Meaning::Lab, 3),
            9 | 10 => return refuse("ICC or ITU Lab colour".to_owned(), "convert it to RGB"),
            _ => return refuse("unusual channels".to_owned(), "convert it to gray or RGB"),
        };
        if jpeg && bits != 8 {
            let what = format!("{bits} bits per sample in JPEG strips");
            return refuse(what, "save it with 8");
        }
        let samples = usize::from(samples);
        if samples != colours + usize::from(alpha) {
            return refuse("unusual channels".to_owned(), "convert it to gray or RGB");
        }
        let small = matches!(meaning, Meaning::Gray { .. } | Meaning::Palette(_)) && !alpha;
        let deep = matches!(meaning, Meaning::Gray { .. } | Meaning::Rgb);
        if !(bits == 8 || bits == 16 && deep || matches!(bits, 1 | 2 | 4) && small) {
            return refuse(format!("{bits} bits per sample"), "save it with 8 or 16");
        }
        let layout = Layout {
            gray: matches!(meaning, Meaning::Gray { .. }),
            alpha,
            depth: if bits == 16 {
                Depth::Sixteen
            } else {
                Depth::Eight
            },
        };
        Ok(Self {
            meaning,
            bits,
            samples,
            associated,
            layout,
        })
    }

    /// How colours are stored of which pixels share a part.
    pub(super) fn shared_chroma(&self) -> Option<(Colours, Sharing)> {
        match self.meaning {
            Meaning::YCbCr(colours, sharing) => {
                Some((colours, sharing)).filter(|_| sharing != (1, 1))
            }
            _ => None,
        }
    }

    /// How it is stored, with this compression.
    pub(super) fn stored(&self, compression: &'static str) -> Stored {
        let color = match &self.meaning {
            Meaning::Gray { inverted: false } => "gray",
            Meaning::Gray { inverted: true } => "gray, white is zero",
            Meaning::Palette(_) => "palette",
            Meaning::Rgb => "rgb",
            Meaning::YCbCr(..) => "ycbcr",
            Meaning::Lab => "lab",
            Meaning::Cmyk(_) => "cmyk",
        };
        Stored::new(self.bits, color, compression)
    }

    /// Whether there are only black and white.
    pub(super) fn is_bilevel(&self) -> bool {
        self.layout.gray && self.bits == 1
    }

    /// What becomes of the colour, where it does not stay what it is.
    pub(super) fn warning(&self) -> Option<&'static str> {
        match self.meaning {
            Meaning::Lab => Some("the colours were converted from Lab to sRGB"),
            Meaning::Cmyk(_) => Some("the colours were converted from CMYK to sRGB"),
            _ => None,
        }
    }

    /// Whether the page's ICC profile is for what the samples become.
    pub(super) fn keeps_profile(&self) -> bool {
        !matches!(self.meaning, Meaning::Lab | Meaning::Cmyk(_))
    }

    /// Stored samples a pixel.
    pub(super) fn samples(&self) -> usize {
        self.samples
    }

    /// Bytes of a stored sample; 1 for those of less than 8 bits.
    pub(super) fn sample_bytes(&self) -> usize {
        usize::from(self.bits).div_ceil(8)
    }

    /// Bytes in a stored row of `width` pixels with `samples` samples each.
    pub(super) fn stored_bytes(&self, width: usize, samples: usize) -> usize {
        (width * samples * usize::from(self.bits)).div_ceil(8)
    }

    /// Of a stored sample.
    pub(super) fn bits(&self) -> u8 {
        self.bits
    }

    /// Whether stored samples are those wanted.
    pub(super) fn is_plain(&self) -> bool {
        let plain = matches!(self.meaning, Meaning::Gray { .. } | Meaning::Rgb);
        plain && self.bits >= 8 && !self.associated
    }

    /// Turns stored rows of `width` pixels into the samples that [`layout`](Self::layout) names.
    pub(super) fn convert(&self, mut stored: Vec<u8>, width: usize) -> Vec<u8> {
        match &self.meaning {
            Meaning::Gray { inverted } => {
                if *inverted {
                    self.invert(&mut stored);
                }
                if self.bits < 8 {
                    let most = u8::MAX >> (8 - self.bits);
                    let scale = u8::MAX / most;
                    stored = unpack(&stored, width, self.bits);
                    stored.iter_mut().for_each(|sample| *sample *= scale);
                }
            }
            Meaning::Palette(colours) => {
                let indexes = unpack(&stored, width, self.bits);
                let colour = |index: u8| colours.get(usize::from(index)).copied();
                stored = indexes
                    .into_iter()
                    .flat_map(|index| colour(index).unwrap_or_default())
                    .collect();
            }
            Meaning::Rgb => {}
            Meaning::YCbCr(colours, _) => {
                for pixel in stored.as_chunks_mut::<3>().0 {
                    *pixel = colours.to_rgb(*pixel);
                }
            }
            Meaning::Lab => lab::to_srgb(&mut stored, self.samples),
            Meaning::Cmyk(inks) => stored = inks.to_srgb(&stored, self.samples),
        }
        if self.associated {
            divide_by_alpha(&mut stored, self.layout);
        }
        stored
    }

    /// Turns gray around; alpha stays.
    fn invert(&self, stored: &mut [u8]) {
        if self.layout.alpha {
            let bytes = self.sample_bytes();
            for pixel in stored.chunks_exact_mut(2 * bytes) {
                pixel[..bytes].iter_mut().for_each(|byte| *byte = !*byte);
            }
        } else {
            stored.iter_mut().for_each(|byte| *byte = !*byte);
        }
    }
}

fn tag<R: Read + Seek>(reader: &mut Decoder<R>, tag: Tag) -> Result<Option<u16>, DecodeError> {
    reader.find_tag_unsigned::<u16>(tag).map_err(refused)
}

fn tags<R: Read + Seek>(
    reader: &mut Decoder<R>,
    tag: Tag,
) -> Result<Option<Vec<u16>>, DecodeError> {
    reader.find_tag_unsigned_vec::<u16>(tag).map_err(refused)
}

/// The bits of a sample, the same for all.
fn sample_bits<R: Read + Seek>(reader: &mut Decoder<R>) -> Result<u8, DecodeError> {
    let bits = tags(reader, Tag::BitsPerSample)?.unwrap_or_else(|| vec![1]);
    let first = bits.first().copied().unwrap_or(1);
    if bits.iter().any(|bits| *bits != first) {
        let what = "channels of different depth";
        return Err(DecodeError::unsupported(
            FORMAT,
            what,
            "save it with 8 or 16 bits",
        ));
    }
    u8::try_from(first).map_err(|error| DecodeError::corrupt(FORMAT, error))
}

fn check_format<R: Read + Seek>(reader: &mut Decoder<R>) -> Result<(), DecodeError> {
    // 1 is unsigned, 4 is undefined, which is read the same.
    let formats = tags(reader, Tag::SampleFormat)?.unwrap_or_default();
    if formats.iter().all(|format| matches!(format, 1 | 4)) {
        return Ok(());
    }
    let what = "floating point or signed samples";
    Err(DecodeError::unsupported(
        FORMAT,
        what,
        "save it with 8 or 16 bits",
    ))
}

/// The colour map: all reds, then all greens, then all blues, of 16 bits.
fn palette<R: Read + Seek>(reader: &mut Decoder<R>, bits: u8) -> Result<Vec<[u8; 3]>, DecodeError> {
    let map = tags(reader, Tag::ColorMap)?.unwrap_or_default();
    let colours = 1_usize << bits.min(8);
    if map.len() < 3 * colours {
        return Err(DecodeError::corrupt(FORMAT, "the palette is too short"));
    }
    // Some programs write 8 bit values all the same.
    let small = map.iter().all(|value| *value < 256);
    let byte = |value: u16| {
        let [high, low] = value.to_be_bytes();
        if small { low } else { high }
    };
    let channel = |index: usize| map[index * map.len() / 3..].iter();
    let channels = channel(0).zip(channel(1)).zip(channel(2));
    Ok(channels
        .take(colours)
        .map(|((red, green), blue)| [byte(*red), byte(*green), byte(*blue)])
        .collect())
}

/// Samples of 1, 2, 4 or 8 bits, rows padded to whole bytes, become one byte each.
fn unpack(stored: &[u8], width: usize, bits: u8) -> Vec<u8> {
    let row_bytes = (width * usize::from(bits)).div_ceil(8);
    let mask = u8::MAX >> (8 - bits);
    let mut samples = Vec::with_capacity(stored.len() * 8 / usize::from(bits));
    for row in stored.chunks_exact(row_bytes) {
        let shifts = (0..8 / bits).rev().map(|place| place * bits);
        let all = row
            .iter()
            .flat_map(|byte| shifts.clone().map(move |shift| byte >> shift & mask));
        samples.extend(all.take(width));
    }
    samples
}

/// Gives colours back what alpha took from them; what is wholly transparent has none.
fn divide_by_alpha(samples: &mut [u8], layout: Layout) {
    let colours = layout.colours();
    let mut divided = Vec::with_capacity(layout.pixel_bytes());
    for pixel in samples.chunks_exact_mut(layout.pixel_bytes()) {
        let alpha = unit_at(pixel, layout.depth, colours);
        divided.clear();
        for channel in 0..colours {
            let colour = unit_at(pixel, layout.depth, channel);
            let straight = if alpha > 0.0 { colour / alpha } else { 0.0 };
            push_unit(straight, layout.depth, &mut divided);
        }
        pixel[..divided.len()].copy_from_slice(&divided);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_samples_come_out_in_order() {
        assert_eq!(unpack(&[0b0100_1011, 0xFF], 3, 4), [4, 11, 15]);
        assert_eq!(unpack(&[0b0001_1011], 3, 2), [0, 1, 2]);
        assert_eq!(unpack(&[0b0100_0000, 0b1000_0000], 2, 1), [0, 1, 1, 0]);
        assert_eq!(unpack(&[7, 9], 2, 8), [7, 9]);
    }

    #[test]
    fn alpha_is_taken_out_of_the_colours() {
        let layout = Layout {
            alpha: true,
            ..Layout::RGB8
        };
        let mut samples = [50, 100, 0, 100, 9, 9, 9, 0, 200, 255, 1, 255];
        divide_by_alpha(&mut samples, layout);
        assert_eq!(samples, [128, 255, 0, 100, 0, 0, 0, 0, 200, 255, 1, 255]);
    }
}
