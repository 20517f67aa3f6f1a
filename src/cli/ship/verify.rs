//! `firehose ship verify`: compares the rows of both sides.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde_json::{Value, json};

use super::{TargetArgs, options};
use crate::base::clock;
use crate::base::ids::ShardId;
use crate::config::Config;
use crate::ops::output::{EXIT_FAILED, complain, say};
use crate::shard::{DataFolder, ShardError, ShardFolder};
use crate::ship::RunError;
use crate::ship::postgres::{IdRange, PostgresReader, TargetPlace, VerifyTable};
use crate::ship::rows::{Rows, ShipStream};
use crate::ship::sink::{EpochId, SinkError};
use crate::ship::source::{ReadLimits, Source};
use crate::ship::verify::{Bucket, Recounted, add, count, difference, differing, each_row, ranges};

/// The number of row ids that a difference names.
const IDS_NAMED: usize = 10;

/// A difference in one shard.
struct Different {
    shard: ShardId,
    table: VerifyTable,
    bucket: Bucket,
    missing: Vec<i64>,
    different: Vec<i64>,
}

/// The result for all shards.
#[derive(Default)]
struct Report {
    /// Compared rows by kind.
    rows: BTreeMap<VerifyTable, u64>,
    differences: Vec<Different>,
    /// Shards whose later changes were left out, because they were on their way.
    unsettled: usize,
}

/// Compares both sides and prints the differences.
pub(super) fn verify(args: &TargetArgs, as_json: bool) -> ExitCode {
    let loaded = match args.load(&[]) {
        Ok(loaded) => loaded,
        Err(errors) => return complain(&errors),
    };
    match report(&loaded.config) {
        Err(error) => super::fail(&error),
        Ok(report) => {
            say(&if as_json { format!("{}\n", page(&report)) } else { text(&report) });
            if report.differences.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FAILED) }
        }
    }
}

