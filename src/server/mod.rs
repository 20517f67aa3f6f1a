//! Assembly: data folder → journals → writers → cores → listeners, and their orderly shutdown.
//!
//! In: a frozen [`Config`]. Out: a process that serves until it is asked to stop. Owns: every thread, and the order
//! in which they start and end. Never: decides about a request.

mod components;
mod connections;
mod core_loop;
mod endpoints;
mod open;
mod watch;
mod writers;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::JoinHandle;
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM, SIGXFSZ};

use crate::api::error::Asker;
use crate::api::{self, Asked, Caller};
use crate::base::clock;
use crate::base::ids::CoreId;
use crate::base::keys::KeyHasher;
use crate::base::limits::CORE_COUNT_MAX;
use crate::config::{Config, RuntimeChoice};
use crate::cores::executor::{self, Runtime};
use crate::cores::pin::{self, Rank};
use crate::cores::stop::{Stage, Stop};
use crate::cores::wake::Wake;
use crate::cores::{epoll, mailbox, preflight};
use crate::http::{Method, RequestIds};
use crate::ingest::Intake;
use crate::journal::{JournalError, Syncer};
use crate::lane::answer_from_memory;
use crate::ops::vitals::{CoreVitals, Vitals};
use crate::query::{CursorKey, Readers};
use crate::shard::FolderError;
use crate::tenants::{Desk, Keeper, Need, Registry, TenantsError};
use crate::{lane, ops};
use components::Stores;
use endpoints::ENDPOINTS;

/// The maximum number of connections on their way from one core to another, or from a lane to its executor.
const MAILBOX_MAX: usize = 1024;
/// The number of lanes per core: a listener and an executor. Each has its own desk.
const LANES_PER_CORE: usize = 2;
/// The time that the writers always get for their last batches, however long the open requests took.
const LAST_BATCHES_MIN: Duration = Duration::from_secs(1);

