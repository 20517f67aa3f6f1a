//! What the table of kinds says is what a shard does with a record of each.

use std::collections::BTreeSet;

use super::{KEYED, Lane, open, sound};
use crate::base::ids::Sequence;
use crate::base::keys::KeyHasher;
use crate::base::kinds::{Kind, Placement};
use crate::base::money::Currency;
use crate::base::order_status::OrderStatus;
use crate::base::prices::PriceRules;
use crate::base::stock_mode::StockMode;
use crate::shard::{
    AnomalyId, Applied, Carried, Decision, ErasureMode, ErasureRecord, IngestRow, ItemRow, Observed,
    OrderParts, Outcome, PriceEventRow, PriceReviewRow, PriceRow, ServiceEventRow, Shard, ShardError,
    StatusRow, StockChange, StockEvent, StockRow, StockUpdateRow, Subject, carry, encode_header,
    encode_order, encode_stock_update, key_of, open_reader,
};

const UNKNOWN: u8 = 200;

/// A good record of a kind. Those of all kinds, in order of the numbers, fit each other.
fn good(keys: &KeyHasher, kind: Kind) -> Vec<u8> {
    let mut bytes = Vec::new();
    let out = &mut bytes;
    let (tenant_id, product_id, order_id) = ("t", "p", "o");
    let observed = |event_id| Observed { at_us: 5, received_us: 6, tenant_id, product_id, event_id };
    let price = |event_id, price| PriceRow {
        observed: observed(event_id),
        price,
        currency: Currency::parse("EUR").unwrap(),
    };
    match kind {
        Kind::Click => out.extend([&encode_header(1, 2, 3)[..], b"{}"].concat()),
        Kind::ServiceEvent => {
            let (source, event_type, payload) = ("web", "view", "{}");
            let (timestamp_us, received_us, event_id) = (1, 2, "e");
            ServiceEventRow { timestamp_us, received_us, tenant_id, event_id, source, event_type, payload }
                .encode(out);
        }
        Kind::Order => {
            let order = OrderParts {
                tenant_id,
                order_id,
                customer_id: "c",
                customer_name: "Ann",
                customer_email: "ann@example.org",
                status: OrderStatus::Paid,
                currency: Currency::parse("EUR").unwrap(),
                ordered_at_us: 4,
            };
            let item = ItemRow { product_id, category: "tea", quantity: 2, unit_price: 450 };
            encode_order(&order, (0, 0, 5), [item].into_iter(), out);
        }
        Kind::OrderStatus => {
            StatusRow { received_us: 6, occurred_us: 5, status: OrderStatus::Refunded, tenant_id, order_id }
                .encode(out)
        }
        Kind::Ingest => {
            let (fingerprint, response) = (&[7; 32], "{}");
            IngestRow { finished_us: 7, expires_us: 8, scope: "t", key: "k", fingerprint, response }
                .encode(out);
        }
        Kind::Price => price("known", 100).encode(out),
        Kind::Stock => StockRow { observed: observed("s1"), change: StockChange::Quantity(9) }.encode(out),
        Kind::PriceEvent => {
            let rules = PriceRules { change_bp: 1, score_milli: 1_000, window: 10 };
            PriceEventRow::new(price("out of line", 900), rules).encode(out);
        }
        Kind::PriceReview => {
            let anomaly = AnomalyId::of(keys, tenant_id, product_id, "out of line");
            let decision = Decision::Approve;
            PriceReviewRow { decision, received_us: 9, anomaly, tenant_id, product_id }.encode(out);
        }
        Kind::StockUpdate => {
            let change = StockChange::Quantity(4);
            let row = StockUpdateRow {
                received_us: 10,
                request: 0,
                place: 0,
                mode: StockMode::Merge,
                expected_version: 0,
                tenant_id,
                product_id,
                events: vec![StockEvent { occurred_us: 9, event_id: "s2", change }],
            };
            encode_stock_update(&row, out);
        }
        Kind::Erasure => {
            let subject = Subject::Customer {
                tenant_id: tenant_id.to_owned(),
                customer_id: "another".to_owned(),
                token: "anon".to_owned(),
                names: Vec::new(),
                emails: Vec::new(),
            };
            ErasureRecord::Suppress { mode: ErasureMode::Erase, subject }.encode(out).unwrap();
        }
    }
    bytes
}

