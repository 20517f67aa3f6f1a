//! `firehose sql` compared with the shards as plain SQLite reads them: every view, on any number of shards, while a
//! server writes, and with content that a format must escape.

mod attach;
mod formats;
mod limits;
mod lookups;
mod page;
mod prompt;
mod shell;
mod views;

use std::io::Write as _;
use std::path::Path;
use std::process::{Output, Stdio};

use crate::support::commerce::{counts, ingested};
use crate::support::oracle::{self, Order};
use crate::support::{Chance, Client, Folder, Server, command};
use serde_json::{Value, json};

/// Runs `firehose sql` with these statements on standard input.
fn piped(data: &Path, flags: &[&str], input: &str) -> Output {
    let mut command = command();
    command.arg("sql").arg("--data").arg(data).args(flags).stdin(Stdio::piped());
    let mut child =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    let input = input.to_owned();
    let writer = std::thread::spawn(move || {
        // A statement that fails ends the program before it has read everything.
        let _ = stdin.write_all(input.as_bytes());
    });
    let output = child.wait_with_output().expect("the program ends");
    writer.join().expect("no panic");
    output
}

/// Returns the results of statements, each with its rows as objects.
#[track_caller]
fn asked(data: &Path, statements: &[String]) -> Vec<Vec<Value>> {
    let output = piped(data, &["--format", "json"], &statements.join(";\n"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let results = serde_json::Deserializer::from_slice(&output.stdout).into_iter::<Vec<Value>>();
    let results: Vec<_> = results.collect::<Result<_, _>>().expect("arrays of objects");
    assert_eq!(results.len(), statements.len());
    results
}

/// Returns what a failed statement prints.
#[track_caller]
fn refused(data: &Path, sql: &str) -> String {
    let output = command().args(["sql", "-c", sql, "--data"]).arg(data).output().expect("the program runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{sql}: {said}");
    said
}

fn post(client: &mut Client, target: &str, body: &Value) {
    let answer = client.ask("POST", target, &body.to_string()).expect("the server answers");
    assert!((200..300).contains(&answer.status), "{target}: {answer:?}");
}

/// Stores rows of every kind: those of a dataset, and random ones of a running server, in many small partitions.
fn filled(folder: &Folder, chance: &mut Chance, shards: u16) -> Server {
    let shards = shards.to_string();
    let data = folder.data();
    let load = [
        "--tenants",
        "3",
        "--products",
        "9",
        "--customers",
        "40",
        "--orders",
        "120",
        "--price-samples",
        "90",
    ];
    let output = command()
        .args(["gen-dataset", "--stock-events", "90", "--shards", &shards, "--load"])
        .arg(&data)
        .args(load)
        .output()
        .expect("the program runs");
    assert!(output.status.success(), "{output:?}");
    let server = folder.serve(&["--partition-rows-max", "60", "--order-partition-rows-max", "40"]);
    let tenants = ["acme", "b", "tenant_1", "x y"];
    let orders: Vec<Order> =
        (0..250).map(|number| Order::random(chance, tenants[number as usize * 7 % 4], number)).collect();
    for (part, orders) in orders.chunks(50).enumerate() {
        assert_eq!(counts(&ingested(&server, &format!("k{part}"), &oracle::body(orders)))[3], 0);
        server.wait_until_stored();
    }
    let mut client = server.client();
    let kinds = ["view", "cart"];
    for part in 0..5 {
        let event = |number: u64, chance: &mut Chance| {
            json!({
                "event_id": format!("e-{}", part * 50 + number), "tenant_id": tenants[chance.below(4) as usize],
                "source": "web", "event_type": kinds[chance.below(2) as usize],
                "timestamp": oracle::rfc3339(1_767_225_600_000_000 + chance.below(1 << 40) as i64),
                "payload": {"n": number, "text": "a\"b\\ü"},
            })
        };
        let events: Vec<Value> = (0..50).map(|number| event(number, chance)).collect();
        post(&mut client, "/events/bulk", &json!({"events": events}));
        for number in 0..40 {
            let at = 1_705_228_200_000_000 + chance.below(1 << 36) as i64;
            let click = json!({"user_id": chance.below(7), "timestamp": oracle::rfc3339(at), "metadata": {"n": number}});
            post(&mut client, "/event", &click);
        }
        server.wait_until_stored();
    }
    for number in 0..12 {
        let path = format!("/api/v1/tenants/acme/products/p{}/price-event", number % 3);
        let price = if number < 3 { "10.00" } else { "25.00" };
        let at = oracle::rfc3339(1_767_225_600_000_000 + number * 60_000_000);
        post(
            &mut client,
            &path,
            &json!({"event_id": number.to_string(), "price": price, "currency": "USD", "observed_at": at}),
        );
    }
    server.wait_until_stored();
    server
}
