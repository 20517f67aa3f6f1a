//! Parses date-times into microseconds since 1970 UTC: RFC 3339 exactly, and ISO 8601 as people write it.

use crate::base::limits::{TIME_US_MAX, TIME_US_MIN};

/// The reason why a string is not a time. It is the sender's error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimeError {
    #[error("not a date-time such as 2024-01-14T10:30:00Z")]
    Syntax,
    #[error("no such date, time of day or offset")]
    NoSuchTime,
    #[error("outside 0000-01-01T00:00:00Z to 9999-12-30T22:00:00Z")]
    OutOfRange,
}

const US_PER_SECOND: i64 = 1_000_000;

/// Parses RFC 3339 §5.6 with an offset: `2024-01-14T10:30:00.123456+01:00`. Lower-case `t` and `z`, a space instead
/// of the `T`, and `-00:00` are also accepted. `:60` becomes `:59.999999`. Digits of the fraction after the sixth are
/// dropped. Takes about 15 ns.
///
/// # Errors
/// Anything else, dates that do not exist, and times outside the range that can be stored.
#[inline]
pub fn parse_rfc3339(text: &[u8]) -> Result<i64, TimeError> {
    parse::<false>(text).and_then(stored)
}

/// Parses the bound of a range of stored times as [`parse_rfc3339`] does. It may be earlier or later than all of
/// them.
///
/// # Errors
/// Anything else, and dates that do not exist.
pub fn parse_rfc3339_bound(text: &[u8]) -> Result<i64, TimeError> {
    parse::<false>(text)
}

/// Parses what [`parse_rfc3339`] accepts, and also times without an offset (they count as UTC), without seconds, with
/// offsets like `+0100` and `+01`, or with a comma before the fraction.
///
/// # Errors
/// See [`parse_rfc3339`].
#[inline]
pub fn parse_iso8601_lenient(text: &[u8]) -> Result<i64, TimeError> {
    parse::<true>(text).and_then(stored)
}

/// Checks that a time is within the range that can be stored.
#[inline]
fn stored(unix_us: i64) -> Result<i64, TimeError> {
    if (TIME_US_MIN..=TIME_US_MAX).contains(&unix_us) { Ok(unix_us) } else { Err(TimeError::OutOfRange) }
}

fn parse<const LENIENT: bool>(text: &[u8]) -> Result<i64, TimeError> {
    let Some((date, rest)) = text.split_first_chunk::<16>() else { return Err(TimeError::Syntax) };
    let [year, month, day, hour, minute] = date_and_minute(date)?;

    let (second, fraction_us, rest) = match rest {
        [b':', s1, s2, rest @ ..] => {
            let second = two(*s1, *s2)?;
            match rest {
                [b'.', rest @ ..] => fraction(second, rest)?,
                [b',', rest @ ..] if LENIENT => fraction(second, rest)?,
                rest => (second, 0, rest),
            }
        }
        rest if LENIENT => (0, 0, rest),
        _ => return Err(TimeError::Syntax),
    };
    let offset_minutes = offset::<LENIENT>(rest)?;

    if !(1..=12).contains(&month) || day < 1 || day > days_of_month(year, month) {
        return Err(TimeError::NoSuchTime);
    }
    if hour > 23 || minute > 59 || second > 60 {
        return Err(TimeError::NoSuchTime);
    }
    // A leap second has no number in Unix time. It becomes the last microsecond before it.
    let (second, fraction_us) = if second == 60 { (59, US_PER_SECOND - 1) } else { (second, fraction_us) };
    let minutes = (unix_days(year, month, day) * 24 + hour) * 60 + minute - offset_minutes;
    Ok((minutes * 60 + second) * US_PER_SECOND + fraction_us)
}

