//! The kernel's figures for this process and its disks: memory, CPU by thread, descriptors, space.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use super::prometheus::{Kind, Page};

/// The standard process figures of a Prometheus page.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Process {
    pub resident_bytes: u64,
    pub virtual_bytes: u64,
    pub cpu_seconds: f64,
    pub fds_open: u64,
    pub fds_max: u64,
    /// Seconds since 1970 UTC.
    pub start_seconds: f64,
    pub threads: u64,
}

impl Process {
    /// Reads `/proc`: about 40 us.
    ///
    /// # Errors
    /// Returns an error if `/proc` is not mounted, or differs from its documentation (proc(5)).
    pub fn read() -> io::Result<Process> {
        let stat = Stat::read()?;
        let page_bytes = rustix::param::page_size() as u64;
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        let statm = fs::read_to_string("/proc/self/statm")?;
        let mut pages = statm.split_ascii_whitespace().map_while(|word| word.parse::<u64>().ok());
        let (virtual_pages, resident_pages) = pages.next().zip(pages.next()).ok_or_else(unexpected)?;
        Ok(Process {
            resident_bytes: resident_pages * page_bytes,
            virtual_bytes: virtual_pages * page_bytes,
            cpu_seconds: stat.cpu_ticks as f64 / ticks,
            fds_open: fds_open()?,
            fds_max: fds_max()?,
            start_seconds: boot_seconds()? + stat.start_ticks as f64 / ticks,
            threads: stat.threads,
        })
    }
}

/// The total CPU time of the threads that share a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThreadCpu {
    pub name: String,
    pub cpu_ns: u64,
}

/// Returns the CPU time by thread name. The times of threads with the same name are added up, because a series must
/// be unique. Takes about 15 us per thread. The time of a thread that has ended is not included.
///
/// # Errors
/// Returns an error if `/proc/self/task` cannot be listed.
pub fn threads() -> io::Result<Vec<ThreadCpu>> {
    let mut by_name = BTreeMap::<String, u64>::new();
    for task in fs::read_dir("/proc/self/task")? {
        let path = task?.path();
        // A thread may end between the listing and the reading.
        let (Ok(name), Ok(schedstat)) =
            (fs::read_to_string(path.join("comm")), fs::read_to_string(path.join("schedstat")))
        else {
            continue;
        };
        let cpu_ns = schedstat.split_ascii_whitespace().next().and_then(|word| word.parse::<u64>().ok());
        *by_name.entry(name.trim_end().to_owned()).or_default() += cpu_ns.unwrap_or(0);
    }
    Ok(by_name.into_iter().map(|(name, cpu_ns)| ThreadCpu { name, cpu_ns }).collect())
}

/// Writes this module's metric families, except those that the kernel does not provide.
pub fn write_process_families(page: &mut Page) {
    if let Ok(process) = Process::read() {
        let mut one = |name, kind, help, unit, value: super::prometheus::Number| {
            page.family(name, kind, help, unit);
            page.sample(&[], value);
        };
        let gauge = Kind::Gauge;
        one(
            "process_resident_memory_bytes",
            gauge,
            "Resident memory.",
            "bytes",
            process.resident_bytes.into(),
        );
        one("process_virtual_memory_bytes", gauge, "Virtual memory.", "bytes", process.virtual_bytes.into());
        one("process_cpu_seconds", Kind::Counter, "CPU time.", "seconds", process.cpu_seconds.into());
        one("process_open_fds", gauge, "Open file descriptors.", "", process.fds_open.into());
        one("process_max_fds", gauge, "Limit of open file descriptors.", "", process.fds_max.into());
        one("process_threads", gauge, "Threads.", "", process.threads.into());
        one(
            "process_start_time_seconds",
            gauge,
            "Start time, Unix time.",
            "seconds",
            process.start_seconds.into(),
        );
    }
    if let Ok(threads) = threads() {
        page.family("firehose_thread_cpu_seconds", Kind::Counter, "CPU time by thread name.", "seconds");
        for thread in threads {
            page.sample(&[("thread", &thread.name)], thread.cpu_ns as f64 / 1e9);
        }
    }
}

/// The state of a file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// Bytes that an unprivileged process may still write.
    pub free_bytes: u64,
    pub total_bytes: u64,
    /// Free inodes. Journal segments and shards are few, but other programs' files may not be.
    pub free_inodes: u64,
    /// `ext4`, `tmpfs`, `nfs`, …, or the kernel's number in hexadecimal.
    pub kind: String,
}

/// Returns the state of the file system that contains `path`. Makes one system call, which may wait if the file
/// system is remote.
///
/// # Errors
/// Returns an error if the path does not exist or is not accessible.
pub fn disk(path: &Path) -> io::Result<Disk> {
    // The profiler's signal may come at any time.
    let system = rustix::io::retry_on_intr(|| rustix::fs::statfs(path))?;
    // As in statvfs(3): a file system without a fragment size counts in blocks.
    let unit = if system.f_frsize != 0 { system.f_frsize } else { system.f_bsize } as u64;
    #[allow(clippy::unnecessary_cast, reason = "the width differs between targets")]
    Ok(Disk {
        free_bytes: (system.f_bavail as u64).saturating_mul(unit),
        total_bytes: (system.f_blocks as u64).saturating_mul(unit),
        free_inodes: system.f_ffree as u64,
        kind: kind(system.f_type as u32),
    })
}

