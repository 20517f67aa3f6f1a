//! S1 for unpacking: windows, lines that do not end and decoders are counted, however many clients keep them open.

mod support;

use std::fs;
use std::io::Write as _;

use serde_json::json;
use support::commerce::{NDJSON, counts, ingest};
use support::oracle::{self, Order};
use support::{Chance, Client, Folder, Server, cpus, wait_until};

const RSS_BYTES_MAX: u64 = 400 << 20;

/// Returns the peak of the resident memory, in bytes.
fn peak_bytes(server: &Server) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    line.trim().trim_end_matches("kB").trim().parse::<u64>().expect("a number") * 1024
}

/// Returns what the server counts of its budgets.
fn held_bytes(server: &Server) -> f64 {
    let page = String::from_utf8(server.get("/metrics").body).expect("text");
    let lines = page.lines().filter(|line| line.starts_with("firehose_buffer_bytes{"));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    packed.write_all(bytes).expect("memory takes it");
    packed.finish().expect("memory takes it")
}

/// Returns a frame that asks for a window of this many bits, and exceeds it with a line that does not end.
fn zstd_frame(window_log: u8, blocks: usize) -> Vec<u8> {
    // RFC 8878: no size, a window of a power of two, then runs of 128 KiB of one byte, none of them the last block.
    let run = ((128_u32 << 10) << 3 | 1 << 1).to_le_bytes();
    let run = [run[0], run[1], run[2], b'a'];
    [&[0x28, 0xb5, 0x2f, 0xfd, 0, (window_log - 10) << 3][..], &run.repeat(blocks)].concat()
}

/// Opens this many connections, each in the middle of a body that begins with `bytes`.
fn hold(server: &Server, count: usize, name: &str, bytes: &[u8]) -> Vec<Client> {
    let mut clients = Vec::new();
    for number in 0..count {
        let mut client = server.client();
        let head = format!(
            "POST /api/v1/ingest/orders HTTP/1.1\r\nHost: localhost\r\nIdempotency-Key: {name}-{number}\r\n\
             Transfer-Encoding: chunked\r\n\r\n{:x}\r\n",
            bytes.len()
        );
        client.write(head.as_bytes()).expect("the server takes it");
        // The server may have refused and closed this connection already.
        let _ = client.write(bytes).and_then(|()| client.write(b"\r\n"));
        clients.push(client);
    }
    clients
}

#[test]
fn s1_what_ingests_hold_stays_within_the_budget() {
    let folder = Folder::new();
    let server = folder.serve(&["--shards", "2", "--cores", &cpus(2)]);
    let mut chance = Chance::seeded(3);
    let orders: Vec<Order> = (0..500).map(|id| Order::random(&mut chance, "acme", id)).collect();
    let body = oracle::body(&orders);
    // A line of 2 MiB that never ends, compressed to 2 KB. Packed twice, it needs another decoder.
    let line = gzip(&vec![b'a'; (2 << 20) - 16]);
    let line = &line[..line.len() - 8];
    let loads: [(&str, usize, Vec<u8>); 4] = [
        ("windows of 128 MiB", 60, zstd_frame(27, 500)),
        ("windows of 8 MiB", 200, zstd_frame(23, 500)),
        ("lines of gzip", 600, line.to_vec()),
        ("lines of gzip in zstd", 200, zstd_frame_of(line)),
    ];
    for (name, count, bytes) in &loads {
        assert!(bytes.len() < 5_000, "{name}: {}", bytes.len());
        let clients = hold(&server, *count, &name.replace(' ', "-"), bytes);
        // Once the server answers this request, it has read the bytes of all earlier clients.
        wait_until("the load to be taken", || server.health()["status"] == "healthy");
        let peak = peak_bytes(&server);
        assert!(peak < RSS_BYTES_MAX, "{name}: {} MiB", peak >> 20);
        drop(clients);
        // The memory of these clients is free again.
        wait_until("room for others", || {
            let answer = ingest(server.address, "after", NDJSON, &body).expect("the server answers");
            assert!(matches!(answer.status, 200 | 409 | 503), "{answer:?}");
            answer.status == 200 && counts(&answer.json()) == [500, 500, 0, 0]
        });
    }
    server.stop();
}

