//! `front-ends`: `POST /event` through the event loop, through hyper on glommio and through hyper on tokio, in the same
//! server: the same parse and check, the same journal, the same response and promise.
//!
//! A connection is on the event loop until its first request for anything but an event. Then it belongs to the core's
//! executor for good, and its events are served there by hyper. So the load reaches hyper without a change in the
//! server: each connection first reads `/dashboard/state`. `--runtime` selects glommio or tokio.
//!
//! The peers answer with a constant. They show how much of a difference any server on that runtime has.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use firehose::base::clock;
use firehose::base::ids::Receipt;

use crate::cpu::{CoreTimes, CpuTimes};
use crate::load::{self, Answers, Shape};
use crate::peer::{self, Running, Serve, System};
use crate::report::{Limit, Report};
use crate::run::{Figures, ROLES, Round};
use crate::setup::Setup;
use crate::{http, perf, process};

const DEPTHS: [usize; 2] = [1, 16];
/// Below this ratio, the event loop would not be worth its code.
const CPU_RATIO_MIN: f64 = 1.5;
/// The bar applies where a server is busy enough for its CPU to matter.
const BAR_CONNECTIONS_MIN: usize = 64;
const LOOP: &str = "event-loop";
const GLOMMIO: &str = "hyper-glommio";
const TOKIO: &str = "hyper-tokio";
/// The load before the measured one: first pages of the connections, caches, the CPU's clock.
const WARM_UP: Duration = Duration::from_secs(1);
const COUNT_SECONDS: u64 = 1;

struct FrontEnd {
    name: &'static str,
    system: System,
    /// Set if its connections move to the executor first.
    moves: bool,
}

pub(crate) fn run(setup: &Setup) -> Result<Report> {
    let server = |name, runtime: &str, moves| {
        let mut serve = Serve::new(setup);
        // Storing waits until the load is over, because it is the same behind every front end.
        serve.extra.extend(["flush-interval=10s".to_owned(), format!("runtime={runtime}")]);
        FrontEnd { name, system: System::Firehose(serve), moves }
    };
    let peer = |system: System| FrontEnd { name: system.name(), system, moves: false };
    let front_ends = [
        server(LOOP, "auto", false),
        server(GLOMMIO, "io_uring", true),
        server(TOKIO, "epoll", true),
        peer(System::Epoll { level: false }),
        peer(System::Hyper { glommio: true }),
        peer(System::Hyper { glommio: false }),
    ];
    peer::check(&front_ends.each_ref().map(|front_end| front_end.system.clone()))?;
    let counting = perf::is_available();
    if !counting {
        eprintln!("perf cannot trace here: no system calls (apt-get install linux-perf, run as root)");
    }
    let mut report = Report::new("front-ends");
    for depth in DEPTHS {
        for connections in setup.connection_counts(&[1, 64, 256]) {
            let case = format!("{connections} connections, {depth} deep");
            for round in 0..setup.rounds {
                for front_end in &front_ends {
                    let shape = Shape { depth, ..Shape::events(connections) };
                    let result = one_round(setup, front_end, shape, counting && round == 0)
                        .with_context(|| format!("{}, round {}", front_end.name, round + 1))?;
                    report.record(&case, front_end.name, round, result);
                }
            }
            if connections >= BAR_CONNECTIONS_MIN {
                bars(&mut report, &case);
            }
        }
    }
    Ok(report)
}

fn bars(report: &mut Report, case: &str) {
    for hyper in [GLOMMIO, TOKIO] {
        let cpu = report.ratio((case, hyper, "cpu_us"), (case, LOOP, "cpu_us"));
        report.bar(format!("{case}: CPU per request, {hyper} / {LOOP}"), Limit::AtLeast(CPU_RATIO_MIN), cpu);
    }
}

fn one_round(setup: &Setup, front_end: &FrontEnd, shape: Shape, counting: bool) -> Result<Round> {
    let mut running = front_end.system.start(setup)?;
    if front_end.moves {
        check_moved(&running)?;
    }
    let first = front_end.moves.then(|| moving_request(&running));
    let load = load::start(running.addr, &Shape { first, ..shape }, &setup.load_cores)?;
    process::pause(WARM_UP)?;
    let measured = measure(setup, &running)?;
    let counted = if counting { Some(count(setup, &running)?) } else { None };
    let answers = load.stop().map_err(|error| running.with_log(error))?;
    let figures = figures(&measured, counted, &answers)?;
    if running.keeps_count {
        running.stop().context("after the load")?;
    }
    let bad = answers.refused + answers.lost;
    let fault = (bad > 0).then(|| {
        format!("{} answers that are not 202, {} requests without an answer", answers.refused, answers.lost)
    });
    Ok(Round { figures, fault })
}

/// The first request of a connection that moves to the executor.
fn moving_request(running: &Running) -> Vec<u8> {
    format!("GET /dashboard/state HTTP/1.1\r\nHost: {}\r\n\r\n", running.addr).into_bytes()
}

/// Checks what the comparison assumes: a moved connection is served by the executor, with the same response.
fn check_moved(running: &Running) -> Result<()> {
    let event = http::event_request(running.addr);
    let (mut stays, mut moves) = (http::connect(running.addr)?, http::connect(running.addr)?);
    let (_, by_loop) = http::exchange_on(&mut stays, &event)?;
    let (status, state) = http::exchange_on(&mut moves, &moving_request(running))?;
    ensure!(status == 200, "{}", String::from_utf8_lossy(&state));
    let (_, by_hyper) = http::exchange_on(&mut moves, &event)?;
    let (by_loop, by_hyper) = (Answer::parse(&by_loop)?, Answer::parse(&by_hyper)?);
    ensure!(by_loop.receipt.lane.is_hot(), "the event loop did not answer");
    ensure!(!by_hyper.receipt.lane.is_hot(), "the executor did not answer");
    ensure!(by_loop.lines == by_hyper.lines, "{:?} is not {:?}", by_loop.lines, by_hyper.lines);
    Ok(())
}

