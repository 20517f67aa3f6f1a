//! The resources that the kernel grants this process (io_uring, open files, locked memory), checked before anything
//! depends on them.
//!
//! The runtime must not discover a refusal itself: without io_uring it panics, and if an operation is missing, it
//! ends the process.
#![allow(
    unsafe_code,
    reason = "io_uring_setup, io_uring_register and the rlimit calls have no safe caller here"
)]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// The reason why io_uring cannot be used, and the operator's remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("io_uring refused: {reason}; {remedy}")]
pub struct IoUringRefused {
    pub reason: String,
    pub remedy: String,
}

/// A resource limit; `u64::MAX` means no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// The current limit. The process may raise it up to `hard`.
    pub soft: u64,
    pub hard: u64,
}

/// The two limits that serving depends on, after [`raise_limits`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open files: one per connection, a few dozen per shard.
    pub nofile: Limit,
    /// Bytes of locked memory. For ordinary users, the rings of executors count against this limit.
    pub memlock: Limit,
}

/// The minimum limit on locked memory, in bytes. With a lower limit, the executors do not start for any user.
pub const MEMLOCK_BYTES_MIN: u64 = 512 * 1024;

/// Descriptors reserved for everything but clients: shards, journals, rings, listeners. If clients took the last one,
/// the operators' listener would stop responding too.
pub const FILES_ASIDE: u64 = 1024;

/// The operations that the executors use, by their numbers in `linux/io_uring.h`. All exist since Linux 5.8.
const OPERATIONS: &[(usize, &str)] = &[
    (0, "nop"),
    (1, "readv"),
    (2, "writev"),
    (3, "fsync"),
    (4, "read_fixed"),
    (5, "write_fixed"),
    (6, "poll_add"),
    (7, "poll_remove"),
    (9, "sendmsg"),
    (10, "recvmsg"),
    (11, "timeout"),
    (12, "timeout_remove"),
    (13, "accept"),
    (15, "link_timeout"),
    (16, "connect"),
    (17, "fallocate"),
    (18, "openat"),
    (19, "close"),
    (21, "statx"),
    (22, "read"),
    (23, "write"),
    (26, "send"),
    (27, "recv"),
];

/// Opens a ring, checks it for the operations that the executors need, and closes it. This takes less than 100 us.
/// Call [`raise_limits`] first.
///
/// # Errors
/// Returns an error if the kernel refuses the ring, lacks an operation or permits too little locked memory, or if
/// /sys does not list the CPUs.
pub fn io_uring() -> Result<(), IoUringRefused> {
    let ring = open_ring().map_err(|error| refusal(&error))?;
    let known = operations(&ring).map_err(|error| refusal(&error))?;
    let missing: Vec<&str> =
        OPERATIONS.iter().filter(|(number, _)| !known[*number]).map(|(_, name)| *name).collect();
    if !missing.is_empty() {
        return Err(refused(
            format!("this kernel's io_uring lacks {}", missing.join(", ")),
            "run Linux 5.8 or later, or use --runtime epoll",
        ));
    }
    // The runtime reads this list again, and panics if it cannot.
    if let Err(error) = glommio::CpuSet::online() {
        return Err(refused(
            format!("/sys does not list the CPUs ({error}), and the runtime needs the list"),
            "mount /sys (read-only is enough), or use --runtime epoll",
        ));
    }
    match memlock() {
        Ok(limit) if limit.soft < MEMLOCK_BYTES_MIN => Err(refused(
            format!("RLIMIT_MEMLOCK is {} bytes, and {MEMLOCK_BYTES_MIN} are required", limit.soft),
            "raise the hard limit (LimitMEMLOCK=8M in a systemd unit, --ulimit memlock=8388608 for a container)",
        )),
        Ok(_) => Ok(()),
        Err(error) => Err(refusal(&error)),
    }
}

/// Returns the limit on locked memory, in bytes.
///
/// # Errors
/// Returns an error if the kernel refuses getrlimit(2). No kernel does so by default.
pub fn memlock() -> io::Result<Limit> {
    limit(libc::RLIMIT_MEMLOCK)
}

/// Returns the limit on open files.
///
/// # Errors
/// See [`memlock`].
pub fn nofile() -> io::Result<Limit> {
    limit(libc::RLIMIT_NOFILE)
}

/// Returns the number of client connections that a limit on open files permits: the limit minus [`FILES_ASIDE`], or
/// half the limit if it is less than twice [`FILES_ASIDE`]. The server must not serve more, regardless of the
/// settings.
#[must_use]
pub fn connection_room(nofile: Limit) -> u64 {
    nofile.soft - FILES_ASIDE.min(nofile.soft / 2)
}

/// Raises the soft limits on open files and locked memory to the hard ones, which needs no privilege, and returns the
/// resulting limits. Call it before starting a thread that depends on them.
///
/// # Errors
/// See [`memlock`]. If a limit could not be raised, the returned limits show it; that is not an error.
pub fn raise_limits() -> io::Result<Limits> {
    for resource in [libc::RLIMIT_NOFILE, libc::RLIMIT_MEMLOCK] {
        let limit = limit(resource)?;
        let raised = libc::rlimit { rlim_cur: limit.hard, rlim_max: limit.hard };
        // SAFETY: `raised` is a whole rlimit that outlives the call.
        unsafe { libc::setrlimit(resource, &raised) };
    }
    Ok(Limits { nofile: nofile()?, memlock: memlock()? })
}

