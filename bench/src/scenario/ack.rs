//! `ack`: the cost of waiting for the disk, `--ack os` against `--ack disk` under the same load.

use anyhow::Result;

use crate::peer::{self, Serve, System};
use crate::report::{Limit, Report};
use crate::run;
use crate::setup::Setup;

const DISK_RATIO_MIN: f64 = 0.6;
/// One fdatasync serves all requests of the ticks it covers, so the bar applies where there are enough of them.
const BAR_CONNECTIONS: usize = 256;

pub(crate) fn run(setup: &Setup) -> Result<Report> {
    let mut report = Report::new("ack");
    let levels = ["os", "disk"].map(|ack| System::Firehose(Serve { ack, ..Serve::new(setup) }));
    peer::check(&levels)?;
    for connections in setup.connection_counts(&[1, 64, BAR_CONNECTIONS]) {
        let case = format!("{connections} connections");
        let load = setup.load("event.lua", connections);
        run::interleave(setup.rounds, &levels, |round, system| {
            let System::Firehose(serve) = system else { return Ok(()) };
            report.record(&case, serve.ack, round, run::round(setup, system, &load)?);
            Ok(())
        })?;
        if connections == BAR_CONNECTIONS {
            let ratio = report.ratio((&case, "disk", "requests_per_s"), (&case, "os", "requests_per_s"));
            report.bar(
                format!("{case}: requests per second, disk / os"),
                Limit::AtLeast(DISK_RATIO_MIN),
                ratio,
            );
        }
    }
    Ok(report)
}
