//! Money as integers of a currency's minor unit. It is parsed from decimal text and written back without floating
//! point.
//!
//! In: text and a number of digits after the point. Out: `i64` minor units. Owns: [`Currency`], the list of ISO 4217.
//! Never: rounds, or guesses the meaning of a comma.

mod currency;

pub use currency::Currency;

/// The reason why a string is not an amount. It is the sender's error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    #[error("not a decimal like 19.99")]
    NotADecimal,
    #[error("negative")]
    Negative,
    #[error("more digits after the point than the currency has")]
    TooManyDigits,
    #[error("more than 9223372036854775807 minor units")]
    TooLarge,
}

/// The maximum length of a string whose digits always fit into 64 bits, so that no overflow check is needed.
const SHORT_BYTES_MAX: usize = 18;

/// Parses a decimal string into minor units: digits, and optionally a point with digits after it. Leading zeros, and
/// trailing zeros beyond `digits`, change nothing. A plus, spaces, an exponent and grouped digits are errors. Takes
/// about 8 ns.
///
/// # Errors
/// In this order: not a decimal; a minus before one (even before zero); a digit other than zero beyond those of the
/// currency; a number too large for an `i64`.
#[inline]
pub fn parse_decimal(text: &[u8], digits: u8) -> Result<i64, MoneyError> {
    match parse_short(text, digits) {
        Some(minor) => Ok(minor),
        None => parse_exactly(text, digits, Exponent::Refused),
    }
}

/// Parses a number as RFC 8259 writes it, as [`parse_decimal`] does. An exponent is permitted if the value
/// is a whole number of minor units. The time depends on the length of the text, not on the exponent.
///
/// # Errors
/// See [`parse_decimal`].
#[inline]
pub fn parse_number(text: &[u8], digits: u8) -> Result<i64, MoneyError> {
    match parse_short(text, digits) {
        Some(minor) => Ok(minor),
        None => parse_exactly(text, digits, Exponent::Taken),
    }
}

/// Parses short plain numbers without excess digits. `None` means that [`parse_exactly`] has to decide.
#[inline]
fn parse_short(text: &[u8], digits: u8) -> Option<i64> {
    if text.len() > SHORT_BYTES_MAX {
        return None;
    }
    let mut value = 0_i64;
    let mut point = None;
    for (at, &byte) in text.iter().enumerate() {
        let digit = byte.wrapping_sub(b'0');
        if digit <= 9 {
            value = value * 10 + i64::from(digit);
        } else if byte == b'.' && point.is_none() {
            point = Some(at);
        } else {
            return None;
        }
    }
    let (whole_len, fraction_len) = match point {
        None => (text.len(), 0),
        Some(at) => (at, text.len() - at - 1),
    };
    if whole_len == 0 || (point.is_some() && fraction_len == 0) {
        return None;
    }
    let missing = usize::from(digits).checked_sub(fraction_len)?;
    value.checked_mul(10_i64.checked_pow(missing as u32)?)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Exponent {
    Refused,
    Taken,
}

/// Larger exponents are clamped to this. It is far more than the digits of any input and far less than an overflow.
const EXPONENT_MAX: i64 = 1 << 60;

/// Parses a decimal of any length.
#[cold]
fn parse_exactly(text: &[u8], digits: u8, exponent: Exponent) -> Result<i64, MoneyError> {
    let decimal = Decimal::split(text, exponent)?;
    if decimal.is_negative {
        return Err(MoneyError::Negative);
    }
    // An i64 has at most 19 digits.
    i64::try_from(decimal.magnitude(digits, 19)?).map_err(|_| MoneyError::TooLarge)
}

/// Parses a bound of amounts in units of `digits` decimal places. Unlike an amount, a bound may be negative or larger
/// than every amount. Beyond 38 digits, it is clamped.
///
/// # Errors
/// Not a decimal; a digit other than zero beyond the decimal places.
pub fn parse_bound(text: &[u8], digits: u8) -> Result<i128, MoneyError> {
    let decimal = Decimal::split(text, Exponent::Refused)?;
    let bound = match decimal.magnitude(digits, 38) {
        Err(MoneyError::TooLarge) => i128::MAX,
        magnitude => magnitude?.cast_signed(),
    };
    Ok(if decimal.is_negative { -bound } else { bound })
}

/// The maximum number of digits of a decimal that is written without its exponent: all that a float may have.
const PLAIN_DIGITS_MAX: i64 = 400;

/// Returns a decimal of the same value without an exponent, or `None` if the text is not a decimal, or if the result
/// would have more than 400 digits.
#[must_use]
pub fn without_exponent(text: &[u8]) -> Option<String> {
    let Decimal { is_negative, whole, fraction, exponent } = Decimal::split(text, Exponent::Taken).ok()?;
    let count = (whole.len() + fraction.len()) as i64;
    // The number of digits before the point.
    let point = exponent.saturating_add(whole.len() as i64);
    let (leading, trailing) = (1_i64.saturating_sub(point).max(0), point.saturating_sub(count).max(0));
    if leading.max(trailing).saturating_add(count) > PLAIN_DIGITS_MAX {
        return None;
    }
    let zeros = |count: i64| std::iter::repeat_n(b'0', count as usize);
    let mut plain: Vec<u8> = zeros(leading).chain(whole.iter().copied()).collect();
    plain.extend(fraction.iter().copied().chain(zeros(trailing)));
    let point = point.max(1) as usize;
    if point < plain.len() {
        plain.insert(point, b'.');
    }
    if is_negative {
        plain.insert(0, b'-');
    }
    String::from_utf8(plain).ok()
}

/// The parts of a decimal.
struct Decimal<'t> {
    is_negative: bool,
    whole: &'t [u8],
    fraction: &'t [u8],
    exponent: i64,
}

