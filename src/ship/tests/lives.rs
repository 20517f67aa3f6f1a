//! A file that continues elsewhere sends what it has in addition, and nothing twice.

use std::sync::Arc;

use rusqlite::Connection;

use super::rig::{Rig, click, order, ship, status};
use super::target::MemorySink;
use crate::orders::OrderStatus;
use crate::ship::notes::{add_whole_epochs, whole_epochs};
use crate::ship::rows::ShipStream;
use crate::ship::shipper::ShipError;
use crate::ship::sink::{EpochId, Places};
use crate::ship::source::ReadLimits;

/// Returns the ids of the clicks in the target.
fn clicks(rig: &Rig) -> Vec<i64> {
    rig.target.ids(ShipStream::Clicks)
}

fn epochs(rig: &Rig) -> usize {
    rig.target.with(|content| content.places.len())
}

#[test]
fn a_restored_copy_sends_its_own_rows_and_none_twice() {
    let mut rig = Rig::new();
    rig.store(&(1..=50).map(click).collect::<Vec<_>>());
    rig.ship();
    // A backup, before the first life continues.
    let copy = rig.backup();
    rig.store(&(51..=80).map(click).collect::<Vec<_>>());
    rig.ship();
    assert_eq!(clicks(&rig), (1..=80).collect::<Vec<_>>());
    // The copy takes the place of the file, and gets other rows under the same ids.
    rig.replace(&copy);
    rig.store(&(901..=905).map(click).collect::<Vec<_>>());
    rig.ship();
    assert_eq!(epochs(&rig), 2);
    let mut numbers: Vec<i64> = rig.target.with(|content| {
        let of = |text: &String| {
            let (_, rest) = text.split_once("user_id: ").unwrap();
            rest.split(',').next().unwrap().parse::<i64>().unwrap()
        };
        content.rows.iter().filter(|(row, _)| row.1 == ShipStream::Clicks).map(|(_, text)| of(text)).collect()
    });
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=80).chain(901..=905).collect::<Vec<_>>());
}

#[test]
fn a_copy_that_the_target_is_behind_continues_at_the_targets_place() {
    let mut rig = Rig::new();
    rig.store(&(1..=30).map(click).collect::<Vec<_>>());
    rig.ship();
    rig.store(&(31..=50).map(click).collect::<Vec<_>>());
    let copy = rig.backup();
    rig.replace(&copy);
    rig.ship();
    assert_eq!((epochs(&rig), clicks(&rig).len()), (2, 50));
}

#[test]
fn a_file_that_is_replaced_under_a_running_shipper_begins_its_epoch() {
    let mut rig = Rig::new();
    rig.store(&(1..=10).map(click).collect::<Vec<_>>());
    let mut shipper = rig.shipper();
    ship(&mut shipper);
    let copy = rig.backup();
    rig.replace(&copy);
    rig.store(&[click(11)]);
    ship(&mut shipper);
    assert_eq!((epochs(&rig), clicks(&rig).len()), (2, 11));
}

#[test]
fn an_epoch_that_is_only_in_the_wal_is_not_used() {
    let mut rig = Rig::new();
    rig.store(&[click(1)]);
    let connection = Connection::open(rig.path()).unwrap();
    connection.execute("DELETE FROM checkpointed WHERE stream = 'epoch'", []).unwrap();
    let mut shipper = rig.shipper();
    for _ in 0..3 {
        assert!(shipper.turn().unwrap().is_waiting);
    }
    assert_eq!((epochs(&rig), clicks(&rig).len()), (0, 0));
}

#[test]
fn a_target_with_rows_that_the_file_has_never_had_stops_the_shard() {
    let mut rig = Rig::new();
    rig.store(&[click(1), order(1, OrderStatus::Pending), status(1, OrderStatus::Paid, 5)]);
    rig.ship();
    for stream in [ShipStream::Clicks, ShipStream::Changes, ShipStream::StockEvents] {
        let place = rig.target.place(stream);
        rig.target.with(|content| content.places.values_mut().for_each(|of| _ = of.insert(stream, 1_000)));
        let error = rig.shipper().turn().unwrap_err();
        assert!(matches!(error, ShipError::Ahead { .. }) && !error.is_passing(), "{error}");
        assert!(error.to_string().contains("1000") && error.to_string().contains(stream.as_str()), "{error}");
        rig.target.with(|content| content.places.values_mut().for_each(|of| _ = of.insert(stream, place)));
    }
    rig.ship();
}

#[test]
fn a_place_that_only_a_lost_note_of_the_checkpoint_contradicts_is_right() {
    let mut rig = Rig::new();
    rig.store(&(1..=5).map(click).collect::<Vec<_>>());
    rig.ship();
    // A power cut may lose the note, which is written after the rows.
    let connection = Connection::open(rig.path()).unwrap();
    connection.execute("UPDATE checkpointed SET last = 2 WHERE stream = 'click'", []).unwrap();
    rig.ship();
    assert_eq!(clicks(&rig), [1, 2, 3, 4, 5]);
}

/// Makes the file one that a reshard has written.
fn become_resharded(rig: &Rig) -> String {
    let connection = Connection::open(rig.path()).unwrap();
    connection
        .execute_batch(
            "UPDATE epoch SET reason = 'resharded'; \
             INSERT OR REPLACE INTO epoch_start (epoch, stream, last) SELECT number, 'click', 20 FROM epoch;",
        )
        .unwrap();
    connection.query_row("SELECT id FROM epoch", [], |row| row.get(0)).unwrap()
}

/// Puts a place of another shard of the folder into the target.
fn ship_another_shard(rig: &Rig) {
    rig.target.with(|content| _ = content.places.insert(EpochId("other".to_owned()), Places::new()));
}

#[test]
fn a_resharded_file_sends_only_what_comes_later() {
    let mut rig = Rig::new();
    rig.store(&(1..=20).map(click).collect::<Vec<_>>());
    become_resharded(&rig);
    ship_another_shard(&rig);
    rig.store(&[click(21)]);
    rig.ship();
    assert_eq!(clicks(&rig), [21]);
}

#[test]
fn a_resharded_file_of_which_the_target_had_nothing_is_sent_whole() {
    let mut rig = Rig::new();
    rig.store(&(1..=20).map(click).collect::<Vec<_>>());
    let epoch = become_resharded(&rig);
    let first = add_whole_epochs(rig.data(), "pg", [epoch.clone()].into()).unwrap();
    assert_eq!(first, [epoch].into());
    // Another shard began to be sent before this one, and the process ended in between.
    ship_another_shard(&rig);
    let whole = Arc::new(whole_epochs(rig.data(), "pg").unwrap());
    ship(&mut rig.shipper_of(MemorySink::new(&rig.target), ReadLimits::MAX, whole));
    assert_eq!(clicks(&rig), (1..=20).collect::<Vec<_>>());
}
