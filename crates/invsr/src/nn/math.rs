//! Scalar functions in a form that the compiler can vectorise; the libm calls cannot be.

/// `e^x` to about two units in the last place; saturates where the result would leave the normal
/// numbers. `x = n ln 2 + r` with `|r| <= ln 2 / 2`, a Taylor sum for `e^r`, and `2^n` by exponent.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    /// Adding 1.5 * 2^23 rounds to an integer and leaves that integer in the low bits.
    const ROUND: f32 = 12_582_912.0;
    /// ln 2 in two parts, the first exact in few bits, so that `n * LN2_HIGH` is exact.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = x.clamp(-87.0, 88.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (x - n * LN2_HIGH) - n * LN2_LOW;
    let mut sum = 1.0 / 5040.0;
    for coefficient in [
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        0.5,
        1.0,
        1.0,
    ] {
        sum = sum * r + coefficient;
    }
    let exponent = shifted
        .to_bits()
        .wrapping_sub(ROUND.to_bits())
        .wrapping_add(127);
    sum * f32::from_bits(exponent << 23)
}

/// `x / (1 + e^-x)`.
#[inline(always)]
pub(crate) fn silu(x: f32) -> f32 {
    x / (1.0 + exp(-x))
}

/// `x` times the normal distribution function at `x`; the error function is formula 7.1.26 of
/// Abramowitz and Stegun, good to 1.5e-7.
#[inline(always)]
pub(crate) fn gelu(x: f32) -> f32 {
    let y = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * y);
    let mut sum = 1.061_405_4;
    for coefficient in [-1.453_152_1, 1.421_413_8, -0.284_496_74, 0.254_829_6] {
        sum = sum * t + coefficient;
    }
    let tail = sum * t * exp(-y * y);
    let erf = (1.0 - tail).copysign(x);
    0.5 * x * (1.0 + erf)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid() -> impl Iterator<Item = f32> {
        (-8700i16..=8700).map(|i| f32::from(i) * 0.01)
    }

    #[test]
    fn exp_is_within_two_units_in_the_last_place() {
        for x in grid() {
            let expected = f64::from(x).exp();
            let error = (f64::from(exp(x)) - expected).abs() / expected;
            assert!(error < 2.4e-7, "exp({x}) is off by {error:e}");
        }
        assert!(exp(f32::NAN).is_nan());
        assert!(exp(-1e30) < 1e-37 && exp(1e30) > 1e38);
    }

    #[test]
    fn silu_and_gelu_follow_their_definitions() {
        for x in grid().filter(|x| x.abs() < 12.0) {
            let wide = f64::from(x);
            let expected = wide / (1.0 + (-wide).exp());
            assert!((f64::from(silu(x)) - expected).abs() < 2e-6, "silu({x})");
        }
        let known = [
            (0.0, 0.0),
            (1.0, 0.841_344_746),
            (-1.0, -0.158_655_254),
            (2.0, 1.954_499_736),
        ];
        for (x, expected) in known {
            assert!(
                (f64::from(gelu(x)) - expected).abs() < 4e-7,
                "gelu({x}) is {}",
                gelu(x)
            );
        }
        assert!((gelu(9.0) - 9.0).abs() < 1e-6 && gelu(-9.0).abs() < 1e-6);
    }
}