/// Why the server did not start, or stopped on its own.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The machine cannot run the server as configured: exit status 78.
    #[error("{0}")]
    Environment(String),
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error(transparent)]
    Tenants(#[from] TenantsError),
    #[error("journal: {0}")]
    Journal(#[from] JournalError),
    #[error("cannot listen on {address}: {source}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("thread {name} ended: {reason}")]
    Thread { name: String, reason: String },
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// An event that the main thread waits for.
enum Event {
    Signal(i32),
    Ended { name: String, outcome: Result<(), String> },
}

/// Returns every operation of the server: path template, method, and required access.
pub fn operations() -> impl Iterator<Item = (&'static str, Method, Need)> {
    let rows = ENDPOINTS.0.iter();
    rows.flat_map(|row| row.operations.iter().map(|operation| (row.path, operation.method, operation.need)))
}

/// Serves until SIGTERM or SIGINT, then drains. The server first reports that it is not ready, then stops accepting
/// connections, and then stores the records that the journals contain. A second signal ends the process at once.
pub fn serve(mut config: Config) -> Result<(), ServeError> {
    let (tell, told) = async_channel::bounded(64);
    watch_signals(tell.clone())?;
    // By default, SIGXFSZ ends the process at a write beyond RLIMIT_FSIZE. With this handler, the write fails
    // instead, and the client gets a 507.
    let ignored = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(SIGXFSZ, ignored)?;
    match preflight::raise_limits() {
        Ok(limits) => {
            let room = preflight::connection_room(limits.nofile);
            if config.connections_max > room {
                tracing::warn!(connections_max = room, "the limit of open files permits fewer connections");
                config.connections_max = room;
            }
        }
        Err(error) => tracing::warn!(%error, "the process limits could not be raised"),
    }
    let runtime = choose_runtime(config.runtime)?;
    let cpus = choose_cpus(&config)?;
    let keeper = Keeper::open(&config.data, cpus.len() * LANES_PER_CORE, clock::unix_us())?;
    may_listen(&config, keeper.registry())?;
    let listeners = bind(config.listen, cpus.len())?;
    let address = listeners[0].local_addr()?;
    let stop = Arc::new(Stop::default());
    let opened = open::open(&config, cpus.len())?;

    let readers = Readers::start(opened.databases, &cpus, config.reader_threads as usize)?;
    let vitals = Arc::new(Vitals {
        routes: ENDPOINTS.routes(),
        board: opened.board.clone(),
        cores: cpus.iter().map(|cpu| Arc::new(CoreVitals::new(*cpu))).collect(),
        exports: Default::default(),
        queries: readers.load(),
        stop: stop.clone(),
        runtime,
        started_us: clock::unix_us(),
        started_monotonic_us: clock::monotonic_us(),
        config,
    });
    // This precedes the pinning of threads, because the `ops` threads inherit the CPUs of the current thread.
    let ops_address = start_ops(&vitals)?;
    let registry = keeper.registry().clone().with_rate_per_address(vitals.config.rate_per_address);
    let watcher = watch::start(vitals.clone(), keeper)?;
    let writers = writers::Writers::start(
        opened.shards,
        opened.folder.manifest().folder_id(),
        &vitals.board,
        (&vitals.config, &registry.keeps()),
        &cpus,
    )?;
    let reading = Reading { registry, keys: opened.keys, cursors: opened.cursors, readers };
    let cores = start_cores(&vitals, opened.lanes, &reading, listeners, &tell)?;
    // The readers end with the last executor.
    drop(reading);
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        listen = %address,
        ops_listen = ops_address.map(|address| address.to_string()),
        data = %vitals.config.data.display(),
        shards = vitals.board.shards.len(),
        cores = ?cpus,
        runtime = runtime.name(),
        "serving"
    );

    let mut failure = None;
    match told.recv_blocking() {
        Ok(Event::Signal(signal)) => tracing::info!(signal, "stopping: unready, then draining"),
        Ok(Event::Ended { name, outcome }) => {
            let reason = outcome.err().unwrap_or_else(|| "without a request to stop".to_owned());
            tracing::error!(thread = name, reason, "a thread ended; stopping");
            failure = Some(ServeError::Thread { name, reason });
        }
        Err(_) => {}
    }
    let left = drain(&vitals, cores);
    writers.finish(left.max(LAST_BATCHES_MIN));
    let flow = vitals.board.flow();
    stop.advance(Stage::Flushing);
    watcher.thread().unpark();
    let _ = watcher.join();
    if flow.pending() > 0 {
        tracing::warn!(
            events = flow.pending(),
            "stopped with events in the journal; they are stored at the next start"
        );
    }
    tracing::info!(received = flow.received, stored = flow.processed, "stopped");
    drop(opened.folder);
    failure.map_or(Ok(()), Err)
}

/// Drains the cores: reports that the server is not ready, closes the listening sockets, waits until all connections
/// are closed or the timeout has passed, and ends the lanes. Returns what is left of the timeout.
fn drain(vitals: &Vitals, cores: Vec<JoinHandle<()>>) -> Duration {
    vitals.stop.advance(Stage::Unready);
    clock::pause(vitals.config.drain_delay);
    vitals.stop.advance(Stage::Draining);
    let deadline = clock::now() + vitals.config.drain_timeout;
    while vitals.connections() > 0 && clock::now() < deadline {
        clock::pause(Duration::from_millis(10));
    }
    vitals.stop.advance(Stage::Flushing);
    for core in cores {
        let _ = core.join();
    }
    deadline.saturating_duration_since(clock::now())
}

/// Reports the first SIGTERM or SIGINT as an event. The second signal ends the process.
fn watch_signals(tell: async_channel::Sender<Event>) -> io::Result<()> {
    let mut signals = signal_hook::iterator::Signals::new([SIGTERM, SIGINT])?;
    thread("signals", move || {
        for (count, signal) in signals.forever().enumerate() {
            if count > 0 {
                // The exit status is 128 + signal, as a shell reports it. No acknowledged event is lost, because the
                // journal contains it.
                std::process::exit(128 + signal);
            }
            let _ = tell.send_blocking(Event::Signal(signal));
        }
    })
    .map(drop)
}

fn thread(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.to_owned()).spawn(body)
}

/// Starts a thread. Reports its end to the main thread if the thread failed, or ended before the server flushes.
fn watched_thread(
    name: String,
    stop: Arc<Stop>,
    tell: async_channel::Sender<Event>,
    body: impl FnOnce() -> Result<(), String> + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let named = name.clone();
    thread(&named, move || {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body))
            .unwrap_or_else(|_| Err("it panicked".to_owned()));
        if stop.stage() < Stage::Flushing || outcome.is_err() {
            let _ = tell.try_send(Event::Ended { name, outcome });
        }
    })
}

fn choose_runtime(choice: RuntimeChoice) -> Result<Runtime, ServeError> {
    if choice == RuntimeChoice::Epoll {
        return Ok(Runtime::Epoll);
    }
    match preflight::io_uring() {
        Ok(()) => Ok(Runtime::IoUring),
        Err(refused) if choice == RuntimeChoice::IoUring => {
            Err(ServeError::Environment(format!("io_uring: {}; {}", refused.reason, refused.remedy)))
        }
        Err(refused) => {
            tracing::warn!(
                reason = refused.reason,
                remedy = refused.remedy,
                "io_uring is refused: serving on epoll"
            );
            Ok(Runtime::Epoll)
        }
    }
}

