//! Retention: rows leave by whole partitions, a while after they arrived, not by the times clients gave them.
//!
//! A partition that was sealed longer ago than the retention is dropped: in one transaction it leaves the
//! catalogue, the views, the totals and (events) the buckets and the ids. Its pages are freed afterwards, slice
//! by slice. So that a quiet stream's rows leave as well, an open partition is sealed when it is an eighth of
//! the retention old: rows stay at least as long as asked for, and at most an eighth longer, and a partition's
//! time to fill.

use std::path::Path;
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior, params};

use super::buckets::Buckets;
use super::error::ShardError;
use super::file::Shard;
use super::inspect::partitions_of;
use super::partition::{Partition, check_name, firsts, names};
use super::retain_clock::{Look, RetainClock, say};
use super::service_event::ServiceEventRow;
use super::stream::Stream;
use super::{open, view};
use crate::base::clock;

/// Between two looks for partitions that are old enough.
const LOOK_EVERY_US: u64 = 10_000_000;
/// An open partition is sealed after this part of the retention.
const OPEN_SHARE: u32 = 8;
/// Rows deleted between two looks at the clock.
const DELETE_ROWS: i64 = 1_000;
/// Rows read in one transaction, so that no checkpoint waits long.
const READ_ROWS: i64 = 50_000;

/// Rows that left, and first row id and table of the partitions that stay.
type Left = (u64, Vec<(i64, String)>);

/// Where retention stands.
#[derive(Debug)]
pub(super) struct Retention {
    clock: RetainClock,
    look_at_us: u64,
    /// Tables are left to be freed.
    freeing: bool,
    /// A partition of events whose share of the buckets is being counted.
    leaving: Option<Leaving>,
}

#[derive(Debug)]
struct Leaving {
    partition: String,
    count: Option<JoinHandle<Result<Buckets, ShardError>>>,
}

impl Retention {
    /// Looks at the next step instead of later, for tests.
    #[cfg(test)]
    pub(super) fn look_now(&mut self) {
        self.look_at_us = 0;
    }

    /// Rows change: what is being counted of them is counted again.
    pub(super) fn stop_counting(&mut self) {
        self.leaving = None;
    }

    /// Whether tables that were dropped have pages still.
    pub(super) fn is_freeing(&self) -> bool {
        self.freeing
    }

    #[cfg(test)]
    pub(super) fn wall_moves(&mut self, by_us: i64) {
        self.clock.wall_moves(by_us);
    }

