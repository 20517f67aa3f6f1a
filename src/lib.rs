//! firehose: a thread-per-core HTTP event collector on SQLite shards.

pub mod base;
pub mod config;
pub mod cores;
pub mod event;
pub mod http;
pub mod journal;
pub mod ops;
