//! Token buckets by name, for more names than there are slots: a table of [`Budget`]s that all cores share.
//!
//! A full budget needs no storage, so a bucket needs a slot only while it refills after its last use. A new name
//! takes the slot of a full bucket. Slots are in sets of eight, which take two cache lines. The name's hash selects
//! the set. If all eight buckets of a set are in use, the fullest is displaced and forgotten, which gives its name
//! one more burst. There are no locks and no allocations while the server runs. The table takes 1 MiB.

use std::sync::atomic::{AtomicU64, Ordering};

use super::budget::{Budget, Rate, Shortage};

const SETS: usize = 1 << 13;
const WAYS: usize = 8;
/// The number of attempts to find a slot while other cores take the same one. It exceeds the number of cores that use
/// one set at once.
const TRIES: usize = 32;

/// One name's bucket, or a free slot.
#[derive(Debug, Default)]
struct Slot {
    /// The name's hash, or 0 if the slot is free.
    name: AtomicU64,
    budget: Budget,
}

#[derive(Debug)]
pub(super) struct Buckets {
    slots: Box<[Slot]>,
}

impl Default for Buckets {
    fn default() -> Buckets {
        Buckets { slots: (0..SETS * WAYS).map(|_| Slot::default()).collect() }
    }
}

impl Buckets {
    /// Takes one token from a name's bucket. Names with the same hash share a bucket.
    pub(super) fn take(&self, name: u64, rate: &Rate, now_ns: u64) -> Result<(), Shortage> {
        self.find(name.max(1), now_ns).budget.take(rate, 1, 1, now_ns).map(drop)
    }

    /// Puts an unused token back into a name's bucket.
    pub(super) fn give_back(&self, name: u64, rate: &Rate) {
        if let Some(slot) = self.known(name.max(1)) {
            slot.budget.give_back(rate, 1);
        }
    }

    fn set(&self, name: u64) -> &[Slot] {
        let first = (name as usize % SETS) * WAYS;
        &self.slots[first..first + WAYS]
    }

    fn known(&self, name: u64) -> Option<&Slot> {
        self.set(name).iter().find(|slot| slot.name.load(Ordering::Acquire) == name)
    }

    /// Returns a name's bucket, displacing another one if necessary.
    fn find(&self, name: u64, now_ns: u64) -> &Slot {
        for _ in 0..TRIES {
            if let Some(slot) = self.known(name) {
                return slot;
            }
            // Takes the slot of the first full bucket, so that two cores choose the same slot, or else the slot of
            // the fullest.
            let set = self.set(name);
            let full = set.iter().find(|slot| slot.budget.full_at_ns() <= now_ns);
            let nearest = || set.iter().min_by_key(|slot| slot.budget.full_at_ns());
            let Some(slot) = full.or_else(nearest) else { break };
            let before = slot.name.load(Ordering::Acquire);
            if before != name
                && slot.name.compare_exchange(before, name, Ordering::AcqRel, Ordering::Acquire).is_ok()
            {
                slot.budget.fill();
                return slot;
            }
        }
        // Other cores were always faster, so any slot will do.
        &self.set(name)[0]
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    /// Returns the number of events that were admitted for each of `names` names, if `threads` lanes request them on
    /// a common clock.
    fn admitted(threads: u64, names: u64, per_s: u64, asks_per_step: u64, seconds: u64) -> Vec<u64> {
        const STEP_NS: u64 = 10_000_000;
        let (buckets, rate) = (Buckets::default(), Rate::new(per_s, 1));
        let admitted: Vec<AtomicU64> = (0..names).map(|_| AtomicU64::new(0)).collect();
        let barrier = Barrier::new(threads as usize);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    for step in 0..seconds * 1_000_000_000 / STEP_NS {
                        barrier.wait();
                        for ask in 0..asks_per_step {
                            let now_ns = 1 + step * STEP_NS + ask * STEP_NS / asks_per_step;
                            for name in 0..names {
                                let hash = (name + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                                if buckets.take(hash, &rate, now_ns).is_ok() {
                                    admitted[name as usize].fetch_add(1, Ordering::Relaxed);
                                }
                            }
                        }
                    }
                });
            }
        });
        admitted.into_iter().map(AtomicU64::into_inner).collect()
    }

    #[test]
    fn k2_a_limit_holds_for_each_name_at_any_number_of_lanes() {
        for threads in [1, 2, 8] {
            for (names, per_s, asks) in [(1, 100, 4), (50, 20, 1), (3, 5_000, 80)] {
                let seconds = 5;
                let due = per_s * (seconds + 1);
                for got in admitted(threads, names, per_s, asks, seconds) {
                    let error = (got as f64 - due as f64) / due as f64;
                    assert!(error.abs() <= 0.05, "{threads} lanes, {per_s}/s: {got} of {due}");
                }
            }
        }
    }

    #[test]
    fn more_names_than_places_are_each_served_and_a_used_bucket_stays() {
        let (buckets, rate) = (Buckets::default(), Rate::new(1, 1));
        let busy = 7;
        assert!(buckets.take(busy, &rate, 1).is_ok());
        // Each name takes one token, and its bucket is full again before the next name arrives, so no name displaces
        // the busy one.
        let quick = Rate::new(1_000_000_000, 1);
        for name in 1_000..200_000_u64 {
            assert!(buckets.take(name << 13 | (busy % SETS as u64), &quick, name).is_ok());
        }
        assert!(buckets.take(busy, &rate, 300_000).is_err());
        assert!(buckets.take(busy, &rate, 1_000_000_001).is_ok());
    }

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let (buckets, rate) = (Buckets::default(), Rate::new(2, 1));
        assert!(buckets.take(0, &rate, 1).is_ok() && buckets.take(0, &rate, 1).is_ok());
        let shortage = buckets.take(0, &rate, 1).unwrap_err();
        assert_eq!((shortage.available, shortage.wait_ns), (0, 500_000_000));
        buckets.give_back(0, &rate);
        assert!(buckets.take(0, &rate, 1).is_ok());
    }
}
