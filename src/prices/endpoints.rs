//! Price events, anomalies and decisions on them. Each write goes through the journal of the core that feeds its
//! product's shard. Each response reports what the shard has committed.

pub mod changes;
mod keys;

use std::sync::Arc;

use self::keys::PriceEventId;
use super::answer::{self, PriceRefused};
use super::body::{AnomaliesPlan, PriceEvent, last_event_id, read_decision};
use super::history::PriceRow;
use super::query::{self, EventName};
use super::read::FirstAnswer;
use super::record::{AnomalyId, PRICE_EVENT, PRICE_REVIEW, PriceEventRow, PriceReviewRow};
use crate::api;
use crate::api::error::EventRefused;
use crate::base::clock;
use crate::base::observed::Observed;
use crate::config::AckLevel;
use crate::http::{Answer, Media};
use crate::ingest::KeyedRows;
use crate::lane::{AnswerBody, Body, Call, NotRead, Reply, RequestHead, Settled, keyed, now};
use crate::query::{ParameterError, QueryError};
use crate::shard::Outcome;
use crate::tenants::{self, Signed};

/// Handles `POST …/products/{product}/price-event`: returns 201, or 200 for a repeated event, or 202 if the commit
/// takes too long.
pub async fn post_event(call: Call<'_>, body: Body<'_>) -> Result<Answer, PriceRefused> {
    let Call { lane, request, .. } = call;
    let (tenant_id, product_id) = (call.tenant(), request.parameter("product"));
    let now = now();
    let (limits, secrets) = {
        let mut desk = lane.desk.borrow_mut();
        (desk.prices_of(tenant_id), desk.secrets_of(tenant_id))
    };
    // The signature is checked before any response about the body.
    let is_signed = !secrets.is_empty();
    if is_signed {
        // A repeated header is treated as absent.
        let header = |name| api::request::header(&request.headers, name).ok().flatten();
        let signed = Signed {
            id: header("webhook-id"),
            timestamp: header("webhook-timestamp"),
            signature: header("webhook-signature"),
            body: &body.bytes,
        };
        tenants::verify(&secrets, &signed, now.unix_us)?;
    }
    let config = &lane.vitals.config;
    let product = lane.keys.hash(tenant_id, &product_id);
    // These are the lower halves of the hashes. The upper half selects the shard, so it is not evenly distributed
    // within a shard.
    let names = [lane.keys.hash_all([tenant_id]).0 as u64, product.0 as u64];
    let rates = [
        limits.events_per_s.unwrap_or(config.price_events_per_second),
        limits.product_events_per_s.unwrap_or(config.product_events_per_second),
    ];
    lane.desk.borrow().charge_price_event(names, rates, now)?;
    let wants_disk = api::request::wants_disk(call.query(), config.ack)?;
    let key = answer::key(&request.headers, is_signed);
    let (event_id, rows) = {
        let mut inflated = Vec::new();
        let document = call.json(&body, &mut inflated)?;
        let event = PriceEvent::read(document, now.unix_us).map_err(PriceRefused::Body)?;
        let event_id = match event.event_id {
            Some(event_id) => event_id.into_owned(),
            None => answer::event_id(&request.headers, is_signed)?,
        };
        let observed = Observed {
            at_us: event.observed_us,
            received_us: now.unix_us,
            tenant_id,
            product_id: &product_id,
            event_id: &event_id,
        };
        let row = PriceRow { observed, price: event.price, currency: event.currency };
        let row = PriceEventRow::new(row, limits.over(config.price_rules()));
        let mut rows = KeyedRows::of(PRICE_EVENT);
        rows.push_record(0, |bytes| row.encode(bytes));
        (event_id, rows)
    };
    drop(body);
    let shard = product.shard(lane.shard_count);
    let patience = lane.keyed.commit_wait;
    let name = PriceEventId { tenant_id, product_id: &product_id, event_id: &event_id, product };
    let new_key = keys::check(lane, name, key.as_deref()).await?;
    // The key is journaled first. If its event is refused, the key is still valid for the next attempt.
    let key_told = new_key.map(|key| key.remember(lane, wants_disk)).transpose()?;
    let begun = keyed::begin(lane, shard, &Arc::new(rows), wants_disk, patience)?;
    let Settled { first, outcomes, synced, .. } = keyed::settle(lane, begun, wants_disk).await?;
    if let Some(told) = key_told.filter(|_| wants_disk) {
        // Like its event, the key must be on disk. The key's write started before the event's, so it takes no longer.
        let _ = told.recv().await;
    }
    if !synced {
        return Err(EventRefused::UnsyncedKeyed.into());
    }
    let is_new = match outcomes.first().copied().flatten() {
        // There is no anomaly to read.
        Some(Outcome::Inserted) => {
            return Ok(answer::recorded(&FirstAnswer::in_line(), true, AckLevel::of(wants_disk)));
        }
        Some(Outcome::Flagged) => true,
        Some(Outcome::Duplicate) => false,
        Some(Outcome::Conflict) => return Err(PriceRefused::Conflict),
        Some(_) => return Err(PriceRefused::NotStored),
        None => return Ok(answer::accepted(&event_id, AckLevel::of(wants_disk), first)),
    };
    // An anomaly is read from the committed rows, so that every repetition gets the same response.
    let of = EventName::new(&lane.keys, tenant_id, &product_id, &event_id);
    match query::first_answer(&lane.readers, shard, of).await {
        Ok(answer) => Ok(answer::recorded(&answer, is_new, AckLevel::of(wants_disk))),
        // The event is stored, and a repetition returns its result.
        Err(error) => {
            tracing::debug!(%error, "the response to a price event cannot be read");
            Ok(answer::accepted(&event_id, AckLevel::of(wants_disk), first))
        }
    }
}

