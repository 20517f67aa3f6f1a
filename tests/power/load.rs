//! Everything at once at `disk`: several clients over all routes, a cut at any moment, and then nothing acked is
//! missing and nothing is there twice.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;

use serde_json::{Value, json};

use super::orders::{TENANT, ingest as ingest_again, orders, statuses, stored_orders};
use super::{After, Rig, events, verify_databases};
use crate::disk::{Order, Policy};
use crate::support::commerce::{NDJSON, ingest};
use crate::support::oracle::body;
use crate::support::{Answer, Chance, Client, cpus, event, rows_of, stored, wait_until};

const CLIENTS: u64 = 4;
const ROWS: usize = 8;

/// What was acked to one client.
#[derive(Default)]
struct Acked {
    clicks: Vec<u64>,
    events: Vec<String>,
    /// Keys, and the first order of each.
    ingests: Vec<(String, usize)>,
    statuses: BTreeMap<String, &'static str>,
    prices: Vec<(String, Value)>,
    /// The newest quantity of the client's product.
    quantity: Option<u64>,
}

/// The answer, where it is the one that promises something; a refusal promises nothing.
fn ask(client: &mut Client, method: &str, target: &str, body: &str, good: u16) -> io::Result<Option<Answer>> {
    Ok(Some(client.ask(method, target, body)?).filter(|answer| answer.status == good))
}

fn price_of(number: u64) -> String {
    json!({"event_id": format!("price-{number}"), "price": "10.00", "currency": "USD",
           "observed_at": "2026-01-02T00:00:00Z"})
    .to_string()
}

fn price_target(of: u64) -> String {
    format!("/api/v1/tenants/{TENANT}/products/priced-{of}/price-event")
}

/// Asks until the power is gone. Every number is used once, by this client only.
fn run(address: SocketAddr, of: u64, acked: &mut Acked) -> io::Result<()> {
    let (mut client, mut chance) = (Client::connect(address)?, Chance::seeded(of + 1));
    for number in (of * 100_000..).take(90_000) {
        match chance.below(6) {
            0 => {
                let answer = ask(&mut client, "POST", "/event", &event(number), 202)?;
                acked.clicks.extend(answer.map(|_| number));
            }
            1 => {
                let id = format!("e-{number:08}");
                let answer = client.ask("POST", "/events", &events::service_event(&id))?;
                if answer.status / 100 == 2 {
                    acked.events.push(id);
                }
            }
            2 => {
                let (key, first) = (format!("k-{number}"), number as usize * ROWS);
                let answer = ingest(address, &key, NDJSON, &body(&orders(first..first + ROWS)))?;
                if answer.status == 200 {
                    acked.ingests.push((key, first));
                }
            }
            3 => {
                let Some((_, first)) = acked.ingests.last() else { continue };
                let order = orders(*first..first + 1)[0].id.clone();
                let target = format!("/api/v1/tenants/{TENANT}/orders/{order}");
                let answer = ask(&mut client, "PATCH", &target, r#"{"status":"shipped"}"#, 200)?;
                acked.statuses.extend(answer.map(|_| (order, "shipped")));
            }
            4 => {
                let answer = ask(&mut client, "POST", &price_target(of), &price_of(number), 201)?;
                acked.prices.extend(answer.map(|answer| (price_of(number), answer.json())));
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
fn check(after: &After, all: &[Acked]) {
    after.server.wait_until_stored();
    none_missing("clicks", all.iter().flat_map(|of| of.clicks.iter().copied()), &stored(&after.data));
    let sql = "SELECT event_id FROM service_events";
    let stored_events = rows_of(&after.data, sql, |row| row.get::<_, String>(0));
    none_missing("events", all.iter().flat_map(|of| of.events.iter().cloned()), &stored_events);
    let acked = all.iter().flat_map(|of| &of.ingests).flat_map(|(_, first)| orders(*first..first + ROWS));
    none_missing("orders", acked.map(|order| order.id), &stored_orders(after));

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
        for (key, first) in acked.ingests.iter().rev().take(5) {
            let replayed = ingest_again(&after.server, key, "", &orders(*first..first + ROWS));
            assert_eq!(replayed.header("idempotent-replayed"), Some("true"), "{key}: {replayed:?}");
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
        // Small files and checkpoints all the time: a cut meets the deletion of segments, too.
        let small =
            ["--segment-bytes", "1MiB", "--checkpoint-interval", "20ms", "--checkpoint-wal-bytes", "256KiB"];
        let server = rig.serve(&[&["--ack", "disk", "--cores", &cpus(2)], &small[..]].concat());
        rig.disk.settle();
        rig.disk.syncs_take(std::time::Duration::from_millis(1 + chance.below(5)));
        rig.disk.cut_after(rig.disk.operations() + 500 + chance.below(8_000));
        let address = server.address;
        let clients: Vec<_> = (0..CLIENTS)
            .map(|of| {
                std::thread::spawn(move || {
                    let mut acked = Acked::default();
                    // It ends with the power.
                    let _ = run(address, of, &mut acked);
                    acked
                })
            })
            .collect();
        wait_until("the power to go", || rig.disk.is_cut());
        server.kill();
        let all: Vec<Acked> = clients.into_iter().map(|of| of.join().expect("it does not panic")).collect();
        let count: usize = all.iter().map(|of| of.clicks.len() + of.events.len() + of.ingests.len()).sum();
        eprintln!("cut {cut}: {count} clicks, events and ingests were acked");

        for number in 0..number("POWER_IMAGES", 4) {
            let order = [Order::Strict, Order::Ext4][chance.below(2) as usize];
            let policy = Policy::LOSING[chance.below(Policy::LOSING.len() as u64) as usize];
            let seed = chance.below(1 << 40);
            eprintln!("cut {cut}, image {number}: {order:?} {policy:?} {seed}");
            let image = rig.folder.beside(&format!("image-{number}"));
            rig.disk.image(order, policy, seed, &image);
            let data = image.join("data");
            let after = After { server: rig.serve_on(&data, &[]), data };
            check(&after, &all);
            after.server.stop();
            verify_databases(&after.data);
            std::fs::remove_dir_all(&image).expect("it is removed");
        }
    }
}
