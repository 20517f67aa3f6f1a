//! Disks that refuse: a small file system that can be filled, a file whose sync fails.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::skip;

/// A tmpfs, unmounted when this is dropped.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None`, and a word about it, where the test may not mount.
    pub fn mount(at: PathBuf, bytes: u64) -> Option<SmallDisk> {
        fs::create_dir_all(&at).expect("a mount point");
        let size = format!("size={bytes}");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "firehose-test"]).arg(&at).output();
        match mounted {
            Ok(output) if output.status.success() => Some(SmallDisk(at)),
            refused => {
                skip(&format!("this test needs to mount a small file system and may not: {refused:?}"));
                None
            }
        }
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a server that is about to be killed may still be on it.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// The next sync of this file fails, and the server goes on writing to it: it has the file open.
pub fn break_sync(segment: &Path) {
    fs::rename(segment, segment.with_extension("aside")).expect("the segment is renamed");
    symlink(segment, segment).expect("a link to itself");
}
