//! Resumable uploads of orders (tus 1.0.0): creates them, receives their pieces, reports their progress.
//!
//! ```text
//! POST ──► create ─┐
//! PATCH ──────────►┴─► claim ─► offset right? ─► body ─► unpack ─► journals ─► committed ─► checkpoint ─► 204
//! HEAD ──────────────► claim ─► bytes of the body that are not rows yet ───────────┘
//! GET ────────────────► the last checkpoint, without a claim
//! ```
//! POST, PATCH and HEAD process an upload's bytes in a separate task, which the request awaits. If the connection
//! ends early, the piece ends, but the task still processes the bytes that have arrived.

mod claim;
mod expiry;
mod finish;
mod kept;
mod open_upload;
mod piece;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use hyper::body::{Body as _, Incoming};

use super::answer::UploadRefused;
use super::checksum::Checksum;
use super::record::{Upload, UploadId};
use super::store::UploadStore;
use super::{answer, asked};
use crate::api::error::{Asker, Refuse};
use crate::base::clock;
use crate::config::AckLevel;
use crate::cores::executor;
use crate::http::Answer;
use crate::lane::{Body, Call, Component, Lane, admit, detached, tenant_of};
use crate::tenants::Principal;

pub use claim::claim;
use kept::KeptUploads;
use open_upload::OpenUpload;
use piece::Piece;

/// The uploads in the data folder, and those that this core keeps in memory between two requests.
pub struct Uploads {
    store: Arc<UploadStore>,
    kept: RefCell<KeptUploads>,
}

impl Uploads {
    pub fn new(store: Arc<UploadStore>) -> Uploads {
        Uploads { store, kept: RefCell::default() }
    }
}

impl Component for Uploads {
    fn start(&self, lane: &Rc<Lane>) {
        // The expiry check runs on one core only.
        if lane.core == 0 {
            executor::spawn(expiry::run(lane.clone()));
        }
    }

    fn tick(&self, _: &Lane) {
        self.kept.borrow_mut().expire(clock::monotonic_us());
    }

    fn release_memory(&self) -> bool {
        self.kept.borrow_mut().drop_oldest()
    }
}

pub fn upload_store(lane: &Lane) -> &Arc<UploadStore> {
    &lane.component::<Uploads>().store
}

fn kept(lane: &Lane) -> &RefCell<KeptUploads> {
    &lane.component::<Uploads>().kept
}

/// The refusal of a request with a body.
pub struct UploadRequestRefused {
    refused: UploadRefused,
    /// The location of the upload, if this request created it. The upload exists in spite of the refusal.
    location: Option<String>,
    /// Set if part of the body was not read. In that case, the start of the next request on the connection is
    /// unknown.
    is_unread: bool,
}

impl UploadRequestRefused {
    /// Creates a refusal that is issued before the upload is touched.
    fn early(refused: UploadRefused, is_unread: bool) -> UploadRequestRefused {
        UploadRequestRefused { refused, location: None, is_unread }
    }
}

impl Refuse for UploadRequestRefused {
    fn answer(&self, asker: &Asker<'_>) -> Answer {
        let answer = Answer { close: self.is_unread, ..self.refused.answer(asker) };
        match &self.location {
            Some(location) => answer.with("Location", location.clone()),
            None => answer,
        }
    }
}

/// An authorized POST or PATCH, with the properties that both methods declare for their piece.
struct Begun {
    principal: Principal,
    tenant: Option<Arc<str>>,
    checksum: Option<Checksum>,
    wants_disk: bool,
    is_unread: bool,
}

impl Begun {
    fn new(call: &Call<'_>, body: &Incoming) -> Result<Begun, UploadRequestRefused> {
        let is_unread = !body.is_end_stream();
        let early = |refused| UploadRequestRefused::early(refused, is_unread);
        let admitted = admit(call.lane, call.request, body);
        let principal = admitted.map_err(|denied| early(denied.into()))?.principal;
        asked::version(&call.request.headers).map_err(early)?;
        let checksum = asked::checksum(&call.request.headers).map_err(early)?;
        let wants_disk = call.wants_disk().map_err(|refused| early(refused.into()))?;
        let tenant = tenant_of(call.lane, call.request, &principal);
        Ok(Begun { principal, tenant, checksum, wants_disk, is_unread })
    }

    fn early(&self, refused: impl Into<UploadRefused>) -> UploadRequestRefused {
        UploadRequestRefused::early(refused.into(), self.is_unread)
    }

    fn piece(&mut self, call: &Call<'_>, offset: u64, length: Option<u64>, body: Incoming) -> Piece {
        let Begun { principal, wants_disk, .. } = *self;
        let checksum = self.checksum.take();
        Piece { offset, length, checksum, principal, wants_disk, body, gate: call.gate.clone() }
    }
}

/// Handles PATCH: receives the next bytes.
pub async fn patch(call: Call<'_>, body: Incoming) -> Result<Answer, UploadRequestRefused> {
    let mut begun = Begun::new(&call, &body)?;
    let headers = &call.request.headers;
    let offset = asked::offset(headers).map_err(|refused| begun.early(refused))?;
    asked::is_piece(headers).map_err(|refused| begun.early(refused))?;
    let id = UploadId::parse(&call.request.parameter("upload"));
    let id = id.ok_or_else(|| begun.early(UploadRefused::NotFound))?;
    let length = asked::length(headers, answer::length_max(&call.lane.vitals.config));
    let length = length.map_err(|refused| begun.early(refused))?;
    let piece = begun.piece(&call, offset, length, body);
    let (upload, offset) = in_a_task(call.lane, id, begun.tenant.as_deref(), piece).await?;
    count_rows(&call, &upload);
    Ok(answer::taken(&upload, offset, AckLevel::of(begun.wants_disk)))
}

