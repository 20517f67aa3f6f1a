//! The path of rows with keys: to the journal on the core that feeds their shard, and back with their outcomes.
//!
//! ```text
//!  this core feeds the shard:   stage_rows ─► flush at the end of the tick ─► wake the writer
//!                               ─► its commit wakes us ─► verdicts
//!  another core does:           Forward ─► (its executor does the same) ─► reply
//! ```
//! Every step is bounded. If a mailbox or journal is full, the rows are refused at once. If a commit does not arrive
//! in time, the response is "accepted", and the journal keeps the rows.

use std::collections::hash_map::Entry;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_lite::FutureExt as _;

use super::mailbox::{Begun, BegunAt, Forward, Grant, Refused, Settled, Waiter};
use super::state::Lane;
use super::sync::on_disk;
use crate::base::clock;
use crate::base::ids::{Sequence, ShardId};
use crate::cores::executor;
use crate::ingest::{Appended, KeyedRows, Pressure, Written, home, is_fed_by};

/// The maximum number of requests from other cores that this core handles at a time. Further requests wait in the
/// mailbox, which then fills up.
const FORWARDS_OPEN_MAX: usize = 1024;
/// The time that is added to the time limit of a commit. A core that has not replied by then is stuck.
const REPLY_PATIENCE: Duration = Duration::from_secs(4);

/// How long rows wait for their journal and for their commit if their client cannot send them again one by one.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// How long such rows wait for a shard above its high-water mark.
const QUEUE_PATIENCE: Duration = Duration::from_secs(1);
const PRESSURE_PAUSE: Duration = Duration::from_millis(20);

/// How long another core may take to sync a journal. A disk under load takes seconds.
const SYNC_PATIENCE: Duration = Duration::from_secs(30);

/// Stages the rows for the journal of this core, which is written at the end of the tick, or sends them to the core that
/// feeds their shard. It does not wait. [`settle`] waits for their commit until `patience` from now.
pub fn begin(
    lane: &Lane,
    shard: ShardId,
    rows: &Arc<KeyedRows>,
    wants_disk: bool,
    patience: Duration,
) -> Result<Begun, Refused> {
    let deadline_us = clock::monotonic_us() + patience.as_micros() as u64;
    let mut intake = lane.intake.borrow_mut();
    if let Some(place) = intake.lane_of(shard) {
        if wants_disk && intake.sync_failed(place) {
            return Err(Refused::Pressure(Pressure::Unsynced));
        }
        let written = intake.stage_rows(place, rows).map_err(Refused::Pressure)?;
        lane.keyed.flusher.ask();
        return Ok(Begun { deadline_us, at: BegunAt::Here(written) });
    }
    drop(intake);
    let (reply, replied) = async_channel::bounded(1);
    let owner = home(usize::from(shard.0), lane.keyed.forwards.len());
    let forward = Forward::Rows { shard, rows: rows.clone(), wants_disk, patience, reply };
    match lane.keyed.forwards.get(owner).map(|to| to.try_send(forward)) {
        Some(Ok(())) => Ok(Begun { deadline_us, at: BegunAt::There(replied) }),
        _ => Err(Refused::MailboxFull),
    }
}

/// As [`begin`], but journals rows of this core at once: other rows of the request are worth nothing without them. Rows for
/// another core are only sent.
pub fn begin_now(
    lane: &Lane,
    shard: ShardId,
    rows: &Arc<KeyedRows>,
    wants_disk: bool,
    patience: Duration,
) -> Result<Begun, Refused> {
    let begun = begin(lane, shard, rows, wants_disk, patience)?;
    if let BegunAt::Here(written) = &begun.at {
        flush(lane);
        if let Some(Err(pressure)) = written.batch.result() {
            return Err(Refused::Pressure(pressure));
        }
    }
    Ok(begun)
}

