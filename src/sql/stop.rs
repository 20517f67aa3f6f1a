//! When a query ends early: Ctrl-C, or a time limit while a server writes the folder.
//!
//! A query holds a snapshot of every shard. As long as it does, the server's checkpoints cannot reset the WAL, which
//! grows with every write. Without a server, nobody waits for the query.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::base::clock;
use crate::shard::DataFolder;

/// Between two checks whether a server is running, once a query has exceeded the limit.
const CHECK_US: u64 = 1_000_000;
/// Steps of SQLite's virtual machine between two checks, about 50 us.
pub(super) const STEPS: i32 = 2_000;

/// Shared by the signal handler, the progress handlers of all connections, and the output.
#[derive(Debug)]
pub(super) struct Stop {
    pub(super) interrupted: Arc<AtomicBool>,
    expired: AtomicBool,
    /// When the limit is reached, by the monotonic clock; `u64::MAX` if there is no limit or no query.
    due_us: AtomicU64,
    limit: Option<Duration>,
    folder: PathBuf,
}

/// Why a query was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    Interrupted,
    Expired,
}

impl Stop {
    pub(super) fn new(folder: PathBuf, limit: Option<Duration>) -> Stop {
        let (interrupted, expired) = (Arc::default(), AtomicBool::new(false));
        Stop { interrupted, expired, due_us: AtomicU64::new(u64::MAX), limit, folder }
    }

    /// Begins a query.
    pub(super) fn begin(&self) {
        self.expired.store(false, Ordering::Relaxed);
        let limit = self.limit.map(|limit| limit.as_micros() as u64);
        let due_us = limit.map_or(u64::MAX, |limit| clock::monotonic_us().saturating_add(limit));
        self.due_us.store(due_us, Ordering::Relaxed);
    }

    /// Forgets an interruption, which ended a query and not the prompt.
    pub(super) fn resume(&self) {
        self.interrupted.store(false, Ordering::Relaxed);
    }

    /// Ends the query.
    pub(super) fn end(&self) {
        self.due_us.store(u64::MAX, Ordering::Relaxed);
    }

    /// Returns the reason why the query must end now.
    pub(super) fn reason(&self) -> Option<Reason> {
        if self.interrupted.load(Ordering::Relaxed) {
            return Some(Reason::Interrupted);
        }
        if self.expired.load(Ordering::Relaxed) {
            return Some(Reason::Expired);
        }
        let now = clock::monotonic_us();
        if now < self.due_us.load(Ordering::Relaxed) {
            return None;
        }
        // A server may also start after the query.
        if DataFolder::is_served(&self.folder) {
            self.expired.store(true, Ordering::Relaxed);
            return Some(Reason::Expired);
        }
        self.due_us.store(now + CHECK_US, Ordering::Relaxed);
        None
    }

    /// Returns the reason for which the last query was ended, if any.
    pub(super) fn ended(&self) -> Option<Reason> {
        let is_set = |flag: &AtomicBool| flag.load(Ordering::Relaxed);
        match (is_set(&self.interrupted), is_set(&self.expired)) {
            (true, _) => Some(Reason::Interrupted),
            (_, true) => Some(Reason::Expired),
            _ => None,
        }
    }

    /// Returns the sentences that explain an ended query.
    pub(super) fn explain(&self, reason: Reason) -> String {
        match reason {
            Reason::Interrupted => "interrupted".to_owned(),
            Reason::Expired => format!(
                "the query was ended after {} s, because a server writes this folder: while a query reads, no \
                 checkpoint can reset the WAL, which grows with every write. Restrict it by tenant_id and a range of \
                 time, run it on a copy (`firehose backup`), or set another limit with --timeout (0 for none)",
                self.limit.unwrap_or_default().as_secs_f64()
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_expires_only_while_a_server_runs() {
        let dir = tempfile::tempdir().unwrap();
        let served = DataFolder::open(dir.path(), Some(1), 1).unwrap();
        let stop = Stop::new(dir.path().to_owned(), Some(Duration::ZERO));
        assert_eq!(stop.reason(), None, "no query");
        stop.begin();
        assert_eq!(stop.reason(), Some(Reason::Expired));
        drop(served);
        stop.begin();
        assert_eq!(stop.reason(), None);
        stop.interrupted.store(true, Ordering::Relaxed);
        assert_eq!(stop.reason(), Some(Reason::Interrupted));
        stop.resume();
        assert_eq!(stop.reason(), None);
        let lifted = Stop::new(dir.path().to_owned(), None);
        let _served = DataFolder::open(dir.path(), Some(1), 1).unwrap();
        lifted.begin();
        assert_eq!(lifted.reason(), None);
    }
}
