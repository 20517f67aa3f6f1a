//! The readers: a few blocking threads with read-only connections, behind bounded queues of steps.
//!
//! Each shard has its own threads, on its own core if there are as many shards as cores. The pages that a thread has
//! read are in its cache when the next step arrives.
//!
//! Tenants share the threads: their steps take turns, and the steps of queries that have used little time come first. A
//! tenant holds only a share of the places for queries and for waiting steps. A query that is dropped runs no further
//! step.

use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rusqlite::Connection;

use super::QueryError;
use super::connections::Connections;
use super::heavy::{Heavy, HeavyLine};
use super::load::QueryLoad;
use super::shares::{Full, Owner, Share, Shares};
use super::turns::{StepQueue, step_queue};
use crate::base::clock;
use crate::base::ids::ShardId;
use crate::cores::pin::{self, Rank};
use crate::shard::{ShardError, ShardStatus};

/// Maximum steps that wait in one queue: two per shard for every open query of a small folder.
const QUEUE_MAX: usize = 4_096;
/// Maximum open queries per reading thread.
const QUERIES_PER_THREAD: usize = 16;
/// The total size of all connections' page caches, in KiB. The kernel's cache contains what is read again, but a page
/// that is missing here costs a call and a copy, 3 us.
const CACHES_KIB: i64 = 24 * 1024;
/// The bounds for one connection's page cache, in KiB.
const CACHE_KIB: std::ops::RangeInclusive<i64> = 1_024..=8_192;
/// The time on the readers after which a query is long, so that the steps of others overtake its own.
const SHORT_US: u64 = 20_000;

type ReaderStep = Box<dyn FnOnce(&mut Connections) + Send>;

/// A handle on the readers, for the server's own work or for one query. Clones share both. The threads end with the
/// last handle.
#[derive(Clone, Debug)]
pub struct Readers {
    shared: Arc<Shared>,
    asker: Arc<Asker>,
}

#[derive(Debug)]
struct Shared {
    shards: Vec<ReadShard>,
    /// The queues of steps. Shard n uses queue n, modulo their number.
    queues: Vec<StepQueue<ReaderStep>>,
    /// The number of CPUs that the threads are on.
    cpus: usize,
    load: Arc<QueryLoad>,
    places: Arc<Shares>,
    heavy: HeavyLine,
    /// Hashes the names of tenants by random keys.
    names: RandomState,
}

/// On whose behalf steps run, and how long they have taken.
#[derive(Debug, Default)]
struct Asker {
    owner: Owner,
    used_us: AtomicU64,
}

impl Asker {
    /// The server's own work has no end, so its steps are always those of short queries.
    fn is_long(&self) -> bool {
        self.owner != Owner::Server && self.used_us.load(Ordering::Relaxed) >= SHORT_US
    }
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
pub struct Permit {
    _place: Share,
}

/// One shard's pending answer.
pub type Answer<T> = async_channel::Receiver<Result<T, QueryError>>;

impl Readers {
    /// Starts `threads` readers on each CPU.
    pub fn start(shards: Vec<ReadShard>, cpus: &[usize], threads: usize) -> io::Result<Readers> {
        let all_threads = cpus.len() * threads;
        let (queues, takers): (Vec<_>, Vec<_>) = (0..shards.len().clamp(1, all_threads.max(1)))
            .map(|_| step_queue::<ReaderStep>(QUEUE_MAX))
            .unzip();
        let connections = (shards.len() * all_threads.div_ceil(queues.len())).max(1) as i64;
        let cache_kib = (CACHES_KIB / connections).clamp(*CACHE_KIB.start(), *CACHE_KIB.end());
        for number in 0..threads {
            for (core, cpu) in cpus.iter().copied().enumerate() {
                let taker = takers[(number * cpus.len() + core) % takers.len()].clone();
                let name = format!("read-{core}-{number}");
                std::thread::Builder::new().name(name).spawn(move || {
                    if let Err(error) = pin::settle(cpu, Rank::Reader) {
                        tracing::warn!(cpu, %error, "a reader could not be pinned or ranked");
                    }
                    let mut connections = Connections::new(cache_kib);
                    while let Some(step) = taker.next() {
                        let done = panic::catch_unwind(AssertUnwindSafe(|| step(&mut connections)));
                        if done.is_err() {
                            tracing::error!("a reader thread panicked; its query gets an error");
                            connections = Connections::new(cache_kib);
                        }
                    }
                })?;
            }
        }
        let places = Shares::new(all_threads * QUERIES_PER_THREAD);
        let waiting = queues.iter().map(StepQueue::places).collect();
        let shared = Shared {
            shards,
            queues,
            cpus: cpus.len(),
            load: Arc::new(QueryLoad::new(places.clone(), waiting)),
            places,
            heavy: HeavyLine::new(),
            names: RandomState::new(),
        };
        Ok(Readers { shared: Arc::new(shared), asker: Arc::default() })
    }