fn choose_cpus(config: &Config) -> Result<Vec<usize>, ServeError> {
    let available = pin::available();
    let cpus = match &config.cores {
        None => available.into_iter().take(usize::from(CORE_COUNT_MAX)).collect(),
        Some(list) => {
            let allowed = pin::allowed();
            if let Some(missing) = list.cpus().iter().find(|cpu| !allowed.contains(cpu)) {
                let message = format!("this process may not use CPU {missing} ({allowed:?}); change --cores");
                return Err(ServeError::Environment(message));
            }
            list.cpus().to_vec()
        }
    };
    Ok(cpus)
}

/// Checks that there is a valid key if other machines can reach the address, unless the operator set `--insecure`.
fn may_listen(config: &Config, registry: &Registry) -> Result<(), ServeError> {
    let is_loopback = config.listen.ip().to_canonical().is_loopback();
    if is_loopback || config.insecure || registry.has_usable_key(clock::unix_us()) {
        return Ok(());
    }
    Err(ServeError::Environment(format!(
        "other machines can reach --listen {}, and there is no valid key, so anyone could read and write \
         everything; create a key (firehose key create --scope write --data {}), or serve without keys with \
         --insecure",
        config.listen,
        config.data.display()
    )))
}

/// Binds one listening socket per core to the same address.
fn bind(address: SocketAddr, count: usize) -> Result<Vec<TcpListener>, ServeError> {
    let failed = |source| ServeError::Listen { address, source };
    // Sockets that share their port would also share it with another server of the same user. A socket that does not
    // share its port detects such a server.
    drop(TcpListener::bind(address).map_err(failed)?);
    let first = epoll::listen(address).map_err(failed)?;
    let actual = first.local_addr()?;
    let mut listeners = vec![first];
    for _ in 1..count {
        listeners.push(epoll::listen(actual).map_err(failed)?);
    }
    Ok(listeners)
}

fn ops_problem(problem: api::Problem, detail: &str) -> ops::OpsAnswer {
    let kind = ops::OpsProblem { status: problem.status(), slug: problem.slug(), title: problem.title() };
    ops::OpsAnswer::problem(kind, detail)
}

fn start_ops(vitals: &Arc<Vitals>) -> Result<Option<SocketAddr>, ServeError> {
    let Some(address) = vitals.config.ops_listen else { return Ok(None) };
    // This listener requires no key, so the host name is checked even if the server has keys.
    let guard = {
        let vitals = vitals.clone();
        move |asked: &ops::OpsAsked<'_>| {
            let pages = ENDPOINTS.find(asked.path(), Method::Get, None).pages(Method::Get);
            let caller = Caller { host: asked.host, origin: asked.origin };
            caller
                .check(&vitals.config, pages, Method::Get, || true)
                .map_err(|not_called| ops_problem(not_called.problem(), not_called.detail()))
        }
    };
    let pages = {
        let vitals = vitals.clone();
        move |asked: &ops::OpsAsked<'_>| {
            let (path, accept) = (asked.path(), asked.accept);
            let found = ENDPOINTS.find(path, Method::Get, None);
            if !found.endpoint.is_some_and(|endpoint| endpoint.for_operators) {
                let detail = "the operators' listener serves /metrics, /health, /ready and \
                              /debug/flamegraph";
                return ops_problem(api::Problem::NotFound, detail);
            }
            let query = asked.target.split_once('?').map(|(_, query)| query);
            if let Err(error) = ENDPOINTS.check_query(&found, query) {
                return ops_problem(api::Problem::BadParameter, &error.to_string());
            }
            let format = ops::negotiate(accept.as_slice());
            let asker = Asker { request_id: "", problems: &[], body_bytes_max: 0 };
            let asked = Asked::new(path, format, api::Wants::default(), &vitals, asker);
            let answer = answer_from_memory(&found, Method::Get, &asked);
            let is_json = answer.content_type == ops::Media::Json.content_type();
            let media = if is_json { ops::Media::Json } else { format.into() };
            ops::OpsAnswer { status: answer.status, media, body: answer.body.into_owned() }
        }
    };
    ops::start(address, guard, pages).map(Some).map_err(|source| ServeError::Listen { address, source })
}

