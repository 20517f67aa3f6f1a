//! Exports of a tenant, and of clicks: their creation, status, deletion and download. One core runs them.
//!
//! ```text
//! POST ──► claim the idempotency key ─► pins ─► ExportStore::create ─► 201
//! run  ──► the oldest that waits ─► run_export ─► done, or failed with its reason       (core 0)
//! GET …/download ─► ranges ─► ExportPieces ─► the file up to its checkpoint, and further as it grows
//! ```

mod download;
mod run;

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use self::download::ExportPieces;
use super::answer::{self, ExportRefused};
use super::body::{ExportRows, ExportSpec};
use super::query;
use super::record::{Export, ExportId, ExportRecord, Progress};
use super::store::ExportStore;
use crate::api::request::idempotency_key;
use crate::api::write::WriteRefused;
use crate::base::clock;
use crate::config::AckLevel;
use crate::cores::executor;
use crate::http::Answer;
use crate::lane::keyed::Claim;
use crate::lane::{AnswerBody, Body, Call, Component, Lane, Reply, keyed};

/// This core's access to the data folder's exports.
pub struct Exports(Arc<ExportStore>);

impl Exports {
    pub fn new(store: Arc<ExportStore>) -> Exports {
        Exports(store)
    }
}

impl Component for Exports {
    fn start(&self, lane: &Rc<Lane>) {
        if lane.core == RUNNING_CORE {
            executor::spawn(run::run(lane.clone()));
            executor::spawn(run::run_expiry(lane.clone()));
        }
    }

    fn tick(&self, lane: &Lane) {
        if lane.core == RUNNING_CORE {
            publish(lane);
        }
    }
}

/// The core that runs exports.
const RUNNING_CORE: usize = 0;

pub fn export_store(lane: &Lane) -> &Arc<ExportStore> {
    &lane.component::<Exports>().0
}

/// Updates the metrics.
fn publish(lane: &Lane) {
    let (store, vitals) = (export_store(lane), &lane.vitals.exports);
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

/// Lists a tenant's exports.
pub async fn list(call: Call<'_>, _: Body<'_>) -> Result<Answer, ExportRefused> {
    let all = export_store(call.lane).all();
    let own: Vec<_> = all.iter().filter(|export| export.tenant == call.tenant()).cloned().collect();
    Ok(answer::list(&own))
}

/// Finds the export that the path names.
fn find(call: &Call<'_>) -> Result<Arc<Export>, ExportRefused> {
    let found = export_store(call.lane).find(call.tenant(), &call.request.parameter("export"));
    found.ok_or(ExportRefused::NotFound)
}

pub async fn get(call: Call<'_>, _: Body<'_>) -> Result<Answer, ExportRefused> {
    Ok(answer::status(&*find(&call)?))
}

pub async fn delete(call: Call<'_>, _: Body<'_>) -> Result<Answer, ExportRefused> {
    let wants_disk = call.wants_disk()?;
    let (lane, export) = (call.lane, find(&call)?);
    let store = export_store(lane).clone();
    let removed = export.clone();
    executor::blocking(move || store.remove(&removed)).await?;
    let store = export_store(lane).clone();
    // The file may be large. If it cannot be deleted now, the next check for expired exports deletes it.
    if let Ok(Err(error)) = lane.readers.compute(move || store.sweep()).await {
        tracing::warn!(export = export.id.as_str(), %error, "files of a deleted export remain");
    }
    Ok(answer::removed(AckLevel::of(wants_disk)))
}

pub async fn download(call: Call<'_>, _: Body<'_>) -> Result<Reply, ExportRefused> {
    let (lane, export) = (call.lane, find(&call)?);
    let progress = export.progress();
    let download = answer::download(&export, &progress, &call.request.headers, call.is_head())?;
    let Some((from, until)) = download.part else { return Ok(download.answer.into()) };
    let path = export_store(lane).file_of(&export);
    let pieces = ExportPieces::new(lane.clone(), export, &progress, path, (from, until));
    let body = AnswerBody::following(Box::new(pieces), download.length);
    Ok(Reply::streamed(download.answer, body))
}

/// Creates an export of the rows that are committed now.
pub async fn create(call: Call<'_>, body: Body<'_>) -> Result<Answer, ExportRefused> {
    let Call { lane, request, .. } = call;
    let tenant_id = call.tenant();
    let key = match idempotency_key(&request.headers) {
        Ok(key) => Some(key),
        Err(WriteRefused::KeyMissing) => None,
        Err(error) => return Err(error.into()),
    };
    let wants_disk = call.wants_disk()?;
    let spec = {
        let mut inflated = Vec::new();
        let document = call.json(&body, &mut inflated)?;
        ExportSpec::read(document, ExportRows::of(tenant_id)).map_err(ExportRefused::Invalid)?
    };
    drop(body);
    let mut _claimed = None;
    if let Some(key) = &key {
        // Two requests with the same key get the same export.
        _claimed = Some(claim(lane, tenant_id, key).await?);
        if let Some(export) = export_store(lane).find_key(tenant_id, key) {
            return match export.spec == spec {
                true => Ok(answer::created(&export, true, AckLevel::of(wants_disk))),
                false => Err(WriteRefused::KeyReused.into()),
            };
        }
    }
    if lane.vitals.board.disk_low() {
        return Err(ExportRefused::DiskLow);
    }
    export_store(lane).has_room(tenant_id)?;
    let (source, range) = spec.filter(tenant_id, &lane.keys).map_err(ExportRefused::Invalid)?;
    let snapshots = query::snapshots(call.readers(), &source, range).await?;
    let record = ExportRecord {
        id: ExportId::random().map_err(std::io::Error::other)?,
        tenant: tenant_id.to_owned(),
        key,
        spec,
        created_us: clock::unix_us(),
        pins: snapshots.iter().map(|snapshot| snapshot.pin).collect(),
        floors: snapshots.iter().map(|snapshot| snapshot.floor).collect(),
        progress: Progress::begin(),
    };
    let store = export_store(lane).clone();
    // The creation syncs files, which takes longer than the core may block.
    let export = executor::blocking(move || Ok(store.create(record))).await??;
    Ok(answer::created(&export, false, AckLevel::of(wants_disk)))
}

async fn claim(lane: &Lane, tenant_id: &str, key: &str) -> Result<Claim, ExportRefused> {
    let shard = lane.keys.hash(tenant_id, key).shard(lane.shard_count);
    let claim = keyed::claim(lane, shard, format!("export\0{tenant_id}\0{key}")).await;
    let claim = claim.map_err(|refused| ExportRefused::Ingest(refused.into()))?;
    claim.ok_or_else(|| WriteRefused::Running.into())
}
