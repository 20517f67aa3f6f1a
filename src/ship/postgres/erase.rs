//! Erases people: their orders, clicks, the events that refer to them, and the copies of these rows.

use std::collections::BTreeMap;

use tokio_postgres::types::ToSql;

use super::connect::Session;
use super::error::Failure;
use super::jsonb;
use super::places::Origin;
use super::store::Context;
use super::vacuum;
use crate::ship::rows::{Change, ChangeRow, ErasureRow, EventFate, ShipStream};

/// Orders are deleted so many at a time, each with its items.
const ORDERS_PORTION: i64 = 1_000;
/// Events are found so many at a time, and read in portions of so many bytes.
const EVENTS_PORTION: i64 = 1_000;
const BYTES_PORTION: i64 = 4 << 20;
/// Rejected rows are read so many at a time. The largest has a few MiB.
const REJECTED_PORTION: i64 = 16;
/// Row ids are sent so many at a time.
const IDS_PORTION: usize = 10_000;

/// The numbers of rows that an erasure removed or changed.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    orders: u64,
    events: u64,
    clicks: u64,
    others: u64,
}

/// Applies the erasures among successive changes, inside a transaction.
pub(super) async fn apply(context: &Context<'_>, rows: &[ChangeRow]) -> Result<(), Failure> {
    let mut by_id: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    for row in rows {
        if let Change::ErasedEvent { event, erasure } = row.change {
            by_id.entry(erasure).or_default().push(event);
        }
    }
    for (number, events) in by_id {
        let counts = events_by_id(context, &events).await?;
        note(context, number, false, counts).await?;
    }
    for row in rows {
        match &row.change {
            Change::Erasure(erasure) => {
                let counts = person(context, erasure).await?;
                note(context, erasure.number, true, counts).await?;
            }
            Change::FinishedErasure { number } => note(context, *number, false, Counts::default()).await?,
            _ => {}
        }
    }
    vacuum::remember(context.session).await
}

/// Adds to the row of an erasure, which contains when and how much, and never who.
async fn note(context: &Context<'_>, number: i64, was_known: bool, counts: Counts) -> Result<(), Failure> {
    let sql = "INSERT INTO fh.erasures AS t (node, shard, epoch, number, was_known, orders, events, clicks, others) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (node, shard, epoch, number) DO UPDATE SET \
          at = now(), was_known = t.was_known OR EXCLUDED.was_known, orders = t.orders + EXCLUDED.orders, \
          events = t.events + EXCLUDED.events, clicks = t.clicks + EXCLUDED.clicks, \
          others = t.others + EXCLUDED.others";
    let sql = context.session.prepare(sql).await?;
    let Origin { node, shard, epoch } = &context.origin;
    let [orders, events, clicks, others] =
        [counts.orders, counts.events, counts.clicks, counts.others].map(|count| count as i64);
    let values: [&(dyn ToSql + Sync); 9] =
        [node, shard, epoch, &number, &was_known, &orders, &events, &clicks, &others];
    context.session.client.execute(&sql, &values).await?;
    Ok(())
}

/// Returns the epoch in which a row of this file came, or `None` if it came in none that the target knows: rows of a
/// file that was made from other shards have other ids here.
fn epoch_of(context: &Context<'_>, stream: ShipStream, id: i64) -> Option<i32> {
    let began = context.epochs.values().filter(|epoch| epoch.origin.epoch <= context.origin.epoch);
    let holds = began.filter(|epoch| epoch.began.get(&stream).copied().unwrap_or_default() < id);
    holds.map(|epoch| epoch.origin.epoch).max()
}

