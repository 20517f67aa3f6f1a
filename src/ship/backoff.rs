//! The pauses between attempts: from 100 ms to 10 s.

use std::time::Duration;

use super::run::STEP;
use crate::base::clock;

const FIRST_US: u64 = 100_000;
const LAST_US: u64 = 10_000_000;
/// The time after which the same error is logged again.
const NEWS_AGAIN_US: u64 = 60_000_000;

/// The state of repeated attempts.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    pause_us: u64,
    news: Option<(String, u64)>,
}

impl Backoff {
    /// Ends after a success. The next pause is the first one again.
    pub(super) fn reset(&mut self) {
        *self = Backoff::default();
    }

    /// Returns `true` if an error is to be logged: it is another one than before, or a minute has passed.
    pub(super) fn is_news(&mut self, error: &str) -> bool {
        let now_us = clock::monotonic_us();
        if self.news.as_ref().is_some_and(|(known, until_us)| known == error && now_us < *until_us) {
            return false;
        }
        self.news = Some((error.to_owned(), now_us + NEWS_AGAIN_US));
        true
    }

    /// Returns the next pause. Each is twice as long as the one before.
    pub(super) fn next_us(&mut self) -> u64 {
        self.pause_us = (self.pause_us * 2).clamp(FIRST_US, LAST_US);
        self.pause_us
    }

    /// Waits before the next attempt, unless `is_over`.
    pub(super) fn wait(&mut self, is_over: impl FnMut() -> bool) {
        let time_us = self.next_us();
        wait_us(time_us, is_over);
    }
}

/// Waits for a time, unless `is_over`.
pub(super) fn wait_us(time_us: u64, mut is_over: impl FnMut() -> bool) {
    let until_us = clock::monotonic_us().saturating_add(time_us);
    loop {
        let left_us = until_us.saturating_sub(clock::monotonic_us());
        if left_us == 0 || is_over() {
            return;
        }
        clock::pause(STEP.min(Duration::from_micros(left_us)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_ten_seconds_and_an_error_is_news_once() {
        let mut backoff = Backoff::default();
        let pauses: Vec<u64> = (0..9).map(|_| backoff.next_us() / 1_000).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000]);
        assert!(backoff.is_news("away") && !backoff.is_news("away") && backoff.is_news("full"));
        backoff.reset();
        assert_eq!(backoff.next_us(), FIRST_US);
        assert!(backoff.is_news("full"));
        // It is over at once.
        wait_us(u64::MAX, || true);
    }
}
