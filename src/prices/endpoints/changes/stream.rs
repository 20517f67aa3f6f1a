//! One stream: its reads from the ring, and from the shards if it is behind.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures_lite::FutureExt as _;

use super::{Join, RETRY, Subscription, Topic, frame, hub};
use crate::cores::executor;
use crate::lane::{self, Lane, Stream};
use crate::prices::query::{self, ChangePosition, Changes};
use crate::prices::read::PriceChange;
use crate::query::QueryError;
use crate::tenants::{Principal, Scope};

/// How long a new stream waits until the core knows every shard's position.
const JOIN_PATIENCE: Duration = Duration::from_secs(5);

/// A stream's entry in its topic. Dropping the guard removes the entry.
struct SubscriptionGuard {
    lane: Rc<Lane>,
    topic: Rc<Topic>,
    seat: usize,
}

impl SubscriptionGuard {
    fn new(lane: &Rc<Lane>, tenant_id: &str) -> SubscriptionGuard {
        let hub = hub(lane);
        let topic = hub.topic(tenant_id);
        let number = hub.numbers.replace(hub.numbers.get() + 1);
        let seat = topic.seats.borrow_mut().insert(Subscription {
            number,
            waker: None,
            beat_due: false,
            check_due: false,
        });
        hub.streams.set(hub.streams.get() + 1);
        lane.me.executor.streams.set(hub.streams.get() as u64);
        SubscriptionGuard { lane: lane.clone(), topic, seat }
    }

    /// Returns `true` if the permission to read must be checked now, and clears the mark.
    fn takes_check(&self) -> bool {
        let mut seats = self.topic.seats.borrow_mut();
        seats.get_mut(self.seat).is_some_and(|seat| std::mem::take(&mut seat.check_due))
    }

    /// Returns `true` if a comment is due. Otherwise, stores the waker.
    fn wait(&self, waker: &Waker) -> bool {
        let mut seats = self.topic.seats.borrow_mut();
        let Some(seat) = seats.get_mut(self.seat) else { return false };
        if seat.beat_due {
            seat.beat_due = false;
            return true;
        }
        if !seat.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            seat.waker = Some(waker.clone());
        }
        false
    }
}

impl Drop for SubscriptionGuard {
    fn drop(&mut self) {
        let hub = hub(&self.lane);
        let is_empty = {
            let mut seats = self.topic.seats.borrow_mut();
            seats.try_remove(self.seat);
            seats.is_empty()
        };
        if is_empty {
            hub.topics.borrow_mut().remove(&self.topic.tenant_id);
        }
        hub.streams.set(hub.streams.get() - 1);
        self.lane.me.executor.streams.set(hub.streams.get() as u64);
    }
}

type NextChange = Pin<Box<dyn Future<Output = (Changes, Option<PriceChange>)>>>;

enum State {
    /// The stream has yet to send its first bytes.
    Begins(Bytes),
    /// The stream reads missed changes from the shards.
    Replays(NextChange),
    /// The stream reads the ring.
    Follows,
}

/// The event of a stream that resumes before changes that retention has deleted.
const GAP: &[u8] = b"event: dropped\ndata: {\"reason\":\"retention\"}\n\n";

/// One stream, polled for the next bytes.
pub(crate) struct ChangeStream {
    seated: SubscriptionGuard,
    principal: Principal,
    product_id: Option<Box<str>>,
    state: State,
    /// The changes to read before the stream follows the ring.
    behind: Option<Changes>,
    /// The position after the last change that the stream returned or skipped.
    at: Rc<ChangePosition>,
    /// The position of the last id sent. The client would resume there.
    told: Rc<ChangePosition>,
    /// The number of the next ring entry to read.
    next: u64,
}

/// Starts a stream of a tenant's changes, or of one product's. It starts at the present, or after the event with the
/// given id.
///
/// # Errors
/// Returns an error if the id is invalid or a shard cannot be read.
pub(crate) async fn begin(
    lane: &Rc<Lane>,
    principal: &Principal,
    tenant_id: &str,
    product_id: Option<&str>,
    last_id: Option<&str>,
) -> Result<ChangeStream, QueryError> {
    let from = match last_id {
        None => None,
        Some(text) => {
            let open = |now: &ChangePosition| ChangePosition::open(&lane.cursors, tenant_id, text, now);
            let known = hub(lane).position.borrow().as_deref().and_then(|now| open(now).ok());
            // The shards are queried only if this core has not read that far yet.
            Some(match known {
                Some(from) => from,
                None => open(&query::change_marks(&lane.readers).await?)?,
            })
        }
    };
    // The stream subscribes first, so that the core reads changes from here on.
    let seated = SubscriptionGuard::new(lane, tenant_id);
    let (reply, replied) = async_channel::bounded(1);
    hub(lane).joins.borrow_mut().push(Join { from: from.clone(), reply });
    let _ = hub(lane).poke.try_send(());
    let patience = async {
        executor::sleep(JOIN_PATIENCE).await;
        Err(async_channel::RecvError)
    };
    replied.recv().or(patience).await.map_err(|_| QueryError::Busy)?;
    // The position and the number belong to the same moment: the changes read so far end at the position, and later
    // changes start at the number.
    let now = hub(lane).position.borrow().clone().ok_or(QueryError::Busy)?;
    let next = hub(lane).ring.borrow().end();
    let behind = from
        .clone()
        .map(|from| Changes::new(&lane.readers.asked_by(tenant_id), tenant_id, from, now.clone()));
    let at = from.map_or_else(|| now.clone(), Rc::new);
    // A client stores an id that arrives without data. A client that reconnects before the first event therefore
    // misses no event.
    let id = at.seal(&lane.cursors, tenant_id)?.0;
    let first = Bytes::from(format!(": changes of prices\nretry: 2000\nid: {id}\n\n"));
    let product_id = product_id.map(Box::from);
    let (principal, state, told) = (*principal, State::Begins(first), at.clone());
    Ok(ChangeStream { seated, principal, product_id, state, behind, at, told, next })
}

