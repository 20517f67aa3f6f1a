//! Logarithm and exponential, computed only with additions, multiplications and divisions.
//!
//! The standard library uses the platform's libm, whose last bit differs between platforms, and a dataset must be the
//! same everywhere. IEEE 754 rounds these operations identically on every machine.

const LN_2_HIGH: f64 = 6.931_471_803_691_238e-1;
const LN_2_LOW: f64 = 1.908_214_929_270_587_7e-10;

/// Returns the natural logarithm of a positive, normal number, with a relative error below 1e-14.
#[must_use]
pub(super) fn ln(x: f64) -> f64 {
    debug_assert!(x.is_normal() && x > 0.0, "{x} has no logarithm here");
    let bits = x.to_bits();
    let mut exponent = (bits >> 52) as i64 - 1023;
    let mut mantissa = f64::from_bits((bits & 0x000f_ffff_ffff_ffff) | 0x3ff0_0000_0000_0000);
    if mantissa > std::f64::consts::SQRT_2 {
        mantissa *= 0.5;
        exponent += 1;
    }
    // ln m = 2 artanh((m - 1) / (m + 1)), whose argument is at most 0.172 here.
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let square = s * s;
    let mut sum = 0.0;
    for odd in [21.0, 19.0, 17.0, 15.0, 13.0, 11.0, 9.0, 7.0, 5.0, 3.0, 1.0] {
        sum = sum * square + 1.0 / odd;
    }
    let exponent = exponent as f64;
    exponent * LN_2_HIGH + (2.0 * s * sum + exponent * LN_2_LOW)
}

/// Returns e to the power of `x`, with a relative error below 1e-14. The result is 0 below -700, and at most e⁷⁰⁰.
#[must_use]
pub(super) fn exp(x: f64) -> f64 {
    if x < -700.0 {
        return 0.0;
    }
    let x = x.min(700.0);
    let turns = (x * std::f64::consts::LOG2_E).round();
    let rest = (x - turns * LN_2_HIGH) - turns * LN_2_LOW;
    // This is the Taylor series. `rest` is at most 0.347, so the 15th term is below 1e-18.
    let mut sum = 1.0;
    for n in [14.0, 13.0, 12.0, 11.0, 10.0, 9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0] {
        sum = 1.0 + sum * rest * (1.0 / n);
    }
    sum * f64::from_bits(((turns as i64 + 1023) as u64) << 52)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_agree_with_the_platforms() {
        for step in 1..20_000_u32 {
            let x = f64::from(step) * 0.037;
            assert!((ln(x) - x.ln()).abs() <= 1e-14 * x.ln().abs().max(1.0), "ln {x}");
            let y = f64::from(step) * 0.003 - 40.0;
            assert!((exp(y) - y.exp()).abs() <= 1e-14 * y.exp(), "exp {y}");
        }
        assert_eq!((ln(1.0), exp(0.0), exp(-1000.0)), (0.0, 1.0, 0.0));
        assert!(exp(1e9).is_finite() && ln(1e-300) < -690.0);
    }

    #[test]
    fn their_last_bits_are_pinned() {
        let bits = [ln(0.3), ln(12_345.678), exp(-0.7), exp(3.3)].map(f64::to_bits);
        assert_eq!(bits, PINNED, "{bits:#x?}: datasets made before would no longer come out the same");
    }

    const PINNED: [u64; 4] =
        [0xbff3_4378_fcbd_a721, 0x4022_d795_5979_1e31, 0x3fdf_c80d_b9dd_5542, 0x403b_1cd5_e780_7b7b];
}
