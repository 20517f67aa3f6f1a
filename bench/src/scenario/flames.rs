//! `flames`: flame graphs of one build on the paths where people wait: commits, exact and approximate sales, orders,
//! exports. The server draws them itself, from all of its threads, while the load runs on the other core.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{commits, export, ingest_orders, sales};
use crate::closed::{self, Requests};
use crate::http;
use crate::orders::{self, Lines};
use crate::peer::{Running, Serve, System};
use crate::process::{self, Process, clients};
use crate::setup::{Folder, Setup, free_address};

/// Orders of three items each in the folders that are read.
const ORDERS: usize = 1_000_000;
/// Orders that are sent in a second of samples, at most.
const ORDERS_PER_S_MAX: usize = 150_000;
const CHUNK: usize = 50_000;
const CONNECTIONS: usize = 256;
/// Samples per second of CPU time.
const HZ: u32 = 999;
/// Load before the samples begin.
const WARM_UP: Duration = Duration::from_secs(1);

/// The settings of `flames`.
#[derive(clap::Args)]
pub(crate) struct Flames {
    #[command(flatten)]
    pub(crate) setup: Setup,
    /// Folder of the graphs.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../flamegraphs/after"))]
    to: PathBuf,
}

/// Writes `<to>/<path>.svg` for each path.
pub(crate) fn run(flames: &Flames) -> Result<bool> {
    let (setup, to) = (&flames.setup, flames.to.as_path());
    fs::create_dir_all(to).with_context(|| format!("cannot make {}", to.display()))?;
    let seconds = setup.seconds;
    let draw = |name: &str,
                running: &Running,
                ops: SocketAddr,
                load: &(dyn Fn(&AtomicBool) -> Result<()> + Sync)| {
        draw(setup, running, ops, seconds, load, &to.join(format!("{name}.svg")))
    };

    let (mut running, ops) = start(setup, 1, None)?;
    draw("commits", &running, ops, &|_| {
        let mut requests = Requests::new(&commits::event, 201);
        let time = WARM_UP + Duration::from_secs(seconds + 1);
        closed::load(running.addr, CONNECTIONS, time, &mut requests).map(|_| ())
    })?;
    running.stop()?;

    let lines =
        Lines::new(&orders::world(orders::MEDIUM, (seconds as usize + 2) * ORDERS_PER_S_MAX)?, CHUNK)?;
    let (mut running, ops) = start(setup, 1, None)?;
    draw("orders", &running, ops, &|is_over| {
        let mut stream = ingest_orders::connect(&running)?;
        for number in 0..lines.chunks() {
            if is_over.load(Ordering::Relaxed) {
                return Ok(());
            }
            ingest_orders::send_chunk(&mut stream, &running, &lines, number)?;
        }
        anyhow::bail!("all orders were sent before the end")
    })?;
    running.stop()?;
    drop(lines);

    for (shards, paths) in [(1, &["sales-exact"][..]), (8, &["sales-approx", "export"][..])] {
        let folder = loaded(setup, shards)?;
        let (mut running, ops) = start(setup, shards, Some(&folder.path().join("data")))?;
        for path in paths {
            draw(path, &running, ops, &|is_over| read(&running, path, is_over))?;
        }
        running.stop()?;
    }
    Ok(true)
}

/// Starts the server, with its operators' port.
fn start(setup: &Setup, shards: usize, data: Option<&Path>) -> Result<(Running, SocketAddr)> {
    let ops = free_address()?;
    let serve = Serve { shards, ops: Some(ops), ..Serve::new(setup) };
    let system = System::Firehose(serve);
    let running = match data {
        Some(data) => system.start_on(setup, data)?,
        None => system.start(setup)?,
    };
    Ok((running, ops))
}

/// Loads one tenant's orders with the measured build itself, because another build may have another schema.
fn loaded(setup: &Setup, shards: usize) -> Result<Folder> {
    let folder = Folder::new(&setup.data_root)?;
    let mut command = Command::new(setup.binary());
    command.arg("gen-dataset").args(orders::ONE_TENANT.split_whitespace());
    command.args(["--price-samples", "0", "--stock-events", "0", "--orders"]);
    command.arg(setup.orders.unwrap_or(ORDERS).to_string());
    command.arg("--load").arg(folder.path().join("data")).args(["--shards", &shards.to_string()]);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let status =
        Process::start("gen-dataset", &mut command, &setup.server_cores)?.wait(Duration::from_secs(600))?;
    ensure!(status.success(), "gen-dataset ended with {status}");
    Ok(folder)
}

