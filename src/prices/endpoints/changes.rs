//! Price changes, streamed as they are committed. Each core has one reader for all its streams, and a ring that these
//! streams read.
//!
//! ```text
//!  write-XX ─ commit with changes ─► a message to every core ─► this core's task reads what is new, once
//!                                                              └► ring ─► streams of those tenants are woken
//! ```
//! A stream holds a position in the ring and a position in every shard: a few hundred bytes in addition to its
//! connection. A stream reads from the shards if it resumes with an id, or if it is slow and its entries have left
//! the ring. It then joins the ring at the position that the task had when the replay began. No change is missed or
//! sent twice at this transition. Everything is bounded: the ring by entries and bytes, a replay by a few rows of
//! each shard, and concurrent replays by tokens.

mod stream;

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::task::Waker;
use std::time::Duration;

use bytes::Bytes;
use slab::Slab;

pub(super) use self::stream::begin;
use super::super::query::{self, ChangePosition};
use super::super::read::{ChangeMark, PriceChange};
use crate::base::clock;
use crate::base::tokens::Tokens;
use crate::cores::executor;
use crate::cores::stop::Stage;
use crate::lane::{Component, Lane};
use crate::query::{CursorKey, QueryError};

/// The maximum number of changes, for all tenants, that a core keeps for its streams. A stream that falls further
/// behind reads its changes from the shards.
const RING_CHANGES: usize = 1_024;
/// The maximum total size of these changes, in bytes.
const RING_BYTES: usize = 2 << 20;
/// The maximum number of changes in one read from a shard.
const READ_CHANGES: usize = 256;
/// The maximum number of a core's replays that read the shards at once. Further replays wait.
const REPLAYS: usize = 8;
/// The pause between two attempts to read a shard that could not be read.
const RETRY: Duration = Duration::from_millis(100);
/// How often every stream gets a comment, so that no intermediary sees a silent connection and a broken connection is
/// noticed.
const HEARTBEAT_S: u64 = 15;

/// One tenant with streams on this core.
struct Topic {
    tenant_id: Rc<str>,
    seats: RefCell<Slab<Subscription>>,
    /// The number of the topic's newest entry that has left the ring. It is 0 if none has.
    dropped: Cell<u64>,
}

/// The data that is required to wake one stream.
struct Subscription {
    /// A number that determines in which second of each [`HEARTBEAT_S`] the stream gets its comment.
    number: u64,
    waker: Option<Waker>,
    beat_due: bool,
    /// Set if the stream's permission to read must be checked again.
    check_due: bool,
}

impl Subscription {
    /// Marks the comment and the check as due, every [`HEARTBEAT_S`]. Returns the waker.
    fn beat(&mut self) -> Option<Waker> {
        self.beat_due = true;
        self.check()
    }

    fn check(&mut self) -> Option<Waker> {
        self.check_due = true;
        self.waker.take()
    }
}

/// One change, rendered for every stream of its tenant.
struct Entry {
    topic: Rc<Topic>,
    product_id: Box<str>,
    frame: Bytes,
    /// The position of a stream that has received this entry.
    after: Rc<ChangePosition>,
}

impl Entry {
    fn bytes(&self) -> usize {
        self.frame.len() + self.product_id.len() + self.after.0.len() * size_of::<ChangeMark>()
    }
}

/// The entries, numbered consecutively from 1.
struct Ring {
    entries: VecDeque<Entry>,
    first: u64,
    bytes: usize,
}

