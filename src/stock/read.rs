//! Stock reads: a product's level, and the decisions on a request.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::decide::StockCode;
use super::kept;
use crate::shard::{Outcome, ShardError};

/// The result of a change. The numbers are stored only briefly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum StockResult {
    /// The events are stored, and the version has increased by one.
    Applied = 1,
    /// All events were already stored. Nothing changed.
    Duplicate = 2,
    /// The events contradict the stored state. Nothing changed.
    Conflict = 3,
    /// The events would make the stock invalid. Nothing changed.
    Rejected = 4,
}

impl StockResult {
    pub(super) fn from_number(number: u8) -> Option<StockResult> {
        use StockResult::{Applied, Conflict, Duplicate, Rejected};
        [Applied, Duplicate, Conflict, Rejected].into_iter().find(|result| *result as u8 == number)
    }
}

impl From<StockResult> for Outcome {
    fn from(result: StockResult) -> Outcome {
        match result {
            StockResult::Applied => Outcome::Inserted,
            StockResult::Duplicate => Outcome::Duplicate,
            StockResult::Conflict | StockResult::Rejected => Outcome::Conflict,
        }
    }
}

/// The writer's decision on one product in one request, at the moment of its commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StockDecision {
    pub result: StockResult,
    pub code: Option<StockCode>,
    /// The stock and the version at the moment of the decision, including the change if it was applied. For a
    /// duplicate, they are the stock and the version from the first time.
    pub quantity: i64,
    pub version: i64,
}

/// A product's stock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StockLevel {
    pub quantity: i64,
    /// The number of changes so far. The first change makes it 1.
    pub version: i64,
    /// When the last change was accepted, in microseconds since 1970.
    pub updated_us: i64,
}

/// Returns this shard's decisions on a request, by each product's index in the request. The decisions are deleted
/// some time after the commit.
pub fn stock_decisions(
    connection: &Connection,
    request: i64,
) -> Result<Vec<(u32, StockDecision)>, ShardError> {
    let sql = "SELECT decisions FROM stock_answer WHERE request = ?1 ORDER BY id";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([request])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        kept::decode(row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?, &mut found)?;
    }
    Ok(found)
}

/// The SQL that reads a tenant's levels in order of product id. The index on (tenant, product id) has no quantity, so a
/// list of low quantities reads each level: 0.4 us.
pub(super) const LEVELS_SQL: &str = "SELECT product_id, quantity, version, updated_us FROM stock_level \
                          WHERE tenant = ?1 AND product_id >= ?2 ORDER BY product_id LIMIT ?3";

/// Returns at most `limit` of a tenant's levels, from a product id on, in the order of the ids' bytes.
pub fn stock_levels(
    connection: &Connection,
    tenant: i64,
    from: &str,
    limit: usize,
) -> Result<Vec<(String, StockLevel)>, ShardError> {
    let mut statement = connection.prepare_cached(LEVELS_SQL)?;
    let read = |row: &rusqlite::Row<'_>| {
        let level = StockLevel { quantity: row.get(1)?, version: row.get(2)?, updated_us: row.get(3)? };
        Ok((row.get(0)?, level))
    };
    let found = statement.query_map(params![tenant, from, limit as i64], read)?;
    Ok(found.collect::<Result<_, _>>()?)
}

/// Returns every statement of this file that a query issues, with its name, for checking query plans.
#[must_use]
pub fn stock_statements() -> Vec<(String, String)> {
    vec![
        ("the stock of a product".to_owned(), LEVEL_SQL.to_owned()),
        ("stock by product".to_owned(), LEVELS_SQL.to_owned()),
    ]
}

const LEVEL_SQL: &str = "SELECT quantity, version, updated_us FROM stock_level \
                         WHERE tenant = (SELECT id FROM tenant_row WHERE tenant_id = ?1) AND product_id = ?2";

/// Returns a product's stock, or `None` if the product has no events.
pub fn stock_level(
    connection: &Connection,
    tenant_id: &str,
    product_id: &str,
) -> Result<Option<StockLevel>, ShardError> {
    let read = |row: &rusqlite::Row<'_>| {
        Ok(StockLevel { quantity: row.get(0)?, version: row.get(1)?, updated_us: row.get(2)? })
    };
    let mut statement = connection.prepare_cached(LEVEL_SQL)?;
    Ok(statement.query_row(params![tenant_id, product_id], read).optional()?)
}
