//! Rows onward to an engine: every shard's rows, exactly once, into a target that others maintain.
//!
//! In: shards, read only, up to what their files have without a WAL. Out: rows and their place, in one transaction of
//! the target. Owns: `DATA/ship/`, the notes of how far each target is. Never: writes to a shard, or keeps a place of
//! its own.

mod backoff;
mod listen;
mod lives;
mod metrics;
mod notes;
pub mod postgres;
mod progress;
mod rate;
pub mod rows;
mod run;
mod shipper;
pub mod sink;
pub mod source;
mod status;
mod turns;
pub mod verify;

pub use run::{Mode, RunError, RunSettings, run};
pub use status::{ShardState, states};

#[cfg(test)]
mod tests;
