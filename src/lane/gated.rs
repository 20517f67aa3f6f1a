//! The executor's connection as hyper sees it. It passes on only bytes that satisfy the checks of the hot lane,
//! within the same time limits.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use super::presence::Presence;
use crate::base::clock;
use crate::cores::{executor, socket::Socket};
use crate::http::{Gate, Passed, Refusal};

/// The number of bytes that one read of the socket requests, and the maximum number that is held back for one head.
const READ_BYTES: usize = 16 * 1024;

thread_local! {
    /// Where every connection of this core reads to. A buffer of its own, filled with zeros for each read, would take
    /// longer than the read.
    static RECEIVED: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

/// The time limits for the phases of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    pub head: Duration,
    pub body: Duration,
    pub idle: Duration,
    pub write: Duration,
}

/// The gate that the stream (inside hyper) and the service share. It records why the connection ends.
pub type SharedGate = Rc<RefCell<Gate>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waiting {
    Idle,
    Head,
    Body,
}

type Timer = Pin<Box<dyn Future<Output = ()>>>;

/// One timer, which is set again only when it fires early or would fire late. A request that arrives in one piece
/// needs no separate timer, because the idle time that follows it ends after the time that the timer is set to.
#[derive(Default)]
struct DeadlineTimer {
    /// The time at which the timer fires, and the timer.
    timer: Option<(u64, Timer)>,
    /// The task that the timer wakes.
    waker: Option<Waker>,
}

impl DeadlineTimer {
    /// Returns [`Poll::Ready`] once `deadline_us` has passed. Until then, wakes the task at that time.
    fn poll(&mut self, context: &mut Context<'_>, deadline_us: u64) -> Poll<()> {
        loop {
            let now_us = clock::monotonic_us();
            if now_us >= deadline_us {
                self.timer = None;
                return Poll::Ready(());
            }
            // A head that has started may have less time left than the idle time before it.
            if self.timer.as_ref().is_some_and(|(due_us, _)| *due_us > deadline_us) {
                self.timer = None;
            }
            let is_waking = self.waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker()));
            match &self.timer {
                // The runtime sorts a timer into its list at every poll, which takes longer than a request's head.
                Some((due_us, _)) if is_waking && now_us < *due_us => return Poll::Pending,
                _ => self.waker = Some(context.waker().clone()),
            }
            let (_, timer) = self.timer.get_or_insert_with(|| {
                let left = Duration::from_micros(deadline_us - now_us);
                (deadline_us, Box::pin(executor::sleep(left)))
            });
            ready!(timer.as_mut().poll(context));
            self.timer = None;
        }
    }
}

pub(super) struct Gated {
    socket: Socket,
    gate: SharedGate,
    presence: Rc<Presence>,
    times: Timeouts,
    /// Received bytes that were not passed to hyper yet. The first `passing` bytes may be passed.
    inbox: Vec<u8>,
    passing: usize,
    /// `None`: a request is being answered, so nothing is waited for.
    waiting: Option<Waiting>,
    /// Set while a request passes, until its last byte has.
    is_request: bool,
    read_deadline_us: u64,
    write_deadline_us: Option<u64>,
    read_alarm: DeadlineTimer,
    write_alarm: DeadlineTimer,
    /// Set once the peer has shut down its sending side, or nothing more is to be read.
    ended: bool,
}

impl Gated {
    pub(super) fn new(
        socket: Socket,
        unread: Vec<u8>,
        gate: SharedGate,
        presence: Rc<Presence>,
        times: Timeouts,
    ) -> Gated {
        let read_deadline_us = clock::monotonic_us() + times.idle.as_micros() as u64;
        Gated {
            socket,
            gate,
            presence,
            times,
            inbox: unread,
            passing: 0,
            waiting: Some(Waiting::Idle),
            is_request: false,
            read_deadline_us,
            write_deadline_us: None,
            read_alarm: DeadlineTimer::default(),
            write_alarm: DeadlineTimer::default(),
            ended: false,
        }
    }

    pub(super) fn into_socket(self) -> Socket {
        self.socket
    }

    /// Sets the time limit for the current phase. The limit runs from the start of the phase.
    fn watch(&mut self) {
        let waiting = match (self.gate.borrow().in_body(), self.inbox.is_empty()) {
            (true, _) => Waiting::Body,
            // The beginning of an empty line is no head, nor does the end of one begin a new wait.
            (false, false) if self.inbox != b"\r" => Waiting::Head,
            (false, _) => Waiting::Idle,
        };
        if self.waiting != Some(waiting) {
            self.waiting = Some(waiting);
            let time = match waiting {
                Waiting::Idle => self.times.idle,
                Waiting::Head => self.times.head,
                Waiting::Body => self.times.body,
            };
            self.read_deadline_us = clock::monotonic_us() + time.as_micros() as u64;
        }
    }

