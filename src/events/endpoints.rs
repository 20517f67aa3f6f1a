//! `POST /events` and `/events/bulk`: decode, route by key, journal, wait for the commit, and report every row's
//! outcome. `GET /events`, `/metrics?tenant_id=…`, summaries and numbers of distinct values.

use std::sync::Arc;

use super::answer::{self, Bulk, Started};
use super::body::ServiceEvent;
use super::record::{SERVICE_EVENT, ServiceEventRow, decode_service_event};
use super::{bucket_query, query, summary};
use crate::api;
use crate::api::error::{EventRefused, RowErrors, RowRefusal};
use crate::base::clock;
use crate::base::ids::ShardId;
use crate::config::AckLevel;
use crate::event::DecodeError;
use crate::http::Answer;
use crate::ingest::{self, KeyedRows};
use crate::lane::{
    Begun, Body, Call, Lane, NotRead, Refused, Reply, RequestHead, Settled, check_tenant, keyed, rows,
};
use crate::query::QueryError;
use crate::tenants::Scope;

/// One request's rows, by their shard.
struct Sorted {
    shards: Vec<KeyedRows>,
    received_us: i64,
}

impl Sorted {
    fn new(shard_count: u16) -> Sorted {
        let shards = (0..shard_count).map(|_| KeyedRows::of(SERVICE_EVENT)).collect();
        Sorted { shards, received_us: clock::unix_us() }
    }

    fn push(&mut self, lane: &Lane, index: usize, event: &ServiceEvent<'_>) -> ShardId {
        let shard = lane.keys.hash(&event.tenant_id, &event.event_id).shard(lane.shard_count);
        let row = ServiceEventRow {
            timestamp_us: event.timestamp_us,
            received_us: self.received_us,
            tenant_id: &event.tenant_id,
            event_id: &event.event_id,
            source: &event.source,
            event_type: &event.event_type,
            payload: event.payload,
        };
        self.shards[usize::from(shard.0)].push_record(index, |bytes| row.encode(bytes));
        shard
    }
}

/// Handles one event. Responds with 201, with 200 for a duplicate, or with 202 if the commit takes too long.
pub async fn post_one(call: Call<'_>, body: Body<'_>) -> Result<Answer, EventRefused> {
    let Call { lane, request, principal, .. } = call;
    let wants_disk = api::request::wants_disk(call.query(), lane.vitals.config.ack)?;
    let (event_id, begun) = {
        let mut inflated = Vec::new();
        let bytes = call.decoded(&body, &mut inflated)?;
        let mut decoder = lane.decoder.borrow_mut();
        let event = decoder.service_event(bytes).map_err(ingest::Refused::Decode)?;
        request.rows.set(Some(1));
        check_tenant(lane, &principal, &event.tenant_id, Scope::Write)?;
        let mut sorted = Sorted::new(lane.shard_count);
        let shard = sorted.push(lane, 0, &event);
        let rows = std::mem::replace(&mut sorted.shards[usize::from(shard.0)], KeyedRows::of(SERVICE_EVENT));
        (
            event.event_id.into_owned(),
            keyed::begin(lane, shard, &Arc::new(rows), wants_disk, lane.keyed.commit_wait)?,
        )
    };
    drop(body);
    let Settled { first, outcomes, synced, .. } = keyed::settle(lane, begun, wants_disk).await?;
    if !synced {
        return Err(EventRefused::UnsyncedKeyed);
    }
    let outcome = outcomes.first().copied().flatten();
    lane.record_acked(request);
    Ok(answer::one(outcome, &event_id, AckLevel::of(wants_disk), first))
}

