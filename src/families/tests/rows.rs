//! The content of the tables, and how it appears in the sqlite3 shell.

use super::{HOT, KEYED, Lane, clicks, folder, open, options, payload, sound, users};
use crate::base::ids::{LaneId, Sequence};
use crate::clicks::CLICKS;
use crate::families::FAMILIES;
use crate::shard::{Applied, Shard, ShardError, ShardOptions, inspect, open_reader, verify};

#[test]
fn the_same_records_are_stored_once_however_often_they_come() {
    let dir = tempfile::tempdir().unwrap();
    let mut shard = open(dir.path());
    let first = shard.apply(&[(HOT, &clicks(1..=3)), (KEYED, &clicks(1..=2))], &mut |_, _, _| {}).unwrap();
    assert_eq!((first.stored(&CLICKS), first.skipped, first.received_us_max), (5, 0, Some(3_001)));
    // The shard is closed without a checkpoint and reopened. The journal then repeats records and adds new ones.
    shard.poison();
    let mut shard = open(dir.path());
    assert_eq!(shard.position(HOT), Sequence(3));
    let again = shard.apply(&[(HOT, &clicks(1..=4)), (KEYED, &clicks(1..=2))], &mut |_, _, _| {}).unwrap();
    assert_eq!((again.stored(&CLICKS), again.skipped), (1, 5));
    assert_eq!(users(shard.path()), [1, 2, 3, 1, 2, 4]);
    assert_eq!(shard.positions(), [(HOT, Sequence(4)), (KEYED, Sequence(2))]);
    assert_eq!((shard.stored(&CLICKS), sound(shard.path())), (6, 6));
}

#[test]
fn a_record_that_is_no_row_is_kept_aside_and_stops_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut shard = open(dir.path());
    let mut lane = clicks(1..=4);
    lane.0[1].1 = 200;
    lane.0[2].2 = vec![7; 10];
    let applied = shard.apply(&[(HOT, &lane)], &mut |_, _, _| {}).unwrap();
    assert_eq!(
        applied,
        Applied {
            stored: [2, 0, 0, 0, 0, 0, 0, 0],
            rejected: 2,
            received_us_max: Some(4_001),
            ..Applied::default()
        }
    );
    assert_eq!(users(shard.path()), [1, 4]);
    assert_eq!((shard.rejected(), shard.position(HOT)), (2, Sequence(4)));
    let reader = open_reader(shard.path()).unwrap();
    let kept: (i64, i64, Vec<u8>, String) = reader
        .query_row("SELECT sequence, kind, payload, reason FROM rejected_record WHERE kind = 1", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })
        .unwrap();
    assert_eq!(kept, (3, 1, vec![7; 10], "not a click".to_owned()));
    sound(shard.path());
}

#[test]
fn a_lane_that_cannot_be_is_refused_and_nothing_is_stored() {
    let dir = tempfile::tempdir().unwrap();
    let mut shard = open(dir.path());
    let refused = shard.apply(&[(HOT, &clicks(1..=2)), (LaneId(64), &clicks(1..=2))], &mut |_, _, _| {});
    assert!(matches!(refused, Err(ShardError::Other(_))));
    assert_eq!(
        (shard.stored(&CLICKS), shard.position(HOT), users(shard.path()).len()),
        (0, Sequence::NONE, 0)
    );
    assert_eq!(shard.apply(&[(HOT, &clicks(1..=2))], &mut |_, _, _| {}).unwrap().stored(&CLICKS), 2);
}

#[test]
fn the_view_shows_readable_times_before_1970_too() {
    let dir = tempfile::tempdir().unwrap();
    let mut shard = open(dir.path());
    let times = [
        (1_705_228_200_000_000, "2024-01-14T10:30:00.000000Z"),
        (1, "1970-01-01T00:00:00.000001Z"),
        (0, "1970-01-01T00:00:00.000000Z"),
        (-1, "1969-12-31T23:59:59.999999Z"),
        (-1_000_000, "1969-12-31T23:59:59.000000Z"),
        (-62_167_219_200_000_000, "0000-01-01T00:00:00.000000Z"),
        (253_402_300_799_999_999, "9999-12-31T23:59:59.999999Z"),
        (253_402_300_800_000_000, "253402300800000000us"),
    ];
    let records = times.iter().enumerate();
    let lane =
        Lane(records.map(|(n, (time, _))| (Sequence(n as u64 + 1), 1, payload(7, *time, "{}"))).collect());
    shard.apply(&[(HOT, &lane)], &mut |_, _, _| {}).unwrap();
    let reader = open_reader(shard.path()).unwrap();
    let mut statement = reader
        .prepare("SELECT id, user_id, timestamp, metadata, created_at FROM events ORDER BY id")
        .unwrap();
    let shown: Vec<String> =
        statement.query_map([], |row| row.get(2)).unwrap().collect::<Result<_, _>>().unwrap();
    assert_eq!(shown, times.map(|(_, text)| text));
    let created: String =
        reader.query_row("SELECT created_at FROM events WHERE id = 2", [], |row| row.get(0)).unwrap();
    assert_eq!(created, "1970-01-01T00:00:00.000002Z");
}

