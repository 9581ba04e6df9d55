//! CMYK by its profile to sRGB: one way, as there is no way back that archives would agree on.

use std::{fmt, sync::Arc};

use moxcms::{ColorProfile, DataColorSpace, Layout, Transform8BitExecutor, TransformOptions};

/// What four inks look like together.
#[derive(Clone)]
pub(crate) struct Inks(Arc<Transform8BitExecutor>);

impl fmt::Debug for Inks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Inks")
    }
}

impl Inks {
    /// By a CMYK profile; `None` without one, or with one that cannot be used.
    pub(crate) fn of(icc: Option<&[u8]>) -> Option<Self> {
        let profile = ColorProfile::new_from_slice(icc?).ok()?;
        if profile.color_space != DataColorSpace::Cmyk {
            return None;
        }
        let srgb = ColorProfile::new_srgb();
        let options = TransformOptions::default();
        let transform = profile.create_transform_8bit(Layout::Rgba, &srgb, Layout::Rgb, options);
        transform.ok().map(Self)
    }

    /// RGB samples for pixels of `samples` bytes: four inks (255 is full), and perhaps alpha, which
    /// stays.
    pub(crate) fn to_srgb(&self, stored: &[u8], samples: usize) -> Vec<u8> {
        let pixels = stored.chunks_exact(samples);
        let inks: Vec<u8> = pixels
            .clone()
            .flat_map(|pixel| &pixel[..4])
            .copied()
            .collect();
        let mut rgb = vec![0; inks.len() / 4 * 3];
        // It fails only for lengths that do not match.
        if self.0.transform(&inks, &mut rgb).is_err() {
            rgb.clear();
        }
        if samples == 4 {
            return rgb;
        }
        let colours = rgb.chunks_exact(3).zip(pixels);
        colours
            .flat_map(|(rgb, pixel)| [rgb[0], rgb[1], rgb[2], pixel[4]])
            .collect()
    }
}
