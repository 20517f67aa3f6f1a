//! Reads orders for exports in bounded steps: first selects them with their statuses, then reads their data.
//!
//! An order's status is the only part that ever changes, so the selection stores it. Reading the same selection
//! therefore returns the same data every time.

mod batch;
mod cache;
mod choose;
mod columns;
mod names;
mod rows;

use rusqlite::{Connection, Row};

pub use self::batch::{BatchBounds, BatchItem, BatchOrder, OrderBatch};
pub use self::cache::StepCache;
pub use self::choose::{ChosenOrder, SelectionCursor, choose_orders};
pub use self::rows::{OrderSource, read_orders};
use super::super::schema::items_sql;
use super::indexed::damaged;
use crate::base::money::Currency;
use crate::shard::ShardError;

/// The maximum time that one step holds its snapshot. It is short, so that a waiting query is hardly delayed.
const STEP_US: u64 = 20_000;
/// The number of orders between two checks of the clock.
const LOOK: usize = 256;

fn currency(row: &Row<'_>, at: usize) -> Result<Currency, ShardError> {
    Currency::parse(row.get_ref(at)?.as_str().map_err(rusqlite::Error::from)?).ok_or_else(damaged)
}

/// Releases the pages that remain in a connection's cache after a whole shard has been read.
pub fn forget_pages(connection: &Connection) -> Result<(), ShardError> {
    Ok(connection.execute_batch("PRAGMA shrink_memory")?)
}

/// Returns every export statement that reads a partition, with its name, for checking query plans.
pub(super) fn statements(partition: &str) -> Vec<(String, String)> {
    vec![
        ("orders to choose from, from end to end".to_owned(), choose::by_id_sql(partition)),
        ("orders to choose from, in order of time".to_owned(), choose::by_time_sql(partition)),
        ("chosen orders".to_owned(), rows::orders_sql(partition)),
        ("chosen orders whose numbers are in a segment".to_owned(), rows::held_orders_sql(partition)),
        ("items of chosen orders".to_owned(), items_sql(partition)),
    ]
}
