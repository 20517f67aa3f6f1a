//! Environments that lack what a complete machine has: one without `/sys`, and one with only the program and its
//! folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::process::Folder;
use super::skip::skip;

/// A set of private mounts, which end with the last process in them.
pub struct Sandbox {
    script: String,
    /// The data folder as the program sees it in the sandbox.
    pub data: PathBuf,
}

impl Sandbox {
    /// Returns the machine with an empty `/sys`. If the test may not mount, skips it with a message and returns
    /// `None`.
    pub fn without_sys(folder: &Folder) -> Option<Sandbox> {
        let script = "mount -t tmpfs none /sys\nexec \"$@\"";
        Sandbox { script: format!("set -e\n{script}"), data: folder.data() }.checked()
    }

    /// Returns a read-only root that contains the program, its libraries and `/data`, for an unprivileged user
    /// (65534), as in a container without a distribution.
    pub fn bare(folder: &Folder) -> Option<Sandbox> {
        let (root, data) = (folder.beside("root"), folder.data());
        fs::create_dir_all(&root).expect("a root");
        fs::create_dir_all(&data).expect("a data folder");
        let script = format!(
            "set -e\n\
             root='{root}'\n\
             mount -t tmpfs none \"$root\"\n\
             for library in /usr /lib /lib64; do\n\
               if [ -L \"$library\" ]; then cp -P \"$library\" \"$root$library\"\n\
               elif [ -d \"$library\" ]; then mkdir \"$root$library\"; mount --bind \"$library\" \"$root$library\"; fi\n\
             done\n\
             touch \"$root/firehose\"; mount --bind \"$1\" \"$root/firehose\"; shift\n\
             mkdir \"$root/data\"; mount --bind '{data}' \"$root/data\"; chown 65534:65534 \"$root/data\"\n\
             mount -o remount,ro \"$root\"\n\
             exec chroot --userspec=65534:65534 \"$root\" /firehose \"$@\"",
            root = root.display(),
            data = data.display()
        );
        Sandbox { script, data: Path::new("/data").to_owned() }.checked()
    }

    /// Returns a command that runs the program in the sandbox with the words that are added.
    pub fn command(&self) -> Command {
        let mut command = self.of(env!("CARGO_BIN_EXE_firehose"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("FIREHOSE_") {
                command.env_remove(name);
            }
        }
        command
    }

    fn of(&self, program: &str) -> Command {
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", &self.script, "sh", program]).stdin(Stdio::null());
        command.current_dir(std::env::temp_dir());
        command
    }

    fn checked(self) -> Option<Sandbox> {
        match self.of(env!("CARGO_BIN_EXE_firehose")).arg("--version").output() {
            Ok(output) if output.status.success() => Some(self),
            refused => {
                skip(&format!("this test needs mounts of its own and may not have them: {refused:?}"));
                None
            }
        }
    }
}
