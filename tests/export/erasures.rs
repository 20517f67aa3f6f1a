//! A long export during erasures. It ends, contains every remaining order exactly once, and contains no order of an
//! erased customer.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use firehose::base::clock;
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::record::RowAccessor as _;

use super::*;
use crate::support::{Client, Folder};

const TENANT: &str = "t";
/// Number of orders of one customer. They are consecutive, so they lie in few blocks of the file.
const OF_CUSTOMER: u64 = 3;
/// Number of customers from one erased customer to the next. Their orders lie in different blocks of 300.
const STRIDE: u64 = 70;

/// Starts a server with orders. Each customer has distinct traces: an id, a name and an e-mail address.
fn filled(folder: &Folder, flags: &[&str], count: u64) -> (Server, BTreeMap<String, String>) {
    let mut all = orders(TENANT, count, &mut Chance::seeded(31));
    for (number, order) in (0_u64..).zip(&mut all) {
        let customer = number / OF_CUSTOMER;
        order.id = format!("o-{number}");
        order.customer = name_of(customer);
        order.name = format!("Zaphod Number{customer}");
        order.email = format!("zaphod{customer}@heartofgold.example");
    }
    let server = folder.serve(flags);
    all.chunks(5_000).for_each(|orders| ingest(&server, orders));
    server.wait_until_stored();
    (server, all.into_iter().map(|order| (order.id, order.customer)).collect())
}

fn name_of(customer: u64) -> String {
    format!("cust-{customer}-x")
}

fn erase(client: &mut Client, customer: &str, mode: &str) -> io::Result<Answer> {
    client.ask("DELETE", &format!("/api/v1/tenants/{TENANT}/customers/{customer}?mode={mode}"), "")
}

fn etag(server: &Server, export: &Value) -> String {
    let answer = Reading::begin(server, export, "Range: bytes=0-0\r\n");
    answer.header("etag").expect("a validator").to_owned()
}

/// Returns the order and the customer of each row.
fn rows(format: &str, bytes: Vec<u8>) -> Vec<(String, String)> {
    if format == "parquet" {
        let reader = SerializedFileReader::new(bytes::Bytes::from(bytes)).expect("a Parquet file");
        let text = |row: &parquet::record::Row, at| row.get_string(at).expect("a text").clone();
        let rows = reader.get_row_iter(None).expect("rows").map(|row| row.expect("a row"));
        return rows.map(|row| (text(&row, 0), text(&row, 1))).collect();
    }
    let lines = bytes.split_inclusive(|byte| *byte == b'\n');
    let row = |line: &[u8]| {
        let value: Value = serde_json::from_slice(line).expect("a line of JSON");
        let text = |name: &str| value[name].as_str().expect("a text").to_owned();
        (text("order_id"), text("customer_id"))
    };
    lines.map(row).collect()
}

/// The customers who were erased, and those who got a pseudonym.
#[derive(Default)]
struct Gone {
    erased: BTreeSet<String>,
    renamed: BTreeSet<String>,
}

/// Checks that every remaining order occurs once and under the right name.
#[track_caller]
fn check_rows(rows: &[(String, String)], orders: &BTreeMap<String, String>, gone: &Gone) {
    let mut left: BTreeMap<&str, &str> =
        orders.iter().map(|(order, customer)| (order.as_str(), customer.as_str())).collect();
    left.retain(|_, customer| !gone.erased.contains(*customer));
    for (order, customer) in rows {
        let of = left.remove(order.as_str());
        let of = of.unwrap_or_else(|| panic!("{order} is there twice, or of a person who was erased"));
        let is_renamed = gone.renamed.contains(of);
        assert!(
            if is_renamed { customer.starts_with("anon-") } else { customer == of },
            "{order}: {customer}"
        );
    }
    assert!(left.is_empty(), "{} orders are not there: {:?}", left.len(), left.first_key_value());
}

/// Checks that no file of the export contains the customer's id.
#[track_caller]
fn check_traces(folder: &Folder, export: &Value, customer: &str) {
    let id = export["id"].as_str().expect("an id");
    let folder: &Path = &folder.data().join("exports").join(id);
    for entry in std::fs::read_dir(folder).expect("the folder of the export") {
        let path = entry.expect("an entry").path();
        // The job continues meanwhile, and its state files appear and disappear.
        let bytes = std::fs::read(&path).unwrap_or_default();
        assert!(
            memchr::memmem::find(&bytes, format!("\"{customer}\"").as_bytes()).is_none(),
            "{customer} is in {}",
            path.display()
        );
    }
}

