//! An export has the same bytes, whatever happens to the server or the connection meanwhile.

use super::*;
use crate::support::Folder;
use crate::support::commerce::{NDJSON, dataset, ingest as send, patch};

/// Starts a server with enough orders for a job to take a while.
fn filled(folder: &Folder, flags: &[&str]) -> Server {
    let made =
        dataset(folder, &["--tenants", "1", "--customers", "300", "--orders", "9000", "--items-mean", "3"]);
    let server = folder.serve(flags);
    let body = std::fs::read(made.join("orders.ndjson")).expect("the orders");
    let answer = send(server.address, "all", NDJSON, &body).expect("an answer");
    assert_eq!(answer.status, 200, "{answer:?}");
    server.wait_until_stored();
    server
}

const TENANT: &str = "tenant_1";

#[test]
fn x1_a_job_that_is_killed_twice_makes_the_same_bytes() {
    let folder = Folder::new();
    let flags = ["--shards", "2", "--order-partition-rows-max", "1500"];
    let mut server = filled(&folder, &flags);
    for wish in [
        json!({"format": "csv", "rows": "items", "compression": "gzip"}),
        json!({"format": "parquet", "rows": "items", "compression": "zstd"}),
        json!({"format": "ndjson", "compression": "zstd"}),
    ] {
        let uncut = made(&server, TENANT, &wish);
        assert!(
            in_time(|| killed_twice(&folder, &flags, &mut server, &wish, &uncut)),
            "too quick for this test"
        );
    }
    server.stop();
}

/// Kills the server twice during an export, whose bytes must equal `uncut`. Returns `false` if the export was done
/// before a kill.
#[track_caller]
fn killed_twice(folder: &Folder, flags: &[&str], server: &mut Server, wish: &Value, uncut: &[u8]) -> bool {
    let export = begin(server, TENANT, wish);
    let mut before = Vec::new();
    for kill in 1..=2 {
        let Some(said) = half(server, &export, uncut.len() as u64 / 4 * kill) else { return false };
        let order = format!("ord-1-0000000{kill}");
        if kill == 1 {
            // The orders and their statuses are already selected. Later changes do not appear in the export.
            patch(&mut server.client(), TENANT, &order, "refunded");
            patch(&mut server.client(), TENANT, &order, "pending");
        }
        let there = said["bytes"].as_u64().expect("a number");
        let mut reading = Reading::begin(server, &export, "");
        let part = reading.read(there).expect("what is there can be read");
        assert!(part.starts_with(&before), "what was given out never changes");
        before = part;
        server.replace(|| folder.serve(flags));
    }
    let whole = download(server, &done(server, &export));
    assert!(whole.starts_with(&before));
    assert!(whole == uncut, "{wish}: {} bytes, not {}", whole.len(), uncut.len());
    true
}

#[test]
fn statuses_are_those_of_the_beginning() {
    let folder = Folder::new();
    let flags = ["--shards", "1"];
    let mut server = filled(&folder, &flags);
    let wish = json!({"format": "csv", "fields": ["order_id", "status"]});
    let uncut = made(&server, TENANT, &wish);
    // The items make the export slower.
    let slow = json!({"format": "ndjson", "fields": ["order_id", "status", "items"]});
    let last = String::from_utf8(uncut.clone()).expect("text");
    let last = last.lines().last().expect("a line").split(',').next().expect("an id").to_owned();
    let is_met = in_time(|| {
        patch(&mut server.client(), TENANT, &last, "pending");
        let before = made(&server, TENANT, &slow);
        let export = begin(&server, TENANT, &slow);
        if half(&server, &export, 1).is_none() {
            return false;
        }
        patch(&mut server.client(), TENANT, &last, "refunded");
        patch(&mut server.client(), TENANT, &last, "cancelled");
        let is_running = look(&server, &export)["state"] == "running";
        server.replace(|| folder.serve(&flags));
        let whole = download(&server, &done(&server, &export));
        assert!(whole == before, "an order that changed meanwhile is told as it was");
        is_running
    });
    assert!(is_met, "too quick for this test");
    assert!(made(&server, TENANT, &wish) != uncut, "a new one tells it as it is");
    server.stop();
}

#[test]
fn x1_a_download_that_is_cut_twenty_times_is_whole() {
    let folder = Folder::new();
    let server = filled(&folder, &["--shards", "2"]);
    let mut chance = Chance::new();
    for wish in [json!({"format": "csv", "rows": "items"}), json!({"format": "parquet", "rows": "items"})] {
        let uncut = made(&server, TENANT, &wish);
        // On a slow machine, an export may be done before its second part is requested, but not every time.
        let tries =
            (0..20).take_while(|_| cut_twenty_times(&server, &wish, &uncut, &mut chance) == 0).count();
        assert!(tries < 20, "some of it was read while it was made");
    }
    server.stop();
}

