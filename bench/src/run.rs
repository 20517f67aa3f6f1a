//! One round of one system under wrk, and the numbers taken from it.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::cpu::{CoreTimes, CpuTimes};
use crate::peer::{Running, System};
use crate::setup::Setup;
use crate::wrk::{self, Load};

/// Named numbers of one round; the unit is the last word of the name.
pub(crate) type Figures = BTreeMap<&'static str, f64>;

/// Threads of the server whose CPU is shown by itself, by the first part of their names.
pub(crate) const ROLES: [(&str, &str); 3] =
    [("listen", "listen_cpu_us"), ("write", "write_cpu_us"), ("exec", "exec_cpu_us")];

/// What one round gave.
pub(crate) struct Round {
    pub(crate) figures: Figures,
    /// why its numbers must not be used
    pub(crate) fault: Option<String>,
}

/// A second of load that is not measured: connections' first pages, caches, the CPU's clock.
pub(crate) fn warm_up(running: &Running, setup: &Setup, load: &Load) -> Result<()> {
    let load = Load { seconds: 1, ..load.clone() };
    wrk::finish(wrk::start(&load, &running.url(), &setup.load_cores)?, &load)?;
    Ok(())
}

/// Starts a system in a fresh folder, warms it up, loads it, lets it drain and stops it.
pub(crate) fn round(setup: &Setup, system: &System, load: &Load) -> Result<Round> {
    let mut running = system.start(setup)?;
    warm_up(&running, setup, load)?;
    let round = measure(&running, system, setup, load)?;
    if running.keeps_count {
        running.stop().context("after the load")?;
    }
    Ok(round)
}

/// Loads a running system once. CPU per request counts the listening threads to the end of the load
/// and everything behind them until the queue is empty, so that work put off is not work saved.
pub(crate) fn measure(running: &Running, system: &System, setup: &Setup, load: &Load) -> Result<Round> {
    let pid = running.process.pid();
    let server_cores = match system {
        System::Firehose(serve) => &serve.cores,
        _ => &setup.server_cores,
    };
    let (cpu_before, cores_before) = (CpuTimes::of(pid)?, CoreTimes::read()?);
    let report = wrk::finish(wrk::start(load, &running.url(), &setup.load_cores)?, load)
        .map_err(|error| running.with_log(error))?;
    let (cpu, cores) = (CpuTimes::of(pid)?, CoreTimes::read()?);
    let per_request = |ns: u64| ns as f64 / 1e3 / report.requests.max(1) as f64;

    let mut figures = Figures::new();
    figures.insert("requests_per_s", report.rate());
    // several requests deep, wrk's correction leaves its percentiles without meaning (they fall to 0)
    if load.script != "pipelined.lua" {
        figures.insert("p50_us", report.p50_us as f64);
        figures.insert("p99_us", report.p99_us as f64);
        figures.insert("p999_us", report.p999_us as f64);
    }
    figures.insert("server_busy_ratio", cores.busy_since(&cores_before, server_cores));
    figures.insert("load_busy_ratio", cores.busy_since(&cores_before, &setup.load_cores));
    figures.insert("answer_bytes", running.answer_bytes as f64);
    figures.insert("cpu_us", per_request(cpu.total_since(&cpu_before)));
    if matches!(system, System::Firehose(_)) {
        let drain = running.drain(Duration::from_secs(120))?;
        let drained = CpuTimes::of(pid)?;
        figures.insert("drain_ms", drain.as_secs_f64() * 1e3);
        // asking for the state of the queue must not count as work on events
        let asking = drained.role_since(&cpu, "listen").unwrap_or(0);
        let total = drained.total_since(&cpu_before).saturating_sub(asking);
        figures.insert("cpu_us", per_request(total));
        for (role, figure) in ROLES {
            let end = if role == "listen" { &cpu } else { &drained };
            if let Some(ns) = end.role_since(&cpu_before, role) {
                figures.insert(figure, per_request(ns));
            }
        }
    }
    Ok(Round { figures, fault: report.faults() })
}

/// Rounds of all systems in turn, so that a drift of the machine meets all of them alike.
pub(crate) fn interleave(
    rounds: usize,
    systems: &[System],
    mut each: impl FnMut(usize, &System) -> Result<()>,
) -> Result<()> {
    for round in 0..rounds {
        for system in systems {
            each(round, system).with_context(|| format!("{}, round {}", system.name(), round + 1))?;
        }
    }
    Ok(())
}
