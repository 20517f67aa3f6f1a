//! The state of the server for operators: health, readiness, receipts, metrics, the dashboard.
//!
//! In: the counters of cores and shards. Out: responses and pages. Owns: the names of metrics, the files of the
//! dashboard. Never: reads the disk, shows a text that a client sent.

mod dashboard;
mod health;
mod metrics;
pub mod openapi;
pub mod shapes;

pub use dashboard::{file, root, state};
pub use health::{health, ready, receipt};
pub use metrics::answer as metrics;
