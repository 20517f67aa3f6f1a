//! Call chains of the threads that use the CPU, sampled by a signal handler, where the kernel does not sample.
//!
//! In: seconds, rate. Out: call chains by thread, as addresses. Owns: SIGPROF and ITIMER_PROF. Never: allocates,
//! takes a lock, calls an unwinder or makes a failing system call within the handler, because the handler may have
//! interrupted any of these.
//!
//! Frames are found by frame pointers, which the build enables: each frame points to its caller's frame, in the
//! layout of the ABI. The handler reads only words of the interrupted thread's own stack, between its stack pointer
//! and the end of its mapping, which `/proc/self/maps` showed before the first sample. A frame pointer outside this
//! range ends the walk. If code is built without frame pointers (libc), its caller is missing from the chain, but the
//! code itself is not. A sample takes about 5 us, nearly all of which the kernel needs to deliver the signal.
#![allow(
    unsafe_code,
    reason = "pprof's walk starts at the caller of the running function (recv and send, most of a \
              listener's time, were not on its graphs) and costs two system calls a frame"
)]

use std::collections::HashMap;
use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use super::samples::{Chain, Samples, thread_names};
use crate::base::clock;

/// The number of frames kept per sample, innermost first. The stacks of async servers have about 40.
const FRAMES_MAX: usize = 62;

/// The number of samples kept, at 512 bytes each. Sampling two CPUs for 60 s at 99 Hz yields 11,880.
const SAMPLES_MAX: usize = 65_536;

/// One sample; `depth` is written last.
struct Slot {
    thread: AtomicU32,
    depth: AtomicU32,
    addresses: [AtomicUsize; FRAMES_MAX],
}

/// The data of the handler, immutable except for the slots.
struct Sampling {
    /// Start and end of the mappings that may be stacks, ascending.
    stacks: Vec<(usize, usize)>,
    slots: Vec<Slot>,
    /// The number of requested samples, including those for which there was no space.
    taken: AtomicUsize,
}

/// The pointer that the handler reads; null while no sampling runs.
static SAMPLING: AtomicPtr<Sampling> = AtomicPtr::new(ptr::null_mut());

/// The number of running handlers. Their data must remain until there are none.
static RUNNING: AtomicUsize = AtomicUsize::new(0);

/// Samples this process for `time`. The caller ensures that only one sampling runs at a time.
///
/// # Errors
/// Returns an error if the signal or the timer is refused, or `/proc` cannot be read.
pub(super) fn sample(time: Duration, hz: u32, cpus: usize) -> io::Result<Samples> {
    let room = (time.as_secs() as usize + 1).saturating_mul(hz as usize).saturating_mul(cpus.max(1));
    let slot = || Slot {
        thread: AtomicU32::new(0),
        depth: AtomicU32::new(0),
        addresses: [const { AtomicUsize::new(0) }; FRAMES_MAX],
    };
    let sampling = Box::new(Sampling {
        stacks: stacks()?,
        slots: std::iter::repeat_with(slot).take(room.min(SAMPLES_MAX)).collect(),
        taken: AtomicUsize::new(0),
    });
    let mut names = thread_names()?;
    install()?;
    let sampling = Box::into_raw(sampling);
    SAMPLING.store(sampling, Ordering::SeqCst);
    let started = set_timer(1_000_000 / i64::from(hz.max(1)));
    if started.is_ok() {
        clock::pause(time);
    }
    let stopped = set_timer(0);
    SAMPLING.store(ptr::null_mut(), Ordering::SeqCst);
    // Every handler that saw the pointer is counted in `RUNNING`. A handler needs a microsecond of CPU time once it
    // is scheduled.
    while RUNNING.load(Ordering::SeqCst) != 0 {
        clock::pause(Duration::from_micros(100));
    }
    // SAFETY: `into_raw` above created the pointer, and no handler can reach it any more.
    let sampling = unsafe { Box::from_raw(sampling) };
    started.and(stopped)?;
    // Threads may have started or ended in the meantime. A thread id that was reused gets the later name.
    names.extend(thread_names()?);
    Ok(sampling.collect(&names))
}

