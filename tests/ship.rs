//! Shipping to a real PostgreSQL, in a folder of its own. Without its programs, these tests are skipped.

#[path = "support/mod.rs"]
mod support;

#[path = "ship/crashes.rs"]
mod crashes;
#[path = "ship/docs.rs"]
mod docs;
#[path = "ship/support/equal.rs"]
mod equal;
#[path = "ship/support/fill.rs"]
mod fill;
#[path = "ship/holds.rs"]
mod holds;
#[path = "ship/kills.rs"]
mod kills;
#[path = "ship/operate.rs"]
mod operate;
#[path = "ship/support/postgres.rs"]
mod postgres;
#[path = "ship/process.rs"]
mod process;
#[path = "ship/scale.rs"]
mod scale;
#[path = "ship/support/shipper.rs"]
mod shipper;
#[path = "ship/sink/mod.rs"]
mod sink;
