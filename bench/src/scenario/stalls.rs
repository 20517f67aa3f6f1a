//! `stalls`: minutes of `POST /events` on 256 connections, and each period in which a response took over 100 ms. Two
//! witnesses run meanwhile: a timer of real-time priority on each core, which is late only if the host took the core,
//! and direct writes to blocks of a file that exist already, which wait only for the device. A stall belongs to the
//! machine if a witness was late during at least half of it.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use firehose::base::clock;

use super::commits;
use crate::closed::{self, Answered, Requests, Slow};
use crate::peer::{Serve, System};
use crate::process;
use crate::report::{Limit, Report};
use crate::run::{Figures, Round};
use crate::setup::{Folder, Setup};

const CONNECTIONS: usize = 256;
const WARM_UP: Duration = Duration::from_secs(2);
/// A response that takes longer belongs to a stall.
const STALL_US: u64 = 100_000;
/// The witnesses look this often, and note what is later than this.
const STEP: Duration = Duration::from_millis(5);
const LATE_US: u64 = 10_000;
/// The witness of the device writes a block of this size, which must be aligned.
const BLOCK: usize = 4096;

/// A period on the monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Period {
    from_us: u64,
    to_us: u64,
}

impl Period {
    fn length_us(self) -> u64 {
        self.to_us.saturating_sub(self.from_us)
    }

    fn shared_us(self, other: Period) -> u64 {
        self.to_us.min(other.to_us).saturating_sub(self.from_us.max(other.from_us))
    }
}

pub(crate) fn run(setup: &Setup) -> Result<Report> {
    let mut report = Report::new("stalls");
    let case = format!("POST /events, {CONNECTIONS} connections, {} s", setup.seconds);
    for round in 0..setup.rounds {
        report.record(&case, "firehose", round, measure(setup)?);
    }
    let unexplained = report.worst(&case, "firehose", "unexplained_stalls");
    let text = format!("{case}: stalls over {} ms that no witness explains", STALL_US / 1_000);
    report.bar(text, Limit::AtMost(0.0), unexplained);
    Ok(report)
}

fn measure(setup: &Setup) -> Result<Round> {
    let extra = vec!["flush-interval=1ms".to_owned()];
    let mut running = System::Firehose(Serve { extra, ..Serve::new(setup) }).start(setup)?;
    let witness_folder = Folder::new(&setup.data_root)?;
    let mut requests = Requests { slow_us: STALL_US, ..Requests::new(&commits::event, 201) };
    closed::load(running.addr, CONNECTIONS, WARM_UP, &mut requests)?;
    let is_over = AtomicBool::new(false);
    let cores: Vec<usize> = setup.server_cores.iter().chain(&setup.load_cores).copied().collect();
    let (answered, late, device) = std::thread::scope(|scope| {
        let is_over = &is_over;
        let timers: Vec<_> =
            cores.iter().map(|core| scope.spawn(move || late_timer(*core, is_over))).collect();
        let path = witness_folder.path().join("blocks");
        let device = scope.spawn(move || late_writes(&path, is_over));
        let time = Duration::from_secs(setup.seconds);
        let answered = closed::load(running.addr, CONNECTIONS, time, &mut requests);
        is_over.store(true, Ordering::Relaxed);
        let mut late = Vec::new();
        for timer in timers {
            late.extend(timer.join().ok().context("a witness panicked")??);
        }
        let device = device.join().ok().context("a witness panicked")??;
        anyhow::Ok((answered?, late, device))
    })?;
    running.stop()?;
    Ok(round(&answered, &late, &device))
}

