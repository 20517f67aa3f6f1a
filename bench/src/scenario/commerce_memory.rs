//! `commerce-memory`: the server's memory under four concurrent clients, for each kind of work separately and for all
//! kinds together: searches of 100,000 rows, ingests of orders, sales by day and by category.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use firehose::base::clock;

use super::{ingest_orders, sales, search};
use crate::cpu;
use crate::orders::{self, Lines, Loaded, TENANTS};
use crate::peer::{Running, Serve, System};
use crate::process;
use crate::report::{Limit, Report};
use crate::run::{Figures, Round};
use crate::setup::{Folder, Setup};

const SHARDS: usize = 8;
/// Rows of the tenant that is queried.
const ROWS: usize = 100_000;
const AT_ONCE: usize = 4;
/// Orders to ingest, sent in requests of `CHUNK` orders.
const INGESTED: usize = 300_000;
const CHUNK: usize = 25_000;
const GROWTH_MB_MAX: f64 = 200.0;
/// Time between two samples of the memory, each of which takes 30 us of the load's core.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Time before a new server counts as idle.
const IDLE: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Work {
    Search,
    Ingest,
    SalesByDay,
    SalesByCategory,
}

impl Work {
    const ALL: [Work; 4] = [Work::Search, Work::Ingest, Work::SalesByDay, Work::SalesByCategory];

    fn name(self) -> &'static str {
        match self {
            Work::Search => "searches, all fields",
            Work::Ingest => "ingests",
            Work::SalesByDay => "sales by day, exact",
            Work::SalesByCategory => "sales by category, approximate",
        }
    }
}

/// The input of every round.
struct Given {
    loaded: Loaded,
    lines: Lines,
    rows: usize,
}

pub(crate) fn run(setup: &Setup) -> Result<Report> {
    let mut report = Report::new("commerce-memory");
    let all = setup.orders.unwrap_or(TENANTS * ROWS);
    let world = orders::world(orders::MEDIUM, all)?;
    let loaded = Loaded::new(&setup.data_root, SHARDS, &world, |_| Ok(()))?;
    eprintln!("{all} orders loaded into {SHARDS} shards in {:.1} s", loaded.seconds);
    // The same orders, sent to tenants that have none yet, so that all of them are new.
    let world = orders::world(orders::MEDIUM, all.min(INGESTED))?;
    let mut lines = Lines::new(&world, CHUNK)?;
    lines.replace(b"\"tenant_id\":\"tenant_", b"\"tenant_id\":\"ingest_");
    let given = Given { loaded, lines, rows: (all / TENANTS).min(ROWS) };
    let kinds = Work::ALL.map(|work| (format!("{AT_ONCE} {}", work.name()), vec![work]));
    let together = (format!("{AT_ONCE} of each at once"), Work::ALL.to_vec());
    let cases: Vec<_> = kinds.into_iter().chain([together]).collect();
    for round in 0..setup.rounds {
        for (case, works) in &cases {
            report.record(case, "firehose", round, one(setup, &given, works)?);
        }
    }
    for (case, _) in &cases {
        let growth = report.worst(case, "firehose", "rss_over_idle_mb");
        report.bar(format!("{case}: resident memory over idle, MB"), Limit::AtMost(GROWTH_MB_MAX), growth);
    }
    Ok(report)
}

