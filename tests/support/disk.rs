//! Disks that refuse: a small file system that can be filled, and a file whose sync fails.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::skip;

/// A tmpfs that is unmounted on drop.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts a tmpfs of `bytes` bytes. If the test may not mount, skips it with a message and returns `None`.
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
        // The unmount is lazy, because a server that is about to be killed may still use the disk.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Makes the next sync of this file fail. The server continues to write to the file, because it has it open.
pub fn break_sync(segment: &Path) {
    fs::rename(segment, segment.with_extension("aside")).expect("the segment is renamed");
    symlink(segment, segment).expect("a link to itself");
}
