//! A Python of the tests' own, with packages that others keep.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// Python with these packages from PyPI, installed into `target/` on first use; or why there is none. Only the
/// first caller's wish counts: a test program has one.
pub fn python(packages: &[&str], imports: &str) -> Result<PathBuf, String> {
    static PYTHON: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    PYTHON.get_or_init(|| install(packages, imports)).clone()
}

fn install(packages: &[&str], imports: &str) -> Result<PathBuf, String> {
    let venv = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-venv").join(packages.join("-"));
    let python = venv.join("bin/python");
    let works = || {
        let check = Command::new(&python).args(["-c", imports]).stderr(Stdio::null()).status();
        check.is_ok_and(|status| status.success())
    };
    if works() {
        return Ok(python);
    }
    let made = Command::new("python3").args(["-m", "venv"]).arg(&venv).output();
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
