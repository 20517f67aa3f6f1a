//! Deletes old stock events in slices. Levels stay, and the ids of deleted events stay known.
//!
//! A product loses a prefix of its changes: those up to the last version before which all changes are old. The level
//! after that version is stored first (`stock_base`), so that a replay of the remaining events starts there. Each
//! deleted event leaves its id and its result in `stock_dropped`.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::decide::{Level, Mode};
use super::record::{DroppedEvent, StockChange};
use crate::base::clock;
use crate::base::keys::KeyHasher;
use crate::shard::{DropSlice, ShardError};

/// The number of rows read between two checks of the clock.
const ROWS: i64 = if cfg!(test) { 3 } else { 256 };

/// Returns the hash of an event's id.
pub(super) fn event_hash(keys: &KeyHasher, tenant_id: &str, product_id: &str, event_id: &str) -> i64 {
    keys.hash_all([tenant_id, product_id, event_id]).0 as i64
}

/// Returns the hash of an event's content.
pub(super) fn content_hash(keys: &KeyHasher, mode: Mode, change: StockChange, occurred_us: i64) -> u32 {
    let (kind, number) = change.parts();
    let mut bytes = vec![mode.code()];
    bytes.extend_from_slice(&number.to_le_bytes());
    bytes.extend_from_slice(&occurred_us.to_le_bytes());
    bytes.extend_from_slice(kind.as_bytes());
    keys.digest(&bytes) as u32
}

/// Finds a deleted event. Returns its content, its version and the stock after it.
pub(super) fn find(
    connection: &Connection,
    product: i64,
    event: i64,
) -> Result<Option<DroppedEvent>, ShardError> {
    let read = |row: &rusqlite::Row<'_>| {
        Ok(DroppedEvent { event, content: row.get(0)?, version: row.get(1)?, stock: row.get(2)? })
    };
    Ok(connection.prepare_cached(FIND_SQL)?.query_row([product, event], read).optional()?)
}

/// The SQL that finds a deleted event.
const FIND_SQL: &str = "SELECT content, version, stock FROM stock_dropped WHERE product = ?1 AND event = ?2";

/// Returns the level after the deleted events of a product.
pub(super) fn base(connection: &Connection, product: i64) -> Result<Option<Level>, ShardError> {
    let sql = "SELECT quantity, version, newest_us, newest_event_id FROM stock_base WHERE product = ?1";
    let read = |row: &rusqlite::Row<'_>| {
        Ok(Level { quantity: row.get(0)?, version: row.get(1)?, newest: Some((row.get(2)?, row.get(3)?)) })
    };
    Ok(connection.prepare_cached(sql)?.query_row([product], read).optional()?)
}

/// Sets the level after the deleted events of a product.
pub(super) fn set_base(connection: &Connection, product: i64, level: &Level) -> Result<(), ShardError> {
    let Some((newest_us, newest_event_id)) = &level.newest else {
        return Err(ShardError::Other("a level without an event".to_owned()));
    };
    let sql = "INSERT OR REPLACE INTO stock_base (product, quantity, version, newest_us, newest_event_id) \
               VALUES (?1, ?2, ?3, ?4, ?5)";
    let values = params![product, level.quantity, level.version, newest_us, newest_event_id];
    connection.prepare_cached(sql)?.execute(values)?;
    Ok(())
}

/// Stores the id of a deleted event.
pub(super) fn add(connection: &Connection, product: i64, event: &DroppedEvent) -> Result<(), ShardError> {
    let sql = "INSERT OR IGNORE INTO stock_dropped (product, event, content, version, stock) \
               VALUES (?1, ?2, ?3, ?4, ?5)";
    let values = params![product, event.event, event.content, event.version, event.stock];
    connection.prepare_cached(sql)?.execute(values)?;
    Ok(())
}

/// Where a pass is. The events are in order of product and id.
#[derive(Debug, Default)]
pub(super) struct StockPass {
    /// The tenant of a pass over the events of one tenant, and the id of the current product. The products are then in
    /// the order of their ids.
    only: Option<(i64, String)>,
    product: i64,
    /// The last event read in this phase.
    after: String,
    phase: Phase,
}