/// Parses `2024-01-14T10:30`, eight bytes at a time: year, month, day, hour and minute, whether there is such a time or
/// not.
#[inline]
fn date_and_minute(text: &[u8; 16]) -> Result<[i64; 5], TimeError> {
    const DATE: u64 = u64::from_le_bytes(*b"0000-00-");
    const TIME: u64 = u64::from_le_bytes(*b"00\x0000:00");
    const DATE_MARKS: u64 = u64::from_le_bytes([0, 0, 0, 0, 0xff, 0, 0, 0xff]);
    const TIME_MARKS: u64 = u64::from_le_bytes([0, 0, 0, 0, 0, 0xff, 0, 0]);
    const SEPARATOR: u64 = u64::from_le_bytes([0, 0, 0xff, 0, 0, 0, 0, 0]);
    const HIGH_BITS: u64 = u64::from_le_bytes([0x80; 8]);
    const ABOVE_NINE: u64 = u64::from_le_bytes([0x7f - 9; 8]);
    let bits = u128::from_le_bytes(*text);
    // A digit becomes its value, and a mark that is as expected becomes 0.
    let date = bits as u64 ^ DATE;
    let time = ((bits >> 64) as u64 & !SEPARATOR) ^ TIME;
    let above_nine = |digits: u64| (((digits & !HIGH_BITS) + ABOVE_NINE) | digits) & HIGH_BITS;
    let is_syntax = above_nine(date) | above_nine(time) | date & DATE_MARKS | time & TIME_MARKS == 0;
    if !is_syntax || !matches!(text[10], b'T' | b't' | b' ') {
        return Err(TimeError::Syntax);
    }
    // No byte exceeds 99: each becomes ten times itself and the byte after it.
    let (date, time) = (date * 10 + (date >> 8), time * 10 + (time >> 8));
    let pair = |pairs: u64, at: u32| (pairs >> (8 * at) & 0xff) as i64;
    let year = pair(date, 0) * 100 + pair(date, 2);
    Ok([year, pair(date, 5), pair(time, 0), pair(time, 3), pair(time, 6)])
}

/// Parses a number of two digits.
#[inline]
fn two(tens: u8, ones: u8) -> Result<i64, TimeError> {
    let (tens, ones) = (tens.wrapping_sub(b'0'), ones.wrapping_sub(b'0'));
    if tens > 9 || ones > 9 { Err(TimeError::Syntax) } else { Ok(i64::from(tens * 10 + ones)) }
}

/// Parses at least one digit after the point. Returns the second, the fraction in microseconds, and the rest of the
/// text.
fn fraction(second: i64, text: &[u8]) -> Result<(i64, i64, &[u8]), TimeError> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits == 0 {
        return Err(TimeError::Syntax);
    }
    let (mut us, mut scale) = (0, US_PER_SECOND);
    for digit in &text[..digits.min(6)] {
        scale /= 10;
        us += i64::from(digit - b'0') * scale;
    }
    Ok((second, us, &text[digits..]))
}

/// Parses the offset from UTC, in minutes. It must be the entire rest of the text.
#[inline]
fn offset<const LENIENT: bool>(text: &[u8]) -> Result<i64, TimeError> {
    let (sign, hours, minutes) = match *text {
        [b'Z' | b'z'] => return Ok(0),
        [] if LENIENT => return Ok(0),
        [sign, h1, h2, b':', m1, m2] => (sign, two(h1, h2)?, two(m1, m2)?),
        [sign, h1, h2, m1, m2] if LENIENT => (sign, two(h1, h2)?, two(m1, m2)?),
        [sign, h1, h2] if LENIENT => (sign, two(h1, h2)?, 0),
        _ => return Err(TimeError::Syntax),
    };
    let minutes_east = match sign {
        b'+' => hours * 60 + minutes,
        b'-' => -(hours * 60 + minutes),
        _ => return Err(TimeError::Syntax),
    };
    if hours > 23 || minutes > 59 { Err(TimeError::NoSuchTime) } else { Ok(minutes_east) }
}

