//! Rows that the target refuses do not keep others back.

use firehose::ship::rows::*;
use firehose::ship::sink::SinkError;

use super::rows::*;
use crate::postgres::Postgres;

#[test]
fn sink_a_refused_row_is_put_aside_with_its_reason_and_the_others_arrive() {
    let Some(postgres) = Postgres::start() else { return };
    let mut shipper = Shipper::new(&postgres);
    postgres.ask("ALTER TABLE fh.events ADD CONSTRAINT short CHECK (length(event_id) < 20)");
    let mut events: Vec<EventRow> = (1..=500).map(event).collect();
    for at in [0, 77, 78, 499] {
        events[at].event_id = "x".repeat(30 + at);
    }
    assert_eq!(shipper.write(Rows::Events(events)), written(496, 0, 4));
    assert_eq!(postgres.ask("SELECT count(*), sum(id) FROM fh.events"), "496|124592");
    let found = postgres.ask(
        "SELECT id, stream, reason, length(convert_from(content, 'UTF8')::json->>'event_id') FROM fh.rejected \
         ORDER BY id LIMIT 2",
    );
    let reason =
        "SQLSTATE 23514: new row for relation \"events\" violates check constraint \"short\" (events, short)";
    assert_eq!(found, format!("1|service_event|{reason}|30\n78|service_event|{reason}|107"));

    // A value that is too long, a zero character, a time out of range.
    let mut orders: Vec<OrderRow> = (1..=9).map(order).collect();
    orders[1].currency = "EURO".to_owned();
    orders[4].customer_name = "a\0b".to_owned();
    assert_eq!(shipper.write(Rows::Orders(orders)), written(7, 0, 2));
    assert_eq!(postgres.ask("SELECT count(*) FROM fh.order_items"), "14");
    let mut clicks: Vec<ClickRow> = (1..=9).map(click).collect();
    clicks[3].timestamp_us = -300_000_000_000_000_000;
    assert_eq!(shipper.write(Rows::Clicks(clicks)), written(8, 0, 1));
    assert_eq!(postgres.ask("SELECT count(*) FROM fh.clicks"), "8");
}

#[test]
fn sink_a_hundred_refused_rows_stop_the_stream_instead_of_being_put_aside() {
    let Some(postgres) = Postgres::start() else { return };
    let mut shipper = Shipper::new(&postgres);
    postgres.ask("ALTER TABLE fh.events ADD CONSTRAINT none CHECK (source <> 'web')");
    let refused = shipper.try_write(Rows::Events((1..=300).map(event).collect()));
    let Err(SinkError::Lasting(reason)) = refused else { panic!("{refused:?}") };
    assert!(
        reason.contains("more than 100 rows of service_event in a row") && reason.contains("none"),
        "{reason}"
    );
    assert_eq!(postgres.ask("SELECT count(*) FROM fh.rejected"), "0");
    // Other streams continue, and this one does once the cause is gone.
    shipper.begin();
    shipper.write(Rows::Clicks(vec![click(1)]));
    postgres.ask("ALTER TABLE fh.events DROP CONSTRAINT none");
    assert_eq!(shipper.write(Rows::Events((1..=300).map(event).collect())), written(300, 0, 0));
}

#[test]
fn sink_refused_rows_of_many_batches_count_together() {
    let Some(postgres) = Postgres::start() else { return };
    let mut shipper = Shipper::new(&postgres);
    postgres.ask("ALTER TABLE fh.events ADD CONSTRAINT none CHECK (source <> 'web')");
    for id in 1..=100 {
        assert_eq!(shipper.write(Rows::Events(vec![event(id)])), written(0, 0, 1));
    }
    let refused = shipper.try_write(Rows::Events(vec![event(101)]));
    assert!(matches!(refused, Err(SinkError::Lasting(_))), "{refused:?}");
}

#[test]
fn sink_a_unique_index_of_the_user_puts_rows_aside_and_loses_none() {
    let Some(postgres) = Postgres::start() else { return };
    let mut shipper = Shipper::new(&postgres);
    postgres.ask("CREATE UNIQUE INDEX own ON fh.events ((payload->>'x'))");
    let mut events: Vec<EventRow> = (1..=20).map(event).collect();
    events[9].payload = r#"{"x": 3}"#.to_owned();
    assert_eq!(shipper.write(Rows::Events(events)), written(19, 0, 1));
    assert_eq!(postgres.ask("SELECT id FROM fh.rejected"), "10");
}
