//! The messages between the cores' executors, and the state of rows that were sent to a journal.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use crate::api::error::{EventRefused, RowRefusal};
use crate::api::write::WriteRefused;
use crate::base::clock;
use crate::base::ids::{Receipt, Sequence, ShardId};
use crate::cores::executor;
use crate::ingest::{self, KeyedRows, Pressure, Verdicts, Written};
use crate::shard::Outcome;

/// The maximum number of requests from other cores that wait in one core's mailbox.
pub const FORWARDS_MAX: usize = 256;
/// A request from one core to another.
#[derive(Debug)]
pub enum Forward {
    /// Append rows to the journal of a shard that the receiver feeds.
    Rows {
        shard: ShardId,
        rows: Arc<KeyedRows>,
        wants_disk: bool,
        patience: Duration,
        reply: async_channel::Sender<Result<Settled, Refused>>,
    },
    /// Hold a name for the sender, so that only the sender works under it. If another request holds the name, that
    /// request is notified through its own `wanted`. `owner` is the mailbox that receives this message. The release
    /// is sent to the same mailbox.
    Claim {
        name: String,
        owner: async_channel::Sender<Forward>,
        wanted: async_channel::Sender<()>,
        reply: async_channel::Sender<Option<Grant>>,
    },
    /// Release the name.
    Release { name: String },
    /// Sync the journal of a shard, up to an offset or up to its end. The reply is `true` if that part is on disk
    /// afterwards.
    Sync { shard: ShardId, upto: Option<u64>, reply: async_channel::Sender<bool> },
}

/// The outcomes of rows that were journaled.
#[derive(Debug)]
pub struct Settled {
    /// The receipt of the first row. The receipts of the other rows follow it.
    pub first: Receipt,
    /// The outcome of each row. `None` means that the row is journaled, but was not committed in time.
    pub outcomes: Vec<Option<Outcome>>,
    /// If a sync was requested, this is set if the rows are on disk with everything that their outcomes depend on.
    /// Otherwise, it is `true`.
    pub synced: bool,
    /// The offset after the rows in their journal.
    pub upto: u64,
}

/// Why none of the rows was accepted.
#[derive(Clone, Copy, Debug)]
pub enum Refused {
    Pressure(Pressure),
    /// The mailbox of the owner core is full.
    MailboxFull,
    /// The owner core does not reply. It may or may not have journaled the rows.
    NoAnswer,
}

impl From<Refused> for WriteRefused {
    fn from(refused: Refused) -> WriteRefused {
        match refused {
            Refused::Pressure(pressure) => WriteRefused::Pressure(pressure),
            Refused::MailboxFull | Refused::NoAnswer => WriteRefused::CoreBusy,
        }
    }
}

/// Rows that were staged or forwarded, and whose outcomes are pending.
pub struct Begun {
    /// The monotonic time until which their commit is awaited. It is fixed when they begin, so a request with rows in
    /// several shards waits once, and not once for each shard.
    pub deadline_us: u64,
    pub at: BegunAt,
}

impl Begun {
    /// Ends the wait at the latest after `patience` from now.
    pub fn hurry(&mut self, patience: Duration) {
        self.deadline_us = self.deadline_us.min(clock::monotonic_us() + patience.as_micros() as u64);
    }
}

/// The core that journals the rows.
pub enum BegunAt {
    Here(Written),
    There(async_channel::Receiver<Result<Settled, Refused>>),
}

/// The requests that wait for a commit of one lane, ordered by sequence, except for those that were woken in vain.
pub struct Waiters {
    queue: VecDeque<Waiter>,
    /// The earliest deadline of the queue, or an earlier time.
    due_us: u64,
}

impl Default for Waiters {
    fn default() -> Waiters {
        Waiters { queue: VecDeque::new(), due_us: u64::MAX }
    }
}

impl Waiters {
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub fn push(&mut self, waiter: Waiter) {
        self.due_us = self.due_us.min(waiter.deadline_us);
        self.queue.push_back(waiter);
    }

    /// Removes the waiters at the front whose rows are committed, and all whose time has passed. Rows of different
    /// requests have different deadlines.
    pub fn take_ready(&mut self, applied: Sequence, now_us: u64, ready: &mut Vec<Waiter>) {
        while self.queue.front().is_some_and(|first| first.last <= applied) {
            ready.extend(self.queue.pop_front());
        }
        if self.due_us <= now_us {
            let is_due = |waiter: &Waiter| waiter.deadline_us <= now_us;
            let (due, left): (VecDeque<_>, VecDeque<_>) = self.queue.drain(..).partition(is_due);
            self.due_us = left.iter().map(|waiter| waiter.deadline_us).min().unwrap_or(u64::MAX);
            self.queue = left;
            ready.extend(due);
        }
    }

    /// Removes all waiters.
    pub fn take_all(&mut self, ready: &mut Vec<Waiter>) {
        ready.extend(self.queue.drain(..));
        self.due_us = u64::MAX;
    }
}

pub struct Waiter {
    pub last: Sequence,
    pub deadline_us: u64,
    pub waker: Waker,
}

