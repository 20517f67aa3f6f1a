//! A run of the shipper: a thread for each shard, and the main thread, which registers the sink and shows the progress.
//!
//! In: a data folder, and a function that makes a shard's connection to the target. Out: rows in the target, notes in
//! the data folder, an outcome. Owns: the threads `ship-XX`. Never: waits for a thread longer than a second once it is
//! asked to stop.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use super::backoff::Backoff;
use super::listen::serve_metrics;
use super::metrics::ShardFigures;
use super::notes::{NoteError, Notes, Registration, add_whole_epochs, places_of, register, whole_epochs};
use super::progress::Progress;
use super::rate::RateLimit;
use super::sink::{Places, Sink, SinkError};
use super::source::{ReadLimits, Source};
use super::turns::{ShardRun, Until};
use crate::base::clock;
use crate::base::ids::ShardId;
use crate::shard::{DataFolder, EpochReason, FolderError, SinkEntry, confirmed, is_sink_name, sink};

/// Memory for the rows of all shards together.
const BYTES_MAX: usize = 32 << 20;
/// The minimum for one shard.
const SHARD_BYTES_MIN: usize = 1 << 20;
/// The time between two checks of the stop flag while a thread waits.
pub(super) const STEP: Duration = Duration::from_millis(20);
/// The time between two updates of the progress.
const SHOW: Duration = Duration::from_millis(100);
/// The time that a stop waits for the threads.
const STOP_PATIENCE_US: u64 = 800_000;
/// The time after which a run that is to end gives up on a target or a shard.
pub(super) const PATIENCE_US: u64 = 60_000_000;

/// The point at which a run ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Never.
    Follow,
    /// Once everything is shipped that was there at the start.
    Once,
    /// Once nothing is left.
    Drain,
}

/// The settings of a run.
#[derive(Clone, Debug)]
pub struct RunSettings {
    pub data: PathBuf,
    pub name: String,
    /// The kind of the target, such as `postgres`.
    pub kind: String,
    /// The target without secrets.
    pub target: String,
    pub mode: Mode,
    /// Rows a second of all shards together.
    pub rate_max: Option<u64>,
    pub metrics: Option<SocketAddr>,
    /// Set if a bar is shown on a terminal.
    pub with_bar: bool,
}

/// The reason why a run ended.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A person has to change the settings. A restart does not help.
    #[error("{0}")]
    Settings(String),
    #[error("{0}")]
    Failed(String),
}

impl From<NoteError> for RunError {
    fn from(error: NoteError) -> RunError {
        match error {
            NoteError::OtherSink(..) => RunError::Settings(error.to_string()),
            _ => RunError::Failed(error.to_string()),
        }
    }
}

impl From<FolderError> for RunError {
    fn from(error: FolderError) -> RunError {
        match error {
            FolderError::BadManifest { .. } | FolderError::TooNew { .. } => {
                RunError::Settings(error.to_string())
            }
            _ => RunError::Failed(error.to_string()),
        }
    }
}

/// The values that the shards' threads get once the target was reached.
#[derive(Clone, Debug)]
pub(super) struct Ready {
    pub(super) registration: Registration,
    /// Resharded epochs that are sent whole.
    pub(super) whole: Arc<BTreeSet<String>>,
}

/// The values that all threads of a run share.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    pub(super) data: PathBuf,
    pub(super) name: String,
    pub(super) mode: Mode,
    pub(super) stop: Arc<AtomicBool>,
    pub(super) ready: Arc<OnceLock<Ready>>,
    pub(super) rate: Arc<RateLimit>,
    pub(super) limits: ReadLimits,
}

