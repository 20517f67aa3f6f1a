//! Retention by size: the oldest rows of a kind leave while the kind takes more bytes than its limit.
//!
//! A thread measures one sealed partition at a time, once, with SQLite's `dbstat`, which reads all its pages. The size
//! of the open partition follows from the bytes per row of the last sealed one. A ledger is measured again and again;
//! the time between two measurements is a multiple of the time that one takes. What counts is the used bytes of pages,
//! because free space within pages is reused.

use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use rusqlite::{Connection, TransactionBehavior, params};

use super::dropped::DropReason;
use super::error::ShardError;
use super::file::Shard;
use super::open::open_reader;
use super::partitions::{PartitionInfo, partitions_of};
use super::retain::{LOOK_EVERY_US, OPEN_SHARE};
use super::retention::Pass;
use super::stream::{Ledger, Stream};
use crate::base::clock;

/// The time between two checks whether a measurement has ended.
const POLL_US: u64 = 100_000;
/// A ledger is measured for at most one part in this many of the time.
const MEASURE_SHARE: u64 = 50;
/// The time after which a ledger is measured again if nothing could be dropped.
const FRUITLESS_US: u64 = 3_600_000_000;
/// The maximum number of times of arrival in memory.
const SAMPLE_MAX: usize = 1 << 16;
/// A ledger over its limit loses this part of its rows in addition, so that passes are not too frequent.
const SLACK: f64 = 1.0 / 16.0;

/// What is known about sizes.
#[derive(Debug, Default)]
pub(super) struct Sizes {
    measuring: Option<JoinHandle<Result<Measured, ShardError>>>,
    /// The bytes of sealed partitions, as in the table `partition_bytes`.
    partitions: Vec<(String, u64)>,
    /// The rows and bytes of an open partition when it was measured.
    open: Option<(String, u64, u64)>,
    /// The monotonic time of the next measurement of each ledger.
    next: Vec<(&'static Ledger, u64)>,
}

#[derive(Debug)]
enum Measured {
    Sealed { name: String, bytes: u64 },
    Open { name: String, rows: u64, bytes: u64 },
    Ledger { ledger: &'static Ledger, bytes: u64, arrivals: Vec<i64>, took_us: u64 },
}

/// Creates the table of measured partitions.
pub(super) fn create_table(connection: &Connection) -> Result<(), ShardError> {
    Ok(connection.execute_batch(
        "
CREATE TABLE partition_bytes (
  -- The size of sealed partitions with their indexes, if retention limits the size of their stream.
  name TEXT PRIMARY KEY,  -- partition.name
  bytes INTEGER NOT NULL
) WITHOUT ROWID;
",
    )?)
}

impl Sizes {
    pub(super) fn load(connection: &Connection) -> Result<Sizes, ShardError> {
        let mut statement = connection.prepare("SELECT name, bytes FROM partition_bytes")?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?.unsigned_abs())))?;
        Ok(Sizes { partitions: rows.collect::<Result<_, _>>()?, ..Sizes::default() })
    }

    fn of(&self, partition: &str) -> Option<u64> {
        self.partitions.iter().find(|(name, _)| name == partition).map(|(_, bytes)| *bytes)
    }

    /// Estimates the bytes of a partition that was not measured.
    fn estimate(&self, infos: &[PartitionInfo], rows: u64) -> u64 {
        let sealed = infos.iter().rev().find_map(|info| Some((info.rows, self.of(&info.name)?)));
        let open = || self.open.as_ref().map(|(_, rows, bytes)| (*rows, *bytes));
        let (of_rows, bytes) = sealed.or_else(open).unwrap_or((1, 0));
        (u128::from(bytes) * u128::from(rows) / u128::from(of_rows.max(1))) as u64
    }

    pub(super) fn forget(&mut self, partition: &str) {
        self.partitions.retain(|(name, _)| name != partition);
    }

    fn postpone(&mut self, ledger: &'static Ledger, at_us: u64) {
        self.next.retain(|(known, _)| *known != ledger);
        self.next.push((ledger, at_us));
    }

    /// Makes every ledger due, for tests.
    #[cfg(test)]
    pub(super) fn measure_now(&mut self) {
        self.next.clear();
    }
}

