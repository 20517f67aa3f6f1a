//! The selection of rows by a query, for any stream: one step on one shard, and the number of rows.

use rusqlite::Connection;

use crate::base::ids::ShardId;
use crate::clicks::{self, ClicksOf};
use crate::events::{self, EventsOf};
use crate::orders::{self, OrdersOf};
use crate::shard::read::{self, Bounds, Partial, Position, TimeRange};
use crate::shard::{PartitionInfo, ShardError, Stream};

/// Whole days before and after every time that can be stored.
const EARLIEST_US: i64 = -800_000 * 86_400_000_000;
const LATEST_US: i64 = 3_000_000 * 86_400_000_000;

/// The rows of a query. Times are from inclusive, to exclusive, in microseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    pub of: Of,
    pub from_us: Option<i64>,
    pub to_us: Option<i64>,
    pub descending: bool,
}

/// The stream and the owner of the rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Of {
    /// Idempotent events of one tenant, in order of (timestamp, event id).
    Events(EventsOf),
    /// Clicks, in order of (timestamp, user, shard, id).
    Clicks(ClicksOf),
    /// Orders of one tenant, in order of (ordered at, order id).
    Orders(Box<OrdersOf>),
}

impl Filter {
    #[must_use]
    pub fn stream(&self) -> &'static Stream {
        match self.of {
            Of::Events(_) => &events::EVENTS,
            Of::Clicks(_) => &clicks::CLICKS,
            Of::Orders(_) => &orders::ORDERS,
        }
    }

    #[must_use]
    pub fn range(&self) -> TimeRange {
        TimeRange { from_us: self.from_us, to_us: self.to_us, descending: self.descending }
    }

    /// Returns the position before the first row.
    #[must_use]
    pub fn start(&self) -> Position {
        self.range().start()
    }
}

/// Reads the rows after `position` with ids up to `pin`, as far as the bounds allow. `keys_only` leaves `bytes`
/// empty, for skipping rows.
pub(super) fn step(
    connection: &Connection,
    shard: ShardId,
    filter: &Filter,
    pin: i64,
    position: &Position,
    bounds: Bounds,
    keys_only: bool,
) -> Result<Partial, ShardError> {
    let range = &filter.range();
    match &filter.of {
        Of::Events(of) => read::step(connection, (of, range), pin, position, bounds, keys_only),
        Of::Clicks(of) => read::step(connection, (of, range), pin, position, bounds, keys_only),
        Of::Orders(of) => orders::step(connection, shard, (range, of), pin, position, bounds, keys_only),
    }
}

/// Counts the rows of the filter. Orders are not counted: the number of rows of a search is known at its end.
pub(super) fn count(connection: &Connection, filter: &Filter) -> Result<u64, ShardError> {
    let from = filter.from_us.unwrap_or(EARLIEST_US).max(EARLIEST_US);
    let to = filter.to_us.unwrap_or(LATEST_US).min(LATEST_US);
    if from >= to {
        return Ok(0);
    }
    let counted = match &filter.of {
        Of::Events(of) => events::count(connection, of, (from, to))?,
        Of::Clicks(of) => clicks::count(connection, of, (from, to))?,
        Of::Orders(_) => 0,
    };
    Ok(counted.unsigned_abs())
}

/// Returns every SQL text that reads of this kind can issue against a partition, by name, for the inspection of
/// plans.
#[must_use]
pub fn statements(partition: &PartitionInfo) -> Vec<(String, String)> {
    match partition.stream {
        stream if *stream == events::EVENTS => events::event_statements(partition),
        stream if *stream == clicks::CLICKS => clicks::click_statements(partition),
        _ => orders::statements(partition),
    }
}
