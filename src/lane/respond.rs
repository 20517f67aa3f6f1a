//! How the executor handles one request: admission, the body, the endpoint's handler, the response.

use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use hyper::{Request, Response};

use super::admit::{admit, charge_rest, charge_tenant, check_tenant, with_standing};
use super::body::{AnswerBody, PIECE_BYTES};
use super::call::{Body, Call, Handler, Reply, RequestHead, answer_from_memory};
use super::gated::SharedGate;
use super::logged;
use super::packed::packed;
use super::presence::STOP_PATIENCE;
use super::state::Lane;
use crate::api::error::Refuse as _;
use crate::api::{self, Asked};
use crate::base::clock;
use crate::cores::executor;
use crate::http::{Answer, Method, REFUSED_PATH, Refusal, sent_bytes_max};
use crate::ops;
use crate::query::QueryError;
use crate::tenants::{Denied, Need, Principal};

pub(super) async fn respond(
    lane: &Rc<Lane>,
    gate: &SharedGate,
    peer: Option<IpAddr>,
    request: Request<Incoming>,
) -> Response<AnswerBody> {
    let (parts, body) = request.into_parts();
    let request = RequestHead::new(lane, peer, parts);
    let refusal = gate.borrow().refused();
    let reply = match refusal {
        Some(refusal) if request.uri.path() == REFUSED_PATH => refusal.answer(&request.asker(lane)).into(),
        _ => match (request.check_caller(lane), no_such_place(lane, &request)) {
            (Err(not_called), _) => {
                unread(lane, gate, &request, body, not_called.answer(&request.asker(lane))).await.into()
            }
            (Ok(()), Some(answer)) => unread(lane, gate, &request, body, answer).await.into(),
            (Ok(()), None) => until_stopped(lane, &request, reply(lane, gate, &request, body)).await,
        },
    };
    let reply = with_standing(lane, &request, counted(lane, &request, reply));
    let (found, status) = (&request.found, reply.answer.status);
    lane.me.executor.count_request(found.row, status);
    let duration_us = clock::monotonic_us() - request.started_us;
    lane.me.executor.time_request(found.row, duration_us);
    logged::answered(lane, &request, status, duration_us);
    packed(lane, &request, reply).response(lane, &request)
}

/// Counts a long body towards the lane's memory until the client has received it. If there is no memory left, a read is
/// refused. Other requests have had their effect, so their answer is sent.
fn counted(lane: &Lane, request: &RequestHead, mut reply: Reply) -> Reply {
    let bytes = reply.answer.body.len();
    if reply.body.is_some() || bytes <= PIECE_BYTES {
        return reply;
    }
    let mut held = lane.memory.hold();
    let is_read = matches!(request.method, Method::Get | Method::Head);
    if lane.may_hold(&mut held, bytes).is_err() && is_read {
        return QueryError::MemorySpent.answer(&request.asker(lane)).into();
    }
    let bytes = AnswerBody::taken(&mut reply.answer);
    Reply::streamed(reply.answer, AnswerBody::Whole { bytes, _held: Some(held) })
}

/// Ends a read that takes long when the server drains. Its client may ask another server.
async fn until_stopped(lane: &Lane, request: &RequestHead, reply: impl Future<Output = Reply>) -> Reply {
    let mut reply = pin!(reply);
    if !matches!(request.method, Method::Get | Method::Head) {
        return reply.await;
    }
    let mut alarm = None;
    let replied = poll_fn(|context| {
        if let Poll::Ready(reply) = reply.as_mut().poll(context) {
            return Poll::Ready(Some(reply));
        }
        // The connection's task is polled when the lane begins to drain.
        if !lane.draining.0.is_closed() {
            return Poll::Pending;
        }
        let alarm = alarm.get_or_insert_with(|| {
            let age = Duration::from_micros(clock::monotonic_us() - request.started_us);
            Box::pin(executor::sleep(STOP_PATIENCE.saturating_sub(age)))
        });
        alarm.as_mut().poll(context).map(|()| None)
    })
    .await;
    replied.unwrap_or_else(|| {
        lane.me.executor.count_ended(true);
        api::reads::stopped(&request.asker(lane)).into()
    })
}

/// Reads and drops the body, within the endpoint's limit on bodies. Then returns the response, which does not depend on
/// the body.
async fn unread(
    lane: &Lane,
    gate: &SharedGate,
    request: &RequestHead,
    body: Incoming,
    answer: Answer,
) -> Answer {
    let is_dropped = read_body(lane, gate, request, body, false).await.is_ok();
    Answer { close: !is_dropped, ..answer }
}

