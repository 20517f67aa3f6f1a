//! One core's executor: hyper for every connection that the hot lane hands over, and the group fdatasync that
//! `ack=disk` waits for.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::os::fd::AsRawFd as _;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use hyper::body::Body as _;
use hyper::service::service_fn;

use super::call::Handler;
use super::component::Components;
use super::gated::{Gated, SharedGate, Timeouts};
use super::handover::HandedOver;
use super::logged::Samples;
use super::mailbox::{Forward, Keyed};
use super::memory::Memory;
use super::presence::{End, Ended, Presence, Presences, WatchedBody};
use super::respond::respond;
use super::response::Date;
use super::state::Lane;
use super::{keyed, sync};
use crate::api::Endpoints;
use crate::base::keys::KeyHasher;
use crate::cores::socket::Socket;
use crate::cores::stop::Stage;
use crate::cores::wake::Wake;
use crate::cores::{epoll, executor};
use crate::event::Decoder;
use crate::http::RequestIds;
use crate::ingest::{Intake, Verdicts};
use crate::journal::Syncer;
use crate::ops::vitals::Vitals;
use crate::query::{CursorKey, Readers};
use crate::tenants::Desk;

/// How often the lane checks the server's stop stage and publishes its latencies.
const HOUSEKEEPING: Duration = Duration::from_millis(200);
/// The maximum number of bytes that are read from a refused or finished peer before its socket is closed.
const LINGER_BYTES_MAX: usize = 1 << 20;
/// How long a refused or finished peer is read before its socket is closed.
const LINGER: Duration = Duration::from_secs(1);

/// The parts of an executor lane.
pub struct Parts {
    pub endpoints: &'static Endpoints<Handler>,
    pub core: usize,
    pub vitals: Arc<Vitals>,
    pub intake: Intake,
    pub request_ids: RequestIds,
    pub desk: Desk,
    pub handed_over: async_channel::Receiver<HandedOver>,
    /// Receives a message when the listener wants its journals on disk.
    pub sync_wanted: async_channel::Receiver<()>,
    /// One syncer for each lane that this core appends to.
    pub syncers: Vec<Syncer>,
    pub listener_wake: Arc<Wake>,
    pub keys: KeyHasher,
    pub cursors: CursorKey,
    pub readers: Readers,
    pub verdicts: Vec<Arc<Verdicts>>,
    pub committed: async_channel::Receiver<()>,
    /// The senders to every core's executor, and this core's mailbox.
    pub forwards: Vec<async_channel::Sender<Forward>>,
    pub forwarded: async_channel::Receiver<Forward>,
    /// Creates this core's components, on its own thread.
    pub components: Box<dyn FnOnce() -> Components + Send>,
}

/// Serves until the server flushes.
pub async fn run(parts: Parts) {
    let config = &parts.vitals.config;
    let lane = Rc::new(Lane {
        endpoints: parts.endpoints,
        core: parts.core,
        me: parts.vitals.cores[parts.core].clone(),
        intake: RefCell::new(parts.intake),
        request_ids: RefCell::new(parts.request_ids),
        desk: RefCell::new(parts.desk),
        latency: RefCell::default(),
        sync_wanted: async_channel::bounded(1),
        waiting: RefCell::default(),
        samples: Samples::default(),
        date: Date::default(),
        times: Timeouts {
            head: config.head_timeout,
            body: config.body_timeout,
            idle: config.idle_timeout,
            write: config.write_timeout,
        },
        decoder: RefCell::new(Decoder::new()),
        keys: parts.keys,
        cursors: parts.cursors,
        readers: parts.readers,
        shard_count: parts.vitals.board.shards.len() as u16,
        keyed: Keyed::new(parts.verdicts, parts.forwards, config.commit_wait),
        components: (parts.components)(),
        claims: RefCell::default(),
        draining: async_channel::bounded(1),
        presences: Presences::default(),
        memory: Memory::new(config.buffer_bytes_a_core(parts.vitals.cores.len())),
        vitals: parts.vitals.clone(),
    });
    executor::spawn(sync::run(lane.clone(), parts.sync_wanted, parts.syncers, parts.listener_wake));
    executor::spawn(keyed::run_flushes(lane.clone()));
    executor::spawn(keyed::run_commits(lane.clone(), parts.committed));
    executor::spawn(keyed::run_forwards(lane.clone(), parts.forwarded));
    lane.components.start(&lane);
    let handed_over = parts.handed_over;
    let accepting = lane.clone();
    executor::spawn(async move {
        while let Ok(handed) = handed_over.recv().await {
            let lane = accepting.clone();
            executor::spawn(async move {
                let counted = Counted(&lane);
                serve(&lane, handed).await;
                drop(counted);
            });
        }
    });
    while lane.vitals.stop.stage() < Stage::Flushing {
        executor::sleep(HOUSEKEEPING).await;
        if lane.vitals.stop.stage() >= Stage::Draining {
            lane.draining.0.close();
        }
        keyed::flush(&lane);
        lane.presences.look(lane.vitals.stop.stage() >= Stage::Draining);
        lane.components.tick(&lane);
        lane.intake.borrow_mut().rotate();
        lane.me.executor.buffer_bytes.set(lane.memory.bytes() as u64);
        lane.me.executor.ack_latency.store(Arc::new(lane.latency.borrow().clone()));
    }
    keyed::flush(&lane);
    lane.intake.borrow_mut().rotate_suppressed();
}