impl Sampling {
    /// Records one sample. The handler calls it, so it uses only plain memory and reads the interrupted thread's
    /// stack.
    fn record(&self, thread: u32, registers: Registers) {
        let Some(slot) = self.slots.get(self.taken.fetch_add(1, Ordering::Relaxed)) else { return };
        slot.thread.store(thread, Ordering::Relaxed);
        slot.addresses[0].store(registers.instruction, Ordering::Relaxed);
        let mut depth = 1;
        let mut low = registers.stack;
        let mut frame = registers.frame;
        if let Some(end) = self.end_of_stack(low) {
            let last = end - 2 * size_of::<usize>();
            while depth < FRAMES_MAX && frame >= low && frame <= last && frame.is_multiple_of(8) {
                // SAFETY: aligned, and both words are between the stack pointer of the interrupted thread and the end
                // of the mapping of its stack.
                let [next, back] = unsafe { *(frame as *const [usize; 2]) };
                if back == 0 {
                    break;
                }
                slot.addresses[depth].store(back, Ordering::Relaxed);
                depth += 1;
                // Callers' frames have higher addresses, so the walk always ends.
                (low, frame) = (frame + 1, next);
            }
        }
        slot.depth.store(depth as u32, Ordering::Release);
    }

    fn end_of_stack(&self, stack: usize) -> Option<usize> {
        let after = self.stacks.partition_point(|(start, _)| *start <= stack);
        let (_, end) = self.stacks.get(after.checked_sub(1)?)?;
        (stack < *end).then_some(*end)
    }

    fn collect(&self, names: &HashMap<u32, String>) -> Samples {
        let mut counts = HashMap::<(&str, Vec<usize>), u64>::new();
        for slot in &self.slots {
            let depth = slot.depth.load(Ordering::Acquire) as usize;
            if depth > 0 {
                let addresses = slot.addresses[..depth].iter().map(|word| word.load(Ordering::Relaxed));
                let name = names.get(&slot.thread.load(Ordering::Relaxed)).map_or("?", String::as_str);
                *counts.entry((name, addresses.collect())).or_default() += 1;
            }
        }
        let chain = |((thread, addresses), count): ((&str, Vec<usize>), u64)| Chain {
            thread: thread.to_owned(),
            kernel: Vec::new(),
            addresses,
            count,
        };
        let lost = self.taken.load(Ordering::Relaxed).saturating_sub(self.slots.len());
        Samples { chains: counts.into_iter().map(chain).collect(), lost: lost as u64, has_kernel: false }
    }
}

/// The three registers at the start of a walk.
#[derive(Clone, Copy)]
struct Registers {
    instruction: usize,
    frame: usize,
    stack: usize,
}

extern "C" fn on_signal(_: libc::c_int, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    RUNNING.fetch_add(1, Ordering::SeqCst);
    let sampling = SAMPLING.load(Ordering::SeqCst);
    if !sampling.is_null() && !context.is_null() {
        // SAFETY: the kernel passes a ucontext_t to a handler set with SA_SIGINFO; the pointer is that of a live
        // `Sampling`, which is freed only after RUNNING was zero while the pointer was null; gettid has no arguments
        // and cannot fail, so errno does not change.
        unsafe {
            let thread = libc::syscall(libc::SYS_gettid) as u32;
            (*sampling).record(thread, registers(&*context.cast::<libc::ucontext_t>()));
        }
    }
    RUNNING.fetch_sub(1, Ordering::SeqCst);
}

#[cfg(target_arch = "x86_64")]
fn registers(context: &libc::ucontext_t) -> Registers {
    let register = |number: libc::c_int| context.uc_mcontext.gregs[number as usize] as usize;
    Registers {
        instruction: register(libc::REG_RIP),
        frame: register(libc::REG_RBP),
        stack: register(libc::REG_RSP),
    }
}

