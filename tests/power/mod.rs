//! What the tests of power cuts share: a data folder on a disk that forgets.

mod device;

use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;

use crate::disk::PowerDisk;
use crate::support::{Folder, command};

/// A disk with a data folder on it.
struct Rig {
    disk: PowerDisk,
    folder: Folder,
}

impl Rig {
    /// `None` where the test may not mount.
    #[track_caller]
    fn new() -> Option<Rig> {
        let folder = Folder::new();
        let disk = PowerDisk::mount(folder.beside("disk"))?;
        Some(Rig { disk, folder })
    }

    fn data(&self) -> PathBuf {
        self.disk.path().join("data")
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