    #[cfg(test)]
    pub(super) fn is_busy(&self) -> bool {
        self.leaving.is_some() || self.freeing
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

/// The total that says how far ahead the clock was when dropping was stopped; there while it is. Without it a restart
/// would believe the clock: what is written meanwhile makes the file look new.
const HELD: &str = "retention_held_us";

fn write_hold(connection: &Connection, clock: &RetainClock) -> Result<(), ShardError> {
    if clock.is_held() {
        let sql = "INSERT INTO total (name, value) VALUES (?1, ?2) \
                   ON CONFLICT (name) DO UPDATE SET value = excluded.value WHERE value != excluded.value";
        connection.prepare_cached(sql)?.execute(params![HELD, clock.ahead_us()])?;
    } else {
        connection.prepare_cached("DELETE FROM total WHERE name = ?1")?.execute([HELD])?;
    }
    Ok(())
}

impl Shard {
    fn retentions(&self) -> [(Stream, Option<Duration>); 2] {
        [
            (Stream::Click, self.options.retention_clicks),
            (Stream::ServiceEvent, self.options.retention_events),
        ]
    }

    /// Whether [`Shard::retain`] has something to do now.
    pub(super) fn retain_due(&self) -> bool {
        let is_counted = |leaving: &Leaving| leaving.count.as_ref().is_none_or(JoinHandle::is_finished);
        let is_set = self.retentions().iter().any(|(_, keep)| keep.is_some());
        self.retention.freeing
            || match &self.retention.leaving {
                Some(leaving) => is_counted(leaving),
                None => is_set && clock::monotonic_us() >= self.retention.look_at_us,
            }
    }

    /// One step: drops a partition, seals an old one, or frees pages for about `budget`.
    pub(super) fn retain(&mut self, budget: Duration) -> Result<(), ShardError> {
        if let Some(leaving) = self.retention.leaving.take() {
            return self.drop_events(leaving);
        }
        if self.retention.freeing {
            return self.free_slice(budget);
        }
        let may_drop = self.may_drop()?;
        for (stream, keep) in self.retentions() {
            let Some(keep) = keep else { continue };
            if self.seal_old(stream, keep / OPEN_SHARE)? || (may_drop && self.drop_old(stream, keep)?) {
                return Ok(());
            }
        }
        self.retention.look_at_us = clock::monotonic_us() + LOOK_EVERY_US;
        Ok(())
    }

    /// Whether the clock can be believed.
    fn may_drop(&mut self) -> Result<bool, ShardError> {
        let was_held = self.retention.clock.is_held();
        let look = self.retention.clock.look(clock::unix_us(), clock::monotonic_us());
        match look {
            Look::Jumped(ahead_us) => say(&self.path, ahead_us),
            Look::Mended => {
                tracing::warn!(path = %self.path.display(), "the clock was set back: retention continues");
            }
            Look::MayDrop | Look::Held => {}
        }
        if was_held || self.retention.clock.is_held() {
            write_hold(&self.connection, &self.retention.clock)?;
        }
        Ok(matches!(look, Look::MayDrop | Look::Mended))
    }

    /// Seals the open partition of a stream if it is old and not empty.
    fn seal_old(&mut self, stream: Stream, age: Duration) -> Result<bool, ShardError> {
        let old_us = clock::unix_us().saturating_sub(age.as_micros() as i64);
        let open = match stream {
            Stream::Click => Some(&self.click),
            Stream::ServiceEvent => self.event.as_ref(),
            // Orders are kept.
            Stream::Order => None,
        };
        let Some(open) = open.filter(|open| open.rows > 0 && open.created_us <= old_us) else {
            return Ok(false);
        };
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let next = Partition::create(&transaction, stream, Some(open))?;
        transaction.commit()?;
        match stream {
            Stream::Click => self.click = next,
            Stream::ServiceEvent => {
                self.event_firsts.push((next.next_id, next.name.clone()));
                self.event = Some(next);
            }
            Stream::Order => {}
        }
        self.seal_due = true;
        Ok(true)
    }

    /// Drops the oldest partition of a stream if it was sealed long enough ago and has its index.
    fn drop_old(&mut self, stream: Stream, keep: Duration) -> Result<bool, ShardError> {
        let cutoff = clock::unix_us().saturating_sub(keep.as_micros() as i64);
        let oldest = self
            .connection
            .query_row(
                "SELECT name, sealed_at FROM partition WHERE stream = ?1 AND indexed_at IS NOT NULL \
                 ORDER BY first_id LIMIT 1",
                [stream.name()],
                |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)),
            )
            .optional()?;
        let Some((name, sealed_at)) = oldest else { return Ok(false) };
        let sealed_us =
            sealed_at.parse::<jiff::Timestamp>().map_or(i64::MAX, jiff::Timestamp::as_microsecond);
        if sealed_us > cutoff {
            return Ok(false);
        }
        check_name(&name)?;
        if stream == Stream::ServiceEvent {
            let (path, partition) = (self.path.clone(), name.clone());
            let count = std::thread::Builder::new().name("retain".to_owned());
            let count = count.spawn(move || counted(&path, &partition))?;
            self.retention.leaving = Some(Leaving { partition: name, count: Some(count) });
            return Ok(true);
        }
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let rows = leave(&transaction, stream, &name)?;
        transaction.commit()?;
        self.rows = self.rows.saturating_sub(rows);
        self.retention.freeing = true;
        Ok(true)
    }

    fn drop_events(&mut self, mut leaving: Leaving) -> Result<(), ShardError> {
        let gone = |_| ShardError::Other("the thread that counts what leaves is gone".to_owned());
        let Some(count) = leaving.count.take() else { return Ok(()) };
        let mut buckets = count.join().map_err(gone)??;
        match self.leave_with_ids(&leaving.partition, &mut buckets) {
            Ok((rows, left)) => {
                self.ids.committed();
                self.event_firsts = left;
                self.service_events = self.service_events.saturating_sub(rows);
                self.retention.freeing = true;
                Ok(())
            }
            Err(error) => {
                self.ids.rolled_back();
                Err(error)
            }
        }
    }

