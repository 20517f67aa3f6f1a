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
    pub indexed: bool,
}

/// Reads one stream's catalogue, oldest first.
pub fn partitions_of(
    snapshot: &Connection,
    stream: &'static Stream,
) -> Result<Vec<PartitionInfo>, ShardError> {
    macro_rules! sql {
        ($erased:literal) => {
            concat!(
                "SELECT name, first_id, rows, timestamp_us_min, timestamp_us_max, sealed_at IS NOT NULL, \
                 indexed_at IS NOT NULL, first_id + rows + ",
                $erased,
                " FROM partition WHERE stream = ?1 ORDER BY first_id"
            )
        };
    }
    let version: u32 = snapshot.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let mut statement = snapshot.prepare_cached(if version >= 4 { sql!("erased") } else { sql!("0") })?;
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
        })
    };
    let found = statement.query_map([stream.name], read)?.collect::<Result<Vec<_>, _>>()?;
    found.iter().try_for_each(|partition| check_name(stream, &partition.name))?;
    Ok(found)
}