/// Deletes events by their row ids in the shard.
async fn events_by_id(context: &Context<'_>, events: &[i64]) -> Result<Counts, Failure> {
    let (session, Origin { node, shard, .. }) = (context.session, &context.origin);
    let stream = ShipStream::Events.as_str();
    let mut by_epoch: BTreeMap<i32, Vec<i64>> = BTreeMap::new();
    for event in events {
        if let Some(epoch) = epoch_of(context, ShipStream::Events, *event) {
            by_epoch.entry(epoch).or_default().push(*event);
        }
    }
    let mut counts = Counts::default();
    let delete = session
        .prepare(
            "DELETE FROM fh.events WHERE node = $1 AND shard = $2 AND epoch = $3 AND id = ANY ($4) \
             AND id BETWEEN $5 AND $6 RETURNING tenant_id, event_id",
        )
        .await?;
    // The same event came from another node first.
    let elsewhere = session
        .prepare(
            "DELETE FROM fh.twice WHERE node = $1 AND shard = $2 AND epoch = $3 AND stream = $4 \
             AND id = ANY ($5) RETURNING tenant_id, key, differs",
        )
        .await?;
    let rejected = session
        .prepare(
            "DELETE FROM fh.rejected WHERE node = $1 AND shard = $2 AND epoch = $3 AND stream = $4 \
             AND id = ANY ($5)",
        )
        .await?;
    for (epoch, mut ids) in by_epoch {
        ids.sort_unstable();
        for ids in ids.chunks(IDS_PORTION) {
            let (Some(first), Some(last)) = (ids.first(), ids.last()) else { continue };
            let values: [&(dyn ToSql + Sync); 6] = [node, shard, &epoch, &ids, first, last];
            let mut keys: BTreeMap<String, Vec<String>> = BTreeMap::new();
            for row in session.client.query(&delete, &values).await? {
                counts.events += 1;
                keys.entry(row.get(0)).or_default().push(row.get(1));
            }
            let values: [&(dyn ToSql + Sync); 5] = [node, shard, &epoch, &stream, &ids];
            let mut equal: BTreeMap<String, Vec<String>> = BTreeMap::new();
            for row in session.client.query(&elsewhere, &values).await? {
                counts.others += 1;
                if !row.get::<_, bool>(2) {
                    equal.entry(row.get(0)).or_default().push(row.get(1));
                }
            }
            counts.others += session.client.execute(&rejected, &values).await?;
            for (tenant, keys) in keys {
                counts.others += forget_twice(session, &tenant, "events", &keys).await?;
            }
            for (tenant, keys) in equal {
                counts.events += delete_events(session, &tenant, &keys).await?;
                counts.others += forget_twice(session, &tenant, "events", &keys).await?;
            }
        }
    }
    Ok(counts)
}

async fn delete_events(session: &Session, tenant: &str, ids: &[String]) -> Result<u64, Failure> {
    let sql = "DELETE FROM fh.events WHERE tenant_id = $1 AND event_id = ANY ($2)";
    let sql = session.prepare(sql).await?;
    Ok(session.client.execute(&sql, &[&tenant, &ids]).await?)
}

/// Deletes what `fh.twice` notes about these keys.
async fn forget_twice(session: &Session, tenant: &str, table: &str, keys: &[String]) -> Result<u64, Failure> {
    let sql = "DELETE FROM fh.twice WHERE tenant_id = $1 AND table_name = $2 AND key = ANY ($3)";
    let sql = session.prepare(sql).await?;
    Ok(session.client.execute(&sql, &[&tenant, &table, &keys]).await?)
}

/// Erases a customer, or a user of the collector.
async fn person(context: &Context<'_>, erasure: &ErasureRow) -> Result<Counts, Failure> {
    let (session, Origin { node, shard, epoch }) = (context.session, &context.origin);
    let mut counts = Counts::default();
    match &erasure.tenant_id {
        Some(tenant) => {
            match &erasure.pseudonym {
                None => delete_orders(session, tenant, erasure, &mut counts).await?,
                Some(pseudonym) => {
                    let sql = "UPDATE fh.orders SET customer_id = $3, customer_name = '', customer_email = '' \
                               WHERE tenant_id = $1 AND customer_id = ANY ($2)";
                    let sql = session.prepare(sql).await?;
                    let values: [&(dyn ToSql + Sync); 3] = [tenant, &erasure.subject_ids, pseudonym];
                    counts.orders += session.client.execute(&sql, &values).await?;
                }
            }
            change_events(session, tenant, erasure, &mut counts).await?;
            forget_named(session, tenant, erasure, &mut counts).await?;
        }
        None => {
            let users: Vec<i64> = erasure.subject_ids.iter().filter_map(|id| id.parse().ok()).collect();
            // Clicks that arrived before the erasure may have come by shards that were redistributed since.
            let sql = "DELETE FROM fh.clicks WHERE user_id = ANY ($1) AND \
                 (received_at <= 'epoch'::timestamptz + $2 * interval '1 microsecond' OR (node = $3 AND shard = $4 \
                 AND (epoch < $5 OR (epoch = $5 AND id <= coalesce($6, 9223372036854775807)))))";
            let sql = session.prepare(sql).await?;
            let values: [&(dyn ToSql + Sync); 6] =
                [&users, &(erasure.began_us as f64), node, shard, epoch, &erasure.clicks_upto];
            counts.clicks += session.client.execute(&sql, &values).await?;
        }
    }
    forget_rejected(session, erasure, &mut counts).await?;
    Ok(counts)
}