/// Handles POST: creates an upload, possibly with its first bytes.
pub async fn create(call: Call<'_>, body: Incoming) -> Result<Answer, UploadRequestRefused> {
    let mut begun = Begun::new(&call, &body)?;
    let (lane, headers) = (call.lane, &call.request.headers);
    let config = &lane.vitals.config;
    let wish = asked::wish(headers, answer::length_max(config));
    let wish = wish.map_err(|refused| begun.early(refused))?;
    if begun.is_unread {
        asked::is_piece(headers).map_err(|refused| begun.early(refused))?;
    }
    if lane.vitals.board.disk_low() {
        return Err(begun.early(UploadRefused::DiskLow));
    }
    let id = UploadId::random().map_err(|error| begun.early(std::io::Error::other(error)))?;
    let tenant = begun.tenant.clone();
    let tenant = tenant.as_deref();
    let expiry_us = config.upload_expiry.as_micros() as i64;
    let mut upload = Upload::new(id.clone(), tenant.map(str::to_owned), wish, expiry_us);
    let store = upload_store(lane).clone();
    let created = executor::blocking(move || Ok(store.create(&mut upload).map(|()| upload))).await;
    let upload = created.map_err(|error| begun.early(error))?.map_err(|error| begun.early(error))?;
    let level = AckLevel::of(begun.wants_disk);
    if !begun.is_unread && upload.length > 0 {
        return Ok(answer::created(&upload, 0, level));
    }
    let location = answer::location(&upload);
    match in_a_task(lane, id, tenant, begun.piece(&call, 0, None, body)).await {
        Ok((upload, offset)) => {
            count_rows(&call, &upload);
            Ok(answer::created(&upload, offset, level))
        }
        Err(not_taken) => Err(UploadRequestRefused { location: Some(location), ..not_taken }),
    }
}

/// Sets the row count for the log: all of the upload's rows so far, including those of earlier pieces.
fn count_rows(call: &Call<'_>, upload: &Upload) {
    call.request.rows.set(Some(upload.checkpoint.summary.received()));
}

/// Ingests the piece in a task. Returns the updated upload and its offset.
async fn in_a_task(
    lane: &Rc<Lane>,
    id: UploadId,
    tenant: Option<&str>,
    piece: Piece,
) -> Result<(Upload, u64), UploadRequestRefused> {
    let (lane, tenant) = (lane.clone(), tenant.map(str::to_owned));
    let taken = detached(async move {
        let is_unread = std::cell::Cell::new(!piece.body.is_end_stream());
        let taken = piece.receive(lane, id, tenant.as_deref(), &is_unread).await;
        let is_unread = is_unread.get();
        taken.map_err(|refused| UploadRequestRefused { refused, location: None, is_unread })
    });
    let lost = UploadRequestRefused { refused: UploadRefused::Lost, location: None, is_unread: true };
    taken.await.unwrap_or(Err(lost))
}

/// Returns the id of the requested upload, and the tenant that the key belongs to.
fn asked(call: &Call<'_>) -> Result<(UploadId, Option<Arc<str>>), UploadRefused> {
    let id = UploadId::parse(&call.request.parameter("upload")).ok_or(UploadRefused::NotFound)?;
    Ok((id, tenant_of(call.lane, call.request, &call.principal)))
}

/// Handles GET: returns the progress.
pub async fn get(call: Call<'_>, _: Body<'_>) -> Result<Answer, UploadRefused> {
    let (id, tenant) = asked(&call)?;
    let upload = open_upload::find(call.lane, &id, tenant.as_deref())?;
    Ok(answer::status(&upload))
}

/// Handles HEAD: returns the offset at which the upload continues.
pub async fn head(call: Call<'_>, _: Body<'_>) -> Result<Answer, UploadRefused> {
    asked::version(&call.request.headers)?;
    let (id, tenant) = asked(&call)?;
    let wants_disk = call.wants_disk()?;
    // Unpacking a large upload again may take longer than the client waits.
    let lane = call.lane.clone();
    let looked = detached(async move { check_upload(&lane, &id, tenant.as_deref(), wants_disk).await });
    let (upload, offset) = looked.await.unwrap_or(Err(UploadRefused::Lost))?;
    Ok(answer::looked(&upload, offset))
}

/// Handles DELETE: ends the upload.
pub async fn delete(call: Call<'_>, _: Body<'_>) -> Result<Answer, UploadRefused> {
    asked::version(&call.request.headers)?;
    let (id, tenant) = asked(&call)?;
    let wants_disk = call.wants_disk()?;
    open_upload::find(call.lane, &id, tenant.as_deref())?;
    let _claim = claim::claim(call.lane, &id).await?;
    let upload = open_upload::find(call.lane, &id, tenant.as_deref())?;
    let store = upload_store(call.lane).clone();
    executor::blocking(move || store.remove(&upload)).await?;
    Ok(answer::terminated(AckLevel::of(wants_disk)))
}

/// Returns the upload and its offset, after everything before the offset has been stored.
async fn check_upload(
    lane: &Rc<Lane>,
    id: &UploadId,
    tenant: Option<&str>,
    wants_disk: bool,
) -> Result<(Upload, u64), UploadRefused> {
    let mut working = OpenUpload::open(lane, id, tenant, wants_disk).await?;
    match working.catch_up().await {
        // Damage is reported when the next piece arrives.
        Ok(()) | Err(UploadRefused::Failed { .. }) => Ok(working.close()),
        Err(refused) => Err(refused),
    }
}
