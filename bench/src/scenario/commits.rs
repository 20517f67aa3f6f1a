//! `commits`: the latency of requests that are answered after their commit, with checkpoints and without them, and of
//! another build (`--base`). The systems take turns within a round.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::Result;

use crate::closed::{self, Requests};
use crate::cpu::CpuTimes;
use crate::peer::{Serve, System};
use crate::report::{Limit, Report};
use crate::run::{Figures, Round};
use crate::setup::Setup;

/// p99 and p999, divided by those without checkpoints.
const P99_RATIO_MAX: f64 = 2.0;
const P999_RATIO_MAX: f64 = 3.0;
/// Time before the measurement: histories of products, and the first run through the WAL.
const WARM_UP: Duration = Duration::from_secs(2);
const STOCK_UPDATES: u64 = 100;
const PRICE_PRODUCTS: u64 = 2_000;

/// One kind of request.
struct Load {
    case: &'static str,
    connections: usize,
    make: fn(u64) -> Vec<u8>,
    status: u16,
    /// `true` if the latency has a target. A load that changes a page for each request has none.
    has_bar: bool,
}

const LOADS: [Load; 6] = [
    Load { case: "POST /events, 64 connections", connections: 64, make: event, status: 201, has_bar: true },
    Load { case: "POST /events, 256 connections", connections: 256, make: event, status: 201, has_bar: true },
    Load {
        case: "POST /events of one time with random ids, 64 connections",
        connections: 64,
        make: event_of_one_time,
        status: 201,
        has_bar: false,
    },
    Load {
        case: "stock, 16 connections, 20 products",
        connections: 16,
        make: few_products,
        status: 200,
        has_bar: true,
    },
    Load {
        case: "stock, 16 connections, 100,000 products",
        connections: 16,
        make: many_products,
        status: 200,
        has_bar: true,
    },
    Load { case: "prices, 128 connections", connections: 128, make: price, status: 201, has_bar: true },
];

pub(crate) fn run(setup: &Setup) -> Result<Report> {
    let mut report = Report::new("commits");
    let off = ["checkpoint-wal-bytes=16GiB", "checkpoint-bytes=16GiB", "checkpoint-interval=1h"];
    let mut systems = vec![("firehose", setup.clone(), Vec::new()), ("off", setup.clone(), off.to_vec())];
    if let Some(base) = &setup.base {
        systems.push(("base", Setup { binary: Some(base.clone()), ..setup.clone() }, Vec::new()));
    }
    for round in 0..setup.rounds {
        for load in &LOADS {
            let mut turns: Vec<_> = systems.iter().collect();
            turns.rotate_left(round % systems.len());
            for (name, setup, settings) in turns {
                report.record(load.case, name, round, measure(setup, settings, load)?);
            }
        }
    }
    for load in &LOADS {
        let ratio = |figure| report.ratio((load.case, "firehose", figure), (load.case, "off", figure));
        if load.has_bar {
            let (p99, p999) = (ratio("p99_ms"), ratio("p999_ms"));
            report.bar(
                format!("{}: p99 / without checkpoints", load.case),
                Limit::AtMost(P99_RATIO_MAX),
                p99,
            );
            report.bar(
                format!("{}: p999 / without checkpoints", load.case),
                Limit::AtMost(P999_RATIO_MAX),
                p999,
            );
        }
        if setup.base.is_some() {
            let figure = "requests_per_s";
            let rate = report.ratio((load.case, "firehose", figure), (load.case, "base", figure));
            report.bar(format!("{}: requests per second / base", load.case), Limit::AtLeast(1.0), rate);
        }
    }
    Ok(report)
}

