//! `export`: 10 M order items as a file, CSV and Parquet, against DuckDB's COPY of its own table and the sqlite3 shell
//! on the same shards: rows per second, CPU per row, memory. With gzip, CSV and NDJSON against the shell and `gzip -1`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use firehose::base::clock;
use rusqlite::Connection;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::cpu::{self, CpuTimes};
use crate::orders::{self, Loaded};
use crate::peer::{self, Running, Serve, System};
use crate::process::Process;
use crate::report::{Limit, Report};
use crate::run::{Figures, Round};
use crate::setup::Setup;
use crate::{http, process};

/// With three items each, 10 M items.
const ORDERS: usize = 3_333_333;
const SHARDS: usize = 8;
/// Time before a new server counts as idle.
const IDLE: Duration = Duration::from_secs(1);
const CSV_ROWS_PER_CPU_S_MIN: f64 = 400_000.0;
const PARQUET_ROWS_PER_CPU_S_MIN: f64 = 300_000.0;
const RSS_OVER_IDLE_MB_MAX: f64 = 64.0 * 1.048_576;

const CASES: [(&str, &str, &str); 2] = [("csv", "none", "CSV"), ("parquet", "zstd", "Parquet, zstd")];
/// The others, which the sqlite3 shell and `gzip -1` are compared with.
const GZIP_CASES: [(&str, &str, &str); 3] =
    [("csv", "gzip", "CSV, gzip"), ("ndjson", "none", "NDJSON"), ("ndjson", "gzip", "NDJSON, gzip")];
/// The bars of [`CASES`].
const OVER_DUCKDB_MIN: [f64; 2] = [1.0, 0.85];
const OVER_SQLITE3_GZIP_MIN: f64 = 1.0;

#[derive(Deserialize)]
struct Told {
    rows: u64,
    peak_rss_mb: f64,
    #[serde(flatten)]
    formats: BTreeMap<String, ToldFormat>,
}

#[derive(Deserialize)]
struct ToldFormat {
    seconds: f64,
    cpu_seconds: f64,
    bytes: u64,
}

pub(crate) fn run(setup: &Setup) -> Result<Report> {
    peer::install("duckdb")?;
    let mut report = Report::new("export");
    let world = orders::world(orders::ONE_TENANT, setup.orders.unwrap_or(ORDERS))?;
    let loaded = Loaded::new(&setup.data_root, SHARDS, &world, |_| Ok(()))?;
    eprintln!("[export] loaded in {:.1} s", loaded.seconds);
    for round in 0..setup.rounds {
        let mut rows = 0;
        for (format, compression, case) in CASES {
            let (figures, file) = ours(setup, &loaded, format, compression)?;
            rows = figures["rows"] as u64;
            report.record(case, "firehose", round, Round { figures, fault: None });
            std::fs::rename(file, loaded.path().join(format!("ours.{format}")))?;
        }
        for (format, figures) in duckdb(setup, loaded.path(), rows)? {
            let case = CASES.iter().find(|(known, ..)| *known == format).context("a case")?.2;
            report.record(case, "duckdb", round, Round { figures, fault: None });
        }
        let figures = sqlite3(setup, &loaded, rows, false)?;
        report.record("CSV", "sqlite3", round, Round { figures, fault: None });
        for (format, compression, case) in GZIP_CASES {
            let (figures, file) = ours(setup, &loaded, format, compression)?;
            report.record(case, "firehose", round, Round { figures, fault: None });
            std::fs::remove_file(file)?;
        }
        let figures = sqlite3(setup, &loaded, rows, true)?;
        report.record("CSV, gzip", "sqlite3, gzip -1", round, Round { figures, fault: None });
    }
    for ((_, _, case), least) in CASES.iter().zip([CSV_ROWS_PER_CPU_S_MIN, PARQUET_ROWS_PER_CPU_S_MIN]) {
        let rate = report.median(case, "firehose", "rows_per_cpu_s");
        report.bar(format!("{case}: rows a second of one core"), Limit::AtLeast(least), rate);
        let peak = report.worst(case, "firehose", "rss_over_idle_mb");
        report.bar(
            format!("{case}: resident memory over that of an idle server, MB"),
            Limit::AtMost(RSS_OVER_IDLE_MB_MAX),
            peak,
        );
    }
    for ((_, _, case), least) in CASES.iter().zip(OVER_DUCKDB_MIN) {
        let figure = |system| (*case, system, "rows_per_cpu_s");
        let rate = report.ratio(figure("firehose"), figure("duckdb"));
        report.bar(format!("{case}: rows a second of CPU / DuckDB"), Limit::AtLeast(least), rate);
    }
    for (_, _, case) in GZIP_CASES {
        let shell = ("CSV, gzip", "sqlite3, gzip -1", "rows_per_s");
        let rate = report.ratio((case, "firehose", "rows_per_s"), shell);
        let text = format!("{case}: rows a second / `sqlite3 -csv | gzip -1`");
        report.bar(text, Limit::AtLeast(OVER_SQLITE3_GZIP_MIN), rate);
    }
    Ok(report)
}

