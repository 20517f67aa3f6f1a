//! Shared parts of the export tests: orders worth exporting, jobs, and downloads in parts.

mod columns;
mod erasures;
mod formats;
mod kills;
mod limits;
mod others;
mod ranges;
mod streams;

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::support::commerce::{encoded, ingested};
use crate::support::oracle::{Item, Order};
use crate::support::{Answer, Chance, PATIENCE, Server, wait_for};

/// The path of the exports of clicks.
const CLICKS: &str = "/api/v1/reports/export";

/// Returns orders of a tenant with every kind of text and amount.
fn orders(tenant: &str, count: u64, chance: &mut Chance) -> Vec<Order> {
    let names = [
        "Ann Smith",
        "=HYPERLINK(\"x\",1)",
        "+49 30",
        "-5",
        "@home",
        "O\"Neil, Ann",
        "Łukasz Ünï",
        "",
        " lead",
        "a\u{1f600}b",
    ];
    let items = |chance: &mut Chance| {
        let item = |chance: &mut Chance| Item {
            product: format!("p,{}", chance.below(40)),
            category: ["garden", "toys & \"games\"", "=cat"][chance.below(3) as usize].to_owned(),
            quantity: 1 + chance.below(9) as i64,
            price: chance.below(1_000_000) as i64,
        };
        (0..1 + chance.below(5)).map(|_| item(chance)).collect()
    };
    (0..count)
        .map(|number| Order {
            tenant: tenant.to_owned(),
            id: format!("{}o-{number}", ["", "=", "-"][chance.below(3) as usize]),
            customer: format!("c-{}", chance.below(50)),
            name: names[chance.below(names.len() as u64) as usize].to_owned(),
            email: "ann@example.com".to_owned(),
            status: crate::support::oracle::STATUSES[chance.below(6) as usize].to_owned(),
            currency: ["USD", "JPY", "KWD"][chance.below(3) as usize].to_owned(),
            at_us: 1_767_225_600_000_000 + chance.below(90 * 86_400_000_000) as i64,
            items: items(chance),
        })
        .collect()
}

fn ingest(server: &Server, orders: &[Order]) {
    let body: String = orders.iter().map(Order::line).collect();
    let summary = ingested(server, &format!("k-{}-{}", orders[0].tenant, orders[0].id), body.as_bytes());
    assert_eq!(summary["rows_inserted"], orders.len(), "{summary}");
}

/// Returns the path of a tenant's exports, or of those of clicks if the name is empty.
fn path(tenant: &str) -> String {
    if tenant.is_empty() {
        return CLICKS.to_owned();
    }
    format!("/api/v1/tenants/{}/reports/export", encoded(tenant))
}

/// Begins an export and returns its description.
#[track_caller]
fn begin(server: &Server, tenant: &str, wish: &Value) -> Value {
    let answer = server.client().ask("POST", &path(tenant), &wish.to_string()).expect("the server answers");
    assert_eq!(answer.status, 201, "{answer:?}");
    let said = answer.json();
    assert_eq!(answer.header("location"), said["url"].as_str());
    said
}

#[track_caller]
fn look(server: &Server, export: &Value) -> Value {
    let answer = server.get(export["url"].as_str().expect("a path"));
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

/// Waits until the export is done, and returns its description.
#[track_caller]
fn done(server: &Server, export: &Value) -> Value {
    let said = ended(server, export);
    assert_eq!(
        (&said["state"], &said["percent"], &said["error"]),
        (&json!("done"), &json!(100.0), &Value::Null)
    );
    said
}

#[track_caller]
fn ended(server: &Server, export: &Value) -> Value {
    wait_for("the export to end", || {
        let said = look(server, export);
        (said["state"] != "queued" && said["state"] != "running").then_some(said)
    })
}

/// Waits until `bytes` bytes of the export can be read. Returns `None` if it was done before it was seen half-way.
#[track_caller]
fn half(server: &Server, export: &Value, bytes: u64) -> Option<Value> {
    wait_for("a part of the export", || {
        let said = look(server, export);
        assert_eq!(said["error"], Value::Null, "{said}");
        let is_done = said["state"] == "done";
        (is_done || said["bytes"].as_u64() >= Some(bytes)).then_some((!is_done).then_some(said))
    })
}

/// Repeats an attempt until it succeeds, up to 20 times. On a slow machine, one attempt may be too late, but not all.
fn in_time(mut attempt: impl FnMut() -> bool) -> bool {
    (0..20).any(|_| attempt())
}

/// Downloads the whole file and checks that it matches the export's description.
#[track_caller]
fn download(server: &Server, export: &Value) -> Vec<u8> {
    let answer = server.get(export["download_url"].as_str().expect("a path"));
    assert_eq!(answer.status, 200, "{:?}", answer.headers);
    check(&answer, export);
    answer.body
}

#[track_caller]
fn check(answer: &Answer, export: &Value) {
    assert_eq!(export["bytes"], answer.body.len(), "{export}");
    let hex = Sha256::digest(&answer.body).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!(export["digest"], format!("sha-256:{hex}"));
}

#[track_caller]
fn made(server: &Server, tenant: &str, wish: &Value) -> Vec<u8> {
    let export = done(server, &begin(server, tenant, wish));
    download(server, &export)
}

/// A download that is read piece by piece.
struct Reading {
    stream: BufReader<TcpStream>,
    status: u16,
    headers: Vec<(String, String)>,
    /// Bytes of the body that have not been read yet, or of the current chunk if the body is chunked.
    left: u64,
    is_chunked: bool,
}

impl Reading {
    fn begin(server: &Server, export: &Value, headers: &str) -> Reading {
        let mut stream = TcpStream::connect(server.address).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time limit");
        let target = export["download_url"].as_str().expect("a path");
        write!(stream, "GET {target} HTTP/1.1\r\nHost: test\r\n{headers}\r\n").expect("it is sent");
        let mut stream = BufReader::new(stream);
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).expect("a head");
            match line.trim_end() {
                "" => break,
                line => lines.push(line.to_owned()),
            }
        }
        let status = lines[0].split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
        let split =
            |line: &String| line.split_once(": ").map(|(name, value)| (name.to_owned(), value.to_owned()));
        let headers: Vec<_> = lines[1..].iter().filter_map(split).collect();
        let mut reading = Reading { stream, status, headers, left: 0, is_chunked: false };
        reading.is_chunked = reading.header("transfer-encoding") == Some("chunked");
        reading.left = reading.header("content-length").map_or(0, |length| length.parse().expect("a length"));
        reading
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// Reads up to `most` bytes. Returns fewer only at a clean end.
    fn read(&mut self, most: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        while (bytes.len() as u64) < most {
            if self.left == 0 {
                if !self.is_chunked {
                    break;
                }
                let mut line = String::new();
                if self.stream.read_line(&mut line)? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                self.left =
                    u64::from_str_radix(line.trim_end(), 16).map_err(|_| io::ErrorKind::InvalidData)?;
                if self.left == 0 {
                    self.is_chunked = false;
                    break;
                }
            }
            let count = self.left.min(most - bytes.len() as u64);
            let start = bytes.len();
            bytes.resize(start + count as usize, 0);
            self.stream.read_exact(&mut bytes[start..])?;
            self.left -= count;
            if self.left == 0 && self.is_chunked {
                self.stream.read_exact(&mut [0; 2])?;
            }
        }
        Ok(bytes)
    }

    fn rest(&mut self) -> io::Result<Vec<u8>> {
        self.read(u64::MAX)
    }
}
