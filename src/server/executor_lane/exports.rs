//! Exports of orders: takes them on, tells of them, removes them, hands their files out; one core runs them.
//!
//! ```text
//! POST ──► claim the idempotency key ─► pins ─► ExportStore::create ─► 201
//! run  ──► the oldest that waits ─► run_export ─► done, or failed with its reason       (core 0)
//! GET …/download ─► ranges ─► ExportPieces ─► the file up to its checkpoint, and on as it grows
//! ```

mod download;
mod run;

use std::sync::Arc;
use std::sync::atomic::Ordering;

pub(super) use self::download::ExportPieces;
pub(super) use self::run::{run, run_expiry};
use super::Lane;
use super::body::{AnswerBody, Pieces};
use super::call::{Call, Reply};
use super::events::level;
use super::keyed::{self, Claim};
use super::orders::wants_disk;
use super::respond::Body;
use crate::api;
use crate::api::commerce::{IngestRefused, ingest_key};
use crate::api::exports::ExportRefused;
use crate::base::clock;
use crate::commerce::{Export, ExportId, ExportRecord, ExportSpec, Progress};
use crate::cores::executor;
use crate::http::{Answer, without_mark};
use crate::query;

/// Tells the metrics how it stands.
pub(super) fn publish(lane: &Lane) {
    let (store, vitals) = (&lane.exports, &lane.vitals.exports);
    let open = store.all().iter().filter(|export| export.progress().state.is_open()).count();
    vitals.open.set(open as u64);
    vitals.bytes.set(store.bytes());
    for (cell, total) in [
        (&vitals.rows, &store.rows_total),
        (&vitals.done, &store.done_total),
        (&vitals.failed, &store.failed_total),
    ] {
        cell.set(total.load(Ordering::Relaxed));
    }
}

/// All of a tenant.
pub(in crate::server) async fn list(call: Call<'_>, _: Body<'_>) -> Result<Answer, ExportRefused> {
    let all = call.lane.exports.all();
    let own: Vec<_> = all.iter().filter(|export| export.tenant == call.tenant()).cloned().collect();
    Ok(api::exports::list(&own))
}

/// The one in the path.
fn find(call: &Call<'_>) -> Result<Arc<Export>, ExportRefused> {
    let found = call.lane.exports.find(call.tenant(), &call.request.parameter("export"));
    found.ok_or(ExportRefused::NotFound)
}

pub(in crate::server) async fn get(call: Call<'_>, _: Body<'_>) -> Result<Answer, ExportRefused> {
    Ok(api::exports::told(&*find(&call)?))
}

pub(in crate::server) async fn delete(call: Call<'_>, _: Body<'_>) -> Result<Answer, ExportRefused> {
    let wants_disk = wants_disk(&call)?;
    let (lane, export) = (call.lane, find(&call)?);
    let store = lane.exports.clone();
    let removed = export.clone();
    executor::blocking(move || store.remove(&removed)).await?;
    let store = lane.exports.clone();
    // The file may be large; should it not go now, the next look for expired ones takes it.
    if let Ok(Err(error)) = lane.readers.compute(move || store.sweep()).await {
        tracing::warn!(export = export.id.as_str(), %error, "files of a deleted export are left");
    }
    Ok(api::exports::removed(level(wants_disk)))
}

pub(in crate::server) async fn download(call: Call<'_>, _: Body<'_>) -> Result<Reply, ExportRefused> {
    let (lane, export) = (call.lane, find(&call)?);
    let progress = export.progress();
    let download = api::exports::download(&export, &progress, &call.request.headers, call.is_head())?;
    let Some((from, until)) = download.part else { return Ok(download.answer.into()) };
    let path = lane.exports.file_of(&export);
    let pieces = ExportPieces::new(lane.clone(), export, &progress, path, (from, until));
    let body = AnswerBody::following(Pieces::Export(Box::new(pieces)), download.length);
    Ok(Reply::streamed(download.answer, body))
}

/// Takes one on: what was committed when this answers is what it tells.
pub(in crate::server) async fn create(call: Call<'_>, body: Body<'_>) -> Result<Answer, ExportRefused> {
    let Call { lane, request, .. } = call;
    let tenant_id = call.tenant();
    let key = match ingest_key(&request.headers) {
        Ok(key) => Some(key),
        Err(IngestRefused::KeyMissing) => None,
        Err(error) => return Err(error.into()),
    };
    let wants_disk = wants_disk(&call)?;
    let spec = ExportSpec::read(without_mark(&body.bytes)).map_err(ExportRefused::Invalid)?;
    drop(body);
    let mut _claimed = None;
    if let Some(key) = &key {
        // Two requests with one key come to one export.
        _claimed = Some(claim(lane, tenant_id, key).await?);
        if let Some(export) = lane.exports.find_key(tenant_id, key) {
            return match export.spec == spec {
                true => Ok(api::exports::created(&export, true, level(wants_disk))),
                false => Err(IngestRefused::KeyReused.into()),
            };
        }
    }
    if lane.vitals.board.disk_low() {
        return Err(ExportRefused::DiskLow);
    }
    lane.exports.has_room(tenant_id)?;
    let pins = query::order_pins(&lane.readers).await?;
    let record = ExportRecord {
        id: ExportId::random().map_err(std::io::Error::other)?,
        tenant: tenant_id.to_owned(),
        key,
        spec,
        created_us: clock::unix_us(),
        pins,
        progress: Progress::begin(),
    };
    let store = lane.exports.clone();
    // Its files are synced, which takes longer than the core may stand still.
    let export = executor::blocking(move || Ok(store.create(record))).await??;
    Ok(api::exports::created(&export, false, level(wants_disk)))
}

async fn claim(lane: &Lane, tenant_id: &str, key: &str) -> Result<Claim, ExportRefused> {
    let shard = lane.keys.hash(tenant_id, key).shard(lane.shard_count);
    let claim = keyed::claim(lane, shard, format!("export\0{tenant_id}\0{key}")).await;
    let claim = claim.map_err(|refused| ExportRefused::Ingest(refused.into()))?;
    claim.ok_or_else(|| IngestRefused::Running.into())
}
