//! Ids for requests without one: 16 hexadecimal digits, unique across cores and restarts.

use crate::base::clock;
use crate::base::ids::CoreId;
use crate::base::limits::IDENTIFIER_BYTES_MAX;

/// The length of a generated id.
pub const REQUEST_ID_BYTES: usize = 16;

/// Returns a client's own `X-Request-Id`, if it is 1 to 200 visible ASCII characters and therefore safe to return and
/// to log. If there are several, the last valid one counts.
#[must_use]
pub fn taken_over(value: &[u8]) -> Option<&str> {
    let fits = (1..=IDENTIFIER_BYTES_MAX).contains(&value.len()) && value.iter().all(u8::is_ascii_graphic);
    if fits { std::str::from_utf8(value).ok() } else { None }
}

/// Generates the ids of one thread, without an allocation or a system call.
#[derive(Debug)]
pub struct RequestIds {
    next: u64,
    text: [u8; REQUEST_ID_BYTES],
}

impl RequestIds {
    /// Creates the generator of one thread. `odd` selects the executor's half of a core's numbers. The listener has
    /// the even ones.
    #[must_use]
    pub fn new(core: CoreId, odd: bool) -> RequestIds {
        // A start value in microseconds leaves enough numbers for a million requests a second until the next start.
        // The core is in the top bits.
        let start = (clock::unix_us() as u64) << 1 & 0x00ff_ffff_ffff_ffff;
        RequestIds { next: u64::from(core.0) << 56 | start | u64::from(odd), text: [0; REQUEST_ID_BYTES] }
    }

    pub fn give(&mut self) -> &str {
        self.text = self.give_digits();
        std::str::from_utf8(&self.text).unwrap_or_default()
    }

    /// Generates an id as [`RequestIds::give`] does. Takes 4 ns.
    #[inline]
    pub fn give_digits(&mut self) -> [u8; REQUEST_ID_BYTES] {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        self.next += 2;
        let mut text = [0; REQUEST_ID_BYTES];
        for (at, digit) in text.iter_mut().enumerate() {
            *digit = DIGITS[(self.next >> (60 - 4 * at) & 15) as usize];
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_threads_give_the_same_name() {
        let mut seen = std::collections::HashSet::new();
        let mut all = [(0, false), (0, true), (1, false), (1, true)]
            .map(|(core, odd)| RequestIds::new(CoreId(core), odd));
        for _ in 0..1000 {
            for ids in &mut all {
                assert!(seen.insert(ids.give().to_owned()));
            }
        }
    }
}