impl Ring {
    fn end(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    fn push(&mut self, entry: Entry) {
        self.bytes += entry.bytes();
        self.entries.push_back(entry);
        while self.entries.len() > RING_CHANGES || self.bytes > RING_BYTES {
            let Some(oldest) = self.entries.pop_front() else { break };
            self.bytes -= oldest.bytes();
            oldest.topic.dropped.set(self.first);
            self.first += 1;
        }
    }

    /// Returns the next entry for a topic and product, starting at number `from`, together with the number after it.
    /// Returns `None` if the ring has no such entry.
    fn next(&self, from: u64, topic: &Rc<Topic>, product_id: Option<&str>) -> Option<(u64, &Entry)> {
        let skip = from.saturating_sub(self.first) as usize;
        let found = self.entries.iter().enumerate().skip(skip).find(|(_, entry)| {
            Rc::ptr_eq(&entry.topic, topic) && product_id.is_none_or(|product| *entry.product_id == *product)
        });
        found.map(|(at, entry)| (self.first + at as u64 + 1, entry))
    }
}

/// A new stream that waits until the core has read up to the stream's position.
struct Join {
    from: Option<ChangePosition>,
    reply: async_channel::Sender<()>,
}

/// All of one core's streams.
pub struct Hub {
    /// The position up to which every shard was read. `None` while there is no stream.
    position: RefCell<Option<Rc<ChangePosition>>>,
    /// The number of changes that each shard had published when it was last read.
    seen: RefCell<Vec<Option<u64>>>,
    ring: RefCell<Ring>,
    topics: RefCell<HashMap<Rc<str>, Rc<Topic>>>,
    joins: RefCell<Vec<Join>>,
    /// The channel that wakes the task. A commit with changes in any shard uses it too.
    poke: async_channel::Sender<()>,
    changed: async_channel::Receiver<()>,
    /// Limits the replays that read at once to [`REPLAYS`].
    tokens: Tokens,
    streams: Cell<usize>,
    numbers: Cell<u64>,
    beat: Cell<u64>,
    closing: Cell<bool>,
}

impl Hub {
    pub fn new((poke, changed): (async_channel::Sender<()>, async_channel::Receiver<()>)) -> Hub {
        Hub {
            position: RefCell::default(),
            seen: RefCell::default(),
            ring: RefCell::new(Ring { entries: VecDeque::new(), first: 1, bytes: 0 }),
            topics: RefCell::default(),
            joins: RefCell::default(),
            poke,
            changed,
            tokens: Tokens::new(REPLAYS),
            streams: Cell::new(0),
            numbers: Cell::new(0),
            beat: Cell::new(0),
            closing: Cell::new(false),
        }
    }

    fn topic(&self, tenant_id: &str) -> Rc<Topic> {
        let mut topics = self.topics.borrow_mut();
        if let Some(topic) = topics.get(tenant_id) {
            return topic.clone();
        }
        let tenant_id: Rc<str> = tenant_id.into();
        let topic =
            Rc::new(Topic { tenant_id: tenant_id.clone(), seats: RefCell::default(), dropped: Cell::new(0) });
        topics.insert(tenant_id, topic.clone());
        topic
    }

    /// Adds changes from one shard, in their order.
    fn add_changes(
        &self,
        key: &CursorKey,
        place: usize,
        epoch: u32,
        changes: &[PriceChange],
    ) -> Result<(), QueryError> {
        let mut touched: Vec<Rc<Topic>> = Vec::new();
        for change in changes {
            let mut position = match &*self.position.borrow() {
                Some(position) => (**position).clone(),
                None => return Ok(()),
            };
            position.0[place] = ChangeMark::at(epoch, change.change);
            let topic = self.topics.borrow().get(&*change.tenant_id).cloned();
            let frame =
                topic.as_ref().map(|_| frame(key, &change.tenant_id, &position, change)).transpose()?;
            let position = Rc::new(position);
            *self.position.borrow_mut() = Some(position.clone());
            if let (Some(topic), Some(frame)) = (topic, frame) {
                let product_id = change.product_id.as_str().into();
                let entry = Entry { topic: topic.clone(), product_id, frame, after: position };
                self.ring.borrow_mut().push(entry);
                if !touched.iter().any(|known| Rc::ptr_eq(known, &topic)) {
                    touched.push(topic);
                }
            }
        }
        touched.iter().for_each(|topic| topic.wake_all());
        Ok(())
    }

    /// Replies to the new streams that may join, and drops the joins whose streams are no longer waiting. While a shard
    /// cannot be read, a stream may join only if the core has read at least as far as the stream in every shard. The
    /// stream gets the changes of the unreadable shard once that shard can be read.
    fn admit_joins(&self, joins: &mut Vec<Join>, all_read: bool) {
        let position = self.position.borrow();
        let is_there = |join: &Join| {
            let Some(position) = &*position else { return false };
            let Some(from) = &join.from else { return true };
            from.0.iter().zip(&position.0).all(|(from, at)| from.change <= at.change)
        };
        joins.retain(|join| {
            let may_join = all_read || is_there(join);
            if may_join {
                let _ = join.reply.try_send(());
            }
            !may_join && !join.reply.is_closed()
        });
    }

