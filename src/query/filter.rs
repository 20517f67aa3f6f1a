//! The rows that a query selects, for any stream: reading one step on one shard, and counting the rows.

use std::fmt::Debug;
use std::sync::Arc;

use rusqlite::Connection;

use crate::base::ids::ShardId;
use crate::shard::read::{Bounds, Partial, Position, TimeRange};
use crate::shard::{ShardError, Stream};

/// A whole number of days, before every storable time.
const EARLIEST_US: i64 = -800_000 * 86_400_000_000;
/// A whole number of days, after every storable time.
const LATEST_US: i64 = 3_000_000 * 86_400_000_000;

/// One step of a read on one shard.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    pub shard: ShardId,
    pub range: &'a TimeRange,
    /// The highest row id that the query sees.
    pub pin: i64,
    /// The position after which rows are read.
    pub position: &'a Position,
    pub bounds: Bounds,
    /// If true, `bytes` of the partial stays empty. This is for skipping rows.
    pub keys_only: bool,
}

/// The rows of one stream that a query selects, regardless of their times. A feature implements it for its filter.
pub trait Selection: Debug + Send + Sync {
    fn stream(&self) -> &'static Stream;

    /// Reads rows in the stream's own order, within the bounds of the step.
    fn step(&self, connection: &Connection, step: &Step<'_>) -> Result<Partial, ShardError>;

    /// Returns the number of rows in a range of times. `None` if the rows are not counted, because only the end of a
    /// search shows how many there are.
    fn count(&self, connection: &Connection, range: (i64, i64)) -> Result<Option<i64>, ShardError>;

    /// Passes every part of the filter to `part`, beginning with the stream's name. A cursor is valid only for a filter
    /// with the same parts.
    fn fingerprint(&self, part: &mut dyn FnMut(Option<&str>));
}

/// The rows of a query, by their times in microseconds since 1970: `from` is inclusive, `to` is exclusive.
#[derive(Clone, Debug)]
pub struct Filter {
    pub of: Arc<dyn Selection>,
    pub from_us: Option<i64>,
    pub to_us: Option<i64>,
    pub descending: bool,
}

impl Filter {
    #[must_use]
    pub fn new(of: impl Selection + 'static, range: TimeRange) -> Filter {
        let TimeRange { from_us, to_us, descending } = range;
        Filter { of: Arc::new(of), from_us, to_us, descending }
    }

    #[must_use]
    pub fn stream(&self) -> &'static Stream {
        self.of.stream()
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

    /// Returns the number of rows, or 0 if the rows are not counted.
    pub(super) fn count(&self, connection: &Connection) -> Result<u64, ShardError> {
        let from = self.from_us.unwrap_or(EARLIEST_US).max(EARLIEST_US);
        let to = self.to_us.unwrap_or(LATEST_US).min(LATEST_US);
        if from >= to {
            return Ok(0);
        }
        Ok(self.of.count(connection, (from, to))?.unwrap_or(0).unsigned_abs())
    }
}
