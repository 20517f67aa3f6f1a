//! One core's executor: hyper for every connection the hot lane hands over, and the group fdatasync
//! that `ack=disk` waits for.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body as _, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};

use super::gated::{Gated, SharedGate, Times};
use super::handover::HandedOver;
use crate::api;
use crate::api::error::EventRefused;
use crate::base::clock;
use crate::config::AckLevel;
use crate::cores::executor::{self, Files};
use crate::cores::socket::Socket;
use crate::cores::stop::Stage;
use crate::cores::wake::Wake;
use crate::http::{Answer, Coding, Method, REFUSED_PATH, Refusal, RequestIds, sent_bytes_max};
use crate::ingest::{Intake, Refused};
use crate::journal::Syncer;
use crate::ops;
use crate::ops::vitals::{CoreVitals, Latency, Vitals};

/// How often the lane looks at the stages of stopping and publishes its latencies.
const HOUSEKEEPING: Duration = Duration::from_millis(200);
/// What a refused or finished peer may still send before the socket is closed, in bytes and time.
const LINGER_BYTES_MAX: usize = 1 << 20;
const LINGER: Duration = Duration::from_secs(1);

/// What an executor lane is made of.
pub(super) struct Parts {
    pub(super) core: usize,
    pub(super) vitals: Arc<Vitals>,
    pub(super) intake: Intake,
    pub(super) request_ids: RequestIds,
    pub(super) handed_over: async_channel::Receiver<HandedOver>,
    pub(super) sync_wanted: (async_channel::Sender<()>, async_channel::Receiver<()>),
    /// Every lane this core appends to.
    pub(super) syncers: Vec<Syncer>,
    pub(super) listener_wake: Arc<Wake>,
}

struct Lane {
    me: Arc<CoreVitals>,
    vitals: Arc<Vitals>,
    intake: RefCell<Intake>,
    request_ids: RefCell<RequestIds>,
    latency: RefCell<Latency>,
    sync_wanted: async_channel::Sender<()>,
    /// Those who wait for the next fdatasync.
    waiting: RefCell<Vec<Waker>>,
    open: Cell<usize>,
    times: Times,
    event_bytes_max: usize,
    /// Bodies being read, all connections together.
    body_bytes: Cell<usize>,
    body_bytes_max: usize,
}

/// Serves until the server flushes.
pub(super) async fn run(parts: Parts) {
    let config = &parts.vitals.config;
    let lane = Rc::new(Lane {
        me: parts.vitals.cores[parts.core].clone(),
        intake: RefCell::new(parts.intake),
        request_ids: RefCell::new(parts.request_ids),
        latency: RefCell::default(),
        sync_wanted: parts.sync_wanted.0,
        waiting: RefCell::default(),
        open: Cell::new(0),
        times: Times {
            head: config.head_timeout,
            body: config.body_timeout,
            idle: config.idle_timeout,
            write: config.write_timeout,
        },
        event_bytes_max: config.event_bytes_max as usize,
        body_bytes: Cell::new(0),
        body_bytes_max: config.buffer_bytes_max as usize / parts.vitals.cores.len(),
        vitals: parts.vitals.clone(),
    });
    executor::spawn(sync(lane.clone(), parts.sync_wanted.1, parts.syncers, parts.listener_wake));
    let handed_over = parts.handed_over;
    let accepting = lane.clone();
    executor::spawn(async move {
        while let Ok(handed) = handed_over.recv().await {
            let lane = accepting.clone();
            executor::spawn(async move {
                let counted = Counted::new(&lane);
                serve(&lane, handed).await;
                drop(counted);
            });
        }
    });
    while lane.vitals.stop.stage() < Stage::Flushing {
        executor::sleep(HOUSEKEEPING).await;
        lane.me.executor.buffer_bytes.set(lane.body_bytes.get() as u64);
        lane.me.executor.ack_latency.store(Arc::new(lane.latency.borrow().clone()));
    }
}

/// Keeps the counts of connections right however the task ends.
struct Counted<'l>(&'l Lane);

