//! The programs of `bench/load` succeed against this server, and each of them notices a server that does not do what
//! it must.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::commerce::{NDJSON, ingest};
use crate::support::{Folder, Server, cpus, python, skip};
use serde_json::{Value, json};

const LOCUST: &[&str] = &["locust==2.47.0", "gevent==26.9.0"];

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("bench/load").join(name)
}

/// Returns the command of a program, or the reason why it cannot run here.
fn program(name: &str) -> Result<Command, String> {
    const IS_NEW: &str = "import sys; sys.exit(sys.version_info < (3, 9))";
    let found =
        Command::new("python3").args(["-c", IS_NEW]).status().map_err(|error| format!("python3: {error}"))?;
    if !found.success() {
        return Err("python3 is older than 3.9".to_owned());
    }
    let mut command = Command::new("python3");
    // The source tree remains free of compiled modules.
    command.arg("-B").arg(file(name)).env_remove("LOAD_KEY").args(["--patience", "60"]);
    Ok(command)
}

/// Starts a server with a key for everything.
fn serve(folder: &Folder) -> (Server, String) {
    let key = create_key(folder, &["--scope", "admin"]);
    let flags = ["--cores", &cpus(2), "--shards", "2", "--ops-listen", "127.0.0.1:0"];
    (folder.serve(&flags), key)
}

fn create_key(folder: &Folder, flags: &[&str]) -> String {
    let made = folder.run(&[&["key", "create"], flags].concat());
    assert!(made.status.success(), "{made:?}");
    String::from_utf8(made.stdout).expect("a key is ASCII").trim().to_owned()
}

