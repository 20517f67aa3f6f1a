//! `seed`: firehose against the FastAPI + deque + aiosqlite design it replaces, on the same core.

use anyhow::Result;

use super::store;
use crate::peer::{self, Serve, System};
use crate::report::{Limit, Report};
use crate::run;
use crate::setup::Setup;

const STORED_RATIO_MIN: f64 = 20.0;

pub(crate) fn run(setup: &Setup) -> Result<Report> {
    let systems = [System::Firehose(Serve::new(setup)), System::Seed];
    peer::check(&systems)?;
    let mut report = Report::new("seed");
    let connections = setup.connections.unwrap_or(64);
    let case = format!("{connections} connections");
    let load = setup.load("users.lua", connections);
    run::interleave(setup.rounds, &systems, |round, system| {
        report.record(&case, system.name(), round, store::one(setup, system, &load)?);
        Ok(())
    })?;
    for (figure, text) in [("stored_per_s", "stored"), ("answered_per_s", "answered")] {
        let ratio = report.ratio((&case, "firehose", figure), (&case, "seed", figure));
        let text = format!("{case}: events {text} per second, firehose / seed");
        // The bar applies to the rows that reached the database; the responses alone are shown next to it.
        let least = if figure == "stored_per_s" { STORED_RATIO_MIN } else { 1.0 };
        report.bar(text, Limit::AtLeast(least), ratio);
    }
    Ok(report)
}
