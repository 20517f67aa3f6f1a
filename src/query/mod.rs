//! The life of a query: plan → fan out → partial → merge → stream (R1, R2).
//!
//! ```text
//! plan      Parameters, Period      the parameters, checked; a feature adds its Selection
//! fan out   Readers::ask            a bounded step on each shard, on the readers' threads
//! partial   Selection::step         sorted rows of one shard, rendered
//! merge     Merged                  the shards' partials in one order
//! stream    Merged::next, page      pieces for a socket, or one page with its cursor
//! ```
//! In: a query string. Out: JSON bytes. Owns: the readers' threads and their connections. Never: holds a snapshot
//! longer than one step, writes, or treats a shard that it cannot read as empty.
//!
//! A list of names, such as products, has its own merge ([`List`]), because several shards may know a part of a name.
//!
//! The readers are shared: the steps of tenants take turns (`turns.rs`), and each tenant holds a share of the places
//! (`shares.rs`). A query that is dropped ends, because a step runs only while its answer can be received.
//!
//! The first step on a shard pins its highest row id. Rows that arrive later are not part of the query, however long
//! it runs. They therefore do not shift or repeat any row, and `total` remains correct.

mod connections;
mod cursor;
mod filter;
mod heavy;
mod list;
mod load;
pub mod local;
mod merge;
mod page;
mod pairs;
mod period;
mod plan;
mod readers;
mod rows_frame;
mod shares;
mod turns;

pub use cursor::{Cursor, CursorKey};
pub use filter::{Filter, Selection, Step};
pub use list::{LIST_LIMIT_MAX, List, ListPartial, ListPlan, Listed, successor};
pub use load::QueryLoad;
pub use local::date_of;
pub use merge::{Chunk, Merged};
pub use page::{Page, page, stream};
pub use pairs::{LAST_EVENT_ID, pair_errors, query_value};
pub use period::Period;
pub use plan::{Paging, ParameterError, Parameters, RowsPlan};
pub use readers::{Answer, Permit, ReadShard, Readers, received};
pub use rows_frame::{RowsFrame, Shape};

use crate::base::ids::ShardId;

/// Why a query has no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// A client error: invalid parameters, or a cursor from another query.
    #[error("{}", .0.first().map_or("invalid parameters", |first| &first.detail))]
    Parameters(Vec<ParameterError>),
    /// A temporary condition of the server: the maximum number of queries is open.
    #[error("the limit of concurrent queries is reached")]
    Busy,
    /// A temporary condition: the tenant's queries take the tenant's share of the readers.
    #[error("the queries of this tenant use its share of the readers; retry when one of them has ended")]
    ShareUsed,
    /// A temporary condition: requests and responses in progress use all the memory that they may use.
    #[error("the requests and responses in progress use all of buffer_bytes_max")]
    MemorySpent,
    /// A client error: the request needs more than one query may hold.
    #[error("{0}")]
    TooLarge(&'static str),
    /// Retention has deleted what the answer requires. The text names the days.
    #[error("{0}")]
    Dropped(String),
    /// A shard could not be read. An answer without it would be incomplete.
    #[error("shard {shard} cannot be read: {reason}")]
    Shard { shard: ShardId, reason: String },
}