/// What every core needs to authorize requests, and what its executor needs to route keys and to read rows.
struct Reading {
    registry: Registry,
    keys: KeyHasher,
    cursors: CursorKey,
    readers: Readers,
}

/// Starts the listener and the executor of every core.
fn start_cores(
    vitals: &Arc<Vitals>,
    lanes: Vec<open::CoreLanes>,
    reading: &Reading,
    listeners: Vec<TcpListener>,
    tell: &async_channel::Sender<Event>,
) -> Result<Vec<JoinHandle<()>>, ServeError> {
    let count = lanes.len();
    let wakes = (0..count).map(|_| Wake::new().map(Arc::new)).collect::<io::Result<Vec<_>>>()?;
    let mut inboxes: Vec<Vec<_>> = (0..count).map(|_| Vec::new()).collect();
    let mut outboxes: Vec<Vec<_>> = Vec::new();
    for from in 0..count {
        let mut peers = Vec::new();
        for to in 0..count {
            peers.push((from != to).then(|| {
                let (sender, receiver) = mailbox::mailbox(MAILBOX_MAX, wakes[to].clone());
                inboxes[to].push(receiver);
                sender
            }));
        }
        outboxes.push(peers);
    }
    let (forwards, forwarded): (Vec<_>, Vec<_>) =
        (0..count).map(|_| async_channel::bounded(lane::FORWARDS_MAX)).unzip();
    let stores = Stores::open(&vitals.config)?;
    let mut forwarded = forwarded.into_iter();
    let mut threads = Vec::new();
    let parts = lanes.into_iter().zip(listeners).zip(inboxes).zip(outboxes).zip(wakes).enumerate();
    for (core, ((((lanes, listener), inbox), peers), wake)) in parts {
        let Some(forwarded_to_me) = forwarded.next() else { break };
        let config = &vitals.config;
        let (event_bytes_max, high_water) = (config.event_bytes_max as usize, config.journal_high_water);
        let intake = |appenders| Intake::new(vitals.board.clone(), appenders, event_bytes_max, high_water);
        let (handed_over, hand_over) = async_channel::bounded(MAILBOX_MAX);
        let (sync_wanted, sync_asked) = async_channel::bounded(1);
        let syncers = lanes.states().map(Syncer::new).collect();
        let id = CoreId(core as u16);
        let executor_parts = lane::Parts {
            endpoints: &ENDPOINTS,
            core,
            vitals: vitals.clone(),
            intake: intake(lanes.keyed),
            request_ids: RequestIds::new(id, true),
            desk: Desk::new(&reading.registry),
            handed_over: hand_over,
            sync_wanted: sync_asked,
            syncers,
            listener_wake: wake.clone(),
            keys: reading.keys,
            cursors: reading.cursors,
            readers: reading.readers.clone(),
            verdicts: lanes.verdicts,
            committed: lanes.committed,
            forwards: forwards.clone(),
            forwarded: forwarded_to_me,
            components: {
                let (stores, prices_changed) = (stores.clone(), lanes.prices_changed);
                Box::new(move || stores.components(core, prices_changed))
            },
        };
        let listener_parts = core_loop::Parts {
            core,
            vitals: vitals.clone(),
            wake,
            intake: intake(lanes.hot),
            request_ids: RequestIds::new(id, false),
            desk: Desk::new(&reading.registry),
            inbox,
            peers,
            executor: handed_over,
            sync_wanted,
        };
        let (cpu, runtime) = (vitals.cores[core].cpu, vitals.runtime);
        let name = format!("exec-{core}");
        threads.push(watched_thread(name.clone(), vitals.stop.clone(), tell.clone(), move || {
            settle(cpu, Rank::Executor);
            let stop = executor_parts.vitals.stop.clone();
            let outcome = executor::run(runtime, &name, cpu, lane::run(executor_parts));
            debug_assert!(outcome.is_err() || stop.stage() >= Stage::Flushing);
            outcome.map_err(|error| error.to_string())
        })?);
        threads.push(watched_thread(
            format!("listen-{core}"),
            vitals.stop.clone(),
            tell.clone(),
            move || {
                settle(cpu, Rank::Listener);
                let serving =
                    core_loop::CoreLoop::new(listener_parts, listener).and_then(core_loop::CoreLoop::run);
                serving.map_err(|error| error.to_string())
            },
        )?);
    }
    Ok(threads)
}

/// Pins the calling thread. If the system refuses this, the server is slower, but still correct.
fn settle(cpu: usize, rank: Rank) {
    if let Err(error) = pin::settle(cpu, rank) {
        tracing::warn!(cpu, %error, "a thread could not be pinned or ranked");
    }
}
