//! Call chains of every thread, in the kernel too, sampled by the kernel itself (perf_event_open).
//!
//! In: seconds, rate. Out: call chains by thread, as addresses. Owns: one event and one ring for each thread during a
//! sampling. Never: interrupts a thread with a signal, or exists while no sampling runs.
//!
//! Each thread has an event that counts its CPU time. After every 1/hz seconds of it, the kernel writes a sample into
//! the thread's ring: the call chain in the kernel, and the one outside by frame pointers. The sampling thread empties
//! the rings. The kernel permits this to root, to CAP_PERFMON, and to anyone if `kernel.perf_event_paranoid` is at most
//! 1. Container runtimes refuse the call by default.
#![allow(unsafe_code, reason = "perf_event_open and its ring have no safe wrapper in the dependencies")]

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::samples::{Chain, Samples, thread_names};
use crate::base::clock;

/// The size of a ring in pages, a power of two. It holds more than the samples between two [`DRAIN`]s: 50 at 1000 Hz,
/// 1 KiB each.
const RING_PAGES: usize = 32;
/// How often the rings are emptied.
const DRAIN: Duration = Duration::from_millis(50);
/// How many times the rings are emptied before new threads are looked for.
const DRAINS_PER_SEARCH: usize = 10;
/// The maximum number of sampled threads. Each has a descriptor and 132 KiB of pinned memory.
const THREADS_MAX: usize = 512;
/// The maximum number of different call chains, at about 500 bytes each.
const CHAINS_MAX: usize = 65_536;

const PERF_TYPE_SOFTWARE: u64 = 1;
const PERF_COUNT_SW_CPU_CLOCK: u64 = 0;
const PERF_SAMPLE_TID: u64 = 1 << 1;
const PERF_SAMPLE_CALLCHAIN: u64 = 1 << 5;
const PERF_FLAG_FD_CLOEXEC: u64 = 1 << 3;
const PERF_RECORD_LOST: u32 = 2;
const PERF_RECORD_SAMPLE: u32 = 9;
/// Chain entries from here on are no addresses but markers of what follows.
const PERF_CONTEXT_MAX: u64 = -4095_i64 as u64;
const PERF_CONTEXT_KERNEL: u64 = -128_i64 as u64;
const PERF_CONTEXT_USER: u64 = -512_i64 as u64;
/// The size of `perf_event_attr` in its version 5, which has the last field that is used here.
const ATTRIBUTE_WORDS: usize = 14;

/// Samples this process for `time`.
///
/// # Errors
/// Returns an error if the kernel does not permit it, or memory or descriptors for the rings are missing.
pub(super) fn sample(time: Duration, hz: u32) -> io::Result<Samples> {
    let mut rings = HashMap::new();
    let mut names = thread_names()?;
    open_missing(&mut rings, &names, hz)?;
    let mut gathered = Gathered::default();
    let end = clock::now() + time;
    for drains in 1.. {
        let left = end.saturating_duration_since(clock::now());
        clock::pause(left.min(DRAIN));
        for ring in rings.values_mut() {
            ring.drain(&mut gathered);
        }
        if left.is_zero() {
            break;
        }
        if drains % DRAINS_PER_SEARCH == 0 {
            let now = thread_names()?;
            open_missing(&mut rings, &now, hz)?;
            names.extend(now);
        }
    }
    Ok(gathered.into_samples(&names))
}

