//! The dashboard: its files and its state over HTTP, and the page itself in a headless browser, under load and through
//! an outage.

mod support;

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::thread::JoinHandle;
use std::time::Duration;

use firehose::base::clock;
use serde_json::Value;
use support::{
    Answer, Client, Folder, Load, Report, Server, cpus, hold_lock, skip, stored, wait_for, wait_until,
};

const BROWSER_ACCEPT: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";

/// Sends a GET with these additional header lines.
#[track_caller]
fn get(client: &mut Client, target: &str, headers: &str) -> Answer {
    let request = format!("GET {target} HTTP/1.1\r\nHost: test\r\n{headers}\r\n");
    client.write(request.as_bytes()).expect("it is taken");
    client.answer().expect("an answer")
}

/// Returns the state and checks that received equals stored plus pending in every shard (W4).
#[track_caller]
fn state(server: &Server) -> Value {
    let answer = server.get("/dashboard/state");
    assert_eq!((answer.status, answer.header("Cache-Control")), (200, Some("no-store")), "{answer:?}");
    let state = answer.json();
    for shard in state["shards"].as_array().expect("shards") {
        let number = |name: &str| shard[name].as_u64().expect("a number");
        assert_eq!(number("received"), number("stored") + number("pending"), "{shard}");
    }
    state
}

#[test]
fn browsers_get_the_page_at_the_root_and_others_what_they_got() {
    let folder = Folder::new();
    let server = folder.serve(&[]);
    let mut client = server.client();
    for accept in ["", "Accept: */*\r\n", "Accept: application/json\r\n"] {
        let answer = get(&mut client, "/", accept);
        assert_eq!((answer.status, answer.header("Location")), (303, Some("/docs")), "{accept}");
        assert_eq!(answer.header("Vary"), Some("Accept"));
    }
    let accept = format!("Accept: {BROWSER_ACCEPT}\r\n");
    let page = get(&mut client, "/", &accept);
    assert_eq!((page.status, page.header("Content-Type")), (200, Some("text/html; charset=utf-8")));
    assert_eq!(page.header("Vary"), Some("Accept, Accept-Encoding"));
    let policy = page.header("Content-Security-Policy").expect("a policy");
    assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';"), "{policy}");
    assert!(!policy.contains("unsafe") && !policy.contains("http"), "{policy}");
    assert_eq!(get(&mut client, "/dashboard", "").body, page.body);
    let html = String::from_utf8(page.body).expect("text");
    // Every file that the page names exists, and is not sent again to a client that has it.
    let files: Vec<&str> =
        html.split('"').filter(|word| word.starts_with("/dashboard/") && !word.contains("LICENSE")).collect();
    assert!(files.len() > 4, "{files:?}");
    for file in files {
        let answer = get(&mut client, file, "Accept-Encoding: gzip\r\n");
        assert_eq!((answer.status, answer.header("Content-Encoding")), (200, Some("gzip")), "{file}");
        let tag = answer.header("ETag").expect("a tag");
        let known = format!("Accept-Encoding: gzip\r\nIf-None-Match: {tag}\r\n");
        let again = get(&mut client, file, &known);
        assert_eq!((again.status, again.body.len(), again.header("ETag")), (304, 0, Some(tag)), "{file}");
    }
    let icon = get(&mut client, "/favicon.ico", "");
    assert_eq!((icon.status, icon.header("Content-Type")), (200, Some("image/x-icon")));
    assert_eq!(icon.header("Cache-Control"), Some("public, max-age=86400"));
    assert!(icon.body.starts_with(&[0, 0, 1, 0, 1, 0, 32, 32]), "one icon of 32 by 32 pixels");
    let missing = get(&mut client, "/dashboard/nowhere.js", "");
    assert_eq!((missing.status, &missing.json()["type"]), (404, &"/docs/problems/not-found".into()));
    let answer = client.ask("POST", "/dashboard/state", "{}").expect("an answer");
    assert_eq!((answer.status, answer.header("Allow")), (405, Some("GET, HEAD, OPTIONS")));
    let metrics = String::from_utf8(server.get("/metrics").body).expect("text");
    assert!(
        metrics.contains("firehose_http_requests_total{route=\"/dashboard/{file}\",code=\"304\"}"),
        "it counts 304"
    );
    server.stop();
}