#[test]
fn s1_rows_of_bulk_requests_on_their_way_stay_within_the_budget() {
    let folder = Folder::new();
    let server = folder.serve(&["--shards", "2", "--cores", &cpus(2)]);
    let event = |number: usize| {
        json!({"event_id": format!("e-{number}"), "tenant_id": "t", "source": "s", "event_type": "x",
               "timestamp": "2026-03-01T12:00:00Z", "payload": {"a": "a".repeat(3_800)}})
        .to_string()
    };
    let events: Vec<String> = (0..4_800).map(event).collect();
    let update = |number: usize| {
        json!({"event_id": format!("s-{number}"), "product_id": format!("p-{number}-{}", "x".repeat(150)),
               "delta": 1, "occurred_at": "2026-03-01T12:00:00Z"})
        .to_string()
    };
    let updates: Vec<String> = (0..10_000).map(update).collect();
    let loads = [
        ("POST", "/events/bulk", 24, format!("{{\"events\":[{}]}}", events.join(","))),
        (
            "PUT",
            "/api/v1/tenants/t/stock/bulk_update",
            40,
            format!("{{\"mode\":\"merge\",\"updates\":[{}]}}", updates.join(",")),
        ),
    ];
    for (method, target, count, body) in loads {
        let packed = gzip(body.as_bytes());
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: localhost\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n",
            packed.len()
        );
        let mut clients: Vec<Client> = (0..count).map(|_| server.client()).collect();
        for client in &mut clients {
            client.write(head.as_bytes()).and_then(|()| client.write(&packed)).expect("the server takes it");
        }
        let statuses: Vec<u16> =
            clients.iter_mut().map(|client| client.answer().expect("the server answers").status).collect();
        assert!(statuses.iter().all(|status| [200, 202, 503].contains(status)), "{target}: {statuses:?}");
        assert!(statuses.iter().any(|status| *status != 503), "{target}: {statuses:?}");
        let peak = peak_bytes(&server);
        assert!(peak < RSS_BYTES_MAX, "{target}: {} MiB, {statuses:?}", peak >> 20);
    }
    server.stop();
}

/// Returns raw blocks in a frame that has no end.
fn zstd_frame_of(bytes: &[u8]) -> Vec<u8> {
    let header = ((bytes.len() as u32) << 3).to_le_bytes();
    [&[0x28, 0xb5, 0x2f, 0xfd, 0, (20 - 10) << 3][..], &header[..3], bytes].concat()
}

#[test]
fn an_ingest_beyond_the_budget_is_refused_and_may_come_again() {
    let folder = Folder::new();
    let server = folder.serve(&["--shards", "1", "--buffer-bytes-max", "16MiB"]);
    let held_bytes = || held_bytes(&server);
    let window = zstd_frame(23, 100);
    let first = hold(&server, 1, "first", &window);
    wait_until("its window to be counted", || held_bytes() > f64::from(8 << 20));
    // Each holds more than 8 MiB, so a second one does not fit.
    for client in &mut hold(&server, 8, "more", &window) {
        let answer = client.answer().expect("the server answers");
        let said = support::commerce::problem(&answer, 503, "overloaded");
        assert!(answer.header("Retry-After").is_some(), "{said}");
        assert_eq!(counts(&said), [0; 4]);
    }
    drop(first);
    wait_until("what was held to be free", || held_bytes() < f64::from(1 << 20));
    server.stop();
}

#[test]
fn s1_pages_that_nobody_reads_stay_within_the_budget() {
    let folder = Folder::new();
    let server = folder.serve(&["--shards", "2", "--cores", &cpus(2), "--buffer-bytes-max", "16MiB"]);
    let payload = "a".repeat(60_000);
    for part in 0..8 {
        let event = |number: usize| {
            json!({"event_id": format!("e-{number}"), "tenant_id": "t", "source": "s", "event_type": "x",
                   "timestamp": "2026-03-01T12:00:00Z", "payload": {"a": payload}})
            .to_string()
        };
        let events: Vec<String> = (part * 10..part * 10 + 10).map(event).collect();
        let body = format!("{{\"events\":[{}]}}", events.join(","));
        let answer = server.client().post_as("/events/bulk", "application/json", &body).expect("an answer");
        assert_eq!(answer.status, 200);
    }
    server.wait_until_stored();
    // 4.8 MB each, so three of them pass a core's budget.
    let mut clients: Vec<Client> = (0..60).map(|_| server.client()).collect();
    for client in &mut clients {
        let ask = "GET /events?tenant_id=t&page_size=1000 HTTP/1.1\r\nHost: localhost\r\n\r\n";
        client.write(ask.as_bytes()).expect("it is sent");
    }
    wait_until("the budget is counted", || held_bytes(&server) > f64::from(8 << 20));
    let statuses: Vec<u16> =
        clients.into_iter().map(|mut client| client.answer().expect("an answer").status).collect();
    let refused = statuses.iter().filter(|status| **status == 503).count();
    let whole = statuses.iter().filter(|status| **status == 200).count();
    assert_eq!((refused + whole, refused > 0, whole > 0), (60, true, true), "{statuses:?}");
    let peak = peak_bytes(&server);
    assert!(peak < RSS_BYTES_MAX, "{} MiB", peak >> 20);
    wait_until("the budget is free again", || held_bytes(&server) < f64::from(1 << 20));
    let answer = server.get("/events?tenant_id=t&page_size=1000");
    assert_eq!((answer.status, answer.json()["total"].as_u64()), (200, Some(80)));
    server.stop();
}
