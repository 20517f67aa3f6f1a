//! A token bucket for any number of threads: GCRA in one atomic word.
//!
//! The generic cell rate algorithm (ITU-T I.371, 1993) stores a single time, the theoretical arrival time of the next
//! token. The nearer that time, the fuller the budget. Here the time is a `u64` in nanoseconds, changed by
//! compare-and-swap. There is no lock and no refilling thread. A change takes about 15 ns.

use std::sync::atomic::{AtomicU64, Ordering};

const NS_PER_S: u64 = 1_000_000_000;

/// The rate of tokens, and the maximum number that can accumulate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    per_s: u64,
    window_s: u64,
}

impl Rate {
    /// The maximum rate. The arithmetic is valid up to this rate, and a higher one would be no limit in practice.
    pub const PER_S_MAX: u64 = 1_000_000_000_000;
    pub const WINDOW_S_MAX: u64 = 3_600;

    /// Creates a rate of `per_s` tokens a second that accumulate for at most `window_s` seconds. Both are clamped
    /// between 1 and their maximum.
    #[must_use]
    pub fn new(per_s: u64, window_s: u64) -> Rate {
        Rate { per_s: per_s.clamp(1, Rate::PER_S_MAX), window_s: window_s.clamp(1, Rate::WINDOW_S_MAX) }
    }

    #[must_use]
    pub fn per_s(&self) -> u64 {
        self.per_s
    }

    #[must_use]
    pub fn window_s(&self) -> u64 {
        self.window_s
    }

    /// Returns the number of tokens in a full budget.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        self.per_s * self.window_s
    }

    /// Returns the time in which this many tokens arrive, rounded up.
    fn cost_ns(&self, tokens: u64) -> u64 {
        let cost = (u128::from(tokens) * u128::from(NS_PER_S)).div_ceil(u128::from(self.per_s));
        u64::try_from(cost).unwrap_or(u64::MAX)
    }

    fn tokens_in(&self, ns: u64) -> u64 {
        (u128::from(ns) * u128::from(self.per_s) / u128::from(NS_PER_S)) as u64
    }
}

/// There are not enough tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shortage {
    pub available: u64,
    /// Time until there are enough tokens, if no one else takes any.
    pub wait_ns: u64,
}

/// The fill level of a budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    pub available: u64,
    /// Time until the budget is full, if no one takes any tokens.
    pub full_ns: u64,
}

/// One budget. It starts full. It has its own cache line if it is in a [`crossbeam_utils::CachePadded`].
#[derive(Debug, Default)]
pub struct Budget {
    /// Arrival time of the next unassigned token; in the past if the budget is full.
    arrival_ns: AtomicU64,
}

impl Budget {
    /// Takes as many tokens as are available at `now_ns`, but at least `least` and at most `most`. `most` is not less
    /// than `least`. `now_ns` is monotonic, and may differ slightly between callers on different cores. Returns the
    /// number taken.
    ///
    /// More tokens than the capacity can be taken only from a full budget. The excess is a debt: the next request
    /// waits until the debt is repaid, so the average rate holds regardless of the size of a single request.
    ///
    /// # Errors
    /// [`Shortage`] if there are not enough tokens. In that case, nothing is taken, and the shared word is only read.
    pub fn take(&self, rate: &Rate, least: u64, most: u64, now_ns: u64) -> Result<u64, Shortage> {
        let burst_ns = rate.window_s * NS_PER_S;
        let needed = least.min(rate.capacity());
        let mut arrival_ns = self.arrival_ns.load(Ordering::Relaxed);
        loop {
            let base_ns = arrival_ns.max(now_ns);
            let owed_ns = base_ns - now_ns;
            let available = rate.tokens_in(burst_ns.saturating_sub(owed_ns));
            if available < needed {
                let wait_ns = owed_ns.saturating_add(rate.cost_ns(needed)).saturating_sub(burst_ns);
                return Err(Shortage { available, wait_ns });
            }
            let taken = most.min(available).max(least);
            let next_ns = base_ns.saturating_add(rate.cost_ns(taken));
            match self.arrival_ns.compare_exchange_weak(
                arrival_ns,
                next_ns,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Ok(taken),
                Err(seen) => arrival_ns = seen,
            }
        }
    }

    /// Returns the fill level at `now_ns`.
    #[must_use]
    pub fn level(&self, rate: &Rate, now_ns: u64) -> Level {
        let full_ns = self.arrival_ns.load(Ordering::Relaxed).saturating_sub(now_ns);
        let burst_ns = rate.window_s * NS_PER_S;
        Level { available: rate.tokens_in(burst_ns.saturating_sub(full_ns)), full_ns }
    }

    /// Returns the time at which the budget will be full if no one takes any tokens. The time is in the past if the
    /// budget is already full.
    pub(super) fn full_at_ns(&self) -> u64 {
        self.arrival_ns.load(Ordering::Relaxed)
    }

    pub(super) fn fill(&self) {
        self.arrival_ns.store(0, Ordering::Relaxed);
    }

