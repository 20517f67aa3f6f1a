//! The check of the sinks that a data folder is shipped to: how old their notes are, what they lack, what is held.

use std::time::Duration;

use super::{Finding, Verdict};
use crate::base::clock;
use crate::clicks::CLICKS;
use crate::config::Config;
use crate::events::EVENTS;
use crate::families::FAMILIES;
use crate::orders::ORDERS;
use crate::shard::{self, DataFolder, ShardError, SinkEntry};

const CHECK: &str = "ship";
/// A sink with rows to come notes its places every second. An older note means that nothing is shipped.
const NOTE_AGE_US_MAX: i64 = 15 * 60 * 1_000_000;

pub(super) fn sinks(config: &Config) -> Finding {
    let sinks = match shard::sinks(&config.data) {
        Ok(sinks) => sinks,
        Err(error) => {
            return Finding::warn(
                CHECK,
                format!(
                    "the sinks of {} cannot be read ({error}): retention holds every row",
                    config.data.display()
                ),
                "repair the file or its permissions, or remove the sink's folder in ship/",
            );
        }
    };
    if sinks.is_empty() {
        return Finding::ok(CHECK, "no sink is registered: retention waits for none");
    }
    let folder = match DataFolder::read_only(&config.data) {
        Ok(folder) => folder,
        Err(error) => return Finding::warn(CHECK, error.to_string(), "start the server once"),
    };
    let findings = sinks.iter().map(|(name, sink)| of_sink(config, &folder, name, sink));
    let (bad, good): (Vec<Finding>, Vec<Finding>) =
        findings.partition(|finding| finding.verdict > Verdict::Ok);
    let joined = |findings: &[Finding], of: fn(&Finding) -> &str| {
        findings.iter().map(of).collect::<Vec<_>>().join("; ")
    };
    if bad.is_empty() {
        return Finding::ok(CHECK, joined(&good, |finding| &finding.found));
    }
    Finding::warn(CHECK, joined(&bad, |finding| &finding.found), joined(&bad, |finding| &finding.remedy))
}

fn of_sink(config: &Config, folder: &DataFolder, name: &str, sink: &SinkEntry) -> Finding {
    let title = format!("sink {name} ({})", sink.target);
    match state(config, folder, name, sink) {
        Err(error) => Finding::warn(
            CHECK,
            format!("{title}: {error}; retention holds the rows of this shard"),
            format!("repair the file, or delete it: `firehose ship --name {name}` writes it again"),
        ),
        Ok(State { noted_us: None, behind, .. }) if behind > 0 => Finding::warn(
            CHECK,
            format!("{title} has confirmed nothing of a shard and lacks {behind} rows: retention holds them"),
            format!("start `firehose ship --name {name}`, or `firehose ship remove {name}`"),
        ),
        Ok(State { noted_us, behind, held }) => {
            let age_us = noted_us.map_or(0, |at_us| clock::unix_us().saturating_sub(at_us).max(0));
            let age_s = age_us / 1_000_000;
            let found = format!("{title} lacks {behind} rows, and noted its places {age_s} s ago");
            let remedy = format!(
                "start `firehose ship --name {name}`, or look at its log; `firehose ship remove {name}` ends the hold"
            );
            if held == 0 && behind > 0 && age_us > NOTE_AGE_US_MAX {
                return Finding::warn(CHECK, found, remedy);
            }
            if held > 0 {
                let held = format!("{found}; retention holds old partitions of {held} streams for it");
                return Finding::warn(CHECK, held, remedy);
            }
            Finding::ok(CHECK, found)
        }
    }
}

/// The rows of all shards that a sink lacks.
struct State {
    /// The time of the oldest note. `None` if a shard with rows has none.
    noted_us: Option<i64>,
    behind: i64,
    /// Streams of shards with a partition that retention would delete, but that has an unconfirmed row.
    held: usize,
}

fn state(config: &Config, folder: &DataFolder, name: &str, sink: &SinkEntry) -> Result<State, String> {
    let ages = [
        (CLICKS.name, config.retention_clicks),
        (EVENTS.name, config.retention_events),
        (ORDERS.name, config.retention_orders),
    ];
    let now_us = clock::unix_us();
    let mut state = State { noted_us: Some(i64::MAX), behind: 0, held: 0 };
    for (id, of) in folder.shards() {
        let text = |error: ShardError| format!("shard {id}: {error}");
        let reader = match shard::open_reader(&of.database()) {
            // A shard that was never written has no file.
            Err(_) if !of.database().exists() => continue,
            opened => opened.map_err(text)?,
        };
        let lag = shard::lag(&config.data, (name, sink), id, &reader, &FAMILIES).map_err(text)?;
        let behind: i64 = lag.behind.values().sum();
        state.behind += behind;
        let is_held = |(stream, keep): &&(&str, Option<Duration>)| {
            let sealed_us = lag.sealed_us.get(*stream);
            keep.zip(sealed_us).is_some_and(|(keep, us)| now_us.saturating_sub(*us) > keep.as_micros() as i64)
        };
        state.held += ages.iter().filter(is_held).count();
        state.noted_us = match (state.noted_us, lag.noted_us) {
            (oldest, None) if behind == 0 => oldest,
            (oldest, noted_us) => oldest.zip(noted_us).map(|(oldest, noted)| oldest.min(noted)),
        };
    }
    state.noted_us = state.noted_us.filter(|at_us| *at_us < i64::MAX);
    if state.behind == 0 && state.noted_us.is_none() {
        state.noted_us = Some(clock::unix_us());
    }
    Ok(state)
}
