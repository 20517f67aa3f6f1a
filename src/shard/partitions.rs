//! The catalogue of partitions, for readers.

use rusqlite::{Connection, Row};

use super::error::ShardError;
use super::partition::check_name;
use super::stream::Stream;

/// One partition's row in the catalogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionInfo {
    pub name: String,
    pub stream: &'static Stream,
    pub first_id: i64,
    /// The row id after the last one that was assigned. Erased rows had an id too.
    pub end_id: i64,
    pub rows: u64,
    pub timestamp_us: Option<(i64, i64)>,
    pub sealed: bool,
    /// Whether it has the index that a sealed partition gets.
    pub indexed: bool,
    /// Whether its rows arrived in no order of time.
    pub unordered: bool,
    /// If it is unordered: the number of derived tables that its rows are part of. The family defines their order.
    pub counted: u8,
}

impl PartitionInfo {
    /// Returns `true` if the partition has the index by time.
    #[must_use]
    pub fn is_in_time_order(&self) -> bool {
        !self.unordered || self.indexed
    }
}

/// Reads one stream's catalogue, oldest first.
pub fn partitions_of(
    snapshot: &Connection,
    stream: &'static Stream,
) -> Result<Vec<PartitionInfo>, ShardError> {
    macro_rules! sql {
        ($columns:literal) => {
            concat!(
                "SELECT name, first_id, rows, timestamp_us_min, timestamp_us_max, sealed_at IS NOT NULL, \
                 indexed_at IS NOT NULL, first_id + rows + ",
                $columns,
                " FROM partition WHERE stream = ?1 ORDER BY first_id"
            )
        };
    }
    let version: u32 = snapshot.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let mut statement = snapshot.prepare_cached(match version {
        ..4 => sql!("0, 0, 0"),
        4..14 => sql!("erased, 0, 0"),
        _ => sql!("erased, unordered, counted"),
    })?;
    let read = |row: &Row<'_>| {
        let bounds: (Option<i64>, Option<i64>) = (row.get(3)?, row.get(4)?);
        Ok(PartitionInfo {
            name: row.get(0)?,
            stream,
            first_id: row.get(1)?,
            end_id: row.get(7)?,
            rows: row.get::<_, i64>(2)?.unsigned_abs(),
            timestamp_us: bounds.0.zip(bounds.1),
            sealed: row.get(5)?,
            indexed: row.get(6)?,
            unordered: row.get(8)?,
            counted: row.get(9)?,
        })
    };
    let found = statement.query_map([stream.name], read)?.collect::<Result<Vec<_>, _>>()?;
    found.iter().try_for_each(|partition| check_name(stream, &partition.name))?;
    Ok(found)
}

/// A sealed partition.
#[derive(Clone, Debug)]
pub(super) struct Sealed {
    pub(super) name: String,
    pub(super) first_id: i64,
    /// The highest row id that was assigned in it.
    pub(super) last_id: i64,
    pub(super) rows: i64,
    pub(super) sealed_us: i64,
    pub(super) is_indexed: bool,
}
