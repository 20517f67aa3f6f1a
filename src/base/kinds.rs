//! Record kinds: the number that a journal record carries, and what is true of every record with that number.
//!
//! Journals and shards both read kinds, so this module is in a layer below both. Each feature declares the kinds of
//! its own records; `src/families` lists them all.

/// The number of a record kind. It is on disk, in journals and in `rejected_record`, so an assigned number never
/// changes its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Kind(u8);

/// The shards that hold a record of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Placement {
    /// Any one shard. No one waits for the record's outcome.
    AnyShard,
    /// The shard that the record's key selects.
    KeyShard,
    /// Every shard holds a copy.
    EveryShard,
}

/// A record kind's properties.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KindRow {
    pub kind: Kind,
    /// The name, in snake case.
    pub name: &'static str,
    pub placement: Placement,
    /// Set if a stored record adds one to a stream's row count. A reshard counts records of these kinds. A rejected
    /// record counts as rejected regardless of its kind.
    pub is_counted: bool,
    /// The reason that `rejected_record` gives for a record of this kind.
    pub rejection: &'static str,
}

impl Kind {
    #[must_use]
    pub const fn new(number: u8) -> Kind {
        Kind(number)
    }

    /// Returns the number on disk.
    #[must_use]
    #[inline]
    pub const fn number(self) -> u8 {
        self.0
    }
}

impl KindRow {
    /// Returns `true` if records of this kind arrive only through a `keyed` journal and the writer reports the
    /// outcome of each.
    #[must_use]
    #[inline]
    pub const fn is_keyed(&self) -> bool {
        !matches!(self.placement, Placement::AnyShard)
    }
}