fn report(config: &Config) -> Result<Report, RunError> {
    let options = options(config)?;
    let folder = DataFolder::read_only(&config.data)?;
    let stop = Arc::new(AtomicBool::new(false));
    let mut target = PostgresReader::new(options, folder.manifest().id.clone(), stop)
        .map_err(|error| RunError::Failed(error.to_string()))?;
    let places = target.places().map_err(|error| RunError::Failed(error.to_string()))?;
    if places.is_empty() {
        return Err(RunError::Failed("the target has nothing of this data folder".to_owned()));
    }
    let mut report = Report::default();
    for (shard, files) in folder.shards() {
        let failed = |error: Failure| RunError::Failed(format!("shard {}: {error}", shard.0));
        Shard::open(shard, &files, &places)
            .and_then(|mut of| of.verify(&mut target, &places, &mut report))
            .map_err(failed)?;
    }
    Ok(report)
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Source(#[from] ShardError),
    #[error("{0}")]
    Sink(#[from] SinkError),
}

/// One shard that is verified.
struct Shard {
    id: ShardId,
    source: Source,
    epochs: Vec<EpochId>,
    /// Set if the target has every change.
    is_settled: bool,
}

impl Shard {
    fn open(id: ShardId, files: &ShardFolder, places: &[TargetPlace]) -> Result<Shard, Failure> {
        let source = Source::new(&files.database(), ReadLimits::MAX);
        let mut shard = Shard { id, source, epochs: Vec::new(), is_settled: false };
        shard.epochs = shard.source.look()?.epochs.into_iter().map(|epoch| EpochId(epoch.id)).collect();
        shard.is_settled = shard.has_every_change(places)?;
        Ok(shard)
    }

    fn verify(
        &mut self,
        target: &mut PostgresReader,
        places: &[TargetPlace],
        report: &mut Report,
    ) -> Result<(), Failure> {
        let mut is_settled = self.is_settled;
        for table in VerifyTable::ALL {
            let ranges = ranges(places, self.id, &self.epochs, table.stream());
            let mut there = Recounted::new();
            for range in &ranges {
                target.recount(table, range, is_settled, |day| {
                    add(&mut there, &day.tenant_id, day.day, (day.rows, day.sum));
                })?;
            }
            let mut here = Recounted::new();
            self.read(table, &ranges, |rows| count(rows, table, is_settled, &mut here))?;
            *report.rows.entry(table).or_default() += here.values().map(|tally| tally.rows).sum::<u64>();
            for bucket in differing(&here, &there) {
                // Changes that arrived meanwhile are not differences.
                is_settled = is_settled && self.has_every_change(&target.places()?)?;
                self.compare(target, (table, &ranges), (&bucket, is_settled), report)?;
            }
        }
        report.unsettled += usize::from(!is_settled);
        Ok(())
    }

    /// Returns `true` if no change is on its way.
    fn has_every_change(&mut self, places: &[TargetPlace]) -> Result<bool, Failure> {
        let newest = self.epochs.last();
        let place = places.iter().find(|place| {
            place.shard == self.id && place.stream == ShipStream::Changes && Some(&place.epoch) == newest
        });
        Ok(self.source.newest(ShipStream::Changes)? <= place.map_or(0, |place| place.last))
    }

    /// Compares the rows of a bucket that differs.
    fn compare(
        &mut self,
        target: &mut PostgresReader,
        (table, ranges): (VerifyTable, &[IdRange]),
        (bucket, is_settled): (&Bucket, bool),
        report: &mut Report,
    ) -> Result<(), Failure> {
        let (mut there, mut aside) = (BTreeMap::new(), BTreeSet::new());
        for range in ranges {
            let of = (bucket.tenant_id.as_str(), bucket.day);
            target.hashes(table, range, of, is_settled, |id, hash| _ = there.insert(id, hash))?;
            target.ids_put_aside(table.stream(), range, |id| _ = aside.insert(id))?;
        }
        let mut here: BTreeMap<i64, i128> = BTreeMap::new();
        self.read(table, ranges, |rows| {
            each_row(rows, table, is_settled, |row| {
                if row.tenant_id == bucket.tenant_id && row.day == bucket.day {
                    *here.entry(row.id).or_default() += i128::from(row.hash);
                }
            });
        })?;
        let mut found = difference(&here, &there);
        found.missing.retain(|id| !aside.contains(id));
        if !found.missing.is_empty() || !found.different.is_empty() {
            report.differences.push(Different {
                shard: self.id,
                table,
                bucket: bucket.clone(),
                missing: found.missing,
                different: found.different,
            });
        }
        Ok(())
    }

    /// Reads the rows of these ranges from the shard.
    fn read(
        &mut self,
        table: VerifyTable,
        ranges: &[IdRange],
        mut each: impl FnMut(&Rows),
    ) -> Result<(), Failure> {
        for range in ranges {
            let mut after = range.after;
            while after < range.last {
                let next = self.source.read_sent(table.stream(), (after, range.last))?;
                each(&next.rows);
                after = next.last;
            }
        }
        Ok(())
    }
}

fn day_text(bucket: &Bucket) -> String {
    clock::rfc3339(i64::from(bucket.day) * 86_400_000_000).chars().take(10).collect()
}

fn page(report: &Report) -> Value {
    let differences: Vec<Value> = report
        .differences
        .iter()
        .map(|found| {
            json!({
                "shard": found.shard.0,
                "table": found.table.as_str(),
                "tenant_id": found.bucket.tenant_id,
                "day": day_text(&found.bucket),
                "missing": found.missing.len(),
                "different": found.different.len(),
                "ids": named(found),
            })
        })
        .collect();
    let rows: serde_json::Map<String, Value> =
        report.rows.iter().map(|(table, rows)| (table.as_str().to_owned(), json!(rows))).collect();
    json!({"rows": rows, "differences": differences, "shards_with_changes_on_their_way": report.unsettled})
}

fn named(found: &Different) -> Vec<i64> {
    found.missing.iter().chain(&found.different).take(IDS_NAMED).copied().collect()
}

fn text(report: &Report) -> String {
    let mut text = String::new();
    for (table, rows) in &report.rows {
        _ = writeln!(text, "{:<14} {rows:>14} rows compared", table.as_str());
    }
    if report.unsettled > 0 {
        _ = writeln!(
            text,
            "{} shards have changes that are on their way: statuses and decisions were not compared there",
            report.unsettled
        );
    }
    for found in &report.differences {
        let of = match found.bucket.tenant_id.as_str() {
            "" => format!("of {}", day_text(&found.bucket)),
            tenant_id => format!("of {tenant_id} of {}", day_text(&found.bucket)),
        };
        _ = writeln!(
            text,
            "DIFFERENT: shard {}, {} {of}: {} rows are missing in the target, {} differ; row ids {:?}",
            found.shard.0,
            found.table.as_str(),
            found.missing.len(),
            found.different.len(),
            named(found)
        );
    }
    if report.differences.is_empty() {
        text.push_str("both sides are equal\n");
    }
    text
}
