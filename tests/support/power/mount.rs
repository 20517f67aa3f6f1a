//! Mounting with and without root.

use std::fs::OpenOptions;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;

use fuser::{BackgroundSession, Config, MountOption};

use super::device::Device;
use crate::support::skip;

/// Set if the test already runs in its own namespace.
const INSIDE: &str = "TEST_INSIDE_NAMESPACE";

/// Returns `true` if this process may mount. If it may not, the test runs again as root of its own namespace, and
/// fails here if it fails there.
#[track_caller]
pub fn may_mount() -> bool {
    if let Err(error) = OpenOptions::new().read(true).write(true).open("/dev/fuse") {
        skip(&format!("this test mounts a file system of its own: /dev/fuse: {error}"));
        return false;
    }
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
    if is_root {
        return true;
    }
    assert!(std::env::var_os(INSIDE).is_none(), "a namespace of its own without root in it");
    let namespace = Command::new("unshare").args(["-Urm", "true"]).status();
    if !namespace.is_ok_and(|status| status.success()) {
        skip("this test mounts a file system; it is not root and may not make a namespace");
        return false;
    }
    let thread = std::thread::current();
    let test = thread.name().expect("a test's thread has its name");
    let program = std::env::current_exe().expect("the path of this program");
    let mut again = Command::new("unshare");
    again
        .arg("-Urm")
        .arg(program)
        .args(["--exact", test, "--nocapture", "--include-ignored"])
        .env(INSIDE, "1");
    let status = again.status().expect("unshare runs");
    assert!(status.success(), "{test} failed in a namespace of its own: see above");
    false
}

/// Mounts the device. If root may not mount either, skips the test with a message and returns `None`.
#[track_caller]
pub fn mount(at: &Path, device: Device) -> Option<BackgroundSession> {
    std::fs::create_dir_all(at).expect("a mount point");
    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::FSName("firehose-power-cut".to_owned()),
        MountOption::DefaultPermissions,
        MountOption::NoAtime,
    ];
    fuser::spawn_mount(device, at, &config)
        .map_err(|error| skip(&format!("this test needs to mount a file system and may not: {error}")))
        .ok()
}

/// Unmounts lazily, because a server that is about to be killed may still use the disk.
pub fn unmount(at: &Path) {
    let _ = Command::new("umount").arg("-l").arg(at).status();
}
