//! `outage`: all shards locked from outside for five seconds while events keep arriving.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use firehose::base::clock;

use crate::cpu;
use crate::load::{self, Answers, Shape};
use crate::peer::{Health, Running, Serve, System, stored_rows};
use crate::process::{self, Process};
use crate::report::{Limit, Report};
use crate::run::{self, Figures, Round};
use crate::setup::Setup;

const LOCK_SECONDS: u64 = 5;
/// A shorter round has no before and after to compare with.
const SECONDS_MIN: u64 = 18;
/// The required pace of draining a backlog while events keep arriving.
const PACE_PER_S: f64 = 20_000.0;
const RSS_GROWTH_BYTES_MAX: f64 = 64.0 * 1024.0 * 1024.0;
const P99_RATIO_MAX: f64 = 2.0;
const DRAIN_RATIO_MIN: f64 = 5.0;
const LOOK_EVERY: Duration = Duration::from_millis(20);

pub(crate) fn run(setup: &Setup) -> Result<Report> {
    let mut report = Report::new("outage");
    let system = System::Firehose(Serve::new(setup));
    let connections = setup.connections.unwrap_or(64);
    let paced = format!("{connections} connections, {PACE_PER_S} events/s");
    let full = format!("{connections} connections, full load");
    for round in 0..setup.rounds {
        for (case, rate) in [(&paced, Some(PACE_PER_S)), (&full, None)] {
            report.record(case, system.name(), round, one(setup, &system, connections, rate)?);
        }
    }
    for case in [&paced, &full] {
        let worst = |figure| report.worst(case, "firehose", figure);
        let (refused, lost, growth) = (worst("not_202"), worst("lost"), worst("rss_growth_bytes"));
        let p99 = report.ratio((case, "firehose", "p99_during_us"), (case, "firehose", "p99_before_us"));
        report.bar(format!("{case}: answers that are not 202"), Limit::AtMost(0.0), refused);
        report.bar(format!("{case}: requests without an answer"), Limit::AtMost(0.0), lost);
        report.bar(format!("{case}: growth of memory, bytes"), Limit::AtMost(RSS_GROWTH_BYTES_MAX), growth);
        report.bar(format!("{case}: p99 during the lock / before"), Limit::AtMost(P99_RATIO_MAX), p99);
    }
    let drain = report.median(&paced, "firehose", "drain_per_arrival_ratio");
    report.bar(
        format!("{paced}: rate of storing after the lock / rate of arrival"),
        Limit::AtLeast(DRAIN_RATIO_MIN),
        drain,
    );
    Ok(report)
}

/// One sample of the server's state from outside.
struct Look {
    at_us: u64,
    health: Health,
    rss_bytes: u64,
}

struct Watch<'a> {
    running: &'a Running,
    looks: Vec<Look>,
}

impl Watch<'_> {
    fn look(&mut self) -> Result<Health> {
        let health = self.running.health()?;
        let rss_bytes = cpu::rss_bytes(self.running.process.pid())?;
        self.looks.push(Look { at_us: clock::monotonic_us(), health, rss_bytes });
        Ok(health)
    }

    fn look_for(&mut self, time: Duration) -> Result<()> {
        let end = clock::now() + time;
        while clock::now() < end {
            self.look()?;
            process::pause(LOOK_EVERY)?;
        }
        Ok(())
    }

    fn between(&self, from_us: u64, to_us: u64) -> impl Iterator<Item = &Look> {
        self.looks.iter().filter(move |look| (from_us..=to_us).contains(&look.at_us))
    }
}

/// Moments of a round, by the monotonic clock.
struct Times {
    start_us: u64,
    locked_us: u64,
    unlocked_us: u64,
    end_us: u64,
}