#[derive(Clone, Debug)]
enum Phase {
    /// Reads the product's events to find those to delete: the lowest version that is not old, and the lowest and
    /// highest versions.
    Look { young: i64, lowest: i64, highest: i64 },
    /// Computes the level after version `upto`.
    Sum { upto: i64, level: Level },
    /// Deletes the events up to version `upto`.
    Delete { upto: i64 },
}

const LOOK: Phase = Phase::Look { young: i64::MAX, lowest: i64::MAX, highest: 0 };

impl Default for Phase {
    fn default() -> Phase {
        LOOK
    }
}

impl StockPass {
    /// Runs one slice. Returns the number of deleted events, and `true` at the end of the pass.
    pub(super) fn slice(
        &mut self,
        transaction: &Connection,
        keys: &KeyHasher,
        slice: DropSlice,
    ) -> Result<(u64, bool), ShardError> {
        if slice.is_first {
            *self = StockPass::default();
            self.only = slice.tenant.map(|tenant| (tenant, String::new()));
            if self.only.is_some() && !self.begin_next(transaction)? {
                return Ok((0, true));
            }
        }
        let mut deleted = 0;
        loop {
            let is_done = match self.phase.clone() {
                Phase::Look { young, lowest, highest } => {
                    self.look(transaction, slice.cutoff_us, [young, lowest, highest])?
                }
                Phase::Sum { upto, level } => {
                    self.sum(transaction, upto, level)?;
                    false
                }
                Phase::Delete { upto } => {
                    let (rows, is_done) = self.delete(transaction, keys, upto)?;
                    deleted += rows;
                    is_done
                }
            };
            if is_done || clock::monotonic_us() >= slice.until_us {
                return Ok((deleted, is_done));
            }
        }
    }

    /// Begins to look at the next product. Returns `false` if the pass has ended. A pass over all events reads from one
    /// product to the next, and ends where there are no more events.
    fn begin_next(&mut self, transaction: &Connection) -> Result<bool, ShardError> {
        let Some((tenant, product_id)) = &mut self.only else {
            self.begin(self.product + 1, LOOK);
            return Ok(true);
        };
        let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
        let mut statement = transaction.prepare_cached(PRODUCT_SQL)?;
        let next = statement.query_row(params![*tenant, *product_id], read).optional()?;
        let Some((product, next_id)) = next else { return Ok(false) };
        *product_id = next_id;
        self.begin(product, LOOK);
        Ok(true)
    }

    fn begin(&mut self, product: i64, phase: Phase) {
        (self.product, self.phase) = (product, phase);
        self.after.clear();
    }

    fn look(
        &mut self,
        transaction: &Connection,
        cutoff_us: i64,
        [mut young, mut lowest, mut highest]: [i64; 3],
    ) -> Result<bool, ShardError> {
        let sql = if self.only.is_some() { LOOK_ONE_SQL } else { LOOK_SQL };
        let mut statement = transaction.prepare_cached(sql)?;
        let mut rows = statement.query(params![self.product, self.after, ROWS])?;
        let mut count = 0;
        while let Some(row) = rows.next()? {
            let (product, version): (i64, i64) = (row.get(0)?, row.get(2)?);
            if product != self.product {
                if self.ends(transaction, young, lowest, highest)? {
                    return Ok(false);
                }
                self.begin(product, LOOK);
                (young, lowest, highest) = (i64::MAX, i64::MAX, 0);
            }
            self.after = row.get(1)?;
            if row.get::<_, i64>(3)? >= cutoff_us {
                young = young.min(version);
            }
            (lowest, highest) = (lowest.min(version), highest.max(version));
            count += 1;
        }
        if count < ROWS {
            let has_old = self.ends(transaction, young, lowest, highest)?;
            return Ok(!has_old && (self.only.is_none() || !self.begin_next(transaction)?));
        }
        self.phase = Phase::Look { young, lowest, highest };
        Ok(false)
    }

    /// Ends the search in the current product. Returns `true` if it has events to delete.
    fn ends(
        &mut self,
        transaction: &Connection,
        young: i64,
        lowest: i64,
        highest: i64,
    ) -> Result<bool, ShardError> {
        let upto = highest.min(young.saturating_sub(1));
        if lowest > upto {
            return Ok(false);
        }
        let phase = match base(transaction, self.product)? {
            // A pass ended before it had deleted the events.
            Some(base) if base.version >= upto => Phase::Delete { upto },
            base => Phase::Sum { upto, level: base.unwrap_or_default() },
        };
        self.begin(self.product, phase);
        Ok(true)
    }

