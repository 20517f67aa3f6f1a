//! Holds a shard's write lock from outside, as any other program could. Used to rehearse an outage.

use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;

use super::error::ShardError;
use super::open;
use crate::base::clock;

/// An exclusive lock on a shard. Dropping it releases the lock.
#[derive(Debug)]
pub struct Lock {
    _connection: Connection,
}

impl Lock {
    /// Takes the lock. Waits at most `patience` for a running commit to end. The file must exist.
    pub fn acquire(path: &Path, patience: Duration) -> Result<Lock, ShardError> {
        let connection = open::open_plain(path, false)?;
        connection.busy_timeout(patience)?;
        connection.execute_batch("BEGIN EXCLUSIVE")?;
        Ok(Lock { _connection: connection })
    }
}

/// Locks a shard for `duration`, then releases it. Blocks the caller for this time, plus up to 5 s of waiting for the
/// lock.
pub fn hold(path: &Path, duration: Duration) -> Result<(), ShardError> {
    let lock = Lock::acquire(path, Duration::from_secs(5))?;
    clock::pause(duration);
    drop(lock);
    Ok(())
}