/// Asks, with a new end date each time so that nothing kept answers, until the samples are taken.
fn read(running: &Running, path: &str, is_over: &AtomicBool) -> Result<()> {
    let sales_of = |group: &str, precision: &str| {
        format!("/api/v1/tenants/tenant_1/metrics/sales?group_by={group}&precision={precision}")
    };
    for round in 0.. {
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        let end = format!("&end_date={}-03-{:02}", 2027 + round / 28, round % 28 + 1);
        match path {
            "sales-exact" => {
                for group in ["day", "category", "product"] {
                    sales::ask(running.addr, &(sales_of(group, "exact") + &end))?;
                }
            }
            "sales-approx" => drop(sales::ask(running.addr, &(sales_of("day", "approx") + &end))?),
            _ => {
                for (format, compression) in [("csv", "none"), ("parquet", "zstd")] {
                    export::export(running, format, compression)?;
                }
            }
        }
    }
    Ok(())
}

/// Runs the load on its cores, and lets the server sample itself meanwhile.
fn draw(
    setup: &Setup,
    running: &Running,
    ops: SocketAddr,
    seconds: u64,
    load: &(dyn Fn(&AtomicBool) -> Result<()> + Sync),
    to: &Path,
) -> Result<()> {
    let is_over = AtomicBool::new(false);
    // The first client samples, the second is the load.
    let drawn = clients(&setup.load_cores, 2, |number| {
        if number == 1 {
            return load(&is_over).map(|()| None);
        }
        let sampled = process::pause(WARM_UP).and_then(|()| sample(ops, seconds));
        is_over.store(true, Ordering::Relaxed);
        sampled.map(Some)
    });
    let drawn = drawn.map_err(|error| running.with_log(error))?;
    let graph = drawn.into_iter().flatten().next().context("no graph")?;
    let graph = String::from_utf8(graph).context("the graph is not UTF-8")?;
    fs::write(to, without_small(&graph)).with_context(|| format!("cannot write {}", to.display()))?;
    println!("written: {}", to.display());
    Ok(())
}

fn sample(ops: SocketAddr, seconds: u64) -> Result<Vec<u8>> {
    let target = format!("/debug/flamegraph?seconds={seconds}&hz={HZ}");
    let mut stream = http::connect(ops)?;
    stream.set_read_timeout(Some(Duration::from_secs(seconds + 30)))?;
    let request = format!("GET {target} HTTP/1.1\r\nHost: {ops}\r\nConnection: close\r\n\r\n");
    let (status, answer) = http::exchange_on(&mut stream, request.as_bytes())?;
    ensure!(status == 200, "{target} was answered {status}");
    let head = memchr::memmem::find(&answer, b"\r\n\r\n").context("no head")? + 4;
    Ok(answer[head..].to_vec())
}

/// Frames with less than this part of the samples are left out. At the usual width, they are narrower than three pixels,
/// and they are most of a graph's bytes.
const SMALLEST: u64 = 500;

/// Removes the small frames of a graph.
fn without_small(graph: &str) -> String {
    let (open, close) = ("<g><title>", "</g>");
    let number = |text: &str| text.replace(',', "").parse::<u64>().ok();
    let total = graph.split_once("total_samples=\"").and_then(|(_, rest)| number(rest.split('"').next()?));
    let Some(total) = total else { return graph.to_owned() };
    let samples = |frame: &str| {
        let title = frame.split_once("</title>")?.0;
        number(title.rsplit_once(" samples, ")?.0.rsplit_once('(')?.1)
    };
    let mut kept = String::with_capacity(graph.len());
    let mut rest = graph;
    while let Some((before, frames)) = rest.split_once(open) {
        let Some((frame, after)) = frames.split_once(close) else { break };
        kept.push_str(before);
        if samples(frame).is_none_or(|samples| samples * SMALLEST >= total) {
            kept.extend([open, frame, close]);
        }
        rest = after;
    }
    kept + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_frames_are_left_out() {
        let frame = |name: &str, samples: &str| {
            format!("<g><title>{name} ({samples} samples, 1%)</title><rect/><text></text></g>")
        };
        let graph = |frames: &[String]| format!("<svg total_samples=\"10000\">{}</svg>", frames.concat());
        let [all, large, small] = [frame("all", "10,000"), frame("f(x)", "20"), frame("g", "19")];
        let whole = graph(&[all.clone(), small, large.clone()]);
        assert_eq!(without_small(&whole), graph(&[all, large]));
        assert_eq!(without_small("<svg></svg>"), "<svg></svg>");
    }
}
