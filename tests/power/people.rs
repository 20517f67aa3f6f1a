//! E1: after the certificate, no state of the disk contains a byte of the person, and an erased person remains
//! suppressed.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::orders::{TENANT, ingest, orders};
use super::{Rig, files_of};
use crate::support::Server;
use crate::support::commerce::{NDJSON, counts, ingest as ingest_on, search_all};
use crate::support::oracle::{Order, body};

const ID: &str = "cust-Zq7x9";
const TRACES: [&str; 4] = ["zq7x9", "zaphodius", "beeblebrox", "heartofgold"];

/// Returns the orders. Every third one belongs to the person.
fn all() -> Vec<Order> {
    let mut all = orders(0..90);
    for order in all.iter_mut().skip(1).step_by(3) {
        order.customer = ID.to_owned();
        order.name = "Zaphodius Beeblebrox".to_owned();
        order.email = "zaphodius@heartofgold.example".to_owned();
    }
    all
}

/// Returns the traces of the person in a folder, each with its file.
fn traces(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for path in files_of(folder).into_iter().filter(|path| path.is_file()) {
        let bytes = fs::read(&path).expect("a file of the image").to_ascii_lowercase();
        let shown = TRACES.iter().filter(|trace| memchr::memmem::find(&bytes, trace.as_bytes()).is_some());
        let inside = path.strip_prefix(folder).expect("it is inside");
        found.extend(shown.map(|trace| format!("{trace} in {}", inside.display())));
    }
    found
}

#[track_caller]
fn erase(server: &Server, query: &str) -> Value {
    let target = format!("/api/v1/tenants/{TENANT}/customers/{ID}?mode=erase{query}");
    let answer = server.client().ask("DELETE", &target, "").expect("the server answers");
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    answer.json()
}

#[track_caller]
fn erased_and_kept_out(ack: &str, query: &str) {
    let Some(rig) = Rig::new() else { return };
    let server = rig.serve(&["--ack", ack]);
    ingest(&server, "k", "", &all());
    server.wait_until_stored();
    rig.settle();
    assert!(!traces(&rig.data()).is_empty(), "they were there");
    let certificate = erase(&server, query);
    assert!(certificate["digest"].is_string(), "{certificate}");
    assert_eq!(traces(&rig.data()), Vec::<String>::new(), "as programs see it");
    rig.disk.cut();
    server.kill();
    let images = rig.after_cut(|image| {
        // The image as the disk has it. No program has been started on it yet.
        assert_eq!(traces(image), Vec::<String>::new(), "as the disk has it");
        let server = rig.serve_on(&image.join("data"), &[]);
        server.wait_until_stored();
        let left = search_all(&server, TENANT, "limit=100");
        assert_eq!((left.len(), left.iter().filter(|row| row["customer_id"] == ID).count()), (60, 0));
        let back = Order { id: "back".to_owned(), ..all()[1].clone() };
        let answer = ingest_on(server.address, "back", NDJSON, &body([&back])).expect("the server answers");
        assert_eq!(counts(&answer.json()), [1, 0, 0, 1], "{answer:?}");
        server.kill();
    });
    images.assert_sound();
}

#[test]
fn e1_who_was_erased_is_in_no_state_of_the_disk() {
    erased_and_kept_out("disk", "");
}

#[test]
fn e1_who_was_erased_for_a_request_at_disk_is_in_no_state_of_the_disk() {
    erased_and_kept_out("os", "&ack=disk");
}
