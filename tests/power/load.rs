//! Everything at once at `disk`: several clients use all endpoints, and the power is cut at any moment. Afterwards,
//! nothing acked is missing and nothing is stored twice.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;

use serde_json::{Value, json};

use super::orders::{TENANT, ingest as ingest_again, orders, statuses, stored_orders};
use super::{After, Rig, events, files_of, uploads, verify_databases};
use crate::disk::{Order, Policy};
use crate::support::commerce::{NDJSON, ingest, search_all};
use crate::support::oracle::body;
use crate::support::{Answer, Chance, Client, Server, cpus, event, rows_of, stored, wait_for, wait_until};

const CLIENTS: u64 = 4;
const ROWS: usize = 8;
const EXPORTS: &str = "/api/v1/tenants/acme/reports/export";

/// Everything that was acked to one client.
#[derive(Default)]
struct Acked {
    clicks: Vec<u64>,
    events: Vec<String>,
    /// Idempotency keys, with the first order of each.
    ingests: Vec<(String, usize)>,
    statuses: BTreeMap<String, &'static str>,
    prices: Vec<(String, Value)>,
    /// Uploads, with the first order of each and the offset that was reported.
    uploads: Vec<(String, usize, usize)>,
    exports: Vec<String>,
    erased: Vec<String>,
    /// The newest quantity of the client's product.
    quantity: Option<u64>,
}

/// Sends a request and returns the response if its status is `good`. Any other status promises nothing.
fn ask(client: &mut Client, method: &str, target: &str, body: &str, good: u16) -> io::Result<Option<Answer>> {
    Ok(Some(client.ask(method, target, body)?).filter(|answer| answer.status == good))
}

/// Returns a price that jumps. Most of these prices are anomalies, and each anomaly is a change on the stream.
fn price_of(number: u64) -> String {
    let price = if number.is_multiple_of(2) { "10.00" } else { "25.00" };
    json!({"event_id": format!("price-{number}"), "price": price, "currency": "USD",
           "observed_at": events::time(number)})
    .to_string()
}

/// Returns a word that occurs only in data of this customer.
fn customer_of(number: u64) -> String {
    format!("zaphod{number:08}x")
}

/// Ingests one order of a customer and then erases the customer. Returns `true` if there is a certificate.
fn ingest_and_erase(address: SocketAddr, client: &mut Client, number: u64) -> io::Result<bool> {
    let mut order = orders(0..1);
    order[0].id = format!("erased-{number}");
    order[0].customer = customer_of(number);
    order[0].email = format!("{}@example.org", customer_of(number));
    let key = format!("erased-{number}");
    if ingest(address, &key, NDJSON, &body(&order))?.status != 200 {
        return Ok(false);
    }
    let target = format!("/api/v1/tenants/{TENANT}/customers/{}?mode=erase", customer_of(number));
    Ok(ask(client, "DELETE", &target, "", 200)?.is_some())
}

/// Returns the bytes of an upload of this client's orders from `first` on.
fn uploaded(first: usize) -> Vec<u8> {
    body(&orders(first..first + ROWS))
}

/// Sends an upload in two pieces. Returns it with the last reported offset.
fn upload(client: &mut Client, first: usize) -> io::Result<Option<(String, usize, usize)>> {
    let lines = uploaded(first);
    let created = uploads::asked(
        client,
        "POST",
        uploads::UPLOADS,
        &format!("Upload-Length: {}\r\n", lines.len()),
        b"",
    )?;
    let Some(path) = created.header("location").filter(|_| created.status == 201) else { return Ok(None) };
    let mut reported = 0;
    for end in [lines.len() / 2, lines.len()] {
        let head = format!("Content-Type: application/offset+octet-stream\r\nUpload-Offset: {reported}\r\n");
        match uploads::asked(client, "PATCH", path, &head, &lines[reported..end]) {
            Ok(answer) if answer.status == 204 => reported = uploads::offset(&answer),
            // The offset that was reported before remains a promise.
            _ => break,
        }
    }
    Ok(Some((path.to_owned(), first, reported)))
}