    /// Replaces everything that was not passed on with a request that leads to the refusal.
    fn replace_by_refusal(&mut self) {
        self.inbox = Gate::refusal_request(&self.inbox);
        self.passing = self.inbox.len();
        self.ended = true;
    }
}

impl hyper::rt::Read for Gated {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut into: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.passing > 0 {
                let count = this.passing.min(into.remaining());
                into.put_slice(&this.inbox[..count]);
                this.inbox.drain(..count);
                this.passing -= count;
                // The time limit of the next head begins when hyper reads again, not while this request is answered.
                if this.passing == 0 && this.is_request && !this.gate.borrow().in_body() {
                    (this.waiting, this.is_request) = (None, false);
                }
                // A request that takes long to answer needs no buffer for the next request.
                if this.inbox.is_empty() {
                    this.inbox = Vec::new();
                }
                return Poll::Ready(Ok(()));
            }
            if this.ended {
                return Poll::Ready(Ok(()));
            }
            let in_body = this.gate.borrow().in_body();
            let passed = this.gate.borrow_mut().pass(&this.inbox);
            match passed {
                Passed::Bytes(count) => {
                    this.passing = count;
                    // A new request starts, and its limits run from here. A piece of a body or an empty line between
                    // requests does not start one, so a client gains no time by sending single bytes or empty lines.
                    if !in_body && !this.inbox.starts_with(b"\r\n") {
                        (this.waiting, this.is_request) = (None, true);
                        this.watch();
                    }
                    continue;
                }
                // In the middle of a body, hyper gets an error, and the code that reads the body sends the response.
                Passed::Refused(_) if in_body => {
                    this.ended = true;
                    return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
                }
                Passed::Refused(_) => {
                    this.replace_by_refusal();
                    continue;
                }
                Passed::Nothing => {}
            }
            this.watch();
            let received = RECEIVED.with_borrow_mut(|bytes| {
                let received = this.socket.poll_read(context, bytes);
                if let Poll::Ready(Ok(count)) = &received {
                    this.inbox.extend_from_slice(&bytes[..*count]);
                }
                received
            });
            match received {
                Poll::Ready(Ok(0)) => {
                    this.ended = true;
                    return Poll::Ready(Ok(()));
                }
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    let allowed_us = match this.waiting {
                        Some(Waiting::Body) => this.gate.borrow().allowed_us(),
                        Some(Waiting::Idle | Waiting::Head) | None => 0,
                    };
                    ready!(this.read_alarm.poll(context, this.read_deadline_us.saturating_add(allowed_us)));
                    match this.waiting {
                        Some(Waiting::Idle) | None => this.ended = true,
                        Some(Waiting::Head) => {
                            this.gate.borrow_mut().refuse(Refusal::HeadTimeout);
                            this.replace_by_refusal();
                        }
                        Some(Waiting::Body) => {
                            this.gate.borrow_mut().refuse(Refusal::BodyTimeout);
                            this.ended = true;
                            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                        }
                    }
                }
            }
        }
    }
}

impl hyper::rt::Write for Gated {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        match this.socket.poll_write(context, bytes) {
            Poll::Pending => {
                this.presence.is_blocked.set(true);
                let limit_us = this.times.write.as_micros() as u64;
                let deadline_us =
                    *this.write_deadline_us.get_or_insert_with(|| clock::monotonic_us() + limit_us);
                ready!(this.write_alarm.poll(context, deadline_us));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
            written => {
                this.write_deadline_us = None;
                if let Poll::Ready(Ok(count)) = &written {
                    this.presence.is_blocked.set(*count < bytes.len());
                    this.presence.has_written();
                }
                written
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().socket.poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;
    use crate::cores::executor::Runtime;

    #[test]
    fn a_timer_wakes_the_task_that_polled_it_last() {
        let ended = Rc::new(std::cell::Cell::new(false));
        let is_over = ended.clone();
        let main = async move {
            let mut timer = DeadlineTimer::default();
            let mut nobody = Context::from_waker(Waker::noop());
            let soon_us = clock::monotonic_us() + 20_000;
            assert_eq!(timer.poll(&mut nobody, soon_us), Poll::Pending);
            assert_eq!(timer.poll(&mut nobody, soon_us + 1), Poll::Pending);
            // Another task polls the same timer. It would never be woken if the timer still knew the first one only.
            poll_fn(|context| timer.poll(context, soon_us)).await;
            assert!(clock::monotonic_us() >= soon_us && timer.timer.is_none());
            // A deadline before that of the timer is kept, too.
            assert_eq!(timer.poll(&mut nobody, soon_us + 60_000_000), Poll::Pending);
            let soon_us = clock::monotonic_us() + 20_000;
            poll_fn(|context| timer.poll(context, soon_us)).await;
            assert_eq!(timer.poll(&mut nobody, 0), Poll::Ready(()));
            is_over.set(true);
        };
        executor::run(Runtime::Epoll, "test", 0, main).unwrap();
        assert!(ended.get());
    }
}
