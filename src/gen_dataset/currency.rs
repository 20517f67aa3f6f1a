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
    /// The country of a tenant with this currency, as two letters (ISO 3166).
    pub country: &'static str,
    /// An IANA time zone of that country.
    pub time_zone: &'static str,
}

const fn known(
    code: &'static str,
    digits: u8,
    minor_for_usd: u32,
    country: &'static str,
    time_zone: &'static str,
) -> Currency {
    Currency { code, digits, minor_for_usd, country, time_zone }
}

const KNOWN: &[Currency] = &[
    known("USD", 2, 100, "US", "America/New_York"),
    known("EUR", 2, 92, "DE", "Europe/Berlin"),
    known("GBP", 2, 79, "GB", "Europe/London"),
    known("CHF", 2, 88, "CH", "Europe/Zurich"),
    known("CAD", 2, 137, "CA", "America/Toronto"),
    known("AUD", 2, 152, "AU", "Australia/Sydney"),
    known("CNY", 2, 720, "CN", "Asia/Shanghai"),
    known("INR", 2, 8_400, "IN", "Asia/Kolkata"),
    known("BRL", 2, 550, "BR", "America/Sao_Paulo"),
    known("MXN", 2, 1_800, "MX", "America/Mexico_City"),
    known("PLN", 2, 400, "PL", "Europe/Warsaw"),
    known("SEK", 2, 1_050, "SE", "Europe/Stockholm"),
    known("JPY", 0, 150, "JP", "Asia/Tokyo"),
    known("KRW", 0, 1_350, "KR", "Asia/Seoul"),
    known("KWD", 3, 307, "KW", "Asia/Kuwait"),
    known("BHD", 3, 377, "BH", "Asia/Bahrain"),
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

    #[test]
    fn every_time_zone_exists() {
        for known in KNOWN {
            assert!(jiff::tz::TimeZone::get(known.time_zone).is_ok(), "{}", known.time_zone);
            assert!(crate::base::money::Currency::parse(known.code).is_some(), "{}", known.code);
        }
    }
}
