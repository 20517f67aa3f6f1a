//! Every row arrives as it was sent, once, in the type that the tables promise.

use firehose::ship::rows::*;
use firehose::ship::sink::{Sink as _, SinkError};

use super::rows::*;
use crate::postgres::Postgres;

#[test]
fn sink_every_stream_is_written_and_read_back() {
    let Some(postgres) = Postgres::start() else { return };
    let mut shipper = Shipper::new(&postgres);
    assert!(shipper.places.is_empty());

    assert_eq!(shipper.write(Rows::Clicks((1..=3).map(click).collect())), written(3, 0, 0));
    let found = postgres.ask(
        "SELECT user_id, occurred_at, received_at, metadata->>'page', metadata_raw, node, shard, epoch, id \
         FROM fh.clicks WHERE id = 2",
    );
    assert_eq!(found, "2|2026-11-30 12:00:00.002001+00|2026-11-30 12:00:00.002002+00|/p/2||1|0|1|2");

    assert_eq!(shipper.write(Rows::Events((5..=6).map(event).collect())), written(2, 0, 0));
    let found = postgres.ask(
        "SELECT tenant_id, event_id, source, event_type, occurred_at, received_at, payload->>'x', id \
         FROM fh.events ORDER BY id LIMIT 1",
    );
    assert_eq!(found, "acme|e-5|web|view|2026-11-30 12:00:00.000001+00|2026-11-30 12:00:00.000002+00|5|5");

    assert_eq!(shipper.write(Rows::Orders((1..=4).map(order).collect())), written(4, 0, 0));
    assert_eq!(postgres.ask("SELECT count(*), sum(quantity * unit_price) FROM fh.order_items"), "8|8000");
    assert_eq!(
        postgres.ask("SELECT order_id, status, first_status, currency, total FROM fh.orders WHERE id = 3"),
        "o-3|paid|pending|EUR|1999"
    );
    assert_eq!(
        postgres.ask("SELECT day, currency, orders, revenue, unique_customers, p50 FROM fh.sales_by_day"),
        "2026-11-30|EUR|4|7996|3|1999"
    );
    assert_eq!(postgres.ask("SELECT items, units FROM fh.orders_now WHERE order_id = 'o-1'"), "2|4");
    assert_eq!(postgres.ask("SELECT * FROM fh.event_counts"), "acme|2026-11-30|view|2");

    let levels = vec![stock(1, 1, 10), stock(2, 3, 30), stock(3, 2, 20)];
    assert_eq!(shipper.write(Rows::StockEvents(levels)), written(3, 0, 0));
    assert_eq!(postgres.ask("SELECT quantity, version FROM fh.stock"), "30|3");
    assert_eq!(shipper.write(Rows::StockEvents(vec![stock(4, 4, 5)])), written(1, 0, 0));
    assert_eq!(postgres.ask("SELECT quantity, version FROM fh.stock"), "5|4");

    let odd = price(3, NOON_US + 30, 9_999, false);
    let prices = vec![price(1, NOON_US + 20, 1_000, true), price(2, NOON_US + 10, 900, true), odd.clone()];
    assert_eq!(shipper.write(Rows::Prices(prices)), written(3, 0, 0));
    assert_eq!(postgres.ask("SELECT price, event_id FROM fh.prices"), "1000|r-1");
    let change = |seq, change| ChangeRow { seq, at_us: NOON_US, change };
    let open = change(1, Change::Anomaly(anomaly(&odd, "open")));
    assert_eq!(shipper.write(Rows::Changes(vec![open])), written(1, 0, 0));
    assert_eq!(
        postgres.ask("SELECT status, change_bp, median, reviewed_at FROM fh.price_anomalies"),
        "open|9000||"
    );
    let review = change(2, Change::Review(anomaly(&odd, "approved")));
    assert_eq!(shipper.write(Rows::Changes(vec![review, status(3, 1, "shipped")])), written(2, 0, 0));
    assert_eq!(postgres.ask("SELECT status FROM fh.price_anomalies"), "approved");
    assert_eq!(postgres.ask("SELECT price, event_id FROM fh.prices"), "9999|r-3");
    assert_eq!(postgres.ask("SELECT bool_and(is_accepted) FROM fh.price_history"), "t");
    assert_eq!(postgres.ask("SELECT status, status_seq FROM fh.orders WHERE id = 1"), "shipped|3");
    assert_eq!(postgres.ask("SELECT order_id, status, id FROM fh.order_status"), "o-1|shipped|3");

    // A second connection finds the places where they are.
    let mut second = Shipper::of(&postgres, FOLDER, 0);
    second.begin();
    assert_eq!(second.places, shipper.places);
}

#[test]
fn sink_a_place_that_has_moved_is_noticed_and_nothing_is_written() {
    let Some(postgres) = Postgres::start() else { return };
    let mut first = Shipper::new(&postgres);
    let mut second = Shipper::of(&postgres, FOLDER, 0);
    second.begin();
    first.write(Rows::Clicks((1..=3).map(click).collect()));
    let refused = second.try_write(Rows::Clicks((1..=3).map(click).collect()));
    assert!(matches!(refused, Err(SinkError::Moved(_))), "{refused:?}");
    second.begin();
    second.write(Rows::Clicks((4..=5).map(click).collect()));
    // A place may move over rows that are gone.
    let mut gone = second.batch(Rows::Clicks(Vec::new()));
    gone.last = 90;
    second.sink.write(&gone).expect("the place moves");
    assert_eq!(postgres.ask("SELECT count(*), count(DISTINCT id), max(id) FROM fh.clicks"), "5|5|5");
    assert_eq!(postgres.ask("SELECT last FROM fh.position WHERE stream = 'click'"), "90");
}

#[test]
fn sink_two_shippers_of_one_shard_write_no_row_twice() {
    const ROWS: i64 = 2_000;
    let Some(postgres) = Postgres::start() else { return };
    Shipper::new(&postgres);
    std::thread::scope(|threads| {
        for step in [30, 70] {
            let postgres = &postgres;
            threads.spawn(move || {
                let mut shipper = Shipper::of(postgres, FOLDER, 0);
                shipper.begin();
                loop {
                    let after = shipper.places.get(&ShipStream::Clicks).copied().unwrap_or_default();
                    if after >= ROWS {
                        return;
                    }
                    let rows = (after + 1..=(after + step).min(ROWS)).map(click).collect();
                    match shipper.try_write(Rows::Clicks(rows)) {
                        Ok(_) => {}
                        Err(SinkError::Moved(_)) => shipper.begin(),
                        Err(other) => panic!("{other:?}"),
                    }
                }
            });
        }
    });
    let sums = "SELECT count(*), count(DISTINCT id), sum(id) FROM fh.clicks";
    assert_eq!(postgres.ask(sums), format!("{ROWS}|{ROWS}|{}", ROWS * (ROWS + 1) / 2));
}
