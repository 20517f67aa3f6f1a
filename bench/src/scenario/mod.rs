//! The scenarios: each starts what it measures, records its rounds and states its bars.

mod accept;
mod ack;
mod connections;
mod outage;
mod scale;
mod seed;
mod store;
mod writer;

pub(crate) use accept::run as accept;
pub(crate) use ack::run as ack;
pub(crate) use connections::run as connections;
pub(crate) use outage::run as outage;
pub(crate) use scale::run as scale;
pub(crate) use seed::run as seed;
pub(crate) use store::run as store;
pub(crate) use writer::run as writer;