/// A 202 without what differs between any two of them: the order and case of header names, the date and the ids.
struct Answer {
    lines: Vec<String>,
    receipt: Receipt,
}

impl Answer {
    fn parse(bytes: &[u8]) -> Result<Answer> {
        let mut receipt = None;
        let mut lines = Vec::new();
        for line in std::str::from_utf8(bytes)?.lines() {
            let Some((name, value)) = line.split_once(": ") else {
                lines.push(line.to_owned());
                continue;
            };
            let name = name.to_ascii_lowercase();
            if name == "firehose-receipt" {
                receipt = value.parse().ok();
            }
            let differs = ["date", "x-request-id", "firehose-receipt"].contains(&name.as_str());
            lines.push(format!("{name}: {}", if differs { "" } else { value }));
        }
        lines.sort_unstable();
        Ok(Answer { lines, receipt: receipt.context("a 202 without a receipt")? })
    }
}

/// The measurements during the load, by time. The load itself counts the requests.
struct Measured {
    start_us: u64,
    end_us: u64,
    /// Nanoseconds of CPU.
    cpu_ns: Vec<(&'static str, u64)>,
    server_busy: f64,
    load_busy: f64,
}

fn measure(setup: &Setup, running: &Running) -> Result<Measured> {
    let pid = running.process.pid();
    let (cores_before, cpu_before) = (CoreTimes::read()?, CpuTimes::of(pid)?);
    let start_us = clock::monotonic_us();
    process::pause(Duration::from_secs(setup.seconds))?;
    let (cpu, end_us) = (CpuTimes::of(pid)?, clock::monotonic_us());
    let cores = CoreTimes::read()?;
    let mut cpu_ns = Vec::new();
    for (role, figure) in ROLES {
        cpu_ns.extend(cpu.role_since(&cpu_before, role).map(|ns| (figure, ns)));
    }
    // Storing is the same behind every front end, and none of their work.
    let storing = cpu.role_since(&cpu_before, "write").unwrap_or(0);
    cpu_ns.push(("cpu_us", cpu.total_since(&cpu_before).saturating_sub(storing)));
    Ok(Measured {
        start_us,
        end_us,
        cpu_ns,
        server_busy: cores.busy_since(&cores_before, &setup.server_cores),
        load_busy: cores.busy_since(&cores_before, &setup.load_cores),
    })
}

/// System calls, and the period in which they were counted.
struct Counted {
    start_us: u64,
    end_us: u64,
    system_calls: Option<u64>,
}

/// Counts under the same load, after the measurement, because tracing slows the server.
fn count(setup: &Setup, running: &Running) -> Result<Counted> {
    let start_us = clock::monotonic_us();
    let (pid, folder) = (running.process.pid(), running.folder.path());
    let counts = perf::count(pid, COUNT_SECONDS, folder, &setup.load_cores)?;
    Ok(Counted { start_us, end_us: clock::monotonic_us(), system_calls: counts.system_calls })
}

fn figures(measured: &Measured, counted: Option<Counted>, answers: &Answers) -> Result<Figures> {
    let span = answers.between(measured.start_us, measured.end_us)?;
    let mut figures = Figures::new();
    figures.insert("requests_per_s", span.answered_per_s);
    figures.insert("p50_us", span.p50_us);
    figures.insert("p99_us", span.p99_us);
    figures.insert("p999_us", span.p999_us);
    figures.insert("server_busy_ratio", measured.server_busy);
    figures.insert("load_busy_ratio", measured.load_busy);
    let seconds = (measured.end_us - measured.start_us) as f64 / 1e6;
    for (figure, ns) in &measured.cpu_ns {
        figures.insert(figure, *ns as f64 / 1e3 / seconds / span.answered_per_s.max(1.0));
    }
    if let Some(counted) = counted
        && let Some(calls) = counted.system_calls
    {
        // Starting perf takes time, so the calls are those of a second, and the requests those of a usual one.
        let rate = answers.between(counted.start_us, counted.end_us)?.answered_per_s;
        figures.insert("system_calls", calls as f64 / COUNT_SECONDS as f64 / rate.max(1.0));
    }
    Ok(figures)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_both_lanes_are_equal_except_for_order_case_and_ids() -> Result<()> {
        let hot = "HTTP/1.1 202 Accepted\r\nDate: a\r\nFirehose-Ack: os\r\nFirehose-Receipt: 0-64\r\n\r\n{}";
        let other =
            "HTTP/1.1 202 Accepted\r\nfirehose-receipt: 0-129\r\nfirehose-ack: os\r\ndate: b\r\n\r\n{}";
        let (first, second) = (Answer::parse(hot.as_bytes())?, Answer::parse(other.as_bytes())?);
        assert_eq!(first.lines, second.lines);
        assert_eq!((first.receipt.lane.is_hot(), second.receipt.lane.is_hot()), (true, false));
        let changed = Answer::parse(other.replace("ack: os", "ack: disk").as_bytes())?;
        assert_ne!(first.lines, changed.lines);
        assert!(Answer::parse(b"HTTP/1.1 202 Accepted\r\n\r\n").is_err());
        Ok(())
    }
}