async fn delete_orders(
    session: &Session,
    tenant: &str,
    erasure: &ErasureRow,
    counts: &mut Counts,
) -> Result<(), Failure> {
    let find = "SELECT order_id FROM fh.orders WHERE tenant_id = $1 AND customer_id = ANY ($2) LIMIT $3";
    let find = session.prepare(find).await?;
    loop {
        let values: [&(dyn ToSql + Sync); 3] = [&tenant, &erasure.subject_ids, &ORDERS_PORTION];
        let found = session.client.query(&find, &values).await?;
        let orders: Vec<String> = found.iter().map(|row| row.get(0)).collect();
        if orders.is_empty() {
            return Ok(());
        }
        for table in ["order_items", "order_status", "orders"] {
            let sql = format!("DELETE FROM fh.{table} WHERE tenant_id = $1 AND order_id = ANY ($2)");
            let sql = session.prepare(&sql).await?;
            let deleted = session.client.execute(&sql, &[&tenant, &orders]).await?;
            match table {
                "orders" => counts.orders += deleted,
                _ => counts.others += deleted,
            }
        }
        counts.others += forget_twice(session, tenant, "orders", &orders).await?;
    }
}

/// Returns patterns for LIKE that find these texts anywhere, in lower case.
fn patterns(needles: &[String]) -> Vec<String> {
    let escaped = |needle: &String| {
        let mut pattern = String::from("%");
        for character in needle.chars() {
            if matches!(character, '%' | '_' | '\\') {
                pattern.push('\\');
            }
            pattern.push(character.to_ascii_lowercase());
        }
        pattern.push('%');
        pattern
    };
    needles.iter().map(escaped).collect()
}

/// Deletes or changes the tenant's events that refer to the person. Candidates are found by text, and each is judged as
/// the shard judges it.
async fn change_events(
    session: &Session,
    tenant: &str,
    erasure: &ErasureRow,
    counts: &mut Counts,
) -> Result<(), Failure> {
    let (texts, names) = (patterns(&erasure.needles), patterns(&erasure.name_needles));
    if texts.is_empty() && names.is_empty() {
        return Ok(());
    }
    // The collation C folds the case of ASCII letters only. A text that is no jsonb may hide anything in escapes.
    let find = "SELECT event_id, coalesce(octet_length(payload_raw), octet_length(payload::text))::bigint \
        FROM fh.events WHERE tenant_id = $1 AND event_id > $2 AND (payload_raw IS NOT NULL \
          OR lower(payload::text COLLATE \"C\") LIKE ANY ($3) OR lower(event_id COLLATE \"C\") LIKE ANY ($4) \
          OR lower(source COLLATE \"C\") LIKE ANY ($4) OR lower(event_type COLLATE \"C\") LIKE ANY ($4)) \
        ORDER BY event_id LIMIT $5";
    let find = session.prepare(find).await?;
    let mut after = String::new();
    loop {
        let values: [&(dyn ToSql + Sync); 5] = [&tenant, &after, &texts, &names, &EVENTS_PORTION];
        let found = session.client.query(&find, &values).await?;
        let (mut ids, mut bytes) = (Vec::new(), 0);
        for row in &found {
            ids.push(row.get::<_, String>(0));
            bytes += row.get::<_, i64>(1);
            if bytes >= BYTES_PORTION {
                judge_events(session, tenant, erasure, &ids, counts).await?;
                (ids, bytes) = (Vec::new(), 0);
            }
        }
        judge_events(session, tenant, erasure, &ids, counts).await?;
        match found.last() {
            Some(last) if found.len() as i64 == EVENTS_PORTION => after = last.get(0),
            _ => return Ok(()),
        }
    }
}

