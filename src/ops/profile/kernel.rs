//! What a profile shows of the kernel: the names of its functions, or that a sample was inside a system call.

use std::collections::HashMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;

/// Returns the names of kernel functions by address. An address without a name is missing, and all are if the kernel
/// hides addresses (`kernel.kptr_restrict`).
pub(super) fn kernel_names(mut addresses: Vec<u64>) -> HashMap<u64, String> {
    if addresses.is_empty() {
        return HashMap::new();
    }
    addresses.sort_unstable();
    addresses.dedup();
    let list = fs::read("/proc/kallsyms").unwrap_or_default();
    names_in(&String::from_utf8_lossy(&list), &addresses)
}

/// Finds the last function at or below each address in the format of `/proc/kallsyms`, which is not sorted. `addresses`
/// ascend.
fn names_in(list: &str, addresses: &[u64]) -> HashMap<u64, String> {
    let mut nearest = vec![(0_u64, ""); addresses.len()];
    for line in list.lines() {
        let mut fields = line.split_ascii_whitespace();
        let (Some(start), Some(kind), Some(name)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let Ok(start) = u64::from_str_radix(start, 16) else { continue };
        let is_function = matches!(kind, "t" | "T" | "w" | "W");
        let at = addresses.partition_point(|address| *address < start);
        if is_function && start > 0 && at < nearest.len() && start >= nearest[at].0 {
            nearest[at] = (start, name);
        }
    }
    // A function without an address of its own in the list is also the last one below the following addresses.
    let mut last = (0, "");
    let mut names = HashMap::new();
    for (address, near) in addresses.iter().zip(nearest) {
        last = if near.0 > last.0 { near } else { last };
        if last.0 > 0 {
            names.insert(*address, last.1.to_owned());
        }
    }
    names
}

/// The instruction of a system call, and how far the program has advanced when one is interrupted.
#[cfg(target_arch = "x86_64")]
const SYSTEM_CALL: [u8; 2] = [0x0f, 0x05];
#[cfg(target_arch = "aarch64")]
const SYSTEM_CALL: [u8; 4] = [0x01, 0x00, 0x00, 0xd4];

/// Finds samples that a signal took inside a system call. A signal is delivered when the kernel returns, so the sampled
/// instruction is the one after the call, or the call itself if the kernel repeats it.
pub(super) struct SystemCalls {
    memory: Option<File>,
    known: HashMap<usize, bool>,
}

impl SystemCalls {
    pub(super) fn new() -> SystemCalls {
        // Reading through the kernel fails, instead of ending the process, if the code is no longer mapped.
        SystemCalls { memory: File::open("/proc/self/mem").ok(), known: HashMap::new() }
    }

    pub(super) fn is_inside(&mut self, address: usize) -> bool {
        let SystemCalls { memory: Some(memory), known } = self else { return false };
        *known.entry(address).or_insert_with(|| {
            let is_call = |at: usize| {
                let mut code = [0; SYSTEM_CALL.len()];
                memory.read_exact_at(&mut code, at as u64).is_ok() && code == SYSTEM_CALL
            };
            address.checked_sub(SYSTEM_CALL.len()).is_some_and(is_call) || is_call(address)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_function_reaches_to_the_next_one() {
        let list = "ffffffff81000300 t third [module]\nffffffff81000100 T first\n\
                    ffffffff81000180 D data\nffffffff81000200 t second\nnonsense\n";
        let base = 0xffff_ffff_8100_0000;
        let addresses = [0xff, 0x100, 0x190, 0x1ff, 0x200, 0x300, 0x5000].map(|at| base + at);
        let names = names_in(list, &addresses);
        let found = addresses.map(|address| names.get(&address).map(String::as_str));
        let (first, second, third) = (Some("first"), Some("second"), Some("third"));
        assert_eq!(found, [None, first, first, first, second, third, third]);
        assert_eq!(names_in("0000000000000000 T hidden\n", &addresses), HashMap::new());
    }

    #[test]
    fn a_place_in_a_system_call_is_recognised_by_its_code() {
        let code = [&[0x90][..], &SYSTEM_CALL, &[0x90; 8]].concat();
        let start = code.as_ptr() as usize;
        let mut calls = SystemCalls::new();
        let inside = [1, 1 + SYSTEM_CALL.len(), 2 + SYSTEM_CALL.len()].map(|at| calls.is_inside(start + at));
        assert_eq!(inside, [true, true, false]);
        assert!(!calls.is_inside(0) && !calls.is_inside(1 << 12) && !calls.is_inside(usize::MAX));
    }
}
