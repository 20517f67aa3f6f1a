//! Orders for exports: first which ones and how they stood, then what is told of each, in bounded steps.
//!
//! Everything of an order but its status never changes, so the status is taken with the choice: what is made of a
//! choice later is the same however often it is made.

mod batch;
mod choose;
mod names;
mod rows;

use rusqlite::{Connection, Row};

pub use self::batch::{BatchBounds, BatchItem, BatchOrder, OrderBatch, Span};
pub use self::choose::{Choosing, ChosenOrder, choose_orders};
pub use self::names::NameCache;
pub use self::rows::{ExportedFrom, read_orders};
use super::super::schema::items_sql;
use super::found::damaged;
use crate::base::money::Currency;
use crate::shard::ShardError;

/// How long one step may hold its snapshot: short enough that a query behind it hardly waits.
const STEP_US: u64 = 20_000;
/// Orders between two looks at the clock.
const LOOK: usize = 256;

fn currency(row: &Row<'_>, at: usize) -> Result<Currency, ShardError> {
    Currency::parse(row.get_ref(at)?.as_str().map_err(rusqlite::Error::from)?).ok_or_else(damaged)
}

/// Gives back the pages that a reading of a whole shard leaves in a connection's cache.
pub fn forget_pages(connection: &Connection) -> Result<(), ShardError> {
    Ok(connection.execute_batch("PRAGMA shrink_memory")?)
}

/// Every SQL text of exports that reads a partition, by name; for looking at plans.
pub(super) fn statements(partition: &str) -> Vec<(String, String)> {
    vec![
        ("orders to choose from, from end to end".to_owned(), choose::by_id_sql(partition)),
        ("orders to choose from, in order of time".to_owned(), choose::by_time_sql(partition)),
        ("chosen orders".to_owned(), rows::orders_sql(partition)),
        ("items of chosen orders".to_owned(), items_sql(partition)),
    ]
}
