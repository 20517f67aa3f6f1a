//! Rows onward to an engine: every shard's rows, exactly once, into a target that others maintain.
//!
//! In: shards, read only, up to what their files have without a WAL. Out: rows and their place, in one transaction of
//! the target. Owns: `DATA/ship/`, the notes of how far each target is. Never: writes to a shard, or keeps a place of
//! its own.

pub mod rows;
pub mod sink;
