//! What is read of the stock: a product's level, and what was decided of a request.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::decide::StockCode;
use crate::shard::Outcome;
use crate::shard::ShardError;

/// What became of a change. The numbers are stored for a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum StockResult {
    /// The events are stored, the version went up by one.
    Applied = 1,
    /// All of them were there already; nothing changed.
    Duplicate = 2,
    /// They do not fit what is there; nothing changed.
    Conflict = 3,
    /// They would make the stock what it cannot be; nothing changed.
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

/// What the writer decided of one product in one request, at the moment of its commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StockDecision {
    pub result: StockResult,
    pub code: Option<StockCode>,
    /// The stock and the version then: of an applied change with it, of a duplicate those of the first time.
    pub quantity: i64,
    pub version: i64,
}

/// The stock of a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StockLevel {
    pub quantity: i64,
    /// Changes so far; the first one makes it 1.
    pub version: i64,
    /// When the last change was accepted; microseconds since 1970.
    pub updated_us: i64,
}

/// What was decided of a request here, by the product's place in it. Gone some time after the commit.
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

/// The stock of a product; `None` where nothing ever happened to it.
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
