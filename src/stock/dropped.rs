//! Deletes old stock events in slices. Levels stay, and the ids of deleted events stay known.
//!
//! A product loses a prefix of its changes: those up to the last version before which all changes are old. Each
//! deleted event leaves its id and its result in `stock_dropped`. The level after the deleted events (`stock_base`)
//! changes in the same transaction, so that a replay of the remaining events starts there.
//!
//! The row ids of a product's events rise with its versions. A pass over all events therefore reads them in the order
//! of their ids, and a change can leave if the one before it has left. A pass over the events of one tenant follows
//! each product's events back from the newest one.

use std::collections::{HashMap, VecDeque};

use rusqlite::{Connection, OptionalExtension as _, params};

use super::decide::{Level, Mode};
use super::record::{DroppedEvent, StockChange};
use crate::base::clock;
use crate::base::keys::KeyHasher;
use crate::shard::{DropSlice, DroppedSlice, ShardError};

/// The number of rows read between two checks of the clock.
const ROWS: usize = if cfg!(test) { 3 } else { 256 };
/// The maximum number of old events of a product in memory. It exceeds the number of events of a change.
const OLD_MAX: usize = if cfg!(test) { 8 } else { 65_536 };

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

/// The progress of a pass.
#[derive(Debug, Default)]
pub(super) enum StockPass {
    #[default]
    Nothing,
    /// Over all events. The last row id that was read.
    All(i64),
    /// Over the events of one tenant.
    Tenant(TenantPass),
}

impl StockPass {
    /// Runs one slice.
    pub(super) fn slice(
        &mut self,
        transaction: &Connection,
        keys: &KeyHasher,
        slice: DropSlice,
    ) -> Result<DroppedSlice, ShardError> {
        if slice.is_first {
            *self = match slice.tenant {
                None => StockPass::All(i64::MIN),
                Some(tenant) => StockPass::Tenant(TenantPass { tenant, ..TenantPass::default() }),
            };
        }
        let mut done = DroppedSlice::default();
        loop {
            done.add(match self {
                StockPass::Nothing => DroppedSlice { is_done: true, ..DroppedSlice::default() },
                StockPass::All(after) => drop_next(transaction, keys, &slice, after)?,
                StockPass::Tenant(pass) => pass.step(transaction, keys, &slice)?,
            });
            if done.is_done || clock::monotonic_us() >= slice.until_us {
                return Ok(done);
            }
        }
    }
}

/// A change of a product: its version and the row ids of its events.
struct OldChange {
    product: i64,
    version: i64,
    is_old: bool,
    ids: Vec<i64>,
}

/// Deletes the old changes among the next events, if no earlier change of their product remains.
fn drop_next(
    transaction: &Connection,
    keys: &KeyHasher,
    slice: &DropSlice,
    after: &mut i64,
) -> Result<DroppedSlice, ShardError> {
    let (mut changes, mut count): (Vec<OldChange>, usize) = (Vec::new(), 0);
    let mut is_done = true;
    {
        let mut statement = transaction.prepare_cached(NEXT_SQL)?;
        let mut rows = statement.query([*after])?;
        while let Some(row) = rows.next()? {
            let (id, product, version) = (row.get(0)?, row.get(1)?, row.get(2)?);
            let is_old = row.get::<_, i64>(3)? < slice.cutoff_us;
            match changes.last_mut() {
                Some(last) if (last.product, last.version) == (product, version) => {
                    last.ids.push(id);
                    last.is_old &= is_old;
                }
                _ if count >= ROWS => {
                    is_done = false;
                    break;
                }
                _ => changes.push(OldChange { product, version, is_old, ids: vec![id] }),
            }
            (*after, count) = (id, count + 1);
        }
    }
    let mut bases: HashMap<i64, Level> = HashMap::new();
    let mut done = DroppedSlice { is_done, ..DroppedSlice::default() };
    for change in changes.iter().filter(|change| change.is_old) {
        // A change leaves as a whole.
        let mut may_leave = true;
        for id in &change.ids {
            may_leave &= done.may_leave(slice, *id, 0);
        }
        if !may_leave {
            continue;
        }
        let level = match bases.get_mut(&change.product) {
            Some(level) => level,
            None => {
                let stored = base(transaction, change.product)?.unwrap_or_default();
                bases.entry(change.product).or_insert(stored)
            }
        };
        if level.version + 1 == change.version {
            drop_change(transaction, keys, change, level)?;
            set_base(transaction, change.product, level)?;
            change.ids.iter().for_each(|id| done.deleted(slice, *id, 0));
        }
    }
    Ok(done)
}

/// Deletes the events of the change that follows a level, and changes the level by them.
fn drop_change(
    transaction: &Connection,
    keys: &KeyHasher,
    change: &OldChange,
    level: &mut Level,
) -> Result<(), ShardError> {
    let mut read = transaction.prepare_cached(EVENT_SQL)?;
    let mut delete = transaction.prepare_cached("DELETE FROM stock_event WHERE id = ?1")?;
    for id in &change.ids {
        let mut rows = read.query([id])?;
        let Some(row) = rows.next()? else {
            return Err(ShardError::Corrupt(format!("stock event {id} has no product")));
        };
        let text = |at: usize| row.get_ref(at)?.as_str().map_err(rusqlite::Error::from);
        let damaged = || ShardError::Corrupt("a stock event has an unknown mode or kind".to_owned());
        let mode = Mode::from_code(row.get(1)?).ok_or_else(damaged)?;
        let of = StockChange::from_parts(text(2)?, row.get(3)?).ok_or_else(damaged)?;
        let (event_id, occurred_us): (String, i64) = (row.get(0)?, row.get(5)?);
        let dropped = DroppedEvent {
            event: event_hash(keys, text(6)?, text(7)?, &event_id),
            content: content_hash(keys, mode, of, occurred_us),
            version: change.version,
            stock: row.get(4)?,
        };
        drop(rows);
        add(transaction, change.product, &dropped)?;
        delete.execute([id])?;
        level.quantity = dropped.stock;
        level.newest = level.newest.take().max(Some((occurred_us, event_id)));
    }
    level.version = change.version;
    Ok(())
}