fn limit(resource: libc::__rlimit_resource_t) -> io::Result<Limit> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` has space for a whole rlimit.
    if unsafe { libc::getrlimit(resource, &mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Limit { soft: limit.rlim_cur, hard: limit.rlim_max })
}

/// `struct io_uring_params`: 120 bytes, all zero for the defaults.
const PARAMS_WORDS: usize = 30;

fn open_ring() -> io::Result<OwnedFd> {
    let mut params = [0_u32; PARAMS_WORDS];
    // SAFETY: two entries, and space for a whole io_uring_params, which the kernel fills in.
    let fd = unsafe { libc::syscall(libc::SYS_io_uring_setup, 2_u32, params.as_mut_ptr()) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a descriptor that was just created and has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// `struct io_uring_probe` with space for every operation number.
#[repr(C)]
struct Probe {
    last_op: u8,
    ops_len: u8,
    reserved: [u16; 7],
    ops: [ProbeOp; 256],
}

#[repr(C)]
#[derive(Clone, Copy)]
struct ProbeOp {
    op: u8,
    reserved: u8,
    flags: u16,
    reserved_too: u32,
}

const REGISTER_PROBE: u32 = 8;
const OP_SUPPORTED: u16 = 1;

fn operations(ring: &OwnedFd) -> io::Result<[bool; 256]> {
    let none = ProbeOp { op: 0, reserved: 0, flags: 0, reserved_too: 0 };
    let mut probe = Probe { last_op: 0, ops_len: 0, reserved: [0; 7], ops: [none; 256] };
    // SAFETY: `probe` is zeroed, as the kernel requires, and has space for the 256 entries announced.
    let result = unsafe {
        libc::syscall(
            libc::SYS_io_uring_register,
            ring.as_raw_fd(),
            REGISTER_PROBE,
            std::ptr::from_mut(&mut probe),
            256_u32,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(std::array::from_fn(|number| probe.ops[number].flags & OP_SUPPORTED != 0))
}

/// Returns the meaning of an error number from io_uring_setup(2), and its remedy.
fn refusal(error: &io::Error) -> IoUringRefused {
    match error.raw_os_error() {
        Some(libc::ENOSYS) => refused(
            "the kernel does not have it, or a sandbox hides it (ENOSYS)".to_owned(),
            "run Linux 5.8 or later outside gVisor, or use --runtime epoll",
        ),
        Some(libc::EPERM | libc::EACCES) => refused(
            "it is forbidden (EPERM) by sysctl kernel.io_uring_disabled or by the container's seccomp \
             profile"
                .to_owned(),
            "set kernel.io_uring_disabled=0 and allow io_uring_setup, io_uring_enter and io_uring_register \
             in the profile (docker: --security-opt seccomp=profile.json), or use --runtime epoll",
        ),
        Some(libc::ENOMEM) => refused(
            "the process cannot lock memory for it (ENOMEM)".to_owned(),
            "raise RLIMIT_MEMLOCK (LimitMEMLOCK=8M in a systemd unit, --ulimit memlock=8388608 for a container)",
        ),
        Some(libc::EMFILE | libc::ENFILE) => {
            refused(format!("the process has no free file descriptor ({error})"), "raise RLIMIT_NOFILE")
        }
        Some(libc::EINVAL) => refused(
            "the kernel's io_uring is too old (EINVAL)".to_owned(),
            "run Linux 5.8 or later, or use --runtime epoll",
        ),
        _ => refused(error.to_string(), "use --runtime epoll"),
    }
}

fn refused(reason: String, remedy: &str) -> IoUringRefused {
    IoUringRefused { reason, remedy: remedy.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_structures_have_their_sizes() {
        assert_eq!(size_of::<Probe>(), 16 + 256 * 8);
        assert_eq!(size_of::<[u32; PARAMS_WORDS]>(), 120);
    }

    #[test]
    fn every_refusal_says_what_helps() {
        for number in [libc::ENOSYS, libc::EPERM, libc::ENOMEM, libc::EMFILE, libc::EINVAL, libc::EIO] {
            let refused = refusal(&io::Error::from_raw_os_error(number));
            assert!(!refused.reason.is_empty() && !refused.remedy.is_empty(), "{refused}");
        }
        assert!(refusal(&io::Error::from_raw_os_error(libc::EPERM)).remedy.contains("io_uring_disabled"));
    }

    #[test]
    fn a_probe_of_a_ring_agrees_with_the_kernels_own_version() {
        match open_ring() {
            Ok(ring) => {
                let known = operations(&ring).unwrap();
                // IORING_OP_NOP is as old as the probe; 255 is not an operation.
                assert!(known[0] && !known[255]);
            }
            Err(error) => assert!(io_uring().is_err(), "{error}"),
        }
    }

    #[test]
    fn connections_leave_descriptors_for_the_rest() {
        let room = |soft| connection_room(Limit { soft, hard: soft });
        assert_eq!([room(100_000), room(2048), room(100), room(0)], [98_976, 1024, 50, 0]);
    }

    #[test]
    fn limits_are_raised_to_their_hard_ends() {
        let limits = raise_limits().unwrap();
        assert_eq!(limits.nofile.soft, limits.nofile.hard);
        assert_eq!(limits.memlock.soft, limits.memlock.hard);
        assert!(limits.nofile.soft >= 64);
    }
}