impl Shard {
    /// Runs one step: measures, seals a large partition, or drops the oldest rows of a kind that is too large. Returns
    /// `true` if it did something.
    pub(super) fn keep_size(&mut self) -> Result<bool, ShardError> {
        match self.retention.sizes.measuring.take() {
            None => {}
            Some(measuring) if measuring.is_finished() => {
                let gone = |_| ShardError::Other("a measurement panicked".to_owned());
                let measured = measuring.join().map_err(gone)??;
                self.measured(measured)?;
                return Ok(true);
            }
            running => {
                self.retention.sizes.measuring = running;
                return Ok(false);
            }
        }
        for (stream, limit) in self.options.retention_bytes.clone() {
            if self.keep_stream(stream, limit)? {
                return Ok(true);
            }
        }
        let now_us = clock::monotonic_us();
        let next = &self.retention.sizes.next;
        let is_due = |ledger: &Ledger| next.iter().all(|(known, at_us)| *known != ledger || *at_us <= now_us);
        let due = self.options.ledger_bytes.iter().find(|(ledger, _)| is_due(ledger)).copied();
        if let Some((ledger, _)) = due {
            self.measure(move |path| {
                let began_us = clock::monotonic_us();
                let reader = open_reader(path)?;
                let tables: Vec<String> = ledger.tables.iter().map(|table| (*table).to_owned()).collect();
                let bytes = bytes_of(&reader, &tables)?;
                let arrivals = arrivals(&reader, ledger)?;
                Ok(Measured::Ledger { ledger, bytes, arrivals, took_us: clock::monotonic_us() - began_us })
            })?;
            return Ok(true);
        }
        Ok(false)
    }

    /// Returns the time of the next search if a measurement is running.
    pub(super) fn next_poll_us(&self) -> Option<u64> {
        self.retention.sizes.measuring.as_ref().map(|_| clock::monotonic_us() + POLL_US)
    }

    fn measure(
        &mut self,
        work: impl FnOnce(&Path) -> Result<Measured, ShardError> + Send + 'static,
    ) -> Result<(), ShardError> {
        let path: PathBuf = self.path.clone();
        let thread = std::thread::Builder::new().name("measure".to_owned());
        self.retention.sizes.measuring = Some(thread.spawn(move || work(&path))?);
        Ok(())
    }

    fn measured(&mut self, measured: Measured) -> Result<(), ShardError> {
        match measured {
            Measured::Sealed { name, bytes } => {
                let sql = "INSERT OR REPLACE INTO partition_bytes (name, bytes) \
                           SELECT ?1, ?2 WHERE EXISTS (SELECT 1 FROM partition WHERE name = ?1)";
                let transaction =
                    self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
                let is_there = transaction.execute(sql, params![name, bytes as i64])? > 0;
                transaction.commit()?;
                if is_there {
                    self.retention.sizes.forget(&name);
                    self.retention.sizes.partitions.push((name, bytes));
                }
            }
            Measured::Open { name, rows, bytes } => self.retention.sizes.open = Some((name, rows, bytes)),
            Measured::Ledger { ledger, bytes, mut arrivals, took_us } => {
                let pause_us = LOOK_EVERY_US.max(took_us.saturating_mul(MEASURE_SHARE));
                let now_us = clock::monotonic_us();
                self.retention.sizes.postpone(ledger, now_us.saturating_add(pause_us));
                let limit = self.options.ledger_bytes.iter().find(|(known, _)| *known == ledger);
                let Some((_, limit)) = limit.filter(|(_, limit)| bytes > *limit) else { return Ok(()) };
                arrivals.sort_unstable();
                let part = (bytes - limit) as f64 / bytes as f64 + SLACK;
                let at = (arrivals.len() as f64 * part) as usize;
                let cutoff_us = match arrivals.get(at) {
                    Some(arrival_us) => *arrival_us,
                    None => clock::unix_us(),
                };
                let reason = DropReason::Size;
                self.retention.pass = Some(Pass { ledger, cutoff_us, reason, rows: 0, is_begun: false });
            }
        }
        Ok(())
    }

