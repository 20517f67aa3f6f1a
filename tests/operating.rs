//! What an operator sees and who may read the data: file modes, log lines, durations, and a reader that pins the WAL.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::support::commerce::{NDJSON, ingest, ingested, lines, search_path};
use crate::support::oracle::{self, Item, Order};
use crate::support::{Folder, Server, command, cpus, wait_for, wait_until};
use rusqlite::{Connection, OpenFlags};
use serde_json::Value;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).map_or(0, |found| found.permissions().mode() & 0o777)
}

/// Collects everything in a folder, including the folder.
fn walk(path: PathBuf, found: &mut Vec<PathBuf>) {
    if path.is_dir() {
        let entries: Vec<_> =
            fs::read_dir(&path).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
        entries.into_iter().for_each(|path| walk(path, found));
    }
    found.push(path);
}

/// Fills every place that a server creates files in, and checks the modes of all of them.
#[track_caller]
fn check_modes(folder: &Folder, flags: &[&str], folder_mode: u32, file_mode: u32) {
    let added = folder.run(&["tenant", "add", "acme"]);
    assert!(added.status.success(), "{added:?}");
    let server = folder.serve(flags);
    server.client().post(1).expect("the server answers");
    wait_until("it to be stored", || server.health()["queue_size"] == 0);
    let mut files = Vec::new();
    walk(folder.data(), &mut files);
    assert!(files.len() > 8, "{files:?}");
    for path in &files {
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name");
        let wanted = match name {
            "tenants.db" | "cursors.key" => 0o600,
            _ if path.is_dir() => folder_mode,
            _ => file_mode,
        };
        // SQLite creates and removes its own files.
        assert!([wanted, 0].contains(&mode(path)), "{} is {:o}", path.display(), mode(path));
    }
    for secret in ["tenants.db", "cursors.key"] {
        assert_eq!(mode(&folder.data().join(secret)), 0o600, "{secret}");
    }
    server.stop();
}

#[test]
fn nobody_else_may_read_the_data_folder() {
    let folder = Folder::new();
    check_modes(&folder, &["--shards", "1"], 0o700, 0o600);
    // The start and `doctor` report a folder or file that is opened up later.
    fs::set_permissions(folder.data(), fs::Permissions::from_mode(0o755)).expect("it is ours");
    fs::set_permissions(folder.data().join("cursors.key"), fs::Permissions::from_mode(0o644))
        .expect("it is ours");
    let server = folder.serve(&["--shards", "1"]);
    let complaints = server.log().matches("the permissions are too broad").count();
    assert_eq!(complaints, 2, "{}", server.log());
    server.stop();
    let (_, said) = folder.run_json(&["doctor"]);
    let checks = said["checks"].as_array().expect("checks");
    let found = checks.iter().find(|check| check["check"] == "data_mode").expect("the check is there");
    assert_eq!(found["verdict"], "warn", "{found}");
    assert!(
        found["remedy"]
            .as_str()
            .is_some_and(|text| text.contains("chmod 0700") && text.contains("chmod 0600")),
        "{found}"
    );
}

#[test]
fn a_group_may_read_shards_and_never_secrets() {
    // Each folder is created with one mode.
    let folder = Folder::new();
    fs::create_dir(folder.data()).expect("a folder");
    fs::set_permissions(folder.data(), fs::Permissions::from_mode(0o750)).expect("it is ours");
    let server = folder.serve(&["--shards", "1", "--data-mode", "0750"]);
    server.client().post(1).expect("the server answers");
    server.wait_until_stored();
    let made = folder.run(&["key", "create", "--scope", "admin"]);
    assert!(made.status.success(), "{made:?}");
    for (name, wanted) in [
        ("manifest.json", 0o640),
        ("shard-00", 0o750),
        ("shard-00/shard.db", 0o640),
        ("shard-00/shard.db-wal", 0o640),
        ("shard-00/shard.db-shm", 0o640),
        ("tenants.db", 0o600),
        ("cursors.key", 0o600),
    ] {
        let found = mode(&folder.data().join(name));
        assert_eq!(found, wanted, "{name} is {found:o}");
    }
    assert!(!server.log().contains("the permissions are too broad"), "{}", server.log());
    server.stop();
}

/// Returns the log lines about responses of a route.
fn answered(server: &Server, route: &str) -> Vec<Value> {
    let log = server.log();
    let lines = log.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    let lines = lines.filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines
        .filter(|line| line["message"] == "answered" && line["route"] == route && line["level"] == "INFO")
        .collect()
}

