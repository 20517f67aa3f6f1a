//! `ship`: clicks and events of one shard to PostgreSQL with fsync, compared with psql's COPY of the same rows into
//! like tables; the cost to the listener; the time from a 202 until the row is visible in the target.

mod database;

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use firehose::base::clock;
use serde_json::json;

use self::database::Database;
use crate::peer::{Running, Serve, System};
use crate::process::{self, Process};
use crate::report::{Limit, Report};
use crate::run::{self, Figures, Round};
use crate::setup::{Folder, Setup};
use crate::{cpu, http};

/// Rows of each kind. `--orders` replaces it.
const ROWS: usize = 1_000_000;
/// Rows of one request of events, and requests of clicks in one write.
const BULK: usize = 5_000;
const PIPELINED: usize = 64;
const CONNECTIONS: usize = 64;
/// Clicks per second while freshness is measured, and the shortest time for it.
const PACE: u64 = 200;
const FRESH_SECONDS_MIN: u64 = 30;
const LIMIT: Duration = Duration::from_secs(900);

const EVENTS_PER_S_MIN: f64 = 100_000.0;
const CLICKS_PER_S_MIN: f64 = 150_000.0;
const OVER_PSQL_MIN: f64 = 0.8;
const RSS_MB_MAX: f64 = 64.0 * 1.048_576;
const LISTENER_RATIO_MAX: f64 = 1.05;
/// The default of `checkpoint_interval`, and two seconds.
const FRESH_S_MAX: f64 = 5.0 + 2.0;

/// One kind of rows: its table in the target, and the bar.
#[derive(Clone, Copy)]
struct Kind {
    table: &'static str,
    rows_per_s_min: f64,
}

const KINDS: [Kind; 2] = [
    Kind { table: "clicks", rows_per_s_min: CLICKS_PER_S_MIN },
    Kind { table: "events", rows_per_s_min: EVENTS_PER_S_MIN },
];

pub(crate) fn run(setup: &Setup) -> Result<Report> {
    let mut report = Report::new("ship");
    let rows = setup.orders.unwrap_or(ROWS).div_ceil(BULK) * BULK;
    // The target has the other core, as if it were another machine.
    let database = Database::start(setup, &setup.load_cores)?;
    let mut folders = Vec::new();
    for kind in KINDS {
        let folder = Folder::new(&setup.data_root)?;
        fill(setup, kind, folder.path(), rows)?;
        eprintln!("[ship] {rows} {} are loaded", kind.table);
        folders.push(folder);
    }
    for (kind, folder) in KINDS.iter().zip(&folders) {
        // The rows for psql are those that the first pass has shipped.
        ship_once(setup, &database, *kind, &data(folder), rows)?;
        prepare_copy(&database, kind.table)?;
    }
    for round in 0..setup.rounds {
        for (kind, folder) in KINDS.iter().zip(&folders) {
            let case = format!("{rows} {}", kind.table);
            let figures = ship_once(setup, &database, *kind, &data(folder), rows)?;
            report.record(&case, "firehose", round, Round { figures, fault: None });
            let figures = copy(setup, &database, kind.table, rows)?;
            report.record(&case, "psql", round, Round { figures, fault: None });
        }
    }
    drop(folders);
    database.ask("DROP SCHEMA copied CASCADE")?;
    let paced = format!("POST /event, {CONNECTIONS} connections");
    for round in 0..setup.rounds {
        for system in ["without a shipper", "with a shipper"] {
            let measured = listen(setup, &database, system == "with a shipper")?;
            report.record(&paced, system, round, measured);
        }
        let figures = freshness(setup, &database)?;
        report.record(&format!("{PACE} clicks/s"), "firehose", round, Round { figures, fault: None });
    }
    judge(&mut report, rows, &paced);
    Ok(report)
}

fn judge(report: &mut Report, rows: usize, paced: &str) {
    for kind in KINDS {
        let case = format!("{rows} {}", kind.table);
        let rate = report.median(&case, "firehose", "rows_per_s");
        let of_psql =
            report.median(&case, "psql", "rows_per_s").map_or(f64::MAX, |rate| rate * OVER_PSQL_MIN);
        let text =
            format!("{case}: rows per second, at least {} or {OVER_PSQL_MIN} of psql's", kind.rows_per_s_min);
        report.bar(text, Limit::AtLeast(kind.rows_per_s_min.min(of_psql)), rate);
        let peak = report.worst(&case, "firehose", "peak_rss_mb");
        report.bar(format!("{case}: resident memory of the shipper, MB"), Limit::AtMost(RSS_MB_MAX), peak);
    }
    let figure = |system| (paced, system, "listen_cpu_us");
    let ratio = report.ratio(figure("with a shipper"), figure("without a shipper"));
    let text = "listener: CPU per request with a shipper / without";
    report.bar(text, Limit::AtMost(LISTENER_RATIO_MAX), ratio);
    let fresh = report.worst(&format!("{PACE} clicks/s"), "firehose", "fresh_p95_s");
    report.bar("from the 202 until it is visible in the target, p95, s", Limit::AtMost(FRESH_S_MAX), fresh);
}