/// Returns the next change of a replay. Retries while the change cannot be read.
fn replay(lane: Rc<Lane>, mut changes: Changes) -> NextChange {
    Box::pin(async move {
        loop {
            // The token is returned even if this future is dropped. An aborted connection may drop its replay at any
            // point.
            let token = hub(&lane).tokens.token().await;
            let next = changes.next().await;
            drop(token);
            match next {
                Ok(change) => return (changes, change),
                Err(error) => {
                    tracing::debug!(%error, "a replay of changes waits");
                    executor::sleep(RETRY).await;
                }
            }
        }
    })
}

impl ChangeStream {
    /// Returns `true` if the client still has permission. Nothing is sent after the client's key has expired.
    fn is_allowed(&self) -> bool {
        let SubscriptionGuard { lane, topic, .. } = &self.seated;
        let mut desk = lane.desk.borrow_mut();
        desk.authorize_again(&self.principal, &topic.tenant_id, Scope::Read, lane::now()).is_ok()
    }

    /// Returns a comment. The comment has an id if the position has advanced without an event for this stream. A
    /// client that reconnects then does not cause those changes to be read again. A browser does not dispatch an
    /// event without data, but stores its id (HTML, 9.2.6: the id is set before the data is checked).
    fn beat(&mut self) -> Bytes {
        if self.told != self.at
            && let Ok(id) = self.at.seal(&self.seated.lane.cursors, &self.seated.topic.tenant_id)
        {
            self.told = self.at.clone();
            return format!(":\nid: {}\n\n", id.0).into();
        }
        Bytes::from_static(b":\n\n")
    }
}

impl Stream for ChangeStream {
    /// Returns the next bytes. The stream ends when the server drains, or when its client loses its permission. Such
    /// a client gets the reason when it reconnects.
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let lane = self.seated.lane.clone();
        if self.seated.takes_check() && !self.is_allowed() {
            return Poll::Ready(None);
        }
        loop {
            if hub(&lane).closing.get() {
                return Poll::Ready(None);
            }
            match &mut self.state {
                State::Begins(first) => {
                    let first = std::mem::take(first);
                    self.state = match self.behind.take() {
                        Some(changes) => State::Replays(replay(lane, changes)),
                        None => State::Follows,
                    };
                    return Poll::Ready(Some(first));
                }
                State::Replays(coming) => match coming.as_mut().poll(context) {
                    Poll::Pending if self.seated.wait(context.waker()) => {
                        return Poll::Ready(Some(self.beat()));
                    }
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready((mut changes, None)) => {
                        self.at = Rc::new(changes.position().clone());
                        self.state = State::Follows;
                        if changes.take_gap() {
                            return Poll::Ready(Some(Bytes::from_static(GAP)));
                        }
                    }
                    Poll::Ready((mut changes, Some(change))) => {
                        if changes.take_gap() {
                            // The same change follows.
                            self.state = State::Replays(Box::pin(async { (changes, Some(change)) }));
                            return Poll::Ready(Some(Bytes::from_static(GAP)));
                        }
                        self.at = Rc::new(changes.position().clone());
                        self.state = State::Replays(replay(lane.clone(), changes));
                        if self.product_id.as_deref().is_some_and(|product| *product != *change.product_id) {
                            continue;
                        }
                        match frame(&lane.cursors, &self.seated.topic.tenant_id, &self.at, &change) {
                            Ok(frame) => {
                                self.told = self.at.clone();
                                return Poll::Ready(Some(frame));
                            }
                            // An event is not sent without its id. The stream ends, and the client reconnects.
                            Err(_) => return Poll::Ready(None),
                        }
                    }
                },
                State::Follows => {
                    let topic = &self.seated.topic;
                    let ring = hub(&lane).ring.borrow();
                    if self.next <= topic.dropped.get() {
                        lane.me.executor.streams_lagged.add(1);
                        let Some(upto) = hub(&lane).position.borrow().clone() else {
                            return Poll::Ready(None);
                        };
                        let from = (*self.at).clone();
                        self.next = ring.end();
                        let readers = lane.readers.asked_by(&topic.tenant_id);
                        let changes = Changes::new(&readers, &topic.tenant_id, from, upto);
                        self.state = State::Replays(replay(lane.clone(), changes));
                        let told = &b"event: lagged\ndata: {}\n\n"[..];
                        return Poll::Ready(Some(Bytes::from_static(told)));
                    }
                    if let Some((next, entry)) = ring.next(self.next, topic, self.product_id.as_deref()) {
                        self.next = next;
                        self.at = entry.after.clone();
                        self.told = entry.after.clone();
                        return Poll::Ready(Some(entry.frame.clone()));
                    }
                    // No further entry of the ring belongs to the stream, so the stream is at the core's position.
                    self.next = ring.end();
                    if let Some(position) = &*hub(&lane).position.borrow() {
                        self.at = position.clone();
                    }
                    if self.seated.wait(context.waker()) {
                        return Poll::Ready(Some(self.beat()));
                    }
                    return Poll::Pending;
                }
            }
        }
    }
}
