//! The feed of changes and the epochs of row ids: everything that changes is in the feed once, streams of prices see
//! only theirs, and a file that is another one begins an epoch.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use super::orders::Order;
use super::{KEYED, Lane, folder, open, options, reopen};
use crate::base::ids::{Sequence, ShardId};
use crate::base::money::Currency;
use crate::base::observed::Observed;
use crate::base::prices::PriceRules;
use crate::families::FAMILIES;
use crate::orders::{ORDER, ORDER_STATUS, OrderStatus, StatusRow};
use crate::prices::{
    AnomalyId, ChangeMark, Decision, PRICE_EVENT, PRICE_REVIEW, PriceEventRow, PriceReviewRow, PriceRow,
    change_mark, changes,
};
use crate::shard::{
    CHANGES, CheckpointMode, Confirmed, EPOCH, Epoch, EpochReason, Outcome, Shard, ShardError, ShardOptions,
    ShipOptions, SinkEntry, backup, checkpointed, epochs, open_reader, register_sink, remove_sink,
    write_confirmed,
};

/// A shard that gets records one at a time.
struct Sender {
    shard: Shard,
    sequence: u64,
}

impl Sender {
    fn open(dir: &Path) -> Sender {
        let shard = open(dir);
        let sequence = shard.position(KEYED).0;
        Sender { shard, sequence }
    }

    fn send(&mut self, records: &[(u8, Vec<u8>)]) -> Vec<Outcome> {
        let mut lane = Lane::default();
        for (kind, bytes) in records {
            self.sequence += 1;
            lane.0.push((Sequence(self.sequence), *kind, bytes.clone()));
        }
        let mut said = Vec::new();
        self.shard.apply(&[(KEYED, &lane)], &mut |_, _, outcome| said.push(outcome)).unwrap();
        said
    }

    fn order(&mut self, id: u8) -> Outcome {
        self.send(&[(ORDER.number(), Order::of(0, id, id).record((0, 0)))])[0]
    }

    fn status(&mut self, id: u8, status: OrderStatus, at_us: i64) -> Outcome {
        self.send(&[status_record(id, status, at_us)])[0]
    }

    /// Sends a price. One of 900 is out of line.
    fn price(&mut self, id: &str, at_us: i64, price: i64) -> Outcome {
        let observed = Observed { at_us, received_us: at_us, tenant_id: "t", product_id: "p", event_id: id };
        let row = PriceRow { observed, price, currency: Currency::parse("USD").unwrap() };
        let mut bytes = Vec::new();
        PriceEventRow::new(row, PriceRules { change_bp: 3_000, score_milli: 6_000, window: 6 })
            .encode(&mut bytes);
        self.send(&[(PRICE_EVENT.number(), bytes)])[0]
    }

    fn reject(&mut self, id: &str) -> Outcome {
        let anomaly = AnomalyId::of(self.shard.keys(), "t", "p", id);
        let mut bytes = Vec::new();
        PriceReviewRow {
            received_us: 77,
            decision: Decision::Reject,
            anomaly,
            tenant_id: "t",
            product_id: "p",
        }
        .encode(&mut bytes);
        self.send(&[(PRICE_REVIEW.number(), bytes)])[0]
    }

    fn feed(&mut self) -> Vec<Change> {
        feed(self.shard.path())
    }
}

fn status_record(id: u8, status: OrderStatus, at_us: i64) -> (u8, Vec<u8>) {
    let mut bytes = Vec::new();
    StatusRow {
        received_us: at_us + 1,
        occurred_us: at_us,
        status,
        tenant_id: "tenant 0",
        order_id: &format!("ord-{id:02}"),
    }
    .encode(&mut bytes);
    (ORDER_STATUS.number(), bytes)
}

/// Number, kind, whether it has a tenant, subject, value and time.
type Change = (i64, String, bool, i64, Option<i64>, i64);

fn feed(path: &Path) -> Vec<Change> {
    let reader = open_reader(path).unwrap();
    let sql = "SELECT seq, kind, tenant IS NOT NULL, ref, value, at_us FROM change ORDER BY seq";
    let mut statement = reader.prepare(sql).unwrap();
    let read = |row: &rusqlite::Row<'_>| {
        Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?))
    };
    statement.query_map([], read).unwrap().collect::<Result<_, _>>().unwrap()
}

