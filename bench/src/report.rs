//! Collects rounds, computes medians, compares them with the bars, prints the table and writes the result file.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use firehose::base::clock;
use serde::Serialize;

use crate::run::{Figures, Round};
use crate::setup::{Setup, repository};

/// Median and extremes of one figure over the valid rounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

#[derive(Serialize)]
struct Raw {
    case: String,
    system: String,
    round: usize,
    figures: Figures,
    fault: Option<String>,
}

/// A bar to meet, stated in advance and judged by the valid rounds only.
#[derive(Serialize)]
struct Bar {
    bar: String,
    limit: f64,
    measured: Option<f64>,
    met: bool,
}

#[derive(Clone, Copy)]
pub(crate) enum Limit {
    AtMost(f64),
    AtLeast(f64),
}

#[derive(Serialize)]
struct Machine {
    cpu: String,
    cores: usize,
    kernel: String,
    memory_bytes: u64,
}

/// All results of one scenario.
pub(crate) struct Report {
    scenario: &'static str,
    rounds: Vec<Raw>,
    bars: Vec<Bar>,
}

impl Report {
    pub(crate) fn new(scenario: &'static str) -> Report {
        Report { scenario, rounds: Vec::new(), bars: Vec::new() }
    }

    /// Stores a round and prints it immediately.
    pub(crate) fn record(&mut self, case: &str, system: &str, round: usize, result: Round) {
        let Round { figures, fault } = result;
        let shown: Vec<String> =
            figures.iter().map(|(name, value)| format!("{name} {}", short(*value))).collect();
        eprintln!("[{} {case}] {system} round {}: {}", self.scenario, round + 1, shown.join(", "));
        if let Some(fault) = &fault {
            eprintln!("!!! INVALID ROUND: {fault} — it does not count");
        }
        self.rounds.push(Raw { case: case.to_owned(), system: system.to_owned(), round, figures, fault });
    }

    fn valid(&self, case: &str, system: &str) -> impl Iterator<Item = &Raw> {
        self.rounds.iter().filter(move |raw| raw.case == case && raw.system == system && raw.fault.is_none())
    }

    fn spread(&self, case: &str, system: &str, figure: &str) -> Option<Spread> {
        spread(self.valid(case, system).filter_map(|raw| raw.figures.get(figure).copied()).collect())
    }

    pub(crate) fn median(&self, case: &str, system: &str, figure: &str) -> Option<f64> {
        self.spread(case, system, figure).map(|spread| spread.median)
    }

    /// Returns the largest value of a figure over the valid rounds.
    pub(crate) fn worst(&self, case: &str, system: &str, figure: &str) -> Option<f64> {
        self.spread(case, system, figure).map(|spread| spread.max)
    }

    /// Returns the median over the rounds of one side's figure divided by the other's in the same round.
    pub(crate) fn ratio(&self, above: (&str, &str, &str), below: (&str, &str, &str)) -> Option<f64> {
        let ratios = self.valid(above.0, above.1).filter_map(|raw| {
            let other = self.valid(below.0, below.1).find(|other| other.round == raw.round)?;
            Some(raw.figures.get(above.2)? / other.figures.get(below.2)?)
        });
        spread(ratios.collect()).map(|spread| spread.median)
    }

    /// States a bar and its measured value. Without a measured value, the bar is not met.
    pub(crate) fn bar(&mut self, text: impl Into<String>, limit: Limit, measured: Option<f64>) {
        let (limit, met) = match limit {
            Limit::AtMost(limit) => (limit, measured.is_some_and(|measured| measured <= limit)),
            Limit::AtLeast(limit) => (limit, measured.is_some_and(|measured| measured >= limit)),
        };
        self.bars.push(Bar { bar: text.into(), limit, measured, met });
    }

