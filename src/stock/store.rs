//! Decides records one at a time. A record becomes events and a level, or is refused. The decision is stored for the
//! response.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::decide::{Level, Mode, StockCode, next};
use super::dropped::{self, StockPass, content_hash, event_hash};
use super::read::{StockDecision, StockResult};
use super::record::{
    STOCK, STOCK_DROPPED, STOCK_UPDATE, StockDroppedRow, StockEvent, StockRow, StockUpdateRow, decode_stock,
    decode_stock_dropped, decode_stock_update,
};
use crate::base::clock;
use crate::base::keys::KeyHasher;
use crate::shard::{Batch, BatchWriter, DropSlice, EachRecord, Outcome, Record, ShardError, Store};

/// How long a decision remains stored. A request waits for its decision for at most `commit_wait`, which is one or a
/// few seconds.
const ANSWER_KEPT_US: i64 = 60_000_000;
/// The number of old answers deleted at once.
const EXPIRED_AT_ONCE: u32 = 64;
/// The average number of new answers between two deletions. It is smaller than [`EXPIRED_AT_ONCE`], so more answers
/// are deleted than arrive.
const ANSWERS_PER_EXPIRY: u64 = 32;

/// The in-memory state of a shard's stock.
#[derive(Debug)]
pub(super) struct StockStore {
    keys: KeyHasher,
    pass: StockPass,
}

impl StockStore {
    pub(super) fn new(keys: KeyHasher) -> StockStore {
        StockStore { keys, pass: StockPass::default() }
    }
}

impl Store for StockStore {
    fn begin<'t>(
        &'t mut self,
        _batch: &mut Batch<'t>,
        _runs: &[&[Record<'t>]],
    ) -> Result<Box<dyn BatchWriter<'t> + 't>, ShardError> {
        Ok(Box::new(EachRecord(write)))
    }

    fn drop_rows(&mut self, transaction: &Connection, slice: DropSlice) -> Result<(u64, bool), ShardError> {
        self.pass.slice(transaction, &self.keys, slice)
    }
}

/// A product's stored level, with its row id.
struct StoredLevel {
    id: i64,
    level: Level,
}

/// The result of an earlier change.
struct EarlierResult {
    quantity: i64,
    version: i64,
}

/// Decides one record of this family.
pub(super) fn write(batch: &mut Batch<'_>, record: &Record<'_>) -> Result<Option<Outcome>, ShardError> {
    Ok(match record.kind {
        STOCK => decode_stock(record.payload).map(|row| history(batch, &row)).transpose()?,
        STOCK_UPDATE => decode_stock_update(record.payload).map(|row| update(batch, &row)).transpose()?,
        STOCK_DROPPED => decode_stock_dropped(record.payload).map(|row| carried(batch, &row)).transpose()?,
        _ => None,
    })
}

/// Decides a change, and stores the decision for the request that waits for it.
fn update(batch: &mut Batch<'_>, row: &StockUpdateRow<'_>) -> Result<Outcome, ShardError> {
    let connection = batch.connection;
    let tenant = batch.tenants.number(connection, row.tenant_id)?;
    let change = Change {
        keys: batch.keys,
        tenant,
        tenant_id: row.tenant_id,
        product_id: row.product_id,
        mode: Mode::Asked(row.mode),
        expected_version: row.expected_version,
        received_us: row.received_us,
        events: &row.events,
    };
    let decision = change.apply(connection)?;
    let now_us = clock::unix_us();
    // No request waits for a record that arrives late, after an outage or from another folder.
    if row.request != 0 && row.received_us > now_us - ANSWER_KEPT_US {
        keep(connection, row.request, row.place, &decision)?;
        if is_turn_to_expire(row.request, row.place) {
            expire(connection, now_us)?;
        }
    }
    Ok(decision.result.into())
}

fn history(batch: &mut Batch<'_>, row: &StockRow<'_>) -> Result<Outcome, ShardError> {
    let tenant = batch.tenants.number(batch.connection, row.observed.tenant_id)?;
    let outcome = store_history(batch, tenant, row)?;
    batch.count_known(outcome);
    batch.received(Some(row.observed.received_us));
    Ok(outcome)
}

/// Stores what remains of deleted events. The first record of a product precedes its remaining events, and sets its
/// level.
fn carried(batch: &mut Batch<'_>, row: &StockDroppedRow<'_>) -> Result<Outcome, ShardError> {
    let connection = batch.connection;
    let tenant = batch.tenants.number(connection, row.tenant_id)?;
    let StockDroppedRow { product_id, quantity, version, newest_us, newest_event_id, updated_us, .. } = *row;
    let sql = "INSERT INTO stock_level (tenant, product_id, quantity, version, newest_us, newest_event_id, updated_us) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT DO NOTHING";
    connection.prepare_cached(sql)?.execute(params![
        tenant,
        product_id,
        quantity,
        version,
        newest_us,
        newest_event_id,
        updated_us
    ])?;
    let sql = "SELECT id FROM stock_level WHERE tenant = ?1 AND product_id = ?2";
    let product =
        connection.prepare_cached(sql)?.query_row(params![tenant, product_id], |found| found.get(0))?;
    let newest = Some((newest_us, newest_event_id.to_owned()));
    dropped::set_base(connection, product, &Level { quantity, version, newest })?;
    row.events.iter().try_for_each(|event| dropped::add(connection, product, event))?;
    Ok(Outcome::Inserted)
}

/// Stores an event from history unless it is already stored.
fn store_history(batch: &Batch<'_>, tenant: i64, row: &StockRow<'_>) -> Result<Outcome, ShardError> {
    let seen = &row.observed;
    let event = StockEvent { occurred_us: seen.at_us, event_id: seen.event_id, change: row.change };
    let change = Change {
        keys: batch.keys,
        tenant,
        tenant_id: seen.tenant_id,
        product_id: seen.product_id,
        mode: Mode::History,
        expected_version: 0,
        received_us: seen.received_us,
        events: &[event],
    };
    Ok(change.apply(batch.connection)?.result.into())
}

/// One change of one product that is not yet decided.
struct Change<'a> {
    keys: &'a KeyHasher,
    tenant: i64,
    tenant_id: &'a str,
    product_id: &'a str,
    mode: Mode,
    expected_version: i64,
    received_us: i64,
    /// Ordered by time, then by id.
    events: &'a [StockEvent<'a>],
}

