//! One record's outcome.

/// A shard's decision about one record, valid once the record's transaction is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Outcome {
    /// This record was stored.
    Inserted = 1,
    /// The tenant already has this id, with the same content.
    Duplicate = 2,
    /// The tenant already has this id, with different content. The first one is kept.
    Conflict = 3,
    /// The record was invalid. It is stored in `rejected_record`.
    Rejected = 4,
    /// The same ingest already stored this record from the same line.
    Repeated = 5,
    /// The record changes a row that the tenant does not have.
    Missing = 6,
    /// The record belongs to an erased person. Nothing of it is stored.
    Suppressed = 7,
    /// A sum would exceed 64 bits. Nothing of the record is stored.
    SumTooLarge = 8,
    /// The row has a newer change. Nothing changed.
    Superseded = 9,
    /// This record was stored, and so was a finding about it, which the response needs.
    Flagged = 10,
}

impl Outcome {
    pub const ALL: [Outcome; 10] = [
        Outcome::Inserted,
        Outcome::Duplicate,
        Outcome::Conflict,
        Outcome::Rejected,
        Outcome::Repeated,
        Outcome::Missing,
        Outcome::Suppressed,
        Outcome::SumTooLarge,
        Outcome::Superseded,
        Outcome::Flagged,
    ];
}