#[test]
fn the_state_says_which_shard_is_not_written_since_when_and_that_it_ended() {
    let folder = Folder::new();
    let server = folder.serve(&["--shards", "2"]);
    server.wait_until_stored();
    let load = Load::start(server.address, 2, 2, 1);
    wait_until("rows in both", || {
        let now = state(&server);
        (0..2).all(|shard| now["shards"][shard]["stored"].as_u64() > Some(0))
    });
    assert_eq!(state(&server)["shards"][1]["outage"], Value::Null);
    let lock = hold_lock(&folder.database(1));
    let locked = wait_for("an outage", || {
        let shard = state(&server)["shards"][1].clone();
        let lasts = shard["outage"]["ended_us"].is_null() && shard["outage"]["began_us"].is_i64();
        (lasts && shard["state"] == "busy").then_some(shard)
    });
    assert_eq!(locked["outage"]["what"], "locked", "{locked}");
    assert_eq!(locked["outage"]["reason"], locked["reason"]);
    wait_until("events to wait", || {
        state(&server)["shards"][1]["pending"].as_u64() > locked["pending"].as_u64()
    });
    let later = state(&server);
    assert_eq!(
        later["shards"][1]["outage"]["began_us"], locked["outage"]["began_us"],
        "it is the same outage"
    );
    assert!(later["shards"][1]["behind_us"].as_u64() > Some(0), "{later}");
    assert_eq!(later["shards"][0]["outage"], Value::Null, "the other shard is well");
    drop(lock);
    let ended = wait_for("its end", || {
        let outage = state(&server)["shards"][1]["outage"].clone();
        outage["ended_us"].is_i64().then_some(outage)
    });
    assert_eq!(ended["began_us"], locked["outage"]["began_us"]);
    assert!(ended["ended_us"].as_i64() > ended["began_us"].as_i64(), "{ended}");
    let all = load.stop();
    server.wait_until_stored();
    let last = state(&server);
    let sum = |name: &str| -> u64 {
        last["shards"].as_array().expect("shards").iter().filter_map(|shard| shard[name].as_u64()).sum()
    };
    assert_eq!((sum("stored"), sum("clicks"), sum("pending")), (all.acked.len() as u64, sum("stored"), 0));
    assert!(sum("partitions") >= 2 && sum("commits") > 0 && sum("journal_bytes") > 0, "{last}");
    let accepted: u64 = last["cores"]
        .as_array()
        .expect("cores")
        .iter()
        .filter_map(|core| core["accepted_events"].as_u64())
        .sum();
    assert_eq!(accepted, all.acked.len() as u64);
    server.stop();
    all.check_all_accepted(&stored(&folder.data()));
}

/// Returns the folder that the browser's driver is installed in, once.
fn home() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("dashboard-browser")
}

/// The driver's script, next to its dependencies. `None`, with a notice, if they cannot be installed. One test
/// installs them for all.
static SCRIPT: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
    std::fs::create_dir_all(home()).expect("a folder");
    // The marker is written after the installation is complete.
    let mark = home().join("installed");
    if !mark.exists() {
        let mut npm = Command::new("npm");
        npm.args(["install", "--silent", "--no-audit", "--no-fund", "--prefix"]).arg(home());
        // The last versions that run on node 18.
        let installed = npm.args(["puppeteer-core@24", "axe-core@4"]).output();
        if !installed.as_ref().is_ok_and(|output| output.status.success()) {
            skip(&format!("{npm:?}: {installed:?}"));
            return None;
        }
        std::fs::write(&mark, "").expect("the mark is written");
    }
    let script = home().join("look.mjs");
    std::fs::write(&script, include_str!("dashboard/look.mjs")).expect("the script is written");
    Some(script)
});

/// A browser and the pipes that control it.
struct Browser {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Browser {
    /// Starts a browser. Returns `None`, with a notice, if there is none.
    fn open() -> Option<Browser> {
        let is_there = |name: &&str| {
            Command::new(name).arg("--version").output().is_ok_and(|said| said.status.success())
        };
        let Some(program) = ["chromium", "chromium-browser", "google-chrome"].into_iter().find(is_there)
        else {
            skip("no chromium; the page was not looked at");
            return None;
        };
        let Some(script) = &*SCRIPT else {
            skip("no driver for the browser; the page was not looked at");
            return None;
        };
        let mut node = Command::new("node");
        node.arg(script).arg(which(program)).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = node.spawn().expect("node starts");
        let answers = BufReader::new(child.stdout.take().expect("a pipe"));
        let orders = child.stdin.take();
        Some(Browser { child, orders, answers })
    }

    /// Runs one step in the browser, and fails the test if the step fails.
    #[track_caller]
    fn does(&mut self, step: &str) {
        let orders = self.orders.as_mut().expect("it is open");
        orders.write_all(format!("{step}\n").as_bytes()).expect("it listens");
        let mut said = String::new();
        self.answers.read_line(&mut said).expect("it answers");
        assert!(said.starts_with("done "), "{step}: {}", said.replace(" ⏎ ", "\n"));
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver closes the browser and exits at the end of its input.
        drop(self.orders.take());
        let _ = self.child.wait();
    }
}

fn which(program: &str) -> String {
    let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).output().expect("sh runs");
    String::from_utf8_lossy(&found.stdout).trim().to_owned()
}