/// Journals rows as soon as they can be accepted. If the shard is above its high-water mark, waits at most
/// [`QUEUE_PATIENCE`]: one ingest has few rows in progress, so the queue consists of the rows of other requests, and
/// the client must retry.
pub async fn begin_when_there_is_room(
    lane: &Lane,
    shard: ShardId,
    rows: &Arc<KeyedRows>,
    wants_disk: bool,
    commit_patience: Duration,
) -> Result<Begun, Refused> {
    let since_us = clock::monotonic_us();
    loop {
        let refused = match begin(lane, shard, rows, wants_disk, commit_patience) {
            Ok(begun) => return Ok(begun),
            Err(refused) => refused,
        };
        let patience = match refused {
            Refused::Pressure(Pressure::QueueFull { .. }) => QUEUE_PATIENCE,
            Refused::MailboxFull => PATIENCE,
            _ => return Err(refused),
        };
        if clock::monotonic_us() - since_us >= patience.as_micros() as u64 {
            return Err(refused);
        }
        executor::sleep(PRESSURE_PAUSE).await;
    }
}

/// Waits for the outcomes of the rows: until the commit, or until their time limit.
pub async fn settle(lane: &Lane, begun: Begun, wants_disk: bool) -> Result<Settled, Refused> {
    let Begun { deadline_us, at } = begun;
    match at {
        BegunAt::Here(written) => settle_here(lane, written, wants_disk, deadline_us).await,
        BegunAt::There(replied) => {
            let left = Duration::from_micros(deadline_us.saturating_sub(clock::monotonic_us()));
            receive(replied, left + REPLY_PATIENCE).await?
        }
    }
}

async fn settle_here(
    lane: &Lane,
    written: Written,
    wants_disk: bool,
    deadline_us: u64,
) -> Result<Settled, Refused> {
    let place = written.appended.lane;
    poll_fn(|context| {
        match written.batch.result() {
            Some(Err(pressure)) => return Poll::Ready(Err(Refused::Pressure(pressure))),
            Some(Ok(())) => {
                lane.keyed.verdicts[place].await_commit();
                if lane.intake.borrow().applied(place) >= written.last || clock::monotonic_us() >= deadline_us
                {
                    return Poll::Ready(Ok(()));
                }
            }
            // The flush asks for the commit.
            None => {}
        }
        let waiter = Waiter { last: written.last, deadline_us, waker: context.waker().clone() };
        lane.keyed.waiters.borrow_mut()[place].push(waiter);
        Poll::Pending
    })
    .await?;
    let mut synced = true;
    if wants_disk {
        // The outcomes of the rows may depend on records of their shard that other cores have journaled.
        let others = ask_feeders(lane, written.first.shard, |core| core != lane.core).await;
        synced = on_disk(lane, written.appended).await && others_synced(others).await?;
    }
    let applied = lane.intake.borrow().applied(place);
    let verdicts = &lane.keyed.verdicts[place];
    let outcomes = (written.first.sequence.0..=written.last.0)
        .map(|sequence| (Sequence(sequence) <= applied).then(|| verdicts.of(Sequence(sequence))).flatten())
        .collect();
    Ok(Settled { first: written.first, outcomes, synced, upto: written.appended.upto })
}

/// Waits until every requested core has synced, for rows that are already journaled. Unlike in [`all_synced`],
/// every failure is `NoAnswer`, because the response can no longer claim that nothing was stored.
async fn others_synced(asked: Result<Vec<async_channel::Receiver<bool>>, Refused>) -> Result<bool, Refused> {
    let asked = asked.map_err(|_| Refused::NoAnswer)?;
    all_synced(asked).await.map_err(|_| Refused::NoAnswer)
}

/// Journals staged rows whenever a request has staged some. This task was woken after the requests that are ready in the
/// same tick, so one write serves all of them, and the writer gets them as one batch.
pub async fn run_flushes(lane: Rc<Lane>) {
    poll_fn(|context| {
        if lane.keyed.flusher.poll(context) {
            flush(&lane);
        }
        Poll::Pending
    })
    .await
}