/// Begins an export and downloads it in parts at once. Returns how many parts arrived while it was running.
#[track_caller]
fn cut_twenty_times(server: &Server, wish: &Value, uncut: &[u8], chance: &mut Chance) -> u32 {
    let export = begin(server, TENANT, wish);
    let (mut bytes, mut etag, mut while_running) = (Vec::new(), None::<String>, 0);
    for cut in 0..=20 {
        let headers = match &etag {
            Some(etag) => format!("Range: bytes={}-\r\nIf-Range: {etag}\r\n", bytes.len()),
            None => String::new(),
        };
        let mut reading = Reading::begin(server, &export, &headers);
        assert_eq!(reading.status, if etag.is_some() { 206 } else { 200 }, "{:?}", reading.headers);
        if etag.is_some() {
            let range = reading.header("content-range").expect("a range");
            assert!(range.starts_with(&format!("bytes {}-", bytes.len())), "{range}");
            while_running += u32::from(range.ends_with("/*"));
        }
        etag = reading.header("etag").map(str::to_owned);
        let most = if cut == 20 { u64::MAX } else { 1 + chance.below(uncut.len() as u64 / 25) };
        bytes.extend(reading.read(most).expect("it is not broken off"));
    }
    assert!(bytes == uncut, "{} bytes, not {}", bytes.len(), uncut.len());
    done(server, &export);
    while_running
}

#[test]
fn x1_who_follows_gets_all_of_it_and_a_clean_end_only_then() {
    let folder = Folder::new();
    let server = filled(&folder, &["--shards", "2"]);
    let wish = json!({"format": "csv", "rows": "items"});
    let uncut = made(&server, TENANT, &wish);
    let export = begin(&server, TENANT, &wish);
    let mut reading = Reading::begin(&server, &export, "");
    assert_eq!((reading.status, reading.is_chunked), (200, true));
    assert_eq!(reading.header("repr-digest"), None, "it is not known yet");
    assert!(reading.rest().expect("a clean end") == uncut);
    assert_eq!(look(&server, &export)["state"], "done");
    // A range that ends beyond the bytes written so far still returns the whole range.
    let export = begin(&server, TENANT, &wish);
    let last = uncut.len() - 100;
    let mut reading = Reading::begin(&server, &export, &format!("Range: bytes=0-{last}\r\n"));
    assert_eq!(reading.status, 206);
    let range = reading.header("content-range").expect("a range").to_owned();
    assert!(range.starts_with(&format!("bytes 0-{last}/")), "{range}");
    assert!(reading.rest().expect("a clean end") == uncut[..=last]);

    // An export that is removed during a download: the download is aborted, and the export is gone for everyone.
    let export = begin(&server, TENANT, &wish);
    let mut reading = Reading::begin(&server, &export, "");
    let first = reading.read(1_000).expect("a beginning");
    assert!(uncut.starts_with(&first));
    let url = export["url"].as_str().expect("a path");
    assert_eq!(server.client().ask("DELETE", url, "").expect("an answer").status, 204);
    assert!(reading.rest().is_err(), "no clean end");
    assert_eq!(server.get(url).status, 404);
    assert_eq!(server.client().ask("DELETE", url, "").expect("an answer").status, 404);

    // The same applies to the download of an export that is done.
    let export = done(&server, &begin(&server, TENANT, &wish));
    let mut reading = Reading::begin(&server, &export, "");
    reading.read(10).expect("a beginning");
    let url = export["url"].as_str().expect("a path");
    assert_eq!(server.client().ask("DELETE", url, "").expect("an answer").status, 204);
    let left = std::fs::read_dir(folder.data().join("exports")).expect("the folder").count();
    assert_eq!(left, 3, "those that were not removed");
    // Bytes that are already in the sockets may still arrive, but the download never ends as if it were complete.
    assert!(reading.rest().is_err());

    // A server that stops aborts the download, too. It continues the export after the next start.
    let export = begin(&server, TENANT, &wish);
    let mut reading = Reading::begin(&server, &export, "");
    let mut part = reading.read(1_000).expect("a beginning");
    server.stop();
    assert!(reading.rest().is_err(), "no clean end");
    let server = folder.serve(&[]);
    let mut reading = Reading::begin(&server, &export, "Range: bytes=1000-\r\n");
    part.extend(reading.rest().expect("a clean end"));
    assert!(part == uncut);
    server.stop();
}
