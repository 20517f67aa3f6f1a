//! A shard treats a record of each kind as the table of kinds specifies.

use std::collections::BTreeSet;

use super::{KEYED, Lane, open, sound};
use crate::base::ids::Sequence;
use crate::base::keys::KeyHasher;
use crate::base::kinds::{Kind, KindRow, Placement};
use crate::base::money::Currency;
use crate::base::observed::Observed;
use crate::base::prices::PriceRules;
use crate::events::{SERVICE_EVENT, ServiceEventRow};
use crate::families::FAMILIES;
use crate::ingest::{CLICK, encode_header};
use crate::orders::{
    DroppedSumRow, INGEST, IngestRow, ItemRow, ORDER, ORDER_STATUS, OrderParts, OrderStatus, SALES_DROPPED,
    StatusRow, SumsBy, encode_order,
};
use crate::people::{ERASURE, ErasureRecord, Subject};
use crate::prices::{
    AnomalyId, Decision, PRICE, PRICE_EVENT, PRICE_REVIEW, PriceEventRow, PriceReviewRow, PriceRow,
};
use crate::shard::{
    Applied, Carried, ErasureMode, Outcome, STREAMS_MAX, Shard, ShardError, VERSION, carry, open_reader,
};
use crate::sketch::{HyperLogLog, TDigest};
use crate::stock::{
    DroppedEvent, STOCK, STOCK_DROPPED, STOCK_UPDATE, StockChange, StockDroppedRow, StockEvent, StockMode,
    StockRow, StockUpdateRow, encode_stock_update,
};

const UNKNOWN: u8 = 200;

/// Returns a valid record of a kind. Records of all kinds, in order of their numbers, are consistent with each
/// other.
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
        CLICK => out.extend([&encode_header(1, 2, 3)[..], b"{}"].concat()),
        SERVICE_EVENT => {
            let (source, event_type, payload) = ("web", "view", "{}");
            let (timestamp_us, received_us, event_id) = (1, 2, "e");
            ServiceEventRow { timestamp_us, received_us, tenant_id, event_id, source, event_type, payload }
                .encode(out);
        }
        ORDER => {
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
        ORDER_STATUS => {
            StatusRow { received_us: 6, occurred_us: 5, status: OrderStatus::Refunded, tenant_id, order_id }
                .encode(out)
        }
        INGEST => {
            let (fingerprint, response) = (&[7; 32], "{}");
            IngestRow { finished_us: 7, expires_us: 8, scope: "t", key: "k", fingerprint, response }
                .encode(out);
        }
        PRICE => price("known", 100).encode(out),
        STOCK => StockRow { observed: observed("s1"), change: StockChange::Quantity(9) }.encode(out),
        PRICE_EVENT => {
            let rules = PriceRules { change_bp: 1, score_milli: 1_000, window: 10 };
            PriceEventRow::new(price("out of line", 900), rules).encode(out);
        }
        PRICE_REVIEW => {
            let anomaly = AnomalyId::of(keys, tenant_id, product_id, "out of line");
            let decision = Decision::Approve;
            PriceReviewRow { decision, received_us: 9, anomaly, tenant_id, product_id }.encode(out);
        }
        STOCK_UPDATE => {
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
        ERASURE => {
            let subject = Subject::Customer {
                tenant_id: tenant_id.to_owned(),
                customer_id: "another".to_owned(),
                token: "anon".to_owned(),
                names: Vec::new(),
                emails: Vec::new(),
            };
            ErasureRecord::Suppress { mode: ErasureMode::Erase, subject }.encode(out).unwrap();
        }
        STOCK_DROPPED => StockDroppedRow {
            tenant_id,
            product_id: "sold out",
            quantity: 0,
            version: 2,
            newest_us: 3,
            newest_event_id: "s0",
            updated_us: 4,
            events: vec![DroppedEvent { event: 1, content: 2, version: 1, stock: 0 }],
        }
        .encode(out),
        SALES_DROPPED => {
            let (mut customers, mut order_value) = (Vec::new(), Vec::new());
            HyperLogLog::new().encode(&mut customers);
            TDigest::new(TDigest::COMPRESSION_DEFAULT).encode(&mut order_value);
            DroppedSumRow {
                by: Some(SumsBy::Day),
                start_us: 0,
                counts: [1, 2, 900],
                tenant_id,
                currency: Currency::parse("EUR").unwrap(),
                product_id: "",
                category: "",
                customers: &customers,
                order_value: &order_value,
            }
            .encode(out);
        }
        other => panic!("no good record of {other:?}"),
    }
    bytes
}

/// Applies one record and returns its outcome, if one is reported.
fn apply(shard: &mut Shard, number: u8, payload: &[u8]) -> (Applied, Option<Outcome>) {
    let next = Sequence(shard.position(KEYED).0 + 1);
    let (lane, mut reported) = (Lane(vec![(next, number, payload.to_vec())]), Vec::new());
    let applied = shard.apply(&[(KEYED, &lane)], &mut |_, _, outcome| reported.push(outcome)).unwrap();
    assert!(reported.len() <= 1);
    (applied, reported.pop())
}

fn counts(shard: &Shard) -> u64 {
    shard.rows() + shard.rejected()
}

/// Returns rows of all kinds, in order of their numbers.
fn kinds() -> Vec<&'static KindRow> {
    let mut kinds: Vec<_> = FAMILIES.kinds().collect();
    kinds.sort_by_key(|row| row.kind);
    kinds
}

