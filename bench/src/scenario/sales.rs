//! `sales`: figures of one tenant's 10 M order items by day, category and product, exact and approximate, against
//! DuckDB and the sqlite3 shell on the same rows. The answers must be equal.

mod changed;
mod made;
mod rivals;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use firehose::base::clock;
use firehose::gen_dataset::{Order, World};
use serde_json::Value;

use super::ingest_orders::median;
use super::merge::Peak;
use crate::orders::{self, Loaded};
use crate::peer::{self, Serve, System};
use crate::report::{Limit, Report};
use crate::run::{Figures, Round};
use crate::setup::Setup;
use crate::{http, process};

/// With three items each, 10 M items.
const ORDERS: usize = 3_333_333;
/// Folders that contain the same orders, and the system named after each.
const SHARDS: [(usize, &str); 2] = [(1, "firehose, 1 shard"), (8, "firehose, 8 shards")];
const GROUPS: [&str; 3] = ["day", "category", "product"];
/// The time of an exact answer that is asked first, in parts of DuckDB's, and the memory that it may need.
const EXACT_RATIO_MAX: [(&str, f64); 3] = [("day", 0.4), ("category", 0.2), ("product", 0.2)];
const GROWTH_MB_MAX: f64 = 200.0;
/// The time after 1 % of the orders got another status, in parts of the time before.
const CHANGED_RATIO_MAX: f64 = 1.5;
const PRECISIONS: [&str; 2] = ["exact", "approx"];
/// Runs of a query that are computed after the first, and runs that use the stored answer.
const RUNS: usize = 5;
const DUCKDB_RUNS: usize = 3;
/// On one core, and on more.
const APPROX_DAY_MS_MAX: [f64; 2] = [25.0, 20.0];
const EXACT_DAY_MS_MAX: f64 = 500.0;
/// The bytes of the columns of an item, and the CPU of making columns in parts of the rest of sealing.
const BYTES_PER_ITEM_MAX: f64 = 25.0;
const COLUMNS_TO_SEALING_MAX: f64 = 1.0;
/// The orders that are sealed to measure that.
const SEALED_ORDERS: usize = 1_000_000;
/// Six standard errors of a HyperLogLog of 2^14 registers.
const CUSTOMERS_ERROR_MAX: f64 = 6.0 * 0.0081;

/// The figures of one group; quantiles only if they were requested.
#[derive(Clone, Debug, Default, PartialEq)]
struct Group {
    orders: u64,
    units: u64,
    /// In minor units.
    revenue: u64,
    customers: u64,
    ranks: Option<[u64; 3]>,
}

/// By day (2026-01-31), category or product id.
type Answer = BTreeMap<String, Group>;

