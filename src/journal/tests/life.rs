//! The ordinary life of a lane: append, read, restart, release, the cap.

use std::fs;

use super::*;
use crate::base::kinds::Kind;
use crate::base::limits::RECORD_BYTES_MAX;
use crate::journal::{AppendError, Gap, JournalError};

#[test]
fn records_come_back_in_order_as_they_were_appended() {
    let dir = tempfile::tempdir().unwrap();
    let (mut appender, mut reader, recovered) = reopen(dir.path(), 1 << 20);
    assert_eq!(recovered.last, Sequence::NONE);
    assert_eq!(appender.stage(Kind::new(1), &[b"a", b"", b"bc"]), Sequence(1));
    assert_eq!(appender.stage(Kind::new(1), &[]), Sequence(2));
    assert_eq!(appender.staged().0, 2);
    let mut batch = Batch::new();
    assert_eq!(reader.read(&mut batch, 10, 1000).unwrap(), 0, "staged is not published");
    let committed = appender.commit().unwrap();
    assert_eq!(committed.last, Sequence(2));
    assert_eq!(committed.end, appender.state().end());
    assert_eq!(appender.state().writes(), 1, "one write a commit");
    append(&mut appender, &[b"third"]);
    assert_eq!(appender.state().writes(), 2);
    assert_eq!(drain(&mut reader), numbered(&[b"abc", b"", b"third"]));
    assert_eq!(reader.state().pending_bytes(), 0);
    assert_eq!(appender.commit().unwrap().last, Sequence(3), "an empty commit writes nothing");
    assert_eq!(appender.state().writes(), 2);
}

#[test]
fn a_record_larger_than_the_limits_of_a_read_still_comes() {
    let dir = tempfile::tempdir().unwrap();
    let (mut appender, mut reader, _) = reopen(dir.path(), 4096);
    let large = vec![7; RECORD_BYTES_MAX];
    append(&mut appender, &[b"small", &large, b"small"]);
    assert_eq!(drain(&mut reader), numbered(&[b"small", &large, b"small"]));
}

#[test]
fn a_payload_above_the_limit_fails_the_commit_and_costs_no_sequence() {
    let dir = tempfile::tempdir().unwrap();
    let (mut appender, mut reader, _) = reopen(dir.path(), 1 << 20);
    appender.stage(Kind::new(1), &[&vec![0; RECORD_BYTES_MAX], b"one more"]);
    assert!(matches!(appender.commit(), Err(AppendError::TooLarge)));
    append(&mut appender, &[b"next"]);
    assert_eq!(drain(&mut reader), numbered(&[b"next"]));
}

#[test]
fn a_restart_goes_on_where_the_database_stands() {
    let dir = tempfile::tempdir().unwrap();
    for applied in 0..=6 {
        let (mut appender, mut reader, recovered) = reopen(dir.path(), 100);
        if applied == 0 {
            append(&mut appender, &[b"one", b"two", b"three", b"four", b"five", b"six"]);
            assert!(recovered.damaged.is_empty());
        }
        assert_eq!(seek(&mut reader, applied), None);
        let read = drain(&mut reader);
        assert_eq!(read, numbered(&[b"one", b"two", b"three", b"four", b"five", b"six"])[applied as usize..]);
        assert_eq!(seek(&mut reader, 3), None, "also backwards");
        assert_eq!(drain(&mut reader).len(), 3);
    }
}

#[test]
fn a_new_record_is_never_mistaken_for_an_applied_one() {
    let dir = tempfile::tempdir().unwrap();
    let (mut appender, reader, _) = reopen(dir.path(), 4096);
    append(&mut appender, &[b"one", b"two"]);
    drop((appender, reader));
    let (mut appender, mut reader, recovered) =
        open(dir.path(), LANE, Some(Sequence(40)), &options(4096)).unwrap();
    assert_eq!(recovered.last, Sequence(40));
    assert_eq!(seek(&mut reader, 40), None);
    append(&mut appender, &[b"after"]);
    assert_eq!(drain(&mut reader), [(41, b"after".to_vec())]);
    drop((appender, reader));
    let (_appender, mut reader, recovered) = reopen(dir.path(), 4096);
    assert_eq!((recovered.first, recovered.last), (Some(Sequence(1)), Sequence(41)));
    assert!(recovered.damaged.is_empty(), "a floor is no damage");
    assert_eq!(drain(&mut reader).len(), 3);
    assert_eq!(reader.state().damaged_records(), 0);
    assert_eq!(
        reader.seek(Sequence(10)).unwrap(),
        Some(Gap { expected: Sequence(11), found: Sequence(41), promised: true }),
        "an older database is told what it misses"
    );
    assert_eq!(drain(&mut reader), [(41, b"after".to_vec())]);
    assert!(matches!(reader.seek(Sequence(42)), Err(JournalError::Behind { .. })));
}