/// Returns the name of the file system with this magic number (statfs(2)).
fn kind(magic: u32) -> String {
    let name = match magic {
        0xEF53 => "ext4",
        0x5846_5342 => "xfs",
        0x9123_683E => "btrfs",
        0x2FC1_2FC1 => "zfs",
        0xF2F5_2010 => "f2fs",
        0xCA45_1A4E => "bcachefs",
        0x794C_7630 => "overlay",
        0x0102_1994 => "tmpfs",
        0x8584_58F6 => "ramfs",
        0x6969 => "nfs",
        0xFF53_4D42 | 0xFE53_4D42 | 0x517B => "cifs",
        0x0102_1997 => "9p",
        0x6573_5546 => "fuse",
        0x00C3_6400 => "ceph",
        other => return format!("{other:#x}"),
    };
    name.to_owned()
}

struct Stat {
    cpu_ticks: u64,
    start_ticks: u64,
    threads: u64,
}

impl Stat {
    fn read() -> io::Result<Stat> {
        let stat = fs::read_to_string("/proc/self/stat")?;
        // The name in parentheses may contain anything; the fields after it are numbered from 3.
        let (_, rest) = stat.rsplit_once(") ").ok_or_else(unexpected)?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let field = |number: usize| {
            fields.get(number - 3).and_then(|word| word.parse::<u64>().ok()).ok_or_else(unexpected)
        };
        Ok(Stat { cpu_ticks: field(14)? + field(15)?, start_ticks: field(22)?, threads: field(20)? })
    }
}

/// Returns the number of open descriptors. Linux 6.2 and later report it as the folder's size. Earlier versions need
/// a listing, which takes 1 us per descriptor.
fn fds_open() -> io::Result<u64> {
    match fs::metadata("/proc/self/fd")?.len() {
        // The listing includes its own descriptor.
        0 => Ok((fs::read_dir("/proc/self/fd")?.count() as u64).saturating_sub(1)),
        count => Ok(count),
    }
}

fn fds_max() -> io::Result<u64> {
    let limits = fs::read_to_string("/proc/self/limits")?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).ok_or_else(unexpected)?;
    match line.split_ascii_whitespace().next() {
        Some("unlimited") => Ok(u64::MAX),
        Some(count) => count.parse().map_err(|_| unexpected()),
        None => Err(unexpected()),
    }
}

fn boot_seconds() -> io::Result<f64> {
    let stat = fs::read_to_string("/proc/stat")?;
    let line = stat.lines().find_map(|line| line.strip_prefix("btime ")).ok_or_else(unexpected)?;
    line.trim().parse().map_err(|_| unexpected())
}

fn unexpected() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "/proc has another shape than proc(5) says")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock;
    use crate::ops::prometheus::Format;

    #[test]
    fn a_process_knows_its_own_figures() {
        let before = Process::read().unwrap();
        let held: Vec<fs::File> = (0..20).map(|_| fs::File::open("/proc/self/stat").unwrap()).collect();
        let after = Process::read().unwrap();
        assert!(after.fds_open >= held.len() as u64 && after.fds_open < after.fds_max, "{after:?}");
        assert!(after.resident_bytes > 1 << 20 && after.resident_bytes < after.virtual_bytes, "{after:?}");
        assert!(after.cpu_seconds >= before.cpu_seconds && after.threads >= 1);
        let age_seconds = clock::unix_us() as f64 / 1e6 - after.start_seconds;
        assert!((-2.0..3600.0).contains(&age_seconds), "started {age_seconds} s ago");
    }

    #[test]
    fn cpu_time_is_told_by_thread_name() {
        let (say_ready, ready) = async_channel::bounded::<()>(1);
        let (say_end, end) = async_channel::bounded::<()>(1);
        let busy = std::thread::Builder::new().name("busy-thread".to_owned());
        let busy = busy
            .spawn(move || {
                let until = clock::monotonic_us() + 20_000;
                while clock::monotonic_us() < until {}
                say_ready.send_blocking(()).unwrap();
                end.recv_blocking().unwrap();
            })
            .unwrap();
        ready.recv_blocking().unwrap();
        let threads = threads().unwrap();
        say_end.send_blocking(()).unwrap();
        busy.join().unwrap();
        let cpu_ns = threads.iter().find(|thread| thread.name == "busy-thread").unwrap().cpu_ns;
        assert!(cpu_ns > 1_000_000, "{cpu_ns} ns");
    }

    #[test]
    fn a_disk_is_named_and_measured() {
        let disk_here = disk(Path::new(".")).unwrap();
        assert!(disk_here.free_bytes <= disk_here.total_bytes && disk_here.total_bytes > 0, "{disk_here:?}");
        assert!(disk(Path::new("/nowhere/at/all")).is_err());
        assert_eq!(kind(0x0102_1994), "tmpfs");
        assert_eq!(kind(0x1234), "0x1234");
    }

    #[test]
    fn the_process_families_make_a_page() {
        let mut page = Page::new(Format::OpenMetrics);
        write_process_families(&mut page);
        let page = page.finish();
        for name in ["process_resident_memory_bytes ", "process_cpu_seconds_total ", "process_max_fds "] {
            assert!(page.lines().any(|line| line.starts_with(name)), "{name}\n{page}");
        }
        assert!(page.contains("firehose_thread_cpu_seconds_total{thread=\""), "{page}");
    }
}
