//! The commerce backend: one file or folder a question, each tenant by itself.
//!
//! In: parameters, lines of an upload. Out: plans, staged rows, summaries, figures. Owns: what an order, a sale
//! and a finished ingest mean to a client; the files of uploads under way. Never: sockets, SQL, a question
//! without a tenant.

mod ingest;
mod people;
mod sales;
mod search;
mod uploads;

pub use ingest::{IngestError, OrderIngest, Summary};
pub use people::{Sought, in_the_way, must_go, remove_exports_of};
pub use sales::{Materialized, SalesCache, SalesPlan};
pub use search::{LIMIT_MAX, SearchPlan};
pub use uploads::{
    Body, Checkpoint, Checksum, ChecksumError, CopiedUploads, Damage, DigestOf, State, Upload, UploadError,
    UploadId, UploadStore, Wish, copy_uploads,
};