#[test]
fn released_segments_are_deleted_and_the_sequence_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (mut appender, mut reader, _) = reopen(dir.path(), 200);
    for round in 0..50 {
        append(&mut appender, &[&[round; 60]]);
    }
    let before = reader.state().bytes_on_disk();
    assert_eq!(reader.release(Sequence(50)).unwrap(), 0, "nothing is deleted that was not read");
    assert_eq!(drain(&mut reader).len(), 50);
    assert_eq!(reader.release(Sequence(0)).unwrap(), 0);
    let freed = reader.release(Sequence(25)).unwrap();
    assert_eq!(seek(&mut reader, 25), None, "what is not durable is still there");
    assert_eq!(drain(&mut reader).len(), 25);
    let freed = freed + reader.release(Sequence(50)).unwrap();
    assert_eq!(reader.state().bytes_on_disk(), before - freed);
    assert!(reader.state().bytes_on_disk() <= 200);
    let on_disk: u64 =
        fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
    assert_eq!(reader.state().bytes_on_disk(), on_disk);
    assert_eq!(reader.state().released(), reader.state().end());
    drop((appender, reader));
    let (mut appender, mut reader, recovered) = reopen(dir.path(), 200);
    assert_eq!(recovered.last, Sequence(50));
    assert_eq!(seek(&mut reader, 50), None);
    append(&mut appender, &[b"more"]);
    assert_eq!(drain(&mut reader), [(51, b"more".to_vec())]);
}

#[test]
fn the_cap_is_an_error_that_passes_when_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { segment_bytes: 300, bytes_max: 1000 };
    let (mut appender, mut reader, _) = open(dir.path(), LANE, None, &options).unwrap();
    let mut accepted = 0;
    loop {
        let sequence = appender.stage(Kind::new(1), &[&[1; 80]]);
        match appender.commit() {
            Ok(committed) => assert_eq!(committed.last, sequence),
            Err(error) => {
                assert!(matches!(error, AppendError::Full), "{error}");
                break;
            }
        }
        accepted += 1;
    }
    assert!(appender.state().bytes_on_disk() <= 1000);
    assert_eq!(drain(&mut reader).len(), accepted);
    assert!(reader.release(Sequence(accepted as u64)).unwrap() > 0);
    assert_eq!(appender.stage(Kind::new(1), &[b"again"]), Sequence(accepted as u64 + 1));
    appender.commit().unwrap();
    assert_eq!(drain(&mut reader), [(accepted as u64 + 1, b"again".to_vec())]);
}

#[test]
fn a_failed_write_publishes_nothing_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (mut appender, mut reader, _) = reopen(dir.path(), 300);
    append(&mut appender, &[&[1; 60]]);
    // The commit fills this segment and begins two more. A folder occupies the name of the second new segment.
    let stage = |appender: &mut Appender| {
        for byte in 2..=9 {
            appender.stage(Kind::new(1), &[&[byte; 60]]);
        }
    };
    let (end, on_disk) = (appender.state().end(), appender.state().bytes_on_disk());
    stage(&mut appender);
    let in_the_way = crate::journal::segment::path(dir.path(), 590);
    fs::create_dir(&in_the_way).unwrap();
    assert!(matches!(appender.commit(), Err(AppendError::Io(_))));
    assert_eq!((appender.state().end(), appender.state().bytes_on_disk()), (end, on_disk));
    assert_eq!(appender.staged(), (0, 0));
    assert_eq!(drain(&mut reader).len(), 1, "a reader that looks meanwhile is not led astray");
    fs::remove_dir(&in_the_way).unwrap();
    let files = fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(files, 1, "the segment that was begun is gone");
    assert_eq!(fs::metadata(crate::journal::segment::path(dir.path(), 0)).unwrap().len(), end);
    stage(&mut appender);
    assert_eq!(appender.commit().unwrap().last, Sequence(9));
    assert_eq!(drain(&mut reader).len(), 8);
}