/// The progress of a pass over the events of one tenant, in the order of the ids of its products.
#[derive(Debug, Default)]
pub(super) struct TenantPass {
    tenant: i64,
    product_id: String,
    product: i64,
    /// The next event of the product on the way back from the newest one, if there is one.
    at: Option<i64>,
    /// The row ids and versions of the oldest events read so far that follow each other and are old, newest first.
    old: VecDeque<(i64, i64)>,
    /// Whether newer old events were left out.
    is_part: bool,
    /// The version of the last event that may not leave. The other events of this change may not leave either.
    kept_version: Option<i64>,
}

impl TenantPass {
    /// Reads or deletes some events.
    fn step(
        &mut self,
        transaction: &Connection,
        keys: &KeyHasher,
        slice: &DropSlice,
    ) -> Result<DroppedSlice, ShardError> {
        if self.at.is_some() {
            return self.look(transaction, slice);
        }
        if !self.old.is_empty() {
            return self.delete(transaction, keys, slice);
        }
        let sql = match std::mem::take(&mut self.is_part) {
            true => SAME_PRODUCT_SQL,
            false => NEXT_PRODUCT_SQL,
        };
        let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
        let values = params![self.tenant, self.product_id];
        let next = transaction.prepare_cached(sql)?.query_row(values, read).optional()?;
        let is_done = next.is_none();
        if let Some(next) = next {
            (self.product, self.product_id, self.at) = next;
            self.kept_version = None;
        }
        Ok(DroppedSlice { is_done, ..DroppedSlice::default() })
    }

    fn look(&mut self, transaction: &Connection, slice: &DropSlice) -> Result<DroppedSlice, ShardError> {
        let mut done = DroppedSlice::default();
        let sql = "SELECT previous, version, received_us FROM stock_event WHERE id = ?1 AND product = ?2";
        let mut statement = transaction.prepare_cached(sql)?;
        let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get::<_, i64>(2)?));
        for _ in 0..ROWS {
            let Some(id) = self.at else { break };
            let Some((previous, version, received_us)) =
                statement.query_row([id, self.product], read).optional()?
            else {
                // The events before were deleted.
                self.at = None;
                break;
            };
            self.at = previous;
            // A change leaves as a whole.
            let may_leave = received_us < slice.cutoff_us && done.may_leave(slice, id, 0);
            if !may_leave {
                self.kept_version = Some(version);
            }
            if self.kept_version == Some(version) {
                self.old.clear();
                self.is_part = false;
                continue;
            }
            self.old.push_back((id, version));
            if self.old.len() > OLD_MAX {
                self.is_part = true;
                // A change leaves as a whole.
                let newest = self.old.front().map(|(_, version)| *version);
                while self.old.front().map(|(_, version)| *version) == newest && !self.old.is_empty() {
                    self.old.pop_front();
                }
            }
        }
        Ok(done)
    }

    /// Deletes some of the old changes, oldest first.
    fn delete(
        &mut self,
        transaction: &Connection,
        keys: &KeyHasher,
        slice: &DropSlice,
    ) -> Result<DroppedSlice, ShardError> {
        let mut level = base(transaction, self.product)?.unwrap_or_default();
        let mut done = DroppedSlice::default();
        while let Some((_, version)) = self.old.back().copied()
            && done.rows < ROWS as u64
        {
            let mut change = OldChange { product: self.product, version, is_old: true, ids: Vec::new() };
            while let Some((id, of)) = self.old.back().copied()
                && of == version
            {
                self.old.pop_back();
                change.ids.push(id);
            }
            if level.version + 1 != version {
                self.old.clear();
                self.is_part = false;
                break;
            }
            // A sink may have been registered since these events were read.
            if change.ids.iter().any(|id| *id > slice.upto.kept) {
                self.old.clear();
                self.is_part = false;
                break;
            }
            drop_change(transaction, keys, &change, &mut level)?;
            change.ids.iter().for_each(|id| done.deleted(slice, *id, 0));
        }
        if done.rows > 0 {
            set_base(transaction, self.product, &level)?;
        }
        Ok(done)
    }
}

/// The SQL that reads the next events of a pass.
const NEXT_SQL: &str = "SELECT id, product, version, received_us FROM stock_event WHERE id > ?1 ORDER BY id";
/// The SQL that reads an event with its names.
const EVENT_SQL: &str = "SELECT e.event_id, e.mode, e.kind, e.number, e.stock, e.occurred_at_us, t.tenant_id, \
                         l.product_id FROM stock_event e CROSS JOIN stock_level l ON l.id = e.product \
                         CROSS JOIN tenant_row t ON t.id = l.tenant WHERE e.id = ?1";
/// The SQL that finds the next product of a tenant.
const NEXT_PRODUCT_SQL: &str = "SELECT id, product_id, event FROM stock_level WHERE tenant = ?1 AND product_id > ?2 \
                                ORDER BY product_id LIMIT 1";
const SAME_PRODUCT_SQL: &str =
    "SELECT id, product_id, event FROM stock_level WHERE tenant = ?1 AND product_id = ?2";
