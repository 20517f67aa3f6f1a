//! The scenarios: each starts what it measures, records its rounds and states its bars.

mod accept;
mod ack;
mod bulk;
mod commerce_memory;
mod connections;
mod export;
mod idempotent;
mod ingest_orders;
mod merge;
mod neighbours;
mod outage;
mod sales;
mod scale;
mod search;
mod seed;
mod store;
mod writer;

pub(crate) use accept::run as accept;
pub(crate) use ack::run as ack;
pub(crate) use bulk::run as bulk;
pub(crate) use commerce_memory::run as commerce_memory;
pub(crate) use connections::run as connections;
pub(crate) use export::run as export;
pub(crate) use idempotent::{run as idempotent, run_buckets as buckets};
pub(crate) use ingest_orders::run as ingest_orders;
pub(crate) use merge::run as merge;
pub(crate) use neighbours::run as neighbours;
pub(crate) use outage::run as outage;
pub(crate) use sales::run as sales;
pub(crate) use scale::run as scale;
pub(crate) use search::run as search;
pub(crate) use seed::run as seed;
pub(crate) use store::run as store;
pub(crate) use writer::run as writer;
