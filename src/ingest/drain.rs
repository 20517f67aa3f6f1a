//! The rate at which a shard's backlog is drained, and the retry delay that refused clients get because of it.

use super::board::Flow;

/// The bounds of the retry delay, in seconds.
const WAIT_S: (u64, u64) = (1, 30);
/// The retry delay in seconds while nothing is drained, because the time until there is space is unknown.
const WAIT_STUCK_S: u64 = 5;

/// Measures one shard from sample to sample. One sample per second is enough.
///
/// A shard that has little to do drains as fast as events arrive, which does not show how fast it could drain. So
/// only a sample with a backlog at both ends is a measurement. Any other sample can only raise the measured rate.
#[derive(Debug, Default)]
pub struct DrainRate {
    /// The last measured rate per second; 0 before the first measurement.
    measured_per_s: u64,
    seen: Option<(Flow, u64)>,
}

impl DrainRate {
    /// Takes a sample. Returns the records per second at which the backlog was last drained; 0 while nothing drains
    /// it, or while the rate is unknown.
    pub fn sample(&mut self, flow: Flow, now_us: u64) -> u64 {
        let Some((before, at_us)) = self.seen.replace((flow, now_us)) else { return 0 };
        let drained = flow.processed.saturating_sub(before.processed);
        let is_waiting = before.pending() > 0 && flow.pending() > 0;
        if drained == 0 {
            return if is_waiting { 0 } else { self.measured_per_s };
        }
        let per_s = (drained * 1_000_000 / (now_us - at_us).max(1)).max(1);
        // Both ends had a backlog of at least a tenth of what was drained, so arrivals did not limit the rate.
        let is_backlog = before.pending().min(flow.pending()) >= drained / 10 && is_waiting;
        self.measured_per_s = match self.measured_per_s {
            0 if is_backlog => per_s,
            0 => 0,
            // The mean of the old and the new rate is steady enough for a Retry-After.
            known if is_backlog => (known + per_s).div_ceil(2),
            known => known.max(per_s),
        };
        self.measured_per_s
    }
}

/// Returns the seconds until a backlog is drained at this rate, within bounds.
pub(super) fn wait_s(pending: u64, per_s: u64) -> u64 {
    match per_s {
        0 => WAIT_STUCK_S,
        per_s => pending.div_ceil(per_s).clamp(WAIT_S.0, WAIT_S.1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(received: u64, processed: u64) -> Flow {
        Flow { received, processed, pending_bytes: 0 }
    }

    #[test]
    fn a_backlog_is_waited_for_at_the_rate_at_which_it_is_drained() {
        let mut rate = DrainRate::default();
        assert_eq!(rate.sample(flow(100_000, 0), 0), 0, "one look measures nothing");
        assert_eq!(rate.sample(flow(100_000, 10_000), 1_000_000), 10_000);
        assert_eq!(wait_s(90_000, 10_000), 9);
        assert_eq!((wait_s(1, 10_000), wait_s(u64::MAX, 1)), (1, 30), "within bounds");
    }

    #[test]
    fn a_quiet_shard_is_not_taken_for_a_slow_one() {
        let mut rate = DrainRate::default();
        rate.sample(flow(0, 0), 0);
        for second in 1..10 {
            let processed = second * 100;
            assert_eq!(rate.sample(flow(processed + 2, processed), second * 1_000_000), 0, "not known yet");
        }
        rate.sample(flow(900_000, 1_000), 10_000_000);
        assert_eq!(rate.sample(flow(900_000, 201_000), 11_000_000), 200_000);
        let known = rate.sample(flow(900_000, 900_000), 12_000_000);
        assert!(known >= 200_000);
        for second in 1..10 {
            let processed = 900_000 + second * 100;
            assert_eq!(rate.sample(flow(processed + 2, processed), (12 + second) * 1_000_000), known);
        }
    }

    #[test]
    fn while_nothing_drains_it_nobody_knows_and_then_it_is_as_before() {
        let mut rate = DrainRate::default();
        rate.sample(flow(100_000, 0), 0);
        rate.sample(flow(100_000, 1_000), 1_000_000);
        assert_eq!(rate.sample(flow(100_162, 1_000), 2_000_000), 0);
        assert_eq!(wait_s(162, 0), 5);
        assert_eq!(rate.sample(flow(100_162, 2_000), 3_000_000), 1_000);
        let idle = rate.sample(flow(100_162, 100_162), 4_000_000);
        assert_eq!(rate.sample(flow(100_162, 100_162), 5_000_000), idle, "idle time forgets nothing");
    }
}