fn round(answered: &Answered, late: &[Period], device: &[Period]) -> Round {
    let stalls = joined(&answered.slow);
    let is_explained = |stall: &Period| {
        let share = |witness: &[Period]| witness.iter().map(|late| stall.shared_us(*late)).sum::<u64>();
        share(late).max(share(device)) * 2 >= stall.length_us()
    };
    let unexplained: Vec<Period> = stalls.iter().copied().filter(|stall| !is_explained(stall)).collect();
    for stall in &unexplained {
        let near =
            |witness: &[Period]| witness.iter().map(|late| stall.shared_us(*late)).sum::<u64>() / 1_000;
        eprintln!(
            "[stalls] at {} ms for {} ms, of which the host took {} ms and the device {} ms",
            stall.from_us / 1_000,
            stall.length_us() / 1_000,
            near(late),
            near(device),
        );
    }
    let longest = |periods: &[Period]| periods.iter().map(|period| period.length_us()).max().unwrap_or(0);
    let ms = |us: u64| us as f64 / 1e3;
    let latency = |quantile| ms(answered.latency_us.value_at_quantile(quantile));
    let figures = Figures::from([
        ("requests_per_s", answered.count as f64 / answered.time.as_secs_f64()),
        ("p99_ms", latency(0.99)),
        ("p999_ms", latency(0.999)),
        ("max_ms", ms(answered.latency_us.max())),
        ("stalls", stalls.len() as f64),
        ("unexplained_stalls", unexplained.len() as f64),
        ("unexplained_max_ms", ms(longest(&unexplained))),
        ("host_late_max_ms", ms(longest(late))),
        ("device_late_max_ms", ms(longest(device))),
    ]);
    let odd = answered.odd;
    Round { figures, fault: (odd > 0).then(|| format!("{odd} answers had another status")) }
}

/// Joins the waits of all connections that overlap into stalls.
fn joined(slow: &[Slow]) -> Vec<Period> {
    let period = |slow: &Slow| Period { from_us: slow.sent_us, to_us: slow.sent_us + slow.latency_us };
    let mut waits: Vec<Period> = slow.iter().map(period).collect();
    waits.sort_by_key(|wait| wait.from_us);
    let mut stalls: Vec<Period> = Vec::new();
    for wait in waits {
        match stalls.last_mut().filter(|last| wait.from_us <= last.to_us) {
            Some(last) => last.to_us = last.to_us.max(wait.to_us),
            None => stalls.push(wait),
        }
    }
    stalls
}

/// Sleeps in steps on a core before all other threads, and returns the periods in which it was not woken in time.
fn late_timer(core: usize, is_over: &AtomicBool) -> Result<Vec<Period>> {
    process::pin_here(&[core])?;
    process::become_real_time()?;
    watch(is_over, || Ok(()))
}

/// Writes a block past the page cache in steps, and returns the periods in which that was late.
fn late_writes(path: &Path, is_over: &AtomicBool) -> Result<Vec<Period>> {
    let mut padded = vec![0_u8; 2 * BLOCK];
    let at = padded.as_ptr().align_offset(BLOCK);
    let block = &mut padded[at..at + BLOCK];
    let created = File::create(path)?;
    created.write_all_at(block, 0)?;
    created.sync_all()?;
    let file = OpenOptions::new().write(true).custom_flags(libc::O_DIRECT).open(path)?;
    watch(is_over, || Ok(file.write_all_at(block, 0)?))
}

fn watch(is_over: &AtomicBool, mut act: impl FnMut() -> Result<()>) -> Result<Vec<Period>> {
    let mut late = Vec::new();
    while !is_over.load(Ordering::Relaxed) {
        let from_us = clock::monotonic_us();
        act()?;
        clock::pause(STEP);
        let period = Period { from_us, to_us: clock::monotonic_us() };
        if period.length_us() > LATE_US + STEP.as_micros() as u64 {
            late.push(period);
        }
    }
    Ok(late)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slow(sent_us: u64, latency_us: u64) -> Slow {
        Slow { sent_us, latency_us }
    }

    #[test]
    fn waits_that_overlap_are_one_stall() {
        let stalls = joined(&[slow(900, 50), slow(0, 100), slow(100, 20), slow(50, 10)]);
        let of = |from_us, to_us| Period { from_us, to_us };
        assert_eq!(stalls, [of(0, 120), of(900, 950)]);
    }

    #[test]
    fn a_stall_needs_a_witness_for_half_of_it() {
        let answered = |slow| Answered {
            count: 1,
            odd: 0,
            latency_us: hdrhistogram::Histogram::new(3).expect("a histogram"),
            time: Duration::from_secs(1),
            slow,
        };
        let witness = [Period { from_us: 50, to_us: 100 }];
        let unexplained = |slow: Vec<Slow>, host: &[Period], device: &[Period]| {
            round(&answered(slow), host, device).figures["unexplained_stalls"]
        };
        assert_eq!(unexplained(vec![slow(0, 100)], &witness, &[]), 0.0);
        assert_eq!(unexplained(vec![slow(0, 100)], &[], &witness), 0.0);
        assert_eq!(unexplained(vec![slow(0, 101)], &witness, &[]), 1.0);
        assert_eq!(unexplained(vec![slow(0, 100), slow(500, 10)], &witness, &[]), 1.0);
    }
}
