//! Stores a batch's price events and decisions: finds duplicates, compares prices, stores them, and numbers the
//! changes.
//!
//! Prices are appended, and their ids are looked up in the memory of ids, a whole batch at once. A series of prices is
//! read from memory if it was used lately, and written once in a batch.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, params};

use super::PRICE_ROWS;
use super::convert::{self, EARLIER, Sought};
use super::detect::{Finding, judge};
use super::dropped::PricePass;
use super::history::{PriceRow, decode_price};
use super::record::{
    AnomalyId, Decision, Judged, PRICE, PRICE_EVENT, PRICE_REVIEW, PriceEventRow, PriceReviewRow, Review,
    decode_price_event, decode_price_review,
};
use super::schema::PRICE_IDS;
use super::series::{NewPrice, Rows, SeriesCache, Side};
use crate::base::keys::{KeyHash, KeyHasher};
use crate::base::prices::PriceRules;
use crate::shard::ids::{BatchIds, Ids};
use crate::shard::{
    Batch, BatchWriter, BuiltIndex, ChangeKind, DropSlice, DroppedSlice, Opening, Outcome, Record, Shard,
    ShardError, Stage, Store, append_change, load_ids,
};

/// The in-memory state of a shard's prices.
#[derive(Debug)]
pub(crate) struct PriceStore {
    keys: KeyHasher,
    pass: PricePass,
    ids: Ids,
    series: SeriesCache,
    /// Whether upkeep has yet to move prices of an earlier version.
    is_converting: bool,
}

impl PriceStore {
    pub(super) fn open(opening: Opening<'_>) -> Result<PriceStore, ShardError> {
        let ids = load_ids(opening.connection, opening.keys, &PRICE_IDS)?;
        let connection = &*opening.connection;
        Ok(PriceStore {
            keys: *opening.keys,
            pass: PricePass::default(),
            ids,
            series: SeriesCache::default(),
            is_converting: EARLIER.is_pending(connection)?,
        })
    }

    fn rows(&mut self) -> Rows<'_> {
        Rows { keys: &self.keys, ids: &mut self.ids, series: &mut self.series }
    }

    /// Shortens the runs of ids, for tests.
    #[cfg(test)]
    pub(crate) fn shorten_runs(&mut self, run_ids_min: usize) {
        self.ids.shorten_runs(run_ids_min);
    }
}

impl Store for PriceStore {
    fn begin<'t>(
        &'t mut self,
        batch: &mut Batch<'t>,
        runs: &[&[Record<'t>]],
    ) -> Result<Box<dyn BatchWriter<'t> + 't>, ShardError> {
        let mut sought = BatchIds::default();
        let rows: Vec<_> = runs.iter().copied().flatten().map(Decoded::of).collect();
        for row in rows.iter().flatten() {
            row.push_id(batch.keys, &mut sought);
        }
        if !sought.is_empty() {
            sought.look_up(&mut self.ids, batch.connection)?;
        }
        Ok(Box::new(Writer { store: self, rows: rows.into_iter(), sought }))
    }

    fn committed(&mut self) {
        self.ids.committed();
    }

    fn rolled_back(&mut self) {
        self.ids.rolled_back();
        self.series.clear();
    }

    fn last_ids(&self) -> Vec<(&'static str, i64)> {
        vec![(PRICE_ROWS.name, self.ids.next_of_table() - 1)]
    }

    fn memory_bytes(&self) -> usize {
        self.ids.memory_bytes() + self.series.memory_bytes()
    }

    fn upkeep_due(&self, stage: Stage, _shard: &Shard) -> bool {
        // Prices are moved before anything is deleted, because retention needs their row ids.
        stage == Stage::Ids && (self.ids.work_due() || self.is_converting)
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
        let done = convert::slice(&mut self.rows(), shard.connection(), budget);
        match &done {
            Ok(is_done) => {
                self.ids.committed();
                self.is_converting = !is_done;
            }
            Err(_) => self.ids.rolled_back(),
        }
        done.map(|_| None)
    }

    fn drop_rows(&mut self, transaction: &Connection, slice: DropSlice) -> Result<DroppedSlice, ShardError> {
        if self.is_converting {
            // Prices are deleted in the order of their row ids, which they do not have yet.
            return Ok(DroppedSlice { is_done: true, ..DroppedSlice::default() });
        }
        let PriceStore { keys, pass, ids, series, .. } = self;
        let done = pass.slice(transaction, &mut Rows { keys, ids, series }, slice)?;
        series.save(transaction)?;
        ids.save(transaction)?;
        if done.is_done {
            let first: Option<i64> =
                transaction.query_row("SELECT min(id) FROM price_row", [], |row| row.get(0))?;
            let first = first.unwrap_or_else(|| self.ids.next_of_table());
            self.ids.forget_below(transaction, first)?;
        }
        Ok(done)
    }
}

/// A record of this family.
enum Decoded<'t> {
    History(PriceRow<'t>),
    Event(PriceEventRow<'t>),
    Review(PriceReviewRow<'t>),
}

impl<'t> Decoded<'t> {
    fn of(record: &Record<'t>) -> Option<Decoded<'t>> {
        match record.kind {
            PRICE => decode_price(record.payload).map(Decoded::History),
            PRICE_EVENT => decode_price_event(record.payload).map(Decoded::Event),
            PRICE_REVIEW => decode_price_review(record.payload).map(Decoded::Review),
            _ => None,
        }
    }

    /// Adds the hash of its event, in the order in which they are looked at.
    fn push_id(&self, keys: &KeyHasher, sought: &mut BatchIds) {
        let seen = match self {
            Decoded::History(row) => &row.observed,
            Decoded::Event(event) => &event.row.observed,
            Decoded::Review(_) => return,
        };
        sought.push(keys.hash_all([seen.tenant_id, seen.product_id, seen.event_id]));
    }
}

/// The state of one batch.
struct Writer<'t> {
    store: &'t mut PriceStore,
    /// The records that are not stored yet.
    rows: std::vec::IntoIter<Option<Decoded<'t>>>,
    sought: BatchIds,
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
                Some(Decoded::Event(event)) => Some(self.event(batch, &event)?),
                Some(Decoded::History(row)) => Some(self.history(batch, &row)?),
                Some(Decoded::Review(review)) => Some(self.review(batch, &review)?),
                None => None,
            });
        }
        Ok(())
    }

    fn finish(self: Box<Self>, batch: &mut Batch<'t>) -> Result<(), ShardError> {
        self.store.series.save(batch.connection)?;
        self.store.ids.save(batch.connection)
    }
}

