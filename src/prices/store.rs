//! Stores a batch's price events and decisions: finds duplicates, compares prices, stores them, and numbers the
//! changes.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::detect::{Finding, judge};
use super::dropped::PricePass;
use super::history::{PriceRow, decode_price, store_history};
use super::record::{
    AnomalyId, Decision, Judged, PRICE, PRICE_EVENT, PRICE_REVIEW, PriceEventRow, PriceReviewRow, Review,
    decode_price_event, decode_price_review,
};
use crate::base::prices::PriceRules;
use crate::shard::{Batch, BatchWriter, DropSlice, EachRecord, Outcome, Record, ShardError, Store};

/// The in-memory state of a shard's prices.
#[derive(Debug, Default)]
pub(super) struct PriceStore {
    pass: PricePass,
}

impl Store for PriceStore {
    fn begin<'t>(
        &'t mut self,
        _batch: &mut Batch<'t>,
        _runs: &[&[Record<'t>]],
    ) -> Result<Box<dyn BatchWriter<'t> + 't>, ShardError> {
        Ok(Box::new(EachRecord(write)))
    }

    fn drop_rows(&mut self, transaction: &Connection, slice: DropSlice) -> Result<(u64, bool), ShardError> {
        self.pass.slice(transaction, slice)
    }
}

/// Stores one record of this family and returns its outcome.
fn write(batch: &mut Batch<'_>, record: &Record<'_>) -> Result<Option<Outcome>, ShardError> {
    Ok(match record.kind {
        PRICE => decode_price(record.payload).map(|row| history(batch, &row)).transpose()?,
        PRICE_EVENT => decode_price_event(record.payload).map(|row| event(batch, &row)).transpose()?,
        PRICE_REVIEW => decode_price_review(record.payload).map(|row| review(batch, &row)).transpose()?,
        _ => None,
    })
}

fn history(batch: &mut Batch<'_>, row: &PriceRow<'_>) -> Result<Outcome, ShardError> {
    let tenant = batch.tenants.number(batch.connection, row.observed.tenant_id)?;
    let outcome = store_history(batch.connection, tenant, row)?;
    batch.count_known(outcome);
    batch.received(Some(row.observed.received_us));
    Ok(outcome)
}

/// Stores a price event. The event is a conflict if the tenant already has a different price event with the same id
/// for the same product.
fn event(batch: &mut Batch<'_>, event: &PriceEventRow<'_>) -> Result<Outcome, ShardError> {
    let row = &event.row;
    let tenant = batch.tenants.number(batch.connection, row.observed.tenant_id)?;
    if let Some(known) = stored(batch.connection, tenant, row)? {
        return Ok(known);
    }
    let (finding, reviewed) = match event.judged {
        Some(Judged { anomaly }) => {
            (anomaly.map(|(finding, _)| finding), anomaly.and_then(|(_, review)| review))
        }
        None => match in_history(batch.connection, tenant, row)? {
            Some(false) => return Ok(Outcome::Conflict),
            // The price was loaded as history, and every price in the history is accepted.
            Some(true) => (None, None),
            None => {
                let before = accepted(batch.connection, tenant, row, &event.rules, Side::Before)?;
                let after = accepted(batch.connection, tenant, row, &event.rules, Side::After)?;
                (judge(row.price, &event.rules, &before, &after), None)
            }
        },
    };
    let is_accepted =
        finding.is_none() || reviewed.is_some_and(|review| review.decision == Decision::Approve);
    store_price(batch.connection, tenant, row, is_accepted)?;
    let anomaly = match &finding {
        None => None,
        Some(finding) => Some(store_anomaly(batch, tenant, row, &event.rules, finding, reviewed)?),
    };
    batch
        .connection
        .prepare_cached(
            "INSERT INTO price_event (tenant, product_id, event_id, observed_at_us, price, currency, received_us, \
             change_bp_max, score_milli_max, window_max, anomaly) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, \
             ?11)",
        )?
        .execute(params![
            tenant,
            row.observed.product_id,
            row.observed.event_id,
            row.observed.at_us,
            row.price,
            row.currency.as_str(),
            row.observed.received_us,
            event.rules.change_bp,
            event.rules.score_milli,
            event.rules.window,
            anomaly
        ])?;
    Ok(Outcome::Inserted)
}

/// Compares the event with the stored event that has the same id. Returns `None` if no such event is stored.
fn stored(connection: &Connection, tenant: i64, row: &PriceRow<'_>) -> Result<Option<Outcome>, ShardError> {
    let found = connection
        .prepare_cached(
            "SELECT observed_at_us = ?4 AND price = ?5 AND currency = ?6 FROM price_event \
             WHERE tenant = ?1 AND product_id = ?2 AND event_id = ?3",
        )?
        .query_row(
            params![
                tenant,
                row.observed.product_id,
                row.observed.event_id,
                row.observed.at_us,
                row.price,
                row.currency.as_str()
            ],
            |found| found.get::<_, bool>(0),
        )
        .optional()?;
    Ok(found.map(|is_same| if is_same { Outcome::Duplicate } else { Outcome::Conflict }))
}

/// Finds this observation in the history. Returns whether the stored content is the same, or `None` if the history
/// does not contain the observation.
fn in_history(connection: &Connection, tenant: i64, row: &PriceRow<'_>) -> Result<Option<bool>, ShardError> {
    Ok(connection
        .prepare_cached(
            "SELECT price = ?5 AND currency = ?6 FROM price_row \
             WHERE tenant = ?1 AND product_id = ?2 AND observed_at_us = ?3 AND event_id = ?4",
        )?
        .query_row(
            params![
                tenant,
                row.observed.product_id,
                row.observed.at_us,
                row.observed.event_id,
                row.price,
                row.currency.as_str()
            ],
            |found| found.get(0),
        )
        .optional()?)
}

#[derive(Clone, Copy)]
enum Side {
    Before,
    After,
}

/// Returns the product's accepted prices in the event's currency on one side of the event's time, nearest first.
fn accepted(
    connection: &Connection,
    tenant: i64,
    row: &PriceRow<'_>,
    rules: &PriceRules,
    side: Side,
) -> Result<Vec<i64>, ShardError> {
    let sql = match side {
        Side::Before => {
            "SELECT price FROM price_row INDEXED BY price_accepted WHERE tenant = ?1 AND product_id = ?2 \
             AND currency = ?3 AND accepted = 1 AND (observed_at_us, event_id) < (?4, ?5) \
             ORDER BY observed_at_us DESC, event_id DESC LIMIT ?6"
        }
        Side::After => {
            "SELECT price FROM price_row INDEXED BY price_accepted WHERE tenant = ?1 AND product_id = ?2 \
             AND currency = ?3 AND accepted = 1 AND (observed_at_us, event_id) > (?4, ?5) \
             ORDER BY observed_at_us, event_id LIMIT ?6"
        }
    };
    let mut statement = connection.prepare_cached(sql)?;
    let values = params![
        tenant,
        row.observed.product_id,
        row.currency.as_str(),
        row.observed.at_us,
        row.observed.event_id,
        // The nearest price is needed even if the window is zero, in which case there is no score.
        rules.window.max(1)
    ];
    let prices = statement.query_map(values, |found| found.get(0))?;
    Ok(prices.collect::<Result<_, _>>()?)
}

fn store_price(
    connection: &Connection,
    tenant: i64,
    row: &PriceRow<'_>,
    is_accepted: bool,
) -> Result<(), ShardError> {
    connection
        .prepare_cached(
            "INSERT INTO price_row (tenant, product_id, observed_at_us, event_id, price, currency, received_us, \
             accepted) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) \
             ON CONFLICT DO UPDATE SET accepted = excluded.accepted",
        )?
        .execute(params![
            tenant,
            row.observed.product_id,
            row.observed.at_us,
            row.observed.event_id,
            row.price,
            row.currency.as_str(),
            row.observed.received_us,
            is_accepted
        ])?;
    Ok(())
}

fn store_anomaly(
    batch: &mut Batch<'_>,
    tenant: i64,
    row: &PriceRow<'_>,
    rules: &PriceRules,
    finding: &Finding,
    reviewed: Option<Review>,
) -> Result<i64, ShardError> {
    let observed = &row.observed;
    let name = AnomalyId::of(batch.keys, observed.tenant_id, observed.product_id, observed.event_id);
    let score = finding.score;
    let anomaly = batch
        .connection
        .prepare_cached(
            "INSERT INTO price_anomaly (anomaly_id, tenant, product_id, event_id, observed_at_us, price, currency, \
             created_us, baseline, change_bp, median, mad, score_milli, compared, change_bp_max, score_milli_max, \
             status, reviewed_us) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, \
             ?17, ?18)",
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
        ])?;
    note(batch, tenant, "anomaly", anomaly, observed.received_us)?;
    if let Some(review) = reviewed {
        note(batch, tenant, "review", anomaly, review.at_us)?;
    }
    Ok(anomaly)
}

