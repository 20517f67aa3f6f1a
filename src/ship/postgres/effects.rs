//! Applies the changes of the feed: statuses, anomalies and reviews, erasures.

use std::collections::BTreeMap;

use futures_util::future::try_join_all;
use tokio_postgres::types::ToSql;

use super::connect::LONG_LIMITS;
use super::copy::{CopyBuffer, copy};
use super::derive::{self, Price, time};
use super::encode::{self, StatusChange};
use super::erase;
use super::error::Failure;
use super::store::{Context, Stored};
use super::tables::ORDER_STATUS;
use crate::ship::rows::{AnomalyRow, Change, ChangeRow, Rows};

/// The number of statements that are sent before the response to the first is awaited.
const PIPELINE: usize = 256;

/// Returns `true` if a change erases, which may take long.
pub(super) fn erases(row: &ChangeRow) -> bool {
    matches!(row.change, Change::Erasure(_) | Change::FinishedErasure { .. } | Change::ErasedEvent { .. })
}

/// Returns `true` if rows are changes of which one erases.
pub(super) fn is_any_erasing(rows: &Rows) -> bool {
    matches!(rows, Rows::Changes(rows) if rows.iter().any(erases))
}

/// Applies successive changes, inside a transaction.
pub(super) async fn apply(context: &Context<'_>, rows: &[ChangeRow]) -> Result<Stored, Failure> {
    let (mut statuses, mut anomalies) = (Vec::new(), BTreeMap::new());
    for row in rows {
        match &row.change {
            Change::Status { tenant_id, order_id, status, .. } => {
                statuses.push(StatusChange { seq: row.seq, at_us: row.at_us, tenant_id, order_id, status })
            }
            Change::Anomaly(anomaly) | Change::Review(anomaly) => {
                let key = (anomaly.tenant_id.as_str(), anomaly.anomaly_id.as_str());
                anomalies.insert(key, (row.seq, anomaly.as_ref()));
            }
            _ => {}
        }
    }
    if !statuses.is_empty() {
        set_statuses(context, &statuses).await?;
    }
    if !anomalies.is_empty() {
        let anomalies: Vec<(i64, &AnomalyRow)> = anomalies.into_values().collect();
        set_anomalies(context, &anomalies).await?;
    }
    let has_erased = rows.iter().any(erases);
    if has_erased {
        context.session.client.batch_execute(LONG_LIMITS).await?;
        erase::apply(context, rows).await?;
    }
    Ok(Stored { rows: rows.len() as u64, twice: 0, has_erased })
}

/// Adds changes to the history, and sets the statuses of orders that know an earlier change. The other orders come
/// later, with a status that is at least as new.
async fn set_statuses(context: &Context<'_>, changes: &[StatusChange<'_>]) -> Result<(), Failure> {
    let (session, origin) = (context.session, &context.origin);
    let encode = |buffer: &mut CopyBuffer, row| encode::status(buffer, origin, row);
    copy(session, &ORDER_STATUS, "fh.order_status", changes, encode).await?;
    // The last change of each order, in the order of their keys: two shippers never wait for each other in a circle.
    let newest: BTreeMap<(&str, &str), &StatusChange<'_>> =
        changes.iter().map(|change| ((change.tenant_id, change.order_id), change)).collect();
    let newest: Vec<&StatusChange<'_>> = newest.into_values().collect();
    let sql = "UPDATE fh.orders SET status = $3, status_epoch = $4, status_seq = $5 \
               WHERE tenant_id = $1 AND order_id = $2 AND (status_epoch < $4 OR status_epoch = $4 AND status_seq < $5)";
    let sql = session.prepare(sql).await?;
    for part in newest.chunks(PIPELINE) {
        let updates = part.iter().map(|change| {
            let sql = &sql;
            async move {
                let StatusChange { tenant_id, order_id, status, seq, .. } = change;
                let values: [&(dyn ToSql + Sync); 5] = [tenant_id, order_id, status, &origin.epoch, seq];
                session.client.execute(sql, &values).await
            }
        });
        try_join_all(updates).await?;
    }
    Ok(())
}

/// Stores anomalies as they are now. An approved price counts as accepted.
async fn set_anomalies(context: &Context<'_>, anomalies: &[(i64, &AnomalyRow)]) -> Result<(), Failure> {
    let (session, origin) = (context.session, &context.origin);
    let sql = "INSERT INTO fh.price_anomalies AS t (tenant_id, anomaly_id, product_id, event_id, price, currency, \
          observed_at, created_at, baseline, change_bp, median, score_milli, compared, status, reviewed_at, \
          node, shard, epoch, id) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19) \
        ON CONFLICT (tenant_id, anomaly_id) DO UPDATE SET status = EXCLUDED.status, \
          reviewed_at = EXCLUDED.reviewed_at, node = EXCLUDED.node, shard = EXCLUDED.shard, \
          epoch = EXCLUDED.epoch, id = EXCLUDED.id \
        WHERE t.epoch < EXCLUDED.epoch OR t.epoch = EXCLUDED.epoch AND t.id < EXCLUDED.id";
    let upsert = session.prepare(sql).await?;
    let sql = "UPDATE fh.price_history SET is_accepted = true WHERE tenant_id = $1 AND product_id = $2 \
               AND currency = $3 AND observed_at = $4 AND event_id = $5 AND NOT is_accepted";
    let accept = session.prepare(sql).await?;
    for (seq, row) in anomalies {
        let (observed, created) = (time(row.observed_at_us), time(row.created_us));
        let reviewed = row.reviewed_us.map(time);
        let values: [&(dyn ToSql + Sync); 19] = [
            &row.tenant_id,
            &row.anomaly_id,
            &row.product_id,
            &row.event_id,
            &row.price,
            &row.currency,
            &observed,
            &created,
            &row.baseline,
            &row.change_bp,
            &row.median,
            &row.score_milli,
            &row.compared,
            &row.status,
            &reviewed,
            &origin.node,
            &origin.shard,
            &origin.epoch,
            seq,
        ];
        session.client.execute(&upsert, &values).await?;
        if row.status == "approved" {
            let values: [&(dyn ToSql + Sync); 5] =
                [&row.tenant_id, &row.product_id, &row.currency, &observed, &row.event_id];
            session.client.execute(&accept, &values).await?;
        }
    }
    let approved = anomalies.iter().filter(|(_, row)| row.status == "approved");
    derive::prices(session, approved.map(|(_, row)| Price::of_anomaly(row))).await
}
