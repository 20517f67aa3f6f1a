//! Named stacks: sampled addresses as functions, without the frames that every stack begins with.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

use super::kernel::{SystemCalls, kernel_names};
use super::names::{Frame, Origin, which_remain};
use super::samples::{Chain, Samples};

/// The box of samples inside a system call, if the sampler does not see the kernel.
pub(super) const KERNEL_HIDDEN: &str = "[kernel: not visible, perf events are refused]";
/// The box of samples in the kernel, if it hides the addresses of its functions.
pub(super) const KERNEL_UNNAMED: &str = "[kernel: names are hidden by kernel.kptr_restrict]";
const UNKNOWN: &str = "[unknown]";

/// The samples of one thread with the same frames.
#[derive(Debug)]
pub(super) struct Stack {
    pub(super) thread: String,
    /// Indexes of frames, from the outermost inwards.
    pub(super) frames: Vec<usize>,
    pub(super) count: u64,
}

/// All samples of a profile.
#[derive(Debug)]
pub(super) struct Stacks {
    pub(super) frames: Vec<Frame>,
    pub(super) stacks: Vec<Stack>,
    pub(super) lost: u64,
    pub(super) has_kernel: bool,
}

impl Stacks {
    pub(super) fn of(samples: &Samples) -> Stacks {
        let kernel = samples.chains.iter().flat_map(|chain| within_calls(&chain.kernel)).collect();
        let mut names = Names {
            frames: Vec::new(),
            numbers: HashMap::new(),
            by_address: HashMap::new(),
            kernel: kernel_names(kernel),
            calls: (!samples.has_kernel).then(SystemCalls::new),
        };
        let mut counts = BTreeMap::<(&str, Vec<usize>), u64>::new();
        for chain in &samples.chains {
            let frames = names.of(chain);
            let origins: Vec<Origin> = frames.iter().map(|frame| names.frames[*frame].origin).collect();
            let remain = which_remain(&origins);
            let frames = frames.into_iter().zip(remain).filter(|(_, remains)| *remains);
            let frames = frames.map(|(frame, _)| frame).collect();
            *counts.entry((&chain.thread, frames)).or_default() += chain.count;
        }
        backtrace::clear_symbol_cache();
        let stack = |((thread, frames), count): ((&str, Vec<usize>), u64)| Stack {
            thread: thread.to_owned(),
            frames,
            count,
        };
        Stacks {
            frames: names.frames,
            stacks: counts.into_iter().map(stack).collect(),
            lost: samples.lost,
            has_kernel: samples.has_kernel,
        }
    }

    /// Returns one line per stack, `thread;outermost;…;innermost count`, which is the input of flame graphs. Functions
    /// of the kernel end with `_[k]`.
    pub(super) fn collapsed(&self) -> String {
        self.collapsed_by(|frame| frame.name.clone())
    }

    /// Returns the same lines with other names of functions.
    pub(super) fn collapsed_by(&self, name: impl Fn(&Frame) -> String) -> String {
        let mut counts = BTreeMap::<String, u64>::new();
        let suffix = |frame: &Frame| if frame.origin == Origin::Kernel { "_[k]" } else { "" };
        let named = |frame: &Frame| in_line(&name(frame)) + suffix(frame);
        let names: Vec<String> = self.frames.iter().map(named).collect();
        for stack in &self.stacks {
            let names = stack.frames.iter().map(|frame| names[*frame].as_str());
            let line = names.fold(in_line(&stack.thread), |line, name| line + ";" + name);
            *counts.entry(line).or_default() += stack.count;
        }
        counts.into_iter().fold(String::new(), |mut lines, (line, count)| {
            _ = writeln!(lines, "{line} {count}");
            lines
        })
    }
}

/// Replaces what separates frames and lines.
fn in_line(name: &str) -> String {
    name.replace(';', ":").replace('\n', " ")
}

/// Returns addresses within the calling instructions: a return address is after its call, possibly in the next function.
fn within_calls<A: Copy + std::ops::Sub<Output = A> + From<bool>>(chain: &[A]) -> impl Iterator<Item = A> {
    chain.iter().enumerate().map(|(depth, address)| *address - A::from(depth > 0))
}

/// Looks up functions, each address once.
struct Names {
    frames: Vec<Frame>,
    numbers: HashMap<Frame, usize>,
    /// The function at an address and those inlined into it there, from the outermost inwards.
    by_address: HashMap<usize, Vec<usize>>,
    kernel: HashMap<u64, String>,
    /// Set if the kernel's part of a chain must be guessed.
    calls: Option<SystemCalls>,
}

