//! A Python installation of the tests, with third-party packages.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Returns a Python with these packages from PyPI, which are installed into `target/` on first use, or the reason why
/// there is none.
pub fn python(packages: &[&str], imports: &str) -> Result<PathBuf, String> {
    let venvs = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-venv");
    let name = packages.join("-");
    // One thread or program at a time makes it. The lock is released with the file.
    let lock = fs::create_dir_all(&venvs).and_then(|()| File::create(venvs.join(format!("{name}.lock"))));
    let held = lock.and_then(|lock| lock.lock().map(|()| lock));
    let _held = held.map_err(|error| format!("{}: {error}", venvs.display()))?;
    install(&venvs.join(name), packages, imports)
}

fn install(venv: &Path, packages: &[&str], imports: &str) -> Result<PathBuf, String> {
    let python = venv.join("bin/python");
    let works = || {
        let check = Command::new(&python).args(["-c", imports]).stderr(Stdio::null()).status();
        check.is_ok_and(|status| status.success())
    };
    if works() {
        return Ok(python);
    }
    let made = Command::new("python3").args(["-m", "venv"]).arg(venv).output();
    let made = made.map_err(|error| format!("python3: {error}"))?;
    if !made.status.success() {
        return Err(format!("python3 -m venv: {}", String::from_utf8_lossy(&made.stdout)));
    }
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(packages);
    let installed = pip.output().map_err(|error| format!("pip: {error}"))?;
    match installed.status.success() && works() {
        true => Ok(python),
        false => Err(format!("pip install {packages:?}: {}", String::from_utf8_lossy(&installed.stderr))),
    }
}