fn measure(setup: &Setup, settings: &[&str], load: &Load) -> Result<Round> {
    let own = ["price-events-per-second=1000000", "product-events-per-second=1000000", "flush-interval=1ms"];
    let extra = own.iter().chain(settings).map(|setting| (*setting).to_owned()).collect();
    let mut running = System::Firehose(Serve { extra, ..Serve::new(setup) }).start(setup)?;
    let mut requests = Requests::new(&load.make, load.status);
    closed::load(running.addr, load.connections, WARM_UP, &mut requests)?;
    let pid = running.process.pid();
    let before = CpuTimes::of(pid)?;
    let time = Duration::from_secs(setup.seconds);
    let answered = closed::load(running.addr, load.connections, time, &mut requests)?;
    let cpu = CpuTimes::of(pid)?;
    running.stop()?;
    let mut figures = Figures::new();
    figures.insert("requests_per_s", answered.count as f64 / answered.time.as_secs_f64());
    let latency = |quantile| answered.latency_us.value_at_quantile(quantile) as f64 / 1e3;
    figures.insert("p50_ms", latency(0.5));
    figures.insert("p99_ms", latency(0.99));
    figures.insert("p999_ms", latency(0.999));
    figures.insert("max_ms", answered.latency_us.max() as f64 / 1e3);
    let per_request = |ns: u64| ns as f64 / 1e3 / answered.count.max(1) as f64;
    figures.insert("cpu_us", per_request(cpu.total_since(&before)));
    for (role, figure) in [("write", "write_cpu_us"), ("copy", "copy_cpu_us")] {
        if let Some(ns) = cpu.role_since(&before, role) {
            figures.insert(figure, per_request(ns));
        }
    }
    let odd = answered.odd;
    Ok(Round { figures, fault: (odd > 0).then(|| format!("{odd} answers had another status")) })
}

fn request(method: &str, target: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}")
        .into_bytes()
}

/// An event of about 200 bytes with a new id, in rising order of time.
pub(super) fn event(number: u64) -> Vec<u8> {
    let (minute, second) = (number / 60_000 % 60, number / 1_000 % 60);
    let body = format!(
        r#"{{"event_id":"event-{number:012}","tenant_id":"tenant_{}","source":"web","event_type":"view","timestamp":"2026-03-01T{:02}:{minute:02}:{second:02}Z","payload":{{"page":"/products/4711","position":17}}}}"#,
        number % 4,
        number / 3_600_000 % 24,
    );
    request("POST", "/events", &body)
}

/// An event of the same size at the time of all others, whose id is in no order. The index in order of time has them in
/// the order of their ids, so nearly every event changes another page.
fn event_of_one_time(number: u64) -> Vec<u8> {
    // Odd, so that no id repeats.
    let id = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let body = format!(
        r#"{{"event_id":"e-{id:016x}","tenant_id":"tenant_{}","source":"web","event_type":"view","timestamp":"2026-03-01T00:00:00Z","payload":{{"page":"/products/4711","position":17}}}}"#,
        number % 4,
    );
    request("POST", "/events", &body)
}

fn few_products(number: u64) -> Vec<u8> {
    stock(number, 20)
}

fn many_products(number: u64) -> Vec<u8> {
    stock(number, 100_000)
}

/// Deltas of products in a fixed, scattered order. Each event is new.
fn stock(number: u64, products: u64) -> Vec<u8> {
    let mut body = String::from(r#"{"mode":"merge","updates":["#);
    for at in 0..STOCK_UPDATES {
        let event = number * STOCK_UPDATES + at;
        let product = event.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
        let comma = if at > 0 { "," } else { "" };
        // Writing to a string cannot fail.
        let _ = write!(
            body,
            r#"{comma}{{"event_id":"s-{event:012}","product_id":"product-{:06}","delta":1,"occurred_at":"2026-03-01T12:00:00Z"}}"#,
            product % products
        );
    }
    body.push_str("]}");
    request("PUT", "/api/v1/tenants/acme/stock/bulk_update", &body)
}

/// A price close to the product's others.
fn price(number: u64) -> Vec<u8> {
    let (product, seconds) = (number % PRICE_PRODUCTS, number / PRICE_PRODUCTS);
    let cents = 1_000 + product + number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % 20;
    let body = super::prices::event(number, cents, seconds);
    request("POST", &format!("/api/v1/tenants/shop/products/p{product}/price-event"), &body)
}
