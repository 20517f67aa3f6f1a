//! `firehose shards`, `verify` and `drill lock`: inspect (or disturb) a data folder from outside.

use std::fmt::Write;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};

use super::FolderArgs;
use crate::base::clock;
use crate::base::ids::{LaneId, Sequence, ShardId};
use crate::clicks::CLICKS;
use crate::events::EVENTS;
use crate::families::FAMILIES;
use crate::journal;
use crate::ops::output::{EXIT_FAILED, complain, say};
use crate::orders::ORDERS;
use crate::prices::PRICE_ROWS;
use crate::shard::{self, DataFolder, ShardError, ShardFolder, Verified};
use crate::stock::STOCK_EVENTS;

/// How long the rows of one kind without a counter are counted in one shard.
const COUNT_PATIENCE: Duration = Duration::from_secs(1);
/// The word for a count that would take longer than a second. JSON has null instead.
const NOT_COUNTED: &str = "many";

/// Opens the folder read-only. Returns the exit code if that fails.
fn open_folder(args: &FolderArgs) -> Result<DataFolder, ExitCode> {
    let loaded = args.load().map_err(|errors| complain(&errors))?;
    DataFolder::read_only(&loaded.config.data).map_err(|error| {
        eprintln!("firehose: {error}");
        ExitCode::from(EXIT_FAILED)
    })
}

fn print(args: &FolderArgs, rows: &[Value], text: &str) {
    if args.json {
        say(&format!("{}\n", Value::from(rows.to_vec())));
    } else {
        say(text);
    }
}

/// Prints the path, rows, bytes, backlog and position of every shard. It works while a server runs. Prices and stock
/// events have no counter and are counted, for at most a second for each kind and shard; `other_records` counts all
/// that were ever stored, together with statuses, as the log does when a server starts.
#[must_use]
pub fn shards(args: &FolderArgs) -> ExitCode {
    let folder = match open_folder(args) {
        Ok(folder) => folder,
        Err(code) => return code,
    };
    let mut text = format!(
        "{:<6} {:>12} {:>12} {:>12} {:>12} {:>12} {:>5} {:>14} {:>12} {:>10} {:>12}  {}\n",
        "shard",
        "clicks",
        "events",
        "orders",
        "prices",
        "stock",
        "parts",
        "db bytes",
        "wal bytes",
        "backlog",
        "journal",
        "path"
    );
    let (mut rows, mut failed) = (Vec::new(), false);
    for (id, shard_folder) in folder.shards() {
        match shard_row(id, &shard_folder) {
            Ok(row) => {
                let number = |name: &str| row[name].as_u64().unwrap_or_default();
                let counted =
                    |name: &str| row[name].as_u64().map_or(NOT_COUNTED.to_owned(), |n| n.to_string());
                _ = writeln!(
                    text,
                    "{:<6} {:>12} {:>12} {:>12} {:>12} {:>12} {:>5} {:>14} {:>12} {:>10} {:>12}  {}",
                    id.0,
                    number("rows"),
                    number("service_events"),
                    number("orders"),
                    counted("prices"),
                    counted("stock_events"),
                    number("partitions"),
                    number("database_bytes"),
                    number("wal_bytes"),
                    number("backlog_events"),
                    number("journal_bytes"),
                    shard_folder.database().display()
                );
                for lane in row["lanes"].as_array().into_iter().flatten() {
                    let number = |name: &str| lane[name].as_u64().unwrap_or_default();
                    let name = lane["lane"].as_str().unwrap_or_default();
                    _ = writeln!(
                        text,
                        "       {name:<8} applied {} of {}",
                        number("applied"),
                        number("appended")
                    );
                }
                for dropped in row["dropped"].as_array().into_iter().flatten() {
                    let text_of = |name: &str| dropped[name].as_str().unwrap_or_default();
                    _ = writeln!(
                        text,
                        "       dropped {} rows of {} by {}, from before {}",
                        dropped["rows"].as_u64().unwrap_or_default(),
                        text_of("kind"),
                        text_of("reason"),
                        text_of("cutoff")
                    );
                }
                rows.push(row);
            }
            Err(reason) => {
                failed = true;
                _ = writeln!(
                    text,
                    "{:<6} cannot be read: {reason}  {}",
                    id.0,
                    shard_folder.database().display()
                );
                rows.push(json!({"shard": id.0, "path": shard_folder.database(), "error": reason}));
            }
        }
    }
    print(args, &rows, &text);
    if failed { ExitCode::from(EXIT_FAILED) } else { ExitCode::SUCCESS }
}