#[test]
fn a_lane_has_one_owner() {
    let dir = tempfile::tempdir().unwrap();
    let (appender, reader, _) = reopen(dir.path(), 4096);
    assert!(matches!(open(dir.path(), LANE, None, &options(4096)), Err(JournalError::Locked(_))));
    drop(appender);
    assert!(matches!(open(dir.path(), LANE, None, &options(4096)), Err(JournalError::Locked(_))));
    drop(reader);
    reopen(dir.path(), 4096);
}

/// The first commit of a lane may come just after a seek has listed the empty folder.
#[test]
fn a_seek_overtaken_by_the_first_commit_skips_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (mut appender, mut reader, _) = reopen(dir.path(), 1 << 20);
    append(&mut appender, &[b"first", b"second"]);
    let first = crate::journal::segment::path(dir.path(), 0);
    let unseen = dir.path().join("unseen");
    std::fs::rename(&first, &unseen).unwrap();
    reader.start_before(Sequence::NONE).unwrap();
    std::fs::rename(&unseen, &first).unwrap();
    assert_eq!(drain(&mut reader), numbered(&[b"first", b"second"]));
    assert_eq!(reader.state().damaged_ranges(), 0);
}

#[test]
fn an_idle_lane_leaves_its_newest_segment_when_it_is_asked_to() {
    let dir = tempfile::tempdir().unwrap();
    let (mut appender, mut reader, _) = reopen(dir.path(), 4096);
    assert_eq!(reader.state().ask_rotation(), None, "there is nothing to leave");
    append(&mut appender, &[b"one", b"secret"]);
    assert_eq!(drain(&mut reader).len(), 2);
    let from = reader.state().ask_rotation().unwrap();
    assert!(!reader.state().is_rotated(from));
    reader.release(Sequence(2)).unwrap();
    assert!(!reader.is_released_below(from), "the newest segment is never deleted");
    assert!(appender.rotate_if_asked().unwrap() && !appender.rotate_if_asked().unwrap());
    assert!(reader.state().is_rotated(from));
    assert_eq!(drain(&mut reader), []);
    assert_eq!((reader.state().pending_bytes(), reader.state().appended()), (0, Sequence(2)));
    assert!(reader.release(Sequence(2)).unwrap() > 0 && reader.is_released_below(from));
    let again = reader.state().ask_rotation().unwrap();
    assert!(reader.state().is_rotated(again), "a segment without a record need not be left");
    let holds = |word: &[u8]| {
        let files = fs::read_dir(dir.path()).unwrap().map(|entry| fs::read(entry.unwrap().path()).unwrap());
        files.into_iter().any(|bytes| bytes.windows(word.len()).any(|window| window == word))
    };
    assert!(!holds(b"secret"));
    // The header of the empty segment continues the sequence, even if no database knows the last sequence.
    drop((appender, reader));
    let (mut appender, mut reader, recovered) = reopen(dir.path(), 4096);
    assert_eq!((recovered.last, recovered.damaged.len()), (Sequence(2), 0));
    assert_eq!(seek(&mut reader, 2), None);
    append(&mut appender, &[b"three"]);
    assert_eq!(drain(&mut reader), [(3, b"three".to_vec())]);
    // If a record is committed before the rotation, it begins the new segment.
    let from = reader.state().ask_rotation().unwrap();
    append(&mut appender, &[b"four"]);
    assert!(reader.state().is_rotated(from) && !appender.rotate_if_asked().unwrap());
    assert_eq!(drain(&mut reader), [(4, b"four".to_vec())]);
    reader.release(Sequence(4)).unwrap();
    assert!(reader.is_released_below(from));
}
