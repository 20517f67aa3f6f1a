//! The limits on the space that all uploads occupy: received bytes, a small reserve for each upload, and a share for
//! each tenant.
//!
//! A tenant may use at most as much space as it leaves free. A tenant on its own may use half of the total. If it has
//! used its half, a second tenant may use a quarter of the total, and so on. Therefore, no tenant can exhaust the
//! space, and a tenant that uses little is admitted. Uploads with a key of all tenants count against no share, so
//! they may use all of the free space.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The minimum number of bytes counted for an upload. It covers a folder, an info, and a body of a block or two.
pub(super) const RESERVE_BYTES: u64 = 64 << 10;
/// The maximum number of running uploads. It is also the maximum number of ended uploads. Each upload has a folder
/// that is checked periodically.
pub(super) const UPLOADS_MAX: u64 = 10_000;
/// The number of tenant slots. A hash of a tenant's name selects its slot. Two tenants in one slot share one tenant's
/// limit.
const PLACES: usize = 1_024;

/// The number of running uploads and their bytes, for one tenant or in total.
#[derive(Debug, Default)]
struct Usage {
    bytes: AtomicU64,
    uploads: AtomicU64,
}

/// The used space, counted across all cores.
#[derive(Debug)]
pub(super) struct Quota {
    bytes_max: u64,
    all: Usage,
    tenants: Box<[Usage]>,
}

/// The limit that is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    Bytes,
    Uploads,
}

/// The counts that one upload contributes to.
#[derive(Clone, Debug)]
pub(super) struct QuotaShare {
    room: Arc<Quota>,
    /// The tenant's slot, or `None` if the upload belongs to no tenant.
    at: Option<usize>,
}

/// Returns the number of bytes counted for a body of this length.
fn counted(length: u64) -> u64 {
    length.max(RESERVE_BYTES)
}

impl Quota {
    pub(super) fn new(bytes_max: u64) -> Arc<Quota> {
        let tenants = (0..PLACES).map(|_| Usage::default()).collect();
        Arc::new(Quota { bytes_max, all: Usage::default(), tenants })
    }

    pub(super) fn place(self: &Arc<Quota>, tenant: Option<&str>) -> QuotaShare {
        let at = tenant.map(|tenant| {
            let mut hasher = DefaultHasher::new();
            tenant.hash(&mut hasher);
            (hasher.finish() % PLACES as u64) as usize
        });
        QuotaShare { room: self.clone(), at }
    }

    #[cfg(test)]
    pub(super) fn taken(&self) -> (u64, u64) {
        (self.all.uploads.load(Ordering::Relaxed), self.all.bytes.load(Ordering::Relaxed))
    }
}

/// Adds to a count and returns the sum.
fn add(taken: &AtomicU64, more: u64) -> u64 {
    taken.fetch_add(more, Ordering::Relaxed) + more
}

/// Subtracts from a count, but not below zero, so that a counting error does not block uploads for everyone.
fn sub(taken: &AtomicU64, less: u64) {
    let _ =
        taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |taken| Some(taken.saturating_sub(less)));
}

impl QuotaShare {
    fn tenant(&self) -> Option<&Usage> {
        self.room.tenants.get(self.at?)
    }

    /// Returns `true` if both counts are within their limits after an addition.
    fn holds(all: u64, own: Option<u64>, most: u64) -> bool {
        match own {
            _ if all > most => false,
            None => true,
            Some(own) => own <= most - all,
        }
    }

    /// Counts an upload that already exists, regardless of the limits.
    pub(super) fn reserve(&self, length: u64) {
        for taken in [Some(&self.room.all), self.tenant()].into_iter().flatten() {
            add(&taken.bytes, counted(length));
            add(&taken.uploads, 1);
        }
    }

    /// Counts a new upload, if the limits allow it.
    pub(super) fn try_take(&self) -> Result<(), Full> {
        let (all, own) = (&self.room.all, self.tenant());
        let uploads =
            QuotaShare::holds(add(&all.uploads, 1), own.map(|own| add(&own.uploads, 1)), UPLOADS_MAX);
        let bytes = QuotaShare::holds(
            add(&all.bytes, RESERVE_BYTES),
            own.map(|own| add(&own.bytes, RESERVE_BYTES)),
            self.room.bytes_max,
        );
        let taken = if !uploads {
            Err(Full::Uploads)
        } else if !bytes {
            Err(Full::Bytes)
        } else {
            Ok(())
        };
        if taken.is_err() {
            self.give_back(0);
        }
        taken
    }

    /// Counts the growth of a body, if the limits allow it.
    pub(super) fn try_grow(&self, from: u64, to: u64) -> Result<(), Full> {
        let more = counted(to) - counted(from);
        if more == 0 {
            return Ok(());
        }
        let own = self.tenant().map(|own| add(&own.bytes, more));
        if QuotaShare::holds(add(&self.room.all.bytes, more), own, self.room.bytes_max) {
            return Ok(());
        }
        self.shrink(to, from);
        Err(Full::Bytes)
    }

    /// Counts the truncation of a body.
    pub(super) fn shrink(&self, from: u64, to: u64) {
        let less = counted(from) - counted(to);
        for taken in [Some(&self.room.all), self.tenant()].into_iter().flatten() {
            sub(&taken.bytes, less);
        }
    }

    /// Stops counting an upload that is no longer running.
    pub(super) fn give_back(&self, length: u64) {
        for taken in [Some(&self.room.all), self.tenant()].into_iter().flatten() {
            sub(&taken.bytes, counted(length));
            sub(&taken.uploads, 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_leaves_as_much_as_it_has_and_nobody_takes_the_last() {
        let room = Quota::new(100 * RESERVE_BYTES);
        let [one, two, operator] = [room.place(Some("one")), room.place(Some("two")), room.place(None)];
        let fill = |place: &QuotaShare| {
            place.try_take().unwrap();
            let mut length = RESERVE_BYTES;
            while place.try_grow(length, length + RESERVE_BYTES).is_ok() {
                length += RESERVE_BYTES;
            }
            length
        };
        let first = fill(&one);
        assert_eq!(first, 50 * RESERVE_BYTES);
        assert_eq!(one.try_take(), Err(Full::Bytes));
        let second = fill(&two);
        assert_eq!(second, 25 * RESERVE_BYTES, "as much as is left then");
        assert_eq!(fill(&operator), 25 * RESERVE_BYTES, "all there is");
        assert_eq!((two.try_take(), room.taken()), (Err(Full::Bytes), (3, 100 * RESERVE_BYTES)));
        one.shrink(first, 1);
        one.give_back(1);
        two.try_take().unwrap();
        assert_eq!(room.taken(), (3, 51 * RESERVE_BYTES));
    }

    #[test]
    fn empty_uploads_of_one_tenant_leave_the_others_theirs() {
        let room = Quota::new(u64::MAX >> 1);
        let (one, two) = (room.place(Some("one")), room.place(Some("two")));
        let count = (0..).take_while(|_| one.try_take().is_ok()).count() as u64;
        assert_eq!((count, one.try_take()), (UPLOADS_MAX / 2, Err(Full::Uploads)));
        assert_eq!((0..).take_while(|_| two.try_take().is_ok()).count() as u64, UPLOADS_MAX / 4);
    }
}
