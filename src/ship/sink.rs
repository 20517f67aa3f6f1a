//! The interface to a target. A transactional target stores rows and place in one transaction, and a log-shaped one
//! in one entry of its log.

use std::collections::BTreeMap;

use super::rows::{Rows, ShipStream};

/// Names one life of a shard's row ids.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EpochId(pub String);

/// The places of one epoch in the target: the last row id of each stream that it has. A stream without rows is absent.
pub type Places = BTreeMap<ShipStream, i64>;

/// The epochs and places of a shard that the target knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// The places of each asked epoch that the target knows.
    pub epochs: BTreeMap<EpochId, Places>,
    /// `true` if the target has a place of any shard of this node.
    pub knows_node: bool,
}

/// Rows of one stream, and the move of its place.
#[derive(Clone, Debug)]
pub struct ShipBatch {
    pub epoch: EpochId,
    pub stream: ShipStream,
    /// The place before the batch.
    pub after: i64,
    /// The place after it. It may be beyond the last row, because rows may have been deleted.
    pub last: i64,
    pub rows: Rows,
}

/// The numbers of a batch's rows by their outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    pub rows: u64,
    /// Rows that the target had under the same key.
    pub twice: u64,
    /// Rows that the target refused for their data. They are in its table of rejected rows.
    pub rejected: u64,
}

/// The reason why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The target cannot be reached, or is busy or full. A new attempt may succeed: connect again, ask for the places.
    #[error("{0}")]
    Passing(String),
    /// The place in the target is not the one before the batch: another shipper, or a target that went back in time.
    #[error("the target is at another place: {0}")]
    Moved(String),
    /// Only a person can help: permissions, a schema that differs, a newer target.
    #[error("{0}")]
    Lasting(String),
    /// The shipper was asked to stop during the call.
    #[error("stopped")]
    Stopped,
}

/// One shard's connection to a target. After any error, the caller drops what it knew and asks for the places again.
pub trait Sink {
    /// Connects if necessary, and returns the target's places of those epochs of the shard that it knows.
    fn known(&mut self, epochs: &[EpochId]) -> Result<Known, SinkError>;

    /// Begins an epoch at these places, unless the target knows it. Returns the places that hold then.
    fn begin_epoch(&mut self, epoch: &EpochId, starts: &Places) -> Result<Places, SinkError>;

    /// Stores rows and moves the place, both or neither.
    fn write(&mut self, batch: &ShipBatch) -> Result<Written, SinkError>;

    /// Called about once a second while there is nothing to write: work that the target needs now and then.
    fn idle(&mut self) -> Result<(), SinkError>;
}