fn change(seq: i64, kind: &str, of: i64, value: Option<i64>, at_us: i64) -> Change {
    (seq, kind.to_owned(), matches!(kind, "anomaly" | "review"), of, value, at_us)
}

fn epochs_of(path: &Path) -> Vec<Epoch> {
    epochs(&open_reader(path).unwrap()).unwrap()
}

fn reasons(epochs: &[Epoch]) -> Vec<EpochReason> {
    epochs.iter().map(|epoch| epoch.reason).collect()
}

fn places(path: &Path) -> BTreeMap<String, i64> {
    checkpointed(&open_reader(path).unwrap()).unwrap()
}

fn mark(path: &Path) -> ChangeMark {
    change_mark(&open_reader(path).unwrap()).unwrap()
}

/// Checkpoints and notes how far the file is complete.
fn complete(shard: &mut Shard) {
    assert!(shard.checkpoint(CheckpointMode::Passive).unwrap().complete);
    shard.save_checkpointed().unwrap();
}

#[test]
fn c1_every_applied_change_is_in_the_feed_once_and_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let mut sender = Sender::open(dir.path());
    sender.order(1);
    sender.order(2);
    assert_eq!(sender.feed(), [], "an order is a row and no change");
    assert_eq!(sender.status(1, OrderStatus::Shipped, 20), Outcome::Inserted);
    assert_eq!(sender.status(1, OrderStatus::Shipped, 21), Outcome::Duplicate);
    assert_eq!(sender.status(1, OrderStatus::Paid, 10), Outcome::Superseded);
    assert_eq!(sender.status(9, OrderStatus::Paid, 10), Outcome::Missing);
    sender.price("a", 1, 100);
    assert_eq!(sender.price("odd", 2, 900), Outcome::Flagged);
    assert_eq!(sender.status(2, OrderStatus::Cancelled, 30), Outcome::Inserted);
    assert_eq!(sender.reject("odd"), Outcome::Inserted);
    let expected = [
        change(1, "status", 1, Some(i64::from(OrderStatus::Shipped.code())), 21),
        change(2, "anomaly", 1, None, 2),
        change(3, "status", 2, Some(i64::from(OrderStatus::Cancelled.code())), 31),
        change(4, "review", 1, None, 77),
    ];
    assert_eq!(sender.feed(), expected);

    // A batch that is applied again changes nothing.
    let again =
        Lane(vec![(Sequence(3), ORDER_STATUS.number(), status_record(1, OrderStatus::Shipped, 20).1)]);
    assert_eq!(sender.shard.apply(&[(KEYED, &again)], &mut |_, _, _| {}).unwrap().skipped, 1);
    assert_eq!(sender.feed(), expected);
}

#[test]
fn a_stream_of_prices_sees_only_changes_of_prices() {
    let dir = tempfile::tempdir().unwrap();
    let mut sender = Sender::open(dir.path());
    sender.order(1);
    sender.price("a", 1, 100);
    sender.price("odd", 2, 900);
    let before = mark(sender.shard.path());
    assert_eq!(before.change, 1);
    for turn in 0..50 {
        let status = if turn % 2 == 0 { OrderStatus::Shipped } else { OrderStatus::Delivered };
        sender.status(1, status, 100 + turn);
    }
    assert_eq!(mark(sender.shard.path()), before, "other changes do not move a stream");
    assert_eq!(sender.price("odder", 3, 900), Outcome::Flagged);
    let reader = open_reader(sender.shard.path()).unwrap();
    for tenant in [None, Some("t")] {
        let found = changes(&reader, tenant, (0, u64::MAX), 10).unwrap();
        assert_eq!(found.iter().map(|change| change.change).collect::<Vec<_>>(), [1, 52]);
        let found = changes(&reader, tenant, (1, 51), 10).unwrap();
        assert_eq!(found, [], "a resumed stream does not repeat");
    }
    let is_price = "SELECT count(*) FROM change INDEXED BY change_price WHERE kind IN ('anomaly', 'review')";
    let entries: i64 = reader.query_row(is_price, [], |row| row.get(0)).unwrap();
    assert_eq!(entries, 2);
}

