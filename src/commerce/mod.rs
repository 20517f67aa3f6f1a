//! The commerce backend: one file or folder for each kind of request, each tenant separately.
//!
//! In: parameters, and the lines of an upload. Out: plans, staged rows, summaries and figures. Owns: the meaning of
//! an order, a sale and a finished ingest to a client; the files of running uploads and of exports. Never: uses
//! sockets or SQL, or answers a request without a tenant.

mod exports;
mod ingest;
mod people;
mod prices;
mod sales;
mod search;
mod stock;
mod uploads;

pub use exports::{
    Column, Compression, Export, ExportError, ExportFailure, ExportFault, ExportFormat, ExportId,
    ExportRecord, ExportRows, ExportSpec, ExportState, ExportStore, Progress, SPEC_BYTES_MAX,
    export_location, run_export,
};
pub use ingest::{IngestError, OrderIngest, SkippedPart, Summary};
pub use people::{Sought, in_the_way, must_go};
pub use prices::{ANOMALIES_MAX, AnomaliesPlan, BadBody, Fault, PriceEvent, last_event_id, read_decision};
pub use sales::{FIELDS as SALES_FIELDS, Materialized, SalesCache, SalesPlan};
pub use search::{LIMIT_MAX, SearchPlan, one_order};
pub use stock::{StockAsk, StockBatch, StockProduct, StockRowError, StockState};
pub use uploads::{
    Body, Checkpoint, Checksum, ChecksumError, CopiedUploads, Damage, DigestOf, State, Upload, UploadError,
    UploadId, UploadStore, Wish, copy_uploads,
};