impl Change<'_> {
    fn apply(&self, connection: &Connection) -> Result<StockDecision, ShardError> {
        let known = self.known(connection)?;
        let level = known.as_ref().map_or_else(Level::default, |known| known.level.clone());
        let of =
            |result, code| StockDecision { result, code, quantity: level.quantity, version: level.version };
        match self.seen(connection, known.as_ref())? {
            Ok(None) => {}
            Ok(Some(EarlierResult { quantity, version })) => {
                return Ok(StockDecision { result: StockResult::Duplicate, code: None, quantity, version });
            }
            Err(code) => return Ok(of(StockResult::Conflict, Some(code))),
        }
        match next(&level, self.mode, self.expected_version, self.events) {
            Ok((next, is_superseded)) => {
                self.store(connection, known.map(|known| known.id), &next)?;
                Ok(StockDecision {
                    result: StockResult::Applied,
                    code: is_superseded.then_some(StockCode::Superseded),
                    quantity: next.quantity,
                    version: next.version,
                })
            }
            Err(StockCode::StaleVersion) => Ok(of(StockResult::Conflict, Some(StockCode::StaleVersion))),
            Err(code) => Ok(of(StockResult::Rejected, Some(code))),
        }
    }

    fn known(&self, connection: &Connection) -> Result<Option<StoredLevel>, ShardError> {
        let sql = "SELECT id, quantity, version, newest_us, newest_event_id FROM stock_level \
                   WHERE tenant = ?1 AND product_id = ?2";
        let read = |row: &rusqlite::Row<'_>| {
            let newest = Some((row.get(3)?, row.get(4)?));
            let level = Level { quantity: row.get(1)?, version: row.get(2)?, newest };
            Ok(StoredLevel { id: row.get(0)?, level })
        };
        let mut statement = connection.prepare_cached(sql)?;
        Ok(statement.query_row(params![self.tenant, self.product_id], read).optional()?)
    }

    /// Returns the events' earlier result. It is `None` if all events are new, and the result of their last change if
    /// all are already stored. Anything else is a conflict.
    fn seen(
        &self,
        connection: &Connection,
        known: Option<&StoredLevel>,
    ) -> Result<Result<Option<EarlierResult>, StockCode>, ShardError> {
        let Some(known) = known else { return Ok(Ok(None)) };
        let mut statement = connection.prepare_cached(
            "SELECT mode, kind, number, occurred_at_us, stock, version FROM stock_event \
             WHERE product = ?1 AND event_id = ?2",
        )?;
        let (mut last, mut count): (Option<EarlierResult>, usize) = (None, 0);
        for event in self.events {
            let (kind, number) = event.change.parts();
            let read = |row: &rusqlite::Row<'_>| {
                let is_same = row.get::<_, u8>(0)? == self.mode.code()
                    && row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)? == kind
                    && row.get::<_, i64>(2)? == number
                    && row.get::<_, i64>(3)? == event.occurred_us;
                Ok((is_same, EarlierResult { quantity: row.get(4)?, version: row.get(5)? }))
            };
            let stored = statement.query_row(params![known.id, event.event_id], read).optional()?;
            let found = match stored {
                None => self.dropped(connection, known.id, event)?,
                stored => stored,
            };
            match found {
                None => {}
                Some((false, _)) => return Ok(Err(StockCode::EventIdReused)),
                Some((true, seen)) => {
                    count += 1;
                    if last.as_ref().is_none_or(|last| last.version < seen.version) {
                        last = Some(seen);
                    }
                }
            }
        }
        Ok(if count == 0 || count == self.events.len() { Ok(last) } else { Err(StockCode::PartlySeen) })
    }

    /// Finds the event among those that retention has deleted. Returns whether its content is the same, and its result.
    fn dropped(
        &self,
        connection: &Connection,
        product: i64,
        event: &StockEvent<'_>,
    ) -> Result<Option<(bool, EarlierResult)>, ShardError> {
        let hash = event_hash(self.keys, self.tenant_id, self.product_id, event.event_id);
        let Some(found) = dropped::find(connection, product, hash)? else { return Ok(None) };
        let content = content_hash(self.keys, self.mode, event.change, event.occurred_us);
        let earlier = EarlierResult { quantity: found.stock, version: found.version };
        Ok(Some((found.content == content, earlier)))
    }

    fn store(&self, connection: &Connection, known: Option<i64>, next: &Level) -> Result<(), ShardError> {
        let Level { quantity, version, newest: Some((newest_us, newest_event_id)) } = next else {
            return Err(ShardError::Other("a change without an event".to_owned()));
        };
        let product = match known {
            Some(id) => {
                let sql = "UPDATE stock_level SET quantity = ?2, version = ?3, newest_us = ?4, \
                           newest_event_id = ?5, updated_us = ?6 WHERE id = ?1";
                let values = params![id, quantity, version, newest_us, newest_event_id, self.received_us];
                connection.prepare_cached(sql)?.execute(values)?;
                id
            }
            None => {
                let sql = "INSERT INTO stock_level (tenant, product_id, quantity, version, newest_us, \
                           newest_event_id, updated_us) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
                connection.prepare_cached(sql)?.insert(params![
                    self.tenant,
                    self.product_id,
                    quantity,
                    version,
                    newest_us,
                    newest_event_id,
                    self.received_us
                ])?
            }
        };
        let mut insert = connection.prepare_cached(
            "INSERT INTO stock_event (product, event_id, version, mode, kind, number, stock, occurred_at_us, \
             received_us) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?;
        for event in self.events {
            let (kind, number) = event.change.parts();
            insert.execute(params![
                product,
                event.event_id,
                version,
                self.mode.code(),
                kind,
                number,
                quantity,
                event.occurred_us,
                self.received_us
            ])?;
        }
        Ok(())
    }
}

