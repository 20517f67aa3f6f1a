//! What a query may not do, and how it ends early.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};

use rusqlite::Connection;
use serde_json::json;

use super::{asked, piped, post, refused};
use crate::support::{Folder, Load, command, wait_for};

const ENDLESS: &str =
    "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n";

#[test]
fn nothing_but_reading_is_permitted() {
    let folder = Folder::new();
    folder.serve(&["--shards", "2"]).stop();
    for (sql, why) in [
        ("INSERT INTO orders (id) VALUES (1)", "INSERT is refused"),
        ("UPDATE orders SET total = 0", "may not be modified"),
        ("DELETE FROM orders", "may not be modified"),
        ("DROP TABLE orders", "DROP is refused"),
        ("CREATE TABLE t (a)", "CREATE is refused"),
        ("CREATE TEMP TABLE t (a)", "CREATE is refused"),
        ("ATTACH ':memory:' AS m", "ATTACH and DETACH are refused"),
        ("SELECT load_extension('x')", "load_extension is refused"),
        ("PRAGMA writable_schema = 1", "PRAGMA writable_schema is refused"),
        ("PRAGMA query_only = 0", "PRAGMA query_only is refused"),
        ("PRAGMA encoding = 'UTF-16'", "PRAGMA encoding is refused"),
        ("BEGIN", "transactions are refused"),
        ("SAVEPOINT s", "transactions are refused"),
        ("VACUUM", "refused"),
        ("VACUUM INTO 'copy.db'", "refused"),
        ("REINDEX", "refused"),
        ("SELECT * FROM sqlite_dbpage", "sqlite_dbpage is refused"),
        ("SELECT * FROM ingest_key", "no such table"),
        ("SELECT * FROM sales_order_000001", "no such table"),
        ("SELECT readfile('/etc/passwd')", "no such function"),
        ("SELECT ?1", "parameters"),
    ] {
        let said = refused(&folder.data(), sql);
        assert!(said.contains(why), "{sql}: {said}");
    }
    assert_eq!(
        refused(&folder.data(), "SELECT 1,\n  nil"),
        "firehose: no such column: nil (line 2, column 3)\n    nil\n    ^\n"
    );
    for deep in
        [format!("SELECT {}1", "1+".repeat(130_000)), format!("SELECT 1 WHERE {}1", "1 AND ".repeat(43_000))]
    {
        assert!(piped(&folder.data(), &[], &deep).status.success(), "a deep expression");
    }
    let long = piped(&folder.data(), &[], &format!("SELECT '{}'", "x".repeat(300_000)));
    assert!(String::from_utf8_lossy(&long.stderr).contains("more than 262144 bytes"), "{long:?}");
    let described = asked(&folder.data(), &["PRAGMA table_info(tenants)".to_owned()]);
    assert_eq!(described[0][0]["name"], "tenant_id");
    for flags in
        [&["sql", "--format", "xml"][..], &["sql", "--attach", "-c", "SELECT 1"], &["sql", "--group", "2"]]
    {
        let output = command().args(flags).output().expect("the program runs");
        assert_eq!(output.status.code(), Some(2), "{flags:?}");
    }
}

#[test]
fn a_shard_that_cannot_be_read_is_named() {
    let folder = Folder::new();
    folder.serve(&["--shards", "3"]).stop();
    let database = folder.database(1);
    let whole = fs::read(&database).expect("a shard");
    let said = |why: &str| {
        let said = refused(&folder.data(), "SELECT count(*) FROM tenants");
        assert!(said.contains("shard 1") && said.contains(why), "{why}: {said}");
    };
    fs::write(&database, [b'x'; 4_096]).expect("it is overwritten");
    said("damaged");
    fs::remove_file(&database).expect("it is removed");
    said("does not exist");
    Connection::open(&database).expect("another file").execute_batch("CREATE TABLE t (a)").expect("a table");
    said("another program created the database");
    fs::write(&database, &whole).expect("it is restored");
    Connection::open(&database)
        .expect("the shard")
        .pragma_update(None, "user_version", 6)
        .expect("an older version");
    said("serve the folder once");
    fs::write(&database, &whole).expect("it is restored");
    let holder = Connection::open(&database).expect("the shard");
    holder.execute_batch("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE").expect("it is locked");
    said("exclusive lock");
    drop(holder);
    assert_eq!(asked(&folder.data(), &["SELECT 1 AS a".to_owned()]), [[json!({"a": 1})]]);
    let said = refused(&folder.beside("nowhere"), "SELECT 1");
    assert!(said.contains("no manifest.json"), "{said}");
}

#[test]
fn a_query_sees_one_moment_while_a_server_writes() {
    let folder = Folder::new();
    let server = folder.serve(&["--shards", "3"]);
    ready(&folder);
    let load = Load::start(server.address, 2, 4, 0);
    wait_for("rows", || {
        let rows = asked(&folder.data(), &["SELECT count(*) AS n FROM events".to_owned()]);
        (rows[0][0]["n"].as_u64() > Some(100)).then_some(())
    });
    let twice = "SELECT (SELECT count(*) FROM events) - (SELECT count(*) FROM clicks WHERE +user_id >= 0) AS difference, \
                 (SELECT max(id) FROM events) IS (SELECT max(id) FROM clicks) AS same";
    for _ in 0..5 {
        assert_eq!(asked(&folder.data(), &[twice.to_owned()]), [[json!({"difference": 0, "same": 1})]]);
    }
    let acked = load.stop().acked.len() as u64;
    server.wait_until_stored();
    let rows = asked(&folder.data(), &["SELECT count(*) AS n FROM events".to_owned()]);
    assert!(rows[0][0]["n"].as_u64() >= Some(acked), "{rows:?} of {acked}");
    server.stop();
}

/// Waits until a new server has created every shard.
fn ready(folder: &Folder) {
    wait_for("the shards", || folder.run(&["sql", "-c", "SELECT 1"]).status.success().then_some(()));
}

/// Starts a program whose first statement has ended and whose second one never ends.
fn endless(folder: &Folder, flags: &[&str]) -> Child {
    let mut command = command();
    command.args(["sql", "-c", "SELECT 1", "-c", ENDLESS, "--data"]).arg(folder.data()).args(flags);
    let mut child =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().expect("a pipe")).read_line(&mut line).expect("a line");
    child
}

#[test]
fn an_interrupted_query_ends_with_130() {
    let folder = Folder::new();
    folder.serve(&["--shards", "2"]).stop();
    let child = endless(&folder, &[]);
    let pid = rustix::process::Pid::from_raw(child.id() as i32).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("a signal");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(130), "{output:?}");
}

#[test]
fn a_query_that_holds_up_a_server_is_ended() {
    let folder = Folder::new();
    let server = folder.serve(&["--shards", "2"]);
    ready(&folder);
    post(
        &mut server.client(),
        "/event",
        &json!({"user_id": 1, "timestamp": "2024-01-14T10:30:00Z", "metadata": {}}),
    );
    let output = endless(&folder, &["--timeout", "1"]).wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("ended after 1 s") && said.contains("--timeout"), "{said}");
    server.stop();
}

#[test]
fn a_reader_that_stops_early_is_not_an_error() {
    let folder = Folder::new();
    folder.serve(&["--shards", "2"]).stop();
    let many = format!("{} LIMIT 3000000", ENDLESS.replace("count(*)", "x"));
    let mut command = command();
    command.args(["sql", "-c", &many, "--data"]).arg(folder.data());
    let mut child =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}
