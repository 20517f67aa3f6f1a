//! The state of retention in one shard.

use std::any::Any;
use std::path::Path;
use std::thread::JoinHandle;

use rusqlite::{Connection, OptionalExtension as _, params};

use super::error::ShardError;
use super::retain_clock::RetainClock;
use super::stream::Stream;

/// The state of retention.
#[derive(Debug)]
pub(super) struct Retention {
    pub(super) clock: RetainClock,
    pub(super) look_at_us: u64,
    /// Whether dropped tables have pages to free.
    pub(super) freeing: bool,
    /// The partition whose contribution to its family's derived tables is being counted.
    pub(super) leaving: Option<Leaving>,
}

#[derive(Debug)]
pub(super) struct Leaving {
    pub(super) stream: &'static Stream,
    pub(super) partition: String,
    pub(super) count: Option<JoinHandle<Result<Box<dyn Any + Send>, ShardError>>>,
}

impl Retention {
    /// Discards a running count, because rows are about to change. The count is repeated later.
    pub(super) fn stop_counting(&mut self) {
        self.leaving = None;
    }

    pub(super) fn load(connection: &Connection, path: &Path) -> Result<Retention, ShardError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM dropped_partition)";
        let freeing = connection.query_row(sql, [], |row| row.get(0))?;
        let held: Option<i64> = connection
            .query_row("SELECT value FROM total WHERE name = ?1", [HELD], |row| row.get(0))
            .optional()?;
        let clock = RetainClock::of_shard(path, held);
        if held.is_some() || clock.is_held() {
            write_hold(connection, &clock)?;
        }
        Ok(Retention { clock, look_at_us: 0, freeing, leaving: None })
    }
}

/// The total that stores how far ahead the clock was when dropping stopped. It exists only while dropping is stopped.
/// Without it, a restart would trust the clock, because writes in the meantime make the file look new.
const HELD: &str = "retention_held_us";

pub(super) fn write_hold(connection: &Connection, clock: &RetainClock) -> Result<(), ShardError> {
    if clock.is_held() {
        let sql = "INSERT INTO total (name, value) VALUES (?1, ?2) \
                   ON CONFLICT (name) DO UPDATE SET value = excluded.value WHERE value != excluded.value";
        connection.prepare_cached(sql)?.execute(params![HELD, clock.ahead_us()])?;
    } else {
        connection.prepare_cached("DELETE FROM total WHERE name = ?1")?.execute([HELD])?;
    }
    Ok(())
}
