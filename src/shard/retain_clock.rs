//! Decides whether the wall clock can be trusted when rows are dropped because of their age.
//!
//! A clock that jumps a year ahead makes every partition look old, and dropped rows cannot be recovered. Therefore a
//! jump relative to the monotonic clock, or a folder that was not written for a long time, stops dropping for a day.
//! If the clock is set back within this day, dropping continues at once.

use std::path::Path;

use crate::base::clock;

/// The time between two searches for old partitions.
pub(super) const LOOK_EVERY_US: u64 = 10_000_000;

/// If the wall clock advances by more than this beyond the monotonic clock between two checks, this counts as a jump.
/// The value is far above the corrections that a network time service makes to a running clock.
const JUMP_US: i64 = 10 * 60 * 1_000_000;
/// Opening a shard that was last written longer ago than this also counts as a jump.
const REST_US: i64 = 7 * 86_400 * 1_000_000;
/// How long dropping stops after a jump.
const HOLD_US: u64 = 86_400 * 1_000_000;

/// The readings of both clocks at the last check, and the current hold.
#[derive(Debug)]
pub(super) struct RetainClock {
    wall_us: i64,
    counted_us: u64,
    /// The monotonic time until which nothing is dropped.
    held_until_us: u64,
    /// How far ahead the wall clock jumped since it was last trusted.
    ahead_us: i64,
}

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClockCheck {
    /// Old rows may be dropped.
    MayDrop,
    /// The clock has just jumped ahead by this many microseconds.
    Jumped(i64),
    Held,
    /// The clock was set back and is trusted again.
    Restored,
}

impl RetainClock {
    pub(super) fn new(wall_us: i64, counted_us: u64) -> RetainClock {
        RetainClock { wall_us, counted_us, held_until_us: 0, ahead_us: 0 }
    }

    /// Creates the clock of a shard that is being opened. If the shard was last written long ago, this counts as a
    /// jump, so a shard that was only idle drops nothing for a day. An unfinished hold starts again: `held_us` is how
    /// far ahead the clock was when the hold began.
    pub(super) fn of_shard(path: &Path, held_us: Option<i64>) -> RetainClock {
        let mut this = RetainClock::new(clock::unix_us(), clock::monotonic_us());
        if let Some(ahead_us) = held_us {
            this.hold(ahead_us);
            report_hold(path, ahead_us);
            return this;
        }
        let written = std::fs::metadata(path).and_then(|found| found.modified()).ok();
        let since_1970 = written.and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
        if let Some(written_us) = since_1970.map(|time| time.as_micros() as i64)
            && let ClockCheck::Jumped(rested_us) = this.opened(written_us)
        {
            report_hold(path, rested_us);
        }
        this
    }

    fn opened(&mut self, written_us: i64) -> ClockCheck {
        let rested_us = self.wall_us.saturating_sub(written_us);
        if rested_us <= REST_US {
            return ClockCheck::MayDrop;
        }
        self.hold(rested_us);
        ClockCheck::Jumped(rested_us)
    }

    fn hold(&mut self, ahead_us: i64) {
        self.held_until_us = self.counted_us + HOLD_US;
        self.ahead_us = ahead_us;
    }

    /// Simulates that the wall clock was moved by `by_us` since the last check.
    #[cfg(test)]
    pub(super) fn wall_moves(&mut self, by_us: i64) {
        self.wall_us -= by_us;
    }

    /// Returns `true` if, as of the last check, nothing may be dropped.
    pub(super) fn is_held(&self) -> bool {
        self.counted_us < self.held_until_us
    }

    /// Returns how far ahead the clock was when the hold began.
    pub(super) fn ahead_us(&self) -> i64 {
        self.ahead_us
    }

    /// Checks both clocks. It is called often, so that the corrections of a network time service do not add up to a
    /// jump.
    pub(super) fn check(&mut self, wall_us: i64, counted_us: u64) -> ClockCheck {
        let counted = counted_us.saturating_sub(self.counted_us) as i64;
        let jump_us = wall_us.saturating_sub(self.wall_us).saturating_sub(counted);
        (self.wall_us, self.counted_us) = (wall_us, counted_us);
        if jump_us > JUMP_US {
            self.held_until_us = counted_us + HOLD_US;
            self.ahead_us = self.ahead_us.saturating_add(jump_us);
            return ClockCheck::Jumped(jump_us);
        }
        let is_held = counted_us < self.held_until_us;
        if is_held && jump_us < -JUMP_US {
            self.ahead_us = self.ahead_us.saturating_add(jump_us);
            if self.ahead_us <= JUMP_US {
                (self.held_until_us, self.ahead_us) = (0, 0);
                return ClockCheck::Restored;
            }
        }
        if is_held {
            return ClockCheck::Held;
        }
        self.ahead_us = 0;
        ClockCheck::MayDrop
    }
}

/// Reports a hold to the operator.
pub(super) fn report_hold(path: &Path, ahead_us: i64) {
    tracing::error!(
        path = %path.display(),
        ahead_s = ahead_us / 1_000_000,
        "the clock is far ahead of its last value: retention deletes nothing for a day; correct the clock \
         if it is wrong"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;
    const YEAR_US: i64 = 365 * 86_400 * 1_000_000;

    #[test]
    fn a_jump_ahead_stops_dropping_for_a_day_or_until_it_is_undone() {
        let mut clock = RetainClock::new(0, 0);
        let mut wall_us = 0;
        for look in 1..100 {
            wall_us += 10 * SECOND as i64 + 1_000;
            assert_eq!(
                clock.check(wall_us, look * 10 * SECOND),
                ClockCheck::MayDrop,
                "a clock that runs fast is no jump"
            );
        }
        wall_us += YEAR_US;
        assert!(
            matches!(clock.check(wall_us, 1_000 * SECOND), ClockCheck::Jumped(us) if us > YEAR_US - 60_000_000)
        );
        assert_eq!(clock.check(wall_us + 1_000_000, 1_001 * SECOND), ClockCheck::Held);
        assert_eq!(clock.check(wall_us + 2_000_000 - YEAR_US, 1_002 * SECOND), ClockCheck::Restored);
        assert_eq!(clock.check(wall_us + 3_000_000 - YEAR_US, 1_003 * SECOND), ClockCheck::MayDrop);
        // A clock that stays ahead is trusted after a day.
        let at = wall_us + 4_000_000;
        assert!(matches!(clock.check(at, 1_004 * SECOND), ClockCheck::Jumped(_)));
        let day = 86_400 * SECOND;
        assert_eq!(clock.check(at + day as i64 - 1_000_000, 1_003 * SECOND + day), ClockCheck::Held);
        assert_eq!(clock.check(at + day as i64, 1_004 * SECOND + day), ClockCheck::MayDrop);
    }

    #[test]
    fn a_clock_set_back_drops_nothing_more_and_stops_nothing() {
        let mut clock = RetainClock::new(YEAR_US, 0);
        assert_eq!(clock.check(0, SECOND), ClockCheck::MayDrop);
    }

    #[test]
    fn a_shard_that_was_last_written_long_ago_waits() {
        let mut clock = RetainClock::new(YEAR_US, 0);
        assert_eq!(clock.opened(YEAR_US - 86_400_000_000), ClockCheck::MayDrop);
        assert_eq!(clock.opened(0), ClockCheck::Jumped(YEAR_US));
        assert_eq!(clock.check(YEAR_US + 1_000_000, SECOND), ClockCheck::Held);
        assert_eq!(clock.check(2_000_000, 2 * SECOND), ClockCheck::Restored);
    }
}