#[test]
fn numbers_and_names_stay_what_they_are() {
    let known = [
        (1, "click", "not a click"),
        (2, "service_event", "not an event"),
        (3, "order", "not an order"),
        (4, "order_status", "not a status of an order"),
        (5, "ingest", "not a finished ingest"),
        (6, "price", "not a price"),
        (7, "stock", "not a stock event"),
        (8, "price_event", "not a price event"),
        (9, "price_review", "not a decision on a price"),
        (10, "stock_update", "not a change of stock"),
        (11, "erasure", "not an erasure"),
        (12, "stock_dropped", "not the deleted events of stock"),
        (13, "sales_dropped", "not a sum of dropped orders"),
    ];
    let rows: Vec<_> = kinds().iter().map(|row| (row.kind.number(), row.name, row.rejection)).collect();
    assert_eq!(rows, known);
}

#[test]
fn every_number_is_one_kind_or_none() {
    let rows = kinds();
    assert_eq!(rows.iter().map(|row| row.kind).collect::<BTreeSet<_>>().len(), rows.len());
    assert_eq!(rows.iter().map(|row| row.name).collect::<BTreeSet<_>>().len(), rows.len());
    for number in 0..=u8::MAX {
        let known = rows.iter().find(|row| row.kind.number() == number).copied();
        assert_eq!(FAMILIES.kind(number), known, "{number}");
    }
}

#[test]
fn every_stream_has_a_place_of_its_own_and_every_version_a_description() {
    let places = || {
        let ledgers = FAMILIES.ledgers().map(|ledger| ledger.place);
        FAMILIES.streams().map(|stream| stream.place).chain(ledgers)
    };
    assert_eq!(places().collect::<BTreeSet<_>>().len(), places().count());
    assert!(places().all(|place| place < STREAMS_MAX));
    assert_eq!(FAMILIES.versions.len() as u32, VERSION);
}

#[test]
fn a_good_record_of_every_kind_is_stored_placed_and_counted_as_the_table_says() {
    let dir = tempfile::tempdir().unwrap();
    let mut shard = open(dir.path());
    let keys = KeyHasher::new(&super::options().folder_id);
    for row in kinds() {
        let (kind, payload) = (row.kind, good(&keys, row.kind));
        let is_keyed = row.placement == Placement::KeyShard;
        assert_eq!(FAMILIES.key_of(&keys, kind, &payload).is_some(), is_keyed, "{kind:?}");
        let before = counts(&shard);
        let (applied, reported) = apply(&mut shard, kind.number(), &payload);
        assert_eq!(applied.rejected, 0, "{kind:?}");
        // The price is an anomaly.
        let stored = if kind == PRICE_EVENT { Outcome::Flagged } else { Outcome::Inserted };
        assert_eq!(reported, row.is_keyed().then_some(stored), "{kind:?}");
        assert_eq!(counts(&shard) - before, u64::from(row.is_counted), "{kind:?}");
    }
    sound(shard.path());
}

#[test]
fn a_bad_record_of_every_kind_is_rejected_under_its_name_and_carried_as_what_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let mut shard = open(dir.path());
    let keys = KeyHasher::new(&super::options().folder_id);
    for row in kinds() {
        apply(&mut shard, row.kind.number(), &good(&keys, row.kind));
    }
    let numbers = kinds().into_iter().map(|row| row.kind.number()).chain([0, UNKNOWN]);
    let mut kept = Vec::new();
    for number in numbers {
        let row = FAMILIES.kind(number);
        assert!(row.is_none_or(|row| FAMILIES.key_of(&keys, row.kind, b"\xff").is_none()));
        let (applied, reported) = apply(&mut shard, number, b"\xff");
        assert_eq!(applied, Applied { rejected: 1, ..Applied::default() }, "{number}");
        let is_reported = row.is_none_or(|row| row.kind != CLICK);
        assert_eq!(reported, is_reported.then_some(Outcome::Rejected), "{number}");
        kept.push((number, row.map_or("unknown kind", |row| row.rejection).to_owned()));
    }
    let reader = open_reader(shard.path()).unwrap();
    let mut statement = reader.prepare("SELECT kind, reason FROM rejected_record ORDER BY sequence").unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    assert_eq!(rows.collect::<Result<Vec<(u8, String)>, _>>().unwrap(), kept);

    let mut carried = Vec::new();
    carry::<ShardError>(&reader, &keys, &FAMILIES, 3, &mut |records| {
        carried.extend_from_slice(records);
        Ok(())
    })
    .unwrap();
    // Each stored kind is carried, on its own or within the record of another kind.
    let rows = carried.iter().filter_map(|record| match record {
        Carried::Row(kind, _) => Some(*kind),
        Carried::Rejected(..) => None,
    });
    let handed_out: BTreeSet<Kind> = rows.collect();
    let within = |kind: &Kind| *kind == PRICE_REVIEW;
    let expected: BTreeSet<Kind> =
        kinds().into_iter().map(|row| row.kind).filter(|kind| !within(kind)).collect();
    assert_eq!(handed_out, expected);
    let rejected = kept.iter().map(|(number, _)| Carried::Rejected(*number, b"\xff".to_vec()));
    assert!(rejected.into_iter().all(|record| carried.contains(&record)));
    assert_eq!(carried.iter().filter(|record| FAMILIES.counts(record)).count() as u64, counts(&shard));
    sound(shard.path());
}