#[test]
fn the_page_shows_what_goes_on_in_a_browser() {
    let Some(mut browser) = Browser::open() else { return };
    let folder = Folder::new();
    let server = folder.serve(&["--shards", "2", "--cores", &cpus(2)]);
    server.wait_until_stored();
    let load = Trickle::start(&server);
    let page = format!("open http://{}/", server.address);
    browser.does(&page);
    browser.does("quantiles");
    browser.does("moves");
    let lock = hold_lock(&folder.database(1));
    browser.does("outage 1");
    drop(lock);
    browser.does("over 1");
    browser.does("keyboard");
    browser.does("told 1");
    prices_and_an_export(&server, "acme");
    browser.does("lists acme");
    browser.does("clean");
    browser.does("tenant");
    browser.does(&page);
    browser.does("widths");
    browser.does("clean");
    browser.does("lost");
    let all = load.stop();
    server.wait_until_stored();
    server.stop();
    all.check_all_accepted(&stored(&folder.data()));
}

/// Sends prices with two anomalies, one of them a rise from zero, and starts an export.
fn prices_and_an_export(server: &Server, tenant: &str) {
    let mut client = server.client();
    for (product, event, price) in
        [("lamp", 1, "10.00"), ("lamp", 2, "20.00"), ("gift", 1, "0"), ("gift", 2, "5")]
    {
        let target = format!("/api/v1/tenants/{tenant}/products/{product}/price-event");
        let at = "2026-01-01T00:00:00Z";
        let body =
            format!(r#"{{"event_id":"{event}","price":"{price}","currency":"USD","observed_at":"{at}"}}"#);
        let answer = client.ask("POST", &target, &body).expect("an answer");
        assert_eq!(answer.status, 201, "{answer:?}");
    }
    let target = format!("/api/v1/tenants/{tenant}/reports/export");
    assert_eq!(client.ask("POST", &target, r#"{"format":"csv"}"#).expect("an answer").status, 201);
}

/// Events sent one after another with pauses, because the browser needs CPU time too.
struct Trickle {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Report>,
}

impl Trickle {
    fn start(server: &Server) -> Trickle {
        let stop = Arc::new(AtomicBool::new(false));
        // A connection goes to the core with the fewest connections, and each core feeds its own shard. With this many
        // clients every core has some.
        let stopped = stop.clone();
        let mut clients: Vec<Client> = (0..8).map(|_| server.client()).collect();
        let thread = std::thread::spawn(move || {
            let mut report = Report::default();
            while !stopped.load(Ordering::Acquire) {
                clients.iter_mut().for_each(|client| _ = report.post(client));
                clock::pause(Duration::from_millis(20));
            }
            report
        });
        Trickle { stop, thread }
    }

    fn stop(self) -> Report {
        self.stop.store(true, Ordering::Release);
        self.thread.join().expect("it does not panic")
    }
}

/// Creates a key.
#[track_caller]
fn key(folder: &Folder, words: &[&str]) -> String {
    let (code, said) = folder.run_json(&[&["key", "create"], words].concat());
    assert_eq!(code, 0, "{said}");
    said["key"].as_str().expect("the key").to_owned()
}

#[test]
fn k3_with_keys_the_page_is_open_and_its_numbers_are_not() {
    let folder = Folder::new();
    let all = key(&folder, &["--scope", "read"]);
    let (code, said) = folder.run_json(&["tenant", "add", "acme"]);
    assert_eq!(code, 0, "{said}");
    let own = key(&folder, &["--scope", "read", "--tenant", "acme"]);
    let write = key(&folder, &["--scope", "write"]);
    let server = folder.serve(&[]);
    let mut client = server.client();
    assert_eq!(get(&mut client, "/", &format!("Accept: {BROWSER_ACCEPT}\r\n")).status, 200);
    assert_eq!(get(&mut client, "/dashboard/main.js", "").status, 200);
    for (headers, status) in [
        (String::new(), 401),
        (format!("Authorization: Bearer {own}\r\n"), 403),
        (format!("Authorization: Bearer {write}\r\n"), 403),
        (format!("Authorization: Bearer {all}\r\n"), 200),
    ] {
        assert_eq!(get(&mut client, "/dashboard/state", &headers).status, status, "{headers}");
        // The metrics need the same keys.
        assert_eq!(get(&mut client, "/metrics", &headers).status, status, "{headers}");
    }
    if let Some(mut browser) = Browser::open() {
        browser.does(&format!("open http://{}/", server.address));
        browser.does(&format!("locked {own} {all}"));
    }
    server.stop();
}
