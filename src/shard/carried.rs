//! A row as the record it came from, on its way to another shard.

use crate::base::kinds::Kind;

/// One row or one rejected record, with its payload as a journal would hold it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Carried {
    /// What a good record of this kind became.
    Row(Kind, Vec<u8>),
    /// A record of `rejected_record`, with its number: that may be no kind.
    Rejected(u8, Vec<u8>),
}

impl Carried {
    /// The number of its kind.
    #[must_use]
    pub fn number(&self) -> u8 {
        match self {
            Carried::Row(kind, _) => kind.number(),
            Carried::Rejected(number, _) => *number,
        }
    }

    #[must_use]
    pub fn payload(&self) -> &[u8] {
        match self {
            Carried::Row(_, payload) | Carried::Rejected(_, payload) => payload,
        }
    }
}
