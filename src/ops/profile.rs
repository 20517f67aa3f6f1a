//! Flame graphs of this process, sampled from within: where the CPU time goes, thread by thread.
//!
//! In: how long and how often. Out: an SVG, folded by function with the thread's name at the root.
//! Owns: SIGPROF and ITIMER_PROF while one is taken. Never: two at a time, or a wait on a serving
//! thread.
//!
//! A signal that the kernel sends to a thread after each 1/hz seconds of CPU time of the process
//! interrupts it for some 20 us. Any system call of any thread may return EINTR meanwhile: `epoll_wait`
//! and `io_uring_enter` always, the restartable ones never (the signal is set up with SA_RESTART).
//! Frames are walked by frame pointers (the build forces them): no unwinder, no lock, no allocation.
//! That walk begins at the caller of the running function, so that a leaf's own time stands with its
//! caller; C functions without frame pointers hide theirs likewise. Samples of a program that waits
//! do not exist: this is CPU time only. The sampler keeps its samples in a temporary file.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use inferno::flamegraph::{self, Options};
use pprof::{ProfilerGuardBuilder, Report};

use crate::base::clock;

/// Longest sampling: an operator waits for the answer on an open connection.
pub const PROFILE_SECONDS_MAX: u64 = 60;

/// Usual samples per second of CPU time; not a divisor of anything that ticks.
pub const PROFILE_HZ: u32 = 99;

/// Most samples per second: the kernel's own tick is no finer.
const HZ_MAX: u32 = 1000;

/// Why there is no flame graph.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// Somebody else's is being taken: try again when it is done.
    #[error("a profile is being taken already; one at a time")]
    Busy,
    /// The caller's to mend.
    #[error("seconds must be 1 to {PROFILE_SECONDS_MAX} and hz 1 to {HZ_MAX}")]
    Range,
    /// The machine's: most likely no folder for temporary files.
    #[error("the sampler did not start: {0}")]
    Sampler(#[from] pprof::Error),
    /// Every thread slept all the time.
    #[error("no thread used the CPU in that time")]
    Idle,
    #[error("the graph could not be drawn: {0}")]
    Drawing(std::io::Error),
}

/// Samples this process for `seconds` and draws what it saw; blocks the calling thread for that long,
/// and for about a second more while names are looked up, so call it on a thread of its own.
///
/// # Errors
/// When another one is under way, the numbers are out of range, nothing ran, or the sampler fails.
pub fn flamegraph(seconds: u64, hz: u32) -> Result<Vec<u8>, ProfileError> {
    if !(1..=PROFILE_SECONDS_MAX).contains(&seconds) || !(1..=HZ_MAX).contains(&hz) {
        return Err(ProfileError::Range);
    }
    let _turn = Turn::take()?;
    let sampler = ProfilerGuardBuilder::default().frequency(hz as i32).build()?;
    clock::pause(Duration::from_secs(seconds));
    let report = sampler.report().build()?;
    drop(sampler);
    let folded = fold(&report);
    if folded.is_empty() {
        return Err(ProfileError::Idle);
    }
    draw(&folded, seconds, hz)
}

/// The right to take a profile; one in the process.
struct Turn;

static TAKEN: AtomicBool = AtomicBool::new(false);

impl Turn {
    fn take() -> Result<Turn, ProfileError> {
        match TAKEN.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => Ok(Turn),
            Err(_) => Err(ProfileError::Busy),
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        TAKEN.store(false, Ordering::Release);
    }
}

/// One line a stack, `thread;outermost;…;innermost count`: the form that flame graphs are drawn from.
fn fold(report: &Report) -> String {
    let mut folded = String::new();
    for (stack, count) in &report.data {
        folded.push_str(&stack.thread_name_or_id().replace(';', ":"));
        // A frame holds the functions inlined into it, innermost first, as the frames themselves are.
        for function in stack.frames.iter().rev().flat_map(|frame| frame.iter().rev()) {
            _ = write!(folded, ";{}", function.name().replace(';', ":").replace('\n', " "));
        }
        _ = writeln!(folded, " {count}");
    }
    folded
}

fn draw(folded: &str, seconds: u64, hz: u32) -> Result<Vec<u8>, ProfileError> {
    let mut options = Options::default();
    options.title = "firehose: CPU time by thread and function".to_owned();
    options.subtitle = Some(format!("{seconds} s at {hz} samples per second of CPU time"));
    let mut svg = Vec::new();
    flamegraph::from_lines(&mut options, folded.lines(), &mut svg).map_err(ProfileError::Drawing)?;
    Ok(svg)
}
