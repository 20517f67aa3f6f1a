//! Decides records one at a time. A record becomes events and a level, or is refused. The decision is stored for the
//! response.
//!
//! Events are appended, and their ids are looked up in the memory of ids, a whole batch at once. A level is read and
//! written once in a batch.

use std::time::Duration;

use rusqlite::{CachedStatement, Connection, OptionalExtension as _, params};

use super::STOCK_EVENTS;
use super::convert::{self, Conversion};
use super::decide::{Level, Mode, StockCode, next};
use super::dropped::{self, StockPass, content_hash, event_hash};
use super::kept::{self, ANSWER_KEPT_US, Kept};
use super::levels::Levels;
use super::read::{StockDecision, StockResult};
use super::record::{
    STOCK, STOCK_DROPPED, STOCK_UPDATE, StockDroppedRow, StockEvent, StockRow, StockUpdateRow, decode_stock,
    decode_stock_dropped, decode_stock_update,
};
use super::schema::STOCK_IDS;
use crate::base::clock;
use crate::base::keys::{KeyHash, KeyHasher};
use crate::shard::ids::{BatchIds, Ids};
use crate::shard::{
    Batch, BatchWriter, BuiltIndex, DropSlice, DroppedSlice, Opening, Outcome, Record, Shard, ShardError,
    Stage, Store, load_ids,
};

/// The in-memory state of a shard's stock.
#[derive(Debug)]
pub(crate) struct StockStore {
    keys: KeyHasher,
    pass: StockPass,
    ids: Ids,
    conversion: Conversion,
    /// Whether retention may have deleted events.
    has_dropped: bool,
}

impl StockStore {
    pub(super) fn open(opening: Opening<'_>) -> Result<StockStore, ShardError> {
        let ids = load_ids(opening.connection, opening.keys, &STOCK_IDS)?;
        let connection = &*opening.connection;
        let has_dropped =
            connection.query_row("SELECT EXISTS (SELECT 1 FROM stock_base)", [], |row| row.get(0))?;
        let conversion = Conversion::of(connection)?;
        let (keys, pass) = (*opening.keys, StockPass::default());
        Ok(StockStore { keys, pass, ids, conversion, has_dropped })
    }

    /// Shortens the runs of ids, for tests.
    #[cfg(test)]
    pub(crate) fn shorten_runs(&mut self, run_ids_min: usize) {
        self.ids.shorten_runs(run_ids_min);
    }
}