/// What is stored under an event's id.
enum Known {
    /// A price event, with whether its content is the same.
    Event(bool),
    /// A price of the same time that was loaded as history: whether its content is the same, and its row, unless it is not
    /// moved yet.
    History(bool, Option<i64>),
}

impl Writer<'_> {
    /// Stores a price from history unless one of this time and id is already stored.
    fn history(&mut self, batch: &mut Batch<'_>, row: &PriceRow<'_>) -> Result<Outcome, ShardError> {
        let tenant = batch.tenants.number(batch.connection, row.observed.tenant_id)?;
        let sought = sought(tenant, row);
        let is_known = |event: &Stored| event.at_us == row.observed.at_us;
        let (hash, found) = self
            .sought
            .find(&self.store.ids, |id| Ok(read_stored(batch.connection, &sought, id)?.filter(is_known)))?;
        let is_earlier = self.store.is_converting
            && found.is_none()
            && convert::in_history(batch.connection, &sought)?.is_some();
        let outcome = match found.is_some() || is_earlier {
            true => Outcome::Duplicate,
            false => {
                self.append(batch.connection, tenant, row, hash, (true, None, None))?;
                Outcome::Inserted
            }
        };
        batch.count_known(outcome);
        batch.received(Some(row.observed.received_us));
        Ok(outcome)
    }

    /// Stores a price event, which is flagged if it has an anomaly. The event is a conflict if the tenant already has a
    /// different price event with the same id for the same product.
    fn event(&mut self, batch: &mut Batch<'_>, event: &PriceEventRow<'_>) -> Result<Outcome, ShardError> {
        let row = &event.row;
        let tenant = batch.tenants.number(batch.connection, row.observed.tenant_id)?;
        let sought = sought(tenant, row);
        let (hash, known) = self.known(batch.connection, &sought)?;
        match known {
            Some(Known::Event(true)) => return Ok(Outcome::Duplicate),
            Some(Known::Event(false)) | Some(Known::History(false, _)) => return Ok(Outcome::Conflict),
            Some(Known::History(true, place)) => self.take_history(batch.connection, &sought, place)?,
            None => {}
        }
        let (finding, reviewed) = match event.judged {
            Some(Judged { anomaly }) => {
                (anomaly.map(|(finding, _)| finding), anomaly.and_then(|(_, review)| review))
            }
            // The price was loaded as history, and every price in the history is accepted.
            None if known.is_some() => (None, None),
            None => {
                let is_converting = self.store.is_converting;
                let of = (tenant, row.observed.product_id, row.currency.as_str());
                let series = self.store.series.find(batch.connection, of, is_converting)?;
                let key = (row.observed.at_us, row.observed.event_id);
                // The nearest price is needed even if the window is zero, in which case there is no score.
                let limit = usize::from(event.rules.window.max(1));
                let before = series.accepted(batch.connection, key, Side::Before, limit)?;
                let after = series.accepted(batch.connection, key, Side::After, limit)?;
                (judge(row.price, &event.rules, &before, &after), None)
            }
        };
        let is_accepted =
            finding.is_none() || reviewed.is_some_and(|review| review.decision == Decision::Approve);
        let id = self.store.ids.next_of_table();
        let anomaly = match &finding {
            None => None,
            Some(finding) => Some(store_anomaly(batch, tenant, event, finding, reviewed, id)?),
        };
        self.append(batch.connection, tenant, row, hash, (is_accepted, Some(&event.rules), anomaly))?;
        Ok(if anomaly.is_some() { Outcome::Flagged } else { Outcome::Inserted })
    }

    /// Looks for an event's id among the stored prices of its product.
    fn known(
        &mut self,
        connection: &Connection,
        sought: &Sought<'_>,
    ) -> Result<(KeyHash, Option<Known>), ShardError> {
        let mut history = None;
        let (hash, mut known) = self.sought.find(&self.store.ids, |id| {
            Ok(match read_stored(connection, sought, id)? {
                Some(found) if found.is_event => Some(Known::Event(found.is_same)),
                Some(found) if found.at_us == sought.at_us => {
                    history = Some(Known::History(found.is_same, Some(id)));
                    None
                }
                _ => None,
            })
        })?;
        if self.store.is_converting && known.is_none() {
            known = convert::stored(connection, sought)?.map(Known::Event);
            if known.is_none() && history.is_none() {
                history =
                    convert::in_history(connection, sought)?.map(|is_same| Known::History(is_same, None));
            }
        }
        Ok((hash, known.or(history)))
    }

    /// Deletes a price that was loaded as history, because its price event takes its place.
    fn take_history(
        &mut self,
        connection: &Connection,
        sought: &Sought<'_>,
        place: Option<i64>,
    ) -> Result<(), ShardError> {
        let Some(id) = place else { return convert::take_history(connection, sought) };
        let of = (sought.tenant, sought.product_id, sought.currency);
        let is_converting = self.store.is_converting;
        let series = self.store.series.find(connection, of, is_converting)?;
        series.delete(connection, (sought.at_us, sought.event_id), id)
    }

    fn append(
        &mut self,
        connection: &Connection,
        tenant: i64,
        row: &PriceRow<'_>,
        hash: KeyHash,
        (is_accepted, rules, anomaly): (bool, Option<&PriceRules>, Option<i64>),
    ) -> Result<(), ShardError> {
        let id = self.store.ids.next_of_table();
        let price = NewPrice {
            id,
            event_id: row.observed.event_id,
            at_us: row.observed.at_us,
            price: row.price,
            received_us: row.observed.received_us,
            is_accepted,
            rules: rules.map(|rules| (rules.change_bp, rules.score_milli, rules.window)),
            anomaly,
        };
        let of = (tenant, row.observed.product_id, row.currency.as_str());
        let is_converting = self.store.is_converting;
        self.store.series.find(connection, of, is_converting)?.append(connection, &price)?;
        self.store.ids.stage(hash, id);
        Ok(())
    }

    /// Stores a decision. A decision that repeats the stored one is a duplicate; a different one is a conflict.
    fn review(&mut self, batch: &mut Batch<'_>, review: &PriceReviewRow<'_>) -> Result<Outcome, ShardError> {
        let tenant = batch.tenants.number(batch.connection, review.tenant_id)?;
        let Some(found) = Reviewed::find(batch.connection, tenant, review)? else {
            return Ok(Outcome::Missing);
        };
        if let Some(before) = Decision::of_status(&found.status) {
            return Ok(if before == review.decision { Outcome::Duplicate } else { Outcome::Conflict });
        }
        batch
            .connection
            .prepare_cached("UPDATE price_anomaly SET status = ?2, reviewed_us = ?3 WHERE id = ?1")?
            .execute(params![found.anomaly, review.decision.status(), review.received_us])?;
        if review.decision == Decision::Approve {
            let key = (found.observed_at_us, found.event_id.as_str());
            match found.price_id {
                Some(id) => {
                    let of = (tenant, found.product_id.as_str(), found.currency.as_str());
                    let is_converting = self.store.is_converting;
                    let series = self.store.series.find(batch.connection, of, is_converting)?;
                    series.approve(batch.connection, key, found.price, id)?;
                }
                None => convert::approve(batch.connection, (tenant, &found.product_id), key)?,
            }
        }
        note(batch, tenant, ChangeKind::Review, found.anomaly, review.received_us)?;
        Ok(Outcome::Inserted)
    }
}