fn data(folder: &Folder) -> PathBuf {
    folder.path().join("data")
}

/// Starts a server on a new folder, posts the rows of one kind, and stops it.
fn fill(setup: &Setup, kind: Kind, folder: &Path, rows: usize) -> Result<()> {
    let data = folder.join("data");
    fs::create_dir_all(&data)?;
    let serve = Serve { shards: 1, ..Serve::new(setup) };
    let mut running = System::Firehose(serve).start_on(setup, &data)?;
    match kind.table {
        "clicks" => post_clicks(&running, rows)?,
        _ => post_events(&running, rows)?,
    }
    running.drain(LIMIT)?;
    process::poll("upkeep ends", LIMIT, || Ok((!running.is_upkeep_pending()?).then_some(())))?;
    running.stop()
}

/// Posts clicks over one connection. The server has one already, from the check that it answers.
fn post_clicks(running: &Running, rows: usize) -> Result<()> {
    let request = http::event_request(running.addr);
    let mut stream = http::connect(running.addr)?;
    let (mut left, mut kept, mut part) = (rows - 1, Vec::new(), vec![0; 64 * 1024]);
    while left > 0 {
        let count = left.min(PIPELINED);
        stream.write_all(&request.repeat(count))?;
        let mut answered = 0;
        while answered < count {
            let read = stream.read(&mut part)?;
            ensure!(read > 0, "the server has closed the connection");
            kept.extend_from_slice(&part[..read]);
            while let Some(length) = http::message_length(&kept) {
                ensure!(http::status(&kept) == 202, "{}", String::from_utf8_lossy(&kept[..length]));
                kept.drain(..length);
                answered += 1;
            }
        }
        left -= count;
    }
    Ok(())
}

fn post_events(running: &Running, rows: usize) -> Result<()> {
    for first in (0..rows).step_by(BULK) {
        let events: Vec<_> = (first..first + BULK).map(event).collect();
        let body = json!({"events": events}).to_string();
        let head = format!(
            "POST /events/bulk HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            running.addr,
            body.len()
        );
        let (status, _, said) = http::exchange(running.addr, (head + &body).as_bytes())?;
        ensure!((200..300).contains(&status), "{status}: {said}");
    }
    Ok(())
}