/// Journals what requests have staged. If that fails, they are woken to refuse it. Those whose time has passed are woken,
/// too: nothing is answered before it is journaled.
pub fn flush(lane: &Lane) {
    let flushed = lane.intake.borrow_mut().flush();
    lane.me.executor.accepted_events.add(flushed.rows);
    lane.me.executor.accepted_bytes.add(flushed.bytes);
    if flushed.is_refused {
        let mut refused = Vec::new();
        lane.keyed.waiters.borrow_mut().iter_mut().for_each(|waiters| waiters.take_all(&mut refused));
        refused.into_iter().for_each(|waiter| waiter.waker.wake());
    }
    wake(lane, clock::monotonic_us());
}

/// Wakes the waiters whose rows are committed, after every commit that had waiters.
pub async fn run_commits(lane: Rc<Lane>, committed: async_channel::Receiver<()>) {
    while committed.recv().await.is_ok() {
        wake(&lane, 0);
    }
}

/// Wakes the waiters whose rows are committed or whose time has passed.
pub fn wake(lane: &Lane, now_us: u64) {
    let mut ready = Vec::new();
    for (place, waiters) in lane.keyed.waiters.borrow_mut().iter_mut().enumerate() {
        if waiters.is_empty() {
            continue;
        }
        // This precedes the read of the applied position, so that a later commit wakes this lane again.
        lane.keyed.verdicts[place].await_commit();
        let applied = lane.intake.borrow().applied(place);
        waiters.take_ready(applied, now_us, &mut ready);
    }
    for waiter in ready {
        waiter.waker.wake();
    }
}