fn ask(running: &Running, method: &str, path: &str, body: &str) -> Result<Value> {
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Length: {length}\r\n\r\n{body}",
        running.addr
    );
    let (status, _, said) = http::exchange(running.addr, request.as_bytes())?;
    ensure!(status < 300, "{method} {path}: {status} {said}");
    Ok(serde_json::from_str(&said)?)
}

/// Runs one export of a tenant's items until it is done. Returns its resource.
pub(super) fn export(running: &Running, format: &str, compression: &str) -> Result<Value> {
    let wish = json!({"format": format, "rows": "items", "compression": compression}).to_string();
    let export = ask(running, "POST", "/api/v1/tenants/tenant_1/reports/export", &wish)?;
    let url = export["url"].as_str().context("a path")?;
    loop {
        let said = ask(running, "GET", url, "")?;
        match said["state"].as_str() {
            Some("done") => return Ok(said),
            Some("queued" | "running") => process::pause(Duration::from_millis(50))?,
            _ => anyhow::bail!("the export failed: {said}"),
        }
    }
}

/// Starts a new server and runs one export until it is done. A link keeps the file after the export is deleted.
fn ours(
    setup: &Setup,
    loaded: &Loaded,
    format: &str,
    compression: &str,
) -> Result<(Figures, std::path::PathBuf)> {
    let serve = Serve { shards: SHARDS, ..Serve::new(setup) };
    let mut running = System::Firehose(serve).start_on(setup, &loaded.data())?;
    for shard in 0..SHARDS {
        std::io::copy(&mut File::open(loaded.database(shard))?, &mut std::io::sink())?;
    }
    process::pause(IDLE)?;
    let pid = running.process.pid();
    let (idle, cpu_before) = (cpu::rss_bytes(pid)?, CpuTimes::of(pid)?);
    let start = clock::now();
    let done = export(&running, format, compression)?;
    let seconds = start.elapsed().as_secs_f64();
    let cpu_s = CpuTimes::of(pid)?.total_since(&cpu_before) as f64 / 1e9;
    let peak = cpu::peak_rss_bytes(pid)?;
    let number = |name: &str| done[name].as_u64().map(|number| number as f64).context("a number");
    let (rows, bytes) = (number("rows")?, number("bytes")?);
    let id = done["id"].as_str().context("an id")?;
    let file = loaded.data().join("exports").join(id).join("file");
    // A separate link: the export is deleted, but its rows are needed again.
    let kept = loaded.path().join(format!("kept.{format}"));
    let _ = std::fs::remove_file(&kept);
    std::fs::hard_link(file, &kept)?;
    running.stop()?;
    std::fs::remove_dir_all(loaded.data().join("exports"))?;
    let figures = Figures::from([
        ("rows", rows),
        ("file_mb", bytes / 1e6),
        ("rows_per_s", rows / seconds),
        ("rows_per_cpu_s", rows / cpu_s),
        ("idle_rss_mb", idle as f64 / 1e6),
        ("rss_over_idle_mb", peak.saturating_sub(idle) as f64 / 1e6),
    ]);
    Ok((figures, kept))
}