impl Shared {
    pub(super) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// Ships until `stop` is set, or as the mode says. `make` returns a shard's connection to the target, which is not
/// connected yet.
///
/// # Errors
/// The folder, the sink's name or the target cannot be used, or a shard ended with an error that lasts.
pub fn run<S: Sink + 'static>(
    settings: &RunSettings,
    stop: &Arc<AtomicBool>,
    make: impl Fn(ShardId) -> io::Result<S> + Send + Sync + 'static,
) -> Result<(), RunError> {
    if !is_sink_name(&settings.name) {
        let why = format!("{:?} cannot name a sink: use letters, digits, - and _", settings.name);
        return Err(RunError::Settings(why));
    }
    let folder = DataFolder::read_only(&settings.data)?;
    if folder.reshard_marker().exists() {
        return Err(FolderError::Resharding(settings.data.clone()).into());
    }
    let registered = sink(&settings.data, &settings.name).map_err(NoteError::from)?;
    check_target(settings, registered)?;
    let shards: Vec<(ShardId, PathBuf)> =
        folder.shards().map(|(id, folder)| (id, folder.database())).collect();
    let figures: Vec<_> = shards.iter().map(|(id, _)| Arc::new(ShardFigures::new(*id))).collect();
    if let Some(address) = settings.metrics {
        let bound = serve_metrics(address, figures.clone()).map_err(|error| {
            RunError::Settings(format!("ship_metrics cannot listen on {address}: {error}"))
        })?;
        tracing::info!(address = %bound, "metrics");
    }
    let bytes = (BYTES_MAX / shards.len().max(1)).clamp(SHARD_BYTES_MIN, ReadLimits::MAX.bytes);
    let shared = Shared {
        data: settings.data.clone(),
        name: settings.name.clone(),
        mode: settings.mode,
        stop: Arc::clone(stop),
        ready: Arc::new(OnceLock::new()),
        rate: Arc::new(RateLimit::new(settings.rate_max)),
        limits: ReadLimits { bytes, ..ReadLimits::MAX },
    };
    let make = Arc::new(make);
    let mut threads = Vec::new();
    for ((id, path), figures) in shards.iter().cloned().zip(&figures) {
        let (shared, figures, make) = (shared.clone(), Arc::clone(figures), Arc::clone(&make));
        let body = move || ShardRun::new(id, &path, shared, figures).run(|| make(id));
        let thread = std::thread::Builder::new().name(format!("ship-{:02}", id.0)).spawn(body);
        threads.push(thread.map_err(|error| RunError::Failed(format!("a thread cannot start: {error}")))?);
    }
    let mut progress = Progress::new(settings.with_bar);
    let prepared = prepare(settings, &folder, &shards, &shared, &*make);
    let outcome = match prepared {
        Ok(Some(ready)) => {
            _ = shared.ready.set(ready);
            watch(&shared, threads, |is_end| {
                if !is_end {
                    progress.show(&figures)
                }
            })
        }
        // It was asked to stop before the target was reached.
        Ok(None) => watch(&shared, threads, |_| {}),
        Err(error) => {
            stop.store(true, Ordering::Relaxed);
            _ = watch(&shared, threads, |_| {});
            Err(error)
        }
    };
    progress.finish();
    outcome
}

/// Returns the error for a connection that cannot even be prepared.
pub(super) fn not_made(error: io::Error) -> RunError {
    RunError::Failed(format!("a connection cannot be prepared: {error}"))
}

/// Refuses a name that is registered for another target.
fn check_target(settings: &RunSettings, registered: Option<SinkEntry>) -> Result<(), RunError> {
    match registered {
        Some(known) if known.kind != settings.kind || known.target != settings.target => {
            Err(RunError::Settings(format!(
                "the sink {} is registered for {}, not for {}: give this one another ship_name, or remove the other with \
                 `firehose ship remove {}`. The places are in the target and remain",
                settings.name, known.target, settings.target, settings.name
            )))
        }
        _ => Ok(()),
    }
}

