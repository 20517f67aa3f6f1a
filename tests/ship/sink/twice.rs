//! The same rows from several nodes, or from a restored backup: each is stored once, and the others are noted.

use std::thread;

use firehose::ship::rows::*;
use firehose::ship::sink::{Places, Sink as _};

use super::rows::*;
use crate::postgres::Postgres;

/// Returns the numbers up to `count` in an order that depends on the seed.
fn shuffled(count: i64, seed: u64) -> Vec<i64> {
    let mut numbers: Vec<i64> = (0..count).collect();
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    for at in (1..numbers.len()).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        numbers.swap(at, (state % (at as u64 + 1)) as usize);
    }
    numbers
}

#[test]
fn sink_the_same_keys_from_three_nodes_in_any_order_are_stored_once_without_a_deadlock() {
    const EVENTS: i64 = 3_000;
    let Some(postgres) = Postgres::start() else { return };
    Shipper::new(&postgres);
    thread::scope(|threads| {
        for node in 1..=3_u64 {
            let postgres = &postgres;
            threads.spawn(move || {
                let mut shipper = Shipper::of(postgres, &format!("{node:032x}"), 0);
                shipper.begin();
                let numbers = shuffled(EVENTS, node);
                for (part, numbers) in numbers.chunks(500).enumerate() {
                    let first = part as i64 * 500;
                    let rows = numbers.iter().zip(first + 1..).map(|(number, id)| {
                        let differs = if number % 2 == 0 { node } else { 0 };
                        event_of("acme", id, &format!("e-{number}"), &format!(r#"{{"x":{differs}}}"#))
                    });
                    // A deadlock would be an error.
                    let written = shipper.write(Rows::Events(rows.collect()));
                    assert_eq!(written.rows + written.twice, 500);
                    assert_eq!(written.rejected, 0);
                }
            });
        }
    });
    let all = "SELECT count(*), count(DISTINCT event_id) FROM fh.events";
    assert_eq!(postgres.ask(all), format!("{EVENTS}|{EVENTS}"));
    let twice = "SELECT count(*), count(*) FILTER (WHERE differs), count(DISTINCT key) FROM fh.twice";
    assert_eq!(postgres.ask(twice), format!("{}|{EVENTS}|{EVENTS}", 2 * EVENTS));
}

#[test]
fn sink_the_first_order_stays_with_its_items_and_a_restored_node_gives_it_its_status() {
    let Some(postgres) = Postgres::start() else { return };
    let mut first = Shipper::new(&postgres);
    first.write(Rows::Orders((1..=5).map(order).collect()));
    first.write(Rows::Changes(vec![status(50, 1, "delivered")]));

    // Another node has the same orders, with other content and other items.
    let mut other = Shipper::of(&postgres, &"b".repeat(32), 3);
    other.begin();
    let changed = |id| {
        let mut order = order(id);
        order.total += i64::from(id == 2);
        order.items.truncate(if id == 3 { 2 } else { 1 });
        order.status = "cancelled";
        order
    };
    assert_eq!(other.write(Rows::Orders((1..=6).map(changed).collect())), written(1, 5, 0));
    assert_eq!(postgres.ask("SELECT count(*), count(DISTINCT order_id) FROM fh.order_items"), "11|6");
    assert_eq!(postgres.ask("SELECT status FROM fh.orders WHERE order_id = 'o-1'"), "delivered");
    assert_eq!(
        postgres.ask(
            "SELECT node, shard, key, differs FROM fh.twice WHERE key IN ('o-2', 'o-3', 'o-4') ORDER BY key"
        ),
        "2|3|o-2|t\n2|3|o-3|f\n2|3|o-4|t"
    );

    // The first node is restored from a backup that knows an earlier status, and has a life of its own from then on.
    let restored = epoch(9);
    let asked = [first.epoch.clone(), restored.clone()];
    first.sink.known(&asked).expect("the places");
    first.places = first.sink.begin_epoch(&restored, &Places::new()).expect("the epoch begins");
    first.epoch = restored;
    let again = |id| OrderRow { status: "paid", status_seq: 7, ..order(id) };
    assert_eq!(first.write(Rows::Orders((1..=5).map(again).collect())), written(0, 5, 0));
    assert_eq!(postgres.ask("SELECT status FROM fh.orders WHERE order_id = 'o-1'"), "paid");
    first.write(Rows::Changes(vec![status(8, 1, "refunded")]));
    assert_eq!(postgres.ask("SELECT status FROM fh.orders WHERE order_id = 'o-1'"), "refunded");
    assert_eq!(postgres.ask("SELECT count(*) FROM fh.order_items"), "11");
}

#[test]
fn sink_stock_and_prices_that_are_known_are_noted_and_levels_follow_the_newest_life() {
    let Some(postgres) = Postgres::start() else { return };
    let mut shipper = Shipper::new(&postgres);
    shipper.write(Rows::StockEvents(vec![stock(1, 1, 10), stock(2, 2, 20), stock(3, 3, 30)]));
    shipper.write(Rows::Prices(vec![price(1, NOON_US, 100, true)]));
    let restored = epoch(9);
    let starts = Places::from([(ShipStream::StockEvents, 1)]);
    shipper.sink.known(&[shipper.epoch.clone(), restored.clone()]).expect("the places");
    shipper.places = shipper.sink.begin_epoch(&restored, &starts).expect("the epoch begins");
    assert_eq!(shipper.places, starts);
    shipper.epoch = restored;
    let again = StockRow { event_id: "s-2".to_owned(), ..stock(2, 2, 15) };
    assert_eq!(shipper.write(Rows::StockEvents(vec![again, stock(9, 3, 16)])), written(1, 1, 0));
    assert_eq!(postgres.ask("SELECT quantity, version FROM fh.stock"), "16|3");
    assert_eq!(shipper.write(Rows::Prices(vec![price(1, NOON_US, 100, true)])), written(0, 1, 0));
    assert_eq!(
        postgres.ask("SELECT stream, key, differs FROM fh.twice ORDER BY 1"),
        "price_row|p-1 r-1|f\nstock_event|p-1 s-2|f"
    );
}
