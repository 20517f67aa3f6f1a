//! `search`: 100,000 orders of one tenant over eight shards as one NDJSON stream, against the sqlite3 shell with a
//! query for the same lines over the attached shards.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use firehose::base::clock;

use super::ingest_orders::median;
use super::merge::Peak;
use crate::orders::{self, Loaded, TENANTS};
use crate::peer::{Running, Serve, System};
use crate::report::{Limit, Report};
use crate::run::{Figures, Round};
use crate::setup::Setup;
use crate::{http, process};

const SHARDS: usize = 8;
const ROWS: usize = 100_000;
/// Streams that a round reads one after the other, of which the median counts; and concurrently.
const STREAMS: usize = 5;
const AT_ONCE: usize = 4;
const ROWS_PER_S_MIN: f64 = 200_000.0;
const GROWTH_MB_MAX: f64 = 200.0;
/// The requested fields: all default fields, or three that the index contains.
const FIELDS: [(&str, &str); 2] = [("all fields", ""), ("three fields", "&fields=order_id,total,ordered_at")];

pub(crate) fn run(setup: &Setup) -> Result<Report> {
    let mut report = Report::new("search");
    let all = setup.orders.unwrap_or(TENANTS * ROWS);
    let rows = (all / TENANTS).min(ROWS);
    let world = orders::world(orders::MEDIUM, all)?;
    let loaded = Loaded::new(&setup.data_root, SHARDS, &world, |_| Ok(()))?;
    eprintln!("{all} orders loaded into {SHARDS} shards in {:.1} s", loaded.seconds);
    let case = |fields: &str| format!("{rows} orders, {SHARDS} shards, {fields}");
    for round in 0..setup.rounds {
        for (name, fields) in FIELDS {
            let (firehose, lines) = one(setup, &loaded, fields, rows)?;
            report.record(&case(name), "firehose", round, firehose);
            report.record(&case(name), "sqlite3", round, sqlite3(setup, &loaded, fields, rows, &lines)?);
        }
    }
    for (name, _) in FIELDS {
        let case = case(name);
        let rate = report.median(&case, "firehose", "rows_per_s");
        report.bar(format!("{case}: rows per second"), Limit::AtLeast(ROWS_PER_S_MIN), rate);
        let growth = report.worst(&case, "firehose", "growth_mb");
        let text = format!("{case}: memory added by {AT_ONCE} streams at once, MB");
        report.bar(text, Limit::AtMost(GROWTH_MB_MAX), growth);
        let ratio = report.ratio((&case, "firehose", "rows_per_s"), (&case, "sqlite3", "rows_per_s"));
        report.bar(format!("{case}: rows per second, firehose / sqlite3"), Limit::AtLeast(1.0), ratio);
    }
    Ok(report)
}

/// Returns the figures of a new server, and the lines of its response.
fn one(setup: &Setup, loaded: &Loaded, fields: &str, rows: usize) -> Result<(Round, Vec<u8>)> {
    let serve = Serve { shards: loaded.shards, ..Serve::new(setup) };
    let mut running = System::Firehose(serve).start_on(setup, &loaded.data())?;
    let target = format!("/api/v1/tenants/tenant_1/orders/search?limit={ROWS}{fields}");
    let mut figures = Figures::new();
    // First, on a server that has not answered anything: the memory that it keeps afterwards counts.
    let peak = Peak::watch(running.process.pid())?;
    let start = clock::now();
    at_once(setup, &running, &target, rows)?;
    figures.insert("at_once_rows_per_s", (AT_ONCE * rows) as f64 / start.elapsed().as_secs_f64());
    figures.insert("growth_mb", peak.stop()? as f64 / 1e6);
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        streams.push(stream(running.addr, &target, rows)?);
    }
    figures.insert("rows_per_s", rows as f64 / median(streams.iter().map(|one| one.seconds).collect()));
    figures.insert("first_byte_ms", median(streams.iter().map(|one| one.first_ms).collect()));
    let lines = streams.pop().context("no stream")?.lines;
    figures.insert("answer_mib", lines.len() as f64 / f64::from(1 << 20));
    running.stop()?;
    Ok((Round { figures, fault: None }, lines))
}