/// Handles `POST …/price-anomalies/{id}/review`: returns the anomaly's current state, or 409 if another decision was
/// made before.
pub async fn post_review(call: Call<'_>, body: Body<'_>) -> Result<Answer, PriceRefused> {
    let Call { lane, request, .. } = call;
    let tenant_id = call.tenant();
    let wants_disk = api::request::wants_disk(call.query(), lane.vitals.config.ack)?;
    let decision = {
        let mut inflated = Vec::new();
        let document = call.json(&body, &mut inflated)?;
        read_decision(document).map_err(PriceRefused::InvalidReview)?
    };
    drop(body);
    let name = request.parameter("anomaly");
    let anomaly: AnomalyId = name.parse().map_err(|_| PriceRefused::NoSuchAnomaly)?;
    let product_id = product(request);
    if product_id.as_deref().is_some_and(|product| !api::request::is_identifier(product)) {
        return Err(PriceRefused::NoSuchAnomaly);
    }
    let row = PriceReviewRow {
        decision,
        received_us: clock::unix_us(),
        anomaly,
        tenant_id,
        product_id: product_id.as_deref().unwrap_or_default(),
    };
    let mut rows = KeyedRows::of(PRICE_REVIEW);
    rows.push_record(0, |bytes| row.encode(bytes));
    let shard = anomaly.place().shard(lane.shard_count);
    let patience = lane.keyed.commit_wait;
    let begun = keyed::begin(lane, shard, &Arc::new(rows), wants_disk, patience)?;
    let settled = keyed::settle(lane, begun, wants_disk).await?;
    if !settled.synced {
        return Err(EventRefused::Unsynced.into());
    }
    let is_new = match settled.outcomes.first().copied().flatten() {
        Some(Outcome::Inserted) => true,
        Some(Outcome::Duplicate) => false,
        Some(Outcome::Conflict) => return Err(PriceRefused::Reviewed),
        Some(Outcome::Missing) => return Err(PriceRefused::NoSuchAnomaly),
        Some(_) => return Err(PriceRefused::NotStored),
        // If two decisions differ, it is unknown until the commit which one applies. A retry is safe.
        None => return Err(PriceRefused::NotCommitted),
    };
    let stored = query::stored_anomaly(&lane.readers, shard, tenant_id, anomaly).await;
    match stored {
        Ok(Some(stored)) => Ok(answer::reviewed_as(&stored, is_new, AckLevel::of(wants_disk))),
        Ok(None) => Err(PriceRefused::NoSuchAnomaly),
        Err(error) => Err(PriceRefused::Query(error)),
    }
}

/// Handles `GET …/price-anomalies` of a tenant or a product: returns a page, or a stream of changes.
pub async fn list(call: Call<'_>, _: Body<'_>) -> Result<Reply, NotRead> {
    let Call { lane, request, principal, .. } = call;
    let (tenant_id, product_id) = (call.tenant(), product(request));
    if request.preferred(&[Media::new("text/event-stream"), Media::new("application/json")], 1) == 0 {
        let asked = last_event_id(call.query()).map_err(QueryError::Parameters)?;
        let not_an_id = || QueryError::Parameters(vec![not_an_id()]);
        let last_id = api::request::header(&request.headers, "last-event-id").map_err(|_| not_an_id())?;
        let given = match last_id {
            Some(id) => Some(std::str::from_utf8(id).map_err(|_| not_an_id())?),
            None => asked.as_deref(),
        };
        let given = given.filter(|id| !id.is_empty());
        let answer = answer::streamed();
        if call.is_head() {
            return Ok(Reply::streamed(answer, AnswerBody::empty()));
        }
        let stream = changes::begin(lane, &principal, tenant_id, product_id.as_deref(), given).await?;
        return Ok(Reply::streamed(answer, AnswerBody::Stream(Box::new(stream))));
    }
    let plan = AnomaliesPlan::new(tenant_id, product_id.as_deref(), call.query());
    let AnomaliesPlan { of, limit, cursor } = plan.map_err(QueryError::Parameters)?;
    let only = product_id.map(|product_id| lane.keys.hash(tenant_id, &product_id).shard(lane.shard_count));
    let page =
        query::anomalies_page(call.readers(), &lane.cursors, of, only, limit, cursor.as_deref()).await?;
    Ok(answer::page(&page).into())
}

/// Returns the product, if the path contains one.
fn product(request: &RequestHead) -> Option<String> {
    request.found.endpoint.and_then(|endpoint| endpoint.parameter(request.uri.path(), "product"))
}

fn not_an_id() -> ParameterError {
    let detail = "Last-Event-ID is not an id of this stream, or is repeated".to_owned();
    ParameterError { name: "Last-Event-ID".into(), code: "invalid_event_id", detail }
}
