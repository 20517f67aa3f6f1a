//! The server's state for operators: health, readiness, receipts, metrics, the dashboard.
//!
//! In: the counters of cores and shards. Out: responses and pages. Owns: metric names, the dashboard's files. Never:
//! reads the disk, or shows a string that a client sent.

mod dashboard;
mod health;
mod metrics;
pub mod openapi;
pub mod shapes;

pub use dashboard::{favicon, file, root, state};
pub use health::{health, ready, receipt};
pub use metrics::answer as metrics;
