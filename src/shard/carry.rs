//! Reads one shard's rows as records, to carry them into other shards.

use rusqlite::{Connection, Row};

use super::carried::Carried;
use super::error::ShardError;
use super::family::Families;
use super::partition;
use super::stream::Stream;
use crate::base::keys::KeyHasher;

/// Reads everything that a shard stores, in a fixed order: the rows of each family in order of arrival, and the
/// rejected records. Calls `take` with batches of at most `rows_max`.
pub fn carry<E: From<ShardError>>(
    connection: &Connection,
    keys: &KeyHasher,
    families: &Families,
    rows_max: usize,
    take: &mut dyn FnMut(&[Carried]) -> Result<(), E>,
) -> Result<(), E> {
    let mut batch: Vec<Carried> = Vec::with_capacity(rows_max);
    // Families return only `ShardError`, so an error of `take` is stored here until the reading has ended.
    let mut stopped = None;
    let mut push = |record| {
        batch.push(record);
        if batch.len() >= rows_max {
            if let Err(error) = take(&batch) {
                stopped = Some(error);
                return Err(ShardError::Other("the records are taken no further".to_owned()));
            }
            batch.clear();
        }
        Ok(())
    };
    let mut carry = || -> Result<(), ShardError> {
        for (place, family) in families.list.iter().enumerate() {
            if place == families.rejected_behind {
                carry_rejected(connection, &mut push)?;
            }
            family.carry(connection, keys, &mut push)?;
        }
        Ok(())
    };
    let carried = carry();
    match (stopped, carried) {
        (Some(error), _) => Err(error),
        (None, Err(error)) => Err(error.into()),
        (None, Ok(())) if batch.is_empty() => Ok(()),
        (None, Ok(())) => take(&batch),
    }
}

fn carry_rejected(
    connection: &Connection,
    take: &mut dyn FnMut(Carried) -> Result<(), ShardError>,
) -> Result<(), ShardError> {
    let mut statement =
        connection.prepare("SELECT kind, payload FROM rejected_record ORDER BY lane, sequence")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        take(Carried::Rejected(row.get(0)?, row.get(1)?))?;
    }
    Ok(())
}

/// Reads every row of a stream in order of arrival. `record` converts a row's columns to a record.
pub fn carry_stream(
    connection: &Connection,
    stream: &'static Stream,
    record: impl Fn(&Row<'_>) -> Result<Carried, ShardError>,
    take: &mut dyn FnMut(Carried) -> Result<(), ShardError>,
) -> Result<(), ShardError> {
    for name in partition::names(connection, stream)? {
        let mut statement =
            connection.prepare(&format!("SELECT {} FROM {name} ORDER BY id", stream.columns))?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            take(record(row)?)?;
        }
    }
    Ok(())
}
