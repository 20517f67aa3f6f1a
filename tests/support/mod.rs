//! Shared parts of the tests: the real server process on its own folder, a client, load, and the rows.
#![allow(dead_code, unreachable_pub, unused_imports, reason = "a program of tests uses its part")]

mod client;
pub mod commerce;
pub mod datasets;
mod disk;
mod load;
pub mod oracle;
pub mod packing;
mod process;
mod python;
mod rows;
mod sandbox;
mod skip;

use std::time::Duration;

use firehose::base::clock;

pub use client::{Answer, Client, event, event_with};
pub use disk::{SmallDisk, break_sync};
pub use load::{Load, Report};
pub use process::{Ended, Folder, Server, command, cpus};
pub use python::python;
pub use rows::{Locked, copied, hold_lock, rows_of, stored, stored_in, wait_until_moved};
pub use sandbox::Sandbox;
pub use skip::skip;

/// Time limit for anything on a slow, busy machine. Whatever takes longer counts as never happening.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Polls until there is a result, and returns it.
#[track_caller]
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = clock::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(clock::now() < deadline, "waited {} s in vain for: {what}", PATIENCE.as_secs());
        clock::pause(Duration::from_millis(5));
    }
}

/// Polls until the condition is true.
#[track_caller]
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    wait_for(what, || is_so().then_some(()));
}

/// Random numbers that differ from run to run. The seed is printed, so that a failure can be repeated with
/// `TEST_SEED`. Variables that begin with `FIREHOSE` belong to the server, so this one does not.
pub struct Chance(u64);

impl Chance {
    pub fn new() -> Chance {
        let given = std::env::vars_os()
            .find(|(name, _)| name == "TEST_SEED")
            .and_then(|(_, value)| value.to_str()?.parse().ok());
        let seed = given.unwrap_or(clock::unix_us() as u64 ^ u64::from(std::process::id()) << 40) | 1;
        eprintln!("TEST_SEED={seed}");
        Chance(seed)
    }

    /// Returns a generator of the same numbers every time.
    pub fn seeded(seed: u64) -> Chance {
        Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Returns a number from 0 to `below` - 1 (xorshift64, Marsaglia 2003).
    pub fn below(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}
