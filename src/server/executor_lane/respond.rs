//! One request of the executor's lane: its body whole, then the same answer as on the hot lane.

use std::cell::Cell;
use std::ops::Deref;
use std::rc::Rc;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use hyper::{Request, Response};

use super::admit::{admit, charge_rest, with_standing};
use super::body::AnswerBody;
use super::reads::{self, NotRead, Read};
use super::sync::on_disk;
use super::{Lane, SharedGate, events, exports, orders, people, prices, stock, uploads};
use crate::api;
use crate::api::error::EventRefused;
use crate::base::clock;
use crate::config::AckLevel;
use crate::cores::stop::Stage;
use crate::http::{Answer, Coding, Method, REFUSED_PATH, Refusal, sent_bytes_max};
use crate::ingest::Refused;
use crate::ops;
use crate::tenants::{Denied, Payer, Principal};

/// The head of a request, and who pays for it.
pub(super) struct RequestHead {
    parts: hyper::http::request::Parts,
    /// Whose budget was charged, once one was.
    pub(super) payer: Cell<Option<Payer>>,
}

impl Deref for RequestHead {
    type Target = hyper::http::request::Parts;

    fn deref(&self) -> &Self::Target {
        &self.parts
    }
}

pub(super) async fn respond(
    lane: &Rc<Lane>,
    gate: &SharedGate,
    request: Request<Incoming>,
) -> Response<AnswerBody> {
    let started_us = clock::monotonic_us();
    let (parts, body) = request.into_parts();
    let request = RequestHead { parts, payer: Cell::new(None) };
    let taken_over = request.headers.get_all("x-request-id").iter();
    let request_id = match taken_over.filter_map(|id| crate::http::taken_over(id.as_bytes())).next_back() {
        Some(id) => id.to_owned(),
        None => lane.request_ids.borrow_mut().give().to_owned(),
    };
    let has_origin = request.headers.contains_key("origin");
    let method = match request.method {
        hyper::Method::GET => Method::Get,
        hyper::Method::HEAD => Method::Head,
        hyper::Method::POST => Method::Post,
        hyper::Method::OPTIONS => Method::Options,
        hyper::Method::PUT => Method::Put,
        hyper::Method::PATCH => Method::Patch,
        hyper::Method::DELETE => Method::Delete,
        _ => Method::Other,
    };
    let (endpoint, argument) = api::find(request.uri.path());
    let problems = &lane.me.executor.problems;
    let limit = endpoint.body_bytes_max(&lane.vitals.config);
    let refused = |refusal| api::error::refusal(refusal, limit, &request_id, problems);
    let plain = || {
        let header = |name| request.headers.get(name).and_then(|value| value.to_str().ok());
        let accept = header("accept");
        let format = ops::negotiate(accept);
        let wants = api::Wants::new(accept, header("accept-encoding"), header("if-none-match"));
        let asked = api::Asked { endpoint, argument, method, format, wants, request_id: &request_id };
        api::plain(&asked, &lane.vitals, problems)
    };
    let refusal = gate.borrow().refused();
    let mut streamed = None;
    let answer = match refusal {
        Some(refusal) if request.uri.path() == REFUSED_PATH => refused(refusal),
        _ if endpoint.is_commerce() && endpoint.has_tenant() && !api::commerce::is_tenant(argument) => {
            api::commerce::no_such_tenant(&request_id, problems)
        }
        _ if endpoint.has_product() && !api::prices::is_product(argument) => {
            api::prices::no_such_product(&request_id, problems)
        }
        _ if endpoint == api::Endpoint::OrdersIngest && method == Method::Post => {
            match orders::post(lane, gate, &request, body).await {
                Ok(answer) => answer,
                Err((error, summary)) => {
                    api::commerce::ingest_refused(&error, summary.as_ref(), &request_id, problems)
                }
            }
        }
        _ if endpoint.is_upload() && endpoint.streams_in(method) => {
            match uploads::take(lane, gate, endpoint, argument, &request, body).await {
                Ok(answer) => answer,
                Err(refused) => refused.answer(&request_id, problems),
            }
        }
        // Whole before anybody looks at it, as on the hot lane: the same bodies are refused, and the next
        // request stands where it should.
        _ => match admitted_body(lane, gate, endpoint, method, &request, body, limit as usize).await {
            // That nobody wants the body is a better reason than its size.
            Err(NotTaken::Refused(Refusal::BodyTooLarge)) if !endpoint.takes(method) => {
                Answer { close: true, ..plain() }
            }
            Err(NotTaken::Refused(refusal)) => refused(refusal),
            Err(NotTaken::Denied(denied)) => api::access::denied(denied, &request_id, problems),
            Ok((principal, body)) if method == Method::Post && endpoint.takes_events() => {
                let taken = match endpoint {
                    api::Endpoint::Events => events::post_one(lane, &request, &principal, body).await,
                    api::Endpoint::EventsBulk => events::post_bulk(lane, &request, &principal, body).await,
                    _ => take_event(lane, &request, body).await,
                };
                match taken {
                    Ok(answer) => {
                        lane.acked(started_us);
                        answer
                    }
                    Err(refused) => api::error::refused(&refused, limit, &request_id, problems),
                }
            }
            Ok((principal, body)) if method == Method::Patch && endpoint == api::Endpoint::Order => {
                match orders::patch(lane, argument, &request, &principal, &body.bytes).await {
                    Ok(answer) => answer,
                    Err(error) => api::commerce::status_refused(&error, &request_id, problems),
                }
            }
            Ok((principal, body)) if method == Method::Put && endpoint == api::Endpoint::StockUpdate => {
                let taken = stock::put(lane, argument, &request, &principal, body).await;
                taken.unwrap_or_else(|error| api::stock::refused(&error, limit, &request_id, problems))
            }
            Ok((principal, _))
                if matches!(method, Method::Get | Method::Head) && endpoint == api::Endpoint::Stock =>
            {
                let found = stock::get(lane, argument, &request, &principal).await;
                found.unwrap_or_else(|error| api::stock::refused(&error, limit, &request_id, problems))
            }
            Ok((principal, body))
                if method == Method::Post && endpoint.is_prices() && endpoint.takes(method) =>
            {
                let taken = match endpoint {
                    api::Endpoint::PriceEvent => {
                        prices::post_event(lane, argument, &request, &principal, body).await
                    }
                    _ => prices::post_review(lane, argument, &request, &principal, body).await,
                };
                taken.unwrap_or_else(|refused| api::prices::refused(&refused, limit, &request_id, problems))
            }
            Ok((principal, _)) if people::is_asked(endpoint, method) => {
                match people::ask(lane, endpoint, argument, &request, &principal).await {
                    Ok(answer) => answer,
                    Err(error) => api::people::refused(&error, &request_id, problems),
                }
            }
            Ok((principal, _)) if endpoint == api::Endpoint::OrderUpload && uploads::is_asked(method) => {
                match uploads::ask(lane, method, argument, &request, &principal).await {
                    Ok(answer) => answer,
                    Err(refused) => api::uploads::refused(&refused, &request_id, problems),
                }
            }
            Ok((principal, body)) if exports::is_asked(endpoint, method) => {
                let asked = exports::ask(lane, endpoint, method, argument, &request, &principal, &body.bytes);
                match asked.await {
                    Ok(Read::Whole(answer)) => answer,
                    Ok(Read::Rows(answer, body)) => {
                        streamed = Some(body);
                        answer
                    }
                    Err(refused) => api::exports::refused(&refused, &request_id, problems),
                }
            }
            Ok((principal, _))
                if matches!(method, Method::Get | Method::Head) && reads::is_read(endpoint, &request) =>
            {
                let head_only = method == Method::Head;
                let tenant_id = api::commerce::tenant(argument);
                let read = if endpoint.is_prices() {
                    prices::list(lane, endpoint, argument, &request, &principal, head_only).await
                } else {
                    reads::read(lane, endpoint, &tenant_id, &request, &principal, head_only).await
                };
                match read {
                    Ok(Read::Whole(answer)) => answer,
                    Ok(Read::Rows(answer, body)) => {
                        streamed = Some(body);
                        answer
                    }
                    Err(NotRead::Query(error)) => api::reads::refused(&error, &request_id, problems),
                    Err(NotRead::Denied(denied)) => api::access::denied(denied, &request_id, problems),
                }
            }
            Ok(_) => plain(),
        },
    };
    let answer = with_standing(lane, endpoint, &request, answer);
    lane.me.executor.count_request(endpoint as usize, answer.status);
    let duration_us = clock::monotonic_us() - started_us;
    tracing::debug!(request_id, route = endpoint.route(), status = answer.status, duration_us, "answered");
    let closing = lane.vitals.stop.stage() >= Stage::Draining || is_last(&request);
    response(answer, streamed, &request_id, has_origin, closing)
}

