//! Profiles of this process, sampled from within: CPU time by thread and function.
//!
//! In: duration, rate and format. Out: a flame graph, folded text, or a file for `pprof`. Owns: during a profile, the
//! events of the kernel (`profile/events.rs`), or SIGPROF and ITIMER_PROF (`profile/signals.rs`). Never: takes two
//! profiles at a time, makes a serving thread wait, or costs anything while none runs.
//!
//! If the kernel permits it, it samples the threads itself, with its own functions. Otherwise a signal interrupts the
//! thread that uses the CPU. Then system calls may return EINTR: `epoll_wait` and `io_uring_enter` always, the
//! restartable ones never (SA_RESTART), and the inside of the kernel is one box. A waiting thread has no samples,
//! because only CPU time is measured. Names are looked up afterwards, from the symbols of the binary. The lookup takes
//! about a second of CPU time and, temporarily, tens of megabytes.

mod events;
mod graph;
mod kernel;
mod names;
mod pprof;
mod samples;
mod signals;
mod stacks;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use samples::Samples;
use stacks::Stacks;

/// The longest sampling time. An operator waits for the response on an open connection.
pub const PROFILE_SECONDS_MAX: u64 = 60;

/// The default number of samples per second of CPU time. It does not divide common timer rates.
pub const PROFILE_HZ: u32 = 99;

/// The maximum number of samples per second. The kernel's own tick is not finer.
const HZ_MAX: u32 = 1000;

/// The form of a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProfileFormat {
    /// A flame graph.
    Svg,
    /// One line per stack, `thread;outermost;…;innermost count`, as tools for flame graphs read it.
    Collapsed,
    /// A gzipped `profile.proto`, as `go tool pprof` and speedscope read it.
    Pprof,
}

impl ProfileFormat {
    /// The accepted values of `format`.
    pub const NAMES: &str = "svg, collapsed or pprof";

    #[must_use]
    pub fn from_name(name: &str) -> Option<ProfileFormat> {
        match name {
            "svg" => Some(ProfileFormat::Svg),
            "collapsed" => Some(ProfileFormat::Collapsed),
            "pprof" => Some(ProfileFormat::Pprof),
            _ => None,
        }
    }
}

/// Why there is no profile.
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
    Sampler(io::Error),
    #[error("the profile could not be written: {0}")]
    Writing(io::Error),
}

/// Samples this process for `seconds` and returns the result. Blocks the calling thread for that time, and for about
/// another second while names are looked up, so call this function on a separate thread.
///
/// # Errors
/// Returns an error if another profile is running, the numbers are out of range, or the sampler fails.
pub fn profile(seconds: u64, hz: u32, format: ProfileFormat) -> Result<Vec<u8>, ProfileError> {
    if !(1..=PROFILE_SECONDS_MAX).contains(&seconds) || !(1..=HZ_MAX).contains(&hz) {
        return Err(ProfileError::Range);
    }
    let _turn = Turn::try_acquire()?;
    let stacks = Stacks::of(&sample(seconds, hz).map_err(ProfileError::Sampler)?);
    match format {
        ProfileFormat::Svg => graph::draw(&stacks, seconds, hz),
        ProfileFormat::Collapsed => Ok(stacks.collapsed().into_bytes()),
        ProfileFormat::Pprof => pprof::encode(&stacks, seconds, hz),
    }
    .map_err(ProfileError::Writing)
}

/// Samples by the kernel's events if it permits them, and otherwise by signals.
fn sample(seconds: u64, hz: u32) -> io::Result<Samples> {
    let time = Duration::from_secs(seconds);
    match events::sample(time, hz) {
        Ok(samples) => Ok(samples),
        Err(error) => {
            tracing::debug!(%error, "the kernel does not sample this process; signals do");
            let cpus = std::thread::available_parallelism().map_or(1, usize::from);
            signals::sample(time, hz, cpus)
        }
    }
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read as _;

    use super::stacks::KERNEL_HIDDEN;
    use super::*;
    use crate::base::clock;

    /// Returns the folded stacks of a thread that uses the kernel while `sample` runs.
    fn folded_reader(sample: impl FnOnce() -> io::Result<Samples>) -> io::Result<Vec<String>> {
        let (say_end, end) = async_channel::bounded::<()>(1);
        let reader = std::thread::Builder::new().name("kernel-reader".to_owned()).spawn(move || {
            let mut zeros = fs::File::open("/dev/zero").unwrap();
            let mut bytes = vec![1; 1 << 20];
            while end.try_recv() == Err(async_channel::TryRecvError::Empty) {
                zeros.read_exact(&mut bytes).unwrap();
            }
        });
        let samples = sample();
        say_end.send_blocking(()).unwrap();
        reader?.join().unwrap();
        let stacks = Stacks::of(&samples?);
        let lines = stacks.collapsed().lines().map(str::to_owned).collect::<Vec<_>>();
        Ok(lines.into_iter().filter(|line| line.starts_with("kernel-reader;")).collect())
    }

    #[test]
    fn time_in_the_kernel_has_its_functions_or_one_box() {
        // A sampler that reads signals is the only one in the process.
        let _turn = loop {
            match Turn::try_acquire() {
                Ok(turn) => break turn,
                Err(_) => clock::pause(Duration::from_millis(20)),
            }
        };
        let time = Duration::from_millis(500);
        let signals = folded_reader(|| signals::sample(time, 499, 2)).unwrap();
        assert!(signals.iter().any(|line| line.contains(KERNEL_HIDDEN)), "{signals:#?}");
        match folded_reader(|| events::sample(time, 499)) {
            Ok(events) => {
                assert!(events.iter().any(|line| line.contains("_[k]")), "{events:#?}");
                assert!(!events.iter().any(|line| line.contains(KERNEL_HIDDEN)), "{events:#?}");
                let begins = |line: &String| line.starts_with("kernel-reader;firehose::ops::profile::");
                assert!(events.iter().any(begins), "{events:#?}");
            }
            Err(error) => eprintln!("skipped the kernel's events: {error}"),
        }
    }
}
