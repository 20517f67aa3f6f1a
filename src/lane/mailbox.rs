//! What the executors of cores ask of each other, and what is known of rows that were handed on.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use crate::api::write::WriteRefused;
use crate::base::ids::{Receipt, Sequence, ShardId};
use crate::cores::executor;
use crate::ingest::{KeyedRows, Pressure, Verdicts, Written};
use crate::shard::Outcome;

/// Requests of other cores that wait in this one's mailbox.
pub const FORWARDS_MAX: usize = 256;
/// What one core asks of another.
#[derive(Debug)]
pub enum Forward {
    /// To take rows of a shard that the other one feeds.
    Rows {
        shard: ShardId,
        rows: Arc<KeyedRows>,
        wants_disk: bool,
        patience: Duration,
        reply: async_channel::Sender<Result<Settled, Refused>>,
    },
    /// To hold a name for the sender, which alone may work under it. If another request holds it, that one gets a
    /// message through its own `wanted`. `owner` is the mailbox that this goes to, for the release.
    Claim {
        name: String,
        owner: async_channel::Sender<Forward>,
        wanted: async_channel::Sender<()>,
        reply: async_channel::Sender<Option<Grant>>,
    },
    /// To release it.
    Release { name: String },
    /// To sync its journal of a shard, up to there or up to its end; whether it is on disk then.
    Sync { shard: ShardId, upto: Option<u64>, reply: async_channel::Sender<bool> },
}

/// What is known of rows that were journaled.
#[derive(Debug)]
pub struct Settled {
    /// The first row's; the others follow.
    pub first: Receipt,
    /// One a row; `None`: journaled, but not committed in time.
    pub outcomes: Vec<Option<Outcome>>,
    /// Whether the rows are on disk with all that their outcomes rest on, where that was asked for.
    pub synced: bool,
    /// Offset behind the rows in their journal.
    pub upto: u64,
}

/// Why none of the rows was taken.
#[derive(Clone, Copy, Debug)]
pub enum Refused {
    Pressure(Pressure),
    /// The owner core's mailbox is full.
    MailboxFull,
    /// The owner core does not answer; it may or may not have the rows.
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

/// Rows that were handed on and are to be settled.
pub enum Begun {
    Here(Written),
    There(async_channel::Receiver<Result<Settled, Refused>>),
}

/// Those who wait for a commit of one lane, in the order of their sequences.
#[derive(Default)]
pub struct Waiters(pub VecDeque<Waiter>);

pub struct Waiter {
    pub last: Sequence,
    pub deadline_us: u64,
    pub waker: Waker,
}

/// The keyed half of an executor's lane.
pub struct Keyed {
    /// By the index of the intake's lanes.
    pub verdicts: Vec<Arc<Verdicts>>,
    pub waiters: RefCell<Vec<Waiters>>,
    /// To the executor of every core, this one's own included.
    pub forwards: Vec<async_channel::Sender<Forward>>,
    /// How long a request waits for the commit of its rows.
    pub commit_wait: Duration,
}

impl Keyed {
    pub fn new(
        verdicts: Vec<Arc<Verdicts>>,
        forwards: Vec<async_channel::Sender<Forward>>,
        commit_wait: Duration,
    ) -> Keyed {
        let waiters = RefCell::new(verdicts.iter().map(|_| Waiters::default()).collect());
        Keyed { verdicts, waiters, forwards, commit_wait }
    }
}

/// A name that was granted, wherever it is on its way: given back when it is dropped, also by a reply that nobody
/// came to read.
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