/// Starts to watch the tenant's anomalies, from now on or after an event. Returns the id from which to resume, and
/// the stream.
#[track_caller]
fn watch(server: &Server, last_id: &str) -> (String, Client) {
    let mut client = server.client();
    let head = format!(
        "GET /api/v1/tenants/{TENANT}/price-anomalies HTTP/1.1\r\nHost: test\r\nAccept: text/event-stream\r\n{last_id}\r\n"
    );
    client.write(head.as_bytes()).expect("the server takes it");
    assert_eq!(client.answer_head().expect("the server answers").status, 200);
    let first = String::from_utf8(client.chunk().expect("it begins")).expect("text");
    let id = first.lines().find_map(|line| line.strip_prefix("id: ")).expect("an id").to_owned();
    (id, client)
}

fn price_target(of: u64) -> String {
    format!("/api/v1/tenants/{TENANT}/products/priced-{of}/price-event")
}

/// Sends requests until the power is gone. Every number is used once, and only by this client.
fn run(address: SocketAddr, of: u64, acked: &mut Acked) -> io::Result<()> {
    let (mut client, mut chance) = (Client::connect(address)?, Chance::seeded(of + 1));
    for number in (of * 100_000..).take(90_000) {
        // The operations that write most are rare, so that others also happen between two cuts.
        match chance.below(24) {
            0..=3 => {
                let answer = ask(&mut client, "POST", "/event", &event(number), 202)?;
                acked.clicks.extend(answer.map(|_| number));
            }
            4..=6 => {
                let id = format!("e-{number:08}");
                let answer = client.ask("POST", "/events", &events::service_event(&id))?;
                if answer.status / 100 == 2 {
                    acked.events.push(id);
                }
            }
            7..=9 => {
                let (key, first) = (format!("k-{number}"), number as usize * ROWS);
                let answer = ingest(address, &key, NDJSON, &body(&orders(first..first + ROWS)))?;
                if answer.status == 200 {
                    acked.ingests.push((key, first));
                }
            }
            10..=12 => {
                let Some((_, first)) = acked.ingests.last() else { continue };
                let order = orders(*first..first + 1)[0].id.clone();
                let target = format!("/api/v1/tenants/{TENANT}/orders/{order}");
                let answer = ask(&mut client, "PATCH", &target, r#"{"status":"shipped"}"#, 200)?;
                acked.statuses.extend(answer.map(|_| (order, "shipped")));
            }
            13..=15 => {
                let answer = ask(&mut client, "POST", &price_target(of), &price_of(number), 201)?;
                acked.prices.extend(answer.map(|answer| (price_of(number), answer.json())));
            }
            16..=17 => {
                let ids: Vec<_> = (0..5).map(|at| format!("b-{number:08}-{at}")).collect();
                let bulk: Vec<_> = ids.iter().map(|id| events::service_event(id)).collect();
                let bulk = format!("{{\"events\":[{}]}}", bulk.join(","));
                if client.ask("POST", "/events/bulk", &bulk)?.status / 100 == 2 {
                    acked.events.extend(ids);
                }
            }
            18 => acked.uploads.extend(upload(&mut client, number as usize * ROWS)?),
            19 => {
                let wish = r#"{"format":"ndjson","fields":["order_id"]}"#;
                let answer = ask(&mut client, "POST", EXPORTS, wish, 201)?;
                acked.exports.extend(answer.and_then(|answer| Some(answer.header("location")?.to_owned())));
            }
            20 => {
                if ingest_and_erase(address, &mut client, number)? {
                    acked.erased.push(customer_of(number));
                }
            }
            _ => {
                let update = json!({"mode": "last_write_wins", "updates": [{
                    "event_id": format!("s-{number}"), "product_id": format!("stocked-{of}"),
                    "quantity": number, "occurred_at": events::time(number)}]});
                let target = format!("/api/v1/tenants/{TENANT}/stock/bulk_update");
                let answer = ask(&mut client, "PUT", &target, &update.to_string(), 200)?;
                acked.quantity = answer.map(|_| number).or(acked.quantity);
            }
        }
    }
    Ok(())
}

#[track_caller]
fn none_missing<T: Ord + std::fmt::Debug>(what: &str, acked: impl IntoIterator<Item = T>, stored: &[T]) {
    let once: BTreeSet<&T> = stored.iter().collect();
    assert_eq!(once.len(), stored.len(), "{what}: there twice");
    let acked: Vec<T> = acked.into_iter().collect();
    let missing: Vec<_> = acked.iter().filter(|acked| !once.contains(acked)).take(5).collect();
    assert!(missing.is_empty(), "{what}: {} were acked, missing are {missing:?} …", acked.len());
}

#[track_caller]
fn check(after: &After, watched: &str, all: &[Acked]) {
    after.server.wait_until_stored();
    none_missing("clicks", all.iter().flat_map(|of| of.clicks.iter().copied()), &stored(&after.data));
    let sql = "SELECT event_id FROM service_events";
    let stored_events = rows_of(&after.data, sql, |row| row.get::<_, String>(0));
    none_missing("events", all.iter().flat_map(|of| of.events.iter().cloned()), &stored_events);
    let acked = all.iter().flat_map(|of| &of.ingests).flat_map(|(_, first)| orders(*first..first + ROWS));
    let in_uploads = all.iter().flat_map(|of| &of.uploads).flat_map(|(_, first, reported)| {
        let rows = uploaded(*first)[..*reported].iter().filter(|byte| **byte == b'\n').count();
        orders(*first..first + rows)
    });
    let acked = acked.chain(in_uploads).map(|order| order.id);
    none_missing("orders", acked, &stored_orders(after));

    // A client that watched before the load resumes, and sees every anomaly of an acked price.
    let mut anomalies: BTreeSet<&str> =
        all.iter().flat_map(|of| &of.prices).filter_map(|(_, said)| said["anomaly"]["id"].as_str()).collect();
    let (_, mut watching) = watch(&after.server, &format!("Last-Event-ID: {watched}\r\n"));
    let mut text = String::new();
    while !anomalies.is_empty() {
        text.push_str(&String::from_utf8_lossy(&watching.chunk().expect("the stream goes on")));
        let Some(end) = text.rfind("\n\n") else { continue };
        anomalies.retain(|id| !text[..end].contains(id));
        text.drain(..end);
    }
    let found = search_all(&after.server, TENANT, "limit=1000");
    let erased: BTreeSet<&str> = all.iter().flat_map(|of| &of.erased).map(String::as_str).collect();
    let back = found.iter().find(|row| row["customer_id"].as_str().is_some_and(|id| erased.contains(id)));
    assert_eq!(back, None, "a customer who was erased is back");
    let statuses = statuses(&after.server);
    let mut client = after.server.client();
    let mut get = |target: &str| client.get(target).expect("the server answers");
    for (of, acked) in all.iter().enumerate() {
        for (order, status) in &acked.statuses {
            assert_eq!(statuses.get(order).map(String::as_str), Some(*status), "{order}");
        }
        if let Some(quantity) = acked.quantity {
            let level = get(&format!("/api/v1/tenants/{TENANT}/stock/stocked-{of}"));
            let found = level.json()["quantity"].as_u64();
            assert!(found >= Some(quantity), "stock was acked as {quantity} and is {found:?}");
        }
    }
    for (of, acked) in all.iter().enumerate() {
        for (price, said) in &acked.prices {
            let again =
                after.server.client().ask("POST", &price_target(of as u64), price).expect("an answer");
            assert_eq!((again.status, &again.json()), (200, said), "a price that was acked");
        }
        for (path, first, reported) in acked.uploads.iter().rev().take(5) {
            let mut from = uploads::offset(&uploads::ask(&after.server, "HEAD", path, "", b""));
            assert!(from >= *reported, "{path}: {reported} bytes were reported, and {from} are there");
            let lines = uploaded(*first);
            if from < lines.len() {
                let head =
                    format!("Content-Type: application/offset+octet-stream\r\nUpload-Offset: {from}\r\n");
                from = uploads::offset(&uploads::ask(&after.server, "PATCH", path, &head, &lines[from..]));
            }
            assert_eq!(from, lines.len(), "{path}");
            let summary = after.server.get(path).json();
            assert_eq!(
                (&summary["state"], &summary["rows_failed"]),
                (&"finished".into(), &0.into()),
                "{summary}"
            );
        }
        for export in acked.exports.iter().rev().take(5) {
            let ended =
                |said: &Value| !["queued", "running"].contains(&said["state"].as_str().unwrap_or_default());
            let said = wait_for("the export to end", || {
                let answer = after.server.get(export);
                assert_eq!(answer.status, 200, "{export}: {answer:?}");
                Some(answer.json()).filter(ended)
            });
            assert!(said["state"] == "done" || said["state"] == "erased", "{said}");
        }
        for (key, first) in acked.ingests.iter().rev().take(5) {
            let replayed = ingest_again(&after.server, key, "", &orders(*first..first + ROWS));
            assert_eq!(replayed.header("idempotent-replayed"), Some("true"), "{key}: {replayed:?}");
        }
    }
}

/// Checks that no file contains anything of the erased customers.
#[track_caller]
fn check_erased(image: &std::path::Path, all: &[Acked]) {
    let erased: BTreeSet<&str> = all.iter().flat_map(|of| &of.erased).map(String::as_str).collect();
    let length = customer_of(0).len();
    for path in files_of(image).into_iter().filter(|path| path.is_file()) {
        let bytes = std::fs::read(&path).expect("a file of the image");
        for at in memchr::memmem::find_iter(&bytes, b"zaphod") {
            let word = bytes.get(at..at + length).and_then(|word| std::str::from_utf8(word).ok());
            assert!(!word.is_some_and(|word| erased.contains(word)), "{word:?} in {}", path.display());
        }
    }
}

fn number(name: &str, default: u64) -> u64 {
    let found = std::env::vars_os().find(|(known, _)| known == name);
    found.and_then(|(_, value)| value.to_str()?.parse().ok()).unwrap_or(default)
}

#[test]
fn w1_nothing_acked_is_lost_and_nothing_is_there_twice_under_load() {
    let mut chance = Chance::new();
    for cut in 0..number("POWER_CUTS", 3) {
        let Some(rig) = Rig::new() else { return };
        // Small files and constant checkpoints, so that a cut also meets the deletion of segments.
        let small =
            ["--segment-bytes", "1MiB", "--checkpoint-interval", "20ms", "--checkpoint-wal-bytes", "256KiB"];
        let server = rig.serve(&[&["--ack", "disk", "--cores", &cpus(2)], &small[..]].concat());
        let (watched, _watching) = watch(&server, "");
        rig.disk.settle();
        rig.disk.syncs_take(std::time::Duration::from_millis(1 + chance.below(5)));
        rig.disk.cut_after(rig.disk.operations() + 500 + chance.below(8_000));
        let address = server.address;
        let clients: Vec<_> = (0..CLIENTS)
            .map(|of| {
                std::thread::spawn(move || {
                    let mut acked = Acked::default();
                    // The client ends when the power is cut.
                    let _ = run(address, of, &mut acked);
                    acked
                })
            })
            .collect();
        wait_until("the power to go", || rig.disk.is_cut());
        server.kill();
        let all: Vec<Acked> = clients.into_iter().map(|of| of.join().expect("it does not panic")).collect();
        let count = |of: fn(&Acked) -> usize| all.iter().map(of).sum::<usize>();
        eprintln!(
            "cut {cut}: acked were {} clicks, {} events, {} ingests, {} uploads, {} statuses, {} prices, \
             {} exports, {} erasures",
            count(|of| of.clicks.len()),
            count(|of| of.events.len()),
            count(|of| of.ingests.len()),
            count(|of| of.uploads.len()),
            count(|of| of.statuses.len()),
            count(|of| of.prices.len()),
            count(|of| of.exports.len()),
            count(|of| of.erased.len()),
        );

        for number in 0..number("POWER_IMAGES", 4) {
            let order = [Order::Strict, Order::Ext4][chance.below(2) as usize];
            let policy = Policy::LOSING[chance.below(Policy::LOSING.len() as u64) as usize];
            let seed = chance.below(1 << 40);
            eprintln!("cut {cut}, image {number}: {order:?} {policy:?} {seed}");
            let image = rig.folder.beside(&format!("image-{number}"));
            rig.disk.image(order, policy, seed, &image);
            check_erased(&image, &all);
            let data = image.join("data");
            let after = After { server: rig.serve_on(&data, &[]), data };
            check(&after, &watched, &all);
            after.server.stop();
            verify_databases(&after.data);
            std::fs::remove_dir_all(&image).expect("it is removed");
        }
    }
}
