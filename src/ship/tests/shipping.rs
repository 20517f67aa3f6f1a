//! Every durable row is sent once, whatever fails.

use std::cell::RefCell;
use std::rc::Rc;

use super::rig::{Record, Rig, click, event, order, price, ship, status, stock};
use super::target::MemorySink;
use crate::orders::OrderStatus;
use crate::prices::Decision;
use crate::shard::CheckpointMode;
use crate::ship::rows::{Change, Rows, ShipStream};
use crate::ship::shipper::ShipError;
use crate::ship::sink::SinkError;
use crate::ship::source::{Found, ReadLimits};

/// Returns some rows of every kind.
fn every_kind(rig: &mut Rig) -> Vec<Record> {
    let mut records: Vec<Record> = (1..=120).map(click).collect();
    records.extend((1..=70).map(|number| event(number, "{\"a\":1}")));
    records.extend((1..=20).map(|number| order(number, OrderStatus::Pending)));
    records.extend((1..=5).map(|number| status(number, OrderStatus::Paid, 10 + number as i64)));
    records.extend((1..=9).map(stock));
    records.extend((1..=8).map(|number| price(number, if number == 7 { 500 } else { 100 })));
    records.push(rig.review(7, Decision::Approve));
    records
}

#[test]
fn every_row_of_every_kind_is_sent_once() {
    let mut rig = Rig::new();
    let records = every_kind(&mut rig);
    rig.store(&records);
    rig.ship();
    let counts = ShipStream::ALL.map(|stream| rig.target.count(stream));
    assert_eq!(counts, [120, 70, 20, 9, 8, 7]);
    rig.target.with(|content| {
        let order = &content.orders[&("acme".to_owned(), "o3".to_owned())];
        assert_eq!((order.status, order.first_status), ("paid", "pending"));
        assert_eq!((order.customer_id.as_str(), order.customer_email.as_str()), ("c0", "ann@example.org"));
        assert_eq!((order.total, order.currency.as_str(), order.items.len()), (750, "USD", 2));
        assert_eq!((order.items[1].line, order.items[1].product_id.as_str()), (2, "p2"));
        assert_eq!((order.items[1].quantity, order.items[1].category.as_str()), (2, "tools"));
        let anomalies: Vec<_> = content
            .changes
            .iter()
            .filter_map(|change| match change {
                Change::Anomaly(anomaly) => Some(("anomaly", anomaly.price, anomaly.status.as_str())),
                Change::Review(anomaly) => Some(("review", anomaly.price, anomaly.status.as_str())),
                _ => None,
            })
            .collect();
        assert_eq!(anomalies, [("anomaly", 500, "approved"), ("review", 500, "approved")]);
    });
    // There is nothing to repeat.
    rig.ship();
    assert_eq!(ShipStream::ALL.map(|stream| rig.target.count(stream)), counts);
}

#[test]
fn nothing_is_sent_that_a_lost_wal_could_take_back() {
    let mut rig = Rig::new();
    rig.store(&[click(1), click(2)]);
    rig.apply(&[click(3), event(1, "{}")]);
    rig.ship();
    assert_eq!(rig.target.ids(ShipStream::Clicks), [1, 2]);
    assert_eq!(rig.target.count(ShipStream::Events), 0);
    rig.checkpoint();
    rig.ship();
    assert_eq!(rig.target.ids(ShipStream::Clicks), [1, 2, 3]);
    assert_eq!(rig.target.count(ShipStream::Events), 1);
}

#[test]
fn rows_that_are_gone_are_skipped() {
    let mut rig = Rig::new();
    for first in [1, 51, 101] {
        rig.store(
            &(first..first + 50).map(click).take(if first > 100 { 30 } else { 50 }).collect::<Vec<_>>(),
        );
    }
    let connection = rusqlite::Connection::open(rig.path()).unwrap();
    // As an erasure deletes them: some, and the first and last of partitions.
    let sql = "DELETE FROM click_000001 WHERE id IN (1, 7, 50); DELETE FROM click_000003 WHERE id >= 101;";
    connection.execute_batch(sql).unwrap();
    drop(connection);
    rig.ship();
    let expected: Vec<i64> = (1..=100).filter(|id| ![1, 7, 50].contains(id)).collect();
    assert_eq!(rig.target.ids(ShipStream::Clicks), expected);
    assert_eq!(rig.target.place(ShipStream::Clicks), 130);
}

