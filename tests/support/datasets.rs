//! Datasets of `firehose gen-dataset`: the command, and the rows of its files.

use std::fs;
use std::path::Path;
use std::process::Output;

use serde_json::Value;
use tempfile::TempDir;

/// Runs the command with these flags.
pub fn generate(flags: &str) -> Output {
    super::command().arg("gen-dataset").args(flags.split_whitespace()).output().expect("it runs")
}

/// Generates files with these flags.
#[track_caller]
pub fn generated(flags: &str) -> TempDir {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let output = generate(&format!("{flags} --out {}", dir.path().display()));
    assert!(output.status.success(), "{flags}: {}", String::from_utf8_lossy(&output.stderr));
    dir
}

/// Returns everything that the command wrote to a terminal.
pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

pub fn ndjson(dir: &Path, name: &str) -> Vec<Value> {
    let text = fs::read_to_string(dir.join(name)).expect("UTF-8");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

pub fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value[name].as_str().unwrap_or_else(|| panic!("no text {name} in {value}"))
}
