//! Maps numbers to integers that sort in the same order, so that neighbours have small differences.

const SIGN: u64 = 1 << 63;

/// Returns a key that grows with the value. If a value has trailing zero bits, its key has the same number of them.
/// NaN has no key, and 0.0 and -0.0 have the same key.
#[inline]
pub(super) fn key_of(value: f64) -> u64 {
    let bits = value.to_bits();
    match bits & SIGN {
        0 => SIGN + bits,
        _ => SIGN - (bits - SIGN),
    }
}

/// Returns the inverse of [`key_of`].
#[inline]
pub(super) fn value_of(key: u64) -> f64 {
    match key & SIGN {
        0 => -f64::from_bits(SIGN - key),
        _ => f64::from_bits(key - SIGN),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn keys_are_in_order_and_lead_back(one in any::<f64>(), other in any::<f64>()) {
            prop_assert_eq!(value_of(key_of(one)), one);
            prop_assert_eq!(key_of(one).cmp(&key_of(other)), one.partial_cmp(&other).unwrap());
            prop_assert_eq!(key_of(one).trailing_zeros() >= 52, one.to_bits().trailing_zeros() >= 52);
        }
    }

    #[test]
    fn every_key_is_a_number_or_nan_without_a_panic() {
        for key in [1, SIGN - 1, SIGN, SIGN + 1, u64::MAX] {
            let value = value_of(key);
            assert!(value.is_nan() || key_of(value) == key, "{key:#x}");
        }
    }
}
