//! firehose: a thread-per-core HTTP event collector on SQLite shards.

pub mod api;
pub mod base;
pub mod cli;
pub mod config;
pub mod cores;
pub mod event;
pub mod http;
pub mod ingest;
pub mod journal;
pub mod ops;
pub mod server;
pub mod shard;