/// An anomaly that is decided on.
struct Reviewed {
    anomaly: i64,
    status: String,
    product_id: String,
    observed_at_us: i64,
    event_id: String,
    price: i64,
    currency: String,
    price_id: Option<i64>,
}

impl Reviewed {
    fn find(
        connection: &Connection,
        tenant: i64,
        review: &PriceReviewRow<'_>,
    ) -> Result<Option<Reviewed>, ShardError> {
        let sql = "SELECT id, status, product_id, observed_at_us, event_id, price, currency, price_id \
                   FROM price_anomaly WHERE anomaly_id = ?1 AND tenant = ?2 AND (?3 = '' OR product_id = ?3) \
                   ORDER BY id LIMIT 1";
        let values = params![review.anomaly.to_string(), tenant, review.product_id];
        let read = |row: &rusqlite::Row<'_>| {
            Ok(Reviewed {
                anomaly: row.get(0)?,
                status: row.get(1)?,
                product_id: row.get(2)?,
                observed_at_us: row.get(3)?,
                event_id: row.get(4)?,
                price: row.get(5)?,
                currency: row.get(6)?,
                price_id: row.get(7)?,
            })
        };
        Ok(connection.prepare_cached(sql)?.query_row(values, read).optional()?)
    }
}

fn sought<'a>(tenant: i64, row: &'a PriceRow<'_>) -> Sought<'a> {
    Sought {
        tenant,
        product_id: row.observed.product_id,
        event_id: row.observed.event_id,
        at_us: row.observed.at_us,
        price: row.price,
        currency: row.currency.as_str(),
    }
}