/// An HTTP/1.0 request that does not ask to keep the connection.
fn is_last(request: &RequestHead) -> bool {
    let asks = |value: &hyper::header::HeaderValue| {
        let mut options = value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        options.any(|option| option.eq_ignore_ascii_case(b"keep-alive"))
    };
    request.version == hyper::Version::HTTP_10 && !request.headers.get_all("connection").iter().any(asks)
}

/// `None` where the request names a coding that is not understood, or several.
pub(super) fn coding(request: &RequestHead) -> Option<Coding> {
    let mut codings = request.headers.get_all("content-encoding").iter();
    match (codings.next(), codings.next()) {
        (None, _) => Some(Coding::Identity),
        (Some(coding), None) => Coding::from_header(coding.as_bytes()),
        _ => None,
    }
}

/// A body, counted among the bytes the lane holds until it is dropped.
pub(super) struct Body<'l> {
    pub(super) bytes: Bytes,
    lane: &'l Lane,
    held: usize,
}

impl Drop for Body<'_> {
    fn drop(&mut self) {
        self.lane.body_bytes.set(self.lane.body_bytes.get() - self.held);
    }
}

/// Why there is no body to work on.
enum NotTaken {
    Refused(Refusal),
    Denied(Denied),
}

/// Who asks, and their body. That of one who may not, or that nobody wants, is read all the same, so that the next
/// request stands where it should, but not kept.
async fn admitted_body<'l>(
    lane: &'l Lane,
    gate: &SharedGate,
    endpoint: api::Endpoint,
    method: Method,
    request: &RequestHead,
    body: Incoming,
    decoded_bytes_max: usize,
) -> Result<(Principal, Body<'l>), NotTaken> {
    let admitted = admit(lane, endpoint, method, request, &body);
    let keep = admitted.is_ok() && endpoint.takes(method);
    let read = read_body(lane, gate, request, body, decoded_bytes_max, keep).await;
    let body = read.map_err(NotTaken::Refused)?;
    let admitted = admitted.map_err(NotTaken::Denied)?;
    charge_rest(lane, &admitted, body.bytes.len()).map_err(NotTaken::Denied)?;
    Ok((admitted.principal, body))
}

