//! Measures the cost per byte of each encoding, with and without the fingerprint. Run this test by name in a release
//! build: `cargo test --release --lib unpack::tests::speed -- --ignored --nocapture`.

use std::fs;

use super::*;
use crate::base::clock;
use crate::unpack::Resume;

const CHUNK_BYTES: usize = 64 << 10;
const TEXT_BYTES: usize = 64 << 20;
const ROUNDS: u32 = 5;

/// Returns rows similar to orders, of about 300 bytes.
fn orders() -> Vec<u8> {
    let mut text = Vec::with_capacity(TEXT_BYTES + 1000);
    let mut seed = 1_u64;
    while text.len() < TEXT_BYTES {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (id, customer, cents) = (seed >> 20, seed >> 44, seed >> 50);
        writeln!(
            text,
            "{{\"order_id\":\"ord_{id}\",\"tenant_id\":\"shop_7\",\"customer_id\":\"c_{customer}\",\"customer_name\":\
             \"Ada Lovelace\",\"customer_email\":\"ada{customer}@example.com\",\"status\":\"paid\",\"currency\":\"USD\",\
             \"ordered_at\":\"2026-01-14T10:30:00Z\",\"items\":[{{\"product_id\":\"p_{}\",\"category\":\"tools\",\
             \"quantity\":2,\"unit_price\":\"{}.{:02}\"}}]}}",
            customer % 1000, cents / 100, cents % 100
        )
        .unwrap();
    }
    text
}

/// Returns the number of lines, and the seconds of the fastest round.
fn fastest(upload: &[u8], start: impl Fn() -> Unpacker) -> (u64, f64) {
    let chunks: Vec<Bytes> = upload.chunks(CHUNK_BYTES).map(Bytes::copy_from_slice).collect();
    let (mut rows, mut fastest_us) = (0, u64::MAX);
    for _ in 0..ROUNDS {
        let mut unpacker = start();
        let mut chunks = chunks.iter();
        let begin_us = clock::monotonic_us();
        rows = 0;
        loop {
            match unpacker.next().unwrap() {
                Next::Line(line) => rows += u64::from(!line.bytes.is_empty()),
                Next::Hungry => match chunks.next() {
                    Some(chunk) => unpacker.feed(chunk.clone()),
                    None => unpacker.finish(),
                },
                Next::End => break,
            }
        }
        fastest_us = fastest_us.min(clock::monotonic_us() - begin_us);
    }
    (rows, fastest_us as f64 / 1e6)
}

fn resident_bytes() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

#[test]
#[ignore = "measures; asked for by name"]
fn what_a_byte_costs() {
    let text = orders();
    let limits = Limits::default();
    let rows = text.iter().filter(|byte| **byte == b'\n').count() as u64;
    let report = |name: &str, seconds: f64, packed_bytes: usize| {
        println!(
            "{name:24} {:6.2} GB/s of lines, {:4.0} ns a line, packed to {:4.1} %",
            text.len() as f64 / seconds / 1e9,
            seconds * 1e9 / rows as f64,
            packed_bytes as f64 * 100.0 / text.len() as f64
        );
    };
    let (found, seconds) = fastest(&text, || Unpacker::resume(limits, Resume { offset_bytes: 0, lines: 0 }));
    assert_eq!(found, rows);
    report("plain, no fingerprint", seconds, text.len());
    for (name, _, upload) in packings(&text) {
        let (found, seconds) = fastest(&upload, || Unpacker::new(limits));
        assert_eq!(found, rows, "{name}");
        report(name, seconds, upload.len());
    }
    let short = b"{\"a\":1}\n".repeat(TEXT_BYTES / 8);
    let (found, seconds) = fastest(&short, || Unpacker::new(limits));
    println!("plain, lines of 8 bytes: {:.1} ns a line", seconds * 1e9 / found as f64);
    let members = gzip(b"").repeat(1 << 15);
    let (_, seconds) = fastest(&members, || Unpacker::new(limits));
    println!("an empty gzip member: {:.0} ns", seconds * 1e9 / f64::from(1 << 15));
}

#[test]
#[ignore = "reads 10 GB; asked for by name, alone"]
fn memory_is_flat_over_10_gb() {
    let text = orders();
    let limits = Limits { ratio_max: u32::MAX, ..Limits::default() };
    let (member, frame) = (Bytes::from(gzip(&text)), Bytes::from(zstd(&text)));
    for (name, part) in [("plain", Bytes::from(text.clone())), ("gzip", member), ("zstd", frame)] {
        let mut unpacker = Unpacker::new(limits);
        let (mut before_bytes, mut most_bytes) = (0, 0);
        for round in 0..10 * (1 << 30) / TEXT_BYTES {
            for at in (0..part.len()).step_by(CHUNK_BYTES) {
                while let Next::Line(_) = unpacker.next().unwrap() {}
                unpacker.feed(part.slice(at..part.len().min(at + CHUNK_BYTES)));
            }
            if round == 0 {
                before_bytes = resident_bytes();
            }
            most_bytes = most_bytes.max(resident_bytes());
        }
        let grown_bytes = most_bytes.saturating_sub(before_bytes);
        println!("{name}: {} bytes decoded, grown by {grown_bytes}", unpacker.decoded_bytes());
        assert!(unpacker.decoded_bytes() > 10 * (1 << 30) - (1 << 20) && grown_bytes < 1 << 20, "{name}");
    }
}
