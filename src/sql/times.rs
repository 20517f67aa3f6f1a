//! Times as the views show them, and the range of microseconds that a comparison with a text selects.
//!
//! A stored time has one text of 27 characters, and the order of the texts is the order of the times. A comparison of
//! the text with any other text therefore selects a range of times, and a binary search finds its bounds.

use crate::base::limits::{TIME_US_MAX, TIME_US_MIN};
use crate::shard::read::write_rfc3339;

use super::plan::Op;

/// Writes a time as the views of a shard do (`shard/view.rs`): RFC 3339 with six fractional digits.
pub(super) fn write(us: i64, out: &mut Vec<u8>) {
    out.clear();
    if !(TIME_US_MIN..=TIME_US_MAX).contains(&us) {
        out.extend_from_slice(format!("{us}us").as_bytes());
        return;
    }
    write_rfc3339(out, us);
    out.pop();
    if out.len() == SECONDS {
        out.push(b'.');
    }
    out.resize(SECONDS + 7, b'0');
    out.push(b'Z');
}

/// The length of `2024-01-14T10:30:00`.
const SECONDS: usize = 19;

/// A range of times: `from` inclusive, `to` exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Times {
    pub(super) from: Option<i64>,
    pub(super) to: Option<i64>,
}

impl Times {
    /// Returns the times whose text compares so with this text. `None` if all of them may.
    pub(super) fn of(op: Op, text: &[u8]) -> Option<Times> {
        let (at_least, above) = (|time: &[u8]| time >= text, |time: &[u8]| time > text);
        let times = match op {
            Op::Eq => Times { from: first(at_least), to: first(above) },
            Op::Lt => Times { from: None, to: first(at_least) },
            Op::Le => Times { from: None, to: first(above) },
            Op::Gt => Times { from: first(above), to: None },
            Op::Ge => Times { from: first(at_least), to: None },
            Op::Like => return Some(starting_with(&prefix(text, b"%_").to_ascii_uppercase())),
            Op::Glob => return Some(starting_with(prefix(text, b"*?["))),
            Op::In => return None,
        };
        // An end that no time reaches is not an end.
        let times = Times {
            from: times.from.filter(|from| *from > TIME_US_MIN),
            to: times.to.filter(|to| *to <= TIME_US_MAX),
        };
        (times.from.is_some() || times.to.is_some() || op == Op::Eq).then_some(times)
    }
}

fn starting_with(prefix: &[u8]) -> Times {
    let from = first(|time| time >= prefix).filter(|from| *from > TIME_US_MIN);
    let to = first(|time| time > prefix && !time.starts_with(prefix)).filter(|to| *to <= TIME_US_MAX);
    Times { from, to }
}

fn prefix<'t>(pattern: &'t [u8], wild: &[u8]) -> &'t [u8] {
    pattern.split(|byte| wild.contains(byte)).next().unwrap_or_default()
}

/// Returns the first time whose text meets the condition, which all later ones meet too. Returns the time after the
/// last one if there is none.
fn first(meets: impl Fn(&[u8]) -> bool) -> Option<i64> {
    let (mut low, mut high) = (TIME_US_MIN, TIME_US_MAX + 1);
    let mut text = Vec::with_capacity(SECONDS + 8);
    while low < high {
        let middle = low + (high - low) / 2;
        write(middle, &mut text);
        if meets(&text) { high = middle } else { low = middle + 1 }
    }
    Some(low)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(us: i64) -> String {
        let mut out = Vec::new();
        write(us, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_time_has_six_digits() {
        assert_eq!(text(0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(text(-1), "1969-12-31T23:59:59.999999Z");
        assert_eq!(text(1_705_228_200_120_000), "2024-01-14T10:30:00.120000Z");
        assert_eq!(text(i64::MAX), format!("{}us", i64::MAX));
    }

    fn selects(op: Op, bound: &str, us: i64) -> bool {
        let Some(times) = Times::of(op, bound.as_bytes()) else { return true };
        times.from.is_none_or(|from| us >= from) && times.to.is_none_or(|to| us < to)
    }

    proptest! {
        #[test]
        fn a_range_has_the_times_whose_text_compares_so(
            us in TIME_US_MIN..TIME_US_MAX,
            near in -3_i64..3,
            cut in 0_usize..28,
            tail in "[0-9TZ:.% a-]{0,4}",
        ) {
            let bound: String = text((us + near).clamp(TIME_US_MIN, TIME_US_MAX)).chars().take(cut).collect();
            let (bound, time) = (format!("{bound}{tail}"), text(us));
            prop_assert_eq!(selects(Op::Eq, &bound, us), time == bound);
            prop_assert_eq!(selects(Op::Lt, &bound, us), time < bound);
            prop_assert_eq!(selects(Op::Le, &bound, us), time <= bound);
            prop_assert_eq!(selects(Op::Gt, &bound, us), time > bound);
            prop_assert_eq!(selects(Op::Ge, &bound, us), time >= bound);
            let pattern = format!("{}%", bound.replace('%', ""));
            let starts = time.to_ascii_lowercase().starts_with(&pattern.trim_end_matches('%').to_ascii_lowercase());
            prop_assert_eq!(selects(Op::Like, &pattern, us), starts);
        }
    }
}