/// Reaches the target, and registers the sink. Returns `None` if it was asked to stop.
fn prepare<S: Sink>(
    settings: &RunSettings,
    folder: &DataFolder,
    shards: &[(ShardId, PathBuf)],
    shared: &Shared,
    make: &impl Fn(ShardId) -> io::Result<S>,
) -> Result<Option<Ready>, RunError> {
    let until = Until::of(shared.mode);
    let mut backoff = Backoff::default();
    let mut probe = make(ShardId(0)).map_err(not_made)?;
    let knows_node = loop {
        match probe.known(&[]) {
            Ok(known) => break known.knows_node,
            Err(SinkError::Stopped) => return Ok(None),
            Err(SinkError::Lasting(why)) => return Err(RunError::Failed(why)),
            Err(error) if until.is_over() => return Err(RunError::Failed(error.to_string())),
            Err(error) => {
                if backoff.is_news(&error.to_string()) {
                    tracing::warn!(%error, "the target is not reached; trying again");
                }
                backoff.wait(|| shared.is_stopped());
            }
        }
        if shared.is_stopped() {
            return Ok(None);
        }
    };
    let failed = |error: io::Error| RunError::from(NoteError::from(error));
    let whole = match knows_node {
        true => whole_epochs(folder.dir(), &settings.name),
        false => {
            let Some(resharded) = resharded(shards, shared)? else { return Ok(None) };
            add_whole_epochs(folder.dir(), &settings.name, resharded)
        }
    };
    let whole = Arc::new(whole.map_err(failed)?);
    let registration = register(folder, &settings.name, (&settings.kind, &settings.target))?;
    Ok(Some(Ready { registration, whole }))
}

/// Returns the first epochs of all files that are of resharded ones. Waits until every file can be read. `None`: it was
/// asked to stop.
fn resharded(shards: &[(ShardId, PathBuf)], shared: &Shared) -> Result<Option<BTreeSet<String>>, RunError> {
    let until = Until::of(shared.mode);
    let mut found = BTreeSet::new();
    for (id, path) in shards {
        let mut source = Source::new(path, shared.limits);
        let mut backoff = Backoff::default();
        loop {
            match source.look() {
                Ok(look) if !look.is_beginning && !look.epochs.is_empty() => {
                    let first = look.epochs.first().filter(|epoch| epoch.reason == EpochReason::Resharded);
                    found.extend(first.map(|epoch| epoch.id.clone()));
                    break;
                }
                Ok(_) if until.is_over() => {
                    let why =
                        format!("shard {}: its epoch is not in its file yet; start the server once", id.0);
                    return Err(RunError::Failed(why));
                }
                Err(error) if until.is_over() || !super::shipper::is_passing_read(&error) => {
                    return Err(RunError::Failed(format!("shard {}: {error}", id.0)));
                }
                Err(error) if backoff.is_news(&error.to_string()) => {
                    tracing::warn!(shard = id.0, %error, "the shard cannot be read; trying again");
                }
                _ => {}
            }
            backoff.wait(|| shared.is_stopped());
            if shared.is_stopped() {
                return Ok(None);
            }
        }
    }
    Ok(Some(found))
}

/// Waits for the threads. The first error stops the others.
fn watch(
    shared: &Shared,
    mut threads: Vec<JoinHandle<Result<(), RunError>>>,
    mut show: impl FnMut(bool),
) -> Result<(), RunError> {
    let mut outcome = Ok(());
    let mut stop_us = None;
    while !threads.is_empty() {
        let mut left = Vec::new();
        for thread in threads {
            if !thread.is_finished() {
                left.push(thread);
                continue;
            }
            let ended = thread.join().unwrap_or_else(|_| {
                Err(RunError::Failed(
                    "a thread of the shipper has panicked; its log has the place".to_owned(),
                ))
            });
            if let Err(error) = ended {
                shared.stop.store(true, Ordering::Relaxed);
                if outcome.is_ok() {
                    outcome = Err(error);
                }
            }
        }
        threads = left;
        let now_us = clock::monotonic_us();
        if shared.is_stopped() && now_us > *stop_us.get_or_insert(now_us) + STOP_PATIENCE_US {
            tracing::warn!(shards = threads.len(), "calls to the target are abandoned");
            break;
        }
        show(threads.is_empty());
        if !threads.is_empty() {
            clock::pause(if shared.is_stopped() { STEP } else { SHOW });
        }
    }
    outcome
}

/// Returns the noted places of a shard, if there are any.
pub(super) fn noted_places(data: &Path, name: &str, shard: ShardId) -> Places {
    confirmed(data, name, shard).ok().flatten().as_ref().map(places_of).unwrap_or_default()
}

/// Opens the notes of a shard.
pub(super) fn open_notes(ready: &Ready, shard: ShardId) -> Result<Notes, RunError> {
    Notes::open(&ready.registration, shard).map_err(|error| NoteError::from(error).into())
}
