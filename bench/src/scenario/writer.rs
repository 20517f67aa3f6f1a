//! `writer`: the shard's application of a batch against a bare prepared INSERT on the same table.
//!
//! In-process, on the server's core. Both write the same rows in the same transactions with the same settings of
//! SQLite, and both checkpoint after the same number of rows, outside the measured time. The shard additionally
//! decodes records, keeps positions and totals, and counts the rows of the partition.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use firehose::base::clock;
use firehose::base::ids::{LaneId, Sequence};
use firehose::clicks::decode;
use firehose::ingest::{CLICK, encode_header};
use firehose::shard::{CheckpointMode, Entry, Records, Shard, ShardFolder, ShardOptions};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior};

use crate::process;
use crate::report::{Limit, Report};
use crate::run::{Figures, Round};
use crate::setup::{Folder, Setup};
use firehose::families::FAMILIES;

const BARE_RATIO_MIN: f64 = 0.7;
/// Less than a partition, so that no index build disturbs the comparison.
const ROWS: usize = 1_000_000;
/// About 32 MiB of WAL.
const ROWS_PER_CHECKPOINT: usize = 150_000;
/// Rows of a transaction: of a quiet server, in between, of a busy server.
const BATCHES: [usize; 3] = [100, 1_000, 10_000];

pub(crate) fn run(setup: &Setup) -> Result<Report> {
    process::pin_here(&setup.server_cores)?;
    let mut report = Report::new("writer");
    for batch_rows in BATCHES {
        let case = format!("{batch_rows} rows a transaction");
        // The fewer rows a transaction has, the longer a row takes.
        let rows = if batch_rows < 1_000 { ROWS / 4 } else { ROWS };
        let payloads = Payloads::new(rows);
        for round in 0..setup.rounds {
            report.record(&case, "shard", round, apply(setup, &payloads, rows, batch_rows)?);
            report.record(&case, "bare", round, bare(setup, &payloads, rows, batch_rows)?);
        }
        let ratio = report.ratio((&case, "shard", "rows_per_s"), (&case, "bare", "rows_per_s"));
        report.bar(
            format!("{case}: rows per second, shard / bare loop"),
            Limit::AtLeast(BARE_RATIO_MIN),
            ratio,
        );
    }
    Ok(report)
}

/// Records of about 200 bytes as in a journal. Times advance from row to row, as in a journal.
struct Payloads {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Payloads {
    fn new(count: usize) -> Payloads {
        let mut payloads = Payloads { bytes: Vec::new(), ends: Vec::with_capacity(count) };
        for n in 0..count as i64 {
            let time_us = 1_700_000_000_000_000 + n * 7;
            payloads.bytes.extend_from_slice(&encode_header(n * 7919 % 1_000_003, time_us, time_us + 1));
            let metadata = format!(
                r#"{{"page":"/products/{n}","referrer":"https://example.com/search?q=shoes","session":"{:016x}","button":"add_to_cart","ms":{}}}"#,
                n.wrapping_mul(0x9e37_79b9_7f4a_7c15u64 as i64),
                n % 9973
            );
            payloads.bytes.extend_from_slice(metadata.as_bytes());
            payloads.ends.push(payloads.bytes.len());
        }
        payloads
    }

    /// Returns `count` payloads, from index `written` on.
    fn batch(&self, written: usize, count: usize) -> impl Iterator<Item = &[u8]> {
        (written..written + count).map(|n| {
            let start = n.checked_sub(1).map_or(0, |before| self.ends[before]);
            &self.bytes[start..self.ends[n]]
        })
    }
}

struct Batch<'a> {
    written: usize,
    count: usize,
    payloads: &'a Payloads,
}

impl Records for Batch<'_> {
    fn records(&self) -> impl Iterator<Item = Entry<'_>> {
        let numbered = (self.written as u64 + 1..).zip(self.payloads.batch(self.written, self.count));
        numbered.map(|(n, payload)| Entry { sequence: Sequence(n), kind: CLICK.number(), payload })
    }
}

