//! Shared parts of the power-cut tests: a server on a disk that forgets, a cut, and every state that the disk may
//! then have.

mod commands;
mod device;
mod events;
mod exports;
mod load;
mod moving;
mod orders;
mod os_level;
mod passes;
mod people;
mod products;
mod quiet;
mod segments;
mod uploads;

use std::collections::HashSet;
use std::fmt;
use std::fs;
use std::hash::{DefaultHasher, Hasher as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use serde_json::Value;

use crate::disk::{Order, Policy, PowerDisk};
use crate::support::{Folder, Server, command};

/// Number of images of each policy that chooses by chance.
const SEEDS: u64 = 2;

/// Duration of a sync in tests that wait for one. A response that does not wait arrives earlier.
const SYNC_TIME: Duration = Duration::from_millis(10);

/// A disk with a data folder on it.
struct Rig {
    disk: PowerDisk,
    folder: Folder,
}

/// A state of the disk after the cut, and the server that runs on it.
struct After {
    data: PathBuf,
    server: Server,
}

/// The outcome of the checked states.
#[derive(Debug, Default)]
struct Images {
    different: usize,
    /// How each failed image was made.
    failed: Vec<String>,
}

impl fmt::Display for Images {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} of {} images fail: {:?}", self.failed.len(), self.different, self.failed)
    }
}

impl Images {
    #[track_caller]
    fn assert_sound(&self) {
        assert!(self.failed.is_empty(), "{self}");
    }
}

impl Rig {
    /// Mounts a disk. Returns `None` if the test may not mount.
    #[track_caller]
    fn new() -> Option<Rig> {
        let folder = Folder::new();
        let disk = PowerDisk::mount(folder.beside("disk"))?;
        Some(Rig { disk, folder })
    }

    fn data(&self) -> PathBuf {
        self.disk.path().join("data")
    }

    /// Starts a server with two shards.
    #[track_caller]
    fn serve(&self, flags: &[&str]) -> Server {
        self.serve_on(&self.data(), flags)
    }

    #[track_caller]
    fn serve_on(&self, data: &Path, flags: &[&str]) -> Server {
        self.folder.serve_on(data, &[&["--shards", "2"], flags].concat())
    }

    /// Makes everything durable, as if the server had been idle for a long time. Syncs take time from here on.
    fn settle(&self) {
        self.disk.settle();
        self.disk.syncs_take(SYNC_TIME);
    }

    /// Cuts the power and checks every state that the disk may have, with a server on it.
    #[track_caller]
    fn cut(&self, server: Server, check: impl Fn(&After)) -> Images {
        self.disk.cut();
        server.kill();
        self.after_cut(|image| {
            let data = image.join("data");
            let server = self.serve_on(&data, &[]);
            let after = After { data, server };
            check(&after);
            after.server.kill();
        })
    }

    /// Checks every state of the disk, each different one once.
    fn after_cut(&self, check: impl Fn(&Path)) -> Images {
        self.after_cut_by(&Policy::LOSING, SEEDS, check)
    }

    /// Checks the states of these policies, with `seeds` images of each policy that chooses by chance.
    fn after_cut_by(&self, policies: &[Policy], seeds: u64, check: impl Fn(&Path)) -> Images {
        let orders = [Order::Strict, Order::Ext4];
        let all = orders.iter().flat_map(|order| policies.iter().map(move |policy| (*order, *policy)));
        let (mut seen, mut images, mut number) = (HashSet::new(), Images::default(), 0);
        for (order, policy) in all {
            for seed in 0..if policy.is_by_chance() { seeds } else { 1 } {
                number += 1;
                let image = self.folder.beside(&format!("image-{number:02}"));
                self.disk.image(order, policy, seed, &image);
                if seen.insert(digest(&image)) {
                    images.different += 1;
                    if catch_unwind(AssertUnwindSafe(|| check(&image))).is_err() {
                        images.failed.push(format!("{order:?} {policy:?} {seed}"));
                    }
                }
                let _ = fs::remove_dir_all(&image);
            }
        }
        images
    }
}

/// Runs a command on a data folder.
fn run(data: &Path, words: &[&str]) -> Output {
    command().args(words).arg("--data").arg(data).output().expect("the program runs")
}

#[track_caller]
fn run_json(data: &Path, words: &[&str]) -> Value {
    let output = run(data, &[words, &["--json"]].concat());
    assert!(output.status.success(), "{words:?}: {output:?}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// Checks that SQLite finds no error and that every sum equals a recount. Torn records in a journal were not acked at
/// `disk`, so the command may report them.
#[track_caller]
fn verify_databases(data: &Path) {
    let output = run(data, &["verify", "--aggregates", "--json"]);
    let checked: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let is_database = |of: &&Value| of["path"].as_str().is_some_and(|path| path.contains("shard.db"));
    let databases: Vec<_> = checked.as_array().expect("a list").iter().filter(is_database).collect();
    assert!(!databases.is_empty() && databases.iter().all(|of| of["ok"] == true), "{databases:?}");
}

/// Returns every file and folder below a folder.
fn files_of(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files_of(&path));
        }
        found.push(path);
    }
    found.sort();
    found
}

/// Returns a digest of the names and bytes below a folder.
fn digest(folder: &Path) -> u64 {
    let mut hasher = DefaultHasher::new();
    for path in files_of(folder) {
        let name = path.strip_prefix(folder).expect("it is inside");
        hasher.write(name.as_os_str().as_encoded_bytes());
        // SQLite makes its shared memory again.
        if path.is_file() && path.extension().is_none_or(|extension| extension != "db-shm") {
            hasher.write(&fs::read(&path).expect("a file of the image"));
        }
    }
    hasher.finish()
}
