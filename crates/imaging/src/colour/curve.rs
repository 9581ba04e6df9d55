//! Tone curves: from a stored sample to light, and back.

use moxcms::{ParametricCurve, ToneReprCurve};

/// The curve of one channel, increasing from 0 to 1.
#[derive(Debug, Clone)]
pub(crate) enum Curve {
    /// Of sRGB.
    Srgb,
    /// Light is the sample to this power.
    Gamma(f32),
    /// `(a x + b)^g + e` from `d` on, `c x + f` below.
    Parametric {
        g: f32,
        a: f32,
        b: f32,
        c: f32,
        d: f32,
        e: f32,
        f: f32,
    },
    /// Light at equal distances, straight between them; never falling.
    Table(Vec<f32>),
}

/// Nearer than this to sRGB's curve is sRGB's curve, as tables of it are rounded.
const SRGB_TOLERANCE: f32 = 5e-4;

impl Curve {
    /// The curve of a profile; `None` for one that cannot be gone back.
    pub(super) fn of(curve: &ToneReprCurve) -> Option<Self> {
        let found = match curve {
            ToneReprCurve::Lut(table) => match table.as_slice() {
                [] => Self::Gamma(1.0),
                // One number is an exponent, in 1/256.
                [gamma] => Self::Gamma(f32::from(*gamma) / 256.0),
                table => Self::Table(rising(table)?),
            },
            ToneReprCurve::Parametric(numbers) if numbers.is_empty() => return None,
            ToneReprCurve::Parametric(numbers) => {
                let ParametricCurve {
                    g,
                    a,
                    b,
                    c,
                    d,
                    e,
                    f,
                } = ParametricCurve::new(numbers)?;
                Self::Parametric {
                    g,
                    a,
                    b,
                    c,
                    d,
                    e,
                    f,
                }
            }
        };
        let sound = match found {
            Self::Gamma(gamma) => (0.1..=10.0).contains(&gamma),
            Self::Parametric {
                g,
                a,
                b,
                c,
                d,
                e,
                f,
            } => {
                let numbers = [g, a, b, c, d, e, f];
                numbers.iter().all(|number| number.is_finite())
                    && (0.1..=10.0).contains(&g)
                    && a > 0.0
                    && c >= 0.0
                    && (found.decode(1.0) - 1.0).abs() < 0.02
            }
            Self::Table(_) | Self::Srgb => true,
        };
        if !sound {
            return None;
        }
        Some(if found.is_srgb() { Self::Srgb } else { found })
    }

    pub(super) fn is_srgb(&self) -> bool {
        (0..=64_u8).all(|step| {
            let sample = f32::from(step) / 64.0;
            (self.decode(sample) - srgb_decode(sample)).abs() < SRGB_TOLERANCE
        })
    }

    /// Light for a sample in `[0, 1]`.
    pub(super) fn decode(&self, sample: f32) -> f32 {
        match self {
            Self::Srgb => srgb_decode(sample),
            Self::Gamma(gamma) => sample.max(0.0).powf(*gamma),
            Self::Parametric {
                g,
                a,
                b,
                c,
                d,
                e,
                f,
            } => {
                if sample < *d {
                    c * sample + f
                } else {
                    (a * sample + b).max(0.0).powf(*g) + e
                }
            }
            Self::Table(table) => {
                let last = table.len() - 1;
                let place = sample.clamp(0.0, 1.0) * last as f32;
                let index = whole(place).min(last - 1);
                let part = place - index as f32;
                table[index] + part * (table[index + 1] - table[index])
            }
        }
    }

