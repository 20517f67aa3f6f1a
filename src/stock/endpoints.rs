//! Handles `PUT …/stock/bulk_update`, `GET …/stock/{product}` and `GET …/stock`. A bulk update sends its rows, grouped by product,
//! to the journals of their shards, and then collects the writers' decisions.
//!
//! The response reports the decision at the commit, not a later state. The writer stores the decision with the rows,
//! under the request's number, and the response is read from there.

use std::cell::Cell;
use std::sync::Arc;

use super::answer::{self, StockRefused};
use super::batch::{StockBatch, StockRequestContext, StockState};
use super::body::StockRequest;
use super::{list, query};
use crate::api;
use crate::api::error::{EventRefused, RowRefusal};
use crate::base::clock;
use crate::base::ids::ShardId;
use crate::config::AckLevel;
use crate::http::Answer;
use crate::ingest::KeyedRows;
use crate::lane::{self, Begun, Body, Call, Component, Lane, Refused, Reply, Settled, keyed};
use crate::query::QueryError;
use crate::shard::Outcome;

/// The generator of one core's request numbers, in ascending order of time. No other request in the data folder has
/// the same number. A number consists of microseconds, then the core.
pub struct RequestNumbers {
    core: u8,
    last_us: Cell<i64>,
}

impl RequestNumbers {
    pub fn new(core: usize) -> RequestNumbers {
        debug_assert!(core < usize::from(crate::base::limits::CORE_COUNT_MAX));
        RequestNumbers { core: core as u8, last_us: Cell::new(0) }
    }

    fn give(&self) -> i64 {
        let us = clock::unix_us().max(self.last_us.get() + 1);
        self.last_us.set(us);
        us << 8 | i64::from(self.core)
    }
}

impl Component for RequestNumbers {}

const _: () = assert!(crate::base::limits::CORE_COUNT_MAX <= 256);

/// Handles a bulk update.
pub async fn put(call: Call<'_>, body: Body<'_>) -> Result<Answer, StockRefused> {
    let Call { lane, request, .. } = call;
    let wants_disk = api::request::wants_disk(call.query(), lane.vitals.config.ack)?;
    let number = lane.component::<RequestNumbers>().give();
    let mut batch = {
        let mut inflated = Vec::new();
        let document = call.json(&body, &mut inflated)?;
        let asked = StockRequest::read(document).map_err(StockRefused::Body)?;
        request.rows.set(Some(asked.rows.len() as u64));
        let ask = StockRequestContext {
            tenant_id: call.tenant(),
            request: number,
            received_us: clock::unix_us(),
            shard_count: lane.shard_count,
        };
        StockBatch::new(&lane.keys, &ask, asked)
    };
    drop(body);
    let mut held = lane.memory.hold();
    lane.charge(&mut held, batch.memory_bytes())?;
    if batch.is_invalid() {
        return Err(StockRefused::Rows(batch.errors));
    }
    // Everything is staged or forwarded before any wait, so the shards commit concurrently.
    let patience = lane.keyed.commit_wait;
    let shards = std::mem::take(&mut batch.shards);
    let begun: Vec<(u16, Arc<KeyedRows>, Result<Begun, Refused>)> = (0..)
        .zip(shards)
        .filter(|(_, rows)| !rows.is_empty())
        .map(|(shard, rows)| {
            let rows = Arc::new(rows);
            let begun = keyed::begin(lane, ShardId(shard), &rows, wants_disk, patience);
            (shard, rows, begun)
        })
        .collect();
    let (mut refusal, mut taken, mut unsynced) = (None, false, false);
    for (shard, rows, begun) in begun {
        let settled = match begun {
            Ok(begun) => keyed::settle(lane, begun, wants_disk).await,
            Err(refused) => Err(refused),
        };
        match settled {
            Ok(settled) => {
                taken = true;
                unsynced |= !settled.synced;
                decide(lane, &mut batch, (shard, number), &rows, &settled).await;
            }
            Err(refused) => {
                // An unknown outcome takes precedence over a certain refusal.
                if refusal.is_none() || matches!(refused, Refused::NoAnswer) {
                    refusal = Some(refused);
                }
                let state = match refused {
                    Refused::NoAnswer => StockState::Unknown,
                    Refused::Pressure(_) | Refused::MailboxFull => {
                        StockState::Refused(RowRefusal::from(refused).code())
                    }
                };
                batch.settle(shard, state);
            }
        }
    }
    match refusal {
        _ if unsynced => Err(EventRefused::UnsyncedKeyed.into()),
        Some(refused) if !taken => Err(EventRefused::from(refused).into()),
        // The 409 response would claim that nothing was changed, which is not certain.
        Some(Refused::NoAnswer) if !batch.has_success() => Err(EventRefused::OutcomeUnknown.into()),
        _ => Ok(answer::updated(&batch, AckLevel::of(wants_disk))),
    }
}

/// Adds the decisions of a shard's writer on the rows sent to the shard, if they are known.
async fn decide(
    lane: &Lane,
    batch: &mut StockBatch,
    (shard, number): (u16, i64),
    rows: &KeyedRows,
    settled: &Settled,
) {
    batch.settle(shard, StockState::Pending);
    if settled.outcomes.iter().any(Option::is_some) {
        match query::stock_decisions(&lane.readers, ShardId(shard), number).await {
            Ok(decisions) => {
                for (place, decision) in decisions {
                    batch.decide(place as usize, decision);
                }
            }
            // The rows are in the journal, so they are reported as pending.
            Err(error) => tracing::warn!(shard, %error, "the decisions on stock updates could not be read"),
        }
    }
    for ((place, _), outcome) in rows.rows().zip(&settled.outcomes) {
        if *outcome == Some(Outcome::Rejected)
            && let Some(product) = batch.products.get_mut(place)
        {
            // The record passed the checks here but not those of the shard. It is in `rejected_record`.
            product.state = StockState::Refused("internal");
        }
    }
}

/// Returns the stock of one product.
pub async fn get(call: Call<'_>, _: Body<'_>) -> Result<Answer, StockRefused> {
    let Call { lane, request, .. } = call;
    let (tenant_id, product_id) = (call.tenant(), request.parameter("product"));
    if !api::request::is_identifier(&product_id) {
        return Err(StockRefused::NoSuchStock);
    }
    let shard = lane.keys.hash(tenant_id, &product_id).shard(lane.shard_count);
    let found = query::stock_level(call.readers(), shard, tenant_id, &product_id).await;
    let stock = found.map_err(StockRefused::Query)?.ok_or(StockRefused::NoSuchStock)?;
    Ok(answer::level(&product_id, &stock, &request.headers))
}

/// Lists the stock of the tenant's products.
pub async fn list(call: Call<'_>, _: Body<'_>) -> Result<Reply, QueryError> {
    let plan = list::plan(call.tenant(), call.query()).map_err(QueryError::Parameters)?;
    lane::list(&call, plan).await
}
