//! Exports: orders or their items as a file, made in the background and read while it is made.
//!
//! ```text
//! POST ──► ExportSpec ──► ExportStore::create ──► state.json            DATA/exports/<id>/
//! job      choose (ids and statuses) ──► read batches ──► encode ──► file ──► checkpoint ──► … ──► done
//! GET …/download                                            file, up to the checkpoint ──► client
//! ```
//! In: a JSON body, orders of a snapshot. Out: files whose bytes never change once they were given out. Owns:
//! `DATA/exports`, its budget, the formats. Never: sockets, SQL.
//!
//! What a file holds is decided in its first seconds: each shard's orders up to its pin that the filters take, with
//! their status, are written down in `chosen`. All else of an order never changes. So a job that was killed makes
//! the same bytes again, and goes on from its last checkpoint: `state.json` says how many bytes and which orders it
//! covers, and their digest; nobody is given a byte behind it. An erasure takes blocks out of a file that is being made
//! (`splice.rs`): it is another file then, of another generation.

mod columns;
mod erase;
mod file;
mod job;
mod marks;
mod pack;
mod parquet;
mod record;
mod spec;
mod splice;
mod store;
#[cfg(test)]
mod tests;
mod text;

pub use columns::Column;
pub use job::{ExportFailure, run_export};
pub use record::{Export, ExportId, ExportRecord, ExportState, Progress, location as export_location};
pub use spec::{Compression, ExportFault, ExportFormat, ExportRows, ExportSpec, SPEC_BYTES_MAX};
pub use store::{ExportError, ExportStore};
