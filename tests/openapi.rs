//! The OpenAPI document matches the server: schemathesis checks every operation against its description.
//!
//! `tests/openapi/schemathesis.toml` lists the checks and the exceptions with their reasons. `tests/openapi/hooks.py`
//! contains what a schema cannot express. `TEST_EXAMPLES` is the number of examples per operation (100), `TEST_SEED`
//! selects other examples (1), and with `TEST_SECONDS` each test runs for this time.

use std::path::Path;
use std::process::Command;

use crate::support::{Folder, cpus, python, skip};

/// hypothesis generates the examples: another version makes other examples from the same seed.
const PACKAGES: &[&str] = &["schemathesis==4.32.5", "hypothesis==6.170.17"];

/// Returns an environment variable, or `None` if it is not set.
fn variable(name: &str) -> Option<String> {
    std::env::vars_os().find(|(known, _)| known == name).and_then(|(_, value)| value.into_string().ok())
}

/// The tags of the operations that one test calls. The last test calls the remaining operations.
const EVENTS: &[&str] = &["collector", "events", "people", "operations", "documentation"];
const ORDERS: &[&str] = &["orders", "uploads", "sales", "stock"];

#[test]
fn every_operation_answers_as_the_document_says() {
    ask("examples,coverage,stateful", "--include-tag", &[]);
}

#[test]
fn made_up_requests_about_events_are_answered_as_the_document_says() {
    ask("fuzzing", "--include-tag", EVENTS);
}

#[test]
fn made_up_requests_about_orders_are_answered_as_the_document_says() {
    ask("fuzzing", "--include-tag", ORDERS);
}

#[test]
fn made_up_requests_about_all_the_rest_are_answered_as_the_document_says() {
    ask("fuzzing", "--exclude-tag", &[EVENTS, ORDERS].concat());
}

/// Runs these phases against a new server, so that no test sees another's data.
fn ask(phases: &str, chosen: &str, tags: &[&str]) {
    let python = match python(PACKAGES, "import schemathesis") {
        Ok(python) => python,
        Err(reason) => return skip(&reason),
    };
    let folder = Folder::new();
    let made = folder.run(&["key", "create", "--scope", "admin"]);
    assert!(made.status.success(), "{made:?}");
    let key = String::from_utf8(made.stdout).expect("a key is ASCII");
    let server = folder.serve(&["--cores", &cpus(2)]);

    let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/openapi");
    let mut st = Command::new(python.with_file_name("st"));
    st.arg("--no-color").arg("--config-file").arg(rules.join("schemathesis.toml"));
    st.arg("run").arg(format!("http://{}/openapi.json", server.address));
    st.arg("--header").arg(format!("Authorization: Bearer {}", key.trim()));
    st.args(["--phases", phases]).args(tags.iter().flat_map(|tag| [chosen, tag]));
    st.arg("--seed").arg(variable("TEST_SEED").unwrap_or_else(|| "1".to_owned()));
    // Python runs one thread at a time, and its compiler of syntax trees fails if several threads use it. Concurrent
    // tests are faster than workers.
    st.args(["--workers", "1"]);
    st.arg("--max-examples").arg(variable("TEST_EXAMPLES").unwrap_or_else(|| "100".to_owned()));
    if let Some(seconds) = variable("TEST_SECONDS") {
        st.arg("--max-time").arg(seconds);
    }
    // It runs next to the data folder, because it writes its failures into the current folder.
    let output = st.env("PYTHONPATH", &rules).current_dir(folder.beside("")).output().expect("st runs");
    let said = String::from_utf8_lossy(&output.stdout);
    let failures = ["= ERRORS =", "= FAILURES ="].iter().filter_map(|title| said.find(title)).min();
    let told: Vec<&str> = said[failures.unwrap_or_default()..].lines().take(400).collect();
    assert!(output.status.success(), "{}\n{}", told.join("\n"), String::from_utf8_lossy(&output.stderr));
    // No response was cut off by a thread that panicked.
    assert!(server.logged("panicked").is_none(), "{}", server.log());
    server.stop();
    let summary = said.find("= SUMMARY =").unwrap_or_default();
    eprintln!("{}", &said[summary..]);
}
