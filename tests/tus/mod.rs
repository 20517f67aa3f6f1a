//! Shared parts of the tests of resumable uploads: a client that sends what tus requires, orders, and the stored
//! rows.
#![allow(dead_code, unreachable_pub, reason = "each test takes what it needs")]

mod copies;
mod cuts;
mod ends;
mod protocol;
mod room;
mod stock;
mod unsynced;

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::Path;

use serde_json::Value;

use crate::support::{Answer, Chance, Client, Folder, Server, cpus, rows_of, wait_for, wait_until};

pub const UPLOADS: &str = "/api/v1/ingest/orders/uploads";
pub const PIECE: &str = "Content-Type: application/offset+octet-stream";
pub const TUS: &str = "Tus-Resumable: 1.0.0";

/// Starts a server with two cores and two shards.
#[track_caller]
pub fn serve(folder: &Folder, flags: &[&str]) -> Server {
    folder.serve(&[&["--shards", "2", "--cores", &cpus(2)], flags].concat())
}

/// Asserts that the response is this problem, with the header of tus.
#[track_caller]
pub fn assert_problem(answer: &Answer, status: u16, slug: &str) {
    let said = String::from_utf8_lossy(&answer.body);
    assert_eq!(answer.status, status, "{answer:?} {said}");
    assert!(said.contains(&format!("\"/docs/problems/{slug}\"")), "{said}");
    assert_eq!(answer.header("tus-resumable"), Some("1.0.0"), "{answer:?}");
}

/// Sends a request with these header lines and reads the response.
pub fn ask(
    client: &mut Client,
    method: &str,
    target: &str,
    lines: &[&str],
    body: &[u8],
) -> io::Result<Answer> {
    client.write(&head(method, target, lines, body.len()))?;
    // A server that refuses early may not read the whole body, but its response is there nevertheless.
    let sent = client.write(body);
    let answer = if method == "HEAD" { client.answer_head() } else { client.answer() };
    answer.or_else(|error| sent.and(Err(error)))
}

/// Returns the head of a request with a body of `length` bytes.
pub fn head(method: &str, target: &str, lines: &[&str], length: usize) -> Vec<u8> {
    let mut head = format!("{method} {target} HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n");
    for line in lines {
        head.push_str(line);
        head.push_str("\r\n");
    }
    head.push_str("\r\n");
    head.into_bytes()
}

/// One upload as a client sees it.
#[derive(Clone, Debug)]
pub struct Upload {
    pub path: String,
}

impl Upload {
    /// Creates an upload of `length` bytes.
    #[track_caller]
    pub fn create(client: &mut Client, length: usize, lines: &[&str]) -> Upload {
        let length = format!("Upload-Length: {length}");
        let lines = [&[TUS, length.as_str()], lines].concat();
        let answer = ask(client, "POST", UPLOADS, &lines, b"").expect("the server answers");
        assert_eq!(answer.status, 201, "{answer:?} {}", String::from_utf8_lossy(&answer.body));
        assert_eq!(answer.header("upload-offset"), Some("0"));
        Upload { path: answer.header("location").expect("a location").to_owned() }
    }