/// An event of about 200 bytes in the target. Ids are in no order, as those of clients are.
fn event(number: usize) -> serde_json::Value {
    let kind = ["view", "cart", "checkout"][number % 3];
    let mixed = (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    json!({
        "event_id": format!("{mixed:016x}-{number:08x}"), "tenant_id": format!("tenant_{}", mixed >> 61),
        "source": "web", "event_type": kind,
        "timestamp": format!("2026-03-{:02}T{:02}:{:02}:{:02}Z", 1 + number / 86_400 % 28, number / 3_600 % 24,
            number / 60 % 60, number % 60),
        "payload": {"page": format!("/products/{}", mixed % 10_000), "session": format!("{mixed:x}"),
            "ms": number % 2_000},
    })
}

/// Returns `firehose ship` on a folder.
fn shipper(setup: &Setup, database: &Database, data: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(setup.binary());
    command.arg("ship").arg("--data").arg(data).args(["--to", &database.url()]).args(words);
    // A firehose.toml in the driver's folder must not change the measurement.
    command.current_dir(data).env("FIREHOSE_LOG_FORMAT", "json");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Waits for a process that reads or sends rows. Returns its time, CPU and peak of memory.
fn watch(mut process: Process, rows: usize, database: &Database) -> Result<Figures> {
    let (pid, start, before) = (process.pid(), clock::now(), database.cpu_ns()?);
    let (mut cpu_ns, mut peak) = (0, 0);
    let status = process::poll("the rows arrive", LIMIT, || {
        // The last values before it ended count.
        cpu_ns = process::cpu_ns(pid).unwrap_or(cpu_ns);
        peak = cpu::peak_rss_bytes(pid).unwrap_or(peak);
        process.ended()
    })?;
    let seconds = start.elapsed().as_secs_f64();
    ensure!(status.success(), "it ended with {status}");
    let of_database = database.cpu_ns()?.saturating_sub(before);
    let per_row = |ns: u64| ns as f64 / 1e3 / rows as f64;
    Ok(Figures::from([
        ("rows_per_s", rows as f64 / seconds),
        ("cpu_us", per_row(cpu_ns)),
        ("database_cpu_us", per_row(of_database)),
        ("peak_rss_mb", peak as f64 / 1e6),
    ]))
}

/// Ships a folder into an empty schema.
fn ship_once(setup: &Setup, database: &Database, kind: Kind, data: &Path, rows: usize) -> Result<Figures> {
    database.ask("DROP SCHEMA IF EXISTS fh CASCADE")?;
    database.ask("CHECKPOINT")?;
    // The notes of an earlier pass.
    let _ = fs::remove_dir_all(data.join("ship"));
    let mut command = shipper(setup, database, data, &["--once"]);
    let process = Process::start("firehose ship", &mut command, &setup.server_cores)?;
    let figures = watch(process, rows, database)?;
    let found: usize = database.ask(&format!("SELECT count(*) FROM fh.{}", kind.table))?.parse()?;
    ensure!(found == rows, "{found} of {rows} rows arrived");
    Ok(figures)
}

/// Writes the table to a file, and makes an empty one like it, with its partitions.
fn prepare_copy(database: &Database, table: &str) -> Result<()> {
    let file = database.file(table);
    database.ask("CREATE SCHEMA IF NOT EXISTS copied")?;
    database.ask(&format!(
        "COPY (SELECT * FROM fh.{table} ORDER BY id) TO '{}' (FORMAT binary)",
        file.display()
    ))?;
    let by = if table == "clicks" { "PARTITION BY RANGE (received_at)" } else { "" };
    database.ask(&format!("CREATE TABLE copied.{table} (LIKE fh.{table} INCLUDING ALL) {by}"))?;
    database.ask(&format!(
        "DO $$ DECLARE part record; BEGIN
           FOR part IN SELECT c.relname, pg_get_expr(c.relpartbound, c.oid) AS bound FROM pg_inherits i
             JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'fh.{table}'::regclass LOOP
             EXECUTE format('CREATE TABLE copied.%I PARTITION OF copied.{table} %s', part.relname, part.bound);
           END LOOP; END $$"
    ))?;
    Ok(())
}

/// Lets psql send the file into the empty table.
fn copy(setup: &Setup, database: &Database, table: &str, rows: usize) -> Result<Figures> {
    database.ask(&format!("TRUNCATE copied.{table}"))?;
    database.ask("CHECKPOINT")?;
    let sql = format!("\\copy copied.{table} FROM '{}' WITH (FORMAT binary)", database.file(table).display());
    let process = Process::start("psql", &mut database.psql(&sql), &setup.server_cores)?;
    watch(process, rows, database)
}

/// Starts a server and, if wanted, a shipper of its rows. The shipper is on the cores of the load.
fn start(setup: &Setup, database: &Database, with_shipper: bool) -> Result<(Running, Option<Process>)> {
    database.ask("DROP SCHEMA IF EXISTS fh CASCADE")?;
    let running = System::Firehose(Serve { shards: 1, ..Serve::new(setup) }).start(setup)?;
    let mut command = shipper(setup, database, &running.folder.path().join("data"), &[]);
    let process = with_shipper.then(|| Process::start("firehose ship", &mut command, &setup.load_cores));
    let process = process.transpose()?;
    if with_shipper {
        process::poll("the first row arrives", LIMIT, || {
            Ok(database.ask("SELECT 1 FROM fh.clicks LIMIT 1").ok().filter(|found| !found.is_empty()))
        })?;
    }
    Ok((running, process))
}

fn listen(setup: &Setup, database: &Database, with_shipper: bool) -> Result<Round> {
    let load = setup.load("event.lua", CONNECTIONS);
    let (mut running, shipper) = start(setup, database, with_shipper)?;
    run::warm_up(&running, setup, &load)?;
    let system = System::Firehose(Serve { shards: 1, ..Serve::new(setup) });
    let round = run::measure(&running, &system, setup, &load)?;
    drop(shipper);
    running.stop()?;
    Ok(round)
}

/// Posts clicks at a steady pace, and asks the target when each became visible.
fn freshness(setup: &Setup, database: &Database) -> Result<Figures> {
    let (mut running, shipper) = start(setup, database, true)?;
    let request = http::event_request(running.addr);
    let mut stream = http::connect(running.addr)?;
    let count = PACE * setup.seconds.max(FRESH_SECONDS_MIN);
    let began = clock::now();
    for number in 0..count {
        let due = Duration::from_micros(number * 1_000_000 / PACE);
        process::pause(due.saturating_sub(began.elapsed()))?;
        let (status, _) = http::exchange_on(&mut stream, &request)?;
        ensure!(status == 202, "{status}");
    }
    // One more is there, from the check that the server answers.
    let all = (count + 1).to_string();
    process::poll("all clicks arrive", LIMIT, || {
        Ok((database.ask("SELECT count(*) FROM fh.clicks")? == all).then_some(()))
    })?;
    let sql = "SELECT percentile_disc(ARRAY[0.5, 0.95, 1]) WITHIN GROUP (ORDER BY \
        extract(epoch FROM pg_xact_commit_timestamp(xmin) - received_at)) FROM \
        (SELECT xmin, received_at FROM fh.clicks ORDER BY id OFFSET 1) AS clicks";
    let text = database.ask(sql)?;
    let parts: Vec<f64> = text
        .trim_matches(['{', '}'])
        .split(',')
        .map(str::parse)
        .collect::<Result<_, _>>()
        .context(text.clone())?;
    drop(shipper);
    running.stop()?;
    Ok(Figures::from([("fresh_p50_s", parts[0]), ("fresh_p95_s", parts[1]), ("fresh_max_s", parts[2])]))
}
