//! The currencies of datasets, and their amounts as decimal text.

use crate::base::money::write_magnitude;

/// An ISO 4217 currency and its number of digits after the decimal point.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Currency {
    /// Three capital letters.
    pub code: &'static str,
    /// The number of digits after the decimal point: 1999 minor units with 2 digits are 19.99.
    pub digits: u8,
    /// Minor units per 100 US cents, approximately, so that prices have a typical size for the currency.
    minor_for_usd: u32,
}

const KNOWN: &[Currency] = &[
    Currency { code: "USD", digits: 2, minor_for_usd: 100 },
    Currency { code: "EUR", digits: 2, minor_for_usd: 92 },
    Currency { code: "GBP", digits: 2, minor_for_usd: 79 },
    Currency { code: "CHF", digits: 2, minor_for_usd: 88 },
    Currency { code: "CAD", digits: 2, minor_for_usd: 137 },
    Currency { code: "AUD", digits: 2, minor_for_usd: 152 },
    Currency { code: "CNY", digits: 2, minor_for_usd: 720 },
    Currency { code: "INR", digits: 2, minor_for_usd: 8_400 },
    Currency { code: "BRL", digits: 2, minor_for_usd: 550 },
    Currency { code: "MXN", digits: 2, minor_for_usd: 1_800 },
    Currency { code: "PLN", digits: 2, minor_for_usd: 400 },
    Currency { code: "SEK", digits: 2, minor_for_usd: 1_050 },
    Currency { code: "JPY", digits: 0, minor_for_usd: 150 },
    Currency { code: "KRW", digits: 0, minor_for_usd: 1_350 },
    Currency { code: "KWD", digits: 3, minor_for_usd: 307 },
    Currency { code: "BHD", digits: 3, minor_for_usd: 377 },
];

impl Currency {
    /// Returns the currency with this code, which must be in capitals.
    #[must_use]
    pub fn of(code: &str) -> Option<Currency> {
        KNOWN.iter().copied().find(|known| known.code == code)
    }

    /// Returns every currency code.
    pub(super) fn codes() -> impl Iterator<Item = &'static str> {
        KNOWN.iter().map(|known| known.code)
    }

    /// Returns the price in this currency's minor units for `cents` US cents, at least 1.
    pub(super) fn price_of_usd_cents(self, cents: u64) -> u64 {
        (cents * u64::from(self.minor_for_usd) / 100).max(1)
    }

    /// Appends an amount as decimal text: `19.99`, `0.05`, or `1200` if the currency has no digits.
    pub fn push(self, minor: u64, out: &mut Vec<u8>) {
        write_magnitude(minor, self.digits, out);
    }

    /// Returns an amount as decimal text.
    #[must_use]
    pub fn text(self, minor: u64) -> String {
        let mut out = Vec::new();
        self.push(minor, &mut out);
        String::from_utf8_lossy(&out).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_have_the_digits_of_their_currency() {
        let text = |code: &str, minor| Currency::of(code).map(|currency| currency.text(minor)).unwrap();
        assert_eq!(["0.00", "0.05", "0.99", "1.00", "19.99"], [0, 5, 99, 100, 1999].map(|m| text("USD", m)));
        assert_eq!(["0", "7", "1200"], [0, 7, 1200].map(|m| text("JPY", m)));
        assert_eq!(["0.001", "0.120", "12.345"], [1, 120, 12_345].map(|m| text("KWD", m)));
        assert_eq!(text("USD", u64::MAX), "184467440737095516.15");
        assert_eq!(Currency::of("usd"), None);
    }
}
