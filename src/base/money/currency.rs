//! Currencies: the active ISO 4217 codes and their number of digits after the point.

use std::fmt;

/// The currencies and funds of ISO 4217 list one that have minor units, as of 1 January 2026 (without BGN, with XCG and
/// ZWG): code and number of digits, sorted. Metals, baskets and test codes are excluded: their minor units
/// are "N.A.", so amounts cannot be counted in them.
#[rustfmt::skip]
const CURRENCIES: [[u8; 4]; 165] = [
    *b"AED2", *b"AFN2", *b"ALL2", *b"AMD2", *b"AOA2", *b"ARS2", *b"AUD2", *b"AWG2", *b"AZN2", *b"BAM2", *b"BBD2",
    *b"BDT2", *b"BHD3", *b"BIF0", *b"BMD2", *b"BND2", *b"BOB2", *b"BOV2", *b"BRL2", *b"BSD2", *b"BTN2", *b"BWP2",
    *b"BYN2", *b"BZD2", *b"CAD2", *b"CDF2", *b"CHE2", *b"CHF2", *b"CHW2", *b"CLF4", *b"CLP0", *b"CNY2", *b"COP2",
    *b"COU2", *b"CRC2", *b"CUP2", *b"CVE2", *b"CZK2", *b"DJF0", *b"DKK2", *b"DOP2", *b"DZD2", *b"EGP2", *b"ERN2",
    *b"ETB2", *b"EUR2", *b"FJD2", *b"FKP2", *b"GBP2", *b"GEL2", *b"GHS2", *b"GIP2", *b"GMD2", *b"GNF0", *b"GTQ2",
    *b"GYD2", *b"HKD2", *b"HNL2", *b"HTG2", *b"HUF2", *b"IDR2", *b"ILS2", *b"INR2", *b"IQD3", *b"IRR2", *b"ISK0",
    *b"JMD2", *b"JOD3", *b"JPY0", *b"KES2", *b"KGS2", *b"KHR2", *b"KMF0", *b"KPW2", *b"KRW0", *b"KWD3", *b"KYD2",
    *b"KZT2", *b"LAK2", *b"LBP2", *b"LKR2", *b"LRD2", *b"LSL2", *b"LYD3", *b"MAD2", *b"MDL2", *b"MGA2", *b"MKD2",
    *b"MMK2", *b"MNT2", *b"MOP2", *b"MRU2", *b"MUR2", *b"MVR2", *b"MWK2", *b"MXN2", *b"MXV2", *b"MYR2", *b"MZN2",
    *b"NAD2", *b"NGN2", *b"NIO2", *b"NOK2", *b"NPR2", *b"NZD2", *b"OMR3", *b"PAB2", *b"PEN2", *b"PGK2", *b"PHP2",
    *b"PKR2", *b"PLN2", *b"PYG0", *b"QAR2", *b"RON2", *b"RSD2", *b"RUB2", *b"RWF0", *b"SAR2", *b"SBD2", *b"SCR2",
    *b"SDG2", *b"SEK2", *b"SGD2", *b"SHP2", *b"SLE2", *b"SOS2", *b"SRD2", *b"SSP2", *b"STN2", *b"SVC2", *b"SYP2",
    *b"SZL2", *b"THB2", *b"TJS2", *b"TMT2", *b"TND3", *b"TOP2", *b"TRY2", *b"TTD2", *b"TWD2", *b"TZS2", *b"UAH2",
    *b"UGX0", *b"USD2", *b"USN2", *b"UYI0", *b"UYU2", *b"UYW4", *b"UZS2", *b"VED2", *b"VES2", *b"VND0", *b"VUV0",
    *b"WST2", *b"XAD2", *b"XAF0", *b"XCD2", *b"XCG2", *b"XOF0", *b"XPF0", *b"YER2", *b"ZAR2", *b"ZMW2", *b"ZWG2",
];

