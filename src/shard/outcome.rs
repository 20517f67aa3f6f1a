//! The outcome of one record.

/// What a shard decided about one record; it holds once the record's transaction is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Outcome {
    /// Stored by this record.
    Inserted = 1,
    /// The tenant has this id already, with the same content.
    Duplicate = 2,
    /// The tenant has this id already, with other content; the first one is kept.
    Conflict = 3,
    /// The record was no row; it is kept in `rejected_record`.
    Rejected = 4,
    /// The same ingest stored it from the same line before.
    Repeated = 5,
    /// The record changes a row that the tenant does not have.
    Missing = 6,
    /// The record belongs to an erased person: nothing of it is kept.
    Suppressed = 7,
    /// A sum would not fit into 64 bits: nothing of the record is kept.
    SumTooLarge = 8,
    /// The row has a newer change: nothing changed.
    Superseded = 9,
}

impl Outcome {
    pub const ALL: [Outcome; 9] = [
        Outcome::Inserted,
        Outcome::Duplicate,
        Outcome::Conflict,
        Outcome::Rejected,
        Outcome::Repeated,
        Outcome::Missing,
        Outcome::Suppressed,
        Outcome::SumTooLarge,
        Outcome::Superseded,
    ];
}
