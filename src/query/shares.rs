//! A limited number of places that owners share. An owner that holds many cannot get the last ones, so that a place is
//! free when another owner needs it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

/// The number of places that an owner may hold for each free one. An owner alone thus gets three quarters of all.
/// Among several owners that want everything, each gets the same, and some places remain free (dynamic thresholds,
/// Choudhury and Hahne 1998).
const HELD_PER_FREE: usize = 3;
/// The number of counters in each of two rows. A hash selects one of each row, and the lower one counts, so owners are
/// counted together only if they have both in common.
const COUNTERS: usize = 1_024;

/// On whose behalf places are held: the server itself, or a tenant by a hash that no client can choose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Owner {
    /// The server's own work, which only the number of all places limits.
    #[default]
    Server,
    Tenant(u64),
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// All places are held.
    All,
    /// This owner holds its share.
    Share,
}

/// The places, and how many of them are held.
#[derive(Debug)]
pub(super) struct Shares {
    held: AtomicUsize,
    held_max: usize,
    by_owner: [Box<[AtomicU32]>; 2],
}

/// One place. Dropping it frees the place.
#[derive(Debug)]
pub(super) struct Share {
    shares: Arc<Shares>,
    owner: Owner,
}

impl Shares {
    pub(super) fn new(held_max: usize) -> Arc<Shares> {
        let by_owner = [(); 2].map(|()| (0..COUNTERS).map(|_| AtomicU32::new(0)).collect());
        Arc::new(Shares { held: AtomicUsize::new(0), held_max, by_owner })
    }

    pub(super) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Takes a place. The owner's first one is refused only if none is free.
    pub(super) fn claim(self: &Arc<Shares>, owner: Owner) -> Result<Share, Full> {
        let held = self.held.fetch_add(1, Ordering::AcqRel) + 1;
        let own = self.counters(owner).map(|own| own.fetch_add(1, Ordering::AcqRel) as usize + 1).min();
        // An early return counts the place down again.
        let share = Share { shares: self.clone(), owner };
        match (self.held_max.checked_sub(held), own) {
            (None, _) => Err(Full::All),
            (Some(free), Some(own)) if own > 1 && own > free * HELD_PER_FREE => Err(Full::Share),
            (Some(_), _) => Ok(share),
        }
    }

    fn counters(&self, owner: Owner) -> impl Iterator<Item = &AtomicU32> {
        let places = match owner {
            Owner::Server => None,
            Owner::Tenant(hash) => Some([hash as u32, (hash >> 32) as u32]),
        };
        let counters = move |places: [u32; 2]| self.by_owner.iter().zip(places);
        places.into_iter().flat_map(counters).map(|(row, place)| &row[place as usize % COUNTERS])
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.shares.held.fetch_sub(1, Ordering::AcqRel);
        for own in self.shares.counters(self.owner) {
            own.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes places until one is refused.
    fn fill(shares: &Arc<Shares>, owner: Owner) -> (Vec<Share>, Full) {
        let mut held = Vec::new();
        loop {
            match shares.claim(owner) {
                Ok(share) => held.push(share),
                Err(full) => return (held, full),
            }
        }
    }

    #[test]
    fn owners_that_have_one_counter_in_common_are_told_apart() {
        let shares = Shares::new(16);
        let (first, _) = fill(&shares, Owner::Tenant(1 << 32 | 7));
        let (second, full) = fill(&shares, Owner::Tenant(2 << 32 | 7));
        assert_eq!((first.len(), second.len(), full), (12, 3, Full::Share));
    }

    #[test]
    fn an_owner_that_takes_all_it_can_leaves_places_to_the_others() {
        let shares = Shares::new(32);
        let (first, full) = fill(&shares, Owner::Tenant(1));
        assert_eq!((first.len(), full), (24, Full::Share));
        let (second, full) = fill(&shares, Owner::Tenant(2));
        assert_eq!((second.len(), full), (6, Full::Share));
        // Whoever has none gets one while there is one, and the server's own work may take the last.
        let third = shares.claim(Owner::Tenant(3)).unwrap();
        assert_eq!(shares.claim(Owner::Tenant(3)).unwrap_err(), Full::Share);
        let last = shares.claim(Owner::Server).unwrap();
        assert_eq!(shares.claim(Owner::Tenant(4)).unwrap_err(), Full::All);
        assert_eq!(shares.claim(Owner::Server).unwrap_err(), Full::All);
        assert_eq!(shares.held(), 32);
        drop((first, second, third, last));
        assert_eq!(shares.held(), 0);
        let (all, full) = fill(&shares, Owner::Server);
        assert_eq!((all.len(), full), (32, Full::All));
    }
}
