//! The per-core durable buffer: it keeps acknowledged records until the database has stored them.
//!
//! ```text
//!  stage ─ stage ─ stage ─► commit (one pwrite) ─► published end ─► read ─► … database … ─► release
//!  Appender, the producer's thread                 LaneState        Reader, the consumer's thread
//! ```
//!
//! In: payloads with a kind. Out: numbered records, each exactly once, in the order of their numbers. Owns: the
//! segment files of one lane. Never: interprets a payload, maps a file, takes a lock, syncs on the producer's thread.
//!
//! Records are stored in segment files, each of which is named after the logical offset of its first byte. Offsets
//! only increase. After opening, the first commit begins a new segment, so bytes that were on disk are never
//! overwritten. [`open`] recovers; [`Syncer`] plans what to fsync; [`inspect`] and [`verify`] read from outside.

mod append;
mod applied;
mod batch;
mod crc;
mod error;
mod format;
mod inspect;
mod read;
mod recover;
mod release;
mod resync;
mod scan;
mod segment;
mod state;
mod survey;
mod sync;
#[cfg(test)]
mod tests;

pub use append::{Appender, Committed};
pub use applied::AppliedSync;
pub use batch::{Batch, Record};
pub use error::{AppendError, JournalError};
pub use inspect::{Inspection, Verified, inspect, verify};
pub use read::{Gap, Reader};
pub use recover::{Recovered, open};
pub use release::SegmentRelease;
pub use scan::{Scan, has_section, quarantined};
pub use state::LaneState;
pub use survey::Damage;
pub use sync::{SyncPlan, Syncer};

/// Settings of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// A segment ends before it grows beyond this size. A larger record gets its own segment.
    pub segment_bytes: u64,
    /// The limit on the size of all segments of the lane. A commit that would exceed it fails with
    /// [`AppendError::Full`].
    pub bytes_max: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options { segment_bytes: 64 << 20, bytes_max: 4 << 30 }
    }
}