    /// Wakes the streams whose comment is due in this second. When the server drains, wakes all streams to end them.
    /// After a change of keys, wakes all streams to check their permission.
    fn keep(&self, now_us: u64, stage: Stage, keys_changed: bool) {
        if stage >= Stage::Draining && !self.closing.replace(true) {
            self.topics.borrow().values().for_each(|topic| topic.wake_all());
        }
        if keys_changed {
            self.topics.borrow().values().for_each(|topic| topic.wake(|_| true, Subscription::check));
        }
        let second = now_us / 1_000_000;
        let before = self.beat.replace(second);
        if before == second || before == 0 {
            return;
        }
        // A core that was blocked processes the seconds that it missed.
        let missed = (second - before).min(HEARTBEAT_S);
        let is_due = |number: u64| (number + second) % HEARTBEAT_S < missed;
        self.topics
            .borrow()
            .values()
            .for_each(|topic| topic.wake(|seat| is_due(seat.number), Subscription::beat));
    }

    fn streams(&self) -> usize {
        self.streams.get()
    }
}

impl Component for Hub {
    fn start(&self, lane: &Rc<Lane>) {
        executor::spawn(run(lane.clone(), self.changed.clone()));
    }

    fn tick(&self, lane: &Lane) {
        let keys_changed = lane.desk.borrow_mut().has_changed();
        self.keep(clock::monotonic_us(), lane.vitals.stop.stage(), keys_changed);
        debug_assert!(self.streams() as u64 == lane.me.executor.streams.get());
    }
}

fn hub(lane: &Lane) -> &Hub {
    lane.component()
}

impl Topic {
    fn wake_all(&self) {
        self.wake(|_| true, |seat| seat.waker.take());
    }