fn ops_url(server: &Server) -> String {
    format!("http://{}", server.ops.expect("the operators' listener"))
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Runs a program against a new server. It must succeed, and print a line that begins with each of `printed`.
fn succeeds(name: &str, flags: &[&str], printed: &[&str]) {
    let mut command = match program(name) {
        Ok(command) => command,
        Err(reason) => return skip(&reason),
    };
    let folder = Folder::new();
    let (server, key) = serve(&folder);
    command.args(["--url", &format!("http://{}", server.address), "--key", &key]).args(flags);
    if ["stream.py", "reads.py"].contains(&name) {
        command.args(["--ops-url", &ops_url(&server)]);
    }
    let output = command.output().expect("python3 runs");
    let said = said(&output);
    assert!(output.status.success(), "{said}");
    assert_eq!(said.lines().last(), Some("ok"), "{said}");
    for start in printed {
        assert!(said.lines().any(|line| line.starts_with(start)), "{start}: {said}");
    }
    server.stop();
}

/// Runs a program that must fail, and print why on its last line.
#[track_caller]
fn fails(mut command: Command, reason: &str) {
    let output = command.output().expect("python3 runs");
    let said = said(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let last = said.lines().last().unwrap_or_default();
    assert!(last.starts_with("failed: ") && last.contains(reason), "{said}");
}

#[test]
fn orders_in_chunks_with_a_cut_and_a_resumed_upload_are_stored_once() {
    let sizes = ["--orders", "4000", "--chunks", "3", "--upload-orders", "1500"];
    let rows = "sales           5,500 orders";
    succeeds("ingest.py", &sizes, &["cut ", "resumed ", "replayed ", "upload resumed ", rows, "search "]);
}

#[test]
fn streams_of_orders_and_events_are_whole_and_in_order() {
    let memory = ["streamed        3,000", "first row ", "memory ", "server memory"];
    succeeds("stream.py", &["--rows", "3000"], &memory);
    succeeds("stream.py", &["--rows", "3000", "--kind", "events"], &memory);
}

#[test]
fn a_race_for_stock_loses_and_repeats_nothing() {
    let sizes = ["--updates", "640", "--products", "3"];
    succeeds("stock_race.py", &sizes, &["mode            merge", "mode            reject", "verified "]);
}

#[test]
fn every_stream_and_export_is_read_whole_and_customers_are_erased() {
    let folder = Folder::new();
    let file = folder.beside("figures.json");
    let flags = ["--rows", "1200", "--erase", "3", "--json", file.to_str().expect("UTF-8")];
    // Ten orders and as many events of each customer.
    let erased = ["erasure of 1                    20 ", "erasure of 3                    60 "];
    let read = [
        "orders                       1,212 ",
        "customer ",
        "clicks parquet               1,200 ",
        "server memory ",
    ];
    succeeds("reads.py", &flags, &[&erased[..], &read[..]].concat());
    if program("reads.py").is_err() {
        return;
    }
    let written = std::fs::read(file).expect("the figures are written");
    let figures: Value = serde_json::from_slice(&written).expect("JSON");
    let reads = figures["reads"].as_array().expect("a list");
    assert!(figures["failed"].is_null() && figures["left_out"] == json!([]), "{figures}");
    assert_eq!(reads.len(), 34, "{figures}");
    for read in reads {
        let number = |name: &str| read[name].as_f64().unwrap_or_default();
        assert!(number("rows") > 0.0 && number("bytes") > 0.0 && number("seconds") > 0.0, "{read}");
        assert!(
            number("memory_peak_mb") >= number("memory_before_mb") && number("memory_before_mb") > 1.0,
            "{read}"
        );
    }
}

#[test]
fn reads_use_the_rows_of_an_earlier_run_also_after_an_erasure() {
    let folder = Folder::new();
    let server = folder.serve(&["--shards", "2", "--ops-listen", "127.0.0.1:0"]);
    for is_first in [true, false] {
        let mut command = match program("reads.py") {
            Ok(command) => command,
            Err(reason) => return skip(&reason),
        };
        command.args(["--url", &format!("http://{}", server.address), "--ops-url", &ops_url(&server)]);
        // The erased customers order products that no other order has.
        let output = command.args(["--rows", "100", "--erase", "40"]).output().expect("python3 runs");
        let said = said(&output);
        assert!(output.status.success() && said.contains("erasure of 40 "), "{said}");
        assert_eq!(said.lines().any(|line| line.starts_with("written ")), is_first, "{said}");
    }
    server.stop();
}

#[test]
fn reads_with_the_key_of_a_tenant_leave_out_what_it_must_not_read() {
    let folder = Folder::new();
    assert!(folder.run(&["tenant", "add", "load"]).status.success());
    let key = create_key(&folder, &["--tenant", "load", "--scope", "write,manage,read"]);
    let (server, _) = serve(&folder);
    let run = |flags: &[&str]| {
        let mut command = program("reads.py")?;
        command
            .args(["--url", &format!("http://{}", server.address), "--key", &key, "--rows", "300"])
            .args(flags);
        Ok::<_, String>(command)
    };
    let mut command = match run(&["--ops-url", &ops_url(&server)]) {
        Ok(command) => command,
        Err(reason) => return skip(&reason),
    };
    let output = command.output().expect("python3 runs");
    let said = said(&output);
    assert!(output.status.success(), "{said}");
    for start in ["left out        customer: 403 ", "left out        clicks: 403 ", "events parquet "] {
        assert!(said.lines().any(|line| line.starts_with(start)), "{start}: {said}");
    }
    assert!(!said.lines().any(|line| line.starts_with("clicks ") || line.starts_with("customer ")), "{said}");
    fails(run(&["--erase", "1"]).expect("it ran before"), "the key cannot erase: 403 ");
    fails(run(&[]).expect("it ran before"), "the memory of the server is unknown: 403 ");
    server.stop();
}

/// Lets 20 users of Locust send mixed traffic for some seconds, and returns the exit code and the output.
fn locust(server: &Server, key: &str, seconds: &str) -> Result<(Option<i32>, String), String> {
    let python = python(LOCUST, "import locust")?;
    let mut locust = Command::new(python);
    locust.args(["-B", "-m", "locust", "--headless", "--only-summary", "--users", "20"]);
    locust.args([
        "--spawn-rate",
        "20",
        "--run-time",
        seconds,
        "--host",
        &format!("http://{}", server.address),
    ]);
    locust.arg("-f").arg(file("locustfile.py")).current_dir(std::env::temp_dir());
    let output = locust.env("LOAD_KEY", key).output().map_err(|error| format!("locust: {error}"))?;
    Ok((output.status.code(), said(&output)))
}

#[test]
fn mixed_traffic_of_locust_users_has_no_failures() {
    let folder = Folder::new();
    let (server, key) = serve(&folder);
    match locust(&server, &key, "6s") {
        Ok((code, said)) => {
            assert!(code == Some(0) && said.lines().any(|line| line == "ok"), "{said}");
        }
        Err(reason) => skip(&reason),
    }
    server.stop();
}

#[test]
fn locust_users_wait_when_a_quota_is_exceeded() {
    let folder = Folder::new();
    let server = folder.serve(&["--rate-per-address", "1"]);
    match locust(&server, "", "4s") {
        Ok((code, said)) => {
            assert!(code == Some(0) && said.lines().any(|line| line == "ok"), "{said}");
            assert!(said.contains("/event: 429, waited"), "{said}");
        }
        Err(reason) => skip(&reason),
    }
    server.stop();
}

#[test]
fn a_refusal_of_a_locust_user_is_a_failure_with_its_problem() {
    let folder = Folder::new();
    let (server, _) = serve(&folder);
    match locust(&server, "fh_wrong", "3s") {
        Ok((code, said)) => {
            assert!(code == Some(1) && said.lines().any(|line| line.starts_with("failed: ")), "{said}");
            assert!(said.contains("POST /event: 401 unauthorized: "), "{said}");
        }
        Err(reason) => skip(&reason),
    }
    server.stop();
}

#[test]
fn a_program_without_a_server_or_a_valid_key_reports_it() {
    let folder = Folder::new();
    let (server, _) = serve(&folder);
    for name in ["ingest.py", "stream.py", "stock_race.py", "reads.py"] {
        let mut command = match program(name) {
            Ok(command) => command,
            Err(reason) => return skip(&reason),
        };
        // Nothing listens on this port.
        command.args(["--url", "http://127.0.0.1:1"]);
        fails(command, "cannot connect to http://127.0.0.1:");
        let mut command = program(name).expect("it ran before");
        command.args(["--url", &format!("http://{}", server.address), "--key", "fh_wrong"]);
        fails(command, "401 unauthorized");
    }
    server.stop();
}

#[test]
fn a_program_notices_rows_that_are_not_its_own() {
    let folder = Folder::new();
    let server = folder.serve(&["--shards", "2"]);
    let url = format!("http://{}", server.address);
    let (mut orders, mut stock) = match (program("ingest.py"), program("stock_race.py")) {
        (Ok(orders), Ok(stock)) => (orders, stock),
        (Err(reason), _) | (_, Err(reason)) => return skip(&reason),
    };
    // An order with an id of the run, so that one of the run's own orders is not stored.
    let other = json!({
        "order_id": "mine-000000007", "tenant_id": "load", "customer_id": "c", "customer_name": "Ann Smith",
        "customer_email": "ann@example.org", "status": "paid", "currency": "USD", "ordered_at": "2026-03-01T12:00:00Z",
        "items": [{"product_id": "p-1", "category": "x", "quantity": 1, "unit_price": "19.99"}],
    });
    let stored = ingest(server.address, "other", NDJSON, format!("{other}\n").as_bytes()).expect("an answer");
    assert_eq!(stored.status, 200);
    orders.args(["--url", &url, "--run", "mine", "--orders", "100", "--chunks", "2"]);
    fails(orders, "duplicates among new orders: 1");

    // A change by another client, whose version no client of the race has.
    let body = json!({"mode": "merge", "updates": [
        {"event_id": "other", "product_id": "mine-merge-0", "delta": 5, "occurred_at": "2026-03-01T12:00:00Z"},
    ]});
    let target = "/api/v1/tenants/load/stock/bulk_update";
    let changed = server.client().ask("PUT", target, &body.to_string()).expect("an answer");
    assert_eq!(changed.status, 200);
    stock.args(["--url", &url, "--run", "mine", "--updates", "40"]);
    fails(stock, "their versions are 2 where 1 is expected");
    server.stop();
}

/// Answers every request with the lines that a function returns, from a thread that ends with the tests.
fn pretend(mut lines: impl FnMut() -> String + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let mut answer = move |mut client: TcpStream| {
        let mut head = BufReader::new(client.try_clone()?).lines();
        while head.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
        let lines = lines();
        let length = lines.len();
        write!(
            client,
            "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{lines}"
        )
    };
    std::thread::spawn(move || listener.incoming().flatten().try_for_each(&mut answer));
    url
}

#[test]
fn a_stream_that_is_cut_disordered_or_repeated_is_noticed() {
    const OLD: &str = "{\"order_id\":\"a\",\"ordered_at\":\"2024-01-01T00:00:00Z\"}\n";
    const NEW: &str = "{\"order_id\":\"b\",\"ordered_at\":\"2024-01-02T00:00:00Z\"}\n";
    const END: &str = "{\"_end\":true,\"rows\":2,\"next_cursor\":null}\n";
    for (lines, reason) in [
        (&[OLD, NEW, END][..], "row 2 (b, 2024-01-02T00:00:00Z) follows one of 2024-01-01T00:00:00Z"),
        (&[OLD, OLD, END], "row 2 (a) is a repetition"),
        (&[NEW, END], "the _end row counts 2 rows, 1 arrived"),
        (&[NEW, OLD], "without its _end row"),
        (&[NEW, OLD, END, OLD], "ended without its _end row"),
    ] {
        let mut command = match program("stream.py") {
            Ok(command) => command,
            Err(reason) => return skip(&reason),
        };
        command.args(["--url", &pretend(move || lines.concat()), "--rows", "2"]);
        fails(command, reason);
    }
}

/// Passes every request to a server. In the responses to targets with `place`, it replaces bytes by as many others.
fn damaged(server: SocketAddr, place: &'static str, from: &'static str, to: &'static str) -> String {
    assert_eq!(from.len(), to.len(), "the lengths in the response remain valid");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let pass = move |mut client: TcpStream| -> std::io::Result<()> {
        let mut request = BufReader::new(client.try_clone()?);
        let (mut head, mut line, mut length) = (String::new(), String::new(), 0);
        while request.read_line(&mut line)? > 2 {
            let header = line.to_ascii_lowercase();
            if let Some(text) = header.strip_prefix("content-length:") {
                length = text.trim().parse().expect("a length");
            }
            head.push_str(&line);
            line.clear();
        }
        let mut body = vec![0; length];
        request.read_exact(&mut body)?;
        let mut upstream = TcpStream::connect(server)?;
        upstream.write_all(format!("{head}Connection: close\r\n\r\n").as_bytes())?;
        upstream.write_all(&body)?;
        let mut response = Vec::new();
        upstream.read_to_end(&mut response)?;
        if head.lines().next().is_some_and(|line| line.contains(place)) {
            for at in 0..response.len().saturating_sub(from.len()) {
                if response[at..].starts_with(from.as_bytes()) {
                    response[at..at + to.len()].copy_from_slice(to.as_bytes());
                }
            }
        }
        client.write_all(&response)
    };
    std::thread::spawn(move || listener.incoming().flatten().for_each(|client| drop(pass(client))));
    url
}

#[test]
fn a_read_that_is_damaged_or_incomplete_is_noticed() {
    let folder = Folder::new();
    let server = folder.serve(&["--cores", &cpus(2), "--shards", "2", "--ops-listen", "127.0.0.1:0"]);
    for (place, from, to, reason) in [
        ("/download", ",shipped,", ",shopped,", "orders csv: the digest is sha-256:"),
        (
            "/orders/search?limit",
            "\"status\":\"paid\"",
            "\"status\":\"pait\"",
            "orders ndjson: the lines of the file differ",
        ),
        (
            "/clicks?order",
            "2024-01-01T00:00:03",
            "2024-01-01T00:01:03",
            "clicks: a click of 2024-01-01T00:00:04Z follows",
        ),
        (
            "/stock?below",
            "\"product_id\":\"stock-000000008\"",
            "\"product_id\":\"stock-000000000\"",
            "stock below: b'stock-000000000' follows",
        ),
        (
            "/events/summary",
            "\"key\":\"cart\",\"count\":7",
            "\"key\":\"cart\",\"count\":8",
            "events by event_type: the groups add up to",
        ),
        ("/events/unique", "\"missing\":0", "\"missing\":1", "unique sessions: events and missing ones are"),
        ("group_by=category", "\"units\":1", "\"units\":2", "sales by category: the groups have"),
        ("/products?", "\"product_id\":\"p-1\"", "\"product_id\":\"p-9\"", "follows b'p-9'"),
        (
            "/customers/",
            "\"place\":\"orders\"",
            "\"place\":\"ordera\"",
            "customer: orders and their count in",
        ),
        (
            "/customers/",
            "\"_end\":true",
            "\"_end\":null",
            "customer: a response is not as documented: KeyError",
        ),
    ] {
        let mut command = match program("reads.py") {
            Ok(command) => command,
            Err(reason) => return skip(&reason),
        };
        let url = damaged(server.address, place, from, to);
        command.args(["--url", &url, "--ops-url", &ops_url(&server), "--rows", "300"]);
        fails(command, reason);
    }
    server.stop();
}

#[test]
fn a_server_whose_memory_grows_with_a_read_is_noticed() {
    let folder = Folder::new();
    let server = folder.serve(&["--shards", "1"]);
    let mut bytes = 100_000_000_u64;
    // A page for Prometheus with one megabyte more each time it is read.
    let memory = pretend(move || {
        bytes += 1_000_000;
        format!("process_resident_memory_bytes {bytes}\n")
    });
    let mut command = match program("reads.py") {
        Ok(command) => command,
        Err(reason) => return skip(&reason),
    };
    command.args(["--url", &format!("http://{}", server.address), "--ops-url", &memory, "--rows", "100"]);
    // Each of the reads samples at least twice.
    command.args(["--memory-mb", "40"]);
    fails(command, "clicks parquet took the memory of the server ");
    server.stop();
}