/// A price that is stored under an id.
struct Stored {
    at_us: i64,
    is_same: bool,
    is_event: bool,
}

/// The SQL that compares the price with a row id.
const STORED_SQL: &str = "SELECT r.observed_at_us, r.observed_at_us = ?5 AND r.price = ?6 AND s.currency = ?7, \
    r.window_max IS NOT NULL FROM price_row r CROSS JOIN price_series s ON s.id = r.series \
    WHERE r.id = ?1 AND s.tenant = ?2 AND s.product_id = ?3 AND r.event_id = ?4";

/// Reads the price with a row id. Returns `None` if it is another product's or event's, or was deleted.
fn read_stored(connection: &Connection, of: &Sought<'_>, id: i64) -> Result<Option<Stored>, ShardError> {
    let values = params![id, of.tenant, of.product_id, of.event_id, of.at_us, of.price, of.currency];
    let read = |row: &rusqlite::Row<'_>| {
        Ok(Stored { at_us: row.get(0)?, is_same: row.get(1)?, is_event: row.get(2)? })
    };
    Ok(connection.prepare_cached(STORED_SQL)?.query_row(values, read).optional()?)
}

fn store_anomaly(
    batch: &mut Batch<'_>,
    tenant: i64,
    event: &PriceEventRow<'_>,
    finding: &Finding,
    reviewed: Option<Review>,
    price_id: i64,
) -> Result<i64, ShardError> {
    let PriceEventRow { row, rules, .. } = event;
    let observed = &row.observed;
    let name = AnomalyId::of(batch.keys, observed.tenant_id, observed.product_id, observed.event_id);
    let score = finding.score;
    let anomaly = batch
        .connection
        .prepare_cached(
            "INSERT INTO price_anomaly (anomaly_id, tenant, product_id, event_id, observed_at_us, price, currency, \
             created_us, baseline, change_bp, median, mad, score_milli, compared, change_bp_max, score_milli_max, \
             status, reviewed_us, price_id) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, \
             ?15, ?16, ?17, ?18, ?19)",
        )?
        .insert(params![
            name.to_string(),
            tenant,
            observed.product_id,
            observed.event_id,
            observed.at_us,
            row.price,
            row.currency.as_str(),
            observed.received_us,
            finding.baseline,
            finding.change_bp,
            score.map(|score| score.median),
            score.map(|score| score.mad),
            score.map(|score| score.milli),
            score.map(|score| score.count),
            rules.change_bp,
            rules.score_milli,
            reviewed.map_or("open", |review| review.decision.status()),
            reviewed.map(|review| review.at_us),
            price_id,
        ])?;
    note(batch, tenant, ChangeKind::Anomaly, anomaly, observed.received_us)?;
    if let Some(review) = reviewed {
        note(batch, tenant, ChangeKind::Review, anomaly, review.at_us)?;
    }
    Ok(anomaly)
}

/// Appends the change to the shard's feed, which gives it its number.
fn note(
    batch: &mut Batch<'_>,
    tenant: i64,
    kind: ChangeKind,
    anomaly: i64,
    at_us: i64,
) -> Result<(), ShardError> {
    append_change(batch.connection, kind, Some(tenant), anomaly, None, at_us)?;
    batch.applied.changes += 1;
    Ok(())
}
