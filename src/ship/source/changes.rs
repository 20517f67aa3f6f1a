//! The changes of the feed, each with what it names.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _, Row};

use super::names::Names;
use super::orders::status_text;
use super::portion::{Next, Portion, ROW_BYTES};
use crate::orders::ORDERS;
use crate::people::feed;
use crate::shard::{ChangeKind, ShardError, partition};
use crate::ship::rows::{AnomalyRow, Change, ChangeRow, ErasureRow, EventFate, Matcher};

pub(super) const SQL: &str =
    "SELECT seq, kind, tenant, ref, value, at_us FROM change WHERE seq > ?1 AND seq <= ?2 ORDER BY seq";

pub(super) const ANOMALY_SQL: &str = "SELECT anomaly_id, tenant, product_id, event_id, price, currency, observed_at_us, created_us, \
     baseline, change_bp, median, score_milli, compared, status, reviewed_us FROM price_anomaly WHERE id = ?1";

pub(super) fn read(
    snapshot: &Connection,
    portion: &mut Portion,
    names: &mut Names<'_>,
) -> Result<Vec<ChangeRow>, ShardError> {
    let mut found = Vec::new();
    let orders = partition::firsts(snapshot, &ORDERS)?;
    portion.read_table(snapshot, SQL, |portion, row| -> Result<Next, ShardError> {
        let seq = row.get(0)?;
        let kind = row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?;
        let kind = ChangeKind::parse(kind)
            .ok_or_else(|| ShardError::Corrupt(format!("a change has the unknown kind {kind}")))?;
        let named: i64 = row.get(3)?;
        let change = match kind {
            ChangeKind::Status => status(&orders, names, named, row)?,
            ChangeKind::Anomaly => anomaly(snapshot, names, named)?.map(Change::Anomaly),
            ChangeKind::Review => anomaly(snapshot, names, named)?.map(Change::Review),
            ChangeKind::Erasure => Some(erasure(snapshot, named)?),
            ChangeKind::Erased => Some(Change::ErasedEvent { event: named, erasure: row.get(4)? }),
        };
        let Some(change) = change else { return Ok(portion.skip(seq)) };
        let bytes = ROW_BYTES + bytes_of(&change);
        found.push(ChangeRow { seq, at_us: row.get(5)?, change });
        Ok(portion.count(seq, bytes))
    })?;
    Ok(found)
}

/// Returns the memory of a change beyond that of the row.
fn bytes_of(change: &Change) -> usize {
    match change {
        Change::Status { tenant_id, order_id, .. } => tenant_id.len() + order_id.len(),
        Change::Anomaly(_) | Change::Review(_) => 3 * ROW_BYTES,
        Change::Erasure(erasure) => {
            let needles = erasure.needles.iter().chain(&erasure.name_needles);
            needles.map(|needle| 64 + needle.len()).sum::<usize>()
        }
        Change::FinishedErasure { .. } | Change::ErasedEvent { .. } => 0,
    }
}

/// Returns an order's change of status, if the order exists.
fn status(
    orders: &[(i64, String)],
    names: &mut Names<'_>,
    order: i64,
    row: &Row<'_>,
) -> Result<Option<Change>, ShardError> {
    let Some(table) = partition::table_of(orders, order) else { return Ok(None) };
    let Some((tenant_id, order_id)) = names.order(table, order)? else { return Ok(None) };
    let status = status_text(row.get(4)?)?;
    Ok(Some(Change::Status { order, tenant_id: tenant_id.to_string(), order_id, status }))
}

/// Returns an anomaly as it is now, if it exists.
fn anomaly(
    snapshot: &Connection,
    names: &mut Names<'_>,
    id: i64,
) -> Result<Option<Box<AnomalyRow>>, ShardError> {
    let read = |row: &Row<'_>| {
        let anomaly = AnomalyRow {
            anomaly_id: row.get(0)?,
            tenant_id: String::new(),
            product_id: row.get(2)?,
            event_id: row.get(3)?,
            price: row.get(4)?,
            currency: row.get(5)?,
            observed_at_us: row.get(6)?,
            created_us: row.get(7)?,
            baseline: row.get(8)?,
            change_bp: row.get(9)?,
            median: row.get(10)?,
            score_milli: row.get(11)?,
            compared: row.get(12)?,
            status: row.get(13)?,
            reviewed_us: row.get(14)?,
        };
        Ok((row.get::<_, i64>(1)?, anomaly))
    };
    let found = snapshot.prepare_cached(ANOMALY_SQL)?.query_row([id], read).optional()?;
    let Some((tenant, anomaly)) = found else { return Ok(None) };
    Ok(Some(Box::new(AnomalyRow { tenant_id: names.tenant(tenant)?.to_string(), ..anomaly })))
}

/// Returns an erasure with the person, or only its number if the person is not known any more.
fn erasure(snapshot: &Connection, number: i64) -> Result<Change, ShardError> {
    let Some(erasure) = feed::erasure(snapshot, number)? else {
        return Ok(Change::FinishedErasure { number });
    };
    let ids = |ids: Vec<&str>| ids.into_iter().map(str::to_owned).collect();
    let (began_us, tenant_id) = (erasure.began_us, erasure.tenant_id().map(str::to_owned));
    let subject_ids = match erasure.user_id() {
        Some(user_id) => vec![user_id.to_string()],
        None => ids(erasure.customer_ids()),
    };
    let clicks_upto = erasure.clicks_upto;
    let pseudonym = erasure.pseudonym().map(str::to_owned);
    let (needles, name_needles) = (erasure.needles(), erasure.name_needles());
    let matcher = Matcher(Arc::new(move |names, payload| match erasure.event(names, payload) {
        feed::EventFate::Other => EventFate::Other,
        feed::EventFate::Deleted => EventFate::Deleted,
        feed::EventFate::Replaced(payload) => EventFate::Replaced(payload),
    }));
    Ok(Change::Erasure(Box::new(ErasureRow {
        number,
        began_us,
        tenant_id,
        subject_ids,
        clicks_upto,
        pseudonym,
        needles,
        name_needles,
        matcher,
    })))
}