    /// Returns a handle for one query of a tenant. Tenants share the readers, and a query's time counts from here.
    #[must_use]
    pub fn asked_by(&self, tenant_id: &str) -> Readers {
        let owner = Owner::Tenant(self.shared.names.hash_one(tenant_id));
        let asker = Arc::new(Asker { owner, ..Asker::default() });
        Readers { shared: self.shared.clone(), asker }
    }

    /// Returns the figures of queries.
    #[must_use]
    pub fn load(&self) -> Arc<QueryLoad> {
        self.shared.load.clone()
    }

    /// Permits one more query. Returns [`QueryError::Busy`] if too many are open, or [`QueryError::ShareUsed`] if too
    /// many of this tenant are.
    pub fn permit(&self) -> Result<Permit, QueryError> {
        let place = self.shared.places.claim(self.asker.owner).map_err(|full| self.refused(full))?;
        Ok(Permit { _place: place })
    }

    fn refused(&self, full: Full) -> QueryError {
        self.shared.load.refused(full);
        match full {
            Full::All => QueryError::Busy,
            Full::Share => QueryError::ShareUsed,
        }
    }

    /// Waits until no other query uses much memory. Tenants take turns.
    pub async fn heavy(&self) -> Result<Heavy, QueryError> {
        self.shared.heavy.heavy(self.asker.owner).await.ok_or(QueryError::Busy)
    }

    pub fn shards(&self) -> impl Iterator<Item = ShardId> + '_ {
        self.shared.shards.iter().map(|known| known.shard)
    }

    /// Returns the number of CPUs that the readers' threads are on.
    #[must_use]
    pub fn cpu_count(&self) -> usize {
        self.shared.cpus
    }

    #[must_use]
    pub fn shard_count(&self) -> usize {
        self.shared.shards.len()
    }

    /// Adds a step to a queue. Its time counts as the query's.
    fn push(
        &self,
        queue: &StepQueue<ReaderStep>,
        step: impl FnOnce(&mut Connections) + Send + 'static,
    ) -> Result<(), QueryError> {
        let asker = self.asker.clone();
        let timed = move |connections: &mut Connections| {
            let started_us = clock::monotonic_us();
            step(connections);
            asker.used_us.fetch_add(clock::monotonic_us() - started_us, Ordering::Relaxed);
        };
        let pushed = queue.push(self.asker.owner, self.asker.is_long(), Box::new(timed));
        pushed.map_err(|full| self.refused(full))
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
        let at = self.shared.shards.iter().position(|known| known.shard == shard);
        let known = at.map(|at| self.shared.shards[at].clone());
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
        self.push(&self.shared.queues[at.unwrap_or_default() % self.shared.queues.len()], work)?;
        Ok(told)
    }