/// Starts a new server on a copy of the folder. Every client works until the time is over, and at least once.
fn one(setup: &Setup, given: &Given, works: &[Work]) -> Result<Round> {
    let folder = Folder::new(&setup.data_root)?;
    let data = folder.path().join("data");
    copy(&given.loaded.data(), &data)?;
    let serve = Serve { shards: SHARDS, ..Serve::new(setup) };
    let mut running = System::Firehose(serve).start_on(setup, &data)?;
    running.drain(Duration::from_secs(30))?;
    process::pause(IDLE)?;
    let pid = running.process.pid();
    let (idle_rss, idle_anon) = (cpu::rss_bytes(pid)?, cpu::anon_bytes(pid)?);
    let watch = Watch::start(pid)?;
    let (done, chunk) = ([const { AtomicUsize::new(0) }; Work::ALL.len()], AtomicUsize::new(0));
    let start = clock::now();
    let end = start + Duration::from_secs(setup.seconds);
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for work in works {
            for client in 0..AT_ONCE {
                let (running, done, chunk) = (&running, &done[*work as usize], &chunk);
                threads.push(scope.spawn(move || -> Result<()> {
                    process::pin_here(&setup.load_cores)?;
                    for turn in 0.. {
                        if turn > 0 && clock::now() >= end {
                            break;
                        }
                        ensure!(!process::interrupted(), "interrupted");
                        let count = turn_of(*work, running, given, chunk, client + turn * AT_ONCE)?;
                        done.fetch_add(count, Ordering::Relaxed);
                        if *work == Work::Ingest {
                            // An ingest ends when there are no more chunks.
                            break;
                        }
                    }
                    Ok(())
                }));
            }
        }
        threads.into_iter().try_for_each(|thread| thread.join().ok().context("a client panicked")?)
    })
    .map_err(|error| running.with_log(error))?;
    let seconds = start.elapsed().as_secs_f64();
    running.drain(Duration::from_secs(60))?;
    let peak_anon = watch.stop()?;
    let mut figures = Figures::new();
    let mb = |bytes: u64| bytes as f64 / 1e6;
    figures.insert("idle_rss_mb", mb(idle_rss));
    figures.insert("idle_anon_mb", mb(idle_anon));
    // The kernel's own peak, which cannot fall between two samples.
    let peak = cpu::peak_rss_bytes(pid)?;
    figures.insert("peak_rss_mb", mb(peak));
    figures.insert("rss_over_idle_mb", mb(peak.saturating_sub(idle_rss)));
    figures.insert("peak_anon_mb", mb(peak_anon));
    figures.insert("anon_over_idle_mb", mb(peak_anon.saturating_sub(idle_anon)));
    figures.insert("afterwards_rss_mb", mb(cpu::rss_bytes(pid)?));
    for (work, figure) in Work::ALL.into_iter().zip(["searches", "orders", "sales_day", "sales_category"]) {
        if works.contains(&work) {
            figures.insert(figure, done[work as usize].load(Ordering::Relaxed) as f64);
        }
    }
    figures.insert("seconds", seconds);
    running.stop()?;
    Ok(Round { figures, fault: None })
}

/// Does one piece of work and returns its number of operations.
fn turn_of(
    work: Work,
    running: &Running,
    given: &Given,
    chunk: &AtomicUsize,
    number: usize,
) -> Result<usize> {
    let sales = "/api/v1/tenants/tenant_1/metrics/sales";
    // After the last order, and different for every query, so that no stored answer is used.
    let end = format!("end_date={}-{:02}-{:02}", 2027 + number / 336, number / 28 % 12 + 1, number % 28 + 1);
    match work {
        Work::Search => {
            let target = format!("/api/v1/tenants/tenant_1/orders/search?limit={ROWS}");
            search::stream(running.addr, &target, given.rows)?;
            Ok(1)
        }
        Work::Ingest => ingest_orders::send_all(running, &given.lines, chunk),
        Work::SalesByDay => {
            sales::ask(running.addr, &format!("{sales}?group_by=day&precision=exact&{end}"))?;
            Ok(1)
        }
        Work::SalesByCategory => {
            sales::ask(running.addr, &format!("{sales}?group_by=category&precision=approx&{end}"))?;
            Ok(1)
        }
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        let to = to.join(path.file_name().context("a name")?);
        if path.is_dir() {
            copy(&path, &to)?;
        } else {
            fs::copy(&path, &to).with_context(|| format!("cannot copy {}", path.display()))?;
        }
    }
    Ok(())
}

/// Samples a process's anonymous memory repeatedly.
struct Watch {
    stop: Arc<AtomicBool>,
    anon: Arc<AtomicU64>,
    thread: std::thread::JoinHandle<()>,
}

impl Watch {
    fn start(pid: u32) -> Result<Watch> {
        let now = cpu::anon_bytes(pid)?;
        let (stop, anon) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(now)));
        let thread = {
            let (stop, anon) = (stop.clone(), anon.clone());
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    anon.fetch_max(cpu::anon_bytes(pid).unwrap_or(0), Ordering::Relaxed);
                    clock::pause(LOOK_EVERY);
                }
            })
        };
        Ok(Watch { stop, anon, thread })
    }

    /// Returns the peak of the anonymous memory.
    fn stop(self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().ok().context("the watcher panicked")?;
        Ok(self.anon.load(Ordering::Relaxed))
    }
}