fn shard_row(id: ShardId, folder: &ShardFolder) -> Result<Value, String> {
    let lanes = folder.lanes().map_err(|error| error.to_string())?;
    // The journals are read before the database, so the reported backlog is never too high. Records that the server
    // appends and applies in between are in the database's positions only.
    let mut journals = Vec::new();
    for lane in lanes {
        journals.push((lane, journal::inspect(&folder.lane(lane)).map_err(|error| error.to_string())?));
    }
    let inspection = shard::inspect(&folder.database(), &FAMILIES).map_err(|error| error.to_string())?;
    let applied = |lane: LaneId| {
        inspection.positions.iter().find(|(known, _)| *known == lane).map_or(Sequence::NONE, |(_, at)| *at)
    };
    let (mut backlog, mut bytes, mut positions) = (0, 0, Vec::new());
    for (lane, seen) in journals {
        let applied = applied(lane);
        let appended = seen.last.unwrap_or(applied).max(applied);
        backlog += appended.0 - applied.0;
        bytes += seen.bytes;
        positions.push(json!({"lane": lane.folder(), "applied": applied.0, "appended": appended.0}));
    }
    let rows_of = |ledger| {
        let rows = shard::ledger_rows(&folder.database(), ledger, COUNT_PATIENCE);
        rows.map_err(|error| error.to_string())
    };
    Ok(json!({
        "shard": id.0,
        "path": inspection.path,
        "rows": inspection.stored(&CLICKS),
        "service_events": inspection.stored(&EVENTS),
        "orders": inspection.stored(&ORDERS),
        "prices": rows_of(&PRICE_ROWS)?,
        "stock_events": rows_of(&STOCK_EVENTS)?,
        "other_records": inspection.other,
        "rejected": inspection.rejected,
        "dropped": inspection.dropped.iter().map(|rows| json!({
            "kind": rows.kind,
            "reason": rows.reason,
            "rows": rows.rows,
            "cutoff": clock::rfc3339(rows.cutoff_us),
        })).collect::<Vec<_>>(),
        "partitions": inspection.partitions.len(),
        "database_bytes": inspection.database_bytes,
        "wal_bytes": inspection.wal_bytes,
        "backlog_events": backlog,
        "journal_bytes": bytes,
        "lanes": positions,
    }))
}

/// The result of one check.
enum Checked {
    /// The number of what was checked, and what is wrong with it.
    Done(u64, Vec<String>),
    /// The reason why nothing is known of the content.
    Not(String),
}

impl Checked {
    fn of_shard(verified: Result<Verified, ShardError>) -> Checked {
        match verified {
            Ok(Verified { rows, problems }) => Checked::Done(rows, problems),
            Err(error) if error.is_damage() => Checked::Done(0, vec![error.to_string()]),
            Err(ShardError::Full) => Checked::Not(
                "there is no space next to the database for the index of its WAL; free some".to_owned(),
            ),
            Err(error) => Checked::Not(error.to_string()),
        }
    }
}

/// The lines of a verification.
#[derive(Default)]
struct Report {
    rows: Vec<Value>,
    text: String,
    has_failed: bool,
}