    /// The sample for light; what is outside `[0, 1]` is clamped.
    pub(super) fn encode(&self, light: f32) -> f32 {
        let light = light.clamp(0.0, 1.0);
        match self {
            Self::Srgb => srgb_encode(light),
            Self::Gamma(gamma) => light.powf(1.0 / gamma),
            Self::Parametric {
                g,
                a,
                b,
                c,
                d,
                e,
                f,
            } => {
                let at_d = (a * d + b).max(0.0).powf(*g) + e;
                if light >= at_d {
                    ((light - e).max(0.0).powf(1.0 / g) - b) / a
                } else if *c > 0.0 {
                    (light - f) / c
                } else {
                    *d
                }
            }
            Self::Table(table) => {
                let last = table.len() - 1;
                // The first entry that is not below; the place is between it and the one before.
                let above = table.partition_point(|entry| *entry < light).min(last);
                let below = above.saturating_sub(1);
                let step = table[above] - table[below];
                let part = if step > 0.0 {
                    (light - table[below]) / step
                } else {
                    0.0
                };
                (below as f32 + part) / last as f32
            }
        }
    }
}

/// The whole part of a place in a table.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a place in a table is not negative and far below 2^24"
)]
fn whole(place: f32) -> usize {
    place as usize
}

/// The table in `[0, 1]`; `None` if it falls.
fn rising(table: &[u16]) -> Option<Vec<f32>> {
    let rises = table.windows(2).all(|pair| pair[0] <= pair[1]) && table.first() < table.last();
    rises.then(|| {
        table
            .iter()
            .map(|entry| f32::from(*entry) / 65_535.0)
            .collect()
    })
}

/// Light for an sRGB sample; below 0 the curve is mirrored, above 1 it goes on.
pub(crate) fn srgb_decode(sample: f32) -> f32 {
    let size = sample.abs();
    let light = if size <= 0.040_45 {
        size / 12.92
    } else {
        ((size + 0.055) / 1.055).powf(2.4)
    };
    light.copysign(sample)
}

/// The sRGB sample for light; below 0 the curve is mirrored, above 1 it goes on.
pub(crate) fn srgb_encode(light: f32) -> f32 {
    let size = light.abs();
    let sample = if size <= 0.003_130_8 {
        size * 12.92
    } else {
        1.055 * size.powf(1.0 / 2.4) - 0.055
    };
    sample.copysign(light)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_curve_can_be_gone_back() {
        let table = |gamma: f32| {
            let entry = |i: u16| whole((f32::from(i) / 1023.0).powf(gamma) * 65_535.0);
            ToneReprCurve::Lut((0..1024).filter_map(|i| entry(i).try_into().ok()).collect())
        };
        let curves = [
            ToneReprCurve::Lut(Vec::new()),
            ToneReprCurve::Lut(vec![563]),
            table(1.8),
            ToneReprCurve::Parametric(vec![2.4]),
            ToneReprCurve::Parametric(vec![2.4, 0.9, 0.1, 0.2, 0.05]),
        ];
        for found in &curves {
            let curve = Curve::of(found).unwrap();
            assert!(!curve.is_srgb());
            for step in 4..=1000_u16 {
                let sample = f32::from(step) / 1000.0;
                let again = curve.encode(curve.decode(sample));
                assert!((again - sample).abs() < 2e-3, "{curve:?} {sample} {again}");
            }
        }
    }

    #[test]
    fn srgb_is_recognised_however_it_is_written() {
        let table = (0..1024_u16).filter_map(|i| {
            let light = srgb_decode(f32::from(i) / 1023.0);
            whole(light * 65_535.0 + 0.5).try_into().ok()
        });
        let parametric = vec![2.4, 1.0 / 1.055, 0.055 / 1.055, 1.0 / 12.92, 0.040_45];
        for curve in [
            ToneReprCurve::Lut(table.collect()),
            ToneReprCurve::Parametric(parametric),
        ] {
            assert!(matches!(Curve::of(&curve), Some(Curve::Srgb)));
        }
        let gamma = ToneReprCurve::Lut(vec![563]);
        assert!(!matches!(Curve::of(&gamma), Some(Curve::Srgb)));
    }

    #[test]
    fn a_curve_that_falls_is_none() {
        assert!(Curve::of(&ToneReprCurve::Lut(vec![0, 9, 8])).is_none());
        assert!(Curve::of(&ToneReprCurve::Lut(vec![0, 0])).is_none());
        assert!(Curve::of(&ToneReprCurve::Parametric(vec![f32::NAN])).is_none());
    }
}
