//! A recount of the target equals one of the source, and shows which rows are missing.

use std::collections::BTreeMap;

use firehose::base::ids::ShardId;
use firehose::ship::postgres::*;
use firehose::ship::rows::*;

use super::rows::*;
use crate::postgres::Postgres;

#[test]
fn sink_a_recount_equals_the_source_and_names_missing_rows() {
    let Some(postgres) = Postgres::start() else { return };
    let mut shipper = Shipper::new(&postgres);
    let clicks: Vec<ClickRow> = (1..=50).map(click).collect();
    let events: Vec<EventRow> = (1..=50)
        .map(|id| EventRow {
            received_us: NOON_US + id * 20_000_000_000,
            timestamp_us: -NOON_US + id,
            ..event_of(if id % 2 == 0 { "acme" } else { "Zoë" }, id, &format!("e-{id}"), "{}")
        })
        .collect();
    let orders: Vec<OrderRow> = (1..=9).map(order).collect();
    let levels: Vec<StockRow> = (1..=9).map(|id| stock(id, id, -id)).collect();
    let prices: Vec<PriceRow> = (1..=9).map(|id| price(id, NOON_US + id, id, id % 2 == 0)).collect();

    let mut wanted: BTreeMap<(VerifyTable, String, i32), (u64, i128)> = BTreeMap::new();
    let mut add = |table, tenant: &str, received_us: i64, hash: i64| {
        let day = received_us.div_euclid(86_400_000_000) as i32;
        let sum = wanted.entry((table, tenant.to_owned(), day)).or_default();
        *sum = (sum.0 + 1, sum.1 + i128::from(hash));
    };
    for row in &clicks {
        add(VerifyTable::Clicks, "", row.received_us, hash_of_click(row));
    }
    for row in &events {
        add(VerifyTable::Events, &row.tenant_id, row.received_us, hash_of_event(row));
    }
    for row in &orders {
        add(VerifyTable::Orders, &row.tenant_id, row.received_us, hash_of_order(row, true));
        for item in &row.items {
            add(VerifyTable::OrderItems, &row.tenant_id, row.received_us, hash_of_item(row, item));
        }
    }
    for row in &levels {
        add(VerifyTable::StockEvents, &row.tenant_id, row.received_us, hash_of_stock_event(row));
    }
    for row in &prices {
        add(VerifyTable::Prices, &row.tenant_id, row.received_us, hash_of_price(row, true));
    }

    let reader = PostgresReader::new(postgres.options(), FOLDER.to_owned(), Default::default());
    let mut reader = reader.expect("a reader");
    for rows in [
        Rows::Clicks(clicks),
        Rows::Events(events),
        Rows::Orders(orders),
        Rows::StockEvents(levels),
        Rows::Prices(prices),
    ] {
        shipper.write(rows);
    }
    let range = IdRange { shard: ShardId(0), epoch: shipper.epoch.clone(), after: 0, last: 1_000 };
    let mut found: BTreeMap<(VerifyTable, String, i32), (u64, i128)> = BTreeMap::new();
    for table in VerifyTable::ALL {
        let counted = reader.recount(table, &range, true, |day| {
            found.insert((table, day.tenant_id, day.day), (day.rows, day.sum));
        });
        counted.expect("a recount");
    }
    assert_eq!(found, wanted);

    postgres.ask("DELETE FROM fh.events WHERE id IN (17, 18)");
    let mut ids = Vec::new();
    let some = IdRange { after: 15, last: 20, ..range.clone() };
    reader.ids(VerifyTable::Events, &some, |id| ids.push(id)).expect("ids");
    assert_eq!(ids, [16, 19, 20]);

    // Rows that were put aside are named, and so are the places.
    postgres.ask(
        "INSERT INTO fh.twice (node, shard, epoch, stream, id, table_name, tenant_id, key, differs) \
                  VALUES (1, 0, 1, 'service_event', 17, 'events', 'acme', 'e-17', false); \
                  INSERT INTO fh.rejected (node, shard, epoch, stream, id, reason, content) \
                  VALUES (1, 0, 1, 'service_event', 18, 'why', '')",
    );
    let mut aside = Vec::new();
    reader.ids_put_aside(ShipStream::Events, &range, |id| aside.push(id)).expect("ids");
    assert_eq!(aside, [17, 18]);
    let events = PutAside { shard: ShardId(0), stream: ShipStream::Events, rejected: 1, twice: 1 };
    assert_eq!(reader.put_aside().expect("counts"), [events]);
    let places = reader.places().expect("places");
    let last: Vec<(ShipStream, i64)> = places.iter().map(|place| (place.stream, place.last)).collect();
    assert_eq!(
        last,
        [
            (ShipStream::Changes, 0),
            (ShipStream::Clicks, 50),
            (ShipStream::Prices, 9),
            (ShipStream::Orders, 9),
            (ShipStream::Events, 50),
            (ShipStream::StockEvents, 9)
        ]
    );
    assert!(places.iter().all(|place| place.at_us > NOON_US && place.epoch == shipper.epoch));
}

#[test]
fn sink_a_target_without_a_schema_has_no_places() {
    let Some(postgres) = Postgres::start() else { return };
    let reader = PostgresReader::new(postgres.options(), FOLDER.to_owned(), Default::default());
    assert!(reader.expect("a reader").places().expect("places").is_empty());
    assert_eq!(postgres.ask("SELECT to_regclass('fh.meta')"), "");
}