fn at_once(setup: &Setup, running: &Running, target: &str, rows: usize) -> Result<()> {
    process::clients(&setup.load_cores, AT_ONCE, |_| stream(running.addr, target, rows))?;
    Ok(())
}

pub(super) struct Streamed {
    seconds: f64,
    first_ms: f64,
    /// The rows, without the last line.
    lines: Vec<u8>,
}

/// Runs one search on a new connection and reads it to its end. The time excludes the decoding of the chunks.
pub(super) fn stream(addr: SocketAddr, target: &str, rows: usize) -> Result<Streamed> {
    let mut stream = TcpStream::connect(addr)?;
    stream.set_read_timeout(Some(Duration::from_secs(120)))?;
    let request = format!(
        "GET {target} HTTP/1.1\r\nHost: localhost\r\nAccept: application/x-ndjson\r\nConnection: close\r\n\r\n"
    );
    let start = clock::now();
    stream.write_all(request.as_bytes())?;
    let (mut answer, mut piece, mut first_ms) = (Vec::new(), vec![0; 256 * 1024], 0.0);
    loop {
        let read = stream.read(&mut piece)?;
        if read == 0 {
            break;
        }
        if answer.is_empty() {
            first_ms = start.elapsed().as_secs_f64() * 1e3;
        }
        answer.extend_from_slice(&piece[..read]);
    }
    let seconds = start.elapsed().as_secs_f64();
    let head = memchr::memmem::find(&answer, b"\r\n\r\n").context("no head")? + 4;
    let told = String::from_utf8_lossy(&answer[..answer.len().min(head + 1_000)]);
    ensure!(http::status(&answer) == 200, "a search was answered {told}");
    let mut lines = unchunked(&answer[head..])?;
    let end = memchr::memrchr(b'\n', lines.strip_suffix(b"\n").unwrap_or(&lines)).map_or(0, |at| at + 1);
    let last: serde_json::Value = serde_json::from_slice(&lines[end..]).context("the last line")?;
    ensure!(last["_end"] == true && last["rows"] == rows, "a search ended with {last}");
    lines.truncate(end);
    ensure!(memchr::memchr_iter(b'\n', &lines).count() == rows, "the rows are not {rows} lines");
    Ok(Streamed { seconds, first_ms, lines })
}

/// Returns the bytes of a chunked body.
fn unchunked(mut body: &[u8]) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(body.len());
    loop {
        let line = memchr::memmem::find(body, b"\r\n").context("a chunk without its length")?;
        let length = usize::from_str_radix(std::str::from_utf8(&body[..line])?.trim(), 16)?;
        let rest = &body[line + 2..];
        ensure!(rest.len() >= length + 2, "the answer was cut off");
        if length == 0 {
            return Ok(bytes);
        }
        bytes.extend_from_slice(&rest[..length]);
        body = &rest[length + 2..];
    }
}

/// Reads the same lines, byte for byte, by one query of the shell over the attached shards.
fn sqlite3(setup: &Setup, loaded: &Loaded, fields: &str, rows: usize, expected: &[u8]) -> Result<Round> {
    let sql = sql(loaded, fields.is_empty(), rows)?;
    let mut seconds = Vec::new();
    // The first run fills the page cache.
    for _ in 0..2 {
        let mut command = Command::new("sqlite3");
        command.arg("-readonly").arg(loaded.database(0)).stdin(Stdio::piped()).stdout(Stdio::piped());
        process::pin_here(&setup.server_cores)?;
        let start = clock::now();
        let mut child = command.spawn().context("sqlite3 is not installed: apt-get install sqlite3")?;
        child.stdin.take().context("no standard input")?.write_all(sql.as_bytes())?;
        let output = child.wait_with_output()?;
        seconds.push(start.elapsed().as_secs_f64());
        process::pin_here(&setup.load_cores)?;
        ensure!(output.status.success(), "sqlite3 failed: {}", output.status);
        let differing = output.stdout.split(|byte| *byte == b'\n').zip(expected.split(|byte| *byte == b'\n'));
        if let Some((theirs, ours)) = differing.clone().find(|(theirs, ours)| theirs != ours) {
            let [theirs, ours] = [theirs, ours].map(String::from_utf8_lossy);
            anyhow::bail!("sqlite3 has {theirs}\nwhere firehose has {ours}");
        }
        ensure!(output.stdout.len() == expected.len(), "sqlite3 gave another number of rows");
    }
    let mut figures = Figures::new();
    figures.insert("rows_per_s", rows as f64 / seconds[1]);
    Ok(Round { figures, fault: None })
}