#[cfg(target_arch = "aarch64")]
fn registers(context: &libc::ucontext_t) -> Registers {
    let machine = &context.uc_mcontext;
    Registers {
        instruction: machine.pc as usize,
        frame: machine.regs[29] as usize,
        stack: machine.sp as usize,
    }
}

/// Installs the handler permanently. It does nothing while no sampling runs, because a late signal must not end the
/// process.
fn install() -> io::Result<()> {
    // SAFETY: all zero is a valid sigaction (no flags, an empty mask).
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    action.sa_sigaction = on_signal as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
    // SAFETY: `action` is complete, and the handler does only what a signal handler may do.
    match unsafe { libc::sigaction(libc::SIGPROF, &action, ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Sends a signal after each `every_us` microseconds of CPU time of the process, or no signals if `every_us` is zero.
fn set_timer(every_us: i64) -> io::Result<()> {
    let every = libc::timeval { tv_sec: every_us / 1_000_000, tv_usec: every_us % 1_000_000 };
    let timer = libc::itimerval { it_interval: every, it_value: every };
    // SAFETY: `timer` is complete and outlives the call.
    match unsafe { libc::setitimer(libc::ITIMER_PROF, &timer, ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Returns the private writable mappings, which include the stacks of threads and coroutines.
fn stacks() -> io::Result<Vec<(usize, usize)>> {
    let mut stacks = Vec::new();
    for line in fs::read_to_string("/proc/self/maps")?.lines() {
        let mut fields = line.split_ascii_whitespace();
        let (Some(range), Some(rights)) = (fields.next(), fields.next()) else { continue };
        let Some((start, end)) = range.split_once('-') else { continue };
        if let (true, Ok(start), Ok(end)) =
            (rights == "rw-p", usize::from_str_radix(start, 16), usize::from_str_radix(end, 16))
        {
            stacks.push((start, end));
        }
    }
    Ok(stacks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_stays_on_its_own_stack_and_ends() {
        // These are frames in the layout of the ABI: the caller's frame, and the return address.
        let mut words = vec![0_usize; 64];
        let base = words.as_ptr() as usize;
        let at = |index: usize| base + index * 8;
        (words[4], words[5]) = (at(10), 111);
        (words[10], words[11]) = (at(20), 222);
        let cases = [
            (at(63), vec![7, 111, 222]),          // its second word would be beyond the end
            (at(4), vec![7, 111, 222, 333]),      // downwards: a loop
            (at(20) + 1, vec![7, 111, 222, 333]), // misaligned
            (usize::MAX - 7, vec![7, 111, 222, 333]),
            (0, vec![7, 111, 222, 333]),
        ];
        for (index, (last, expected)) in cases.into_iter().enumerate() {
            (words[20], words[21]) = (last, 333);
            if index == 0 {
                words[10] = last;
            } else {
                words[10] = at(20);
            }
            let slot = Slot {
                thread: 0.into(),
                depth: 0.into(),
                addresses: [const { AtomicUsize::new(0) }; FRAMES_MAX],
            };
            let sampling = Sampling { stacks: vec![(base, at(64))], slots: vec![slot], taken: 0.into() };
            sampling.record(3, Registers { instruction: 7, frame: at(4), stack: at(2) });
            // A sample for which there is no space is counted, but not stored.
            sampling.record(3, Registers { instruction: 7, frame: at(4), stack: at(2) });
            let samples = sampling.collect(&HashMap::from([(3, "name".to_owned())]));
            let chain = Chain { thread: "name".to_owned(), kernel: vec![], addresses: expected, count: 1 };
            assert_eq!(samples.chains, [chain]);
            assert_eq!(samples.lost, 1);
        }
        let sampling = Sampling { stacks: vec![(100, 200), (300, 400)], slots: vec![], taken: 0.into() };
        let ends = [99, 100, 199, 200, 350, 400].map(|stack| sampling.end_of_stack(stack));
        assert_eq!(ends, [None, Some(200), Some(200), None, Some(400), None]);
    }
}