    /// Runs work on a reader's thread. This is for work that takes longer than a core's loop may pause. A query's work
    /// is skipped if the query was dropped. The server's own work always runs, because it may write files.
    pub async fn compute<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, QueryError> {
        let shortest =
            self.shared.queues.iter().min_by_key(|queue| queue.waiting()).ok_or(QueryError::Busy)?;
        received(self.push_work(shortest, work)?.recv().await)
    }

    /// Runs pieces of work like [`Readers::compute`], but concurrently: neighbouring pieces go to different queues, whose
    /// threads are on different CPUs if there are several. Returns the results in order.
    pub async fn compute_each<T: Send + 'static>(
        &self,
        pieces: Vec<impl FnOnce() -> T + Send + 'static>,
    ) -> Result<Vec<T>, QueryError> {
        let mut queues: Vec<_> = self.shared.queues.iter().collect();
        queues.sort_by_key(|queue| queue.waiting());
        let asked = pieces.into_iter().zip(queues.iter().cycle());
        let asked =
            asked.map(|(piece, queue)| self.push_work(queue, piece)).collect::<Result<Vec<_>, _>>()?;
        let mut results = Vec::with_capacity(asked.len());
        for answer in asked {
            results.push(received(answer.recv().await)?);
        }
        Ok(results)
    }

    fn push_work<T: Send + 'static>(
        &self,
        queue: &StepQueue<ReaderStep>,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<Answer<T>, QueryError> {
        let (tell, told) = async_channel::bounded(1);
        let is_query = self.asker.owner != Owner::Server;
        let step = move |_: &mut Connections| {
            if !(is_query && tell.is_closed()) {
                let _ = tell.try_send(Ok(work()));
            }
        };
        self.push(queue, step)?;
        Ok(told)
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use futures_lite::future::{block_on, poll_once};

    use super::*;

    #[test]
    fn pieces_run_at_the_same_time_and_return_in_order() {
        let readers = Readers::start(vec![ReadShard::alone(0, "a".as_ref()); 2], &[0, 0], 1).unwrap();
        let (here, there) = (async_channel::bounded::<u32>(1), async_channel::bounded::<u32>(1));
        // Each piece waits for the other, so one thread alone could not run both.
        let piece = |number: u32, tell: async_channel::Sender<u32>, told: async_channel::Receiver<u32>| {
            move || {
                tell.send_blocking(number).unwrap();
                (number, told.recv_blocking().unwrap())
            }
        };
        let pieces = vec![piece(1, here.0, there.1), piece(2, there.0, here.1)];
        assert_eq!(block_on(readers.compute_each(pieces)).unwrap(), [(1, 2), (2, 1)]);
        let many = (0..9).map(|number| move || number).collect::<Vec<_>>();
        assert_eq!(block_on(readers.compute_each(many)).unwrap(), (0..9).collect::<Vec<_>>());
    }

    #[test]
    fn work_of_a_query_that_was_dropped_is_skipped_and_that_of_the_server_is_not() {
        let readers = Readers::start(Vec::new(), &[0], 1).unwrap();
        let runs = |readers: &Readers| {
            let (go, gone) = async_channel::bounded::<()>(1);
            // The only thread is busy until the future was dropped.
            let mut busy = Box::pin(readers.compute(move || gone.recv_blocking()));
            assert!(block_on(poll_once(&mut busy)).is_none());
            let ran = Arc::new(AtomicBool::new(false));
            let run = ran.clone();
            let mut dropped = Box::pin(readers.compute(move || run.store(true, Ordering::SeqCst)));
            assert!(block_on(poll_once(&mut dropped)).is_none());
            drop(dropped);
            drop(go);
            let _ = block_on(busy);
            block_on(readers.compute(|| ())).unwrap();
            ran.load(Ordering::SeqCst)
        };
        assert!(!runs(&readers.asked_by("tenant")));
        assert!(runs(&readers));
        assert_eq!((readers.load().running(), readers.load().waiting_steps()), (0, 0));
    }
}