/// Opens rings for threads without one.
fn open_missing(rings: &mut HashMap<u32, Ring>, threads: &HashMap<u32, String>, hz: u32) -> io::Result<()> {
    for thread in threads.keys() {
        if rings.contains_key(thread) || rings.len() >= THREADS_MAX {
            continue;
        }
        match Ring::open(*thread, hz) {
            Ok(ring) => _ = rings.insert(*thread, ring),
            // The thread ended in the meantime.
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The chains of all threads, with their counts.
#[derive(Default)]
struct Gathered {
    counts: HashMap<(u32, Vec<u64>, Vec<usize>), u64>,
    lost: u64,
}

impl Gathered {
    fn into_samples(self, names: &HashMap<u32, String>) -> Samples {
        let chain = |((thread, kernel, addresses), count)| Chain {
            thread: names.get(&thread).map_or("?", String::as_str).to_owned(),
            kernel,
            addresses,
            count,
        };
        Samples { chains: self.counts.into_iter().map(chain).collect(), lost: self.lost, has_kernel: true }
    }

    /// Reads the records of one drain.
    fn read(&mut self, mut bytes: &[u8]) {
        while let Some((kind, record)) = record(&mut bytes) {
            match kind {
                PERF_RECORD_SAMPLE => self.read_sample(record),
                PERF_RECORD_LOST => self.lost += word(record, 8).unwrap_or(0),
                _ => {}
            }
        }
    }

    /// Reads a sample: the process and thread, the length of the chain, the chain.
    fn read_sample(&mut self, record: &[u8]) {
        let (Some(ids), Some(length)) = (word(record, 0), word(record, 8)) else { return };
        let (mut kernel, mut outside) = (Vec::new(), Vec::new());
        let mut context = PERF_CONTEXT_USER;
        for entry in record[16..].chunks_exact(8).take(length as usize) {
            let address = u64::from_ne_bytes(entry.try_into().unwrap_or_default());
            match address {
                PERF_CONTEXT_MAX.. => context = address,
                // The end of a chain whose outermost frame has no caller.
                0 => {}
                _ if context == PERF_CONTEXT_KERNEL => kernel.push(address),
                _ if context == PERF_CONTEXT_USER => outside.push(address as usize),
                _ => {}
            }
        }
        let key = ((ids >> 32) as u32, kernel, outside);
        if self.counts.len() < CHAINS_MAX || self.counts.contains_key(&key) {
            *self.counts.entry(key).or_default() += 1;
        } else {
            self.lost += 1;
        }
    }
}

/// Removes the first record from `bytes`. Returns its kind and its content without the header.
fn record<'b>(bytes: &mut &'b [u8]) -> Option<(u32, &'b [u8])> {
    let header = word(bytes, 0)?.to_ne_bytes();
    let kind = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]);
    let size = usize::from(u16::from_ne_bytes([header[6], header[7]]));
    let record = bytes.get(8..size)?;
    *bytes = &bytes[size..];
    Some((kind, record))
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

/// The event of one thread, and the memory that the kernel writes its samples to: a page of positions, then the ring.
struct Ring {
    _event: OwnedFd,
    memory: *mut u8,
    page: usize,
    scratch: Vec<u8>,
}

/// The positions in the first page: how far the kernel has written, and how far it was read.
const HEAD_AT: usize = 1024;
const TAIL_AT: usize = 1032;

impl Ring {
    fn open(thread: u32, hz: u32) -> io::Result<Ring> {
        let mut attribute = [0_u64; ATTRIBUTE_WORDS];
        attribute[0] = PERF_TYPE_SOFTWARE | (size_of_val(&attribute) as u64) << 32;
        attribute[1] = PERF_COUNT_SW_CPU_CLOCK;
        attribute[2] = 1_000_000_000 / u64::from(hz.max(1));
        attribute[3] = PERF_SAMPLE_TID | PERF_SAMPLE_CALLCHAIN;
        // SAFETY: the attribute is complete, states its own size and outlives the call; the others are numbers (any
        // CPU, no group).
        let event = unsafe {
            libc::syscall(
                libc::SYS_perf_event_open,
                attribute.as_ptr(),
                thread as libc::pid_t,
                -1 as libc::c_int,
                -1 as libc::c_int,
                PERF_FLAG_FD_CLOEXEC,
            )
        };
        if event < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call returned a new descriptor.
        let event = unsafe { OwnedFd::from_raw_fd(event as i32) };
        let page = rustix::param::page_size();
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let length = (RING_PAGES + 1) * page;
        // SAFETY: a new mapping at an address that the kernel selects.
        let memory =
            unsafe { libc::mmap(ptr::null_mut(), length, access, libc::MAP_SHARED, event.as_raw_fd(), 0) };
        if memory == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Ring { _event: event, memory: memory.cast(), page, scratch: Vec::new() })
    }

    fn position(&self, at: usize) -> &AtomicU64 {
        // SAFETY: both positions are aligned words of the mapped first page, which the kernel changes atomically.
        unsafe { &*self.memory.add(at).cast::<AtomicU64>() }
    }

    /// Reads what the kernel has written since the last call.
    fn drain(&mut self, gathered: &mut Gathered) {
        let size = RING_PAGES * self.page;
        let head = self.position(HEAD_AT).load(Ordering::Acquire);
        let tail = self.position(TAIL_AT).load(Ordering::Relaxed);
        let length = ((head - tail) as usize).min(size);
        let start = tail as usize % size;
        let first = length.min(size - start);
        self.scratch.clear();
        for (at, count) in [(start, first), (0, length - first)] {
            // SAFETY: the range is within the ring, which follows the first page. The kernel does not write to it
            // before the tail has passed it.
            let part = unsafe { std::slice::from_raw_parts(self.memory.add(self.page + at), count) };
            self.scratch.extend_from_slice(part);
        }
        self.position(TAIL_AT).store(head, Ordering::Release);
        gathered.read(&self.scratch);
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: `open` made this mapping, and no reference into it is left.
        unsafe { libc::munmap(self.memory.cast(), (RING_PAGES + 1) * self.page) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record_of(kind: u32, words: &[u64]) -> Vec<u8> {
        let size = (8 + 8 * words.len()) as u64;
        let header = u64::from(kind) | size << 48;
        std::iter::once(&header).chain(words).flat_map(|word| word.to_ne_bytes()).collect()
    }

    #[test]
    fn a_sample_is_split_into_the_kernel_and_the_rest() {
        let ids = 7 << 32 | 3;
        let (kernel, outside) = (PERF_CONTEXT_KERNEL, PERF_CONTEXT_USER);
        let sample = record_of(PERF_RECORD_SAMPLE, &[ids, 7, kernel, 90, 80, outside, 50, 40, 0]);
        let mut gathered = Gathered::default();
        gathered.read(
            &[sample.clone(), record_of(PERF_RECORD_LOST, &[1, 5]), record_of(5, &[]), sample].concat(),
        );
        gathered.read(&record_of(PERF_RECORD_SAMPLE, &[ids, 2, outside, 50]));
        // Records that end early, or state more than they have, yield what they have.
        gathered.read(&record_of(PERF_RECORD_SAMPLE, &[ids, 9, outside, 50]));
        gathered.read(&record_of(PERF_RECORD_SAMPLE, &[ids]));
        gathered.read(&record_of(PERF_RECORD_SAMPLE, &[ids, 1])[..20]);
        gathered.read(&[0; 16]);
        let mut samples = gathered.into_samples(&HashMap::from([(7, "name".to_owned())]));
        samples.chains.sort_by_key(|chain| chain.addresses.len());
        let chain = |kernel: &[u64], addresses: &[usize]| Chain {
            thread: "name".to_owned(),
            kernel: kernel.to_vec(),
            addresses: addresses.to_vec(),
            count: 2,
        };
        assert_eq!(samples.chains, [chain(&[], &[50]), chain(&[90, 80], &[50, 40])]);
        assert_eq!(samples.lost, 5);
    }
}
