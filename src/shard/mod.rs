//! One SQLite file and the folder it lives in: what is stored, and nothing about who asks for it.
//!
//! In: records a journal holds. Out: rows, journal positions and counters, committed together.
//! Owns: `shard.db`, the only calls that open SQLite, the data folder's manifest and lock.
//! Never: waits, retries, logs, or decides what happens after an error; the writer above does.
//!
//! The life of a batch: [`Shard::check_identity`] → [`Shard::apply`] (rows, positions and counters in
//! one transaction) → [`Shard::checkpoint`] (what is in the database file for good) → the journal may
//! forget it.

mod apply;
mod backup;
mod buckets;
mod carry;
mod catalog;
mod checkpoint;
mod click;
mod error;
mod file;
mod heal;
mod identity;
mod ids;
mod inspect;
mod lock;
mod manifest;
mod open;
mod orders;
mod partition;
mod people;
mod prices;
mod private;
pub mod read;
mod rebuild;
mod retain;
mod retain_clock;
mod schema;
mod seal;
mod service_event;
mod status;
mod stock;
mod stream;
#[cfg(test)]
mod tests;
mod upkeep;
mod view;

pub use apply::{Applied, Entry, Records};
pub use backup::backup;
pub use buckets::BucketSize;
pub use carry::{Carried, carry, key_of};
pub use catalog::{DataFolder, ShardFolder};
pub use checkpoint::{Checkpoint, CheckpointMode};
pub use click::{CLICK_HEADER_BYTES, ClickRow, decode, encode_header};
pub use error::{FolderError, ShardError};
pub use file::{Shard, ShardOptions};
pub use inspect::{Inspection, PartitionInfo, Verified, inspect, verify, verify_aggregates};
pub use lock::{Lock, hold};
pub use manifest::Manifest;
pub use open::{open_reader, open_small, try_temporary_file};
pub use orders::{
    BatchBounds, BatchItem, BatchOrder, Choosing, ChosenOrder, ExportedFrom, NameCache, OrderBatch, Span,
    choose_orders, forget_pages, read_orders,
};
pub use orders::{
    FinishedIngest, IngestRow, ItemRow, Met, ORDER_FIELDS, Observed, OneOrder, OrderParts, OrderRow,
    OrdersOf, PartsReading, PriceRow, SalesOf, SalesSum, Single, SingleSale, SingleSales, StatusRow,
    StockChange, StockRow, SumKey, SumsBy, decode_ingest, decode_order, decode_price, decode_status,
    decode_stock, encode_order, find_ingest, order_statements, sales_bounds, sales_days, sales_starts,
    sales_sums, sales_version, single_parts, single_sales, span_of,
};
pub use people::{
    ErasureMode, ErasureRecord, ErasureReport, ErasureState, ErasureWants, KnownCustomer, Needles,
    RemovedOutside, Subject, erasure, erasures_under_way, is_erasing, is_pseudonymising, known_customer,
    orders_of_customer,
};
pub use prices::{
    AnomaliesOf, AnomalyId, AnomalyLine, AnomalyStatus, ChangeMark, Decision, FirstAnswer, NotAnAnomalyId,
    PriceChange, PriceEventRow, PriceReviewRow, StoredAnomaly, anomalies, anomaly, change_mark, changes,
    decode_price_event, decode_price_review, first_answer,
};
pub use private::{
    Loose, TENANTS_FILE, copy_cursor_secret, cursor_secret, loose, make_secret_file, restrict_new_files,
};
pub use schema::is_made;
pub use seal::BuiltIndex;
pub use service_event::{Outcome, ServiceEventRow, decode_service_event};
pub use status::{CommitTimes, Outage, ShardState, ShardStatus};
pub use stock::{
    StockCode, StockDecision, StockEvent, StockLevel, StockResult, StockUpdateRow, decode_stock_update,
    encode_stock_update, stock_decisions, stock_level, verify_stock,
};
pub use stream::Stream;