/// What becomes of one record, and whether that is reported.
fn apply(shard: &mut Shard, number: u8, payload: &[u8]) -> (Applied, Option<Outcome>) {
    let next = Sequence(shard.position(KEYED).0 + 1);
    let (lane, mut reported) = (Lane(vec![(next, number, payload.to_vec())]), Vec::new());
    let applied = shard.apply(&[(KEYED, &lane)], &mut |_, _, outcome| reported.push(outcome)).unwrap();
    assert!(reported.len() <= 1);
    (applied, reported.pop())
}

fn counts(shard: &Shard) -> u64 {
    shard.rows() + shard.service_events() + shard.orders() + shard.rejected()
}

#[test]
fn a_good_record_of_every_kind_is_stored_placed_and_counted_as_the_table_says() {
    let dir = tempfile::tempdir().unwrap();
    let mut shard = open(dir.path());
    let keys = KeyHasher::new(&super::options().folder_id);
    for kind in Kind::ALL {
        let payload = good(&keys, kind);
        assert_eq!(
            key_of(&keys, kind, &payload).is_some(),
            kind.placement() == Placement::KeyShard,
            "{kind:?}"
        );
        let before = counts(&shard);
        let (applied, reported) = apply(&mut shard, kind.number(), &payload);
        assert_eq!(applied.rejected, 0, "{kind:?}");
        assert_eq!(reported, kind.is_keyed().then_some(Outcome::Inserted), "{kind:?}");
        assert_eq!(counts(&shard) - before, u64::from(kind.is_counted()), "{kind:?}");
    }
    sound(shard.path());
}

#[test]
fn a_bad_record_of_every_kind_is_rejected_under_its_name_and_carried_as_what_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let mut shard = open(dir.path());
    let keys = KeyHasher::new(&super::options().folder_id);
    for kind in Kind::ALL {
        apply(&mut shard, kind.number(), &good(&keys, kind));
    }
    let numbers = Kind::ALL.map(Kind::number).into_iter().chain([0, UNKNOWN]);
    let mut kept = Vec::new();
    for number in numbers {
        let kind = Kind::from_number(number);
        assert!(kind.is_none_or(|kind| key_of(&keys, kind, b"\xff").is_none()));
        let (applied, reported) = apply(&mut shard, number, b"\xff");
        assert_eq!(applied, Applied { rejected: 1, ..Applied::default() }, "{number}");
        let is_reported = kind != Some(Kind::Click);
        assert_eq!(reported, is_reported.then_some(Outcome::Rejected), "{number}");
        kept.push((number, kind.map_or("unknown kind", Kind::rejection).to_owned()));
    }
    let reader = open_reader(shard.path()).unwrap();
    let mut statement = reader.prepare("SELECT kind, reason FROM rejected_record ORDER BY sequence").unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    assert_eq!(rows.collect::<Result<Vec<(u8, String)>, _>>().unwrap(), kept);

    let mut carried = Vec::new();
    carry::<ShardError>(&reader, 3, &mut |records| {
        carried.extend_from_slice(records);
        Ok(())
    })
    .unwrap();
    // A row of every kind that was stored is handed out again, or is within another.
    let rows = carried.iter().filter_map(|record| match record {
        Carried::Row(kind, _) => Some(*kind),
        Carried::Rejected(..) => None,
    });
    let handed_out: BTreeSet<Kind> = rows.collect();
    let within = |kind: &Kind| matches!(kind, Kind::PriceReview);
    let expected: BTreeSet<Kind> = Kind::ALL.into_iter().filter(|kind| !within(kind)).collect();
    assert_eq!(handed_out, expected);
    let rejected = kept.iter().map(|(number, _)| Carried::Rejected(*number, b"\xff".to_vec()));
    assert!(rejected.into_iter().all(|record| carried.contains(&record)));
    assert_eq!(carried.iter().filter(|record| record.is_counted()).count() as u64, counts(&shard));
    sound(shard.path());
}