#[test]
fn an_answer_that_is_lost_repeats_nothing() {
    let mut rig = Rig::new();
    rig.store(&(1..=300).map(click).collect::<Vec<_>>());
    rig.target.with(|content| content.lost_answers = 1);
    let limits = ReadLimits { rows: 70, ..ReadLimits::MAX };
    let mut shipper = rig.shipper_with(MemorySink::new(&rig.target), limits);
    let error = shipper.turn().unwrap_err();
    assert!(error.is_passing(), "{error}");
    // The target stores a row once or panics.
    ship(&mut shipper);
    assert_eq!(rig.target.ids(ShipStream::Clicks), (1..=300).collect::<Vec<_>>());
}

#[test]
fn another_shipper_of_the_shard_is_noticed() {
    let mut rig = Rig::new();
    rig.store(&(1..=200).map(click).collect::<Vec<_>>());
    let limits = ReadLimits { rows: 30, ..ReadLimits::MAX };
    let mut first = rig.shipper_with(MemorySink::new(&rig.target), limits);
    let mut second = rig.shipper_with(MemorySink::new(&rig.target), limits);
    for turn in 0..400 {
        let shipper = if turn % 2 == 0 { &mut first } else { &mut second };
        match shipper.turn() {
            Ok(_) => {}
            Err(error) => assert!(matches!(error, ShipError::Sink(SinkError::Moved(_))), "{error}"),
        }
    }
    assert_eq!(rig.target.ids(ShipStream::Clicks), (1..=200).collect::<Vec<_>>());
}

#[test]
fn a_target_that_went_back_in_time_gets_the_rows_again() {
    let mut rig = Rig::new();
    rig.store(&(1..=100).map(click).collect::<Vec<_>>());
    let mut shipper = rig.shipper();
    ship(&mut shipper);
    rig.target.with(|content| {
        content.rows.retain(|row, _| row.2 <= 40);
        content.places.values_mut().for_each(|places| _ = places.insert(ShipStream::Clicks, 40));
    });
    rig.store(&[click(101)]);
    // The running shipper is refused, asks, and repeats.
    assert!(shipper.turn().unwrap_err().is_passing());
    ship(&mut shipper);
    assert_eq!(rig.target.ids(ShipStream::Clicks), (1..=101).collect::<Vec<_>>());
}

#[test]
fn a_refused_stream_does_not_stop_the_others() {
    let mut rig = Rig::new();
    let records = every_kind(&mut rig);
    rig.store(&records);
    rig.target.with(|content| _ = content.refused.insert(ShipStream::Events));
    let mut shipper = rig.shipper();
    let turns: Vec<_> = (0..20).map(|_| shipper.turn().unwrap()).collect();
    let last = turns.last().unwrap();
    assert_eq!((last.refused, last.is_at_limit, last.has_moved, last.is_waiting), (1, false, false, false));
    let refusals: Vec<_> = shipper.refusals().map(|(stream, why)| (stream, why.to_owned())).collect();
    assert_eq!(refusals, [(ShipStream::Events, "no permission for service_event".to_owned())]);
    assert_eq!(ShipStream::ALL.map(|stream| rig.target.count(stream)), [120, 0, 20, 9, 8, 7]);
}

#[test]
fn a_locked_table_of_one_stream_does_not_stop_the_others() {
    let mut rig = Rig::new();
    let records = every_kind(&mut rig);
    rig.store(&records);
    rig.target.with(|content| _ = content.locked.insert(ShipStream::Events));
    let mut shipper = rig.shipper();
    for _ in 0..20 {
        assert!(shipper.turn().unwrap_err().is_passing());
    }
    assert_eq!(ShipStream::ALL.map(|stream| rig.target.count(stream)), [120, 0, 20, 9, 8, 7]);
    rig.target.with(|content| content.locked.clear());
    ship(&mut shipper);
    assert!(rig.target.count(ShipStream::Events) > 0);
}

#[test]
fn a_target_that_is_away_is_asked_again() {
    let mut rig = Rig::new();
    rig.store(&[click(1)]);
    for error in ["refused", "timed out"] {
        rig.target.fail(SinkError::Passing(error.to_owned()));
    }
    let mut shipper = rig.shipper();
    assert!(shipper.turn().unwrap_err().is_passing());
    assert!(shipper.turn().unwrap_err().is_passing());
    ship(&mut shipper);
    assert_eq!(rig.target.ids(ShipStream::Clicks), [1]);
}

