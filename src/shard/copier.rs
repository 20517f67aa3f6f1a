//! The thread that copies a shard's WAL into its database file, so that commits do not wait for syncs.
//!
//! In: orders of the writer, one at a time. Out: how far the file has come. Owns: a connection that never writes a row
//! (W3). Never: restarts or truncates the WAL, deletes what the writer did not name, retries.
//!
//! One pass: journals → WAL → record → copy, each durable before the next begins. A commit that is made meanwhile is
//! copied too or remains in the WAL, and does not wait. Once the writer has checked a pass, it orders the deletion of the
//! journal segments that the file made superfluous. Commits do not wait for that either.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::{self, JoinHandle, Thread};

use rusqlite::Connection;

use super::error::ShardError;
use super::identity::{Identity, beside};
use super::open::open_copier;
use super::pass_record::PassFile;
use super::wal::Wal;
use super::wal_file::{WalFrames, sync_wal};
use crate::base::counters::Cell;

/// The order for a pass: the shard as the writer saw it.
#[derive(Clone, Debug)]
pub struct PassOrder {
    pub(super) number: u64,
    /// The frames of the WAL, as the writer counts them.
    pub(super) frames: Arc<Cell>,
    pub(super) identity: Identity,
    /// The length of the file, which does not shrink.
    pub(super) file_bytes: u64,
}

/// The result of a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passed {
    /// Set if the file contains every frame that the WAL had when the copying began, and is synced.
    pub is_complete: bool,
}

/// A point of a pass, for tests that stop there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PassStep {
    Begun,
    JournalsSynced,
    WalSynced,
    Recorded,
    Copied,
    Ended,
    /// After a pass: before segments are deleted.
    Releasing,
}

/// An order for the thread.
enum Order<J> {
    Pass(PassOrder, J),
    Release(J),
}

/// What the thread does with journals.
#[derive(Debug)]
pub struct JournalWork<J> {
    /// Syncs what the file is about to contain.
    pub sync: fn(&mut J),
    /// Deletes what the file contains.
    pub release: fn(&mut J),
}

/// What has ended.
#[derive(Debug)]
pub enum Ended {
    Pass(Result<Passed, ShardError>),
    Release,
}

/// The thread's side.
struct Pass<J> {
    path: PathBuf,
    work: JournalWork<J>,
    connection: Option<Connection>,
    record: Option<PassFile>,
    at: Box<dyn Fn(PassStep) + Send>,
}

type Done<J> = (J, Ended);

/// The writer's side. `J` describes the work on journals, and returns with the result.
#[derive(Debug)]
pub struct Copier<J> {
    orders: Option<SyncSender<Order<J>>>,
    done: Receiver<Done<J>>,
    thread: Option<JoinHandle<()>>,
    is_busy: bool,
}

impl<J: Send + 'static> Copier<J> {
    /// Starts the thread for a shard. The calling thread is unparked at the end of each pass. `settle` runs first on
    /// the new thread, and `at` at each step.
    ///
    /// # Errors
    /// There can be no further thread.
    pub fn start(
        name: String,
        path: PathBuf,
        work: JournalWork<J>,
        settle: impl FnOnce() + Send + 'static,
        at: impl Fn(PassStep) + Send + 'static,
    ) -> Result<Copier<J>, ShardError> {
        let (orders, ordered) = sync_channel(1);
        let (tell, done) = sync_channel(1);
        let writer = thread::current();
        let mut pass = Pass { path, work, connection: None, record: None, at: Box::new(at) };
        let thread = thread::Builder::new().name(name).spawn(move || {
            settle();
            pass.run(&ordered, &tell, &writer);
        })?;
        Ok(Copier { orders: Some(orders), done, thread: Some(thread), is_busy: false })
    }

    /// Returns `true` while an order is under way or its result was not received.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.is_busy
    }

    /// Begins a pass. No order may be under way.
    pub fn begin(&mut self, order: PassOrder, journals: J) {
        self.send(Order::Pass(order, journals));
    }

    /// Begins to delete from the journals. No order may be under way.
    pub fn begin_release(&mut self, journals: J) {
        self.send(Order::Release(journals));
    }

    fn send(&mut self, order: Order<J>) {
        debug_assert!(!self.is_busy, "one order at a time");
        if let Some(orders) = &self.orders {
            // The thread ends only with this value, or by a panic, which the receiver reports.
            let _ = orders.try_send(order);
            self.is_busy = true;
        }
    }

    /// Returns the result of the order if it has ended. With `waits`, waits until it has. Returns `None` if nothing has
    /// ended. A panic of the thread is reported as that of a pass.
    pub fn ended(&mut self, waits: bool) -> Option<(Option<J>, Ended)> {
        if !self.is_busy {
            return None;
        }
        let ended = match waits {
            true => self.done.recv().map_err(|_| TryRecvError::Disconnected),
            false => self.done.try_recv(),
        };
        match ended {
            Ok((journals, ended)) => {
                self.is_busy = false;
                Some((Some(journals), ended))
            }
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => {
                self.is_busy = false;
                let error = ShardError::Other("the thread of the checkpoints panicked".to_owned());
                Some((None, Ended::Pass(Err(error))))
            }
        }
    }

    /// Ends without waiting for a pass under way, whose thread ends by itself.
    pub fn abandon(mut self) {
        self.thread = None;
    }
}