fn orders() -> Vec<Order> {
    let order = |number: usize| Order {
        tenant: "acme".to_owned(),
        id: format!("o-{number}"),
        customer: format!("c-{number}"),
        name: format!("Zarniwoop {number}"),
        email: format!("zarniwoop{number}@example.org"),
        status: "paid".to_owned(),
        currency: "USD".to_owned(),
        at_us: 1_772_366_400_000_000,
        items: vec![Item { product: "p".to_owned(), category: "g".to_owned(), quantity: 1, price: 1_999 }],
    };
    (0..7).map(order).collect()
}

#[test]
fn ingests_and_uploads_are_logged_with_the_tenant_of_their_key_and_their_rows() {
    let folder = Folder::new();
    assert!(folder.run(&["tenant", "add", "acme"]).status.success());
    let (code, made) = folder.run_json(&["key", "create", "--tenant", "acme", "--scope", "manage"]);
    assert_eq!(code, 0, "{made}");
    let key = format!("Authorization: Bearer {}\r\n", made["key"].as_str().expect("a key"));
    let server = folder.serve(&["--shards", "1"]);
    let body = oracle::body(&orders());
    let answer = ingest(server.address, "one", &format!("{NDJSON}{key}"), &body).expect("the server answers");
    assert_eq!(answer.status, 200, "{answer:?}");
    let uploads = "/api/v1/ingest/orders/uploads";
    let mut client = server.client();
    let head = format!(
        "POST {uploads} HTTP/1.1\r\nHost: test\r\n{key}Tus-Resumable: 1.0.0\r\nUpload-Length: {0}\r\n\
         Content-Type: application/offset+octet-stream\r\nContent-Length: {0}\r\n\r\n",
        body.len()
    );
    client.write(head.as_bytes()).and_then(|()| client.write(&body)).expect("it is sent");
    let created = client.answer().expect("the server answers");
    assert_eq!(created.status, 201, "{created:?}");
    for route in ["/api/v1/ingest/orders", uploads] {
        let lines = wait_for("a line", || Some(answered(&server, route)).filter(|lines| !lines.is_empty()));
        assert_eq!((&lines[0]["tenant"], &lines[0]["rows"]), (&"acme".into(), &7.into()), "{lines:?}");
    }
    server.stop();
}

#[test]
fn what_changed_something_is_a_line_of_the_log_with_its_idempotency_key() {
    let folder = Folder::new();
    let server = folder.serve(&["--shards", "1"]);
    let orders = orders();
    let body = oracle::body(&orders);
    let answer = ingest(server.address, "import-17", NDJSON, &body).expect("the server answers");
    assert_eq!(answer.status, 200, "{answer:?}");
    let again = ingest(server.address, "import-17", NDJSON, b"{}\n").expect("the server answers");
    assert_eq!(again.status, 422, "{again:?}");
    let route = "/api/v1/ingest/orders";
    let lines = wait_for("two lines", || Some(answered(&server, route)).filter(|lines| lines.len() == 2));
    assert_eq!((&lines[0]["status"], &lines[0]["rows"]), (&200.into(), &7.into()), "{lines:?}");
    assert_eq!(lines[1]["status"], 422, "{lines:?}");
    for line in &lines {
        assert_eq!(line["idempotency_key"], "import-17", "{line}");
        assert!(line["duration_us"].is_u64() && line["request_id"].is_string(), "{line}");
    }
    // For events, the log has one line per second and status, however many there are. The refusal is among them.
    let mut client = server.client();
    for number in 0..200 {
        client.post(number).expect("the server answers");
    }
    assert_eq!(client.ask("POST", "/event", "{}").expect("the server answers").status, 422);
    let lines = wait_for("a refusal", || {
        Some(answered(&server, "/event")).filter(|lines| lines.iter().any(|line| line["status"] == 422))
    });
    assert!(lines.iter().any(|line| line["status"] == 202) && lines.len() < 100, "{lines:?}");
    let log = server.log();
    for order in &orders {
        assert!(!log.contains(&order.email) && !log.contains(&order.name), "no payload is logged");
    }
    server.stop();
}

#[test]
fn reads_have_durations_by_route() {
    let folder = Folder::new();
    let server = folder.serve(&["--shards", "1"]);
    server.client().post(1).expect("the server answers");
    server.wait_until_stored();
    for _ in 0..3 {
        assert_eq!(server.get(&search_path("acme", "limit=1")).status, 200);
    }
    let page = String::from_utf8(server.get("/metrics").body).expect("text");
    let line = |start: &str| page.lines().find(|line| line.starts_with(start)).unwrap_or_default().to_owned();
    let route = r#"{route="/api/v1/tenants/{tenant}/orders/search"}"#;
    assert_eq!(
        line(&format!("firehose_http_request_duration_seconds_count{route}")).split(' ').nth(1),
        Some("3"),
        "{page}"
    );
    assert!(page.contains("# TYPE firehose_db_statement_duration_seconds summary"), "{page}");
    wait_until("the statements' durations", || {
        let page = String::from_utf8(server.get("/metrics").body).expect("text");
        page.contains("firehose_db_statement_duration_seconds_count{shard=\"0\"}")
    });
    server.stop();
}