fn keep(
    connection: &Connection,
    request: i64,
    place: u32,
    decision: &StockDecision,
) -> Result<(), ShardError> {
    let StockDecision { result, code, quantity, version } = decision;
    let code = code.map_or(0, |code| code as u8);
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO stock_answer (request, place, result, code, quantity, version) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![request, place, *result as u8, code, quantity, version])?;
    Ok(())
}

/// Returns `true` for about one in [`ANSWERS_PER_EXPIRY`] answers, regardless of the indexes that a shard's products
/// have in requests. A product may have the same index each time, but requests are numbered by time, so the sums
/// differ. The multiplication (by 2^64 over the golden ratio) spreads nearby sums over all values.
fn is_turn_to_expire(request: i64, place: u32) -> bool {
    let sum = request.unsigned_abs().wrapping_add(u64::from(place));
    sum.wrapping_mul(0x9e37_79b9_7f4a_7c15) < u64::MAX / ANSWERS_PER_EXPIRY
}

/// Deletes expired answers. Requests are numbered by time, so the oldest ones are deleted first.
fn expire(connection: &Connection, now_us: i64) -> Result<(), ShardError> {
    connection
        .prepare_cached(
            "DELETE FROM stock_answer WHERE (request, place) IN \
             (SELECT request, place FROM stock_answer WHERE request < ?1 ORDER BY request LIMIT ?2)",
        )?
        .execute(params![(now_us - ANSWER_KEPT_US) << 8, EXPIRED_AT_ONCE])?;
    Ok(())
}