#[test]
fn a_full_partition_is_sealed_and_gets_its_index_in_slices() {
    let dir = tempfile::tempdir().unwrap();
    let options = ShardOptions { partition_rows_max: 1_000, ..options() };
    let reopen = || super::reopen(dir.path(), &options);
    let mut shard = reopen();
    assert!(!shard.apply(&[(HOT, &clicks(1..=1_000))], &mut |_, _, _| {}).unwrap().sealed);
    assert!(!shard.upkeep_due());
    assert!(shard.apply(&[(HOT, &clicks(1_001..=1_002))], &mut |_, _, _| {}).unwrap().sealed);
    // This reader stays open, with the old schema in memory.
    let reader = open_reader(shard.path()).unwrap();
    let count = |sql: &str| reader.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(count("SELECT count(*) FROM click WHERE user_id = 3"), 1);
    let mut next = 1_003;
    let built = loop {
        // Each slice processes a few rows. Between slices, new rows arrive and an occasional crash happens.
        if let Some(built) = shard.upkeep(std::time::Duration::ZERO).unwrap() {
            break built;
        }
        if next % 7 == 0 {
            shard.apply(&[(HOT, &clicks(next..=next))], &mut |_, _, _| {}).unwrap();
        }
        if next % 400 == 0 {
            shard.poison();
            shard = reopen();
        }
        next += 1;
        std::thread::yield_now();
    };
    assert_eq!((built.index.as_str(), built.rows), ("click_000001_user", 1_000));
    assert!(!shard.upkeep_due());
    let found = inspect(shard.path(), &FAMILIES).unwrap();
    let first = &found.partitions[0];
    assert_eq!(
        (first.name.as_str(), first.rows, first.sealed, first.indexed),
        ("click_000001", 1_000, true, true)
    );
    assert_eq!(first.timestamp_us, Some((1_000, 1_000_000)));
    // Every connection sees the finished index, including the reader that was already open. The index has every row.
    assert_eq!(
        count("SELECT count(*) FROM click_000001 INDEXED BY click_000001_user WHERE user_id > 0"),
        1_000
    );
    assert_eq!(count("SELECT count(*) FROM sqlite_schema WHERE name LIKE '%_build'"), 0);
    let mut plan = reader.prepare("EXPLAIN QUERY PLAN SELECT * FROM events WHERE user_id = 3").unwrap();
    let plan: Vec<String> = plan.query_map([], |row| row.get(3)).unwrap().collect::<Result<_, _>>().unwrap();
    assert!(plan.iter().any(|line| line.contains("USING INDEX click_000001_user")), "{plan:?}");
    sound(shard.path());
    drop(shard);
    sound(reopen().path());
}

#[test]
fn a_thousand_partitions_read_as_one_table() {
    let dir = tempfile::tempdir().unwrap();
    let options = ShardOptions { partition_rows_max: 1, ..options() };
    let mut shard = Shard::open(&folder(dir.path()), &options, &FAMILIES).unwrap();
    for n in 1..=1_000 {
        shard.apply(&[(HOT, &clicks(n..=n))], &mut |_, _, _| {}).unwrap();
    }
    let reader = open_reader(shard.path()).unwrap();
    // This is the limit of the stock sqlite3 shell.
    reader.set_limit(rusqlite::limits::Limit::SQLITE_LIMIT_COMPOUND_SELECT, 500).unwrap();
    let sums: (i64, i64, i64) = reader
        .query_row("SELECT count(*), sum(user_id), max(id) FROM events", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .unwrap();
    assert_eq!(sums, (1_000, 500_500, 1_000));
    let one: i64 =
        reader.query_row("SELECT user_id FROM events WHERE id = 777", [], |row| row.get(0)).unwrap();
    assert_eq!(one, 777);
    assert_eq!(inspect(shard.path(), &FAMILIES).unwrap().partitions.len(), 1_000);
}

#[test]
fn verify_says_where_a_counter_lies() {
    let dir = tempfile::tempdir().unwrap();
    let mut shard = open(dir.path());
    shard.apply(&[(HOT, &clicks(1..=5))], &mut |_, _, _| {}).unwrap();
    let path = shard.path().to_owned();
    drop(shard);
    let stranger = rusqlite::Connection::open(&path).unwrap();
    stranger.execute_batch("DELETE FROM click_000001 WHERE id = 5").unwrap();
    let problems = verify(&path, &FAMILIES).unwrap().problems;
    assert!(problems.contains(&"click_000001 has 4 rows, its counter says 5".to_owned()), "{problems:?}");
    assert!(problems.contains(&"rows: 4 counted, the total says 5".to_owned()), "{problems:?}");
    assert!(
        problems.iter().any(|line| line.contains("times that its catalogue row does not")),
        "{problems:?}"
    );
}

#[test]
fn a_foreign_or_newer_file_is_refused_and_not_changed() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let path = folder(dir.path()).database();
    let stranger = rusqlite::Connection::open(&path).unwrap();
    stranger.execute_batch("PRAGMA user_version = 99").unwrap();
    let refused = Shard::open(&folder(dir.path()), &options(), &FAMILIES);
    assert!(matches!(refused, Err(ShardError::TooNew { found: 99, known: 17 })));
    stranger.execute_batch("PRAGMA user_version = 2; PRAGMA application_id = 5").unwrap();
    drop(stranger);
    let before = std::fs::read(&path).unwrap();
    assert!(matches!(Shard::open(&folder(dir.path()), &options(), &FAMILIES), Err(ShardError::Foreign(_))));
    assert_eq!(std::fs::read(&path).unwrap(), before);
}