impl<'l> Counted<'l> {
    fn new(lane: &'l Lane) -> Counted<'l> {
        lane.open.set(lane.open.get() + 1);
        Counted(lane)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
        self.0.me.connection_closed();
    }
}

// ── the group fdatasync ─────────────────────────────────────────────────────────────────────────────

/// One fdatasync after the other, each for everything appended before it began.
async fn sync(
    lane: Rc<Lane>,
    wanted: async_channel::Receiver<()>,
    mut syncers: Vec<Syncer>,
    listener: Arc<Wake>,
) {
    let files = Files::default();
    while wanted.recv().await.is_ok() {
        for syncer in &mut syncers {
            let Some(plan) = syncer.plan() else { continue };
            let mut outcome = Ok(());
            for file in &plan.files {
                let synced = files.sync_data(file).await;
                // Gone: the database holds everything in it, durably.
                let is_released = matches!(&synced, Err(error) if error.kind() == io::ErrorKind::NotFound);
                outcome = if is_released { outcome } else { outcome.and(synced) };
            }
            if let Some(folder) = &plan.directory {
                outcome = outcome.and(files.sync_folder(folder).await);
            }
            match outcome {
                Ok(()) => syncer.done(plan),
                Err(error) => {
                    tracing::error!(%error, "fdatasync of the journal failed; its events are not acked as `disk`");
                    syncer.failed(plan);
                }
            }
        }
        listener.wake();
        for waker in lane.waiting.borrow_mut().drain(..) {
            waker.wake();
        }
    }
}

/// Waits until the lane's bytes up to `upto` are on disk; whether they are.
async fn on_disk(lane: &Lane, appended: crate::ingest::Appended) -> bool {
    let _ = lane.sync_wanted.try_send(());
    poll_fn(|context| {
        let intake = lane.intake.borrow();
        if intake.synced(appended.lane) >= appended.upto {
            return Poll::Ready(true);
        }
        if intake.sync_failed(appended.lane) {
            return Poll::Ready(false);
        }
        lane.waiting.borrow_mut().push(context.waker().clone());
        Poll::Pending
    })
    .await
}

// ── connections ─────────────────────────────────────────────────────────────────────────────────────

async fn serve(lane: &Rc<Lane>, handed: HandedOver) {
    let (stream, unread) = handed.into_parts();
    let socket = match Socket::adopt(lane.vitals.runtime, stream) {
        Ok(socket) => socket,
        Err(error) => {
            tracing::warn!(%error, "a socket could not be handed over; closed");
            return;
        }
    };
    let gate: SharedGate = SharedGate::default();
    let gated = Gated::new(socket, unread, gate.clone(), lane.times);
    let service = service_fn(|request| {
        let (lane, gate) = (lane.clone(), gate.clone());
        Box::pin(async move { Ok::<_, Infallible>(respond(&lane, &gate, request).await) })
    });
    let mut connection = hyper::server::conn::http1::Builder::new()
        .half_close(true)
        .max_headers(crate::base::limits::HEADER_COUNT_MAX)
        .max_buf_size(crate::base::limits::HEAD_BYTES_MAX * 2)
        .auto_date_header(false)
        .serve_connection(gated, service);
    let mut draining = false;
    let mut tick: Pin<Box<dyn Future<Output = ()>>> = Box::pin(executor::sleep(HOUSEKEEPING));
    let outcome = poll_fn(|context| {
        if !draining {
            // Looked at now and then, so that an idle connection does not hold up a stop.
            while tick.as_mut().poll(context).is_ready() {
                if lane.vitals.stop.stage() >= Stage::Draining {
                    draining = true;
                    Pin::new(&mut connection).graceful_shutdown();
                    break;
                }
                tick = Box::pin(executor::sleep(HOUSEKEEPING));
            }
        }
        connection.poll_without_shutdown(context)
    })
    .await;
    drop(outcome); // A peer that went away or broke off is no news.
    linger(connection.into_parts().io.into_socket()).await;
}

/// Ends our direction and drops what the peer still sends, so that it reads our last answer instead of
/// a reset.
async fn linger(mut socket: Socket) {
    let _ = poll_fn(|context| socket.poll_shutdown(context)).await;
    let mut left = LINGER_BYTES_MAX;
    let mut scratch = vec![0; 16 * 1024];
    let mut alarm = Box::pin(executor::sleep(LINGER));
    poll_fn(|context| {
        loop {
            if alarm.as_mut().poll(context).is_ready() {
                return Poll::Ready(());
            }
            match socket.poll_read(context, &mut scratch) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(count)) if count > 0 && count < left => left -= count,
                Poll::Ready(_) => return Poll::Ready(()),
            }
        }
    })
    .await;
}

// ── requests ────────────────────────────────────────────────────────────────────────────────────────

type RequestHead = hyper::http::request::Parts;