#[test]
fn a_reader_outside_that_pins_the_wal_is_named() {
    let folder = Folder::new();
    let server = folder.serve(&["--shards", "1", "--checkpoint-interval", "100ms"]);
    let mut client = server.client();
    client.post(1).expect("the server answers");
    server.wait_until_stored();
    let reason = |server: &Server| {
        server.get("/ready").json()["checks"]["shards"]["reason"].as_str().expect("a reason").to_owned()
    };
    let reader =
        Connection::open_with_flags(folder.database(0), OpenFlags::SQLITE_OPEN_READ_ONLY).expect("it opens");
    reader.execute_batch("BEGIN; SELECT count(*) FROM events;").expect("a snapshot");
    let mut number = 2;
    wait_until("it to be named", || {
        client.post(number).expect("the server answers");
        number += 1;
        reason(&server).contains("has pinned the WAL of shard 0")
    });
    assert_eq!(server.get("/ready").status, 200, "everything is stored all the same");
    // Another thread writes the log.
    wait_until("the log to say so", || server.logged("the WAL cannot be checkpointed").is_some());
    drop(reader);
    wait_until("it to be over", || {
        client.post(number).expect("the server answers");
        number += 1;
        !reason(&server).contains("has pinned the WAL")
    });
    server.stop();
}

#[test]
fn a_start_logs_the_rows_of_every_kind() {
    let folder = Folder::new();
    let serve = || folder.serve(&["--shards", "1", "--cores", &cpus(1)]);
    let server = serve();
    let mut client = server.client();
    assert_eq!(client.post(1).expect("an answer").status, 202);
    let event = r#"{"event_id":"e","tenant_id":"t","source":"s","event_type":"y","timestamp":"2024-01-15T10:30:00Z","payload":{}}"#;
    assert_eq!(client.ask("POST", "/events", event).expect("an answer").status, 201);
    ingested(&server, "k", lines(0..3).as_bytes());
    server.wait_until_stored();
    server.stop();
    let server = serve();
    let logged = wait_for("the shard is open", || server.logged("shard open"));
    let kinds = logged["kinds"].as_str().expect("kinds");
    assert!(kinds.starts_with("click 1, service_event 1, sales_order 3, other records "), "{kinds}");
    assert_eq!(logged["rows"], 5, "{logged}");
    server.stop();
}

/// A command without a server must not promise what a server would do.
#[test]
fn commands_without_a_server_do_not_speak_for_one() {
    let folder = Folder::new();
    folder.serve(&["--shards", "2"]).stop();
    let database = folder.database(1);
    let (whole, aside) = (fs::read(&database).expect("a shard"), folder.beside("aside"));
    let (data, copy) = (folder.data(), folder.beside("copy"));
    let words = |path: &Path| path.to_str().expect("a name").to_owned();
    let load = format!("gen-dataset --preset tiny --load {}", words(&data));
    let refused = |fault: &str, why: &str| {
        for line in ["shards", "verify", "verify --aggregates", "reshard --to 3", "sql -c", "backup", &load] {
            let mut command = command();
            command.args(line.split(' '));
            match line {
                "sql -c" => _ = command.arg("SELECT count(*) FROM tenants"),
                "backup" => _ = command.arg(words(&copy)),
                _ => {}
            }
            if !line.starts_with("gen-dataset") {
                command.arg("--data").arg(&data);
            }
            let output = command.output().expect("the program runs");
            let said = [output.stdout, output.stderr]
                .map(|text| String::from_utf8_lossy(&text).into_owned())
                .concat();
            assert!(!output.status.success(), "{fault}: {line}: {said}");
            assert!(said.contains(why), "{fault}: {line}: {said}");
            for promise in ["the server", "the batch", "retried", "the journal keeps", "the database failed"]
            {
                assert!(!said.contains(promise), "{fault}: {line}: {said}");
            }
            _ = fs::remove_dir_all(&copy);
            _ = fs::remove_dir_all(data.join("reshard"));
            _ = fs::remove_file(data.join("reshard.json"));
        }
    };
    fs::rename(&database, &aside).expect("it is moved");
    fs::create_dir(&database).expect("a folder in its place");
    refused("not a file", "shard");
    fs::remove_dir(&database).expect("it is empty");
    fs::write(&database, [b'x'; 4_096]).expect("it is written");
    refused("damaged", "the database is damaged");
    fs::write(&database, &whole).expect("it is restored");
    let holder = Connection::open(&database).expect("the shard");
    holder.execute_batch("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE").expect("it is locked");
    refused("locked", "another program holds an exclusive lock on the database");
}
