//! The per-core durable buffer: what was acknowledged stands here until the database holds it.
//!
//! ```text
//!  stage ─ stage ─ stage ─► commit (one pwrite) ─► published end ─► read ─► … database … ─► release
//!  Appender, the producer's thread                 LaneState        Reader, the consumer's thread
//! ```
//!
//! In: payloads with a kind. Out: numbered records, in order, each once. Owns: the segment files of one
//! lane. Never: interprets a payload, maps a file, takes a lock, syncs on the producer's thread.
//!
//! Records lie in segment files named by the logical offset of their first byte, an offset that grows
//! for ever. After opening, the first commit begins a new segment: nothing that was on disk is written
//! to again. [`open`] recovers; [`Syncer`] says what to fsync; [`inspect`] and [`verify`] look from
//! outside.

mod append;
mod batch;
mod error;
mod format;
mod inspect;
mod read;
mod recover;
mod release;
mod resync;
mod segment;
mod state;
mod survey;
mod sync;
#[cfg(test)]
mod tests;

pub use append::{Appender, Committed};
pub use batch::{Batch, Record};
pub use error::{AppendError, JournalError};
pub use inspect::{Inspection, Verified, inspect, verify};
pub use read::{Gap, Reader};
pub use recover::{Recovered, open};
pub use state::LaneState;
pub use survey::Damage;
pub use sync::{SyncPlan, Syncer};

/// Settings of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// A segment ends before it grows beyond this; a record larger than it has one of its own.
    pub segment_bytes: u64,
    /// Cap over all segments of the lane: a commit that would pass it is [`AppendError::Full`].
    pub bytes_max: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options { segment_bytes: 64 << 20, bytes_max: 4 << 30 }
    }
}
