//! Flame graphs of this process, sampled from within: CPU time by thread and function.
//!
//! In: duration and rate. Out: an SVG, folded by function with the thread's name at the root. Owns: SIGPROF and
//! ITIMER_PROF during a profile. Never: takes two profiles at a time, or makes a serving thread wait.
//!
//! After every 1/hz seconds of the process's CPU time, a signal interrupts the thread that uses the CPU. During a
//! profile, system calls may return EINTR: `epoll_wait` and `io_uring_enter` always, the restartable ones never
//! (SA_RESTART). A waiting thread has no samples, because only CPU time is measured. Time in the kernel is attributed
//! to the C function that made the system call. Names are looked up afterwards, from the symbols of the binary. The
//! lookup takes about a second of CPU time and, temporarily, tens of megabytes.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use inferno::flamegraph::{self, Options};

use super::sampler::{self, Samples};

/// The longest sampling time. An operator waits for the response on an open connection.
pub const PROFILE_SECONDS_MAX: u64 = 60;

/// The default number of samples per second of CPU time. It does not divide common timer rates.
pub const PROFILE_HZ: u32 = 99;

/// The maximum number of samples per second. The kernel's own tick is not finer.
const HZ_MAX: u32 = 1000;

/// Why there is no flame graph.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// Another profile is running. Retry when it is finished.
    #[error("a profile is already running; only one can run at a time")]
    Busy,
    /// A number is out of range. The caller can correct it.
    #[error("seconds must be 1 to {PROFILE_SECONDS_MAX} and hz 1 to {HZ_MAX}")]
    Range,
    /// The machine prevents sampling: a sandbox permits no timer, or hides `/proc`.
    #[error("the sampler did not start: {0}")]
    Sampler(std::io::Error),
    #[error("the graph could not be drawn: {0}")]
    Drawing(std::io::Error),
}

/// Samples this process for `seconds` and draws the result. Blocks the calling thread for that time, and for about
/// another second while names are looked up, so call this function on a separate thread.
///
/// # Errors
/// Returns an error if another profile is running, the numbers are out of range, or the sampler fails.
pub fn flamegraph(seconds: u64, hz: u32) -> Result<Vec<u8>, ProfileError> {
    if !(1..=PROFILE_SECONDS_MAX).contains(&seconds) || !(1..=HZ_MAX).contains(&hz) {
        return Err(ProfileError::Range);
    }
    let _turn = Turn::try_acquire()?;
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let samples = sampler::sample(Duration::from_secs(seconds), hz, cpus).map_err(ProfileError::Sampler)?;
    let folded = fold(&samples);
    if folded.is_empty() {
        return Ok(idle(seconds));
    }
    draw(&folded, seconds, hz, samples.lost)
}

/// Permission to take a profile; one per process.
struct Turn;

static TAKEN: AtomicBool = AtomicBool::new(false);

impl Turn {
    fn try_acquire() -> Result<Turn, ProfileError> {
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

/// Returns one line per call chain, `thread;outermost;…;innermost count`, which is the input of flame graphs.
fn fold(samples: &Samples) -> String {
    let mut names = HashMap::new();
    let mut folded = String::new();
    for chain in &samples.chains {
        folded.push_str(&chain.thread.replace(';', ":"));
        for (depth, address) in chain.addresses.iter().enumerate().rev() {
            // A return address is after its call, possibly in the next function.
            let address = if depth == 0 { *address } else { address - 1 };
            folded.push_str(names.entry(address).or_insert_with(|| functions(address)));
        }
        _ = writeln!(folded, " {}", chain.count);
    }
    backtrace::clear_symbol_cache();
    folded
}

/// Returns `;outer;inner` for the function at an address and those inlined into it there.
fn functions(address: usize) -> String {
    let mut inwards = Vec::new();
    backtrace::resolve(address as *mut std::ffi::c_void, |symbol| {
        if let Some(name) = symbol.name() {
            // The alternate form omits the hash.
            inwards.push(format!("{name:#}").replace(';', ":").replace('\n', " "));
        }
    });
    if inwards.is_empty() {
        return ";[unknown]".to_owned();
    }
    inwards.iter().rev().fold(String::new(), |functions, name| functions + ";" + name)
}

/// Returns the graph of a process whose threads all slept: an image whose text reports this.
fn idle(seconds: u64) -> Vec<u8> {
    format!(
        "<?xml version=\"1.0\" standalone=\"no\"?>\n\
         <svg version=\"1.1\" width=\"1200\" height=\"90\" viewBox=\"0 0 1200 90\" \
         xmlns=\"http://www.w3.org/2000/svg\">\n\
         <title>firehose: CPU time by thread and function</title>\n\
         <text x=\"600\" y=\"50\" text-anchor=\"middle\" font-family=\"monospace\" font-size=\"17\">\
         No thread used the CPU in {seconds} s: the server was idle.</text>\n</svg>\n"
    )
    .into_bytes()
}

fn draw(folded: &str, seconds: u64, hz: u32, lost: u64) -> Result<Vec<u8>, ProfileError> {
    let mut options = Options::default();
    options.title = "firehose: CPU time by thread and function".to_owned();
    let lost = if lost == 0 { String::new() } else { format!(", {lost} samples lost for lack of space") };
    options.subtitle = Some(format!("{seconds} s at {hz} samples per second of CPU time{lost}"));
    let mut svg = Vec::new();
    flamegraph::from_lines(&mut options, folded.lines(), &mut svg).map_err(ProfileError::Drawing)?;
    Ok(svg)
}