#[test]
fn c1_an_epoch_begins_in_a_copied_file_and_in_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let mut sender = Sender::open(dir.path());
    sender.order(1);
    sender.status(1, OrderStatus::Shipped, 5);
    complete(&mut sender.shard);
    let path = sender.shard.path().to_owned();
    let made = epochs_of(&path);
    assert_eq!(reasons(&made), [EpochReason::Made]);
    assert_eq!((made[0].number, made[0].id.len(), made[0].starts.len()), (1, 32, 0));
    drop(sender);
    drop(open(dir.path()));
    let other = dir.path().join("elsewhere");
    fs::rename(dir.path().join("shard-00"), &other).unwrap();
    fs::rename(&other, dir.path().join("shard-00")).unwrap();
    let mut sender = Sender::open(dir.path());
    assert_eq!(epochs_of(&path), made, "neither a restart nor a rename begins an epoch");

    // Rows that are only in the WAL of the original may be others in the copy.
    sender.order(2);
    let numbering = mark(&path);
    drop(sender);
    let copy = dir.path().join("copy");
    fs::copy(&path, &copy).unwrap();
    fs::rename(&copy, &path).unwrap();
    let sender = Sender::open(dir.path());
    let found = epochs_of(&path);
    assert_eq!(reasons(&found), [EpochReason::Made, EpochReason::Copied]);
    assert_eq!(found[0], made[0]);
    assert_ne!(found[1].id, made[0].id);
    assert_eq!(found[1].starts["sales_order"], 1, "order 2 was not noted as complete");
    assert_eq!(found[1].starts[CHANGES], 1);
    assert_eq!(found[1].starts["price_row"], 0);
    let now = mark(&path);
    assert_ne!(now.epoch, numbering.epoch, "positions of streams are of another numbering");
    let held = |change: u64| ChangeMark::at(numbering.epoch, change);
    assert!(!held(1).is_lost(now), "the copy has the same change");
    assert!(held(2).is_lost(now), "the copy may have another one");
    drop(sender);
    drop(open(dir.path()));
    assert_eq!(epochs_of(&path), found);
}

#[test]
fn an_inode_that_is_used_again_does_not_hide_a_copy() {
    let dir = tempfile::tempdir().unwrap();
    let mut sender = Sender::open(dir.path());
    sender.order(1);
    complete(&mut sender.shard);
    let (path, other) = (sender.shard.path().to_owned(), dir.path().join("backup").join("shard.db"));
    backup(&path, &other, 0, &FAMILIES, &mut |_, _| {}).unwrap();
    drop(sender);
    // The content of the file is replaced, and the file stays.
    fs::write(&path, fs::read(&other).unwrap()).unwrap();
    drop(open(dir.path()));
    assert_eq!(reasons(&epochs_of(&path)), [EpochReason::Made, EpochReason::Copied]);
}

#[test]
fn a_backup_is_complete_and_its_epoch_starts_at_its_last_rows() {
    let dir = tempfile::tempdir().unwrap();
    let mut sender = Sender::open(dir.path());
    sender.order(1);
    complete(&mut sender.shard);
    sender.order(2);
    sender.price("a", 1, 100);
    sender.price("odd", 2, 900);
    sender.status(2, OrderStatus::Shipped, 5);
    assert_eq!(places(sender.shard.path())["sales_order"], 1);
    let restored = tempfile::tempdir().unwrap();
    let copy = folder(restored.path()).database();
    let verified = backup(sender.shard.path(), &copy, i64::MAX, &FAMILIES, &mut |_, _| {}).unwrap();
    assert_eq!(verified.problems, Vec::<String>::new());
    let noted = places(&copy);
    let expected = [("sales_order", 2), ("price_row", 2), ("stock_event", 0), (CHANGES, 2), (EPOCH, 1)];
    for (stream, last) in expected {
        assert_eq!(noted[stream], last, "{stream}");
    }
    assert_eq!(epochs_of(&copy), epochs_of(sender.shard.path()), "it begins when the copy is served");
    drop(open(restored.path()));
    let found = epochs_of(&copy);
    assert_eq!(reasons(&found), [EpochReason::Made, EpochReason::Copied]);
    for (stream, last) in expected.into_iter().filter(|(stream, _)| *stream != EPOCH) {
        assert_eq!(found[1].starts[stream], last, "{stream}");
    }
}

