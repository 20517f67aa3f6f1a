//! Stock reads: a product's level, and the decisions on a request.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::decide::StockCode;
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
    let sql =
        "SELECT place, result, code, quantity, version FROM stock_answer WHERE request = ?1 ORDER BY place";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([request])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let result = match row.get::<_, u8>(1)? {
            1 => StockResult::Applied,
            2 => StockResult::Duplicate,
            3 => StockResult::Conflict,
            4 => StockResult::Rejected,
            other => return Err(ShardError::Corrupt(format!("stock_answer has a result {other}"))),
        };
        let code = StockCode::from_number(row.get(2)?);
        found
            .push((row.get(0)?, StockDecision { result, code, quantity: row.get(3)?, version: row.get(4)? }));
    }
    Ok(found)
}

/// Returns a product's stock, or `None` if the product has no events.
pub fn stock_level(
    connection: &Connection,
    tenant_id: &str,
    product_id: &str,
) -> Result<Option<StockLevel>, ShardError> {
    let sql = "SELECT quantity, version, updated_us FROM stock_level \
               WHERE tenant = (SELECT id FROM tenant_row WHERE tenant_id = ?1) AND product_id = ?2";
    let read = |row: &rusqlite::Row<'_>| {
        Ok(StockLevel { quantity: row.get(0)?, version: row.get(1)?, updated_us: row.get(2)? })
    };
    let mut statement = connection.prepare_cached(sql)?;
    Ok(statement.query_row(params![tenant_id, product_id], read).optional()?)
}
