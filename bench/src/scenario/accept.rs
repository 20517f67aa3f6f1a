//! `accept`: the cost of accepting an event (parsed, checked and journaled) against servers that only answer.

use anyhow::Result;

use crate::peer::{self, Serve, System};
use crate::report::{Limit, Report};
use crate::run;
use crate::setup::Setup;

/// The bar allows this much for parsing, checking and the journal on top of a request and its response.
const FLOOR_RATIO_MAX: f64 = 1.15;
/// The same if 16 requests share a read and a response, so that the floor has little to do for each.
const FLOOR_RATIO_PIPELINED_MAX: f64 = 1.8;

pub(crate) fn run(setup: &Setup) -> Result<Report> {
    // This measures the work up to the ack: parsing, checking, journaling. `store` measures storing on the same core
    // at the same time; here, storing waits until the load is over.
    let mut serve = Serve::new(setup);
    serve.extra.push("flush-interval=10s".to_owned());
    let systems = [
        System::Firehose(serve),
        System::Epoll { level: false },
        System::Epoll { level: true },
        System::May,
        System::Nginx,
    ];
    peer::check(&systems)?;
    let mut report = Report::new("accept");
    for connections in setup.connection_counts(&[64, 512]) {
        let case = format!("{connections} connections");
        compare(setup, &systems, &mut report, &case, "event.lua", connections)?;
        bars(&mut report, &case);
    }
    let connections = setup.connections.unwrap_or(64);
    let case = format!("{connections} connections, 16 deep");
    compare(setup, &systems, &mut report, &case, "pipelined.lua", connections)?;
    floor_bar(&mut report, &case, FLOOR_RATIO_PIPELINED_MAX);
    Ok(report)
}

fn compare(
    setup: &Setup,
    systems: &[System],
    report: &mut Report,
    case: &str,
    script: &'static str,
    connections: usize,
) -> Result<()> {
    let load = setup.load(script, connections);
    run::interleave(setup.rounds, systems, |round, system| {
        report.record(case, system.name(), round, run::round(setup, system, &load)?);
        Ok(())
    })
}

fn floor_bar(report: &mut Report, case: &str, ratio_max: f64) {
    let listener = (case, "firehose", "listen_cpu_us");
    // The load and the kernel decide whether edge or level triggering costs less. The cheaper one is the floor.
    let floors =
        ["peer-epoll", "peer-epoll-level"].map(|floor| report.ratio(listener, (case, floor, "cpu_us")));
    let floor = floors[0].zip(floors[1]).map(|(edge, level)| edge.max(level));
    report.bar(format!("{case}: listener CPU per event / bare epoll"), Limit::AtMost(ratio_max), floor);
}

fn bars(report: &mut Report, case: &str) {
    floor_bar(report, case, FLOOR_RATIO_MAX);
    let listener = (case, "firehose", "listen_cpu_us");
    let rate = (case, "firehose", "requests_per_s");
    let nginx = report.ratio(listener, (case, "nginx", "cpu_us"));
    report.bar(format!("{case}: listener CPU per event / nginx return 202"), Limit::AtMost(1.0), nginx);
    let nginx = report.ratio(rate, (case, "nginx", "requests_per_s"));
    report.bar(format!("{case}: requests per second / nginx return 202"), Limit::AtLeast(1.0), nginx);
}