async fn reply(lane: &Rc<Lane>, gate: &SharedGate, request: &RequestHead, body: Incoming) -> Reply {
    let call = |principal| Call { lane, gate, request, principal };
    let handler = request.found.operation.map(|operation| operation.handler);
    if let Some(Handler::Stream(task)) = handler {
        return task(call(Principal::ANYONE), body).await;
    }
    // The body is complete before anything checks it, as on the hot lane. Both lanes therefore refuse the same
    // bodies, and the next request starts at the right byte.
    match (admitted_body(lane, gate, request, body).await, handler) {
        // The response reports the missing operation instead of the size of the body, because it is the more useful
        // reason.
        (Err(BodyRefused::Refused(Refusal::BodyTooLarge)), None) if request.method != Method::Options => {
            Answer { close: true, ..in_memory(lane, request) }.into()
        }
        (Err(BodyRefused::Refused(refusal)), _) => refusal.answer(&request.asker(lane)).into(),
        (Err(BodyRefused::Denied(denied)), _) => denied.answer(&request.asker(lane)).into(),
        (Ok((principal, body)), handler) => {
            if let Err(refused) = lane.endpoints.check_query(&request.found, request.uri.query()) {
                return refused.answer(&request.asker(lane)).into();
            }
            match handler {
                Some(Handler::Task(task) | Handler::Click(task)) => task(call(principal), body).await,
                _ => in_memory(lane, request).into(),
            }
        }
    }
}

fn in_memory(lane: &Lane, request: &RequestHead) -> Answer {
    let (accept, codings) = (request.values("accept"), request.values("accept-encoding"));
    let wants = api::Wants::new(&accept, &codings, request.header("if-none-match"));
    let (format, asker) = (ops::negotiate(&accept), request.asker(lane));
    let asked = Asked::new(request.uri.path(), format, wants, &lane.vitals, asker)
        .with_preflight(request.preflight(lane));
    answer_from_memory(&request.found, request.method, &asked)
}

/// Returns the response for an invalid tenant or product in the path. `None` if both are valid.
fn no_such_place(lane: &Lane, request: &RequestHead) -> Option<Answer> {
    let endpoint = request.found.endpoint?;
    let asker = request.asker(lane);
    if endpoint.has_tenant() && !api::request::is_identifier(&request.tenant) {
        return Some(api::request::no_such_tenant(asker.request_id, asker.problems));
    }
    if endpoint.checks_product && !api::request::is_identifier(&request.parameter("product")) {
        return Some(api::request::no_such_product(asker.request_id, asker.problems));
    }
    None
}

/// Why there is no body to handle.
enum BodyRefused {
    Refused(Refusal),
    Denied(Denied),
}

impl From<Refusal> for BodyRefused {
    fn from(refusal: Refusal) -> BodyRefused {
        BodyRefused::Refused(refusal)
    }
}

impl From<Denied> for BodyRefused {
    fn from(denied: Denied) -> BodyRefused {
        BodyRefused::Denied(denied)
    }
}

/// Returns the principal and the body. The body of a refused request, or of an operation that accepts none, is read
/// but not stored, so that the next request starts at the right byte.
async fn admitted_body<'l>(
    lane: &'l Lane,
    gate: &SharedGate,
    request: &RequestHead,
    body: Incoming,
) -> Result<(Principal, Body<'l>), BodyRefused> {
    let admitted = admit(lane, request, &body);
    let wants =
        request.found.operation.is_some_and(|operation| matches!(operation.body, api::Body::Whole(_)));
    let body = read_body(lane, gate, request, body, admitted.is_ok() && wants).await?;
    let admitted = admitted?;
    charge_rest(lane, &admitted, body.seen)?;
    let principal = admitted.principal;
    if let (Some(endpoint), Need::Scope(scope)) = (request.found.endpoint, request.found.need())
        && endpoint.has_tenant()
    {
        check_tenant(lane, &principal, &request.tenant, scope)?;
        charge_tenant(lane, request, &principal, &request.tenant, body.bytes.len() as u64)?;
    }
    Ok((principal, body))
}

/// Reads the complete body, within the endpoint's limit and the lane's memory limit. Stores it if `keep` is set.
async fn read_body<'l>(
    lane: &'l Lane,
    gate: &SharedGate,
    request: &RequestHead,
    mut body: Incoming,
    keep: bool,
) -> Result<Body<'l>, Refusal> {
    let decoded_bytes_max = request.found.body_bytes_max(&lane.vitals.config) as usize;
    let bytes_max = sent_bytes_max(request.coding(), decoded_bytes_max);
    // This precedes the first read, which would ask a waiting client to send the body.
    if body.size_hint().lower() > bytes_max as u64 {
        return Err(Refusal::BodyTooLarge);
    }
    let (held, _lane) = (lane.memory.hold(), std::marker::PhantomData);
    let mut read = Body { bytes: Bytes::new(), seen: 0, held, _lane };
    let mut more = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            // The cause is a malformed chunk or a time limit, which the gate has recorded, or a peer that left
            // halfway.
            return Err(gate.borrow().refused().unwrap_or(Refusal::BodyIncomplete));
        };
        let Ok(data) = frame.into_data() else { continue };
        read.seen += data.len();
        if read.seen > bytes_max {
            return Err(Refusal::BodyTooLarge);
        }
        if !keep {
            continue;
        }
        if read.held.add(data.len()).is_err() && !lane.release_memory() {
            return Err(Refusal::BuffersFull);
        }
        if read.bytes.is_empty() && more.is_empty() {
            read.bytes = data;
            continue;
        }
        // The pieces are copied into one buffer, because a client that sends single bytes must not cause an
        // allocation for each byte.
        if more.is_empty() {
            more.extend_from_slice(&std::mem::take(&mut read.bytes));
        }
        more.extend_from_slice(&data);
    }
    if !more.is_empty() {
        read.bytes = Bytes::from(more);
    }
    Ok(read)
}