pub(crate) fn run(setup: &Setup) -> Result<Report> {
    peer::install("duckdb")?;
    let mut report = Report::new("sales");
    let world = orders::world(orders::ONE_TENANT, setup.orders.unwrap_or(ORDERS))?;
    let (loaded, items) = load(setup, &world)?;
    let case = |group: &str, precision: &str| {
        let counts = format!("{} orders of {items} items", world.spec().orders);
        format!("{counts}, by {group}, {precision}")
    };
    let made = "columns as they are made";
    for (at, folder) in loaded.iter().enumerate() {
        report.record(made, SHARDS[at].1, 0, made::bytes_per_item(folder, items)?);
    }
    let sealed = orders::world(orders::ONE_TENANT, setup.orders.unwrap_or(ORDERS).min(SEALED_ORDERS))?;
    for round in 0..setup.rounds {
        report.record(made, "firehose, sealing", round, made::sealing(setup, &sealed)?);
    }
    for round in 0..setup.rounds {
        let duckdb = rivals::duckdb(setup, loaded[0].path(), DUCKDB_RUNS)?;
        for (at, folder) in loaded.iter().enumerate() {
            for (question, figures, answer) in ours(setup, folder)? {
                let [group, precision] = question;
                let mut figures = figures;
                let theirs = &duckdb[&format!("{group} {precision}")].1;
                let exact = &duckdb[&format!("{group} exact")].1;
                compare(&question, &answer, theirs, exact, &mut figures)?;
                let round_result = Round { figures, fault: None };
                report.record(&case(group, precision), SHARDS[at].1, round, round_result);
            }
            for (group, figures, answer) in ours_changed(setup, folder, &world, round)? {
                ensure!(
                    answer == duckdb[&format!("{group} exact")].1,
                    "by {group}, statuses changed the answer"
                );
                let case = case(group, "exact, 1 % changed");
                report.record(&case, SHARDS[at].1, round, Round { figures, fault: None });
            }
        }
        for [group, precision] in questions(&GROUPS) {
            let figures = duckdb[&format!("{group} {precision}")].0.clone();
            report.record(&case(group, precision), "duckdb", round, Round { figures, fault: None });
        }
        for group in GROUPS {
            let (figures, answer) = rivals::sqlite3(setup, &loaded[0], group)?;
            let exact = &duckdb[&format!("{group} exact")].1;
            let same = answer.iter().eq(&without_ranks(exact));
            ensure!(same, "sqlite3 and DuckDB differ by {group}");
            report.record(&case(group, "exact"), "sqlite3", round, Round { figures, fault: None });
        }
    }
    for (_, system) in SHARDS {
        let bytes = report.median(made, system, "item_bytes");
        report.bar(format!("{made}, {system}: bytes an item"), Limit::AtMost(BYTES_PER_ITEM_MAX), bytes);
    }
    let ratio = report.median(made, "firehose, sealing", "columns_to_sealing_ratio");
    let text = format!("{made}: CPU in parts of the rest of sealing");
    report.bar(text, Limit::AtMost(COLUMNS_TO_SEALING_MAX), ratio);
    let approx_max = APPROX_DAY_MS_MAX[usize::from(setup.server_cores.len() > 1)];
    for (_, system) in SHARDS {
        for (precision, limit) in [("approx", approx_max), ("exact", EXACT_DAY_MS_MAX)] {
            let computed = report.median(&case("day", precision), system, "computed_ms");
            let text = format!("by day, {precision}, computed from a warm page cache, {system}: ms");
            report.bar(text, Limit::AtMost(limit), computed);
        }
        for (group, limit) in EXACT_RATIO_MAX {
            let of = |system: &str, figure: &str| report.median(&case(group, "exact"), system, figure);
            let ratio =
                of(system, "first_ms").zip(of("duckdb", "computed_ms")).map(|(ours, theirs)| ours / theirs);
            let text = format!("by {group}, exact, first requested, {system}: in parts of DuckDB's time");
            report.bar(text, Limit::AtMost(limit), ratio);
            let changed = report.median(&case(group, "exact, 1 % changed"), system, "computed_ms");
            let before = report.median(&case(group, "exact"), system, "computed_ms");
            let ratio = changed.zip(before).map(|(changed, before)| changed / before);
            let text = format!(
                "by {group}, exact, computed after 1 % changed, {system}: in parts of the time before"
            );
            report.bar(text, Limit::AtMost(CHANGED_RATIO_MAX), ratio);
            let growth = report.worst(&case(group, "exact"), system, "growth_mb");
            report.bar(
                format!("by {group}, exact, {system}: memory, MB"),
                Limit::AtMost(GROWTH_MB_MAX),
                growth,
            );
        }
    }
    Ok(report)
}

