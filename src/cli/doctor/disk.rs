//! Checks of the disk under the data folder: its type, its free space, how long a sync takes.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::Finding;
use crate::base::clock;
use crate::config::{AckLevel, Config};
use crate::shard::ShardError;
use crate::{ops, shard};

/// The number of measured syncs. The median is reported.
const SYNCS: usize = 20;

/// The maximum duration of a sync, in microseconds. A slower sync makes `ack=disk` slow. The cause is a disk cache or
/// a network.
const SYNC_US_MAX: u64 = 20_000;

/// The free space that a busy first hour may need.
const FREE_BYTES_MIN: u64 = 1 << 30;

const ACCESS: &str = "give the server's user access to the folder, or choose another with --data";
const MORE_SPACE: &str = "free some space, or choose another folder with --data";

pub(super) fn file_system(config: &Config) -> Finding {
    const CHECK: &str = "file_system";
    let folder = existing(&config.data);
    let disk = match ops::disk(&folder) {
        Ok(disk) => disk,
        Err(error) => {
            return Finding::fail(CHECK, format!("{}: {error}", folder.display()), "make it reachable");
        }
    };
    let found = format!("{} is on {}", folder.display(), disk.kind);
    match (disk.kind.as_str(), config.ack) {
        ("tmpfs" | "ramfs", AckLevel::Os) => {
            Finding::warn(CHECK, format!("{found}: a power cut deletes it"), "put --data on a disk")
        }
        ("tmpfs" | "ramfs", AckLevel::Disk) => Finding::fail(
            CHECK,
            format!("{found}: it cannot keep the promise of ack=disk"),
            "put --data on a disk",
        ),
        ("nfs" | "cifs" | "9p" | "ceph", _) => Finding::fail(
            CHECK,
            format!("{found}: SQLite's WAL needs memory that is shared between processes of one machine"),
            "put --data on a local disk",
        ),
        ("fuse" | "overlay", _) => Finding::warn(
            CHECK,
            format!("{found}: whether a sync reaches a disk depends on the layer below"),
            "put --data on a separate volume",
        ),
        _ => Finding::ok(CHECK, found),
    }
}

pub(super) fn space(config: &Config) -> Finding {
    const CHECK: &str = "disk_space";
    let folder = existing(&config.data);
    let disk = match ops::disk(&folder) {
        Ok(disk) => disk,
        Err(error) => {
            return Finding::fail(CHECK, format!("{}: {error}", folder.display()), "make it reachable");
        }
    };
    let mib = |bytes: u64| bytes >> 20;
    let found = format!("{} MiB free of {}", mib(disk.free_bytes), mib(disk.total_bytes));
    if disk.free_bytes <= config.disk_reserve {
        let found = format!("{found}; disk_reserve keeps {} of them", mib(config.disk_reserve));
        Finding::fail(CHECK, found, "free some space, or lower --disk-reserve")
    } else if disk.free_bytes < FREE_BYTES_MIN {
        Finding::warn(CHECK, found, "free some space: events get 507 when it runs out")
    } else {
        Finding::ok(CHECK, found)
    }
}

pub(super) fn sync_latency(config: &Config) -> Finding {
    const CHECK: &str = "sync_latency";
    let folder = existing(&config.data);
    match measure(&folder) {
        Err(error) => Finding::fail(
            CHECK,
            format!("cannot write in {}: {error}", folder.display()),
            match error.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => MORE_SPACE,
                _ => ACCESS,
            },
        ),
        Ok(median_us) => {
            let found =
                format!("{}.{:03} ms median of {SYNCS} small appends", median_us / 1000, median_us % 1000);
            if median_us > SYNC_US_MAX {
                Finding::warn(
                    CHECK,
                    found,
                    "every ack=disk response waits that long: use a faster disk, or ack=os",
                )
            } else {
                Finding::ok(CHECK, found)
            }
        }
    }
}

pub(super) fn temporary_files(config: &Config) -> Finding {
    const CHECK: &str = "temp_files";
    let folder = existing(&config.data);
    match shard::try_temporary_file(&folder) {
        Ok(()) => Finding::ok(
            CHECK,
            format!("SQLite can create temporary files in {}; /tmp is not needed", folder.display()),
        ),
        Err(ShardError::Full) => {
            let found = format!("there is no space for a temporary file of SQLite in {}", folder.display());
            Finding::fail(CHECK, found, MORE_SPACE)
        }
        Err(error) => Finding::fail(
            CHECK,
            format!("SQLite cannot make a temporary file in {}: {error}", folder.display()),
            ACCESS,
        ),
    }
}

pub(super) fn privacy(config: &Config) -> Finding {
    const CHECK: &str = "data_mode";
    let mode = config.data_mode.folder_mode();
    let loose = shard::loose(&config.data, mode);
    if loose.is_empty() {
        return Finding::ok(
            CHECK,
            format!("permissions of the data folder are at most {mode:04o}, and its secrets are private"),
        );
    }
    let words = |each: fn(&shard::LooseMode) -> String, between| {
        loose.iter().map(each).collect::<Vec<_>>().join(between)
    };
    let remedy = words(|loose| format!("chmod {:04o} {}", loose.mode_max, loose.path.display()), "; ");
    Finding::warn(CHECK, words(ToString::to_string, "; "), remedy)
}

/// Returns the folder, or its nearest existing ancestor.
fn existing(folder: &Path) -> PathBuf {
    let found = folder.ancestors().find(|folder| folder.is_dir());
    match found {
        // The last ancestor of a relative path is empty.
        Some(found) if !found.as_os_str().is_empty() => found.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Returns the median time of a small append with its sync, in microseconds.
fn measure(folder: &Path) -> io::Result<u64> {
    let path = folder.join(format!(".firehose-doctor-{}", std::process::id()));
    let measured = append_and_sync(&path);
    let removed = fs::remove_file(&path);
    let mut times_us = measured?;
    removed?;
    times_us.sort_unstable();
    Ok(times_us[times_us.len() / 2])
}

fn append_and_sync(path: &Path) -> io::Result<[u64; SYNCS]> {
    let mut file = OpenOptions::new().append(true).create_new(true).open(path)?;
    let mut times_us = [0; SYNCS];
    for time_us in &mut times_us {
        let start_us = clock::monotonic_us();
        file.write_all(&[0; 200])?;
        file.sync_data()?;
        *time_us = clock::monotonic_us() - start_us;
    }
    Ok(times_us)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Verdict;

    #[test]
    fn a_folder_to_come_is_judged_by_the_one_that_is_there() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(existing(&folder.path().join("a/b")), folder.path());
        assert_eq!(existing(Path::new("not-here/at/all")), Path::new("."));
        let config = Config { data: folder.path().join("a/b"), ..Config::defaults() };
        let finding = sync_latency(&config);
        assert!(finding.found.contains(" ms median"), "{finding:?}");
    }

    #[test]
    fn a_reserve_larger_than_the_room_fails() {
        let config = Config { disk_reserve: u64::MAX, ..Config::defaults() };
        assert_eq!(space(&config).verdict, Verdict::Fail);
    }

    #[test]
    fn a_folder_that_cannot_be_written_fails() {
        let config = Config { data: "/proc/self/net".into(), ..Config::defaults() };
        let finding = sync_latency(&config);
        assert!(finding.verdict == Verdict::Fail && finding.found.starts_with("cannot write"), "{finding:?}");
    }
}