/// The wish to journal what was staged, and the task that does it.
#[derive(Default)]
pub struct Flusher {
    is_asked: Cell<bool>,
    task: RefCell<Option<Waker>>,
}

impl Flusher {
    /// Wakes the task, once until it runs. It runs after every task that is ready now.
    pub fn ask(&self) {
        if !self.is_asked.replace(true)
            && let Some(task) = &*self.task.borrow()
        {
            task.wake_by_ref();
        }
    }

    /// Returns `true` if a flush was asked for. Otherwise, the next wish wakes the task.
    pub fn poll(&self, context: &Context<'_>) -> bool {
        let mut task = self.task.borrow_mut();
        if !task.as_ref().is_some_and(|known| known.will_wake(context.waker())) {
            *task = Some(context.waker().clone());
        }
        self.is_asked.replace(false)
    }
}

/// The part of an executor's lane that handles rows with keys.
pub struct Keyed {
    /// The outcomes, by the index of the intake's lane.
    pub verdicts: Vec<Arc<Verdicts>>,
    pub waiters: RefCell<Vec<Waiters>>,
    pub flusher: Flusher,
    /// The mailboxes of all cores' executors, including this one.
    pub forwards: Vec<async_channel::Sender<Forward>>,
    /// The maximum time that a request waits for the commit of its rows.
    pub commit_wait: Duration,
}

impl Keyed {
    pub fn new(
        verdicts: Vec<Arc<Verdicts>>,
        forwards: Vec<async_channel::Sender<Forward>>,
        commit_wait: Duration,
    ) -> Keyed {
        let waiters = RefCell::new(verdicts.iter().map(|_| Waiters::default()).collect());
        Keyed { verdicts, waiters, flusher: Flusher::default(), forwards, commit_wait }
    }
}

/// A granted name on its way to the claimant. The name is released when this is dropped, even within a reply that is
/// never read.
#[derive(Debug)]
pub struct Grant {
    pub owner: async_channel::Sender<Forward>,
    pub name: Option<String>,
}

impl Drop for Grant {
    fn drop(&mut self) {
        let Some(name) = self.name.take() else { return };
        let Err(unsent) = self.owner.try_send(Forward::Release { name }) else { return };
        if let async_channel::TrySendError::Full(release) = unsent {
            let owner = self.owner.clone();
            executor::spawn(async move {
                let _ = owner.send(release).await;
            });
        }
    }
}

impl From<Refused> for EventRefused {
    fn from(refused: Refused) -> EventRefused {
        match refused {
            Refused::Pressure(pressure) => ingest::Refused::Pressure(pressure).into(),
            Refused::MailboxFull => EventRefused::CoreBusy,
            Refused::NoAnswer => EventRefused::OutcomeUnknown,
        }
    }
}

impl From<Refused> for RowRefusal {
    fn from(refused: Refused) -> RowRefusal {
        match refused {
            Refused::Pressure(Pressure::QueueFull { .. }) => RowRefusal::QueueFull,
            Refused::Pressure(Pressure::JournalFull) => RowRefusal::JournalFull,
            Refused::Pressure(Pressure::JournalBroken | Pressure::Unsynced) | Refused::MailboxFull => {
                RowRefusal::Overloaded
            }
            Refused::NoAnswer => RowRefusal::OutcomeUnknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl std::task::Wake for Count {
        fn wake(self: Arc<Count>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_deadline_is_not_kept_waiting_by_rows_in_front_of_it() {
        let mut waiters = Waiters::default();
        for (last, deadline_us) in [(1, 30_000), (2, 1_000), (3, 30_000), (4, 500)] {
            waiters.push(Waiter { last: Sequence(last), deadline_us, waker: Waker::noop().clone() });
        }
        let mut taken = |applied, now_us| {
            let mut ready = Vec::new();
            waiters.take_ready(Sequence(applied), now_us, &mut ready);
            ready.into_iter().map(|waiter| waiter.last.0).collect::<Vec<_>>()
        };
        assert!(taken(0, 499).is_empty());
        assert_eq!(taken(0, 500), [4]);
        assert_eq!(taken(0, 1_000), [2]);
        // A commit wakes without looking at the time.
        assert_eq!(taken(1, 0), [1]);
        assert!(taken(1, 29_999).is_empty());
        assert_eq!(taken(1, 30_000), [3]);
        assert!(waiters.is_empty());
    }

    #[test]
    fn the_first_wish_wakes_the_task_and_one_run_serves_all() {
        let flusher = Flusher::default();
        // A wish before the first run of the task is not forgotten.
        flusher.ask();
        let count = Arc::new(Count::default());
        let waker = Waker::from(count.clone());
        let context = Context::from_waker(&waker);
        assert!(flusher.poll(&context) && !flusher.poll(&context));
        let woken = || count.0.load(Ordering::Relaxed);
        assert_eq!(woken(), 0);
        flusher.ask();
        flusher.ask();
        assert_eq!(woken(), 1);
        assert!(flusher.poll(&context) && !flusher.poll(&context));
        flusher.ask();
        assert_eq!(woken(), 2);
    }
}