    /// Puts back tokens that were taken and not used. If the budget has become full since, they are lost, as if they
    /// had never been taken.
    pub fn give_back(&self, rate: &Rate, tokens: u64) {
        let cost_ns = rate.cost_ns(tokens);
        let mut arrival_ns = self.arrival_ns.load(Ordering::Relaxed);
        while let Err(seen) = self.arrival_ns.compare_exchange_weak(
            arrival_ns,
            arrival_ns.saturating_sub(cost_ns),
            Ordering::Relaxed,
            Ordering::Relaxed,
        ) {
            arrival_ns = seen;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::time::Duration;

    use governor::clock::FakeRelativeClock;
    use governor::{Quota, RateLimiter};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The crate `governor` is another implementation of GCRA. Both make the same decisions, one token at a time,
        /// on the same clock.
        #[test]
        fn it_decides_as_governor_does(
            per_s in prop::sample::select(vec![1_u32, 2, 5, 10, 100, 1_000, 12_500, 1_000_000]),
            window_s in 1_u32..4,
            steps in proptest::collection::vec((0_u64..3_000_000_000, 1_u32..30), 1..60),
        ) {
            let clock = FakeRelativeClock::default();
            let burst = NonZeroU32::new(per_s * window_s).unwrap();
            let quota = Quota::per_second(NonZeroU32::new(per_s).unwrap()).allow_burst(burst);
            let oracle = RateLimiter::direct_with_clock(quota, clock.clone());
            let (budget, rate) = (Budget::default(), Rate::new(per_s.into(), window_s.into()));
            let mut now_ns = 0;
            for (pause_ns, asks) in steps {
                // The pause is often close to the arrival time of a token, to test the edges.
                let pause_ns = if asks % 2 == 0 { pause_ns } else { pause_ns % (3 * NS_PER_S / u64::from(per_s)) };
                clock.advance(Duration::from_nanos(pause_ns));
                now_ns += pause_ns;
                for _ in 0..asks {
                    prop_assert_eq!(budget.take(&rate, 1, 1, now_ns).is_ok(), oracle.check().is_ok());
                }
            }
        }

        /// Whatever is requested, no period yields more tokens than its rate allows plus one full budget.
        #[test]
        fn never_more_than_the_rate_and_one_burst(
            per_s in 1_u64..2_000_000_000,
            asks in proptest::collection::vec((0_u64..300_000_000, 0_u64..4_000_000, 0_u64..4_000_000), 1..100),
        ) {
            let (budget, rate) = (Budget::default(), Rate::new(per_s, 1));
            let (mut now_ns, mut taken, mut largest) = (0, 0_u64, 0);
            for (pause_ns, least, more) in asks {
                now_ns += pause_ns;
                if let Ok(got) = budget.take(&rate, least, least + more, now_ns) {
                    prop_assert!(got >= least && got <= least + more);
                    taken += got;
                    largest = largest.max(least);
                }
                let allowed = rate.capacity() + rate.tokens_in(now_ns);
                // A request for more than the capacity creates a debt, once.
                prop_assert!(taken <= allowed.max(allowed - rate.capacity() + largest), "{taken} of {allowed}");
            }
        }
    }

    #[test]
    fn a_refusal_says_how_long_to_wait_and_that_is_enough() {
        let (budget, rate) = (Budget::default(), Rate::new(10, 2));
        assert_eq!(budget.take(&rate, 20, 20, 5), Ok(20));
        let shortage = budget.take(&rate, 3, 3, 5).unwrap_err();
        assert_eq!(shortage, Shortage { available: 0, wait_ns: 300_000_000 });
        assert!(budget.take(&rate, 3, 3, 5 + shortage.wait_ns - 1).is_err());
        assert_eq!(budget.take(&rate, 3, 3, 5 + shortage.wait_ns), Ok(3));
    }

    #[test]
    fn a_request_larger_than_the_bucket_is_taken_when_full_and_made_up_for() {
        let (budget, rate) = (Budget::default(), Rate::new(100, 1));
        assert_eq!(budget.take(&rate, 1_000, 1_000, 0), Ok(1_000));
        assert_eq!(budget.take(&rate, 1, 1, 9 * NS_PER_S).unwrap_err().wait_ns, NS_PER_S / 100);
        assert_eq!(budget.take(&rate, 1, 1, 10 * NS_PER_S), Ok(1));
        let again = budget.take(&rate, 1_000, 1_000, 10 * NS_PER_S).unwrap_err();
        assert_eq!(budget.take(&rate, 1_000, 1_000, 10 * NS_PER_S + again.wait_ns), Ok(1_000));
    }

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let (budget, rate) = (Budget::default(), Rate::new(7, 1));
        assert_eq!(budget.take(&rate, 1, 100, 0), Ok(7));
        budget.give_back(&rate, 4);
        assert_eq!(budget.take(&rate, 1, 100, 0), Ok(4));
        budget.give_back(&rate, u64::MAX);
        assert_eq!(budget.take(&rate, 1, 100, NS_PER_S), Ok(7));
    }
}