#[test]
fn a_shard_that_is_away_is_read_again() {
    let mut rig = Rig::new();
    rig.store(&[click(1)]);
    let mut shipper = rig.shipper();
    let (path, elsewhere) = (rig.path(), rig.path().with_extension("away"));
    std::fs::rename(&path, &elsewhere).unwrap();
    let error = shipper.turn().unwrap_err();
    assert!(matches!(error, ShipError::Read(_)) && error.is_passing(), "{error}");
    std::fs::rename(&elsewhere, &path).unwrap();
    ship(&mut shipper);
    assert_eq!(rig.target.ids(ShipStream::Clicks), [1]);
}

#[test]
fn a_target_that_hangs_holds_no_checkpoint_back() {
    let mut rig = Rig::new();
    rig.store(&[click(1)]);
    rig.apply(&[click(2)]);
    let shard = Rc::new(RefCell::new(rig));
    let (seen, inner) = (Rc::new(RefCell::new(0)), Rc::clone(&shard));
    let count = Rc::clone(&seen);
    let (path, target) = (shard.borrow().path(), shard.borrow().target.clone());
    let sink = MemorySink {
        target,
        before_write: Box::new(move |_| {
            // A checkpoint that truncates the WAL is complete only if there is no reader.
            let mut rig = inner.borrow_mut();
            assert!(rig.shard().checkpoint(CheckpointMode::Truncate).unwrap().complete);
            assert!(rig.shard().is_wal_truncated());
            *count.borrow_mut() += 1;
        }),
    };
    let mut shipper = {
        let rig = shard.borrow();
        assert_eq!(rig.path(), path);
        rig.shipper_with(sink, ReadLimits::MAX)
    };
    ship(&mut shipper);
    assert!(*seen.borrow() > 0);
}

#[test]
fn a_read_is_bounded_by_rows_and_by_bytes() {
    let mut rig = Rig::new();
    let payload = format!("{{\"pad\":\"{}\"}}", "x".repeat(40_000));
    rig.store(&(1..=60).map(|number| event(number, &payload)).collect::<Vec<_>>());
    let limits = ReadLimits { bytes: 200_000, ..ReadLimits::MAX };
    ship(&mut rig.shipper_with(MemorySink::new(&rig.target), limits));
    rig.target.with(|content| {
        let events: Vec<usize> = content
            .batches
            .iter()
            .filter(|(stream, _)| *stream == ShipStream::Events)
            .map(|of| of.1)
            .collect();
        assert_eq!(events, [5; 12]);
    });
    let epoch = rig.target.with(|content| content.places.keys().next().cloned()).unwrap();
    let mut source = rig.source();
    match source.read(&epoch, ShipStream::Events, 10, 3).unwrap() {
        Found::Next(next) => {
            let Rows::Events(rows) = next.rows else { panic!("other rows") };
            assert_eq!(
                (rows.iter().map(|row| row.id).collect::<Vec<_>>(), next.last),
                (vec![11, 12, 13], 13)
            );
        }
        other => panic!("{other:?}"),
    }
}

/// An order is sent with a status that no lost WAL takes back, and the feed brings the later ones.
#[test]
fn an_order_has_its_durable_status_and_the_feed_brings_the_next() {
    let mut rig = Rig::new();
    rig.store(&[
        order(1, OrderStatus::Pending),
        order(2, OrderStatus::Pending),
        status(1, OrderStatus::Paid, 10),
    ]);
    // These changes are only in the WAL.
    rig.apply(&[status(1, OrderStatus::Shipped, 20), status(2, OrderStatus::Cancelled, 20)]);
    let mut shipper = rig.shipper();
    for _ in 0..5 {
        shipper.turn().unwrap();
    }
    let state = |rig: &Rig, order: &str| {
        rig.target.with(|content| {
            let order = content.orders.get(&("acme".to_owned(), order.to_owned()));
            order.map(|order| (order.status, order.status_seq))
        })
    };
    assert_eq!(state(&rig, "o1"), Some(("paid", 1)));
    // Nothing durable shows the status that this order had before.
    assert_eq!(state(&rig, "o2"), None);
    rig.checkpoint();
    ship(&mut shipper);
    assert_eq!(state(&rig, "o1"), Some(("shipped", 2)));
    assert_eq!(state(&rig, "o2").map(|state| state.0), Some("cancelled"));
}
