//! The state that all requests on one core's executor share. It does not depend on any feature: a feature keeps its
//! state here as a [`Component`].

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;

use super::call::{Handler, RequestHead};
use super::component::{Component, Components};
use super::gated::Timeouts;
use super::logged::Samples;
use super::mailbox::Keyed;
use super::memory::{BudgetExceeded, Memory, Reservation};
use super::presence::Presences;
use super::response::Date;
use crate::api::Endpoints;
use crate::api::error::EventRefused;
use crate::base::clock;
use crate::base::keys::KeyHasher;
use crate::event::Decoder;
use crate::http::RequestIds;
use crate::ingest::Intake;
use crate::ops::vitals::{CoreVitals, Latency, Vitals};
use crate::query::{CursorKey, Readers};
use crate::tenants::Desk;

/// One core's executor.
pub struct Lane {
    pub endpoints: &'static Endpoints<Handler>,
    pub core: usize,
    pub me: Arc<CoreVitals>,
    pub vitals: Arc<Vitals>,
    pub intake: RefCell<Intake>,
    pub request_ids: RefCell<RequestIds>,
    pub desk: RefCell<Desk>,
    pub latency: RefCell<Latency>,
    /// Receives a message when a request on this core waits for the executor's own journals to be on disk.
    pub sync_wanted: (async_channel::Sender<()>, async_channel::Receiver<()>),
    /// The requests that wait for the next fdatasync of the executor's own journals.
    pub waiting: RefCell<Vec<Waker>>,
    /// The time of the last log line for each sampled route and status.
    pub samples: Samples,
    pub(super) date: Date,
    pub times: Timeouts,
    pub decoder: RefCell<Decoder>,
    pub keys: KeyHasher,
    pub cursors: CursorKey,
    pub readers: Readers,
    pub shard_count: u16,
    pub keyed: Keyed,
    pub components: Components,
    /// The names that requests of any core hold here. Each name has a channel through which another request asks for
    /// it.
    pub claims: RefCell<HashMap<String, async_channel::Sender<()>>>,
    /// A channel that is closed when the server drains. One channel serves all connections, because a separate timer
    /// for each idle connection would cost 7 us at every check.
    pub draining: (async_channel::Sender<()>, async_channel::Receiver<()>),
    /// The sockets of the connections that are served, with the state of their reads.
    pub(super) presences: Presences,
    /// The memory of bodies and ingests, for all connections together.
    pub memory: Rc<Memory>,
}

impl Lane {
    /// Counts bytes that a request holds from now until it is answered. Refuses them if the memory budget is
    /// exhausted.
    pub fn charge(&self, held: &mut Reservation, bytes: usize) -> Result<(), EventRefused> {
        self.may_hold(held, bytes).map_err(|BudgetExceeded| EventRefused::MemorySpent)
    }

    /// Sets the held bytes, and releases memory if the budget is spent.
    pub(super) fn may_hold(&self, held: &mut Reservation, bytes: usize) -> Result<(), BudgetExceeded> {
        match held.set(bytes) {
            Err(BudgetExceeded) if !self.release_memory() => Err(BudgetExceeded),
            _ => Ok(()),
        }
    }

    /// Records the latency of a response that accepts events.
    pub fn record_acked(&self, request: &RequestHead) {
        let took_us = clock::monotonic_us() - request.started_us;
        let mut latency = self.latency.borrow_mut();
        latency.histogram.saturating_record(took_us.max(1));
        latency.sum_us += took_us;
    }

    /// Returns the component of this type.
    pub fn component<T: Component>(&self) -> &T {
        self.components.get()
    }

    /// Asks the components to release memory while the budget is exceeded. Returns `true` if there is enough memory
    /// again.
    pub fn release_memory(&self) -> bool {
        while self.memory.is_spent() && self.components.release_memory() {}
        !self.memory.is_spent()
    }
}