fn one(setup: &Setup, system: &System, connections: usize, rate: Option<f64>) -> Result<Round> {
    let mut running = system.start(setup)?;
    run::warm_up(&running, setup, &setup.load("event.lua", connections))?;
    running.drain(Duration::from_secs(60))?;
    let received_before = running.health()?.total_received;
    let mut watch = Watch { running: &running, looks: Vec::new() };

    let third = Duration::from_secs(setup.seconds.max(SECONDS_MIN)) / 3;
    let shape = Shape { rate, ..Shape::events(connections) };
    let load = load::start(running.addr, &shape, &setup.load_cores)?;
    let start_us = clock::monotonic_us();
    watch.look_for(third)?;
    let locked_us = clock::monotonic_us();
    let mut lock = lock(setup, &running)?;
    let mut status = None;
    while status.is_none() {
        watch.look()?;
        process::pause(LOOK_EVERY)?;
        status = lock.ended()?;
    }
    let unlocked_us = clock::monotonic_us();
    ensure!(status.is_some_and(|status| status.success()), "the lock drill failed");
    watch.look_for(third)?;
    let end_us = clock::monotonic_us();
    let answers = load.stop()?;
    process::poll("the backlog drains", Duration::from_secs(300), || {
        Ok((watch.look()?.queue_size == 0).then_some(()))
    })?;

    let times = Times { start_us, locked_us, unlocked_us, end_us };
    let (figures, fault) = figures(&watch, &answers, &times)?;
    let received = running.health()?.total_received;
    ensure!(
        received - received_before >= answers.accepted,
        "{} events were answered with 202 but {} received",
        answers.accepted,
        received - received_before
    );
    running.stop()?;
    let rows = stored_rows(running.folder.path())?;
    ensure!(rows == received, "{rows} rows are stored but {received} events were received");
    Ok(Round { figures, fault })
}

/// Runs `firehose drill lock` on the data folder in a separate process.
fn lock(setup: &Setup, running: &Running) -> Result<Process> {
    let mut command = Command::new(setup.binary());
    command.args(["drill", "lock", "--seconds", &LOCK_SECONDS.to_string(), "--data"]);
    command.arg(running.folder.path().join("data"));
    command.current_dir(running.folder.path()).stdin(Stdio::null()).stdout(Stdio::null());
    Process::start("firehose drill lock", &mut command, &setup.load_cores)
}

fn figures(watch: &Watch, answers: &Answers, times: &Times) -> Result<(Figures, Option<String>)> {
    let &Times { start_us, locked_us, unlocked_us, end_us } = times;
    // The first second of a load is not representative: connections, caches.
    let settled_us = start_us + 1_000_000;
    let before = answers.between(settled_us, locked_us)?;
    let during = answers.between(locked_us, unlocked_us)?;
    let after = answers.between(unlocked_us, end_us)?;
    let mut figures = Figures::new();
    figures.insert("p50_before_us", before.p50_us);
    figures.insert("p99_before_us", before.p99_us);
    figures.insert("p99_during_us", during.p99_us);
    figures.insert("p99_after_us", after.p99_us);
    figures.insert("max_before_us", before.max_us);
    figures.insert("max_during_us", during.max_us);
    figures.insert("max_after_us", after.max_us);
    figures.insert("answered_before_per_s", before.answered_per_s);
    figures.insert("answered_during_per_s", during.answered_per_s);
    figures.insert("answered_after_per_s", after.answered_per_s);
    figures.insert("not_202", answers.refused as f64);
    figures.insert("not_202_during", during.refused as f64);
    figures.insert("lost", answers.lost as f64);

    let rss = |from_us, to_us| watch.between(from_us, to_us).map(|look| look.rss_bytes).max();
    let rss_before = rss(start_us, locked_us).context("nobody looked before the lock")?;
    let rss_after = rss(locked_us, u64::MAX).context("nobody looked after the lock")?;
    figures.insert("rss_before_bytes", rss_before as f64);
    figures.insert("rss_growth_bytes", rss_after.saturating_sub(rss_before) as f64);

    let queue_before =
        watch.between(settled_us, locked_us).map(|look| look.health.queue_size).max().unwrap_or(0);
    let at_unlock = watch.between(locked_us, unlocked_us).last().context("nobody looked during the lock")?;
    let backlog = at_unlock.health.queue_size;
    figures.insert("backlog_events", backlog as f64);
    // The server has caught up when the queue is as short as before the lock.
    let caught_up = watch.between(unlocked_us, u64::MAX).find(|look| look.health.queue_size <= queue_before);
    if let Some(look) = caught_up {
        let seconds = look.at_us.saturating_sub(unlocked_us).max(1) as f64 / 1e6;
        let stored = look.health.database_events.saturating_sub(at_unlock.health.database_events);
        figures.insert("catch_up_ms", seconds * 1e3);
        figures.insert("drain_per_s", stored as f64 / seconds);
        figures.insert("drain_per_arrival_ratio", stored as f64 / seconds / before.answered_per_s.max(1.0));
    }
    // A lock that does not stop the writer proves nothing.
    let arrived = during.answered_per_s * LOCK_SECONDS as f64;
    let fault = ((backlog as f64) < arrived * 0.5).then(|| {
        format!("only {backlog} events waited at the end of the lock: the writer was not locked out")
    });
    Ok((figures, fault))
}
