//! `PATCH …/orders/{order}`: a status change, journaled like every other write.

use std::sync::Arc;

use super::super::answer::StatusRefused;
use super::super::record::{ORDER_STATUS, StatusRow};
use crate::api;
use crate::api::write::WriteRefused;
use crate::base::clock;
use crate::config::AckLevel;
use crate::http::Answer;
use crate::ingest::KeyedRows;
use crate::lane::keyed::PATIENCE;
use crate::lane::{Body, Call, keyed};
use crate::orders::answer;
use crate::shard::Outcome;

/// Handles `PATCH /api/v1/tenants/{tenant}/orders/{order}`.
pub async fn patch(call: Call<'_>, body: Body<'_>) -> Result<Answer, StatusRefused> {
    let lane = call.lane;
    let (tenant_id, order_id) = (call.tenant(), call.request.parameter("order"));
    let wants_disk = call.wants_disk()?;
    let received_us = clock::unix_us();
    let (status, occurred_us) = {
        let mut inflated = Vec::new();
        let document = call.json(&body, &mut inflated)?;
        answer::status(document, received_us).map_err(StatusRefused::Invalid)?
    };
    drop(body);
    if !api::request::is_identifier(&order_id) {
        return Err(StatusRefused::NoSuchOrder);
    }
    let row = StatusRow { received_us, occurred_us, status, tenant_id, order_id: &order_id };
    let mut rows = KeyedRows::of(ORDER_STATUS);
    rows.push_record(0, |bytes| row.encode(bytes));
    let shard = lane.keys.hash(tenant_id, &order_id).shard(lane.shard_count);
    let begun =
        keyed::begin(lane, shard, &Arc::new(rows), wants_disk, PATIENCE).map_err(WriteRefused::from)?;
    let settled = keyed::settle(lane, begun, wants_disk).await.map_err(WriteRefused::from)?;
    if !settled.synced {
        return Err(WriteRefused::Unsynced.into());
    }
    let changed = |changed| answer::status_changed(&order_id, status, changed, AckLevel::of(wants_disk));
    match settled.outcomes.first().copied().flatten() {
        Some(Outcome::Inserted) => Ok(changed(true)),
        Some(Outcome::Duplicate) => Ok(changed(false)),
        Some(Outcome::SumTooLarge) => Err(StatusRefused::SumTooLarge),
        Some(Outcome::Superseded) => {
            Ok(answer::status_superseded(&order_id, status, AckLevel::of(wants_disk)))
        }
        Some(_) => Err(StatusRefused::NoSuchOrder),
        None => Err(WriteRefused::NotCommitted.into()),
    }
}