    /// The transaction in which a partition of events leaves: its rows, and the partitions that stay.
    fn leave_with_ids(&mut self, partition: &str, buckets: &mut Buckets) -> Result<Left, ShardError> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let rows = leave(&transaction, Stream::ServiceEvent, partition)?;
        let others = partitions_of(&transaction, Stream::ServiceEvent)?;
        buckets.subtract(&transaction, &others)?;
        let first_id = others.first().map_or(i64::MAX, |partition| partition.first_id);
        self.ids.forget_below(&transaction, first_id)?;
        let left = firsts(&transaction, Stream::ServiceEvent)?;
        transaction.commit()?;
        Ok((rows, left))
    }

    /// Frees pages of dropped tables: indexes first, then rows from the front, the table when it is empty.
    fn free_slice(&mut self, budget: Duration) -> Result<(), ShardError> {
        let until_us = clock::monotonic_us() + budget.as_micros() as u64;
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let name: Option<String> = transaction
            .query_row("SELECT name FROM dropped_partition ORDER BY name LIMIT 1", [], |row| row.get(0))
            .optional()?;
        let Some(name) = name else {
            self.retention.freeing = false;
            return Ok(());
        };
        check_name(&name)?;
        let index: Option<String> = transaction
            .query_row(
                "SELECT name FROM sqlite_schema WHERE type = 'index' AND tbl_name = ?1 LIMIT 1",
                [&name],
                |row| row.get(0),
            )
            .optional()?;
        match index {
            Some(index) => transaction.execute_batch(&format!("DROP INDEX {index}"))?,
            None => loop {
                let deleted = transaction.execute(
                    &format!("DELETE FROM {name} WHERE id IN (SELECT id FROM {name} ORDER BY id LIMIT ?1)"),
                    [DELETE_ROWS],
                )?;
                if deleted == 0 {
                    transaction.execute_batch(&format!("DROP TABLE {name}"))?;
                    transaction.execute("DELETE FROM dropped_partition WHERE name = ?1", [&name])?;
                    break;
                }
                if clock::monotonic_us() >= until_us {
                    break;
                }
            },
        }
        transaction.commit()?;
        Ok(())
    }
}

/// Takes a partition out of the catalogue, the views and the totals; how many rows it has.
fn leave(transaction: &Connection, stream: Stream, name: &str) -> Result<u64, ShardError> {
    let rows: i64 =
        transaction.query_row("SELECT rows FROM partition WHERE name = ?1", [name], |row| row.get(0))?;
    transaction.execute("DELETE FROM partition WHERE name = ?1", [name])?;
    transaction.execute("INSERT INTO dropped_partition (name) VALUES (?1)", [name])?;
    transaction
        .execute("UPDATE total SET value = value - ?2 WHERE name = ?1", params![stream.total(), rows])?;
    view::cover(transaction, stream, &names(transaction, stream)?)?;
    Ok(rows.unsigned_abs())
}

/// The buckets of one partition, which does not change any more.
fn counted(path: &Path, partition: &str) -> Result<Buckets, ShardError> {
    let reader = open::open_reader(path)?;
    let mut buckets = Buckets::default();
    let mut last = i64::MIN;
    let mut statement = reader.prepare(&format!(
        "SELECT id, tenant_id, source, event_type, timestamp_us FROM {partition} WHERE id > ?1 \
         ORDER BY id LIMIT ?2"
    ))?;
    loop {
        let before = last;
        let mut rows = statement.query([last, READ_ROWS])?;
        while let Some(row) = rows.next()? {
            last = row.get(0)?;
            let text = |at: usize| row.get_ref(at)?.as_str().map_err(rusqlite::Error::from);
            buckets.count(&ServiceEventRow {
                timestamp_us: row.get(4)?,
                received_us: 0,
                tenant_id: text(1)?,
                event_id: "",
                source: text(2)?,
                event_type: text(3)?,
                payload: "",
            });
        }
        if last == before {
            return Ok(buckets);
        }
    }
}
