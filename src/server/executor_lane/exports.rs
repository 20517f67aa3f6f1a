//! Exports of orders: takes them on, tells of them, removes them, hands their files out; one core runs them.
//!
//! ```text
//! POST ──► claim the idempotency key ─► pins ─► ExportStore::create ─► 201
//! run  ──► the oldest that waits ─► run_export ─► done, or failed with its reason       (core 0)
//! GET …/download ─► ranges ─► ExportPieces ─► the file up to its checkpoint, and on as it grows
//! ```

mod download;
mod run;

use std::rc::Rc;
use std::sync::atomic::Ordering;

pub(super) use self::download::ExportPieces;
pub(super) use self::run::{run, run_expiry};
use super::Lane;
use super::admit::{charge_tenant, check_tenant};
use super::body::{AnswerBody, Pieces};
use super::keyed::{self, Claim};
use super::reads::Read;
use super::respond::RequestHead;
use crate::api::commerce::{IngestRefused, ingest_key};
use crate::api::exports::ExportRefused;
use crate::api::{self, Endpoint};
use crate::base::clock;
use crate::commerce::{ExportId, ExportRecord, ExportSpec, Progress};
use crate::http::{Answer, Method};
use crate::query;
use crate::tenants::{Principal, Scope};

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

/// Whether a request with this method asks for something here.
pub(super) fn is_asked(endpoint: Endpoint, method: Method) -> bool {
    endpoint.is_export() && method != Method::Options && endpoint.takes(method)
}

/// Any of them; `below` is the path behind `tenants/`.
pub(super) async fn ask(
    lane: &Rc<Lane>,
    endpoint: Endpoint,
    method: Method,
    below: &str,
    request: &RequestHead,
    principal: &Principal,
    body: &[u8],
) -> Result<Read, ExportRefused> {
    let tenant_id = api::commerce::tenant(below);
    check_tenant(lane, principal, &tenant_id, Scope::Read)?;
    charge_tenant(lane, request, principal, &tenant_id, body.len() as u64)?;
    if endpoint == Endpoint::Exports {
        return Ok(Read::Whole(match method {
            Method::Post => create(lane, &tenant_id, request, body).await?,
            _ => {
                let all = lane.exports.all();
                let own: Vec<_> = all.iter().filter(|export| export.tenant == tenant_id).cloned().collect();
                api::exports::list(&own)
            }
        }));
    }
    let export = lane.exports.find(&tenant_id, api::exports::id(below)).ok_or(ExportRefused::NotFound)?;
    match (endpoint, method) {
        (Endpoint::Export, Method::Delete) => {
            lane.exports.remove(&export)?;
            let store = lane.exports.clone();
            // The file may be large; should it not go now, the next look for expired ones takes it.
            if let Ok(Err(error)) = lane.readers.compute(move || store.sweep()).await {
                tracing::warn!(export = export.id.as_str(), %error, "files of a deleted export are left");
            }
            Ok(Read::Whole(api::exports::removed()))
        }
        (Endpoint::Export, _) => Ok(Read::Whole(api::exports::told(&export))),
        _ => {
            let progress = export.progress();
            let is_head = method == Method::Head;
            let download = api::exports::download(&export, &progress, &request.headers, is_head)?;
            let Some((from, until)) = download.part else { return Ok(Read::Whole(download.answer)) };
            let path = lane.exports.file_of(&export);
            let pieces = ExportPieces::new(lane.clone(), export, &progress, path, (from, until));
            Ok(Read::Rows(
                download.answer,
                AnswerBody::following(Pieces::Export(Box::new(pieces)), download.length),
            ))
        }
    }
}

/// Takes one on: what was committed when this answers is what it tells.
async fn create(
    lane: &Rc<Lane>,
    tenant_id: &str,
    request: &RequestHead,
    body: &[u8],
) -> Result<Answer, ExportRefused> {
    let key = match ingest_key(&request.headers) {
        Ok(key) => Some(key),
        Err(IngestRefused::KeyMissing) => None,
        Err(error) => return Err(error.into()),
    };
    let spec = ExportSpec::read(body).map_err(ExportRefused::Invalid)?;
    let mut _claimed = None;
    if let Some(key) = &key {
        // Two requests with one key come to one export.
        _claimed = Some(claim(lane, tenant_id, key).await?);
        if let Some(export) = lane.exports.find_key(tenant_id, key) {
            return match export.spec == spec {
                true => Ok(api::exports::created(&export, true)),
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
    let export = lane.exports.create(record)?;
    Ok(api::exports::created(&export, false))
}

async fn claim(lane: &Lane, tenant_id: &str, key: &str) -> Result<Claim, ExportRefused> {
    let shard = lane.keys.hash(tenant_id, key).shard(lane.shard_count);
    let claim = keyed::claim(lane, shard, format!("export\0{tenant_id}\0{key}")).await;
    let claim = claim.map_err(|refused| ExportRefused::Ingest(refused.into()))?;
    claim.ok_or_else(|| IngestRefused::Running.into())
}
