//! Exports: orders, their items, events or clicks as a file, written in the background and readable while it is
//! written.
//!
//! ```text
//! POST ──► ExportSpec ──► ExportStore::create ──► state.json            DATA/exports/<id>/
//! job      choose (ids, statuses) ──► read batches ──► encode ──► file ──► checkpoint ──► … ──► done
//! GET …/download                                            file, up to the checkpoint ──► client
//! ```
//!
//! In: a JSON body, the rows of a snapshot. Out: files whose bytes never change once they are sent. Owns:
//! `DATA/exports`, its budget, the formats. Never: contains SQL; `orders/read/export` and `shard/read/selected.rs` read
//! the rows.
//!
//! A file's content is decided in its first seconds: the rows of each shard that match the filters, up to the shard's
//! pin, are recorded in `chosen`, orders with their statuses. No other part of an order ever changes, and no part of
//! an event or a click. An export of clicks belongs to no tenant: its tenant is the empty name. A job that was
//! killed therefore produces the same bytes again, and continues at its last checkpoint. `state.json` contains the
//! number of bytes and rows that the checkpoint covers, and the digest of these bytes. No client receives a byte
//! after the checkpoint. An erasure removes blocks from an unfinished file (`splice.rs`); the file is then a
//! different one, of another generation.

mod answer;
mod body;
mod columns;
pub mod endpoints;
mod erase;
mod file;
mod filters;
mod job;
mod marks;
pub mod openapi;
mod pack;
mod parquet;
mod query;
mod record;
pub mod shapes;
mod source;
mod splice;
mod store;
#[cfg(test)]
mod tests;
mod text;

pub use body::{Compression, ExportFault, ExportFormat, ExportRows, ExportSpec, SPEC_BYTES_MAX};
pub use columns::Column;
pub use endpoints::{Exports, export_store};
pub use erase::{ExportHolds, PeopleInExports};
pub use filters::Filters;
pub use job::{ExportFailure, run_export};
pub use record::{Export, ExportId, ExportRecord, ExportState, Progress, location as export_location};
pub use source::ExportSource;
pub use store::{ExportError, ExportStore};
