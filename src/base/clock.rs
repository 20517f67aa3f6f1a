//! The only caller of the system clocks. Wall time is for what is stored and shown; monotonic time is for waiting and
//! measuring.

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::limits::{TIME_US_MAX, TIME_US_MIN};

/// Returns the microseconds since 1970 UTC.
#[must_use]
pub fn unix_us() -> i64 {
    #[expect(clippy::disallowed_methods, reason = "this is the one place")]
    let now = SystemTime::now();
    match now.duration_since(UNIX_EPOCH) {
        Ok(since) => since.as_micros() as i64,
        Err(before) => -(before.duration().as_micros() as i64),
    }
}

/// Returns the microseconds of monotonic time since the first call in this process. Takes about 25 ns.
#[must_use]
pub fn monotonic_us() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    let now = now();
    now.duration_since(*START.get_or_init(|| now)).as_micros() as u64
}

/// Reads the monotonic clock, for deadlines that a library requires as an [`Instant`].
#[must_use]
pub fn now() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "this is the one place")]
    Instant::now()
}

/// Blocks the calling thread. Writers may call it, because they own their thread's time. A core's loop must not.
pub fn pause(time: Duration) {
    #[expect(clippy::disallowed_methods, reason = "this is the one place")]
    std::thread::sleep(time);
}

/// Formats a time as RFC 3339 in UTC, with microseconds only if they are not zero: `2024-01-14T10:30:00Z`. A time
/// outside the years 0000 to 9999 has no such form, so the nearest time that has one is written.
#[must_use]
pub fn rfc3339(unix_us: i64) -> String {
    timestamp(unix_us).to_string()
}

/// Converts a stored time. A time that cannot be stored becomes the nearest one that can.
#[must_use]
pub fn timestamp(unix_us: i64) -> jiff::Timestamp {
    let us = unix_us.clamp(TIME_US_MIN, TIME_US_MAX);
    // The library rejects the times of the last second if they are given only in microseconds.
    let nanosecond = us.rem_euclid(1_000_000) as i32 * 1_000;
    jiff::Timestamp::new(us.div_euclid(1_000_000), nanosecond).unwrap_or_default()
}

/// Formats a time as the 29 bytes of an HTTP `Date` (RFC 9110 §5.6.7): `Sun, 06 Nov 1994 08:49:37 GMT`.
#[must_use]
pub fn http_date(unix_us: i64) -> [u8; 29] {
    let mut date = *b"Thu, 01 Jan 1970 00:00:00 GMT";
    let Ok(time) = jiff::Timestamp::from_microsecond(unix_us) else { return date };
    let time = time.to_zoned(jiff::tz::TimeZone::UTC);
    let text = time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    if text.len() == date.len() {
        date.copy_from_slice(text.as_bytes());
    }
    date
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_written_as_http_and_rfc3339_want_them() {
        assert_eq!(&http_date(784_111_777_000_000), b"Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(rfc3339(784_111_777_000_000), "1994-11-06T08:49:37Z");
        assert_eq!(rfc3339(784_111_777_000_010), "1994-11-06T08:49:37.00001Z");
    }

    #[test]
    fn a_time_without_a_spelling_is_written_as_the_nearest_that_has_one() {
        assert_eq!(rfc3339(TIME_US_MIN), "0000-01-01T00:00:00Z");
        assert_eq!(rfc3339(TIME_US_MIN - 1), "0000-01-01T00:00:00Z");
        assert_eq!(rfc3339(i64::MIN), "0000-01-01T00:00:00Z");
        assert_eq!(rfc3339(i64::MAX), "9999-12-30T22:00:00.999999Z");
    }
}
