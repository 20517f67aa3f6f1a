//! `scale`: the same load on one core and on two, and on eight shards: the cost of an event must not change.
//!
//! The load shares the second core, so throughput is not meaningful here, but work per event is.

use anyhow::{Result, ensure};

use crate::peer::{Serve, System};
use crate::perf;
use crate::report::{Limit, Report};
use crate::run::{self, Round};
use crate::setup::Setup;
use crate::wrk::{self, Load};

/// Two cores have 1.9 times the throughput of one if an event costs at most this much more on two.
const COST_RATIO_MAX: f64 = 2.0 / 1.9;
/// Enough that ticks stay full when two listeners share the connections.
const CONNECTIONS: usize = 256;
const COUNT_SECONDS: u64 = 2;

pub(crate) fn run(setup: &Setup) -> Result<Report> {
    let one = setup.server_cores.clone();
    ensure!(one.len() == 1, "scale compares one server core with it and the load core: --server-cores 0");
    let two: Vec<usize> = one.iter().chain(&setup.load_cores).copied().collect();
    ensure!(two.len() == 2 && two[0] != two[1], "scale needs two different cores");
    let serve = |cores: &[usize], shards| Serve { cores: cores.to_vec(), shards, ..Serve::new(setup) };
    let systems = [
        ("1 core, 1 shard", serve(&one, 1)),
        ("2 cores, 2 shards", serve(&two, 2)),
        ("1 core, 8 shards", serve(&one, 8)),
        ("2 cores, 8 shards", serve(&two, 8)),
    ];
    let counting = perf::is_available();
    if !counting {
        eprintln!("perf cannot trace here: CPU per event only (apt-get install linux-perf, run as root)");
    }
    let mut report = Report::new("scale");
    let connections = setup.connections.unwrap_or(CONNECTIONS);
    let case = format!("{connections} connections");
    let load = setup.load("event.lua", connections);
    for round in 0..setup.rounds {
        for (name, serve) in &systems {
            let result = one_round(setup, &System::Firehose(serve.clone()), &load, counting)?;
            report.record(&case, name, round, result);
        }
    }
    for (many, few) in [(systems[1].0, systems[0].0), (systems[3].0, systems[2].0)] {
        for (figure, what) in
            [("cpu_us", "CPU"), ("system_calls", "system calls"), ("instructions", "instructions")]
        {
            let ratio = report.ratio((&case, many, figure), (&case, few, figure));
            if ratio.is_some() || figure == "cpu_us" {
                report.bar(format!("{what} per event, {many} / {few}"), Limit::AtMost(COST_RATIO_MAX), ratio);
            }
        }
    }
    Ok(report)
}

fn one_round(setup: &Setup, system: &System, load: &Load, counting: bool) -> Result<Round> {
    let mut running = system.start(setup)?;
    run::warm_up(&running, setup, load)?;
    let mut round = run::measure(&running, system, setup, load)?;
    if counting {
        // A second load, longer than the count on both sides, because counting slows the server.
        let load = Load { seconds: COUNT_SECONDS + 2, ..load.clone() };
        let wrk = wrk::start(&load, &running.url(), &setup.load_cores)?;
        crate::process::pause(std::time::Duration::from_millis(500))?;
        let before = running.health()?.total_received;
        let folder = running.folder.path();
        let counts = perf::count(running.process.pid(), COUNT_SECONDS, folder, &setup.load_cores)?;
        let events = running.health()?.total_received.saturating_sub(before);
        wrk::finish(wrk, &load)?;
        for (name, count) in [
            ("system_calls", counts.system_calls),
            ("context_switches", counts.context_switches),
            ("instructions", counts.instructions),
        ] {
            if let Some(count) = count.filter(|_| events > 0) {
                round.figures.insert(name, count as f64 / events as f64);
            }
        }
    }
    running.stop()?;
    Ok(round)
}
