//! Promises of the shipper, tested with real shards and a target in memory.

mod lives;
mod plans;
mod rig;
mod run;
mod shipping;
mod target;
