//! Retention by size: the oldest rows of a kind leave while the kind takes more bytes than its limit.
//!
//! A thread measures one sealed partition at a time, once, with SQLite's `dbstat`, which reads all its pages. The size
//! of the open partition follows from the bytes per row of the last sealed one. A ledger is measured again and again;
//! the time between two measurements is a multiple of the time that one takes. What counts is the used bytes of pages,
//! because free space within pages is reused.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior, params};

use super::dropped::DropReason;
use super::error::ShardError;
use super::file::Shard;
use super::holds::Leave;
use super::open::open_reader;
use super::partitions::{PartitionInfo, partitions_of};
use super::retain::OPEN_SHARE;
use super::retain_clock::LOOK_EVERY_US;
use super::retention::Pass;
use super::sizes::Measured;
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

impl Shard {
    /// Runs one step: measures, seals a large partition, or drops the oldest rows of a kind that is too large. Returns
    /// `true` if it did something.
    pub(super) fn keep_size(&mut self) -> Result<bool, ShardError> {
        match self.retention.sizes.measuring.take() {
            None => {}
            Some(measuring) if measuring.is_finished() => {
                let gone = |_| ShardError::Other("a measurement panicked".to_owned());
                match measuring.join().map_err(gone)? {
                    Ok(measured) => self.measured(measured)?,
                    // Rows are stored without sizes too.
                    Err(error) => {
                        tracing::warn!(path = %self.path.display(), %error, "sizes could not be measured");
                        return Ok(false);
                    }
                }
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

    pub(super) fn measure(
        &mut self,
        work: impl FnOnce(&Path) -> Result<Measured, ShardError> + Send + 'static,
    ) -> Result<(), ShardError> {
        let path: PathBuf = self.path.clone();
        let thread = std::thread::Builder::new().name("measure".to_owned());
        self.retention.sizes.measuring = Some(thread.spawn(move || work(&path))?);
        Ok(())
    }

    /// Begins to measure a sealed partition.
    pub(super) fn measure_sealed(&mut self, info: PartitionInfo) -> Result<(), ShardError> {
        let tables = (info.stream.tables)(&info.name);
        self.measure(move |path| {
            let reader = open_reader(path)?;
            let bytes = bytes_of(&reader, &tables)? + shared_bytes(&reader, &info)?;
            Ok(Measured::Sealed { bytes, name: info.name })
        })
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
            Measured::Open { name, rows, bytes } => self.retention.sizes.set_open(name, rows, bytes),
            Measured::Row { ledger, bytes } => self.row_measured(ledger, bytes),
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
                self.retention.pass = Some(Pass::new(ledger, cutoff_us, DropReason::Size, None));
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
            self.measure_sealed(info.clone())?;
            return Ok(true);
        }
        let open = infos.iter().find(|info| !info.sealed && info.rows > 0);
        let is_any_measured = infos.iter().any(|info| sizes.of(&info.name).is_some());
        if let Some(open) = open.filter(|_| !is_any_measured)
            && sizes.open_of(&open.name).is_none_or(|(rows, _)| open.rows >= rows * 2)
        {
            let (info, tables) = (open.clone(), (stream.tables)(&open.name));
            self.measure(move |path| {
                let reader = open_reader(path)?;
                let bytes = bytes_of(&reader, &tables)? + shared_bytes(&reader, &info)?;
                Ok(Measured::Open { bytes, rows: info.rows, name: info.name })
            })?;
            return Ok(true);
        }
        if open.is_some_and(|open| sizes.estimate(&infos, open.rows) >= limit / u64::from(OPEN_SHARE)) {
            self.seal_open(stream)?;
            return Ok(true);
        }
        let bytes_of =
            |info: &PartitionInfo| sizes.of(&info.name).unwrap_or(sizes.estimate(&infos, info.rows));
        let mut total: u64 = infos.iter().map(bytes_of).sum();
        if total <= limit {
            return Ok(false);
        }
        let sized: HashMap<String, u64> =
            infos.iter().map(|info| (info.name.clone(), bytes_of(info))).collect();
        // Partitions leave in order. Those behind a held one are only noted.
        let mut is_behind = false;
        for oldest in self.sealed(stream)?.into_iter().filter(|partition| partition.is_indexed) {
            let leave = self.may_leave(stream, &oldest, !is_behind)?;
            if !is_behind && matches!(leave, Leave::Now | Leave::Unshipped) {
                let is_forced = leave == Leave::Unshipped;
                self.begin_drop(stream, oldest.name, oldest.sealed_us, (DropReason::Size, is_forced))?;
                return Ok(true);
            }
            is_behind = true;
            total = total.saturating_sub(sized.get(&oldest.name).copied().unwrap_or(0));
            if total <= limit {
                break;
            }
        }
        Ok(false)
    }
}

/// Returns the used bytes of tables and their indexes. Reads all their pages.
pub(super) fn bytes_of(reader: &Connection, tables: &[String]) -> Result<u64, ShardError> {
    let mut trees = reader.prepare("SELECT name FROM sqlite_schema WHERE tbl_name = ?1 AND rootpage > 0")?;
    let mut size =
        reader.prepare("SELECT pgsize - unused FROM dbstat WHERE name = ?1 AND aggregate = TRUE")?;
    let mut bytes = 0;
    for table in tables {
        let names = trees.query_map([table], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()?;
        for name in names {
            // An index may have been dropped in the meantime.
            let found: Option<i64> = size.query_row([name], |row| row.get(0)).optional()?;
            bytes += found.unwrap_or_default().unsigned_abs();
        }
    }
    Ok(bytes)
}

/// Returns the bytes of a partition in tables that all partitions share. Reads no overflow page.
pub(super) fn shared_bytes(reader: &Connection, partition: &PartitionInfo) -> Result<u64, ShardError> {
    let Some(sql) = partition.stream.shared_bytes_sql else { return Ok(0) };
    let ids = [partition.first_id, partition.end_id];
    let bytes: Option<i64> = reader.query_row(sql, ids, |row| row.get(0))?;
    Ok(bytes.unwrap_or_default().unsigned_abs())
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
