//! The readers: a few blocking threads with read-only connections, behind bounded queues of steps.
//!
//! Each shard has its own threads, on its own core if there are as many shards as cores. The pages that a thread has
//! read are in its cache when the next step arrives.

use std::collections::HashMap;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::panic::{self, AssertUnwindSafe};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rusqlite::Connection;

use super::QueryError;
use crate::base::ids::ShardId;
use crate::base::tokens::{Token, Tokens};
use crate::cores::pin::{self, Rank};
use crate::shard::{ShardError, ShardStatus, is_made, open_reader};

/// Maximum steps that wait in one queue: two per shard for every open query of a small folder.
const QUEUE_MAX: usize = 4_096;
/// Maximum open queries per reading thread.
const QUERIES_PER_THREAD: usize = 16;
/// Maximum connections that a thread keeps open.
const CONNECTIONS_MAX: usize = 32;
/// The total size of all connections' page caches, in KiB. The kernel's cache contains what is read again, but a page
/// that is missing here costs a call and a copy, 3 us.
const CACHES_KIB: i64 = 24 * 1024;
/// The bounds for one connection's page cache, in KiB.
const CACHE_KIB: std::ops::RangeInclusive<i64> = 1_024..=8_192;

type ReaderStep = Box<dyn FnOnce(&mut Connections) + Send>;

/// A handle on the readers. Clones share them. The threads end with the last handle.
#[derive(Clone, Debug)]
pub struct Readers {
    shards: Arc<[ReadShard]>,
    /// The queues of steps. Shard n uses queue n, modulo their number.
    queues: Arc<[async_channel::Sender<ReaderStep>]>,
    open: Arc<AtomicUsize>,
    queries_max: usize,
    /// A single token, whose holder may use much memory.
    heavy: Tokens,
}

/// A shard as its readers know it.
#[derive(Clone, Debug)]
pub struct ReadShard {
    pub shard: ShardId,
    pub path: PathBuf,
    /// The state that its writer reports, which shows whether a missing file should exist.
    pub status: Arc<ShardStatus>,
}

#[cfg(test)]
impl ReadShard {
    /// Creates a shard without a writer.
    pub(crate) fn alone(number: u16, path: &std::path::Path) -> ReadShard {
        let shard = ShardId(number);
        ReadShard { shard, path: path.to_owned(), status: Arc::new(ShardStatus::new(shard)) }
    }
}

/// One open query. Dropping it permits another.
#[derive(Debug)]
pub struct Permit(Arc<AtomicUsize>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// One shard's pending answer.
pub type Answer<T> = async_channel::Receiver<Result<T, QueryError>>;

impl Readers {
    /// Starts `threads` readers on each CPU.
    pub fn start(shards: Vec<ReadShard>, cpus: &[usize], threads: usize) -> io::Result<Readers> {
        let all_threads = cpus.len() * threads;
        let (queues, asked): (Vec<_>, Vec<_>) = (0..shards.len().clamp(1, all_threads.max(1)))
            .map(|_| async_channel::bounded::<ReaderStep>(QUEUE_MAX))
            .unzip();
        let connections = (shards.len() * all_threads.div_ceil(queues.len())).max(1) as i64;
        let cache_kib = (CACHES_KIB / connections).clamp(*CACHE_KIB.start(), *CACHE_KIB.end());
        for number in 0..threads {
            for (core, cpu) in cpus.iter().copied().enumerate() {
                let asked = asked[(number * cpus.len() + core) % asked.len()].clone();
                let name = format!("read-{core}-{number}");
                std::thread::Builder::new().name(name).spawn(move || {
                    if let Err(error) = pin::settle(cpu, Rank::Reader) {
                        tracing::warn!(cpu, %error, "a reader could not be pinned or ranked");
                    }
                    let mut connections = Connections::new(cache_kib);
                    while let Ok(step) = asked.recv_blocking() {
                        let done = panic::catch_unwind(AssertUnwindSafe(|| step(&mut connections)));
                        if done.is_err() {
                            tracing::error!("a reader thread panicked; its query gets an error");
                            connections = Connections::new(cache_kib);
                        }
                    }
                })?;
            }
        }
        let queries_max = all_threads * QUERIES_PER_THREAD;
        let heavy = Tokens::new(1);
        Ok(Readers { shards: shards.into(), queues: queues.into(), open: Arc::default(), queries_max, heavy })
    }

    /// Permits one more query, or returns [`QueryError::Busy`] if too many are open.
    pub fn permit(&self) -> Result<Permit, QueryError> {
        let open = self.open.fetch_add(1, Ordering::AcqRel);
        let permit = Permit(self.open.clone());
        if open >= self.queries_max { Err(QueryError::Busy) } else { Ok(permit) }
    }

    /// Waits until no other query uses much memory.
    pub async fn heavy(&self) -> Token {
        self.heavy.token().await
    }

    pub fn shards(&self) -> impl Iterator<Item = ShardId> + '_ {
        self.shards.iter().map(|known| known.shard)
    }

    #[must_use]
    pub fn shard_count(&self) -> usize {
        self.shards.len()
    }

    /// Runs a step on one shard, in a read transaction. `absent` is the answer for a shard that was never written. A
    /// shard that was written but whose file is missing returns an error. The step is skipped if the receiver of its
    /// answer was dropped.
    pub fn ask<T: Send + 'static>(
        &self,
        shard: ShardId,
        absent: T,
        step: impl FnOnce(&Connection) -> Result<T, ShardError> + Send + 'static,
    ) -> Result<Answer<T>, QueryError> {
        let (tell, told) = async_channel::bounded(1);
        let at = self.shards.iter().position(|known| known.shard == shard);
        let known = at.map(|at| self.shards[at].clone());
        let work = move |connections: &mut Connections| {
            if tell.is_closed() {
                return;
            }
            let answer = match known {
                Some(known) => connections.read(&known, absent, step),
                None => Ok(absent),
            };
            let reason = |error: ShardError| QueryError::Shard { shard, reason: error.to_string() };
            let _ = tell.try_send(answer.map_err(reason));
        };
        let queue = &self.queues[at.unwrap_or_default() % self.queues.len()];
        queue.try_send(Box::new(work)).map_err(|_| QueryError::Busy)?;
        Ok(told)
    }

    /// Runs work on a reader's thread. This is for work that takes longer than a core's loop may pause.
    pub async fn compute<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, QueryError> {
        let (tell, told) = async_channel::bounded(1);
        let step = move |_: &mut Connections| {
            let _ = tell.try_send(Ok(work()));
        };
        let shortest = self.queues.iter().min_by_key(|queue| queue.len()).ok_or(QueryError::Busy)?;
        shortest.try_send(Box::new(step)).map_err(|_| QueryError::Busy)?;
        received(told.recv().await)
    }

    /// Runs the same step on every shard, concurrently. Returns the answers in shard order.
    pub async fn ask_all<T: Clone + Send + 'static>(
        &self,
        absent: T,
        step: impl Fn(&Connection) -> Result<T, ShardError> + Clone + Send + 'static,
    ) -> Result<Vec<T>, QueryError> {
        let asked = self.shards().map(|shard| self.ask(shard, absent.clone(), step.clone()));
        let asked = asked.collect::<Result<Vec<_>, _>>()?;
        let mut answers = Vec::with_capacity(asked.len());
        for answer in asked {
            answers.push(received(answer.recv().await)?);
        }
        Ok(answers)
    }
}