    fn sum(&mut self, transaction: &Connection, upto: i64, mut level: Level) -> Result<(), ShardError> {
        let sql = "SELECT event_id, version, occurred_at_us, stock FROM stock_event \
                   WHERE product = ?1 AND event_id > ?2 ORDER BY event_id LIMIT ?3";
        let mut statement = transaction.prepare_cached(sql)?;
        let mut rows = statement.query(params![self.product, self.after, ROWS])?;
        let mut count = 0;
        while let Some(row) = rows.next()? {
            self.after = row.get(0)?;
            count += 1;
            let version: i64 = row.get(1)?;
            if version > upto {
                continue;
            }
            let event = (row.get::<_, i64>(2)?, self.after.clone());
            level.newest = level.newest.max(Some(event));
            if version == upto {
                level.quantity = row.get(3)?;
            }
        }
        if count == ROWS {
            self.phase = Phase::Sum { upto, level };
            return Ok(());
        }
        level.version = upto;
        set_base(transaction, self.product, &level)?;
        self.begin(self.product, Phase::Delete { upto });
        Ok(())
    }

    /// Deletes some of the product's events. Returns their number, and `true` if the pass has ended.
    fn delete(
        &mut self,
        transaction: &Connection,
        keys: &KeyHasher,
        upto: i64,
    ) -> Result<(u64, bool), ShardError> {
        let sql = "SELECT e.event_id, e.version, e.mode, e.kind, e.number, e.stock, e.occurred_at_us, t.tenant_id, \
                   l.product_id FROM stock_event e CROSS JOIN stock_level l ON l.id = e.product \
                   CROSS JOIN tenant_row t ON t.id = l.tenant \
                   WHERE e.product = ?1 AND e.event_id > ?2 ORDER BY e.event_id LIMIT ?3";
        let mut statement = transaction.prepare_cached(sql)?;
        let mut rows = statement.query(params![self.product, self.after, ROWS])?;
        let (mut count, mut old) = (0, Vec::new());
        while let Some(row) = rows.next()? {
            let text = |at: usize| row.get_ref(at)?.as_str().map_err(rusqlite::Error::from);
            self.after = row.get(0)?;
            count += 1;
            let version: i64 = row.get(1)?;
            if version > upto {
                continue;
            }
            let damaged = || ShardError::Corrupt("a stock event has an unknown mode or kind".to_owned());
            let mode = Mode::from_code(row.get(2)?).ok_or_else(damaged)?;
            let change = StockChange::from_parts(text(3)?, row.get(4)?).ok_or_else(damaged)?;
            let dropped = DroppedEvent {
                event: event_hash(keys, text(7)?, text(8)?, &self.after),
                content: content_hash(keys, mode, change, row.get(6)?),
                version,
                stock: row.get(5)?,
            };
            old.push((self.after.clone(), dropped));
        }
        let sql = "DELETE FROM stock_event WHERE product = ?1 AND event_id = ?2";
        for (event_id, dropped) in &old {
            add(transaction, self.product, dropped)?;
            transaction.prepare_cached(sql)?.execute(params![self.product, event_id])?;
        }
        let is_done = count < ROWS && !self.begin_next(transaction)?;
        Ok((old.len() as u64, is_done))
    }
}

/// The SQL that finds the next product of a tenant.
const PRODUCT_SQL: &str = "SELECT id, product_id FROM stock_level WHERE tenant = ?1 AND product_id > ?2 \
                           ORDER BY product_id LIMIT 1";
/// The SQL that reads the next events of one product.
const LOOK_ONE_SQL: &str = "SELECT product, event_id, version, received_us FROM stock_event \
                            WHERE product = ?1 AND event_id > ?2 ORDER BY event_id LIMIT ?3";
/// The SQL that reads the next events of a pass.
const LOOK_SQL: &str = "SELECT product, event_id, version, received_us FROM stock_event \
                                   WHERE (product, event_id) > (?1, ?2) ORDER BY product, event_id LIMIT ?3";