fn apply(setup: &Setup, payloads: &Payloads, rows: usize, batch_rows: usize) -> Result<Round> {
    let folder = Folder::new(&setup.data_root)?;
    let shard_folder = ShardFolder::new(folder.path().join("shard-00"));
    let mut shard = Shard::open(&shard_folder, &options(), &FAMILIES)?;
    let round = timed(rows, batch_rows, |step| {
        match step {
            Step::Write { written } => {
                let batch = Batch { written, count: batch_rows, payloads };
                shard.apply(&[(LaneId::hot(0), &batch)], &mut |_, _, _| {})?;
            }
            Step::Checkpoint => {
                shard.checkpoint(CheckpointMode::Passive)?;
            }
        }
        Ok(())
    })?;
    ensure!(shard.rows() == rows as u64, "{} rows in the shard, not {rows}", shard.rows());
    Ok(round)
}

fn options() -> ShardOptions {
    ShardOptions { partition_rows_max: 2 * ROWS as u64, ..ShardOptions::default() }
}

fn bare(setup: &Setup, payloads: &Payloads, rows: usize, batch_rows: usize) -> Result<Round> {
    let folder = Folder::new(&setup.data_root)?;
    let shard_folder = ShardFolder::new(folder.path().join("shard-00"));
    // The shard creates its own table. After that, only SQLite is used.
    drop(Shard::open(&shard_folder, &options(), &FAMILIES)?);
    let mut connection = Connection::open(shard_folder.database())?;
    for (pragma, value) in [("wal_autocheckpoint", 0), ("cache_size", -16 * 1024), ("mmap_size", 0)] {
        connection.pragma_update(None, pragma, value)?;
    }
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    let table: Option<String> = connection
        .query_row("SELECT name FROM partition WHERE sealed_at IS NULL", [], |row| row.get(0))
        .optional()?;
    let table = table.context("the shard has no open partition")?;
    let insert = format!(
        "INSERT INTO {table} (id, user_id, timestamp_us, received_us, metadata) VALUES (?1, ?2, ?3, ?4, ?5)"
    );
    let mut id = 0i64;
    let round = timed(rows, batch_rows, |step| {
        match step {
            Step::Write { written } => {
                let rows = payloads.batch(written, batch_rows).map(|row| decode(row).context("no row"));
                let rows = rows.collect::<Result<Vec<_>>>()?;
                let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
                let mut statement = transaction.prepare_cached(&insert)?;
                for row in &rows {
                    id += 1;
                    statement.raw_bind_parameter(1, id)?;
                    statement.raw_bind_parameter(2, row.user_id)?;
                    statement.raw_bind_parameter(3, row.timestamp_us)?;
                    statement.raw_bind_parameter(4, row.received_us)?;
                    statement.raw_bind_parameter(5, row.metadata)?;
                    statement.raw_execute()?;
                }
                drop(statement);
                transaction.commit()?;
            }
            Step::Checkpoint => connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?,
        }
        Ok(())
    })?;
    let stored: i64 = connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0))?;
    ensure!(stored == rows as i64, "{stored} rows in the table, not {rows}");
    Ok(round)
}

enum Step {
    /// One transaction of one batch, after this many rows.
    Write {
        written: usize,
    },
    Checkpoint,
}

/// Measures the transactions separately, and together with the checkpoints between them.
fn timed(rows: usize, batch_rows: usize, mut step: impl FnMut(Step) -> Result<()>) -> Result<Round> {
    let start = clock::now();
    let mut writing = Duration::ZERO;
    let mut since_checkpoint = 0;
    for written in (0..rows).step_by(batch_rows) {
        ensure!(!process::interrupted(), "interrupted");
        let before = clock::now();
        step(Step::Write { written })?;
        writing += before.elapsed();
        since_checkpoint += batch_rows;
        if since_checkpoint >= ROWS_PER_CHECKPOINT {
            step(Step::Checkpoint)?;
            since_checkpoint = 0;
        }
    }
    step(Step::Checkpoint)?;
    let mut figures = Figures::new();
    figures.insert("rows_per_s", rows as f64 / writing.as_secs_f64());
    figures.insert("row_us", writing.as_secs_f64() * 1e6 / rows as f64);
    figures.insert("with_checkpoints_per_s", rows as f64 / start.elapsed().as_secs_f64());
    Ok(Round { figures, fault: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_numbered_without_gaps_and_every_payload_is_a_row() {
        let payloads = Payloads::new(500);
        let batch = Batch { written: 300, count: 100, payloads: &payloads };
        let numbers: Vec<u64> = batch.records().map(|entry| entry.sequence.0).collect();
        assert_eq!(numbers, (301..=400).collect::<Vec<_>>());
        let is_row = |payload: &[u8]| decode(payload).is_some() && (150..250).contains(&payload.len());
        assert!(payloads.batch(0, 500).all(is_row));
    }
}
