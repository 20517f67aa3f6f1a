//! firehose: a thread-per-core HTTP event collector on SQLite shards.

pub mod base;
pub mod ingest;
pub mod journal;
pub mod shard;