/// Exports both formats from a table made of our Parquet file.
fn duckdb(setup: &Setup, folder: &Path, rows: u64) -> Result<Vec<(String, Figures)>> {
    let out = folder.join("duckdb.json");
    let mut command = peer::program("duckdb", "export.py");
    command.arg(folder.join("ours.parquet")).arg(folder.join("items.duckdb")).arg(folder).arg(&out);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let mut process = Process::start("duckdb", &mut command, &setup.server_cores)?;
    let status = process.wait(Duration::from_secs(1_800))?;
    ensure!(status.success(), "duckdb ended with {status}");
    let told: Told = serde_json::from_slice(&std::fs::read(&out)?)?;
    ensure!(told.rows == rows, "DuckDB read {} rows of {rows}", told.rows);
    let figures = |format: &ToldFormat| {
        Figures::from([
            ("rows", rows as f64),
            ("file_mb", format.bytes as f64 / 1e6),
            ("rows_per_s", rows as f64 / format.seconds),
            ("rows_per_cpu_s", rows as f64 / format.cpu_seconds),
            ("process_peak_rss_mb", told.peak_rss_mb),
        ])
    };
    Ok(told.formats.iter().map(|(name, format)| (name.clone(), figures(format))).collect())
}

/// Runs the shell, shard by shard and partition by partition, with the same columns, and gzip behind it if asked. The
/// time of the whole processes counts.
fn sqlite3(setup: &Setup, loaded: &Loaded, rows: u64, with_gzip: bool) -> Result<Figures> {
    let path = loaded.path().join("sqlite3.csv");
    let output = File::create(&path)?;
    process::pin_here(&setup.server_cores)?;
    let start = clock::now();
    for shard in 0..SHARDS {
        let mut command = Command::new("sqlite3");
        command.args(["-readonly", "-csv"]).arg(loaded.database(shard)).stdin(Stdio::piped());
        let output = || output.try_clone().map(Stdio::from);
        let stdout = if with_gzip { Stdio::piped() } else { output()? };
        let mut child =
            command.stdout(stdout).spawn().context("sqlite3 is not installed: apt-get install sqlite3")?;
        let gzip = child
            .stdout
            .take()
            .map(|text| anyhow::Ok(Command::new("gzip").arg("-1").stdin(text).stdout(output()?).spawn()?))
            .transpose()?;
        child
            .stdin
            .take()
            .context("no standard input")?
            .write_all(sql(&loaded.database(shard))?.as_bytes())?;
        for mut process in [Some(child), gzip].into_iter().flatten() {
            let status = process.wait()?;
            ensure!(status.success(), "sqlite3 failed: {status}");
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    process::pin_here(&setup.load_cores)?;
    let bytes = std::fs::metadata(&path)?.len();
    let mut command = Command::new(if with_gzip { "zcat" } else { "cat" });
    let text = command.stdin(File::open(&path)?).stderr(Stdio::inherit()).output()?.stdout;
    let lines = memchr::memchr_iter(b'\n', &text).count() as u64;
    ensure!(lines == rows, "sqlite3 wrote {lines} rows of {rows}");
    Ok(Figures::from([
        ("rows", rows as f64),
        ("file_mb", bytes as f64 / 1e6),
        ("rows_per_s", rows as f64 / seconds),
    ]))
}

fn sql(database: &Path) -> Result<String> {
    let reader = Connection::open(database)?;
    let mut statement =
        reader.prepare("SELECT name FROM partition WHERE stream = 'sales_order' ORDER BY first_id")?;
    let partitions = statement.query_map([], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()?;
    let part = |partition: &String| {
        let items = partition.replacen("sales_order", "sales_item", 1);
        format!(
            "SELECT o.order_id, 'tenant_1', c.customer_id, c.name, c.email, o.status, o.currency, \
             strftime('%Y-%m-%dT%H:%M:%fZ', o.ordered_at_us / 1e6, 'unixepoch'), printf('%.2f', o.total / 100.0), \
             o.units, o.items, i.id % 1024 + 1, p.product_id, g.name, i.quantity, \
             printf('%.2f', i.unit_price / 100.0), printf('%.2f', i.quantity * i.unit_price / 100.0) \
             FROM {items} i CROSS JOIN {partition} o ON o.id = i.id / 1024 CROSS JOIN customer_row c ON c.id = o.customer \
             CROSS JOIN product_row p ON p.id = i.product CROSS JOIN category_row g ON g.id = p.category ORDER BY i.id;\n"
        )
    };
    Ok(partitions.iter().map(part).collect())
}
