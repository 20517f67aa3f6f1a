//! Whether the wall clock can be believed when rows are to be dropped for their age.
//!
//! A clock that jumps a year ahead makes every partition look old, and what was dropped does not come back. So a jump
//! against the clock that only counts, or a folder that nobody wrote to for a long time, stops dropping for a day: time
//! to set the clock back, after which dropping goes on at once.

use std::path::Path;

use crate::base::clock;

/// More than this between the two clocks from one look to the next is a jump: far above what a network time service
/// does to a clock that runs.
const JUMP_US: i64 = 10 * 60 * 1_000_000;
/// The same for the time since the shard was last written, when it is opened.
const REST_US: i64 = 7 * 86_400 * 1_000_000;
/// How long nothing is dropped then.
const HOLD_US: u64 = 86_400 * 1_000_000;

/// What the clocks said when they were last looked at.
#[derive(Debug)]
pub(super) struct RetainClock {
    wall_us: i64,
    counted_us: u64,
    /// Nothing is dropped until then, by the clock that counts.
    held_until_us: u64,
    /// How far ahead the wall clock jumped since it was last believed.
    ahead_us: i64,
}

/// What a look finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// Drop what is old.
    MayDrop,
    /// The clock has just jumped ahead by so much, in microseconds.
    Jumped(i64),
    Held,
    /// It was set back: it is believed again.
    Mended,
}

impl RetainClock {
    pub(super) fn new(wall_us: i64, counted_us: u64) -> RetainClock {
        RetainClock { wall_us, counted_us, held_until_us: 0, ahead_us: 0 }
    }

    /// For a shard that is opened: that it was last written long ago is as good as a jump. A shard that only rested
    /// loses a day. A hold that had not ended begins again: `held_us` is how far ahead the clock was then.
    pub(super) fn of_shard(path: &Path, held_us: Option<i64>) -> RetainClock {
        let mut this = RetainClock::new(clock::unix_us(), clock::monotonic_us());
        if let Some(ahead_us) = held_us {
            this.hold(ahead_us);
            say(path, ahead_us);
            return this;
        }
        let written = std::fs::metadata(path).and_then(|found| found.modified()).ok();
        let since_1970 = written.and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
        if let Some(written_us) = since_1970.map(|time| time.as_micros() as i64)
            && let Look::Jumped(rested_us) = this.opened(written_us)
        {
            say(path, rested_us);
        }
        this
    }

    fn opened(&mut self, written_us: i64) -> Look {
        let rested_us = self.wall_us.saturating_sub(written_us);
        if rested_us <= REST_US {
            return Look::MayDrop;
        }
        self.hold(rested_us);
        Look::Jumped(rested_us)
    }

    fn hold(&mut self, ahead_us: i64) {
        self.held_until_us = self.counted_us + HOLD_US;
        self.ahead_us = ahead_us;
    }

    /// As if the wall clock had been moved by so much since the last look.
    #[cfg(test)]
    pub(super) fn wall_moves(&mut self, by_us: i64) {
        self.wall_us -= by_us;
    }

    /// Whether nothing is dropped, as of the last look.
    pub(super) fn is_held(&self) -> bool {
        self.counted_us < self.held_until_us
    }

    /// How far ahead the clock was when the hold began.
    pub(super) fn ahead_us(&self) -> i64 {
        self.ahead_us
    }

    /// Looks at both clocks; often, so that what a network time service does adds up to no jump.
    pub(super) fn look(&mut self, wall_us: i64, counted_us: u64) -> Look {
        let counted = counted_us.saturating_sub(self.counted_us) as i64;
        let jump_us = wall_us.saturating_sub(self.wall_us).saturating_sub(counted);
        (self.wall_us, self.counted_us) = (wall_us, counted_us);
        if jump_us > JUMP_US {
            self.held_until_us = counted_us + HOLD_US;
            self.ahead_us = self.ahead_us.saturating_add(jump_us);
            return Look::Jumped(jump_us);
        }
        let is_held = counted_us < self.held_until_us;
        if is_held && jump_us < -JUMP_US {
            self.ahead_us = self.ahead_us.saturating_add(jump_us);
            if self.ahead_us <= JUMP_US {
                (self.held_until_us, self.ahead_us) = (0, 0);
                return Look::Mended;
            }
        }
        if is_held {
            return Look::Held;
        }
        self.ahead_us = 0;
        Look::MayDrop
    }
}

/// Tells the operator.
pub(super) fn say(path: &Path, ahead_us: i64) {
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
                clock.look(wall_us, look * 10 * SECOND),
                Look::MayDrop,
                "a clock that runs fast is no jump"
            );
        }
        wall_us += YEAR_US;
        assert!(matches!(clock.look(wall_us, 1_000 * SECOND), Look::Jumped(us) if us > YEAR_US - 60_000_000));
        assert_eq!(clock.look(wall_us + 1_000_000, 1_001 * SECOND), Look::Held);
        assert_eq!(clock.look(wall_us + 2_000_000 - YEAR_US, 1_002 * SECOND), Look::Mended);
        assert_eq!(clock.look(wall_us + 3_000_000 - YEAR_US, 1_003 * SECOND), Look::MayDrop);
        // One that stays is believed after a day.
        let at = wall_us + 4_000_000;
        assert!(matches!(clock.look(at, 1_004 * SECOND), Look::Jumped(_)));
        let day = 86_400 * SECOND;
        assert_eq!(clock.look(at + day as i64 - 1_000_000, 1_003 * SECOND + day), Look::Held);
        assert_eq!(clock.look(at + day as i64, 1_004 * SECOND + day), Look::MayDrop);
    }

    #[test]
    fn a_clock_set_back_drops_nothing_more_and_stops_nothing() {
        let mut clock = RetainClock::new(YEAR_US, 0);
        assert_eq!(clock.look(0, SECOND), Look::MayDrop);
    }

    #[test]
    fn a_shard_that_was_last_written_long_ago_waits() {
        let mut clock = RetainClock::new(YEAR_US, 0);
        assert_eq!(clock.opened(YEAR_US - 86_400_000_000), Look::MayDrop);
        assert_eq!(clock.opened(0), Look::Jumped(YEAR_US));
        assert_eq!(clock.look(YEAR_US + 1_000_000, SECOND), Look::Held);
        assert_eq!(clock.look(2_000_000, 2 * SECOND), Look::Mended);
    }
}
