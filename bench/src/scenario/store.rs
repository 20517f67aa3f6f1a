//! `store`: from the socket into SQLite, sustained, with every thread of the server on its core.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use firehose::base::clock;

use crate::cpu::CpuTimes;
use crate::peer::{Health, Running, Serve, System, stored_rows};
use crate::process;
use crate::report::{Limit, Report};
use crate::run::{self, Figures, Round};
use crate::setup::Setup;
use crate::wrk::{self, Load};

const STORED_PER_S_MIN: f64 = 80_000.0;
/// If the queue keeps more than this share of the arriving events, the writer does not keep up.
const QUEUE_GROWTH_RATIO_MAX: f64 = 0.05;
/// Time between two samples of the queue.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Users and times at random over a year, the same with rising times, and bodies of several lengths.
const SCRIPTS: [(&str, &str); 3] =
    [("users.lua", RANDOM), ("rising.lua", RISING), ("mixed.lua", "200 B to 8 KiB")];
const RANDOM: &str = "unique users";
const RISING: &str = "unique users, rising times";
/// Events per second with random times, in parts of those with rising times.
const ORDER_RATIO_MIN: f64 = 0.5;

struct Look {
    at_s: f64,
    health: Health,
}

pub(crate) fn run(setup: &Setup) -> Result<Report> {
    let mut report = Report::new("store");
    let system = System::Firehose(Serve::new(setup));
    for connections in setup.connection_counts(&[64, 512]) {
        for (script, name) in SCRIPTS {
            let case = format!("{connections} connections, {name}");
            let load = setup.load(script, connections);
            run::interleave(setup.rounds, std::slice::from_ref(&system), |round, system| {
                report.record(&case, system.name(), round, one(setup, system, &load)?);
                Ok(())
            })?;
            if script == "users.lua" {
                let stored = report.median(&case, "firehose", "stored_per_s");
                let growth = report.median(&case, "firehose", "queue_growth_ratio");
                let text = format!("{case}: events stored per second");
                report.bar(text, Limit::AtLeast(STORED_PER_S_MIN), stored);
                let text = format!("{case}: growth of the queue / rate of arrival");
                report.bar(text, Limit::AtMost(QUEUE_GROWTH_RATIO_MAX), growth);
            }
        }
        let case = |name: &str| format!("{connections} connections, {name}");
        let (random, rising) = (case(RANDOM), case(RISING));
        let ratio =
            report.ratio((&random, "firehose", "stored_per_s"), (&rising, "firehose", "stored_per_s"));
        let text = format!("{connections} connections: events stored per second, random / rising times");
        report.bar(text, Limit::AtLeast(ORDER_RATIO_MIN), ratio);
    }
    Ok(report)
}

/// Runs one round: load, watch the queue, drain, stop, count the rows.
pub(super) fn one(setup: &Setup, system: &System, load: &Load) -> Result<Round> {
    let mut running = system.start(setup)?;
    run::warm_up(&running, setup, load)?;
    running.drain(Duration::from_secs(60))?;
    let pid = running.process.pid();
    let (cpu_before, before) = (CpuTimes::of(pid)?, running.health()?);
    let (looks, mut wrk) = watch(&running, setup, load)?;
    let report = wrk::finish(wrk.take().context("wrk was not started")?, load)?;
    let drain = running.drain(Duration::from_secs(300))?;
    let (cpu, after) = (CpuTimes::of(pid)?, running.health()?);

    let mut figures = Figures::new();
    figures.insert("answered_per_s", report.rate());
    figures.insert("p99_us", report.p99_us as f64);
    figures.insert("drain_ms", drain.as_secs_f64() * 1e3);
    let received = after.total_received.saturating_sub(before.total_received);
    let per_event = |ns: u64| ns as f64 / 1e3 / received.max(1) as f64;
    figures.insert("cpu_us", per_event(cpu.total_since(&cpu_before)));
    for (role, figure) in run::ROLES {
        if let Some(ns) = cpu.role_since(&cpu_before, role) {
            figures.insert(figure, per_event(ns));
        }
    }
    let mut faults: Vec<String> = report.faults().into_iter().collect();
    faults.extend(queue_figures(&looks, &mut figures));

    running.stop()?;
    let rows = match system {
        System::Firehose(_) => stored_rows(running.folder.path())?,
        _ => after.database_events,
    };
    ensure!(
        rows == after.total_received,
        "{rows} rows are stored but {} events were received",
        after.total_received
    );
    // wrk does not count the responses that were outstanding when its time was over.
    ensure!(
        received >= report.requests && received <= report.requests + load.connections as u64,
        "{} events were answered but {received} received",
        report.requests
    );
    Ok(Round { figures, fault: (!faults.is_empty()).then(|| faults.join(", ")) })
}

/// Runs the load and samples `/health` until it is about to end.
fn watch(running: &Running, setup: &Setup, load: &Load) -> Result<(Vec<Look>, Option<process::Process>)> {
    let mut wrk = wrk::start(load, &running.url(), &setup.load_cores)?;
    let start = clock::now();
    let mut looks = Vec::new();
    while start.elapsed() + LOOK_EVERY < Duration::from_secs(load.seconds) && wrk.ended()?.is_none() {
        process::pause(LOOK_EVERY)?;
        let health = running.health()?;
        looks.push(Look { at_s: start.elapsed().as_secs_f64(), health });
    }
    Ok((looks, Some(wrk)))
}

/// Computes the rate of storing and the growth of the queue. Returns a fault if the load was too short. The first
/// quarter of the load is not included, because the queue fills to its steady level there.
fn queue_figures(looks: &[Look], figures: &mut Figures) -> Option<String> {
    let steady = &looks[looks.len() / 4..];
    let (Some(first), Some(last)) = (steady.first(), steady.last()) else {
        return Some("too short to see the queue".to_owned());
    };
    let seconds = last.at_s - first.at_s;
    if seconds < 1.0 {
        return Some("too short to see the queue".to_owned());
    }
    let rate =
        |pick: fn(&Health) -> u64| pick(&last.health).saturating_sub(pick(&first.health)) as f64 / seconds;
    let arrived = rate(|health| health.total_received);
    figures.insert("stored_per_s", rate(|health| health.database_events));
    figures.insert("arrived_per_s", arrived);
    let largest = looks.iter().map(|look| look.health.queue_size).max().unwrap_or(0);
    figures.insert("queue_max_events", largest as f64);
    let growth = (last.health.queue_size as f64 - first.health.queue_size as f64) / seconds;
    figures.insert("queue_growth_per_s", growth);
    figures.insert("queue_growth_ratio", growth / arrived.max(1.0));
    None
}