/// Reads the whole body, within the endpoint's limit and the lane's; keeps it if told to.
async fn read_body<'l>(
    lane: &'l Lane,
    gate: &SharedGate,
    request: &RequestHead,
    mut body: Incoming,
    decoded_bytes_max: usize,
    keep: bool,
) -> Result<Body<'l>, Refusal> {
    let bytes_max = sent_bytes_max(coding(request), decoded_bytes_max);
    // Before the first read, which would invite a waiting client to send it.
    if body.size_hint().lower() > bytes_max as u64 {
        return Err(Refusal::BodyTooLarge);
    }
    let mut read = Body { bytes: Bytes::new(), lane, held: 0 };
    let (mut more, mut seen_bytes) = (Vec::new(), 0);
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            // A broken chunk or a time limit (said by the gate), or a peer that left half-way.
            return Err(gate.borrow().refused().unwrap_or(Refusal::BodyIncomplete));
        };
        let Ok(data) = frame.into_data() else { continue };
        seen_bytes += data.len();
        if seen_bytes > bytes_max {
            return Err(Refusal::BodyTooLarge);
        }
        if !keep {
            continue;
        }
        read.held += data.len();
        lane.body_bytes.set(lane.body_bytes.get() + data.len());
        if lane.body_bytes.get() > lane.body_bytes_max {
            return Err(Refusal::BuffersFull);
        }
        if read.bytes.is_empty() && more.is_empty() {
            read.bytes = data;
            continue;
        }
        // Copied together: a client that sends single bytes must not cost a piece of memory for each.
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

async fn take_event(lane: &Lane, request: &RequestHead, body: Body<'_>) -> Result<Answer, EventRefused> {
    let disk = api::event::wants_disk(request.uri.query(), lane.vitals.config.ack)?;
    let coding = coding(request).ok_or(EventRefused::UnknownCoding)?;
    let (receipt, appended) = {
        let mut intake = lane.intake.borrow_mut();
        intake.begin(clock::monotonic_us());
        let receipt = intake.take(coding, &body.bytes, clock::unix_us())?;
        (receipt, intake.commit().map_err(Refused::Pressure)?)
    };
    lane.me.executor.accepted_bytes.add(body.bytes.len() as u64);
    lane.me.executor.accepted_events.add(1);
    drop(body);
    let level = match (disk, appended) {
        (true, Some(appended)) if !on_disk(lane, appended).await => return Err(EventRefused::Unsynced),
        (true, _) => AckLevel::Disk,
        (false, _) => AckLevel::Os,
    };
    Ok(api::event::accepted(level, receipt))
}

impl Lane {
    fn acked(&self, started_us: u64) {
        let took_us = clock::monotonic_us() - started_us;
        let mut latency = self.latency.borrow_mut();
        latency.histogram.saturating_record(took_us.max(1));
        latency.sum_us += took_us;
    }
}

fn response(
    answer: Answer,
    streamed: Option<AnswerBody>,
    request_id: &str,
    has_origin: bool,
    closing: bool,
) -> Response<AnswerBody> {
    let mut response = Response::builder()
        .status(answer.status)
        .header("Date", &crate::base::clock::http_date(clock::unix_us())[..])
        .header("X-Request-Id", request_id)
        .header("Access-Control-Allow-Origin", "*");
    if has_origin {
        response = response.header("Access-Control-Expose-Headers", crate::http::EXPOSED_HEADERS);
    }
    if answer.close || closing {
        response = response.header("Connection", "close");
    }
    if !answer.content_type.is_empty() {
        response = response.header("Content-Type", answer.content_type);
    }
    for (name, value) in &answer.headers {
        response = response.header(*name, value.as_bytes());
    }
    let body = match answer.body {
        std::borrow::Cow::Borrowed(bytes) => Bytes::from_static(bytes),
        std::borrow::Cow::Owned(bytes) => Bytes::from(bytes),
    };
    response.body(streamed.unwrap_or(AnswerBody::Whole(body))).unwrap_or_else(|error| {
        // Only a header value with control characters could do this, and we write none.
        tracing::error!(%error, "an answer could not be built");
        let mut empty = Response::new(AnswerBody::empty());
        *empty.status_mut() = hyper::StatusCode::INTERNAL_SERVER_ERROR;
        empty
    })
}