#[test]
fn a_healed_file_is_complete_and_begins_an_epoch() {
    let dir = tempfile::tempdir().unwrap();
    let mut sender = Sender::open(dir.path());
    sender.order(1);
    complete(&mut sender.shard);
    sender.order(2);
    let path = sender.shard.path().to_owned();
    fs::remove_file(&path).unwrap();
    sender.shard.heal().unwrap();
    sender.shard.poison();
    drop(open(dir.path()));
    let found = epochs_of(&path);
    assert_eq!(reasons(&found), [EpochReason::Made, EpochReason::Copied]);
    assert_eq!(found[1].starts["sales_order"], 2);
}

#[test]
fn on_a_full_disk_the_epoch_begins_with_the_next_commit() {
    let dir = tempfile::tempdir().unwrap();
    let mut sender = Sender::open(dir.path());
    sender.order(1);
    complete(&mut sender.shard);
    let path = sender.shard.path().to_owned();
    drop(sender);
    let copy = dir.path().join("copy");
    fs::copy(&path, &copy).unwrap();
    fs::rename(&copy, &path).unwrap();
    // Another program holds the lock, so nothing can be written.
    let lock = rusqlite::Connection::open(&path).unwrap();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut sender = Sender::open(dir.path());
    assert_eq!(reasons(&epochs_of(&path)), [EpochReason::Made]);
    let lane = Lane(vec![(Sequence(9), ORDER.number(), Order::of(0, 2, 2).record((0, 0)))]);
    let refused = sender.shard.apply(&[(KEYED, &lane)], &mut |_, _, _| {});
    assert!(matches!(refused, Err(ShardError::Busy)));
    lock.execute_batch("ROLLBACK").unwrap();
    sender.shard.apply(&[(KEYED, &lane)], &mut |_, _, _| {}).unwrap();
    let found = epochs_of(&path);
    assert_eq!(reasons(&found), [EpochReason::Made, EpochReason::Copied]);
    assert_eq!(found[1].starts["sales_order"], 1, "the row after the start is the epoch's own");
}

#[test]
fn what_is_checkpointed_is_never_ahead_of_the_file_without_its_wal() {
    let dir = tempfile::tempdir().unwrap();
    let mut sender = Sender::open(dir.path());
    let path = sender.shard.path().to_owned();
    let last = |path: &Path, sql: &str| -> i64 {
        open_reader(path).unwrap().query_row(sql, [], |row| row.get(0)).unwrap()
    };
    for id in 0..12 {
        sender.order(id);
        sender.price(&format!("p{id}"), i64::from(id), if id % 3 == 2 { 900 } else { 100 });
        sender.status(id, OrderStatus::Shipped, i64::from(id));
        if id % 4 == 1 {
            complete(&mut sender.shard);
        }
        let alone = tempfile::tempdir().unwrap();
        let copy = folder(alone.path()).database();
        fs::create_dir_all(copy.parent().unwrap()).unwrap();
        fs::copy(&path, &copy).unwrap();
        // Before the first checkpoint, the file has no tables.
        if id < 1 {
            continue;
        }
        let noted = places(&path);
        for (stream, sql) in [
            ("sales_order", "SELECT count(*) FROM orders"),
            ("price_row", "SELECT coalesce(max(id), 0) FROM price_row"),
            (CHANGES, "SELECT coalesce(max(seq), 0) FROM change"),
            (EPOCH, "SELECT max(number) FROM epoch"),
        ] {
            let (noted, found) = (noted.get(stream).copied().unwrap_or_default(), last(&copy, sql));
            assert!(noted <= found, "{stream} is noted up to {noted}, and the file has {found}");
        }
    }
    assert_eq!(places(&path)[EPOCH], 1);
}