const _: () = {
    let mut at = 1;
    while at < CURRENCIES.len() {
        assert!(key(CURRENCIES[at - 1]) < key(CURRENCIES[at]), "not sorted");
        at += 1;
    }
};

/// The digits after the point plus one, by the place of a code, and 0 where there is no currency. Exports ask for each
/// amount, so a search would take longer than writing the amount. The table is 32 KiB, of which the codes in use are a
/// few cache lines.
static DIGITS: [u8; 1 << 15] = {
    let mut digits = [0; 1 << 15];
    let mut at = 0;
    while at < CURRENCIES.len() {
        let [a, b, c, count] = CURRENCIES[at];
        digits[place([a, b, c])] = count - b'0' + 1;
        at += 1;
    }
    digits
};

/// Returns the place of a code in [`DIGITS`]: five bits a letter. Codes of other bytes than capitals have one too.
const fn place([a, b, c]: [u8; 3]) -> usize {
    ((a & 31) as usize) << 10 | ((b & 31) as usize) << 5 | (c & 31) as usize
}

/// Returns a code as a number that sorts in the same order. The number of digits after the point is ignored.
const fn key([a, b, c, _]: [u8; 4]) -> u32 {
    u32::from_be_bytes([0, a, b, c])
}

/// An active currency of ISO 4217. Sorts by its code.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Currency([u8; 3]);

impl Currency {
    /// The maximum number of digits after the point in any currency.
    pub const DIGITS_MAX: u8 = 4;

    /// Returns the currency of an ISO 4217 code in three capitals. `None` for anything else, including withdrawn
    /// codes. Takes about 2 ns.
    #[must_use]
    pub fn parse(code: &str) -> Option<Currency> {
        let &[a, b, c] = code.as_bytes() else { return None };
        let is_known = [a, b, c].iter().all(u8::is_ascii_uppercase) && DIGITS[place([a, b, c])] > 0;
        is_known.then_some(Currency([a, b, c]))
    }

    /// Returns the number of digits after the point: 2 for USD, 0 for JPY, 3 for KWD, 4 for CLF. Takes about 1 ns.
    #[must_use]
    pub fn digits(self) -> u8 {
        DIGITS[place(self.0)].saturating_sub(1)
    }

    /// Returns the code in three capitals.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// Returns every currency, sorted by code.
    pub fn all() -> impl ExactSizeIterator<Item = Currency> {
        CURRENCIES.iter().map(|&[a, b, c, _]| Currency([a, b, c]))
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_currency_is_found_by_its_code_alone() {
        assert_eq!(Currency::all().len(), 165);
        for currency in Currency::all() {
            assert_eq!(Currency::parse(currency.as_str()), Some(currency));
            assert_eq!(currency.to_string(), currency.as_str());
            assert!(currency.digits() <= Currency::DIGITS_MAX);
        }
        let known = |code: &str| Currency::all().any(|currency| currency.as_str() == code);
        for a in b'A'..=b'Z' {
            for b in b'A'..=b'Z' {
                for c in b'A'..=b'Z' {
                    let code = String::from_utf8(vec![a, b, c]).expect("capitals");
                    assert_eq!(Currency::parse(&code).is_some(), known(&code), "{code}");
                }
            }
        }
        for code in
            ["", "US", "usd", "USD ", "USDX", "U\u{e9}", "US2", "\u{20ac}", "BGN", "HRK", "XAU", "XXX"]
        {
            assert_eq!(Currency::parse(code), None, "{code}");
        }
    }

    #[test]
    fn digits_are_those_of_the_standard() {
        let with = |digits: u8| -> Vec<String> {
            Currency::all().filter(|currency| currency.digits() == digits).map(|c| c.to_string()).collect()
        };
        assert_eq!(with(0).join(" "), "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF");
        assert_eq!(with(3).join(" "), "BHD IQD JOD KWD LYD OMR TND");
        assert_eq!(with(4).join(" "), "CLF UYW");
        assert_eq!(with(2).len(), 165 - 17 - 7 - 2);
    }
}
