//! One lane's slice of a budget: tokens taken in advance, so that the budget's cache line is rarely touched.
//!
//! Leased tokens have already been taken from the budget, so leases never admit more than the budget would over the
//! same time. Tokens that an idle lane holds are not available to other lanes. A slice is therefore at most 1/32 of
//! the budget divided by the number of lanes, and at most 20 ms worth of tokens. If every lane holds a slice, these
//! are 3.2 % of the limit in total.

use super::budget::{Budget, Rate, Shortage};

/// After this time, the unused tokens of a lease return to the budget when the lane next takes tokens. An idle lane
/// runs nothing, so it keeps its slice until then.
const LEASE_NS: u64 = 50_000_000;
/// Minimum number of slices per second of a lane that uses the whole budget.
const SLICES_PER_S: u64 = 50;
/// All lanes together may hold a full budget divided by this number.
const HELD_PARTS: u64 = 32;

/// One lane's part of one budget. Lanes do not share it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lease {
    left: u64,
    taken_ns: u64,
}

/// Returns the number of tokens that one of `lanes` lanes takes at once. It is 1 if the limit is too low to divide.
#[must_use]
fn slice(rate: &Rate, lanes: u64) -> u64 {
    (rate.capacity() / (HELD_PARTS * lanes.max(1))).min(rate.per_s() / SLICES_PER_S).max(1)
}

impl Lease {
    /// Uses `tokens` tokens. Takes a few nanoseconds if they are leased, and otherwise as long as [`Budget::take`].
    ///
    /// # Errors
    /// [`Shortage`] if the lease and the budget together do not have enough tokens. In that case, nothing is used.
    pub fn take(
        &mut self,
        budget: &Budget,
        rate: &Rate,
        lanes: u64,
        tokens: u64,
        now_ns: u64,
    ) -> Result<(), Shortage> {
        self.expire(budget, rate, now_ns);
        if let Some(left) = self.left.checked_sub(tokens) {
            self.left = left;
            return Ok(());
        }
        let missing = tokens - self.left;
        let taken =
            budget.take(rate, missing, missing.max(slice(rate, lanes)), now_ns).map_err(|shortage| {
                Shortage { available: shortage.available.saturating_add(self.left), ..shortage }
            })?;
        self.left = taken - missing;
        self.taken_ns = now_ns;
        Ok(())
    }

    /// Returns the number of leased tokens that have not been used.
    pub(super) fn left(&self) -> u64 {
        self.left
    }

    /// Puts unused tokens back into the lease.
    pub(super) fn put_back(&mut self, tokens: u64) {
        self.left = self.left.saturating_add(tokens);
    }

    /// Puts the tokens of an old lease back into the budget.
    pub(super) fn expire(&mut self, budget: &Budget, rate: &Rate, now_ns: u64) {
        if self.left > 0 && now_ns.saturating_sub(self.taken_ns) > LEASE_NS {
            budget.give_back(rate, self.left);
            self.left = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    /// Returns the number of tokens that `threads` lanes take within `seconds` seconds, at a limit of `per_s` tokens
    /// per second. All lanes share a simulated clock. Within a step of the clock, each runs at its own pace.
    fn admitted(threads: u64, per_s: u64, asks_per_step: u64, tokens: u64, seconds: u64) -> u64 {
        const STEP_NS: u64 = 5_000_000;
        let (budget, rate) = (Budget::default(), Rate::new(per_s, 1));
        let (admitted, barrier) = (AtomicU64::new(0), Barrier::new(threads as usize));
        std::thread::scope(|scope| {
            for lane in 0..threads {
                let (budget, rate, admitted, barrier) = (&budget, &rate, &admitted, &barrier);
                scope.spawn(move || {
                    let mut lease = Lease::default();
                    for step in 0..seconds * 1_000_000_000 / STEP_NS {
                        barrier.wait();
                        // Sometimes a lane has nothing to do, and its lease is idle.
                        if (step / 40 + lane) % 5 == 0 && threads > 1 {
                            continue;
                        }
                        for ask in 0..asks_per_step {
                            let now_ns = step * STEP_NS + ask * STEP_NS / asks_per_step;
                            if lease.take(budget, rate, threads, tokens, now_ns).is_ok() {
                                admitted.fetch_add(tokens, Ordering::Relaxed);
                            }
                        }
                    }
                });
            }
        });
        admitted.into_inner()
    }

    #[test]
    fn k2_a_limit_holds_at_any_number_of_lanes() {
        for threads in [1, 2, 8] {
            for (per_s, asks_per_step, tokens) in [
                (50, 4, 1),
                (1_000, 40, 1),
                (100_000, 2_000, 1),
                (10_000_000, 60, 3_000),
                (400_000, 20, 50_000),
            ] {
                let seconds = 10;
                // The simulated time ends with the last step. The budget is full at the start, which adds one second.
                let due = per_s * (seconds + 1);
                let got = admitted(threads, per_s, asks_per_step, tokens, seconds);
                let error = (got as f64 - due as f64) / due as f64;
                assert!(error.abs() <= 0.05, "{threads} lanes, {per_s}/s by {tokens}: {got} of {due}");
            }
        }
    }

    #[test]
    fn what_a_lane_does_not_use_comes_back() {
        let (budget, rate) = (Budget::default(), Rate::new(100_000, 1));
        let (mut idle, mut busy) = (Lease::default(), Lease::default());
        idle.take(&budget, &rate, 2, 1, 0).unwrap();
        assert_eq!(idle.left, slice(&rate, 2) - 1);
        let mut got = 0;
        while busy.take(&budget, &rate, 2, 1, 0).is_ok() {
            got += 1;
        }
        assert_eq!(got, 100_000 - slice(&rate, 2));
        let left = idle.left;
        idle.expire(&budget, &rate, LEASE_NS + 1);
        assert_eq!(idle.left, 0);
        // The tokens that arrived in 50 ms, and the returned ones.
        let available = budget.take(&rate, 200_000, 200_000, LEASE_NS + 1).unwrap_err().available;
        assert_eq!(available, left + 5_000);
    }

    #[test]
    fn a_slice_is_small_against_the_limit() {
        for per_s in [1, 10, 999, 100_000, 50_000_000] {
            for lanes in [1, 2, 8, 64] {
                let rate = Rate::new(per_s, 1);
                let held = slice(&rate, lanes) * lanes;
                assert!(held <= lanes.max(per_s / 25), "{per_s} by {lanes}: {held}");
            }
        }
    }
}