/// Before files were spliced, every erasure of written orders restarted the export, which waits until no shard
/// erases. Under erasures without a pause it never ended, and this test ran out of customers.
#[test]
fn x1_an_export_ends_under_erasures_without_a_pause_and_a_download_meanwhile_never_ends_cleanly() {
    let folder = Folder::new();
    let (server, orders) = filled(&folder, &["--shards", "2"], 24_000);
    let mut gone = Gone::default();
    let mut customers = 0_u64..;
    for (format, compression) in [("ndjson", "none"), ("parquet", "zstd")] {
        let fields = json!(["order_id", "customer_id", "customer_name", "currency", "items"]);
        let wish = json!({"format": format, "compression": compression, "fields": fields});
        // Of all attempts, because an export takes about as long as the erasure of a customer.
        let mut splices = 0;
        let is_met = in_time(|| {
            let export = begin(&server, TENANT, &wish);
            if half(&server, &export, 1).is_none() {
                return false;
            }
            let mut erasures = 0;
            while look(&server, &export)["state"] != "done" {
                let number = customers.next().expect("they are without end");
                assert!(erasures < 60, "{splices} splices, and it does not end: {}", look(&server, &export));
                // The erasures are spread over the file, and each pass takes other customers.
                let (around, at) = (number / 100, number % 100);
                let customer = name_of(at * STRIDE + around);
                let mut reading = Reading::begin(&server, &export, "");
                if reading.status != 200 {
                    break;
                }
                let before = reading.header("etag").expect("a validator").to_owned();
                let mode = if number % 5 == 3 { "pseudonymise" } else { "erase" };
                let answer = erase(&mut server.client(), &customer, mode).expect("an answer");
                assert!(answer.status == 200 || answer.status == 202, "{answer:?}");
                if mode == "erase" { &mut gone.erased } else { &mut gone.renamed }.insert(customer.clone());
                let said = look(&server, &export);
                if said["state"] == "erased" {
                    // The export was done before the erasure checked it.
                    return false;
                }
                erasures += 1;
                if etag(&server, &export) != before {
                    splices += 1;
                    assert!(reading.rest().is_err(), "a file that is another one now has no clean end");
                }
                if mode == "erase" && format == "ndjson" {
                    check_traces(&folder, &export, &customer);
                }
            }
            let export = done(&server, &export);
            check_rows(&rows(format, download(&server, &export)), &orders, &gone);
            splices >= 2
        });
        assert!(is_met, "{format}: too quick for this test");
    }
    server.stop();
}

#[test]
fn an_erasure_that_is_killed_at_any_moment_is_done_when_it_is_asked_for_again() {
    let folder = Folder::new();
    let flags = ["--shards", "2"];
    let (mut server, orders) = filled(&folder, &flags, 30_000);
    let (mut gone, mut chance) = (Gone::default(), Chance::new());
    let wish = json!({"format": "ndjson", "fields": ["order_id", "customer_id", "customer_name", "items"]});
    let mut customers = (0..).map(|number: u64| name_of((number % 50) * STRIDE + number / 50));
    // An export may be done after one kill, so those of all attempts count.
    let mut kills = 0;
    let is_met = in_time(|| {
        let export = begin(&server, TENANT, &wish);
        while kills < 8 && half(&server, &export, 1).is_some() {
            let customer = customers.next().expect("they are without end");
            let mut client = server.client();
            let target = format!("/api/v1/tenants/{TENANT}/customers/{customer}?mode=erase");
            client.write(Client::request("DELETE", &target, "").as_bytes()).expect("it is sent");
            for _ in 0..chance.below(60) {
                server.get("/health");
            }
            server.replace(|| folder.serve(&flags));
            let answer = erase(&mut server.client(), &customer, "erase").expect("an answer");
            assert!(answer.status == 200 || answer.status == 202, "{answer:?}");
            gone.erased.insert(customer.clone());
            if look(&server, &export)["state"] == "erased" {
                return false;
            }
            check_traces(&folder, &export, &customer);
            kills += 1;
        }
        let export = done(&server, &export);
        check_rows(&rows("ndjson", download(&server, &export)), &orders, &gone);
        kills >= 3
    });
    assert!(is_met, "too quick for this test");
    server.stop();
}

/// The erasure looked at the exports once, at its beginning. An export that was created after that kept the person's
/// id in its filters.
#[test]
fn an_export_that_is_created_during_an_erasure_and_filters_by_the_person_is_removed() {
    let folder = Folder::new();
    let (server, _) = filled(&folder, &["--shards", "2"], 6_000);
    for (customer, mode) in [(name_of(7), "erase"), (name_of(9), "pseudonymise")] {
        let (has_ended, wish) =
            (AtomicBool::new(false), json!({"format": "csv", "filters": {"customer_id": customer}}));
        let url_of = |export: &Value| export["url"].as_str().expect("a URL").to_owned();
        let first = (url_of(&begin(&server, TENANT, &wish)), clock::unix_us());
        let (erased, created) = std::thread::scope(|scope| {
            let creating = scope.spawn(|| {
                let (mut client, mut created) = (server.client(), vec![first]);
                while !has_ended.load(Ordering::Acquire) {
                    let answer = client.ask("POST", &path(TENANT), &wish.to_string()).expect("an answer");
                    if answer.status == 201 {
                        created.push((url_of(&answer.json()), clock::unix_us()));
                    }
                    clock::pause(Duration::from_millis(5));
                }
                created
            });
            let erased = erase(&mut server.client(), &customer, mode).expect("an answer");
            has_ended.store(true, Ordering::Release);
            (erased, creating.join().expect("the exports"))
        });
        assert_eq!(erased.status, 200, "{}", String::from_utf8_lossy(&erased.body));
        let certificate = erased.json();
        let finished_at = certificate["finished_at"].as_str().expect("a time");
        let finished_us = firehose::event::parse_rfc3339(finished_at.as_bytes()).expect("a time");
        for (url, _) in created.iter().filter(|(_, at)| *at < finished_us) {
            assert_eq!(server.get(url).status, 404, "{mode}: {url}");
        }
    }
}
