//! The life of a query: plan → fan out → partial → merge → stream (R1, R2).
//!
//! ```text
//! plan      RowsPlan, BucketsPlan   the parameters, checked; no plan of events lacks a tenant
//! fan out   Readers::ask            a bounded step on each shard, on the readers' threads
//! partial   filter::step            sorted rows of one shard, rendered
//! merge     Merged                  the shards' partials in one order
//! stream    Merged::next, page      pieces for a socket, or one page with its cursor
//! ```
//! In: a query string. Out: bytes of JSON. Owns: the readers' threads and their connections. Never: holds a snapshot
//! longer than one step, writes, or treats a shard that it cannot read as empty.
//!
//! The first step on a shard pins its highest row id. Rows that arrive later are not part of the query, however long
//! it runs. Therefore they shift or repeat no row, and `total` remains correct.

mod buckets;
mod cursor;
mod export;
mod filter;
mod local;
mod merge;
mod orders;
mod page;
mod people;
mod plan;
mod prices;
mod readers;
mod sales;
mod search;
mod stock;
#[cfg(test)]
mod tests;

pub use buckets::{Bucket, buckets};
pub use cursor::CursorKey;
pub use export::{Filled, Filling, choose, fill, forget, is_erasing, is_pseudonymising, order_pins};
pub use filter::{Filter, Of, statements};
pub use local::{date_of, rfc3339_in};
pub use merge::{Chunk, Merged};
pub use orders::{finished_ingest, order};
pub use page::{Page, page, stream};
pub use people::{erasure, known_customer, orders_of_customer};
pub use plan::{BucketsPlan, Paging, ParameterError, Parameters, RowsPlan};
pub use prices::{
    AnomaliesPage, ChangeId, ChangePosition, Changes, anomalies_page, change_marks, changes_of_shard,
    first_answer, stored_anomaly,
};
pub use readers::{Permit, ReadShard, Readers};
pub use sales::{Figures, GroupBy, SalesGroup, SalesQuery, SalesResult, sales, sales_versions};
pub use search::{Search, Shape};
pub use stock::{stock_decisions, stock_level};

use crate::base::ids::ShardId;

/// Why a query has no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// A mistake of the client: its parameters, or a cursor of another query.
    #[error("{}", .0.first().map_or("invalid parameters", |first| &first.detail))]
    Parameters(Vec<ParameterError>),
    /// A temporary limit of the server: the maximum number of queries is open.
    #[error("the limit of concurrent queries is reached")]
    Busy,
    /// A mistake of the client: it requests more than one query may hold.
    #[error("{0}")]
    TooLarge(&'static str),
    /// A shard could not be read. An answer without it would be incomplete.
    #[error("shard {shard} cannot be read: {reason}")]
    Shard { shard: ShardId, reason: String },
}