fn questions(groups: &[&'static str]) -> impl Iterator<Item = [&'static str; 2]> {
    groups.iter().flat_map(|group| PRECISIONS.map(|precision| [*group, precision]))
}

/// Loads the folders, writes the rows as CSV into the first one, and returns the folders with the number of items.
fn load(setup: &Setup, world: &World) -> Result<(Vec<Loaded>, u64)> {
    let (mut loaded, mut items): (Vec<Loaded>, u64) = (Vec::new(), 0);
    for (shards, name) in SHARDS {
        loaded.push(Loaded::new(&setup.data_root, shards, world, |_| Ok(()))?);
        eprintln!("[sales] {name}: loaded in {:.1} s", loaded[loaded.len() - 1].seconds);
    }
    let mut csv = Csv::new(loaded[0].path())?;
    let mut orders = firehose::gen_dataset::Orders::new(world);
    while let Some(order) = orders.next() {
        csv.push(&order)?;
        items += order.items.len() as u64;
    }
    csv.finish()?;
    Ok((loaded, items))
}

/// The rows in DuckDB's format: customers by number, statuses by code, money in minor units.
struct Csv {
    orders: BufWriter<File>,
    items: BufWriter<File>,
    id: u64,
}

impl Csv {
    fn new(folder: &Path) -> Result<Csv> {
        let create = |name: &str| Ok::<_, std::io::Error>(BufWriter::new(File::create(folder.join(name))?));
        let mut csv = Csv { orders: create("orders.csv")?, items: create("items.csv")?, id: 0 };
        writeln!(csv.orders, "id,customer,status,ordered_at_us,total,units")?;
        writeln!(csv.items, "order_id,product,category,quantity,unit_price")?;
        Ok(csv)
    }

    fn push(&mut self, order: &Order<'_>) -> Result<()> {
        self.id += 1;
        let (id, at_us) = (self.id, order.ordered_at_ms * 1_000);
        let status = order.status.code();
        let units: u32 = order.items.iter().map(|item| item.quantity).sum();
        writeln!(self.orders, "{id},{},{status},{at_us},{},{units}", order.customer, order.total_minor())?;
        for item in order.items {
            let (product, category) = (item.product_id.as_str(), item.category);
            writeln!(
                self.items,
                "{id},{product},\"{category}\",{},{}",
                item.quantity, item.unit_price_minor
            )?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<()> {
        self.orders.flush()?;
        Ok(self.items.flush()?)
    }
}

/// Sends every query to a new server: computed first, computed again, and returned from the stored answer.
fn ours(setup: &Setup, loaded: &Loaded) -> Result<Vec<([&'static str; 2], Figures, Answer)>> {
    let serve = Serve { shards: loaded.shards, ..Serve::new(setup) };
    let mut running = System::Firehose(serve).start_on(setup, &loaded.data())?;
    // Fills the system's page cache. The first query fills the cache of a reader's connection.
    for shard in 0..loaded.shards {
        std::io::copy(&mut File::open(loaded.database(shard))?, &mut std::io::sink())?;
    }
    let mut found = Vec::new();
    for [group, precision] in questions(&GROUPS) {
        let base = format!("/api/v1/tenants/tenant_1/metrics/sales?group_by={group}&precision={precision}");
        let mut figures = Figures::new();
        let peak = Peak::watch(running.process.pid())?;
        let (first_ms, first) = ask(running.addr, &base)?;
        ensure!(first["meta"]["materialized"] == false, "a first answer was kept from before");
        figures.insert("first_ms", first_ms);
        let mut computed = Vec::new();
        for run in 0..RUNS {
            // The same result to the last order, but a query that was not answered before.
            let (ms, again) = ask(running.addr, &format!("{base}&end_date=2027-02-{:02}", run + 1))?;
            ensure!(again["meta"]["materialized"] == false, "an answer was kept that should not be");
            ensure!(again["groups"] == first["groups"], "the same question has another answer");
            computed.push(ms);
        }
        figures.insert("computed_ms", median(computed));
        figures.insert("growth_mb", peak.stop()? as f64 / 1e6);
        // Large answers may have evicted it meanwhile.
        ask(running.addr, &base)?;
        let (mut repeated, mut is_kept) = (Vec::new(), true);
        for _ in 0..RUNS {
            let (ms, again) = ask(running.addr, &base)?;
            is_kept &= again["meta"]["materialized"] == true;
            ensure!(again["groups"] == first["groups"], "a kept answer is another one");
            repeated.push(ms);
        }
        figures.insert("repeated_ms", median(repeated));
        figures.insert("repeated_is_kept", f64::from(u8::from(is_kept)));
        found.push(([group, precision], figures, answer(&first)?));
    }
    running.stop()?;
    Ok(found)
}

/// Sends the exact queries after one percent of the orders got another status.
fn ours_changed(
    setup: &Setup,
    loaded: &Loaded,
    world: &World,
    round: usize,
) -> Result<Vec<(&'static str, Figures, Answer)>> {
    let serve = Serve { shards: loaded.shards, ..Serve::new(setup) };
    let mut running = System::Firehose(serve).start_on(setup, &loaded.data())?;
    let changed = changed::change(running.addr, world, round)?;
    let mut found = Vec::new();
    for group in GROUPS {
        let base = format!("/api/v1/tenants/tenant_1/metrics/sales?group_by={group}");
        let (first_ms, first) = ask(running.addr, &base)?;
        let mut computed = Vec::new();
        for run in 0..RUNS {
            let (ms, again) = ask(running.addr, &format!("{base}&end_date=2027-03-{:02}", run + 1))?;
            ensure!(again["groups"] == first["groups"], "the same question has another answer");
            computed.push(ms);
        }
        let figures = Figures::from([
            ("first_ms", first_ms),
            ("computed_ms", median(computed)),
            ("changed", changed as f64),
        ]);
        found.push((group, figures, answer(&first)?));
    }
    running.stop()?;
    Ok(found)
}

/// Sends one request on a new connection. The time excludes the parsing of the response.
pub(super) fn ask(addr: SocketAddr, target: &str) -> Result<(f64, Value)> {
    ensure!(!process::interrupted(), "interrupted");
    let mut stream = TcpStream::connect(addr)?;
    stream.set_read_timeout(Some(Duration::from_secs(300)))?;
    let start = clock::now();
    stream.write_all(format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes())?;
    let (mut answer, mut piece) = (Vec::new(), vec![0; 256 * 1024]);
    let length = loop {
        if let Some(length) = http::message_length(&answer) {
            break length;
        }
        let read = stream.read(&mut piece).context("no answer")?;
        ensure!(read > 0, "the connection was closed in an answer");
        answer.extend_from_slice(&piece[..read]);
    };
    let ms = start.elapsed().as_secs_f64() * 1e3;
    let head = memchr::memmem::find(&answer, b"\r\n\r\n").context("no head")? + 4;
    let body = &answer[head..length];
    ensure!(http::status(&answer) == 200, "{target} was answered {}", String::from_utf8_lossy(body));
    Ok((ms, serde_json::from_slice(body)?))
}

fn answer(body: &Value) -> Result<Answer> {
    let groups = body["groups"].as_array().context("no groups")?;
    let minor = |value: &Value| -> Result<u64> {
        let text = value.as_str().context("no amount")?;
        ensure!(text.as_bytes().iter().rev().nth(2) == Some(&b'.'), "{text} has not two digits");
        Ok(text.replace('.', "").parse()?)
    };
    let number = |value: &Value| value.as_u64().context("no number");
    let group = |group: &Value| {
        let ranks = &group["order_value"];
        let figures = Group {
            orders: number(&group["orders"])?,
            units: number(&group["units"])?,
            revenue: minor(&group["revenue"])?,
            customers: number(&group["unique_customers"])?,
            ranks: Some([minor(&ranks["p50"])?, minor(&ranks["p95"])?, minor(&ranks["p99"])?]),
        };
        Ok((group["key"].as_str().context("no key")?.to_owned(), figures))
    };
    groups.iter().map(group).collect()
}

fn without_ranks(answer: &Answer) -> Answer {
    answer.iter().map(|(key, group)| (key.clone(), Group { ranks: None, ..group.clone() })).collect()
}

/// Compares answers with DuckDB's: exact ones must be equal to the last order. Of approximate ones, the counts must be
/// equal, and the customers within the bounds of the sketch.
fn compare(
    question: &[&str; 2],
    ours: &Answer,
    theirs: &Answer,
    exact: &Answer,
    figures: &mut Figures,
) -> Result<()> {
    let [group, precision] = question;
    if *precision == "exact" {
        let differing = ours.iter().zip(theirs).find(|(ours, theirs)| ours != theirs);
        ensure!(differing.is_none(), "by {group}, firehose and DuckDB differ: {differing:?}");
        ensure!(ours.len() == theirs.len(), "by {group}, there are {} and {}", ours.len(), theirs.len());
        return Ok(());
    }
    ensure!(ours.keys().eq(exact.keys()), "by {group}, approx: other groups");
    let (mut worst, mut worst_theirs): (f64, f64) = (0.0, 0.0);
    for (key, true_one) in exact {
        let (ours, theirs) = (&ours[key], &theirs[key]);
        let counts = |group: &Group| (group.orders, group.units, group.revenue);
        ensure!(counts(ours) == counts(true_one), "by {group}, approx: {ours:?} is not {true_one:?}");
        let off =
            |group: &Group| group.customers.abs_diff(true_one.customers) as f64 / true_one.customers as f64;
        // For a small number of customers, one customer is a large share.
        if true_one.customers >= 100 {
            (worst, worst_theirs) = (worst.max(off(ours)), worst_theirs.max(off(theirs)));
        }
    }
    ensure!(worst <= CUSTOMERS_ERROR_MAX, "by {group}, approx: customers are off by {worst}");
    figures.insert("customers_error_max", worst);
    figures.insert("duckdb_customers_error_max", worst_theirs);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_in_minor_units() -> Result<()> {
        let body = serde_json::json!({"groups": [{"key": "2026-01-31", "currency": "USD", "orders": 3, "units": 7,
            "revenue": "1234.56", "unique_customers": 2,
            "order_value": {"p50": "1.00", "p95": "0.05", "p99": "999.99"}}]});
        let group =
            Group { orders: 3, units: 7, revenue: 123_456, customers: 2, ranks: Some([100, 5, 99_999]) };
        assert_eq!(answer(&body)?, Answer::from([("2026-01-31".to_owned(), group)]));
        Ok(())
    }

    #[test]
    fn an_answer_that_differs_is_told() {
        let group = |orders| Group { orders, customers: 1_000, ..Group::default() };
        let of = |orders| Answer::from([("a".to_owned(), group(orders))]);
        let mut figures = Figures::new();
        for precision in ["exact", "approx"] {
            let question = ["day", precision];
            assert!(compare(&question, &of(5), &of(5), &of(5), &mut figures).is_ok());
            assert!(compare(&question, &of(5), &of(6), &of(6), &mut figures).is_err());
        }
        let off = Answer::from([("a".to_owned(), Group { customers: 1_100, ..group(5) })]);
        assert!(compare(&["day", "approx"], &off, &of(5), &of(5), &mut figures).is_err());
    }
}