async fn judge_events(
    session: &Session,
    tenant: &str,
    erasure: &ErasureRow,
    ids: &[String],
    counts: &mut Counts,
) -> Result<(), Failure> {
    if ids.is_empty() {
        return Ok(());
    }
    let read = "SELECT event_id, source, event_type, coalesce(payload_raw, payload::text) FROM fh.events \
                WHERE tenant_id = $1 AND event_id = ANY ($2)";
    let read = session.prepare(read).await?;
    let (mut deleted, mut replaced) = (Vec::new(), Vec::new());
    for row in session.client.query(&read, &[&tenant, &ids]).await? {
        let names = [row.get::<_, &str>(0), row.get(1), row.get(2)];
        match (erasure.matcher.0)(names, row.get(3)) {
            EventFate::Other => {}
            EventFate::Deleted => deleted.push(row.get::<_, String>(0)),
            EventFate::Replaced(payload) => replaced.push((row.get::<_, String>(0), payload)),
        }
    }
    if !deleted.is_empty() {
        counts.events += delete_events(session, tenant, &deleted).await?;
        counts.others += forget_twice(session, tenant, "events", &deleted).await?;
    }
    let update = "UPDATE fh.events SET payload = $3::text::jsonb, payload_raw = $4 \
                  WHERE tenant_id = $1 AND event_id = $2";
    let update = session.prepare(update).await?;
    for (id, payload) in replaced {
        let (json, raw) = if jsonb::holds(&payload) { (Some(payload), None) } else { (None, Some(payload)) };
        counts.events += session.client.execute(&update, &[&tenant, &id, &json, &raw]).await?;
    }
    Ok(())
}

/// Deletes from `fh.twice` the keys of events that name the person.
async fn forget_named(
    session: &Session,
    tenant: &str,
    erasure: &ErasureRow,
    counts: &mut Counts,
) -> Result<(), Failure> {
    let find = "SELECT DISTINCT key FROM fh.twice WHERE tenant_id = $1 AND table_name = 'events' AND key > $2 \
                AND lower(key COLLATE \"C\") LIKE ANY ($3) ORDER BY key LIMIT $4";
    let find = session.prepare(find).await?;
    let names = patterns(&erasure.name_needles);
    let mut after = String::new();
    loop {
        let values: [&(dyn ToSql + Sync); 4] = [&tenant, &after, &names, &EVENTS_PORTION];
        let found = session.client.query(&find, &values).await?;
        let refers = |key: &String| (erasure.matcher.0)([key, "", ""], "{}") != EventFate::Other;
        let keys: Vec<String> = found.iter().map(|row| row.get(0)).filter(refers).collect();
        counts.others += forget_twice(session, tenant, "events", &keys).await?;
        match found.last() {
            Some(last) if found.len() as i64 == EVENTS_PORTION => after = last.get(0),
            _ => return Ok(()),
        }
    }
}

/// Deletes the rejected rows of the person.
async fn forget_rejected(
    session: &Session,
    erasure: &ErasureRow,
    counts: &mut Counts,
) -> Result<(), Failure> {
    let read = "SELECT ctid::text, stream, content FROM fh.rejected WHERE ctid > $1::text::tid \
                ORDER BY ctid LIMIT $2";
    let read = session.prepare(read).await?;
    let delete = session.prepare("DELETE FROM fh.rejected WHERE ctid = $1::text::tid").await?;
    let mut after = "(0,0)".to_owned();
    loop {
        let found = session.client.query(&read, &[&after, &REJECTED_PORTION]).await?;
        for row in &found {
            let stream = ShipStream::parse(row.get(1));
            if refers(erasure, stream, row.get(2)) {
                counts.others += session.client.execute(&delete, &[&row.get::<_, &str>(0)]).await?;
            }
        }
        match found.last() {
            Some(last) if found.len() as i64 == REJECTED_PORTION => after = last.get(0),
            _ => return Ok(()),
        }
    }
}

/// Returns `true` if a rejected row is one of the person's, or may be.
fn refers(erasure: &ErasureRow, stream: Option<ShipStream>, content: &[u8]) -> bool {
    let Ok(row) = serde_json::from_slice::<serde_json::Value>(content) else { return true };
    let text = |name: &str| row[name].as_str().unwrap_or_default();
    let is_tenant = erasure.tenant_id.as_deref() == row["tenant_id"].as_str();
    match stream {
        Some(ShipStream::Clicks) => {
            erasure.tenant_id.is_none() && erasure.subject_ids.contains(&row["user_id"].to_string())
        }
        Some(ShipStream::Events) => {
            let names = [text("event_id"), text("source"), text("event_type")];
            is_tenant && (erasure.matcher.0)(names, text("payload")) != EventFate::Other
        }
        Some(ShipStream::Orders) => {
            is_tenant && erasure.subject_ids.iter().any(|id| id == text("customer_id"))
        }
        _ => false,
    }
}
