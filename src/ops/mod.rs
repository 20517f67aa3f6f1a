//! The operators' view: the log, Prometheus pages, the process's own figures, flame graphs, and the listener that
//! serves them while every core is busy.
//!
//! In: settings, pages from a higher layer. Out: lines on stderr, HTTP responses on the operators' port. Owns:
//! threads `log`, `ops` and, during a profile, `profile`. Never: makes a serving core wait or take a lock.

mod answer;
mod listen;
mod log;
pub mod output;
mod process;
mod profile;
mod prometheus;
mod slots;
pub mod vitals;

pub use answer::{Media, OpsAnswer, OpsProblem};
pub use listen::{OpsAsked, start};
pub use log::{DroppedLines, LogError, LogGuard, LogSettings, init};
pub use process::{Disk, Process, ThreadCpu, disk, threads, write_process_families};
pub use profile::{PROFILE_HZ, PROFILE_SECONDS_MAX, ProfileError, ProfileFormat, profile};
pub use prometheus::{Format, Kind, Number, Page, negotiate};