impl Names {
    /// Returns the frames of a chain, from the outermost inwards.
    fn of(&mut self, chain: &Chain) -> Vec<usize> {
        let mut frames = Vec::new();
        let outside: Vec<usize> = within_calls(&chain.addresses).collect();
        for address in outside.into_iter().rev() {
            if !self.by_address.contains_key(&address) {
                let functions = functions(address).into_iter().map(|frame| self.number(frame)).collect();
                self.by_address.insert(address, functions);
            }
            frames.extend_from_slice(&self.by_address[&address]);
        }
        let is_inside =
            |calls: &mut SystemCalls| chain.addresses.first().is_some_and(|at| calls.is_inside(*at));
        if self.calls.as_mut().is_some_and(is_inside) {
            frames.push(self.number(Frame::kernel(KERNEL_HIDDEN)));
        }
        frames.extend(self.in_kernel(chain));
        frames
    }

    fn in_kernel(&mut self, chain: &Chain) -> Vec<usize> {
        let addresses: Vec<u64> = within_calls(&chain.kernel).collect();
        let named: Vec<_> = addresses.iter().rev().filter_map(|at| self.kernel.get(at).cloned()).collect();
        let names = match (named.is_empty(), addresses.is_empty()) {
            (true, false) => vec![KERNEL_UNNAMED.to_owned()],
            // Every system call passes through the same few functions.
            _ => named.into_iter().filter(|name| !is_entry(name)).collect(),
        };
        names.into_iter().map(|name| self.number(Frame::kernel(name))).collect()
    }

    fn number(&mut self, frame: Frame) -> usize {
        *self.numbers.entry(frame).or_insert_with_key(|frame| {
            self.frames.push(frame.clone());
            self.frames.len() - 1
        })
    }
}

/// Returns the function at an address and those inlined into it there, from the outermost inwards.
fn functions(address: usize) -> Vec<Frame> {
    let mut inwards = Vec::new();
    backtrace::resolve(address as *mut std::ffi::c_void, |symbol| {
        if let Some(name) = symbol.name() {
            let file = symbol.filename().map_or_else(String::new, |file| file.display().to_string());
            // The alternate form omits the hash.
            inwards.push(Frame::of_symbol(&format!("{name:#}"), file, symbol.lineno().unwrap_or(0)));
        }
    });
    if inwards.is_empty() {
        inwards.push(Frame::foreign(UNKNOWN));
    }
    inwards.reverse();
    inwards
}

/// Returns whether a kernel function leads to every system call.
fn is_entry(name: &str) -> bool {
    name.starts_with("entry_SYSCALL")
        || ["do_syscall_64", "x64_sys_call", "el0_svc", "do_el0_svc"].contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_without_names_is_one_box_and_its_entry_is_none() {
        let mut names = Names {
            frames: Vec::new(),
            numbers: HashMap::new(),
            by_address: HashMap::new(),
            kernel: HashMap::new(),
            calls: None,
        };
        let kernel = vec![30, 21, 11];
        let chain = Chain { thread: "t".to_owned(), kernel, addresses: Vec::new(), count: 1 };
        let found = |names: &mut Names| {
            let frames = names.of(&chain).into_iter().map(|frame| names.frames[frame].name.clone());
            frames.collect::<Vec<_>>()
        };
        assert_eq!(found(&mut names), [KERNEL_UNNAMED]);
        // Outwards, the second and third addresses are behind their calls.
        let named = [(30, "vfs_read"), (20, "do_syscall_64"), (10, "entry_SYSCALL_64_after_hwframe")];
        names.kernel = named.map(|(address, name)| (address, name.to_owned())).into();
        assert_eq!(found(&mut names), ["vfs_read"]);
    }

    #[test]
    fn lines_of_equal_names_are_one() {
        let frame = |name: &str, line| Frame { line, ..Frame::foreign(name) };
        let stack =
            |frames: &[usize], count| Stack { thread: "a;b".to_owned(), frames: frames.to_vec(), count };
        let stacks = Stacks {
            frames: vec![
                frame("outer", 1),
                frame("in [u8; 8]", 2),
                frame("in [u8; 8]", 3),
                Frame::kernel("read"),
            ],
            stacks: vec![stack(&[0, 1], 2), stack(&[0, 2], 3), stack(&[0], 1), stack(&[0, 3], 4)],
            lost: 0,
            has_kernel: false,
        };
        assert_eq!(stacks.collapsed(), "a:b;outer 1\na:b;outer;in [u8: 8] 5\na:b;outer;read_[k] 4\n");
    }
}