impl Store for StockStore {
    fn begin<'t>(
        &'t mut self,
        batch: &mut Batch<'t>,
        runs: &[&[Record<'t>]],
    ) -> Result<Box<dyn BatchWriter<'t> + 't>, ShardError> {
        let connection = batch.connection;
        let mut sought = BatchIds::default();
        let rows: Vec<_> = runs.iter().copied().flatten().map(Decoded::of).collect();
        for row in rows.iter().flatten() {
            row.push_ids(batch.keys, &mut sought);
        }
        if !sought.is_empty() {
            sought.look_up(&mut self.ids, connection)?;
        }
        let insert = connection.prepare_cached(convert::INSERT_SQL)?;
        let rows = rows.into_iter();
        let levels = Levels::default();
        Ok(Box::new(Writer {
            store: self,
            rows,
            sought,
            insert,
            levels,
            kept: Vec::new(),
            hashes: Vec::new(),
        }))
    }

    fn committed(&mut self) {
        self.ids.committed();
    }

    fn rolled_back(&mut self) {
        self.ids.rolled_back();
    }

    fn last_ids(&self) -> Vec<(&'static str, i64)> {
        vec![(STOCK_EVENTS.name, self.ids.next_of_table() - 1)]
    }

    fn memory_bytes(&self) -> usize {
        self.ids.memory_bytes() + self.conversion.memory_bytes()
    }

    fn upkeep_due(&self, stage: Stage, _shard: &Shard) -> bool {
        // Events are moved before anything is deleted, because retention needs their row ids.
        stage == Stage::Ids && (self.ids.work_due() || self.conversion.is_pending())
    }

    fn upkeep_waits(&self) -> bool {
        self.ids.is_freezing()
    }

    fn upkeep(
        &mut self,
        _stage: Stage,
        shard: &mut Shard,
        budget: Duration,
    ) -> Result<Option<BuiltIndex>, ShardError> {
        if self.ids.work_due() {
            self.ids.work(shard.connection(), budget)?;
            return Ok(None);
        }
        let done = self.conversion.slice(shard.connection(), &self.keys, &mut self.ids, budget);
        match &done {
            Ok(()) => self.ids.committed(),
            Err(_) => self.ids.rolled_back(),
        }
        done.map(|()| None)
    }

    fn drop_rows(&mut self, transaction: &Connection, slice: DropSlice) -> Result<DroppedSlice, ShardError> {
        if self.conversion.is_pending() {
            // The events of a product are deleted in the order of their row ids, which they do not have yet.
            return Ok(DroppedSlice { is_done: true, ..DroppedSlice::default() });
        }
        self.has_dropped = true;
        let done = self.pass.slice(transaction, &self.keys, slice)?;
        if done.is_done {
            let first: Option<i64> =
                transaction.query_row("SELECT min(id) FROM stock_event", [], |row| row.get(0))?;
            self.ids.forget_below(transaction, first.unwrap_or_else(|| self.ids.next_of_table()))?;
        }
        Ok(done)
    }
}

/// A record of this family.
enum Decoded<'t> {
    History(StockRow<'t>),
    Update(StockUpdateRow<'t>),
    Dropped(StockDroppedRow<'t>),
}

impl<'t> Decoded<'t> {
    fn of(record: &Record<'t>) -> Option<Decoded<'t>> {
        match record.kind {
            STOCK => decode_stock(record.payload).map(Decoded::History),
            STOCK_UPDATE => decode_stock_update(record.payload).map(Decoded::Update),
            STOCK_DROPPED => decode_stock_dropped(record.payload).map(Decoded::Dropped),
            _ => None,
        }
    }

    /// Adds the hashes of its events, in the order in which they are looked at.
    fn push_ids(&self, keys: &KeyHasher, sought: &mut BatchIds) {
        match self {
            Decoded::History(row) => {
                let seen = &row.observed;
                sought.push(keys.hash_all([seen.tenant_id, seen.product_id, seen.event_id]));
            }
            Decoded::Update(row) => {
                for event in &row.events {
                    sought.push(keys.hash_all([row.tenant_id, row.product_id, event.event_id]));
                }
            }
            Decoded::Dropped(_) => {}
        }
    }
}

/// The state of one batch.
struct Writer<'t> {
    store: &'t mut StockStore,
    /// The records that are not decided yet.
    rows: std::vec::IntoIter<Option<Decoded<'t>>>,
    sought: BatchIds,
    insert: CachedStatement<'t>,
    levels: Levels<'t>,
    kept: Vec<Kept>,
    /// The hashes of the ids of the current change.
    hashes: Vec<KeyHash>,
}

impl<'t> BatchWriter<'t> for Writer<'t> {
    fn write(
        &mut self,
        batch: &mut Batch<'t>,
        run: &[Record<'t>],
        outcomes: &mut Vec<Option<Outcome>>,
    ) -> Result<(), ShardError> {
        for _ in run {
            outcomes.push(match self.rows.next().flatten() {
                Some(Decoded::Update(row)) => Some(self.update(batch, &row)?),
                Some(Decoded::History(row)) => Some(self.history(batch, &row)?),
                Some(Decoded::Dropped(row)) => Some(self.carried(batch, &row)?),
                None => None,
            });
        }
        Ok(())
    }

    fn finish(self: Box<Self>, batch: &mut Batch<'t>) -> Result<(), ShardError> {
        let Writer { store, levels, kept, .. } = *self;
        levels.save(batch.connection)?;
        store.ids.save(batch.connection)?;
        if kept.is_empty() {
            return Ok(());
        }
        kept::keep(batch.connection, kept, clock::unix_us())
    }
}

/// The result of an earlier change.
struct EarlierResult {
    quantity: i64,
    version: i64,
}

/// One change of one product that is not yet decided.
struct Change<'a, 't> {
    tenant: i64,
    tenant_id: &'a str,
    product_id: &'t str,
    mode: Mode,
    expected_version: i64,
    received_us: i64,
    /// Ordered by time, then by id.
    events: &'a [StockEvent<'a>],
}

impl<'t> Writer<'t> {
    /// Decides a change, and keeps the decision for the request that waits for it.
    fn update(&mut self, batch: &mut Batch<'t>, row: &StockUpdateRow<'t>) -> Result<Outcome, ShardError> {
        let change = Change {
            tenant: batch.tenants.number(batch.connection, row.tenant_id)?,
            tenant_id: row.tenant_id,
            product_id: row.product_id,
            mode: Mode::Asked(row.mode),
            expected_version: row.expected_version,
            received_us: row.received_us,
            events: &row.events,
        };
        let decision = self.decide(batch.connection, &change)?;
        // No request waits for a record that arrives late, after an outage or from another folder.
        if row.request != 0 && row.received_us > clock::unix_us() - ANSWER_KEPT_US {
            self.kept.push((row.request, row.place, decision));
        }
        Ok(decision.result.into())
    }

    /// Stores an event from history unless it is already stored.
    fn history(&mut self, batch: &mut Batch<'t>, row: &StockRow<'t>) -> Result<Outcome, ShardError> {
        let seen = &row.observed;
        let event = StockEvent { occurred_us: seen.at_us, event_id: seen.event_id, change: row.change };
        let change = Change {
            tenant: batch.tenants.number(batch.connection, seen.tenant_id)?,
            tenant_id: seen.tenant_id,
            product_id: seen.product_id,
            mode: Mode::History,
            expected_version: 0,
            received_us: seen.received_us,
            events: &[event],
        };
        let outcome = self.decide(batch.connection, &change)?.result.into();
        batch.count_known(outcome);
        batch.received(Some(seen.received_us));
        Ok(outcome)
    }

    /// Stores what remains of deleted events. The first record of a product precedes its remaining events, and sets its
    /// level.
    fn carried(&mut self, batch: &mut Batch<'t>, row: &StockDroppedRow<'t>) -> Result<Outcome, ShardError> {
        let connection = batch.connection;
        let tenant = batch.tenants.number(connection, row.tenant_id)?;
        let StockDroppedRow { product_id, quantity, version, newest_us, newest_event_id, updated_us, .. } =
            *row;
        self.levels.release(connection, tenant, product_id)?;
        let sql = "INSERT INTO stock_level (tenant, product_id, quantity, version, newest_us, newest_event_id, \
                   updated_us) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT DO NOTHING";
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
        self.store.has_dropped = true;
        dropped::set_base(connection, product, &Level { quantity, version, newest })?;
        row.events.iter().try_for_each(|event| dropped::add(connection, product, event))?;
        Ok(Outcome::Inserted)
    }

    fn decide(
        &mut self,
        connection: &Connection,
        change: &Change<'_, 't>,
    ) -> Result<StockDecision, ShardError> {
        let is_converting = self.store.conversion.is_pending();
        let place = self.levels.find(connection, change.tenant, change.product_id, is_converting)?;
        let seen = self.seen(connection, change, place)?;
        let level = &self.levels.at(place).level;
        let of =
            |result, code| StockDecision { result, code, quantity: level.quantity, version: level.version };
        match seen {
            Ok(None) => {}
            Ok(Some(EarlierResult { quantity, version })) => {
                return Ok(StockDecision { result: StockResult::Duplicate, code: None, quantity, version });
            }
            Err(code) => return Ok(of(StockResult::Conflict, Some(code))),
        }
        match next(level, change.mode, change.expected_version, change.events) {
            Ok((next, is_superseded)) => {
                let (quantity, version) = (next.quantity, next.version);
                self.store(connection, change, place, next)?;
                let code = is_superseded.then_some(StockCode::Superseded);
                Ok(StockDecision { result: StockResult::Applied, code, quantity, version })
            }
            Err(StockCode::StaleVersion) => Ok(of(StockResult::Conflict, Some(StockCode::StaleVersion))),
            Err(code) => Ok(of(StockResult::Rejected, Some(code))),
        }
    }

    /// Returns the events' earlier result. It is `None` if all events are new, and the result of their last change if
    /// all are already stored. Anything else is a conflict.
    fn seen(
        &mut self,
        connection: &Connection,
        change: &Change<'_, 't>,
        place: usize,
    ) -> Result<Result<Option<EarlierResult>, StockCode>, ShardError> {
        self.hashes.clear();
        let known = self.levels.at(place);
        let (mut last, mut count): (Option<EarlierResult>, usize) = (None, 0);
        let mut is_reused = false;
        for event in change.events {
            let stored = |row_id| match known.id {
                Some(product) => stored_at(connection, product, row_id, change.mode, event),
                None => Ok(None),
            };
            // Each event is looked for, because the results of the batch are read in this order.
            let (hash, mut found) = self.sought.find(&self.store.ids, stored)?;
            self.hashes.push(hash);
            if let (None, Some(product)) = (&found, known.id) {
                if known.is_earlier {
                    found = stored_earlier(connection, product, change.mode, event)?;
                }
                if found.is_none() && self.store.has_dropped {
                    found = dropped_event(connection, &self.store.keys, product, change, event)?;
                }
            }
            match found {
                None => {}
                Some((false, _)) => is_reused = true,
                Some((true, seen)) => {
                    count += 1;
                    if last.as_ref().is_none_or(|last| last.version < seen.version) {
                        last = Some(seen);
                    }
                }
            }
        }
        Ok(match count {
            _ if is_reused => Err(StockCode::EventIdReused),
            count if count == 0 || count == change.events.len() => Ok(last),
            _ => Err(StockCode::PartlySeen),
        })
    }

    fn store(
        &mut self,
        connection: &Connection,
        change: &Change<'_, 't>,
        place: usize,
        level: Level,
    ) -> Result<(), ShardError> {
        let known = self.levels.at(place);
        let (is_earlier, mut previous) = (known.is_earlier, known.event);
        let (quantity, version) = (level.quantity, level.version);
        let first_id = self.store.ids.next_of_table();
        let newest = match is_earlier {
            true => previous,
            false => Some(first_id + change.events.len() as i64 - 1),
        };
        let of = (change.tenant, change.product_id);
        let product = self.levels.change(connection, of, place, (level, change.received_us, newest))?;
        for ((event, hash), id) in change.events.iter().zip(&self.hashes).zip(first_id..) {
            let (kind, number) = event.change.parts();
            if is_earlier {
                connection.prepare_cached(INSERT_EARLIER_SQL)?.execute(params![
                    product,
                    event.event_id,
                    version,
                    change.mode.code(),
                    kind,
                    number,
                    quantity,
                    event.occurred_us,
                    change.received_us
                ])?;
                continue;
            }
            let insert = &mut self.insert;
            insert.raw_bind_parameter(1, id)?;
            insert.raw_bind_parameter(2, product)?;
            insert.raw_bind_parameter(3, previous)?;
            insert.raw_bind_parameter(4, event.event_id)?;
            insert.raw_bind_parameter(5, version)?;
            insert.raw_bind_parameter(6, change.mode.code())?;
            insert.raw_bind_parameter(7, kind)?;
            insert.raw_bind_parameter(8, number)?;
            insert.raw_bind_parameter(9, quantity)?;
            insert.raw_bind_parameter(10, event.occurred_us)?;
            insert.raw_bind_parameter(11, change.received_us)?;
            insert.raw_execute()?;
            self.store.ids.stage(*hash, id);
            previous = Some(id);
        }
        Ok(())
    }
}

/// An event that is stored: whether its content is the same, and the result of its change.
type Stored = Option<(bool, EarlierResult)>;

/// Reads the event with a row id. Returns `None` if it is another event, or was deleted.
fn stored_at(
    connection: &Connection,
    product: i64,
    row_id: i64,
    mode: Mode,
    event: &StockEvent<'_>,
) -> Result<Stored, ShardError> {
    let sql = "SELECT mode, kind, number, occurred_at_us, stock, version FROM stock_event \
               WHERE id = ?1 AND product = ?2 AND event_id = ?3";
    let values = params![row_id, product, event.event_id];
    Ok(connection.prepare_cached(sql)?.query_row(values, |row| compare(row, mode, event)).optional()?)
}

/// Finds the event among those that upkeep has not moved.
fn stored_earlier(
    connection: &Connection,
    product: i64,
    mode: Mode,
    event: &StockEvent<'_>,
) -> Result<Stored, ShardError> {
    let sql = "SELECT mode, kind, number, occurred_at_us, stock, version FROM stock_event_v11 \
               WHERE product = ?1 AND event_id = ?2";
    let values = params![product, event.event_id];
    Ok(connection.prepare_cached(sql)?.query_row(values, |row| compare(row, mode, event)).optional()?)
}

fn compare(
    row: &rusqlite::Row<'_>,
    mode: Mode,
    event: &StockEvent<'_>,
) -> rusqlite::Result<(bool, EarlierResult)> {
    let (kind, number) = event.change.parts();
    let is_same = row.get::<_, u8>(0)? == mode.code()
        && row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)? == kind
        && row.get::<_, i64>(2)? == number
        && row.get::<_, i64>(3)? == event.occurred_us;
    Ok((is_same, EarlierResult { quantity: row.get(4)?, version: row.get(5)? }))
}

/// Finds the event among those that retention has deleted.
fn dropped_event(
    connection: &Connection,
    keys: &KeyHasher,
    product: i64,
    change: &Change<'_, '_>,
    event: &StockEvent<'_>,
) -> Result<Stored, ShardError> {
    let hash = event_hash(keys, change.tenant_id, change.product_id, event.event_id);
    let Some(found) = dropped::find(connection, product, hash)? else { return Ok(None) };
    let content = content_hash(keys, change.mode, event.change, event.occurred_us);
    let earlier = EarlierResult { quantity: found.stock, version: found.version };
    Ok(Some((found.content == content, earlier)))
}

const INSERT_EARLIER_SQL: &str = "INSERT INTO stock_event_v11 (product, event_id, version, mode, kind, number, stock, \
    occurred_at_us, received_us) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