    fn wake(
        &self,
        is_meant: impl Fn(&Subscription) -> bool,
        mark: impl Fn(&mut Subscription) -> Option<Waker>,
    ) {
        let mut wakers: Vec<Waker> = Vec::new();
        for (_, seat) in self.seats.borrow_mut().iter_mut().filter(|(_, seat)| is_meant(seat)) {
            wakers.extend(mark(seat));
        }
        // The seats are no longer borrowed, so a woken stream may access its own seat.
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// Renders a change as one event of a stream. The event's id is the position after it.
fn frame(
    key: &CursorKey,
    tenant_id: &str,
    after: &ChangePosition,
    change: &PriceChange,
) -> Result<Bytes, QueryError> {
    let id = after.seal(key, tenant_id)?.0;
    let kind = if change.is_review { "review" } else { "anomaly" };
    let mut frame = format!("id: {id}\nevent: {kind}\ndata: ").into_bytes();
    frame.extend_from_slice(&change.json);
    frame.extend_from_slice(b"\n\n");
    Ok(frame.into())
}

/// Reads new changes whenever a shard reports some, and whenever a stream joins.
async fn run(lane: Rc<Lane>, changed: async_channel::Receiver<()>) {
    // The error that was logged last. A persistent error is logged only once.
    let mut failing: Option<String> = None;
    while changed.recv().await.is_ok() {
        let mut joins = Vec::new();
        loop {
            joins.append(&mut hub(&lane).joins.borrow_mut());
            let outcome = catch_up(&lane, &joins).await;
            hub(&lane).admit_joins(&mut joins, outcome.is_ok());
            match outcome {
                Ok(()) => {
                    if failing.take().is_some() {
                        tracing::info!("price changes are read from every shard again");
                    }
                    break;
                }
                Err(QueryError::Busy) => {}
                Err(error) => {
                    let error = error.to_string();
                    if failing.as_ref() != Some(&error) {
                        tracing::warn!(error, "price changes wait for a shard that cannot be read");
                        failing = Some(error);
                    }
                }
            }
            executor::sleep(RETRY).await;
        }
    }
}

async fn catch_up(lane: &Rc<Lane>, joins: &[Join]) -> Result<(), QueryError> {
    let hub = hub(lane);
    let shards = &lane.vitals.board.shards;
    if hub.streams.get() == 0 {
        // There is no stream. The shards' positions are read again when there is one.
        *hub.position.borrow_mut() = None;
        return Ok(());
    }
    if hub.position.borrow().is_none() {
        // The counts are read before the positions. A commit between the two causes one additional read, which finds
        // no changes after the position.
        let counts = shards.iter().map(|shard| Some(shard.status.changes.get())).collect();
        let position = query::change_marks(&lane.readers).await?;
        *hub.seen.borrow_mut() = counts;
        *hub.position.borrow_mut() = Some(Rc::new(position));
    }
    // The shards are read one at a time. A shard that fails does not prevent reads from the other shards. A slow
    // shard delays the shards after it.
    let mut outcome = Ok(());
    for place in 0..shards.len() {
        outcome = outcome.and(catch_up_shard(lane, joins, place).await);
    }
    outcome
}

/// Reads one shard up to its current end if it has new changes, or if a stream that joins is ahead of this core.
async fn catch_up_shard(lane: &Rc<Lane>, joins: &[Join], place: usize) -> Result<(), QueryError> {
    let hub = hub(lane);
    let Some(shard) = lane.vitals.board.shards.get(place) else { return Ok(()) };
    let mark = |position: &ChangePosition| position.0.get(place).copied().unwrap_or_default();
    loop {
        let Some(at) = hub.position.borrow().as_deref().map(mark) else { return Ok(()) };
        let is_ahead = |join: &Join| join.from.as_ref().map(mark).is_some_and(|from| from.change > at.change);
        let count = Some(shard.status.changes.get());
        let is_new = hub.seen.borrow().get(place).is_none_or(|seen| *seen != count);
        if !is_new && !joins.iter().any(is_ahead) {
            return Ok(());
        }
        // `None` marks the shard as having new changes until it is read to its end.
        if let Some(seen) = hub.seen.borrow_mut().get_mut(place) {
            *seen = None;
        }
        let (now, found) = query::changes_of_shard(&lane.readers, place, at, READ_CHANGES).await?;
        if found.is_empty() && (now.epoch != at.epoch || now.change < at.change) {
            if at.is_lost(now) {
                tracing::warn!(
                    shard = shard.shard.0,
                    "the shard was replaced or rolled back; streams continue from its current state"
                );
            }
            if let Some(position) = hub.position.borrow_mut().as_mut() {
                Rc::make_mut(position).0[place] = now;
            }
        }
        hub.add_changes(&lane.cursors, place, now.epoch, &found)?;
        if found.len() < READ_CHANGES {
            if let Some(seen) = hub.seen.borrow_mut().get_mut(place) {
                *seen = count;
            }
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_that_cannot_be_read_keeps_out_only_who_needs_it() {
        let hub = Hub::new(async_channel::bounded(1));
        let place = |changes: [u64; 2]| {
            ChangePosition(changes.map(|change| ChangeMark::at(u32::from(change > 0), change)).to_vec())
        };
        let join = |from: Option<[u64; 2]>| {
            let (reply, replied) = async_channel::bounded(1);
            (Join { from: from.map(place), reply }, replied)
        };
        let (joins, replied): (Vec<_>, Vec<_>) =
            [None, Some([5, 7]), Some([0, 0]), Some([5, 8])].into_iter().map(join).unzip();
        let (mut joins, gone) = (joins, join(Some([9, 9])).0);
        joins.push(gone);
        let answered = || replied.iter().filter(|replied| replied.try_recv().is_ok()).count();
        hub.admit_joins(&mut joins, false);
        assert_eq!((answered(), joins.len()), (0, 4), "where the shards stand is not known yet");
        *hub.position.borrow_mut() = Some(Rc::new(place([5, 7])));
        hub.admit_joins(&mut joins, false);
        assert_eq!((answered(), joins.len()), (3, 1));
        hub.admit_joins(&mut joins, true);
        assert_eq!((answered(), joins.len()), (1, 0));
    }
}
