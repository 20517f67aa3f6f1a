//! Finds a tenant's rows in a partition, by the partition's index by time.

use std::path::Path;

use rusqlite::{Connection, Row, types::Value};

use super::error::ShardError;
use super::names::tenant_number;
use super::open::open_reader;
use super::partition::widened;
use super::partitions::PartitionInfo;
use super::retention::{TenantRows, Times};
use super::stream::{Stream, TenantColumn};

/// Returns the value of the tenant in the column, or `None` if the shard has no row of the tenant.
pub(super) fn value_of(
    connection: &Connection,
    column: TenantColumn,
    tenant_id: &str,
) -> Result<Option<Value>, ShardError> {
    if column.is_number {
        return Ok(tenant_number(connection, tenant_id)?.map(Value::Integer));
    }
    Ok(Some(Value::Text(tenant_id.to_owned())))
}

/// Returns `true` if the partition has a row of the tenant. Takes one seek.
pub(super) fn has_rows(
    connection: &Connection,
    (stream, column): (&'static Stream, TenantColumn),
    partition: &str,
    tenant: &Value,
) -> Result<bool, ShardError> {
    let [sql, ..] = statements(stream, column, partition);
    Ok(connection.prepare_cached(&sql)?.exists([tenant])?)
}

/// Counts the tenant's rows in the partition, by its index.
pub(super) fn count_rows(
    connection: &Connection,
    (stream, column): (&'static Stream, TenantColumn),
    partition: &str,
    tenant: &Value,
) -> Result<u64, ShardError> {
    let [.., sql] = statements(stream, column, partition);
    let rows: i64 = connection.prepare_cached(&sql)?.query_row([tenant], |row| row.get(0))?;
    Ok(rows.unsigned_abs())
}

/// Returns the times of the tenant's rows in the partition. Takes two seeks.
pub(super) fn times_of(
    connection: &Connection,
    (stream, column): (&'static Stream, TenantColumn),
    partition: &str,
    tenant: &Value,
) -> Result<Times, ShardError> {
    let [_, first, last, ..] = statements(stream, column, partition);
    let time = |sql: &str| -> Result<Option<i64>, ShardError> {
        Ok(connection.prepare_cached(sql)?.query_row([tenant], |row| row.get(0))?)
    };
    Ok(time(&first)?.zip(time(&last)?))
}

/// Reads the index of a sealed partition, which takes about 0.1 us a row. The partition must not change meanwhile.
pub(super) fn list(
    path: &Path,
    (stream, column): (&'static Stream, TenantColumn),
    partition: &str,
    tenant: &Value,
) -> Result<TenantRows, ShardError> {
    let reader = open_reader(path)?;
    let [_, _, _, ids, before, behind, _] = statements(stream, column, partition);
    let mut found = TenantRows::default();
    for sql in [before, behind] {
        if let Some((low, high)) = reader.prepare(&sql)?.query_row([tenant], times)? {
            found.others = Some(widened(Some(widened(found.others, low)), high));
        }
    }
    let mut statement = reader.prepare(&ids)?;
    found.ids = statement.query_map([tenant], |row| row.get(0))?.collect::<Result<_, _>>()?;
    found.ids.sort_unstable();
    Ok(found)
}

fn times(row: &Row<'_>) -> rusqlite::Result<Times> {
    let (low, high): (Option<i64>, Option<i64>) = (row.get(0)?, row.get(1)?);
    Ok(low.zip(high))
}

/// The SQL that finds whether there is a row of the tenant, the earliest and the latest time of its rows, their ids, and
/// the times of the rows before and behind them in the index, and the number of its rows.
fn statements(stream: &Stream, column: TenantColumn, partition: &str) -> [String; 7] {
    let (time, TenantColumn { column, index, .. }) = (stream.time_column, column);
    let from = format!("FROM {partition} INDEXED BY {partition}{index} WHERE {column}");
    [
        format!("SELECT 1 {from} = ?1 LIMIT 1"),
        format!("SELECT min({time}) {from} = ?1"),
        format!("SELECT max({time}) {from} = ?1"),
        format!("SELECT id {from} = ?1"),
        format!("SELECT min({time}), max({time}) {from} < ?1"),
        format!("SELECT min({time}), max({time}) {from} > ?1"),
        format!("SELECT count(*) {from} = ?1"),
    ]
}

/// Returns every statement of this module for a partition, with its name, to check the query plans.
#[must_use]
pub fn tenant_statements(partition: &PartitionInfo) -> Vec<(String, String)> {
    let Some(column) = partition.stream.tenant else { return Vec::new() };
    let what = [
        "whether a tenant has rows",
        "the earliest of a tenant's rows",
        "the latest of a tenant's rows",
        "the ids of a tenant's rows",
        "the times of other tenants' rows, before",
        "the times of other tenants' rows, behind",
        "the number of a tenant's rows",
    ];
    let named = |what: &str| format!("{}: {what}", partition.stream.name);
    what.into_iter().map(named).zip(statements(partition.stream, column, &partition.name)).collect()
}
