//! How many pixels there are to a length.

/// Of what [`Resolution`] counts the pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// 25.4 mm.
    Inch,
    /// 10 mm.
    Centimetre,
}

impl Unit {
    /// The number of the unit in EXIF and TIFF.
    pub(crate) fn tag(self) -> u16 {
        match self {
            Self::Inch => 2,
            Self::Centimetre => 3,
        }
    }

    /// Its name in sentences: `inch`, `cm`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Inch => "inch",
            Self::Centimetre => "cm",
        }
    }
}

/// A number of pixels as EXIF and TIFF write it: numerator and denominator, neither of them 0.
pub(crate) type Ratio = (u32, u32);

/// Pixels to a length, across and down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resolution {
    pub(crate) x: Ratio,
    pub(crate) y: Ratio,
    pub(crate) unit: Unit,
}

const METRE_IN_INCHES: f64 = 10_000.0 / 254.0;

impl Resolution {
    /// `None` if it says nothing: a zero.
    pub(crate) fn new(x: Ratio, y: Ratio, unit: Unit) -> Option<Self> {
        let sound = [x.0, x.1, y.0, y.1].iter().all(|number| *number > 0);
        sound.then_some(Self { x, y, unit })
    }

    /// From whole pixels a metre, as PNG has them; taken for whole pixels an inch where those are meant.
    pub(crate) fn from_metres(x: u32, y: u32) -> Option<Self> {
        let inches = |pixels: u32| {
            let meant = rounded(f64::from(pixels) / METRE_IN_INCHES);
            let back = rounded(f64::from(meant) * METRE_IN_INCHES);
            (back == pixels && meant > 0).then_some(meant)
        };
        match (inches(x), inches(y)) {
            (Some(x), Some(y)) => Self::new((x, 1), (y, 1), Unit::Inch),
            _ => Self::new((x, 100), (y, 100), Unit::Centimetre),
        }
    }

    /// The same paper with `scale` times the pixels in each direction.
    pub(crate) fn times(self, scale: u32) -> Option<Self> {
        let times = |(numerator, denominator): Ratio| {
            if denominator.is_multiple_of(scale) {
                return Some((numerator, denominator / scale));
            }
            Some((numerator.checked_mul(scale)?, denominator))
        };
        Self::new(times(self.x)?, times(self.y)?, self.unit)
    }

    /// The same for a picture that was turned on its side.
    pub(crate) fn turned(self) -> Self {
        Self {
            x: self.y,
            y: self.x,
            unit: self.unit,
        }
    }

    /// Pixels an inch, across and down.
    #[must_use]
    pub fn per_inch(&self) -> (f64, f64) {
        let factor = match self.unit {
            Unit::Inch => 1.0,
            Unit::Centimetre => 2.54,
        };
        (factor * value(self.x), factor * value(self.y))
    }

    /// Pixels a metre, across and down, rounded.
    pub(crate) fn per_metre(&self) -> (u32, u32) {
        let (x, y) = self.per_inch();
        (rounded(x * METRE_IN_INCHES), rounded(y * METRE_IN_INCHES))
    }

    /// Pixels an inch or a centimetre, across and down, rounded; `None` if two bytes cannot hold them.
    pub(crate) fn density(&self) -> Option<(u16, u16)> {
        let whole = |ratio| u16::try_from(rounded(value(ratio))).ok();
        let (x, y) = (whole(self.x)?, whole(self.y)?);
        (x > 0 && y > 0).then_some((x, y))
    }
}

fn value((numerator, denominator): Ratio) -> f64 {
    f64::from(numerator) / f64::from(denominator)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` keeps to the range of the integer"
)]
fn rounded(number: f64) -> u32 {
    number.round() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_whole_number_of_dots_an_inch_survives_the_way_through_metres() {
        for dpi in 1..20_000 {
            let inch = Resolution::new((dpi, 1), (dpi, 1), Unit::Inch).unwrap();
            let (x, y) = inch.per_metre();
            assert_eq!(Resolution::from_metres(x, y), Some(inch), "{dpi}");
        }
    }

    #[test]
    fn the_paper_stays_as_large_as_it_was() {
        let scan = Resolution::new((300, 1), (600, 8), Unit::Centimetre).unwrap();
        let result = scan.times(4).unwrap();
        assert_eq!((result.x, result.y), ((1200, 1), (600, 2)));
        assert_eq!(result.turned().x, (600, 2));
        let most = Resolution::new((u32::MAX, 1), (1, 1), Unit::Inch).unwrap();
        assert_eq!(most.times(4), None);
        assert_eq!(most.density(), None);
        assert_eq!(Resolution::new((0, 1), (1, 1), Unit::Inch), None);
    }
}
