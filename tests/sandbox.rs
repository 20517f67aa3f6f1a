//! A sandbox may lack `/tmp`, `/sys`, `/proc` and a writable root. What the server accepts there is stored there, and
//! it reports what it cannot use before it serves.

use crate::support::{Folder, Report, Sandbox, stored};
use serde_json::Value;

/// Checks that posted events are stored and found, in batches large enough that SQLite needs temporary files.
fn check_stores(folder: &Folder, sandbox: &Sandbox) {
    let mut server = folder.spawn_as(sandbox.command(), &sandbox.data, &["--shards", "1"]);
    server.wait_until_serving();
    let (mut client, mut all) = (server.client(), Report::default());
    for _ in 0..300 {
        all.post(&mut client);
    }
    let rows: Vec<String> = (0..2_000)
        .map(|number| {
            format!(
                r#"{{"event_id":"e{number}","tenant_id":"t","source":"web","event_type":"x","timestamp":"2024-01-14T10:30:00Z","payload":{{"text":"{}"}}}}"#,
                "x".repeat(500)
            )
        })
        .collect();
    let bulk = format!(r#"{{"events":[{}]}}"#, rows.join(","));
    let answer = client.ask("POST", "/events/bulk", &bulk).expect("the server answers");
    assert_eq!((answer.status, &answer.json()["rejected"]), (200, &Value::from(0)), "{answer:?}");
    server.wait_until_stored();
    // A sorted response: readers need temporary files too.
    let read = server.get("/events?tenant_id=t&page_size=1000&order=desc");
    assert_eq!((read.status, &read.json()["total"]), (200, &Value::from(2_000)));
    let line = server.logged_exactly("serving").expect("it says that it serves");
    let epoll = server.logged("io_uring is refused");
    assert_eq!(line["runtime"], "epoll", "{line}");
    let reason = epoll.expect("it says why")["reason"].as_str().expect("a reason").to_owned();
    assert!(!reason.is_empty());
    server.stop();
    all.check(&stored(&folder.data()));
}

/// Runs `doctor` in the sandbox and returns the verdict and the text of one check.
fn finding(sandbox: &Sandbox, check: &str) -> (String, String) {
    let mut command = sandbox.command();
    let output = command.args(["doctor", "--json", "--data"]).arg(&sandbox.data).output().expect("it runs");
    let said: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    let checks = said["checks"].as_array().expect("checks");
    let found = checks.iter().find(|found| found["check"] == check).unwrap_or_else(|| panic!("{said}"));
    (
        found["verdict"].as_str().expect("a word").to_owned(),
        found["found"].to_string() + &found["remedy"].to_string(),
    )
}

#[test]
fn without_a_tmp_to_write_everything_accepted_is_stored() {
    let folder = Folder::new();
    let Some(sandbox) = Sandbox::bare(&folder) else { return };
    check_stores(&folder, &sandbox);
    let (verdict, words) = finding(&sandbox, "temp_files");
    assert_eq!(verdict, "ok", "{words}");
}

#[test]
fn without_sys_auto_serves_on_epoll_and_io_uring_is_refused_before_serving() {
    let folder = Folder::new();
    let Some(sandbox) = Sandbox::without_sys(&folder) else { return };
    check_stores(&folder, &sandbox);
    let (verdict, words) = finding(&sandbox, "io_uring");
    assert!(verdict == "warn" && words.contains("--runtime epoll"), "{verdict}: {words}");
    let ended = folder.spawn_as(sandbox.command(), &sandbox.data, &["--runtime", "io_uring"]).wait();
    assert_eq!(ended.code, Some(78), "{}", ended.log);
    assert!(ended.log.contains("--runtime epoll") && !ended.log.contains("panic"), "{}", ended.log);
    assert!(!ended.log.contains("\"serving\""), "{}", ended.log);
}
