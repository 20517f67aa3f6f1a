//! Resumable uploads of orders (tus 1.0.0): creates them, takes their pieces in, tells how far they are.
//!
//! ```text
//! POST ──► create ─┐
//! PATCH ──────────►┴─► claim ─► offset right? ─► body ─► unpack ─► journals ─► committed ─► checkpoint ─► 204
//! HEAD ──────────────► claim ─► what is in the body and not yet in rows ───────────┘
//! GET ────────────────► the last checkpoint, without a claim
//! ```
//! What works on an upload is a task of its own, for which its request waits: a connection that goes away ends the
//! piece, not the work on what has arrived.

mod claim;
mod expiry;
mod finish;
mod forget;
mod kept;
mod piece;
mod working;

use std::rc::Rc;

use hyper::body::{Body as _, Incoming};

use super::admit::{admit, tenant_of};
use super::respond::RequestHead;
use super::{Lane, SharedGate};
use crate::api::uploads::UploadRefused;
use crate::api::{self, Endpoint};
use crate::base::counters::Cell;
use crate::commerce::{Upload, UploadId};
use crate::cores::executor;
use crate::http::{Answer, Method};
use crate::tenants::Principal;

pub(super) use expiry::run as run_expiry;
pub(super) use forget::forget;
pub(super) use kept::Kept;
use piece::Piece;
use working::Working;

/// Why a request with a body came to nothing.
pub(super) struct NotTaken {
    refused: UploadRefused,
    /// The upload there is all the same, where it was just created.
    location: Option<String>,
    /// Part of the body was not read, and the next request cannot be found behind it.
    is_unread: bool,
}

impl NotTaken {
    pub(super) fn answer(&self, request_id: &str, problems: &[Cell]) -> Answer {
        let answer = api::uploads::refused(&self.refused, request_id, problems);
        let answer = Answer { close: self.is_unread, ..answer };
        match &self.location {
            Some(location) => answer.with("Location", location.clone()),
            None => answer,
        }
    }
}

/// POST and PATCH.
pub(super) async fn take(
    lane: &Rc<Lane>,
    gate: &SharedGate,
    endpoint: Endpoint,
    id: &str,
    request: &RequestHead,
    body: Incoming,
) -> Result<Answer, NotTaken> {
    let is_unread = !body.is_end_stream();
    let early = |refused: UploadRefused| NotTaken { refused, location: None, is_unread };
    let method = if endpoint == Endpoint::OrderUploads { Method::Post } else { Method::Patch };
    let admitted = admit(lane, endpoint, method, request, &body);
    let principal = admitted.map_err(|denied| early(denied.into()))?.principal;
    let tenant = tenant_of(lane, &principal);
    let headers = &request.headers;
    api::uploads::version(headers).map_err(early)?;
    let checksum = api::uploads::checksum(headers).map_err(early)?;
    let piece = |offset| Piece { offset, checksum, principal, body, gate: gate.clone() };
    if endpoint == Endpoint::OrderUpload {
        let offset = api::uploads::offset(headers).map_err(early)?;
        api::uploads::is_piece(headers).map_err(early)?;
        let id = UploadId::parse(id).ok_or_else(|| early(UploadRefused::NotFound))?;
        let (upload, offset) = in_a_task(lane, id, tenant.as_deref(), piece(offset)).await?;
        return Ok(api::uploads::taken(&upload, offset));
    }
    let config = &lane.vitals.config;
    let wish = api::uploads::wish(headers, api::uploads::length_max(config)).map_err(early)?;
    if is_unread {
        api::uploads::is_piece(headers).map_err(early)?;
    }
    if lane.vitals.board.disk_low() {
        return Err(early(UploadRefused::DiskLow));
    }
    let id = UploadId::random().map_err(|error| early(std::io::Error::other(error).into()))?;
    let tenant = tenant.as_deref();
    let expiry_us = config.upload_expiry.as_micros() as i64;
    let mut upload = Upload::new(id.clone(), tenant.map(str::to_owned), wish, expiry_us);
    lane.uploads.create(&mut upload).map_err(|error| early(error.into()))?;
    working::keep_created(lane, &mut upload).await.map_err(|error| early(error.into()))?;
    if !is_unread && upload.length > 0 {
        return Ok(api::uploads::created(&upload, 0));
    }
    let location = api::uploads::location(&upload);
    match in_a_task(lane, id, tenant, piece(0)).await {
        Ok((upload, offset)) => Ok(api::uploads::created(&upload, offset)),
        Err(not_taken) => Err(NotTaken { location: Some(location), ..not_taken }),
    }
}

/// Takes the piece in. The upload afterwards, and its offset.
async fn in_a_task(
    lane: &Rc<Lane>,
    id: UploadId,
    tenant: Option<&str>,
    piece: Piece,
) -> Result<(Upload, u64), NotTaken> {
    let (lane, tenant) = (lane.clone(), tenant.map(str::to_owned));
    let taken = detached(async move {
        let is_unread = std::cell::Cell::new(!piece.body.is_end_stream());
        let taken = piece.take(lane, id, tenant.as_deref(), &is_unread).await;
        let is_unread = is_unread.get();
        taken.map_err(|refused| NotTaken { refused, location: None, is_unread })
    });
    let lost = NotTaken { refused: UploadRefused::Lost, location: None, is_unread: true };
    taken.await.unwrap_or(Err(lost))
}

/// Does the work to its end, whether or not its request stays to hear of it. `None`: it panicked.
pub(super) async fn detached<T: 'static>(work: impl Future<Output = T> + 'static) -> Option<T> {
    let (tell, told) = async_channel::bounded(1);
    executor::spawn(async move {
        let _ = tell.try_send(work.await);
    });
    told.recv().await.ok()
}

/// Whether a request with this method asks about an upload.
pub(super) fn is_asked(method: Method) -> bool {
    matches!(method, Method::Get | Method::Head | Method::Delete)
}

/// GET, HEAD and DELETE.
pub(super) async fn ask(
    lane: &Rc<Lane>,
    method: Method,
    id: &str,
    request: &RequestHead,
    principal: &Principal,
) -> Result<Answer, UploadRefused> {
    if method != Method::Get {
        api::uploads::version(&request.headers)?;
    }
    let id = UploadId::parse(id).ok_or(UploadRefused::NotFound)?;
    let tenant = tenant_of(lane, principal);
    let tenant = tenant.as_deref();
    match method {
        Method::Get => {
            let upload = working::find(lane, &id, tenant)?;
            Ok(api::uploads::told(&upload))
        }
        Method::Head => {
            // To unpack a large one once more may take longer than the client waits.
            let (lane, tenant) = (lane.clone(), tenant.map(str::to_owned));
            let looked = detached(async move { look(&lane, &id, tenant.as_deref()).await });
            let (upload, offset) = looked.await.unwrap_or(Err(UploadRefused::Lost))?;
            Ok(api::uploads::looked(&upload, offset))
        }
        _ => {
            let working = Working::open(lane, &id, tenant).await?;
            lane.uploads.remove(&working.upload)?;
            Ok(api::uploads::terminated())
        }
    }
}

/// The upload and its offset, with everything in front of that stored.
async fn look(lane: &Rc<Lane>, id: &UploadId, tenant: Option<&str>) -> Result<(Upload, u64), UploadRefused> {
    let mut working = Working::open(lane, id, tenant).await?;
    match working.catch_up().await {
        // A damaged one is told of when the next piece comes.
        Ok(()) | Err(UploadRefused::Failed { .. }) => Ok(working.close()),
        Err(refused) => Err(refused),
    }
}