impl Report {
    fn add(&mut self, what: &str, unit: &str, checked: Checked) {
        let is_checked = matches!(checked, Checked::Done(..));
        let (counted, problems) = match checked {
            Checked::Done(counted, problems) => (counted, problems),
            Checked::Not(why) => (0, vec![why]),
        };
        let is_sound = problems.is_empty();
        self.has_failed |= !is_sound;
        let verdict = match (is_sound, is_checked) {
            (true, _) => "ok",
            (false, true) => "DAMAGED",
            (false, false) => "not checked",
        };
        _ = writeln!(self.text, "{verdict:<11} {counted:>12} {unit:<8} {what}");
        for problem in &problems {
            _ = writeln!(self.text, "            {problem}");
        }
        self.rows.push(json!({
            "path": what, unit: counted, "ok": is_sound, "checked": is_checked, "problems": problems,
        }));
    }
}

/// Runs SQLite's integrity check on every shard, recounts its rows and, if requested, its sums and its stock, and
/// checks the checksum of every journal record.
#[must_use]
pub fn verify(args: &FolderArgs, aggregates: bool, stock: bool) -> ExitCode {
    let folder = match open_folder(args) {
        Ok(folder) => folder,
        Err(code) => return code,
    };
    let mut report = Report::default();
    for (_, shard_folder) in folder.shards() {
        let path = shard_folder.database();
        let name = path.display();
        if path.try_exists().is_ok_and(|exists| exists) {
            let mut verified = shard::verify(&path, &FAMILIES);
            if let Err(problem) = shard::check_recovered(&shard_folder) {
                verified = verified.map(|Verified { rows, mut problems }| {
                    problems.push(problem);
                    Verified { rows, problems }
                });
            }
            report.add(&name.to_string(), "rows", Checked::of_shard(verified));
            if aggregates {
                let verified = shard::verify_aggregates(&path, &FAMILIES);
                report.add(&format!("{name} (aggregates)"), "rows", Checked::of_shard(verified));
            }
            if stock {
                let verified = crate::stock::verify_stock(&path);
                report.add(&format!("{name} (stock)"), "events", Checked::of_shard(verified));
            }
        } else {
            report.add(&name.to_string(), "rows", Checked::Done(0, vec!["there is no such file".to_owned()]));
        }
        verify_journals(&shard_folder, &mut report);
    }
    print(args, &report.rows, &report.text);
    if report.has_failed { ExitCode::from(EXIT_FAILED) } else { ExitCode::SUCCESS }
}

fn verify_journals(shard_folder: &ShardFolder, report: &mut Report) {
    let lanes = match shard_folder.lanes() {
        Ok(lanes) => lanes,
        Err(error) => {
            let name = format!("{} (journals)", shard_folder.database().display());
            return report.add(&name, "records", Checked::Not(error.to_string()));
        }
    };
    for lane in lanes {
        let dir = shard_folder.lane(lane);
        let checked = match journal::verify(&dir) {
            Ok(verified) => {
                let (damaged, missing): (Vec<_>, Vec<_>) =
                    verified.damaged.iter().partition(|damage| damage.promised);
                for unsynced in missing {
                    eprintln!("{unsynced}; the server made no promise that they survive a power cut");
                }
                Checked::Done(verified.records, damaged.iter().map(ToString::to_string).collect())
            }
            Err(error) => Checked::Not(error.to_string()),
        };
        report.add(&dir.display().to_string(), "records", checked);
    }
}

/// Locks every shard at once for `seconds`, as another program's forgotten transaction would.
#[must_use]
pub fn drill_lock(args: &FolderArgs, seconds: u64) -> ExitCode {
    let folder = match open_folder(args) {
        Ok(folder) => folder,
        Err(code) => return code,
    };
    let mut locks = Vec::new();
    for (id, shard_folder) in folder.shards() {
        match shard::Lock::acquire(&shard_folder.database(), Duration::from_secs(5)) {
            Ok(lock) => locks.push(lock),
            Err(error) => {
                eprintln!("firehose: shard {} could not be locked: {error}", id.0);
                return ExitCode::from(EXIT_FAILED);
            }
        }
    }
    say(&format!("{} shards locked for {seconds} s\n", locks.len()));
    crate::base::clock::pause(Duration::from_secs(seconds));
    drop(locks);
    say("unlocked\n");
    ExitCode::SUCCESS
}
