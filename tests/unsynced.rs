//! Every write reports its durability, and the server reports correctly what a power cut or a failure left incomplete.

use std::fs::{self, File};

use crate::support::commerce::{
    INGEST, NDJSON, ingest, ingest_head, ingested, lines, search_all, upload_folder,
};
use crate::support::{Answer, Client, Folder, Server, break_sync};
use serde_json::json;

const UPLOADS: &str = "/api/v1/ingest/orders/uploads";
const TUS: &str = "Tus-Resumable: 1.0.0";
const PIECE: &str = "Content-Type: application/offset+octet-stream";

/// Sends a request with these header lines and reads the response.
fn ask(
    client: &mut Client,
    method: &str,
    target: &str,
    lines: &[&str],
    body: &[u8],
) -> std::io::Result<Answer> {
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    let head =
        format!("{method} {target} HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n{lines}\r\n", body.len());
    client.write(head.as_bytes())?;
    client.write(body)?;
    client.answer()
}

/// Sends one of every kind of write and returns each with its response.
fn writes(server: &Server, level: &str) -> Vec<(String, Answer)> {
    let query = if level == "disk" { "?ack=disk" } else { "" };
    let mut client = server.client();
    let mut answers = Vec::new();
    let tenant = "/api/v1/tenants/acme";
    let mut say = |what: &str, answer: std::io::Result<Answer>| {
        let answer = answer.expect("the server answers");
        let copy =
            Answer { status: answer.status, headers: answer.headers.clone(), body: answer.body.clone() };
        answers.push((what.to_owned(), answer));
        copy
    };
    let ingest = |client: &mut Client, key: &str, body: &str| {
        let head = ingest_head(key, "Content-Type: application/x-ndjson\r\n", body.len());
        client.write(head.replacen(INGEST, &format!("{INGEST}{query}"), 1).as_bytes())?;
        client.write(body.as_bytes())?;
        client.answer()
    };
    let body = lines(0..3);
    say("an ingest", ingest(&mut client, &format!("key-{level}"), &body));
    let replay = say("an ingest, replayed", ingest(&mut client, &format!("key-{level}"), &body));
    assert_eq!(replay.header("idempotent-replayed"), Some("true"));
    let status = format!("{tenant}/orders/o-1{query}");
    say("a status", client.ask("PATCH", &status, r#"{"status":"shipped"}"#));
    say("the same status", client.ask("PATCH", &status, r#"{"status":"shipped"}"#));
    let price = |id: &str, price: &str, at: usize| {
        json!({"event_id": format!("{id}-{level}"), "price": price, "currency": "USD",
               "observed_at": format!("2026-03-01T12:{at:02}:00Z")})
        .to_string()
    };
    let product = format!("{tenant}/products/p-{level}/price-event{query}");
    for at in 0..25 {
        say("a price", client.ask("POST", &product, &price(&format!("e-{at}"), "10.00", at)));
    }
    say("a price, repeated", client.ask("POST", &product, &price("e-0", "10.00", 0)));
    let odd = say("an odd price", client.ask("POST", &product, &price("odd", "99.00", 30)));
    let anomaly = odd.json()["anomaly"]["id"].as_str().expect("it is odd").to_owned();
    let review = format!("{tenant}/price-anomalies/{anomaly}/review{query}");
    say("a review", client.ask("POST", &review, r#"{"decision":"approve"}"#));
    say("a review, repeated", client.ask("POST", &review, r#"{"decision":"approve"}"#));
    let stock = json!({"mode": "merge", "updates": [{"event_id": level, "product_id": "p-1", "delta": 1,
        "occurred_at": "2026-03-01T12:00:00Z"}]});
    say("stock", client.ask("PUT", &format!("{tenant}/stock/bulk_update{query}"), &stock.to_string()));
    let export = say(
        "an export",
        client.ask("POST", &format!("{tenant}/reports/export{query}"), r#"{"format":"csv"}"#),
    );
    let export = export.header("location").expect("a location").to_owned();
    say("an export, removed", client.ask("DELETE", &format!("{export}{query}"), ""));
    let file = lines(10..12);
    let length = format!("Upload-Length: {}", file.len());
    let created = ask(&mut client, "POST", &format!("{UPLOADS}{query}"), &[TUS, &length], b"");
    let upload = say("an upload", created).header("location").expect("a location").to_owned();
    let piece = [TUS, PIECE, "Upload-Offset: 0"];
    let (target, bytes) = (format!("{upload}{query}"), file.as_bytes());
    say("half of it", ask(&mut client, "PATCH", &target, &piece, &bytes[..100]));
    say("the rest", ask(&mut client, "PATCH", &target, &[TUS, PIECE, "Upload-Offset: 100"], &bytes[100..]));
    say("an upload, ended", ask(&mut client, "DELETE", &target, &[TUS], b""));
    let event = |id: &str| {
        json!({"event_id": format!("{id}-{level}"), "tenant_id": "acme", "source": "web", "event_type": "click",
               "timestamp": "2026-03-01T12:00:00Z", "payload": {}})
    };
    say("an event", client.ask("POST", &format!("/events{query}"), &event("a").to_string()));
    say("an event, repeated", client.ask("POST", &format!("/events{query}"), &event("a").to_string()));
    let bulk = json!({"events": [event("a"), event("b")]}).to_string();
    say("events", client.ask("POST", &format!("/events/bulk{query}"), &bulk));
    say("a click", client.ask("POST", &format!("/event{query}"), &crate::support::event(1)));
    say("an erasure", client.ask("DELETE", &format!("{tenant}/customers/c-5{query}"), ""));
    say("an erasure of clicks", client.ask("DELETE", &format!("/clicks/users/5{query}"), ""));
    answers
}

#[test]
fn w1_every_write_says_how_durable_it_is() {
    let folder = Folder::new();
    let mut server = folder.serve(&["--shards", "2", "--cores", &crate::support::cpus(2)]);
    for level in ["os", "disk"] {
        for (what, answer) in writes(&server, level) {
            assert!((200..300).contains(&answer.status), "{what}: {answer:?}");
            assert_eq!(answer.header("firehose-ack"), Some(level), "{what}: {answer:?}");
        }
    }
    let refused =
        server.client().ask("PATCH", "/api/v1/tenants/acme/orders/o-1?ack=tape", r#"{"status":"paid"}"#);
    assert_eq!(refused.expect("the server answers").status, 400);
    server.replace(|| folder.serve(&["--shards", "2", "--cores", &crate::support::cpus(2), "--ack", "disk"]));
    let again = server.client().ask("PATCH", "/api/v1/tenants/acme/orders/o-1", r#"{"status":"paid"}"#);
    assert_eq!(again.expect("the server answers").header("firehose-ack"), Some("disk"), "the server's level");
}

#[test]
fn a_reshard_whose_new_shards_are_gone_says_so_and_touches_nothing() {
    let folder = Folder::new();
    let server = folder.serve(&["--shards", "1"]);
    ingested(&server, "k", lines(0..10).as_bytes());
    server.stop();
    // The state after a cut that kept the marker and lost the new shards.
    fs::write(folder.data().join("reshard.json"), r#"{"to":2,"swapping":true}"#).expect("a marker");
    let output = folder.run(&["reshard", "--to", "2"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("nothing was changed"), "{output:?}");
    assert!(folder.database(0).exists() && !folder.data().join("before-reshard").exists());
    fs::remove_file(folder.data().join("reshard.json")).expect("the marker is there");
    let server = folder.serve(&[]);
    assert_eq!(search_all(&server, "acme", "limit=1000").len(), 10);
}

#[test]
fn a_reshard_after_an_erasure_that_failed_says_what_it_is() {
    let folder = Folder::new();
    let server = folder.serve(&["--shards", "2"]);
    // Both shards contain orders of the customer.
    ingested(&server, "k", lines(0..140).as_bytes());
    let mut client = server.client();
    let created = ask(&mut client, "POST", UPLOADS, &[TUS, "Upload-Length: 1000"], b"");
    assert_eq!(created.expect("the server answers").status, 201);
    let body = upload_folder(&folder).join("body");
    fs::remove_file(&body).expect("the body is there");
    // The erasure cannot read this upload.
    fs::create_dir(&body).expect("a folder in its place");
    let failed = client.ask("DELETE", "/api/v1/tenants/acme/customers/c-1", "").expect("the server answers");
    assert_eq!(failed.status, 500, "{}", String::from_utf8_lossy(&failed.body));
    server.stop();
    let output = folder.run(&["reshard", "--to", "3"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{output:?}");
    assert!(said.contains("an erasure failed") && !said.contains("damaged"), "{said}");
    // The folder can be served, and the erasure finishes.
    fs::remove_dir(&body).expect("it is empty");
    File::create(&body).expect("the body is made again");
    let server = folder.serve(&[]);
    let erased = server.client().ask("DELETE", "/api/v1/tenants/acme/customers/c-1", "");
    assert_eq!(erased.expect("the server answers").status, 200);
    server.stop();
    let output = folder.run(&["reshard", "--to", "3"]);
    assert!(output.status.success(), "{output:?}");
}

/// At `os` too, a durable key or checkpoint is written only after the rows that it names are synced. The client does
/// not wait and is not refused.
#[test]
fn w1_after_a_failed_sync_no_key_and_no_upload_outlives_its_rows() {
    let folder = Folder::new();
    // A checkpoint would make the rows durable without the journal. Small pages stay below the WAL that is due for one.
    let flags = ["--shards", "1", "--checkpoint-interval", "1h", "--page-size", "4KiB"];
    let server = folder.serve(&flags);
    let is_replay = |server: &Server, key: &str| {
        let answer = ingest(server.address, key, NDJSON, lines(0..5).as_bytes()).expect("the server answers");
        assert_eq!((answer.status, &answer.json()["rows_received"]), (200, &json!(5)), "{answer:?}");
        assert_eq!(answer.header("firehose-ack"), Some("os"));
        answer.header("idempotent-replayed") == Some("true")
    };
    let event = json!({"event_id": "a", "tenant_id": "acme", "source": "web", "event_type": "click",
        "timestamp": "2026-03-01T12:00:00Z", "payload": {}});
    let first = server.client().ask("POST", "/events", &event.to_string()).expect("the server answers");
    assert_eq!(first.status, 201, "{first:?}");
    server.wait_until_stored();
    let segment = folder.newest_segment(0, "keyed");
    break_sync(&segment);
    assert!(!is_replay(&server, "k"), "it is taken");
    assert!(!is_replay(&server, "k"), "and no key tells of it");
    let file = lines(10..13);
    let mut client = server.client();
    let length = format!("Upload-Length: {}", file.len());
    let created = ask(&mut client, "POST", UPLOADS, &[TUS, &length], b"").expect("the server answers");
    let upload = created.header("location").expect("a location").to_owned();
    let patch = |client: &mut Client, target: &str, from: usize, to: usize| {
        let offset = format!("Upload-Offset: {from}");
        let taken = ask(client, "PATCH", target, &[TUS, PIECE, &offset], &file.as_bytes()[from..to]);
        taken.expect("the server answers")
    };
    let half = file.len() / 2;
    for (from, to) in [(0, half), (half, file.len())] {
        let taken = patch(&mut client, &upload, from, to);
        assert_eq!(taken.status, 204, "{taken:?}");
        assert_eq!(taken.header("upload-offset"), Some(to.to_string().as_str()));
    }
    let told = |server: &Server| {
        let told = server.get(&upload).json();
        (told["state"].clone(), told["offset"].clone(), told["rows_inserted"].clone())
    };
    assert_eq!(told(&server), (json!("receiving"), json!(0), json!(0)), "no checkpoint names the rows");
    assert_eq!(search_all(&server, "acme", "limit=1000").len(), 8, "which are there");
    let refused = patch(&mut client, &format!("{upload}?ack=disk"), file.len(), file.len());
    assert_eq!(refused.status, 503, "who asks for the disk is refused: {refused:?}");
    // A stop writes the rows into the database, durably.
    server.stop();
    fs::rename(segment.with_extension("aside"), &segment).expect("the segment is back");
    let server = folder.serve(&flags);
    let mut client = server.client();
    let again = patch(&mut client, &upload, 0, file.len());
    assert_eq!(again.status, 204, "{again:?}");
    assert_eq!(told(&server), (json!("finished"), json!(file.len()), json!(3)));
    assert!(!is_replay(&server, "k") && is_replay(&server, "k"), "its key is kept now");
    assert_eq!(search_all(&server, "acme", "limit=1000").len(), 8);
}