/// Assigns the next number to the change. The last change is never deleted, so numbers only increase.
fn note(batch: &mut Batch<'_>, tenant: i64, kind: &str, anomaly: i64, at_us: i64) -> Result<(), ShardError> {
    batch
        .connection
        .prepare_cached("INSERT INTO price_change (tenant, kind, anomaly, at_us) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![tenant, kind, anomaly, at_us])?;
    batch.applied.changes += 1;
    Ok(())
}

/// Stores a decision. A decision that repeats the stored one is a duplicate; a different one is a conflict.
fn review(batch: &mut Batch<'_>, review: &PriceReviewRow<'_>) -> Result<Outcome, ShardError> {
    let tenant = batch.tenants.number(batch.connection, review.tenant_id)?;
    let found = batch
        .connection
        .prepare_cached(
            "SELECT id, status, product_id, observed_at_us, event_id FROM price_anomaly \
             WHERE anomaly_id = ?1 AND tenant = ?2 AND (?3 = '' OR product_id = ?3) ORDER BY id LIMIT 1",
        )?
        .query_row(params![review.anomaly.to_string(), tenant, review.product_id], |row| {
            Ok((
                row.get::<_, i64>(0)?,
                row.get::<_, String>(1)?,
                row.get::<_, String>(2)?,
                row.get::<_, i64>(3)?,
                row.get::<_, String>(4)?,
            ))
        })
        .optional()?;
    let Some((anomaly, status, product_id, observed_at_us, event_id)) = found else {
        return Ok(Outcome::Missing);
    };
    if let Some(before) = Decision::of_status(&status) {
        return Ok(if before == review.decision { Outcome::Duplicate } else { Outcome::Conflict });
    }
    batch
        .connection
        .prepare_cached("UPDATE price_anomaly SET status = ?2, reviewed_us = ?3 WHERE id = ?1")?
        .execute(params![anomaly, review.decision.status(), review.received_us])?;
    if review.decision == Decision::Approve {
        batch
            .connection
            .prepare_cached(
                "UPDATE price_row SET accepted = 1 \
                 WHERE tenant = ?1 AND product_id = ?2 AND observed_at_us = ?3 AND event_id = ?4",
            )?
            .execute(params![tenant, product_id, observed_at_us, event_id])?;
    }
    note(batch, tenant, "review", anomaly, review.received_us)?;
    Ok(Outcome::Inserted)
}
