//! At `os`, a power cut may lose rows. The server starts nevertheless, and no key, offset or state reports more than
//! the rows that remain.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use super::events::{post, service_event};
use super::orders::{ids, ingest, orders, stored_orders};
use super::uploads::{ask, create, lines, offset, send};
use super::{After, Images, Rig, verify_databases};
use crate::disk::Policy;
use crate::support::commerce::{NDJSON, ingest as ingest_cut};
use crate::support::oracle::{Order, body};
use crate::support::{Chance, Server, cpus};

const INGESTS: usize = 12;
const ROWS: usize = 20;

/// Returns the orders of ingest `number`. Each ingest has its own key.
fn of_ingest(number: usize) -> Vec<Order> {
    orders(number * ROWS..(number + 1) * ROWS)
}

/// Starts a server with two cores and two shards. Each core syncs its own journals.
#[track_caller]
fn serve(rig: &Rig, flags: &[&str]) -> Server {
    rig.serve(&[&["--ack", "os", "--cores", &cpus(2)], flags].concat())
}

/// Checks that a key whose replay is answered has all its rows.
#[track_caller]
fn check_keys(after: &After) {
    after.server.wait_until_stored();
    let stored: BTreeSet<String> = stored_orders(after).into_iter().collect();
    for number in 0..INGESTS {
        let rows = of_ingest(number);
        let answer = ingest(&after.server, &format!("k-{number}"), "", &rows);
        if answer.header("idempotent-replayed") == Some("true") {
            let missing = ids(&rows).into_iter().filter(|id| !stored.contains(id)).count();
            assert_eq!(missing, 0, "key {number} says {}, and {missing} rows are gone", answer.json());
        }
    }
    // After the client has sent everything again, all rows are stored.
    after.server.wait_until_stored();
    assert_eq!(stored_orders(after), ids(&orders(0..INGESTS * ROWS)));
}

/// Runs a server on an image and checks it. Its databases must be sound after it stops.
#[track_caller]
fn check_folder(rig: &Rig, image: &Path, check: impl Fn(&After)) {
    let data = image.join("data");
    let after = After { server: rig.serve_on(&data, &[]), data };
    check(&after);
    after.server.stop();
    verify_databases(&after.data);
}

/// The sync of another request writes one shard's journal to the disk, including the key of an ingest, but not the
/// rows of that ingest in the other shard.
#[test]
fn a_key_never_outlives_the_rows_of_another_shard() {
    let Some(rig) = Rig::new() else { return };
    let server = serve(&rig, &[]);
    post(&server, "/events", &service_event("warm"));
    server.wait_until_stored();
    rig.settle();
    for number in 0..INGESTS {
        ingest(&server, &format!("k-{number}"), "", &of_ingest(number));
    }
    post(&server, "/events?ack=disk", &service_event("one"));
    rig.disk.cut();
    server.kill();
    rig.after_cut(|image| check_folder(&rig, image, check_keys)).assert_sound();
}

/// The same with checkpoints, which happen in one shard after the other.
#[test]
fn a_key_never_outlives_its_rows_over_checkpoints() {
    let mut chance = Chance::new();
    let mut failed = Vec::new();
    for _ in 0..2 {
        let Some(rig) = Rig::new() else { return };
        let server = serve(&rig, &["--checkpoint-interval", "10ms", "--checkpoint-wal-bytes", "64KiB"]);
        rig.settle();
        rig.disk.cut_after(rig.disk.operations() + 100 + chance.below(500));
        // The power may go at any moment.
        for number in 0..INGESTS {
            let _ = ingest_cut(server.address, &format!("k-{number}"), NDJSON, &body(&of_ingest(number)));
        }
        rig.disk.cut();
        server.kill();
        let policies = [Policy::Synced, Policy::Pages, Policy::Files];
        let images: Images = rig.after_cut_by(&policies, 2, |image| check_folder(&rig, image, check_keys));
        failed.extend((!images.failed.is_empty()).then(|| images.to_string()));
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// Checks that an upload that exists has the rows it reports. One that is missing can be sent again. No state of it
/// is an error.
#[track_caller]
fn check_upload(after: &After, upload: &str) {
    after.server.wait_until_stored();
    let stored: BTreeSet<String> = stored_orders(after).into_iter().collect();
    let head = ask(&after.server, "HEAD", upload, "", b"");
    if head.status == 404 {
        return;
    }
    assert_eq!(head.status, 200, "{head:?}");
    let reported = offset(&head);
    let summary: Value = after.server.get(upload).json();
    let whole = lines()[..reported].iter().filter(|byte| **byte == b'\n').count();
    let missing: Vec<_> = ids(&orders(0..whole)).into_iter().filter(|id| !stored.contains(id)).collect();
    assert!(missing.is_empty(), "{reported} bytes are reported, {missing:?} are gone: {summary}");
}

/// Pieces at `os`: after the cut, the rows up to the offset that HEAD reports are stored.
#[test]
fn an_offset_never_outlives_its_rows() {
    let length = lines().len();
    for ends in [vec![length / 2], vec![length / 3, length / 2], vec![length / 2, length]] {
        let Some(rig) = Rig::new() else { return };
        let server = serve(&rig, &[]);
        rig.settle();
        let upload = create(&server, "");
        let mut from = 0;
        for end in ends {
            from = send(&server, &upload, "", from, end);
        }
        rig.disk.cut();
        server.kill();
        let images = rig.after_cut(|image| check_folder(&rig, image, |after| check_upload(after, &upload)));
        images.assert_sound();
    }
}