/// Handles many events. Each row is handled separately, and invalid rows do not affect valid ones.
pub async fn post_bulk(call: Call<'_>, body: Body<'_>) -> Result<Answer, EventRefused> {
    let Call { lane, request, principal, .. } = call;
    let wants_disk = api::request::wants_disk(call.query(), lane.vitals.config.ack)?;
    let mut sorted = Sorted::new(lane.shard_count);
    let mut invalid: Vec<RowErrors> = Vec::new();
    let mut held = lane.memory.hold();
    {
        let mut inflated = Vec::new();
        let bytes = call.decoded(&body, &mut inflated)?;
        // Nothing is awaited between here and the charge below, which counts the rows instead of the body.
        let mut row =
            |index: usize, line: Option<usize>, event: Result<ServiceEvent<'_>, DecodeError>| match event {
                Ok(event) if check_tenant(lane, &principal, &event.tenant_id, Scope::Write).is_err() => {
                    invalid.push(RowErrors { index, line, error: answer::wrong_tenant() });
                }
                Ok(event) => {
                    sorted.push(lane, index, &event);
                }
                Err(error) => invalid.push(RowErrors { index, line, error }),
            };
        lane.decoder.borrow_mut().bulk(bytes, is_ndjson(request), &mut row).map_err(EventRefused::Bulk)?;
    }
    drop(body);
    lane.charge(&mut held, sorted.shards.iter().map(KeyedRows::memory_bytes).sum())?;
    let valid: usize = sorted.shards.iter().map(KeyedRows::len).sum();
    request.rows.set(Some((valid + invalid.len()) as u64));
    // Everything is staged or forwarded before any wait, so the shards commit concurrently.
    let patience = lane.keyed.commit_wait;
    let shards = std::mem::take(&mut sorted.shards);
    let filled = shards.into_iter().enumerate().filter(|(_, rows)| !rows.is_empty());
    let begun: Vec<(Arc<KeyedRows>, Result<Begun, Refused>)> = filled
        .map(|(shard, rows)| {
            let rows = Arc::new(rows);
            let begun = keyed::begin(lane, ShardId(shard as u16), &rows, wants_disk, patience);
            (rows, begun)
        })
        .collect();
    let mut settled = Vec::with_capacity(begun.len());
    for (rows, begun) in begun {
        let outcome = match begun {
            Ok(begun) => keyed::settle(lane, begun, wants_disk).await,
            Err(refused) => Err(refused),
        };
        settled.push((rows, outcome));
    }
    if settled.iter().any(|(_, outcome)| matches!(outcome, Ok(settled) if !settled.synced)) {
        return Err(EventRefused::UnsyncedKeyed);
    }
    // No row was accepted. The request is refused as a whole, and the server's reasons take precedence over errors in
    // the request.
    if !settled.iter().any(|(_, outcome)| outcome.is_ok()) {
        return match settled.into_iter().find_map(|(_, outcome)| outcome.err()) {
            Some(refused) => Err(refused.into()),
            None => Err(EventRefused::Rows(invalid)),
        };
    }
    let mut bulk = Bulk::default();
    invalid.iter().for_each(|row| bulk.invalid(row));
    for (rows, outcome) in &settled {
        match outcome {
            Ok(settled) => {
                let outcomes = settled.outcomes.iter().copied();
                names(rows).zip(outcomes).for_each(|((index, id), outcome)| bulk.settled(index, id, outcome));
            }
            Err(refused) => {
                let refusal = RowRefusal::from(*refused);
                names(rows).for_each(|(index, id)| bulk.refused(index, id, refusal));
            }
        }
    }
    lane.record_acked(request);
    Ok(bulk.answer(AckLevel::of(wants_disk)))
}

fn is_ndjson(request: &RequestHead) -> bool {
    let content_type = request.headers.get("content-type").map_or(&b""[..], |value| value.as_bytes());
    let essence = content_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    ["application/x-ndjson", "application/ndjson", "application/jsonl"]
        .iter()
        .any(|known| essence.eq_ignore_ascii_case(known.as_bytes()))
}

/// Returns every row's index in the request and event id, in the order they were added.
fn names(rows: &KeyedRows) -> impl Iterator<Item = (usize, &str)> {
    rows.rows().map(|(index, payload)| (index, decode_service_event(payload).map_or("", |row| row.event_id)))
}

/// Handles `GET /events` for the tenant that the query names.
pub async fn get_page(call: Call<'_>, _: Body<'_>) -> Result<Reply, NotRead> {
    let (plan, tenant_id) = query::rows_plan(call.query()).map_err(QueryError::Parameters)?;
    check_tenant(call.lane, &call.principal, &tenant_id, Scope::Read)?;
    call.readers_for(&tenant_id);
    Ok(rows(&call, plan).await?)
}

/// Handles `GET /metrics?tenant_id=…`, which returns counts over time.
pub async fn get_buckets(call: Call<'_>, _: Body<'_>) -> Result<Answer, NotRead> {
    let plan = query::BucketsPlan::new(call.query()).map_err(QueryError::Parameters)?;
    check_tenant(call.lane, &call.principal, &plan.of.tenant_id, Scope::Read)?;
    let buckets = bucket_query::buckets(call.readers_for(&plan.of.tenant_id), &plan).await?;
    Ok(answer::buckets(&plan, &buckets))
}

/// Handles `GET …/events/summary`, which returns counts by group.
pub async fn get_summary(call: Call<'_>, _: Body<'_>) -> Result<Answer, QueryError> {
    let started = Started::now();
    let plan = query::SummaryPlan::new(call.tenant(), call.query()).map_err(QueryError::Parameters)?;
    let summary = summary::summary(call.readers(), &plan).await?;
    Ok(answer::summary(&plan, summary, started))
}

/// Handles `GET …/events/unique`, which returns the number of distinct values.
pub async fn get_unique(call: Call<'_>, _: Body<'_>) -> Result<Answer, QueryError> {
    let started = Started::now();
    let plan = query::UniquePlan::new(call.tenant(), call.query()).map_err(QueryError::Parameters)?;
    let unique = summary::unique(call.readers(), call.lane.keys, &plan).await?;
    Ok(answer::unique(&plan, &unique, started))
}
