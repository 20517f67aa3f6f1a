//! A row in the form of its record, on its way to another shard.

use crate::base::kinds::Kind;

/// One row or one rejected record, with its payload in the form of a journal record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Carried {
    /// The row of a valid record of this kind.
    Row(Kind, Vec<u8>),
    /// A record of `rejected_record`, with the number of its kind, which may be unknown.
    Rejected(u8, Vec<u8>),
}

impl Carried {
    /// Returns the number of its kind.
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
