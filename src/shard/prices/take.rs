//! Price events and decisions of one batch become rows: dedupe, compare, store, number what changed.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::super::error::ShardError;
use super::super::orders::{Beside, PriceRow};
use super::super::service_event::Outcome;
use super::detect::{Finding, judge};
use super::record::{
    AnomalyId, Decision, Judged, PriceEventRow, PriceReviewRow, Review, decode_price_event,
    decode_price_review,
};
use crate::base::kinds::Kind;
use crate::base::prices::PriceRules;

/// Stores a record of this kind; `None` where it is none. In the caller's transaction.
pub(in crate::shard) fn take(
    beside: &mut Beside<'_>,
    kind: Kind,
    payload: &[u8],
) -> Result<Option<Outcome>, ShardError> {
    match kind {
        Kind::PriceEvent => decode_price_event(payload).map(|row| event(beside, &row)).transpose(),
        Kind::PriceReview => decode_price_review(payload).map(|row| review(beside, &row)).transpose(),
        _ => Ok(None),
    }
}

/// Conflict: the tenant has another price event of this product with this id.
fn event(beside: &mut Beside<'_>, event: &PriceEventRow<'_>) -> Result<Outcome, ShardError> {
    let row = &event.row;
    let tenant = beside.names.tenant(beside.connection, row.observed.tenant_id)?;
    if let Some(known) = stored(beside.connection, tenant, row)? {
        return Ok(known);
    }
    let (finding, reviewed) = match event.judged {
        Some(Judged { anomaly }) => {
            (anomaly.map(|(finding, _)| finding), anomaly.and_then(|(_, review)| review))
        }
        None => match in_history(beside.connection, tenant, row)? {
            Some(false) => return Ok(Outcome::Conflict),
            // Loaded as history, where every price is an accepted one.
            Some(true) => (None, None),
            None => {
                let before = accepted(beside.connection, tenant, row, &event.rules, Side::Before)?;
                let after = accepted(beside.connection, tenant, row, &event.rules, Side::After)?;
                (judge(row.price, &event.rules, &before, &after), None)
            }
        },
    };
    let is_accepted =
        finding.is_none() || reviewed.is_some_and(|review| review.decision == Decision::Approve);
    store_price(beside.connection, tenant, row, is_accepted)?;
    let anomaly = match &finding {
        None => None,
        Some(finding) => Some(store_anomaly(beside, tenant, row, &event.rules, finding, reviewed)?),
    };
    beside
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

/// What a stored event with this id says; `None` where there is none.
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

/// Whether history has this observation, and then whether it says the same.
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

/// Accepted prices of the product in the event's currency on one side of its time, the nearest first.
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
        // The neighbour, also where no score is wanted.
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
    beside: &mut Beside<'_>,
    tenant: i64,
    row: &PriceRow<'_>,
    rules: &PriceRules,
    finding: &Finding,
    reviewed: Option<Review>,
) -> Result<i64, ShardError> {
    let observed = &row.observed;
    let name = AnomalyId::of(beside.keys, observed.tenant_id, observed.product_id, observed.event_id);
    let score = finding.score;
    let anomaly = beside
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
    note(beside, tenant, "anomaly", anomaly, observed.received_us)?;
    if let Some(review) = reviewed {
        note(beside, tenant, "review", anomaly, review.at_us)?;
    }
    Ok(anomaly)
}

/// Gives the change the next number: the table keeps every one, so the highest is the last.
fn note(
    beside: &mut Beside<'_>,
    tenant: i64,
    kind: &str,
    anomaly: i64,
    at_us: i64,
) -> Result<(), ShardError> {
    beside
        .connection
        .prepare_cached("INSERT INTO price_change (tenant, kind, anomaly, at_us) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![tenant, kind, anomaly, at_us])?;
    *beside.price_changes += 1;
    Ok(())
}

/// Duplicate: the same was decided before. Conflict: something else was.
fn review(beside: &mut Beside<'_>, review: &PriceReviewRow<'_>) -> Result<Outcome, ShardError> {
    let tenant = beside.names.tenant(beside.connection, review.tenant_id)?;
    let found = beside
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
    beside
        .connection
        .prepare_cached("UPDATE price_anomaly SET status = ?2, reviewed_us = ?3 WHERE id = ?1")?
        .execute(params![anomaly, review.decision.status(), review.received_us])?;
    if review.decision == Decision::Approve {
        beside
            .connection
            .prepare_cached(
                "UPDATE price_row SET accepted = 1 \
                 WHERE tenant = ?1 AND product_id = ?2 AND observed_at_us = ?3 AND event_id = ?4",
            )?
            .execute(params![tenant, product_id, observed_at_us, event_id])?;
    }
    note(beside, tenant, "review", anomaly, review.received_us)?;
    Ok(Outcome::Inserted)
}
