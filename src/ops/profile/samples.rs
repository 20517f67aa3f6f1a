//! What a sampler returns: call chains as addresses.

use std::collections::HashMap;
use std::fs;
use std::io;

/// A call chain and its number of samples.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chain {
    pub(super) thread: String,
    /// The addresses in the kernel, from the current one outwards. Empty if the sample was outside.
    pub(super) kernel: Vec<u64>,
    /// The current address, then the return addresses outwards.
    pub(super) addresses: Vec<usize>,
    pub(super) count: u64,
}

/// The result of sampling.
#[derive(Debug)]
pub(super) struct Samples {
    pub(super) chains: Vec<Chain>,
    /// The number of samples for which there was no space.
    pub(super) lost: u64,
    /// Set if the chains include the kernel.
    pub(super) has_kernel: bool,
}

/// Returns the names of this process's threads by their ids.
pub(super) fn thread_names() -> io::Result<HashMap<u32, String>> {
    let mut names = HashMap::new();
    for task in fs::read_dir("/proc/self/task")? {
        let task = task?;
        let number = task.file_name().to_str().and_then(|name| name.parse().ok());
        // A thread may end between the listing and the reading.
        if let (Some(number), Ok(name)) = (number, fs::read_to_string(task.path().join("comm"))) {
            names.insert(number, name.trim_end().to_owned());
        }
    }
    Ok(names)
}
