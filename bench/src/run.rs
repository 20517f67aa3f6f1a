//! One round of one system under wrk, and its figures.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::cpu::{CoreTimes, CpuTimes};
use crate::peer::{Running, System};
use crate::setup::Setup;
use crate::wrk::{self, Load};

/// Named figures of one round; the last word of the name is the unit.
pub(crate) type Figures = BTreeMap<&'static str, f64>;

/// Threads of the server whose CPU is shown separately, by the first part of their names.
pub(crate) const ROLES: [(&str, &str); 3] =
    [("listen", "listen_cpu_us"), ("write", "write_cpu_us"), ("exec", "exec_cpu_us")];

/// The result of one round.
pub(crate) struct Round {
    pub(crate) figures: Figures,
    /// The reason why its figures are invalid.
    pub(crate) fault: Option<String>,
}

/// Loads for one second without measuring: first pages of the connections, caches, the CPU's clock.
pub(crate) fn warm_up(running: &Running, setup: &Setup, load: &Load) -> Result<()> {
    let load = Load { seconds: 1, ..load.clone() };
    wrk::finish(wrk::start(&load, &running.url(), &setup.load_cores)?, &load)?;
    Ok(())
}

/// Starts a system in a new folder, warms it up, loads it, drains it and stops it.
pub(crate) fn round(setup: &Setup, system: &System, load: &Load) -> Result<Round> {
    let mut running = system.start(setup)?;
    warm_up(&running, setup, load)?;
    let round = measure(&running, system, setup, load)?;
    if running.keeps_count {
        running.stop().context("after the load")?;
    }
    Ok(round)
}

/// Loads a running system once. The CPU per request includes the listening threads until the end of the load, and all
/// other threads until the queue is empty, so that deferred work counts too.
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
    // With several pipelined requests, wrk's correction makes its percentiles invalid (they fall to 0).
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
        // Polling the state of the queue must not count as work on events.
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

/// Runs the rounds of all systems in turns, so that a drift of the machine affects all of them equally.
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