    pub fn id(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    /// Sends a piece from `offset` on.
    pub fn patch(
        &self,
        client: &mut Client,
        offset: usize,
        lines: &[&str],
        body: &[u8],
    ) -> io::Result<Answer> {
        let offset = format!("Upload-Offset: {offset}");
        ask(client, "PATCH", &self.path, &[&[TUS, PIECE, offset.as_str()], lines].concat(), body)
    }

    /// Sends the head of a piece of `of` bytes, but only the bytes of `body`: those that arrive before the connection
    /// is cut.
    pub fn patch_cut(&self, client: &mut Client, offset: usize, of: usize, body: &[u8]) -> io::Result<()> {
        let offset = format!("Upload-Offset: {offset}");
        client.write(&head("PATCH", &self.path, &[TUS, PIECE, offset.as_str()], of))?;
        client.write(body)
    }

    pub fn head(&self, client: &mut Client) -> io::Result<Answer> {
        ask(client, "HEAD", &self.path, &[TUS], b"")
    }

    /// Waits until the upload's file has `length` bytes. Bytes in transit may still wait for another request.
    #[track_caller]
    pub fn wait_for_bytes(&self, folder: &Folder, length: usize) {
        let body = folder.data().join("uploads").join(self.id()).join("body");
        wait_until("the bytes to arrive", || {
            std::fs::metadata(&body).is_ok_and(|body| body.len() as usize == length)
        });
    }

    /// Returns the offset at which the upload continues.
    #[track_caller]
    pub fn offset(&self, client: &mut Client) -> usize {
        // Bytes can be on the disk before the request that brought them releases the upload.
        let answer = wait_for("the upload to be released", || {
            let answer = self.head(client).expect("the server answers");
            (answer.status != 423).then_some(answer)
        });
        assert_eq!(answer.status, 200, "{answer:?}");
        offset_of(&answer)
    }

    #[track_caller]
    pub fn summary(&self, server: &Server) -> Value {
        let answer = server.get(&self.path);
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    }
}

#[track_caller]
pub fn offset_of(answer: &Answer) -> usize {
    let offset = answer.header("upload-offset").unwrap_or_else(|| panic!("no offset in {answer:?}"));
    offset.parse().expect("a number")
}

/// Returns one line with an order. Customers differ from each other, so that the lines do not compress too well.
pub fn order(number: usize) -> String {
    let mut chance = Chance::seeded(number as u64 + 1);
    let customer = format!("{:016x}{:016x}", chance.below(u64::MAX), chance.below(u64::MAX));
    format!(
        r#"{{"order_id":"o-{number}","tenant_id":"acme","customer_id":"c-{customer}","customer_name":"Ann {}","customer_email":"{}@example.org","status":"paid","currency":"USD","ordered_at":"2026-03-01T12:00:00Z","items":[{{"product_id":"p-{}","category":"books","quantity":{},"unit_price":"19.99"}},{{"product_id":"p-{}","category":"toys","quantity":1,"unit_price":"5.00"}}]}}"#,
        chance.below(1 << 50),
        chance.below(1 << 60),
        number % 31,
        number % 5 + 1,
        number % 13,
    )
}

/// Returns lines with `count` orders, and the summary that is expected for them. Every 50 orders, there is an invalid
/// line, a duplicate and a blank line.
pub fn orders(count: usize) -> (Vec<u8>, Expected) {
    let (mut lines, mut expected) = (Vec::new(), Expected::default());
    for number in 0..count {
        lines.extend_from_slice(order(number).as_bytes());
        lines.push(b'\n');
        expected.inserted += 1;
        if number % 50 == 25 {
            lines.extend_from_slice(b"{\"order_id\":\"bad\"}\n\n");
            writeln!(lines, "{}", order(number)).expect("memory");
            expected.failed += 1;
            expected.duplicate += 1;
        }
    }
    (lines, expected)
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    pub inserted: u64,
    pub duplicate: u64,
    pub failed: u64,
}

impl Expected {
    /// Checks that the final summary is that of the file, however the file arrived.
    #[track_caller]
    pub fn check(&self, summary: &Value, length: usize) {
        assert_eq!(
            (&summary["state"], summary["detail"].as_str()),
            (&Value::from("finished"), None),
            "{summary}"
        );
        let told = |name: &str| summary[name].as_u64().unwrap_or_else(|| panic!("{name} in {summary}"));
        assert_eq!((told("offset"), told("length")), (length as u64, length as u64));
        let Expected { inserted, duplicate, failed } = *self;
        let counts = (told("rows_inserted"), told("rows_duplicate"), told("rows_failed"));
        assert_eq!(counts, (inserted, duplicate, failed), "inserted, duplicate, failed");
        assert_eq!(told("rows_received"), inserted + duplicate + failed);
        assert_eq!(told("rows_committed"), inserted + duplicate);
        let errors = summary["errors"].as_array().expect("errors");
        assert_eq!(errors.len() as u64, failed.min(1_000));
        let lines: Vec<_> = errors.iter().filter_map(|error| error["line"].as_u64()).collect();
        assert!(lines.is_sorted() && lines.windows(2).all(|pair| pair[0] < pair[1]), "{lines:?}");
    }
}

/// Returns how often each order is stored, as the sqlite3 shell sees it.
#[track_caller]
pub fn stored(data: &Path) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for id in rows_of(data, "SELECT order_id FROM orders", |row| row.get::<_, String>(0)) {
        *found.entry(id).or_insert(0) += 1;
    }
    found
}

/// Checks that orders 0 to `count` - 1 are stored, each once, and no others.
#[track_caller]
pub fn check_stored(data: &Path, count: usize) {
    let stored = stored(data);
    let often: Vec<_> = stored.iter().filter(|(_, times)| **times != 1).collect();
    assert!(often.is_empty(), "more than once: {often:?}");
    let missing: Vec<_> = (0..count).filter(|number| !stored.contains_key(&format!("o-{number}"))).collect();
    assert!(missing.is_empty(), "{} are missing, the first of them {:?}", missing.len(), missing.first());
    assert_eq!(stored.len(), count);
}

/// The ways to pack a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    Plain,
    Gzip,
    Zstd,
    Zip,
}

impl Packing {
    pub const ALL: [Packing; 4] = [Packing::Plain, Packing::Gzip, Packing::Zstd, Packing::Zip];

    /// Packs the lines lightly, so that there are many bytes between which to cut.
    pub fn pack(self, lines: &[u8]) -> Vec<u8> {
        match self {
            Packing::Plain => lines.to_vec(),
            Packing::Gzip => {
                let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                packer.write_all(lines).and_then(|()| packer.finish()).expect("memory")
            }
            Packing::Zstd => zstd::bulk::compress(lines, 1).expect("memory"),
            Packing::Zip => {
                let mut archive = zip::ZipWriter::new(io::Cursor::new(Vec::new()));
                let options = zip::write::SimpleFileOptions::default();
                // Two files, so that a cut may lie between them. The first one ends at the end of a line.
                let half = lines.len() / 2;
                let end =
                    lines[half..].iter().position(|byte| *byte == b'\n').map_or(half, |at| half + at + 1);
                for (name, part) in [("a.ndjson", &lines[..end]), ("b.ndjson", &lines[end..])] {
                    archive.start_file(name, options).expect("an entry");
                    archive.write_all(part).expect("memory");
                }
                archive.finish().expect("an archive").into_inner()
            }
        }
    }
}