/// Returns the query: the newest rows of all shards by the index, then each as JSON with its related rows of its own
/// shard.
fn sql(loaded: &Loaded, all_fields: bool, rows: usize) -> Result<String> {
    let schema = |shard: usize| if shard == 0 { "main".to_owned() } else { format!("s{shard}") };
    let mut sql = String::from(".mode list\n");
    for shard in 1..loaded.shards {
        writeln!(sql, "ATTACH '{}' AS {};", loaded.database(shard).display(), schema(shard))?;
    }
    let money = |minor: &str| format!("printf('%d.%02d', {minor} / 100, {minor} % 100)");
    let time =
        "rtrim(rtrim(strftime('%Y-%m-%dT%H:%M:%f', o.ordered_at_us / 1e6, 'unixepoch'), '0'), '.') || 'Z'";
    let total = money("o.total");
    // Every shard has its own numbers for names.
    let by_shard = |of: &dyn Fn(&str) -> String| {
        let cases: Vec<String> =
            (0..loaded.shards).map(|shard| format!("WHEN {shard} THEN ({})", of(&schema(shard)))).collect();
        format!("CASE o.shard {} END", cases.join(" "))
    };
    let customer = |column: &str| {
        by_shard(&|schema| format!("SELECT {column} FROM {schema}.customer_row WHERE id = o.customer"))
    };
    let line = if all_fields {
        let price = money("i.unit_price");
        let items = by_shard(&|schema| {
            format!(
                "SELECT json_group_array(json_object('product_id', p.product_id, 'category', g.name, 'quantity', \
                 i.quantity, 'unit_price', {price})) FROM {schema}.sales_item i \
                 CROSS JOIN {schema}.product_row p ON p.id = i.product \
                 CROSS JOIN {schema}.category_row g ON g.id = p.category \
                 WHERE i.id >= o.id * 1024 AND i.id < o.id * 1024 + 1024"
            )
        });
        let status = "CASE o.status WHEN 1 THEN 'pending' WHEN 2 THEN 'paid' WHEN 3 THEN 'shipped' \
                      WHEN 4 THEN 'delivered' WHEN 5 THEN 'cancelled' WHEN 6 THEN 'refunded' END";
        format!(
            "json_object('order_id', o.order_id, 'tenant_id', 'tenant_1', 'customer_id', {}, 'customer_name', {}, \
             'customer_email', {}, 'status', {status}, 'currency', o.currency, 'ordered_at', {time}, \
             'total', {total}, 'units', o.units, 'items', json({items}))",
            customer("customer_id"),
            customer("name"),
            customer("email")
        )
    } else {
        format!("json_object('order_id', o.order_id, 'ordered_at', {time}, 'total', {total})")
    };
    write!(sql, "SELECT {line} FROM (")?;
    for shard in 0..loaded.shards {
        let (schema, union) = (schema(shard), if shard == 0 { "" } else { " UNION ALL " });
        write!(
            sql,
            "{union}SELECT {shard} AS shard, id, order_id, customer, status, currency, ordered_at_us, total, units \
             FROM {schema}.sales_order \
             WHERE tenant = (SELECT id FROM {schema}.tenant_row WHERE tenant_id = 'tenant_1')"
        )?;
    }
    writeln!(sql, " ORDER BY ordered_at_us DESC, order_id DESC LIMIT {rows}) o;")?;
    Ok(sql)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_joined_and_a_cut_body_is_told() -> Result<()> {
        assert_eq!(unchunked(b"5\r\nab\ncd\r\n3\r\ne\r\n\r\n0\r\n\r\n")?, b"ab\ncde\r\n");
        assert!(unchunked(b"5\r\nab\nc").is_err() && unchunked(b"5\r\nab\ncd\r\n").is_err());
        Ok(())
    }
}
