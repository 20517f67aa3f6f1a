//! One core's executor: hyper for every connection that the hot lane hands over, journaled rows, and the group
//! fdatasync that `ack=disk` waits for.
//!
//! In: sockets with their unread bytes; a table of endpoints. Out: responses. Owns: requests, their bodies and
//! memory, admission, the mailboxes between cores. Never: names a feature. The lane knows a feature only by the
//! handlers of its endpoints, and by a [`Component`] if the feature keeps something between requests. The one exception
//! is a click, which both lanes accept.

mod admit;
mod body;
mod call;
mod component;
mod gated;
mod handover;
pub mod keyed;
mod logged;
mod mailbox;
mod memory;
mod packed;
mod packing;
mod presence;
mod reads;
mod respond;
mod response;
mod run;
mod state;
mod sync;
mod task;

pub use admit::{admit, charge_as_it_comes, charge_tenant, check_tenant, now, tenant_of};
pub use body::{AnswerBody, BodyError, NextBytes, Pieces, Stream};
pub use call::{Body, Call, Handler, Reply, RequestHead, StreamTask, Task, answer_from_memory};
pub use component::{Component, Components};
pub use gated::SharedGate;
pub use handover::HandedOver;
pub use mailbox::{Begun, FORWARDS_MAX, Forward, Grant, Refused, Settled};
pub use memory::{BudgetExceeded, Reservation};
pub use reads::{NotRead, list, rows, shape, streamed};
pub use run::{Parts, run};
pub use state::Lane;
pub use sync::on_disk;
pub use task::detached;
