//! W1, W5, E1, K1 and X1 through power cuts: the real server on a disk that loses everything that was not synced.
//!
//! `POWER_CUTS=100` and `POWER_IMAGES=4` make the run under load longer; `TEST_SEED` repeats one.

#[path = "support/power/mod.rs"]
mod disk;
mod power;
mod support;