/// Serves the other cores.
pub async fn run_forwards(lane: Rc<Lane>, forwarded: async_channel::Receiver<Forward>) {
    let open = Rc::new(std::cell::Cell::new(0_usize));
    while let Ok(forward) = forwarded.recv().await {
        let (shard, rows, wants_disk, patience, reply) = match forward {
            Forward::Rows { shard, rows, wants_disk, patience, reply } => {
                (shard, rows, wants_disk, patience, reply)
            }
            Forward::Claim { name, owner, wanted, reply } => {
                let grant = match lane.claims.borrow_mut().entry(name.clone()) {
                    Entry::Vacant(free) => {
                        free.insert(wanted);
                        Some(Grant { owner, name: Some(name) })
                    }
                    Entry::Occupied(held) => {
                        // If the channel is full, the holder has been notified already.
                        let _ = held.get().try_send(());
                        None
                    }
                };
                // The requester may have stopped waiting. In that case, the grant is released now or when the unread
                // reply is dropped.
                let _ = reply.try_send(grant);
                continue;
            }
            Forward::Release { name } => {
                lane.claims.borrow_mut().remove(&name);
                continue;
            }
            Forward::Sync { shard, upto, reply } => {
                let lane = lane.clone();
                executor::spawn(async move {
                    // The requester may have stopped waiting.
                    let _ = reply.try_send(sync_here(&lane, shard, upto).await);
                });
                continue;
            }
        };
        let begun = begin(&lane, shard, &rows, wants_disk, patience);
        let (lane, counted) = (lane.clone(), open.clone());
        counted.set(counted.get() + 1);
        executor::spawn(async move {
            let settled = match begun {
                Ok(begun) => settle(&lane, begun, wants_disk).await,
                Err(refused) => Err(refused),
            };
            // The requester may have stopped waiting.
            let _ = reply.try_send(settled);
            counted.set(counted.get() - 1);
        });
        while open.get() >= FORWARDS_OPEN_MAX {
            executor::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// Syncs this core's journal of a shard. Returns `true` if it is on disk up to the offset.
async fn sync_here(lane: &Lane, shard: ShardId, upto: Option<u64>) -> bool {
    let appended = {
        let intake = lane.intake.borrow();
        intake.lane_of(shard).map(|place| Appended { lane: place, upto: upto.unwrap_or(intake.end(place)) })
    };
    match appended {
        Some(appended) => on_disk(lane, appended).await,
        None => false,
    }
}

/// The end offsets of rows in the journals that [`begin`] selects for their shards on this core.
#[derive(Clone, Debug, Default)]
pub struct JournalEnds(Vec<(ShardId, u64)>);

impl JournalEnds {
    /// Records that rows of this shard end at `upto`.
    pub fn add(&mut self, shard: ShardId, upto: u64) {
        match self.0.iter_mut().find(|(known, _)| *known == shard) {
            Some((_, end)) => *end = upto.max(*end),
            None => self.0.push((shard, upto)),
        }
    }

    /// Syncs the journals up to these ends, concurrently. If all are on disk, forgets the ends and returns `true`.
    /// One fdatasync per journal serves all requests that wait for it.
    pub async fn sync(&mut self, lane: &Lane) -> Result<bool, Refused> {
        let (mut here, mut asked) = (Vec::new(), Vec::new());
        for (shard, upto) in &self.0 {
            let mut owner = home(usize::from(shard.0), lane.keyed.forwards.len());
            if lane.intake.borrow().lane_of(*shard).is_some() {
                owner = lane.core;
                here.push((*shard, *upto));
            } else {
                asked.push(ask_sync(lane, owner, *shard, Some(*upto)).await?);
            }
            // A duplicate refers to a row that another core may have journaled.
            asked.append(&mut ask_feeders(lane, *shard, |core| core != owner).await?);
        }
        let mut synced = true;
        for (shard, upto) in here {
            synced &= sync_here(lane, shard, Some(upto)).await;
        }
        synced &= all_synced(asked).await?;
        if synced {
            self.0.clear();
        }
        Ok(synced)
    }
}

/// Requests a sync from another core. Waits for space in its mailbox, because one commit may wake hundreds of
/// requests that need a sync at once.
async fn ask_sync(
    lane: &Lane,
    core: usize,
    shard: ShardId,
    upto: Option<u64>,
) -> Result<async_channel::Receiver<bool>, Refused> {
    let (reply, replied) = async_channel::bounded(1);
    let to = lane.keyed.forwards.get(core).ok_or(Refused::NoAnswer)?;
    send(to, Forward::Sync { shard, upto, reply }, SYNC_PATIENCE).await.map(|()| replied)
}

/// Sends a message to a mailbox. Waits for space in the mailbox for at most `patience`.
async fn send(to: &async_channel::Sender<Forward>, ask: Forward, patience: Duration) -> Result<(), Refused> {
    let sent = async { to.send(ask).await.map_err(|_| Refused::NoAnswer) };
    let full = async {
        executor::sleep(patience).await;
        Err(Refused::MailboxFull)
    };
    sent.or(full).await
}

/// Waits for a reply for at most `patience`.
async fn receive<T>(replied: async_channel::Receiver<T>, patience: Duration) -> Result<T, Refused> {
    let silent = async {
        executor::sleep(patience).await;
        Err(async_channel::RecvError)
    };
    replied.recv().or(silent).await.map_err(|_| Refused::NoAnswer)
}

/// Syncs every core's journal of a shard up to its current end, so that everything committed there, from any sender,
/// survives a power cut. Returns `true` if it does.
pub async fn sync_shard(lane: &Lane, shard: ShardId) -> Result<bool, Refused> {
    let others = ask_feeders(lane, shard, |core| core != lane.core).await?;
    let is_here = lane.intake.borrow().lane_of(shard).is_some();
    let here = !is_here || sync_here(lane, shard, None).await;
    Ok(all_synced(others).await? && here)
}

/// Asks the selected cores to sync their journals of a shard that they feed.
async fn ask_feeders(
    lane: &Lane,
    shard: ShardId,
    is_asked: impl Fn(usize) -> bool,
) -> Result<Vec<async_channel::Receiver<bool>>, Refused> {
    let (cores, shards) = (lane.keyed.forwards.len(), usize::from(lane.shard_count));
    let feeds = |core: &usize| is_fed_by(usize::from(shard.0), *core, cores, shards);
    let mut asked = Vec::new();
    for core in (0..cores).filter(feeds).filter(|core| is_asked(*core)) {
        asked.push(ask_sync(lane, core, shard, None).await?);
    }
    Ok(asked)
}

async fn all_synced(asked: Vec<async_channel::Receiver<bool>>) -> Result<bool, Refused> {
    let mut synced = true;
    for replied in asked {
        synced &= receive(replied, SYNC_PATIENCE).await?;
    }
    Ok(synced)
}

/// A name that at most one request on any core holds. The name is released when this is dropped.
pub struct Claim {
    _grant: Grant,
    wanted: async_channel::Receiver<()>,
}

impl Claim {
    /// Returns once another request asks for the name.
    pub async fn wanted(&self) {
        if self.wanted.recv().await.is_err() {
            std::future::pending().await
        }
    }
}

/// Claims a name at the home core of the shard that a hash selects. Returns `None` if another request holds it.
pub async fn claim(lane: &Lane, shard: ShardId, name: String) -> Result<Option<Claim>, Refused> {
    let core = home(usize::from(shard.0), lane.keyed.forwards.len());
    let Some(owner) = lane.keyed.forwards.get(core) else { return Err(Refused::NoAnswer) };
    let (reply, replied) = async_channel::bounded(1);
    let (tell, wanted) = async_channel::bounded(1);
    let ask = Forward::Claim { name, owner: owner.clone(), wanted: tell, reply };
    // Many requests may claim names within one tick, so this waits for space in the mailbox.
    send(owner, ask, REPLY_PATIENCE).await?;
    let grant = receive(replied, REPLY_PATIENCE).await?;
    Ok(grant.map(|grant| Claim { _grant: grant, wanted }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn granted(owner: &async_channel::Sender<Forward>) -> Option<Grant> {
        Some(Grant { owner: owner.clone(), name: Some("name".to_owned()) })
    }

    fn is_released(mailbox: &async_channel::Receiver<Forward>) -> bool {
        let released = mailbox.try_recv();
        assert!(mailbox.is_empty(), "once");
        matches!(released, Ok(Forward::Release { name }) if name == "name")
    }

    #[test]
    fn a_core_that_cannot_be_asked_is_not_a_failed_sync_of_rows_that_are_journaled() {
        let synced = |asked| futures_lite::future::block_on(others_synced(asked));
        let replied = |answer: Option<bool>| {
            let (reply, replied) = async_channel::bounded(1);
            answer.into_iter().for_each(|answer| reply.try_send(answer).unwrap());
            replied
        };
        assert!(matches!(synced(Err(Refused::MailboxFull)), Err(Refused::NoAnswer)));
        assert!(matches!(synced(Ok(vec![replied(Some(true)), replied(Some(true))])), Ok(true)));
        assert!(matches!(synced(Ok(vec![replied(Some(false)), replied(Some(true))])), Ok(false)));
    }

    #[test]
    fn a_name_granted_to_a_client_that_vanished_is_given_back() {
        let (owner, mailbox) = async_channel::bounded(4);
        // The client disconnects before the grant.
        let (reply, replied) = async_channel::bounded(1);
        drop(replied);
        let _ = reply.try_send(granted(&owner));
        assert!(is_released(&mailbox));
        // The client disconnects after the grant, without having read it.
        let (reply, replied) = async_channel::bounded(1);
        reply.try_send(granted(&owner)).unwrap();
        drop(replied);
        drop(reply);
        assert!(is_released(&mailbox));
        // The client disconnects while it holds the name. The name is not released before that.
        let (reply, replied) = async_channel::bounded(1);
        reply.try_send(granted(&owner)).unwrap();
        drop(reply);
        let held = replied.try_recv().unwrap();
        assert!(mailbox.is_empty());
        drop(held);
        assert!(is_released(&mailbox));
    }
}
