//! Power cuts: a disk that loses what was not synced.

#[path = "support/power/mod.rs"]
mod disk;
mod power;
mod support;