async fn respond(lane: &Lane, gate: &SharedGate, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let started_us = clock::monotonic_us();
    let (request, body) = request.into_parts();
    let taken_over = request.headers.get_all("x-request-id").iter();
    let request_id = match taken_over.filter_map(|id| crate::http::taken_over(id.as_bytes())).last() {
        Some(id) => id.to_owned(),
        None => lane.request_ids.borrow_mut().give().to_owned(),
    };
    let has_origin = request.headers.contains_key("origin");
    let method = match request.method {
        hyper::Method::GET => Method::Get,
        hyper::Method::HEAD => Method::Head,
        hyper::Method::POST => Method::Post,
        hyper::Method::OPTIONS => Method::Options,
        _ => Method::Other,
    };
    let (endpoint, argument) = api::find(request.uri.path());
    let problems = &lane.me.executor.problems;
    let limit = lane.event_bytes_max as u64;
    let refused = |refusal| api::error::refusal(refusal, limit, &request_id, problems);
    let refusal = gate.borrow().refused();
    let answer = match refusal {
        Some(refusal) if request.uri.path() == REFUSED_PATH => refused(refusal),
        // Whole before anybody looks at it, as on the hot lane: the same bodies are refused, and the next
        // request stands where it should.
        _ => match read_body(lane, gate, &request, body).await {
            Err(refusal) => refused(refusal),
            Ok(body) if endpoint == api::Endpoint::Event && method == Method::Post => {
                match take_event(lane, &request, body).await {
                    Ok(answer) => {
                        lane.acked(started_us);
                        answer
                    }
                    Err(refused) => api::error::refused(&refused, limit, &request_id, problems),
                }
            }
            Ok(_) => {
                let accept = request.headers.get("accept").and_then(|value| value.to_str().ok());
                let format = ops::negotiate(accept);
                let asked = api::Asked { endpoint, argument, method, format, request_id: &request_id };
                api::plain(&asked, &lane.vitals, problems)
            }
        },
    };
    lane.me.executor.count_request(endpoint as usize, answer.status);
    let closing = lane.vitals.stop.stage() >= Stage::Draining || is_last(&request);
    response(answer, &request_id, has_origin, closing)
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
fn coding(request: &RequestHead) -> Option<Coding> {
    let mut codings = request.headers.get_all("content-encoding").iter();
    match (codings.next(), codings.next()) {
        (None, _) => Some(Coding::Identity),
        (Some(coding), None) => Coding::from_header(coding.as_bytes()),
        _ => None,
    }
}

/// A body, counted among the bytes the lane holds until it is dropped.
struct Body<'l> {
    bytes: Bytes,
    lane: &'l Lane,
    held: usize,
}

impl Drop for Body<'_> {
    fn drop(&mut self) {
        self.lane.body_bytes.set(self.lane.body_bytes.get() - self.held);
    }
}

/// Reads the whole body, within the endpoint's limit and the lane's.
async fn read_body<'l>(
    lane: &'l Lane,
    gate: &SharedGate,
    request: &RequestHead,
    mut body: Incoming,
) -> Result<Body<'l>, Refusal> {
    let bytes_max = sent_bytes_max(coding(request), lane.event_bytes_max);
    // Before the first read, which would invite a waiting client to send it.
    if body.size_hint().lower() > bytes_max as u64 {
        return Err(Refusal::BodyTooLarge);
    }
    let mut read = Body { bytes: Bytes::new(), lane, held: 0 };
    let mut more = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            // A broken chunk or a time limit (said by the gate), or a peer that left half-way.
            return Err(gate.borrow().refused().unwrap_or(Refusal::BodyIncomplete));
        };
        let Ok(data) = frame.into_data() else { continue };
        read.held += data.len();
        lane.body_bytes.set(lane.body_bytes.get() + data.len());
        if read.held > bytes_max {
            return Err(Refusal::BodyTooLarge);
        }
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
        self.me.executor.accepted_events.add(1);
    }
}

fn response(answer: Answer, request_id: &str, has_origin: bool, closing: bool) -> Response<Full<Bytes>> {
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
    response.body(Full::new(body)).unwrap_or_else(|error| {
        // Only a header value with control characters could do this, and we write none.
        tracing::error!(%error, "an answer could not be built");
        let mut empty = Response::new(Full::default());
        *empty.status_mut() = hyper::StatusCode::INTERNAL_SERVER_ERROR;
        empty
    })
}