#[test]
fn the_feed_is_trimmed_to_what_every_sink_has_confirmed() {
    let (dir, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let shipping =
        ShardOptions { ship: Some(ShipOptions::of(data.path().to_owned(), ShardId(0))), ..options() };
    let mut sender = Sender { shard: reopen(dir.path(), &shipping), sequence: 0 };
    sender.order(1);
    sender.price("a", 1, 100);
    sender.price("odd", 2, 900);
    for turn in 0..10 {
        let status = if turn % 2 == 0 { OrderStatus::Shipped } else { OrderStatus::Delivered };
        sender.status(1, status, 100 + turn);
    }
    let sink = |id: &str| SinkEntry {
        id: id.to_owned(),
        kind: "test".to_owned(),
        target: "nowhere".to_owned(),
        registered_at: "2026-01-01T00:00:00Z".to_owned(),
    };
    register_sink(data.path(), "one", &sink("id one")).unwrap();
    register_sink(data.path(), "two", &sink("id two")).unwrap();
    let epoch = epochs_of(sender.shard.path()).pop().unwrap().id;
    let confirm = |name: &str, sink: &str, epoch: &str, upto: i64| {
        let last = BTreeMap::from([(CHANGES.to_owned(), upto)]);
        let note = Confirmed { sink: sink.to_owned(), epoch: epoch.to_owned(), last, ..Confirmed::default() };
        write_confirmed(data.path(), name, ShardId(0), &note).unwrap();
    };
    let numbers = |sender: &mut Sender| -> Vec<i64> {
        sender.shard.trim_now();
        while sender.shard.upkeep_due() {
            sender.shard.upkeep(Duration::ZERO).unwrap();
        }
        sender.feed().into_iter().map(|change| change.0).collect()
    };
    let all: Vec<i64> = (1..=11).collect();
    assert_eq!(numbers(&mut sender), all, "nothing is confirmed");
    confirm("one", "id one", &epoch, 8);
    assert_eq!(numbers(&mut sender), all, "one of two");
    confirm("two", "id of another registration", &epoch, 8);
    assert_eq!(numbers(&mut sender), all);
    confirm("two", "id two", "another epoch", 8);
    assert_eq!(numbers(&mut sender), all);
    confirm("two", "id two", &epoch, 4);
    assert_eq!(numbers(&mut sender), [1, 5, 6, 7, 8, 9, 10, 11], "the anomaly stays with its price");
    drop(sender);
    let mut sender = Sender { shard: reopen(dir.path(), &shipping), sequence: 13 };
    remove_sink(data.path(), "one").unwrap();
    remove_sink(data.path(), "two").unwrap();
    assert_eq!(numbers(&mut sender), [1, 11], "without a sink, all but the newest");
    sender.status(1, OrderStatus::Refunded, 500);
    assert_eq!(numbers(&mut sender), [1, 12], "numbers are not given out again");
}

#[test]
fn the_change_of_an_erasure_stays_until_the_erasure_is_done() {
    let (dir, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let shipping =
        ShardOptions { ship: Some(ShipOptions::of(data.path().to_owned(), ShardId(0))), ..options() };
    let mut shard = reopen(dir.path(), &shipping);
    let connection = shard.connection();
    connection
        .execute_batch(
            "INSERT INTO erasure (number, id, mode, began_us, step, place, at, uploads, exports, names_truncated, \
             report) VALUES (1, 'e', 'erase', 1, 'rows', '', 0, 0, 0, 0, '{}'); \
             INSERT INTO change (kind, ref, value, at_us) VALUES ('status', 1, 3, 1), ('erasure', 1, NULL, 2), \
             ('erased', 8, 1, 2), ('status', 1, 4, 3), ('status', 1, 5, 3), ('status', 1, 4, 4);",
        )
        .unwrap();
    let numbers = |shard: &mut Shard| -> Vec<i64> {
        shard.trim_now();
        shard.trim(Duration::from_secs(1)).unwrap();
        feed(shard.path()).into_iter().map(|change| change.0).collect()
    };
    assert_eq!(numbers(&mut shard), [2, 6]);
    shard.connection().execute_batch("UPDATE erasure SET finished_us = 9").unwrap();
    assert_eq!(numbers(&mut shard), [6]);
}