impl<J> Drop for Copier<J> {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            // A panic was reported as the result of the pass.
            let _ = thread.join();
        }
    }
}

impl<J> Pass<J> {
    fn run(&mut self, ordered: &Receiver<Order<J>>, tell: &SyncSender<Done<J>>, writer: &Thread) {
        while let Ok(order) = ordered.recv() {
            let done = match order {
                Order::Pass(order, mut journals) => {
                    let passed = self.pass(&order, &mut journals);
                    if passed.is_err() {
                        // Nothing of a connection is trusted after a failure.
                        (self.connection, self.record) = (None, None);
                    }
                    (journals, Ended::Pass(passed))
                }
                Order::Release(mut journals) => {
                    (self.at)(PassStep::Releasing);
                    (self.work.release)(&mut journals);
                    (journals, Ended::Release)
                }
            };
            if tell.send(done).is_err() {
                return;
            }
            writer.unpark();
        }
    }

    fn pass(&mut self, order: &PassOrder, journals: &mut J) -> Result<Passed, ShardError> {
        (self.at)(PassStep::Begun);
        // A failed journal sync does not keep rows out of the database file. After a power cut, the journal continues
        // after the database's position.
        (self.work.sync)(journals);
        (self.at)(PassStep::JournalsSynced);
        // SQLite copies to the file that it has open, whatever the path names now.
        match Identity::with_bytes(&self.path)? {
            None => return Err(ShardError::Missing),
            Some((found, _)) if found != order.identity => return Err(ShardError::Replaced),
            Some((_, found)) if found < order.file_bytes => {
                return Err(ShardError::Truncated { found, expected: order.file_bytes });
            }
            Some(_) => {}
        }
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => open_copier(&self.path)?,
        };
        let connection = self.connection.insert(connection);
        let record = match self.record.take() {
            Some(record) => record,
            None => PassFile::open(&self.path)?,
        };
        let record = self.record.insert(record);
        let wal = beside(&self.path, "-wal");
        let (salts, synced) = loop {
            // Counted before the sync, because the record must not promise frames that a power cut can lose.
            let synced = order.frames.get();
            let salts = Wal::salts(&wal)?.unwrap_or_default();
            sync_wal(&self.path)?;
            (self.at)(PassStep::WalSynced);
            record.begin(order.number, salts, synced)?;
            (self.at)(PassStep::Recorded);
            // A commit may start a WAL anew that was copied as a whole. From here on, it is not: it has frames that are
            // not copied, or none.
            if Wal::salts(&wal)?.unwrap_or_default() == salts {
                break (salts, synced);
            }
        };
        // The sync of the record took as long as some commits, which are copied too.
        record.extend(order.number, salts, synced, order.frames.get().max(synced))?;
        let frames = WalFrames::by(connection, "PASSIVE")?;
        (self.at)(PassStep::Copied);
        let is_complete = frames.is_copied();
        if is_complete {
            record.end(order.number, salts, frames.whole)?;
        }
        (self.at)(PassStep::Ended);
        Ok(Passed { is_complete })
    }
}