    fn keys(&self) -> Vec<(&str, &str)> {
        let mut keys: Vec<(&str, &str)> = Vec::new();
        for raw in &self.rounds {
            let key = (raw.case.as_str(), raw.system.as_str());
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        keys.sort_by_key(|(case, _)| self.rounds.iter().position(|raw| raw.case == *case));
        keys
    }

    fn figure_names(&self, case: &str, system: &str) -> Vec<&'static str> {
        let mut names: Vec<&'static str> =
            self.valid(case, system).flat_map(|raw| raw.figures.keys().copied()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Prints one block per case, with a line per figure and a column per system, median and extremes; then the bars.
    fn print(&self) {
        let mut cases: Vec<&str> = self.keys().into_iter().map(|(case, _)| case).collect();
        cases.dedup();
        for case in cases {
            let systems: Vec<&str> =
                self.keys().into_iter().filter(|key| key.0 == case).map(|(_, system)| system).collect();
            println!("\n{}, {case}", self.scenario);
            print!("{:<26}", "");
            let mut names = Vec::new();
            for system in &systems {
                print!(" {system:>28}");
                names.extend(self.figure_names(case, system));
            }
            println!();
            names.sort_unstable();
            names.dedup();
            for name in names {
                print!("  {name:<24}");
                for system in &systems {
                    let spread = self.spread(case, system, name);
                    let shown = spread.map_or_else(String::new, |Spread { median, min, max }| {
                        format!("{} [{}–{}]", short(median), short(min), short(max))
                    });
                    print!(" {shown:>28}");
                }
                println!();
            }
            for system in systems {
                let rounds = self.rounds.iter().filter(|raw| raw.case == case && raw.system == system);
                let invalid = rounds.filter(|raw| raw.fault.is_some()).count();
                if invalid > 0 {
                    println!("  !!! {system}: {invalid} INVALID ROUNDS, not counted");
                }
            }
        }
        println!();
        for Bar { bar, limit, measured, met } in &self.bars {
            let measured = measured.map_or_else(|| "nothing".to_owned(), short);
            println!(
                "{} {bar}: {measured} (limit {})",
                if *met { "met   " } else { "MISSED" },
                short(*limit)
            );
        }
    }

    /// Prints the table and writes `<out>/<scenario>.json`. Returns `true` if every bar is met.
    pub(crate) fn finish(self, setup: &Setup) -> Result<bool> {
        self.print();
        let mut medians: BTreeMap<&str, BTreeMap<&str, BTreeMap<&str, Spread>>> = BTreeMap::new();
        for (case, system) in self.keys() {
            let figures = medians.entry(case).or_default().entry(system).or_default();
            for name in self.figure_names(case, system) {
                if let Some(spread) = self.spread(case, system, name) {
                    figures.insert(name, spread);
                }
            }
        }
        let (commit, modified) = commit();
        let result = serde_json::json!({
            "scenario": self.scenario,
            "date": clock::rfc3339(clock::unix_us() / 1_000_000 * 1_000_000),
            "commit": commit,
            "modified": modified,
            "machine": machine(),
            "settings": settings(setup),
            "bars": self.bars,
            "medians": medians,
            "rounds": self.rounds,
        });
        write(&setup.out, self.scenario, &result)?;
        Ok(self.bars.iter().all(|bar| bar.met))
    }
}

fn write(folder: &Path, scenario: &str, result: &serde_json::Value) -> Result<()> {
    let path = folder.join(format!("{scenario}.json"));
    fs::create_dir_all(folder)?;
    fs::write(&path, format!("{result:#}\n")).with_context(|| format!("cannot write {}", path.display()))?;
    println!("written: {}", path.display());
    Ok(())
}

fn spread(mut values: Vec<f64>) -> Option<Spread> {
    values.retain(|value| value.is_finite());
    values.sort_by(f64::total_cmp);
    let (min, max) = (*values.first()?, *values.last()?);
    let middle = values.len() / 2;
    let median =
        if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 };
    Some(Spread { median, min, max })
}

/// Formats three to four digits, the precision of a measurement.
fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// Returns the settings without the paths of this machine.
fn settings(setup: &Setup) -> serde_json::Value {
    serde_json::json!({
        "rounds": setup.rounds,
        "seconds": setup.seconds,
        "connections": setup.connections,
        "orders": setup.orders,
        "server_cores": setup.server_cores,
        "load_cores": setup.load_cores,
        "serve": setup.serve_extra,
    })
}

/// Returns the commit of the working tree, and whether the tree has changes other than results.
fn commit() -> (Option<String>, bool) {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).current_dir(repository()).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let changes = git(&["status", "--porcelain", "--", ".", ":!bench/results"]).unwrap_or_default();
    (git(&["rev-parse", "HEAD"]), !changes.is_empty())
}

fn machine() -> Machine {
    let field = |path: &str, name: &str| {
        let text = fs::read_to_string(path).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_once(':').map_or_else(String::new, |(_, value)| value.trim().to_owned())
    };
    let memory_kib: u64 = field("/proc/meminfo", "MemTotal").trim_end_matches(" kB").parse().unwrap_or(0);
    Machine {
        cpu: field("/proc/cpuinfo", "model name"),
        cores: fs::read_to_string("/proc/cpuinfo")
            .map_or(0, |text| text.lines().filter(|line| line.starts_with("processor")).count()),
        kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
        memory_bytes: memory_kib * 1024,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(figure: f64, fault: Option<&str>) -> Round {
        Round { figures: Figures::from([("cpu_us", figure)]), fault: fault.map(str::to_owned) }
    }

    #[test]
    fn medians_leave_invalid_rounds_out() {
        let mut report = Report::new("test");
        for (index, value) in [5.0, 1.0, 3.0].into_iter().enumerate() {
            report.record("64", "a", index, round(value, None));
        }
        report.record("64", "a", 3, round(1000.0, Some("socket errors")));
        assert_eq!(report.spread("64", "a", "cpu_us"), Some(Spread { median: 3.0, min: 1.0, max: 5.0 }));
        assert_eq!(spread(vec![1.0, 2.0, 4.0, 3.0]).map(|spread| spread.median), Some(2.5));
    }

    #[test]
    fn a_ratio_compares_rounds_that_ran_side_by_side() {
        let mut report = Report::new("test");
        for (index, slow) in [1.0, 10.0, 3.0].into_iter().enumerate() {
            report.record("64", "a", index, round(2.0 * slow, None));
            report.record("64", "b", index, round(slow, None));
        }
        assert_eq!(report.ratio(("64", "a", "cpu_us"), ("64", "b", "cpu_us")), Some(2.0));
    }

    #[test]
    fn a_bar_without_a_measurement_is_not_met() {
        let mut report = Report::new("test");
        report.bar("x", Limit::AtMost(1.0), None);
        report.bar("x", Limit::AtMost(1.0), Some(1.0));
        report.bar("x", Limit::AtLeast(1.0), Some(0.9));
        let met: Vec<bool> = report.bars.iter().map(|bar| bar.met).collect();
        assert_eq!(met, [false, true, false]);
    }
}