impl<'t> Decimal<'t> {
    fn split(text: &'t [u8], exponent: Exponent) -> Result<Decimal<'t>, MoneyError> {
        let (is_negative, text) = match text {
            [b'-', text @ ..] => (true, text),
            text => (false, text),
        };
        let (whole, rest) = split_digits(text);
        let (fraction, rest) = match rest {
            [b'.', rest @ ..] => match split_digits(rest) {
                ([], _) => return Err(MoneyError::NotADecimal),
                split => split,
            },
            rest => (&[][..], rest),
        };
        let exponent = match rest {
            [] => 0,
            [b'e' | b'E', rest @ ..] if exponent == Exponent::Taken => parse_exponent(rest)?,
            _ => return Err(MoneyError::NotADecimal),
        };
        if whole.is_empty() {
            return Err(MoneyError::NotADecimal);
        }
        Ok(Decimal { is_negative, whole, fraction, exponent })
    }

    /// Returns the absolute value, with at most `digits_max` digits, which is at most 38.
    fn magnitude(&self, digits: u8, digits_max: i64) -> Result<u128, MoneyError> {
        let Decimal { whole, fraction, exponent, .. } = *self;
        // The digits from the first nonzero one to the last nonzero one, and the power of ten of the last one.
        let all = || whole.iter().chain(fraction);
        let zeros_front = all().take_while(|&&digit| digit == b'0').count();
        let count = all().count();
        if zeros_front == count {
            return Ok(0);
        }
        let zeros_end = all().rev().take_while(|&&digit| digit == b'0').count();
        let power = exponent + zeros_end as i64 - fraction.len() as i64 + i64::from(digits);
        if power < 0 {
            return Err(MoneyError::TooManyDigits);
        }
        let significant = count - zeros_front - zeros_end;
        if significant as i64 + power > digits_max {
            return Err(MoneyError::TooLarge);
        }
        let value = all()
            .skip(zeros_front)
            .take(significant)
            .fold(0_u128, |value, digit| value * 10 + u128::from(digit - b'0'));
        Ok(value * 10_u128.pow(power as u32))
    }
}

/// Splits text into its leading digits and the rest.
fn split_digits(text: &[u8]) -> (&[u8], &[u8]) {
    text.split_at(text.iter().take_while(|byte| byte.is_ascii_digit()).count())
}

/// Parses the part after the `e`.
fn parse_exponent(text: &[u8]) -> Result<i64, MoneyError> {
    let (is_negative, text) = match text {
        [b'-', text @ ..] => (true, text),
        [b'+', text @ ..] => (false, text),
        text => (false, text),
    };
    let (digits @ [_, ..], []) = split_digits(text) else { return Err(MoneyError::NotADecimal) };
    let value = digits.iter().fold(0_i64, |value, digit| {
        value.saturating_mul(10).saturating_add(i64::from(digit - b'0')).min(EXPONENT_MAX)
    });
    Ok(if is_negative { -value } else { value })
}

/// Appends an amount with all digits of its currency: `19.99`, `-0.05`, or `500` if it has none. [`parse_decimal`]
/// reads it back unless it is negative.
pub fn write_decimal(minor: i64, digits: u8, out: &mut Vec<u8>) {
    if minor < 0 {
        out.push(b'-');
    }
    write_magnitude(minor.unsigned_abs(), digits, out);
}

/// Appends a sum of amounts as [`write_decimal`] does. A sum may exceed the range of an amount.
pub fn write_sum(minor: i128, digits: u8, out: &mut Vec<u8>) {
    if minor < 0 {
        out.push(b'-');
    }
    write_point(itoa::Buffer::new().format(minor.unsigned_abs()).as_bytes(), digits, out);
}

/// Appends a non-negative amount as [`write_decimal`] does.
pub fn write_magnitude(minor: u64, digits: u8, out: &mut Vec<u8>) {
    write_point(itoa::Buffer::new().format(minor).as_bytes(), digits, out);
}

/// Appends the digits of a number, with a point before the last few.
#[inline]
fn write_point(text: &[u8], digits: u8, out: &mut Vec<u8>) {
    let digits = usize::from(digits);
    if digits == 0 {
        out.extend_from_slice(text);
        return;
    }
    let (whole, fraction) = text.split_at(text.len().saturating_sub(digits));
    out.extend_from_slice(if whole.is_empty() { b"0" } else { whole });
    out.push(b'.');
    out.resize(out.len() + digits - fraction.len(), b'0');
    out.extend_from_slice(fraction);
}

#[cfg(test)]
mod tests;