/// Keeps the connection count correct, however the task ends.
struct Counted<'l>(&'l Lane);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.me.connection_closed();
    }
}

async fn serve(lane: &Rc<Lane>, handed: HandedOver) {
    let (stream, unread) = handed.into_parts();
    let by_address = lane.vitals.config.rate_per_address.is_some();
    let fd = stream.as_raw_fd();
    let peer = by_address.then(|| stream.peer_addr().ok()).flatten().map(|address| address.ip());
    let socket = match Socket::adopt(lane.vitals.runtime, stream) {
        Ok(socket) => socket,
        Err(error) => {
            tracing::warn!(%error, "a socket could not be handed over and is closed");
            return;
        }
    };
    let gate: SharedGate = SharedGate::default();
    let presence: Rc<Presence> = Rc::default();
    let gated = Gated::new(socket, unread, gate.clone(), presence.clone(), lane.times);
    let service = service_fn(|request| {
        let (lane, gate, watch) = (lane.clone(), gate.clone(), presence.watch(&request));
        let (presence, is_old) = (presence.clone(), request.version() == hyper::Version::HTTP_10);
        Box::pin(async move {
            let response = respond(&lane, &gate, peer, request).await;
            if is_old && response.body().size_hint().exact().is_none() {
                presence.open_end(fd);
            }
            Ok::<_, Infallible>(response.map(|body| WatchedBody::new(body, presence, watch)))
        })
    });
    let mut connection = hyper::server::conn::http1::Builder::new()
        .half_close(true)
        .max_headers(crate::base::limits::HEADER_COUNT_MAX)
        .max_buf_size(crate::base::limits::HEAD_BYTES_MAX * 2)
        .auto_date_header(false)
        .serve_connection(gated, service);
    let served = lane.presences.add(fd, presence.clone());
    // This channel is closed when the server drains, so that an idle connection does not delay a stop.
    let mut bell = pin!(lane.draining.1.recv());
    let mut draining = false;
    let outcome = poll_fn(|context| {
        if !draining && bell.as_mut().poll(context).is_ready() {
            draining = true;
            Pin::new(&mut connection).graceful_shutdown();
        }
        let polled = match connection.poll_without_shutdown(context) {
            // hyper has rendered the last response, and the socket has not taken all of it.
            Poll::Ready(Ok(())) if presence.is_blocked.get() => Poll::Pending,
            polled => polled,
        };
        match presence.poll_ended(context) {
            Some(ended) if polled.is_pending() => Poll::Ready(Err(ended)),
            _ => polled.map(Ok),
        }
    })
    .await;
    drop(served);
    let is_whole = match presence.end.get() {
        End::Framed => true,
        End::Open => false,
        End::Complete => matches!(outcome, Ok(Ok(()))) && epoll::reset_on_close(fd, false).is_ok(),
    };
    // A peer that left or reset the connection is not worth a log line.
    let ended = match outcome {
        Err(ended) => Some(ended),
        Ok(Err(error)) if presence.is_reading() && is_gone(&error) => Some(Ended::ClientGone),
        Ok(_) => None,
    };
    if let Some(ended) = ended {
        lane.me.executor.count_ended(ended == Ended::Stopped);
    }
    if ended == Some(Ended::ClientGone) || !is_whole {
        return;
    }
    linger(connection.into_parts().io.into_socket()).await;
}

/// Returns `true` if a write failed because the client has left. A client that does not read for too long has not.
fn is_gone(error: &hyper::Error) -> bool {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<std::io::Error>());
    cause.is_some_and(|cause| cause.kind() != std::io::ErrorKind::TimedOut)
}

/// Shuts down our sending side and drops what the peer still sends, so that the peer reads our last response instead
/// of a reset.
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