    /// Waits longer with the next measurement if a pass could not drop anything.
    pub(super) fn pass_was_fruitless(&mut self, ledger: &'static Ledger) {
        self.retention.sizes.postpone(ledger, clock::monotonic_us() + FRUITLESS_US);
    }

    fn keep_stream(&mut self, stream: &'static Stream, limit: u64) -> Result<bool, ShardError> {
        let infos = partitions_of(&self.connection, stream)?;
        let sizes = &self.retention.sizes;
        let is_unmeasured =
            |info: &&PartitionInfo| info.sealed && info.indexed && sizes.of(&info.name).is_none();
        if let Some(info) = infos.iter().find(is_unmeasured) {
            let (name, tables) = (info.name.clone(), (stream.tables)(&info.name));
            self.measure(move |path| {
                Ok(Measured::Sealed { bytes: bytes_of(&open_reader(path)?, &tables)?, name })
            })?;
            return Ok(true);
        }
        let open = infos.iter().find(|info| !info.sealed && info.rows > 0);
        let is_any_measured = infos.iter().any(|info| sizes.of(&info.name).is_some());
        if let Some(open) = open.filter(|_| !is_any_measured) {
            let known = sizes.open.as_ref().filter(|(name, ..)| *name == open.name);
            if known.is_none_or(|(_, rows, _)| open.rows >= rows * 2) {
                let (name, rows, tables) = (open.name.clone(), open.rows, (stream.tables)(&open.name));
                self.measure(move |path| {
                    Ok(Measured::Open { bytes: bytes_of(&open_reader(path)?, &tables)?, rows, name })
                })?;
                return Ok(true);
            }
        }
        if open.is_some_and(|open| sizes.estimate(&infos, open.rows) >= limit / u64::from(OPEN_SHARE)) {
            self.seal_open(stream)?;
            return Ok(true);
        }
        let bytes_of =
            |info: &PartitionInfo| sizes.of(&info.name).unwrap_or(sizes.estimate(&infos, info.rows));
        let total: u64 = infos.iter().map(bytes_of).sum();
        if total <= limit {
            return Ok(false);
        }
        let Some((name, sealed_us)) = self.oldest_indexed(stream)? else { return Ok(false) };
        self.begin_drop(stream, name, sealed_us, DropReason::Size)?;
        Ok(true)
    }
}

/// Returns the used bytes of tables and their indexes. Reads all their pages.
fn bytes_of(reader: &Connection, tables: &[String]) -> Result<u64, ShardError> {
    let mut trees = reader.prepare("SELECT name FROM sqlite_schema WHERE tbl_name = ?1 AND rootpage > 0")?;
    let mut size =
        reader.prepare("SELECT pgsize - unused FROM dbstat WHERE name = ?1 AND aggregate = TRUE")?;
    let mut bytes = 0;
    for table in tables {
        let names = trees.query_map([table], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()?;
        for name in names {
            bytes += size.query_row([name], |row| row.get::<_, i64>(0))?.unsigned_abs();
        }
    }
    Ok(bytes)
}

/// Returns the times of arrival of at most [`SAMPLE_MAX`] rows, evenly distributed over the ledger.
fn arrivals(reader: &Connection, ledger: &Ledger) -> Result<Vec<i64>, ShardError> {
    let mut statement = reader.prepare(&format!("SELECT received_us FROM {}", ledger.name))?;
    let mut rows = statement.query([])?;
    let (mut sample, mut stride, mut at) = (Vec::new(), 1_usize, 0_usize);
    while let Some(row) = rows.next()? {
        if at % stride == 0 {
            sample.push(row.get(0)?);
        }
        at += 1;
        if sample.len() == SAMPLE_MAX {
            let mut place = 0;
            sample.retain(|_| {
                place += 1;
                place % 2 == 1
            });
            stride *= 2;
        }
    }
    Ok(sample)
}
