//! `neighbours`: a tenant's latency alone, and next to another tenant that sends a hundred times its limit.

mod paced;

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use firehose::base::clock;

use self::paced::{Party, Taken};
use crate::peer::{Running, Serve, System};
use crate::report::{Limit, Report};
use crate::run::{Figures, Round};
use crate::setup::Setup;
use crate::{cpu, http, process};

/// The loud tenant's limit per second, and the factor by which it exceeds the limit.
const LIMIT_PER_S: f64 = 100.0;
const FLOOD_FACTOR: f64 = 100.0;
/// The quiet tenant's rate, and a quota that never limits it.
const QUIET_PER_S: f64 = 500.0;
const QUIET_LIMIT_PER_S: f64 = 5_000.0;
const CONNECTIONS: usize = 32;
/// Time before the measurement, in which the loud tenant empties its full bucket.
const LEAD: Duration = Duration::from_secs(2);
const P99_RATIO_MAX: f64 = 2.0;
const LIMIT_ERROR_MAX: f64 = 0.05;
/// A load that could not keep this share of its pace is not valid as a measurement of the server.
const PACE_MIN: f64 = 0.98;

const ALONE: &str = "alone";
const BESIDE: &str = "beside the flood";

pub(crate) fn run(setup: &Setup) -> Result<Report> {
    let mut report = Report::new("neighbours");
    let flood = LIMIT_PER_S * FLOOD_FACTOR;
    let case = format!("{QUIET_PER_S} events/s, the other {flood}/s of {LIMIT_PER_S}/s it may");
    for round in 0..setup.rounds {
        let [quiet, loud] = one(setup, round)?;
        report.record(&case, ALONE, round, quiet);
        report.record(&case, BESIDE, round, loud);
    }
    let ratio = report.ratio((&case, BESIDE, "p99_us"), (&case, ALONE, "p99_us"));
    report.bar("p99 beside the flood / p99 alone", Limit::AtMost(P99_RATIO_MAX), ratio);
    let error = report.worst(&case, BESIDE, "limit_error");
    report.bar("taken of the flood, off its limit by", Limit::AtMost(LIMIT_ERROR_MAX), error);
    Ok(report)
}

/// Measures both on one server, in alternating order.
fn one(setup: &Setup, round: usize) -> Result<[Round; 2]> {
    let mut running = System::Firehose(Serve::new(setup)).start(setup)?;
    let data = running.folder.path().join("data");
    let quiet = key(setup, &data, "quiet", QUIET_LIMIT_PER_S)?;
    let loud = key(setup, &data, "loud", LIMIT_PER_S)?;
    let parties = [Party::new("quiet", &quiet, QUIET_PER_S, CONNECTIONS), {
        Party::new("loud", &loud, LIMIT_PER_S * FLOOD_FACTOR, CONNECTIONS)
    }];
    for party in &parties {
        wait_for_key(running.addr, party)?;
    }
    let measure = |count: usize| segment(setup, &running, &parties[..count]);
    let rounds = if round.is_multiple_of(2) {
        let alone = measure(1)?;
        [alone, measure(2)?]
    } else {
        let beside = measure(2)?;
        [measure(1)?, beside]
    };
    running.drain(Duration::from_secs(60))?;
    running.stop()?;
    Ok(rounds)
}

fn segment(setup: &Setup, running: &Running, parties: &[Party]) -> Result<Round> {
    let time = Duration::from_secs(setup.seconds);
    let cores = cpu::CoreTimes::read()?;
    let sent = paced::send(running.addr, parties, LEAD, time).map_err(|error| running.with_log(error))?;
    let taken = sent.taken;
    let since = cpu::CoreTimes::read()?;
    let mut figures = Figures::new();
    let quiet = &taken[0];
    for (name, quantile) in [("p50_us", 0.5), ("p90_us", 0.9), ("p99_us", 0.99), ("p999_us", 0.999)] {
        figures.insert(name, quiet.latency_us.value_at_quantile(quantile) as f64);
    }
    figures.insert("max_us", quiet.latency_us.max() as f64);
    // The load's own part of the latency: a request that is due while the loop is busy waits for it.
    figures.insert("load_turn_p99_us", sent.turn_us.value_at_quantile(0.99) as f64);
    figures.insert("load_turn_max_us", sent.turn_us.max() as f64);
    let per_s = |count: u64| count as f64 / time.as_secs_f64();
    figures.insert("created_per_s", per_s(quiet.created));
    figures.insert("server_busy_ratio", since.busy_since(&cores, &setup.server_cores));
    figures.insert("load_busy_ratio", since.busy_since(&cores, &setup.load_cores));
    if let Some(loud) = taken.get(1) {
        figures.insert("flood_per_s", per_s(loud.answered()));
        figures.insert("flood_created_per_s", per_s(loud.created));
        figures.insert("flood_limited_ratio", loud.limited as f64 / loud.answered().max(1) as f64);
        figures.insert("flood_p50_us", loud.latency_us.value_at_quantile(0.5) as f64);
        figures.insert("limit_error", (per_s(loud.created) / LIMIT_PER_S - 1.0).abs());
    }
    Ok(Round { figures, fault: fault(parties, &taken, time) })
}

fn fault(parties: &[Party], taken: &[Taken], time: Duration) -> Option<String> {
    if taken[0].created != taken[0].answered() {
        return Some(format!(
            "of {} events of the quiet one {} were taken",
            taken[0].answered(),
            taken[0].created
        ));
    }
    parties.iter().zip(taken).find_map(|(party, taken)| {
        let due = party.per_s() * time.as_secs_f64();
        let answered = taken.answered() as f64;
        let (name, others) = (party.tenant(), taken.others);
        if others > 0 {
            return Some(format!("{name}: {others} answers that are neither 201 nor 429"));
        }
        (answered < due * PACE_MIN).then(|| format!("{name}: {answered} answers where {due} were due"))
    })
}

/// Creates a tenant with this limit, and its key. The server notices both while it runs.
fn key(setup: &Setup, data: &Path, tenant: &str, per_s: f64) -> Result<String> {
    let firehose = |words: &[&str]| -> Result<String> {
        let mut command = Command::new(setup.binary());
        let output = command.args(words).arg("--data").arg(data).stderr(Stdio::inherit()).output()?;
        ensure!(output.status.success(), "firehose {words:?} failed: {}", output.status);
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    };
    firehose(&["tenant", "add", tenant, "--requests-per-second", &per_s.to_string()])?;
    firehose(&["key", "create", "--tenant", tenant, "--scope", "write"])
}

fn wait_for_key(addr: SocketAddr, party: &Party) -> Result<()> {
    let mut party = party.clone();
    let end = clock::now() + Duration::from_secs(10);
    loop {
        let (status, _, body) = http::exchange(addr, party.next()).context("no answer to a keyed event")?;
        if status == 201 {
            return Ok(());
        }
        ensure!(clock::now() < end, "the key does not count: {status} {body}");
        process::pause(Duration::from_millis(100))?;
    }
}
