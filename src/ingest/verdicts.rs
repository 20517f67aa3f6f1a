//! The outcomes of keyed rows: one ring per keyed lane. The shard's writer writes it, and the executor that has to
//! answer reads it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering, fence};

use crate::base::ids::{LaneId, Sequence};
use crate::shard::Outcome;

/// The number of rows that a ring remembers. An outcome is read right after its commit. A reader that is further
/// behind finds no outcome and answers "accepted", which is also true.
const RING_ROWS: usize = 1 << 18;
const OUTCOME_BITS: u32 = 4;
/// 0 is not an outcome.
const _: () = assert!(Outcome::ALL.len() < 1 << OUTCOME_BITS);

/// The ring of one lane: one writer, one reader, 1 MiB.
#[derive(Debug)]
pub struct Verdicts {
    ring: Box<[AtomicU32]>,
    /// Set while a request waits for the next commit.
    is_awaited: AtomicBool,
    wake: async_channel::Sender<()>,
}

impl Verdicts {
    /// Creates an empty ring. `wake` gets a message after a commit that a request waited for.
    #[must_use]
    pub fn new(wake: async_channel::Sender<()>) -> Verdicts {
        let ring = (0..RING_ROWS).map(|_| AtomicU32::new(0)).collect();
        Verdicts { ring, is_awaited: AtomicBool::new(false), wake }
    }

    /// Returns the lap of the ring in which a sequence is written, so that an old entry is never mistaken for a new
    /// one.
    fn turn(sequence: Sequence) -> u32 {
        ((sequence.0 / RING_ROWS as u64) as u32) << OUTCOME_BITS
    }

    fn slot(&self, sequence: Sequence) -> &AtomicU32 {
        &self.ring[(sequence.0 % RING_ROWS as u64) as usize]
    }

    fn note(&self, sequence: Sequence, outcome: Outcome) {
        self.slot(sequence).store(Verdicts::turn(sequence) | outcome as u32, Ordering::Relaxed);
    }

    /// Returns the outcome of a row whose commit was published, or `None` if the ring no longer has it.
    #[must_use]
    pub fn of(&self, sequence: Sequence) -> Option<Outcome> {
        let entry = self.slot(sequence).load(Ordering::Relaxed);
        let outcome = entry & ((1 << OUTCOME_BITS) - 1);
        if entry - outcome != Verdicts::turn(sequence) {
            return None;
        }
        Outcome::ALL.into_iter().find(|known| *known as u32 == outcome)
    }

    /// Requests a wake-up after the next commit. Read the applied position after this call, not before.
    pub fn await_commit(&self) {
        self.is_awaited.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    fn committed(&self) {
        fence(Ordering::SeqCst);
        if self.is_awaited.load(Ordering::Relaxed) {
            self.is_awaited.store(false, Ordering::Relaxed);
            // A full channel means that a wake-up is on its way already.
            let _ = self.wake.try_send(());
        }
    }
}

/// The rings of one shard, for its writer.
#[derive(Debug, Default)]
pub struct ShardVerdicts {
    lanes: Vec<(LaneId, Arc<Verdicts>)>,
    /// Senders to every core that streams price changes. Each gets a message after a commit that changes prices.
    watchers: Vec<async_channel::Sender<()>>,
}

impl ShardVerdicts {
    #[must_use]
    pub fn new(lanes: Vec<(LaneId, Arc<Verdicts>)>) -> ShardVerdicts {
        ShardVerdicts { lanes, watchers: Vec::new() }
    }

    /// Also notifies these watchers of price changes.
    #[must_use]
    pub fn watched_by(self, watchers: Vec<async_channel::Sender<()>>) -> ShardVerdicts {
        ShardVerdicts { watchers, ..self }
    }
}

impl super::write::Outcomes for ShardVerdicts {
    /// Runs before the commit. No one reads the outcome before the position is published.
    fn note(&self, lane: LaneId, sequence: Sequence, outcome: Outcome) {
        if let Some((_, verdicts)) = self.lanes.iter().find(|(known, _)| *known == lane) {
            verdicts.note(sequence, outcome);
        }
    }

    fn committed(&self) {
        for (_, verdicts) in &self.lanes {
            verdicts.committed();
        }
    }

    fn changed(&self) {
        for watcher in &self.watchers {
            // A full channel means that a wake-up is on its way already.
            let _ = watcher.try_send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::write::Outcomes as _;
    use super::*;

    #[test]
    fn an_outcome_is_known_until_the_ring_comes_round() {
        let (wake, woken) = async_channel::bounded(1);
        let verdicts = Arc::new(Verdicts::new(wake));
        let lane = LaneId::keyed(0);
        let writer = ShardVerdicts::new(vec![(lane, verdicts.clone())]);
        let first = Sequence(7);
        assert_eq!(verdicts.of(first), None);
        writer.note(lane, first, Outcome::Conflict);
        writer.note(LaneId::keyed(1), Sequence(8), Outcome::Inserted);
        assert_eq!((verdicts.of(first), verdicts.of(Sequence(8))), (Some(Outcome::Conflict), None));
        let later = Sequence(7 + RING_ROWS as u64);
        assert_eq!(verdicts.of(later), None);
        writer.note(lane, later, Outcome::Inserted);
        assert_eq!((verdicts.of(first), verdicts.of(later)), (None, Some(Outcome::Inserted)));
        // Only a commit that a request waits for sends a wake-up, and it sends exactly one.
        writer.committed();
        assert!(woken.try_recv().is_err());
        verdicts.await_commit();
        writer.committed();
        writer.committed();
        assert!(woken.try_recv().is_ok() && woken.try_recv().is_err());
    }
}