#[inline]
fn days_of_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Returns the number of days from 1970-01-01 to a proleptic Gregorian date in year 0 or later. Howard Hinnant,
/// "chrono-Compatible Low-Level Date Algorithms", `days_from_civil`: the year starts in March, so that the leap day
/// is its last one. Years count from 400 before year 0, so that none is negative.
#[inline]
fn unix_days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month, day) = (year as u32 + 400, month as u32, day as u32);
    let (year, month) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    let century = year / 100;
    let days = year * 365 + year / 4 - century + century / 4 + day_of_year;
    i64::from(days) - 146_097 - 719_468
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Parse = fn(&[u8]) -> Result<i64, TimeError>;

    const BOTH: [Parse; 2] = [parse_rfc3339, parse_iso8601_lenient];

    #[test]
    fn every_spelling_of_one_instant_is_that_instant() {
        for text in [
            "2024-01-14T10:30:00Z",
            "2024-01-14t10:30:00z",
            "2024-01-14 10:30:00Z",
            "2024-01-14T10:30:00+00:00",
            "2024-01-14T10:30:00-00:00",
            "2024-01-14T10:30:00.0Z",
            "2024-01-14T10:30:00.000000999Z",
            "2024-01-15T10:29:00+23:59",
            "2024-01-13T10:31:00-23:59",
        ] {
            for parse in BOTH {
                assert_eq!(parse(text.as_bytes()), Ok(1_705_228_200_000_000), "{text}");
            }
        }
    }

    #[test]
    fn looser_spellings_are_taken_only_where_they_are_promised() {
        for text in [
            "2024-01-14T10:30:00",
            "2024-01-14 10:30",
            "2024-01-14T10:30Z",
            "2024-01-14T11:30+01",
            "2024-01-14T11:30:00+0100",
            "2024-01-14T10:30:00,0Z",
        ] {
            assert_eq!(parse_iso8601_lenient(text.as_bytes()), Ok(1_705_228_200_000_000), "{text}");
            assert_eq!(parse_rfc3339(text.as_bytes()), Err(TimeError::Syntax), "{text}");
        }
    }

    #[test]
    fn a_leap_second_is_the_last_microsecond_before_it() {
        for text in ["2016-12-31T23:59:60Z", "2016-12-31T23:59:60.5Z"] {
            for parse in BOTH {
                assert_eq!(parse(text.as_bytes()), Ok(1_483_228_799_999_999));
            }
        }
    }

    #[test]
    fn the_ends_of_the_range_are_where_they_should_be() {
        for parse in BOTH {
            assert_eq!(parse(b"9999-12-30T22:00:00.999999Z"), Ok(jiff::Timestamp::MAX.as_microsecond()));
            assert_eq!(parse(b"9999-12-30T22:00:01Z"), Err(TimeError::OutOfRange));
            assert_eq!(parse(b"9999-12-31T23:59:59-23:59"), Err(TimeError::OutOfRange));
            // In UTC, this is earlier than any time with a four-digit year, so it cannot be written.
            assert_eq!(parse(b"0000-01-01T00:00:00Z"), Ok(TIME_US_MIN));
            assert_eq!(parse(b"0000-01-01T00:00:00-05:00"), Ok(TIME_US_MIN + 5 * 3_600 * US_PER_SECOND));
            assert_eq!(parse(b"0000-01-01T00:00:00+05:00"), Err(TimeError::OutOfRange));
            assert_eq!(parse(b"0000-01-01T00:00:00+23:59"), Err(TimeError::OutOfRange));
        }
        assert_eq!(parse_rfc3339_bound(b"9999-12-31T23:59:59Z"), Ok(253_402_300_799_000_000));
        assert!(parse_rfc3339_bound(b"0000-01-01T00:00:00+05:00").unwrap() < TIME_US_MIN);
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for (text, error) in [
            ("", TimeError::Syntax),
            ("yesterday", TimeError::Syntax),
            ("2024-01-14", TimeError::Syntax),
            ("2024-1-14T10:30:00Z", TimeError::Syntax),
            ("+2024-01-14T10:30:00Z", TimeError::Syntax),
            ("2024-01-14X10:30:00Z", TimeError::Syntax),
            ("2024-01-14T10:30:00.Z", TimeError::Syntax),
            ("2024-01-14T10:30:00ZZ", TimeError::Syntax),
            ("2024-01-14T10:30:00 Z", TimeError::Syntax),
            ("2024-01-14T10:30:00+1:00", TimeError::Syntax),
            ("2024-01-14T10:30:00*01:00", TimeError::Syntax),
            ("2024-01-14T10:30:0\u{660}Z", TimeError::Syntax),
            ("2024-00-14T10:30:00Z", TimeError::NoSuchTime),
            ("2024-13-14T10:30:00Z", TimeError::NoSuchTime),
            ("2024-01-00T10:30:00Z", TimeError::NoSuchTime),
            ("2024-04-31T10:30:00Z", TimeError::NoSuchTime),
            ("2023-02-29T10:30:00Z", TimeError::NoSuchTime),
            ("1900-02-29T10:30:00Z", TimeError::NoSuchTime),
            ("2024-01-14T24:00:00Z", TimeError::NoSuchTime),
            ("2024-01-14T10:60:00Z", TimeError::NoSuchTime),
            ("2024-01-14T10:30:61Z", TimeError::NoSuchTime),
            ("2024-01-14T10:30:00+24:00", TimeError::NoSuchTime),
            ("2024-01-14T10:30:00+00:60", TimeError::NoSuchTime),
        ] {
            for parse in BOTH {
                assert_eq!(parse(text.as_bytes()), Err(error), "{text}");
            }
        }
    }

    #[test]
    fn every_byte_at_every_place_is_read_as_digits_marks_or_neither() {
        let text = *b"2024-01-14T10:30:00Z";
        for place in 0..text.len() {
            for byte in 0..=u8::MAX {
                let mut changed = text;
                changed[place] = byte;
                let is_syntax = match text[place] {
                    b'T' => matches!(byte, b'T' | b't' | b' '),
                    b'Z' => matches!(byte, b'Z' | b'z'),
                    mark @ (b'-' | b':') => byte == mark,
                    _ => byte.is_ascii_digit(),
                };
                for parse in BOTH {
                    let is_refused = parse(&changed) == Err(TimeError::Syntax);
                    assert_eq!(is_refused, !is_syntax, "{}", String::from_utf8_lossy(&changed));
                }
            }
        }
    }

    proptest! {
        #[test]
        fn an_instant_written_by_jiff_is_read_back(unix_us in TIME_US_MIN..=TIME_US_MAX) {
            let time = jiff::Timestamp::from_microsecond(unix_us).unwrap().to_string();
            for parse in BOTH {
                prop_assert_eq!(parse(time.as_bytes()), Ok(unix_us), "{}", time);
            }
        }

        // Days, minutes and offsets may exceed their ranges, so that refusals are compared too.
        #[test]
        fn the_verdict_is_jiffs(
            year in 0..=9999u16, month in 0..=13u8, day in 0..=32u8,
            hour in 0..=24u8, minute in 0..=60u8, second in 0..=59u8,
            fraction in "(\\.[0-9]{1,9})?", offset in "Z|[+-](0[0-9]|1[0-9]|2[0-3]):([0-5][0-9]|60)",
        ) {
            let text = format!(
                "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}{offset}"
            );
            // jiff keeps nanoseconds. These are truncated towards the past here.
            let theirs = text.parse::<jiff::Timestamp>().ok().map(|time| time.as_nanosecond().div_euclid(1000));
            let theirs = theirs.filter(|us| *us >= i128::from(TIME_US_MIN));
            for parse in BOTH {
                prop_assert_eq!(parse(text.as_bytes()).ok().map(i128::from), theirs, "{}", text);
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(text in prop::collection::vec(any::<u8>(), 0..40)) {
            for parse in BOTH {
                let _ = parse(&text);
            }
        }

        #[test]
        fn mutated_times_never_panic_and_lenient_takes_what_strict_takes(
            at in 0..29usize, byte in any::<u8>(), cut in 0..30usize,
        ) {
            let mut text = *b"2024-01-14T10:30:00.123+01:00";
            text[at] = byte;
            let text = &text[..cut.min(text.len())];
            if let Ok(time) = parse_rfc3339(text) {
                prop_assert_eq!(parse_iso8601_lenient(text), Ok(time));
            }
        }
    }
}