/// Returns a received answer, or [`QueryError::Busy`] if the reader panicked and sent none.
pub fn received<T>(answer: Result<Result<T, QueryError>, async_channel::RecvError>) -> Result<T, QueryError> {
    answer.unwrap_or_else(|_| Err(QueryError::Busy))
}

/// One thread's connections.
struct Connections {
    cache_kib: i64,
    open: HashMap<PathBuf, Opened>,
    used: u64,
}

struct Opened {
    connection: Connection,
    file: (u64, u64),
    used: u64,
}

impl Connections {
    fn new(cache_kib: i64) -> Connections {
        Connections { cache_kib, open: HashMap::new(), used: 0 }
    }

    fn read<T>(
        &mut self,
        known: &ReadShard,
        absent: T,
        step: impl FnOnce(&Connection) -> Result<T, ShardError>,
    ) -> Result<T, ShardError> {
        let path = &*known.path;
        // This is read before the file is looked up, because a file that is being created is not missing.
        let was_open = known.status.was_open();
        let missing = |absent| if was_open { Err(ShardError::Missing) } else { Ok(absent) };
        let file = match std::fs::metadata(path) {
            Ok(file) => (file.dev(), file.ino()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.open.remove(path);
                return missing(absent);
            }
            Err(error) => return Err(error.into()),
        };
        // A file that replaced another is opened again. SQLite would otherwise continue to read the old file.
        if self.open.get(path).is_some_and(|opened| opened.file != file) {
            self.open.remove(path);
        }
        self.used += 1;
        if !self.open.contains_key(path) {
            if self.open.len() >= CONNECTIONS_MAX
                && let Some(oldest) =
                    self.open.iter().min_by_key(|(_, opened)| opened.used).map(|(path, _)| path.clone())
            {
                self.open.remove(&oldest);
            }
            let connection = open_reader(path)?;
            if !is_made(&connection)? {
                return missing(absent);
            }
            connection.pragma_update(None, "cache_size", -self.cache_kib)?;
            connection.set_prepared_statement_cache_capacity(64);
            self.open.insert(path.to_owned(), Opened { connection, file, used: 0 });
        }
        let Some(opened) = self.open.get_mut(path) else { return missing(absent) };
        opened.used = self.used;
        let outcome = (|| {
            let snapshot = opened.connection.unchecked_transaction()?;
            let answer = step(&snapshot)?;
            snapshot.commit()?;
            Ok(answer)
        })();
        if outcome.is_err() {
            self.open.remove(path);
        }
        outcome
    }
}
