//! Syncing, and inspecting a lane from outside.

use std::fs;

use super::*;
use crate::journal::format::{Heading, Run, SegmentHeader, encode_record};
use crate::journal::{JournalError, Record, Syncer, inspect, segment, verify};

#[test]
fn a_plan_names_each_file_with_unsynced_bytes_and_the_folder_once_a_segment() {
    let dir = tempfile::tempdir().unwrap();
    let (mut appender, _reader, _) = reopen(dir.path(), 300);
    let mut syncer = Syncer::new(appender.state().clone());
    assert_eq!(syncer.plan().unwrap(), None);
    append(&mut appender, &[&[1; 60], &[2; 60]]);
    let plan = syncer.plan().unwrap().unwrap();
    assert_eq!((plan.files.len(), plan.upto), (1, appender.state().end()));
    assert_eq!(plan.directory.as_deref(), Some(dir.path()));
    assert_eq!(appender.state().synced(), 0, "a plan claims nothing");
    syncer.done(plan);
    assert_eq!(appender.state().synced(), appender.state().end());
    assert_eq!(syncer.plan().unwrap(), None);
    append(&mut appender, &[&[3; 20]]);
    let plan = syncer.plan().unwrap().unwrap();
    assert_eq!((plan.files.len(), plan.directory.clone()), (1, None));
    append(&mut appender, &[&[4; 250], &[5; 250]]);
    syncer.done(plan);
    assert!(appender.state().synced() < appender.state().end(), "what came after the plan is not in it");
    let plan = syncer.plan().unwrap().unwrap();
    let expected: Vec<_> =
        segment::list(dir.path()).unwrap().iter().map(|base| segment::path(dir.path(), *base)).collect();
    assert_eq!(expected.len(), 3);
    assert!(expected.ends_with(&plan.files) && plan.files.len() >= 2, "{:?}", plan.files);
    assert!(plan.directory.is_some());
    syncer.done(plan);
    assert_eq!(syncer.plan().unwrap(), None);
}

#[test]
fn what_a_failed_fsync_may_have_cost_is_never_claimed_until_the_database_holds_it() {
    let dir = tempfile::tempdir().unwrap();
    let (mut appender, mut reader, _) = reopen(dir.path(), 1 << 20);
    let state = appender.state().clone();
    let mut syncer = Syncer::new(state.clone());
    append(&mut appender, &[b"lost?"]);
    let plan = syncer.plan().unwrap().unwrap();
    append(&mut appender, &[b"written meanwhile"]);
    syncer.failed(plan.clone());
    assert!(state.sync_failed());
    syncer.done(plan);
    assert_eq!(state.synced(), 0);
    append(&mut appender, &[b"later"]);
    assert_eq!(syncer.plan().unwrap(), None);
    assert_eq!(segment::list(dir.path()).unwrap().len(), 2, "the appender left the segment");
    assert_eq!(drain(&mut reader).len(), 3, "and all is read");
    reader.release(Sequence(1)).unwrap();
    assert!(state.sync_failed());
    reader.release(Sequence(3)).unwrap();
    assert!(!state.sync_failed());
    assert_eq!(state.synced(), state.end(), "the database holds it");
    append(&mut appender, &[b"new"]);
    let plan = syncer.plan().unwrap().unwrap();
    syncer.done(plan);
    assert_eq!(state.synced(), state.end());
}

#[test]
fn a_folder_that_cannot_be_listed_is_a_failed_sync_and_not_a_plan_that_never_comes() {
    let dir = tempfile::tempdir().unwrap();
    let lane = dir.path().join("lane");
    fs::create_dir(&lane).unwrap();
    let (mut appender, mut reader, _) = reopen(&lane, 1 << 20);
    let state = appender.state().clone();
    let mut syncer = Syncer::new(state.clone());
    append(&mut appender, &[b"waited for"]);
    for is_there in [false, true] {
        let aside = dir.path().join("aside");
        fs::rename(&lane, &aside).unwrap();
        if is_there {
            fs::create_dir(&lane).unwrap();
        }
        assert!(syncer.plan().is_err(), "is there: {is_there}");
        assert!(state.sync_failed(), "those who wait are told");
        assert_eq!(syncer.plan().unwrap(), None);
        if is_there {
            fs::remove_dir(&lane).unwrap();
        }
        fs::rename(&aside, &lane).unwrap();
        drain(&mut reader);
        reader.release(state.appended()).unwrap();
        assert!(!state.sync_failed(), "the database holds it");
        append(&mut appender, &[b"waited for, too"]);
    }
    let plan = syncer.plan().unwrap().unwrap();
    syncer.done(plan);
    assert_eq!(state.synced(), state.end());
}

#[test]
fn looking_from_outside_sees_whole_records_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(inspect(dir.path()).unwrap(), Default::default());
    let (mut appender, mut reader, _) = reopen(dir.path(), 300);
    assert_eq!(inspect(dir.path()).unwrap().last, None);
    append(&mut appender, &[&[1; 60], &[2; 60], &[3; 60], &[4; 60], &[5; 60]]);
    let newest = segment::path(dir.path(), *segment::list(dir.path()).unwrap().last().unwrap());
    let whole = fs::read(&newest).unwrap();
    for cut in 1..77 {
        fs::write(&newest, &whole[..whole.len() - cut]).unwrap();
        let seen = inspect(dir.path()).unwrap();
        assert_eq!((seen.first, seen.last), (Some(Sequence(1)), Some(Sequence(4))), "cut {cut}");
        let verified = verify(dir.path()).unwrap();
        assert_eq!((verified.records, verified.damaged.len()), (4, 0));
        assert_eq!(verified.unfinished_bytes, 77 - cut as u64);
        assert_eq!(fs::metadata(&newest).unwrap().len(), (whole.len() - cut) as u64);
    }
    fs::write(&newest, &whole).unwrap();
    let seen = inspect(dir.path()).unwrap();
    assert_eq!((seen.lane, seen.segments, seen.last), (Some(LANE), 2, Some(Sequence(5))));
    assert_eq!(seen.bytes, appender.state().bytes_on_disk());
    assert_eq!(verify(dir.path()).unwrap().records, 5);
    drain(&mut reader);
    reader.release(Sequence(5)).unwrap();
    let seen = inspect(dir.path()).unwrap();
    assert_eq!((seen.segments, seen.last), (1, Some(Sequence(5))));
    assert_eq!(seen.first, verify(dir.path()).unwrap().first);
}

#[test]
fn a_foreign_or_newer_file_is_an_error_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let open = || open(dir.path(), LANE, None, &options(4096));
    let cases: [(&str, &[u8]); 4] = [
        ("00000000000000000000.seg", &[9; 200]),
        ("backup.seg", b""),
        ("18446744073709551615.seg", b"far"),
        ("00000000000000000000.seg", b"FHJL\x03\0 anything a later version may write, laid out otherwise"),
    ];
    for (index, (name, bytes)) in cases.into_iter().enumerate() {
        let path = dir.path().join(name);
        let mut bytes = bytes.to_vec();
        if index == 3 {
            bytes.resize(32, b' ');
            bytes.extend_from_within(..);
        }
        fs::write(&path, &bytes).unwrap();
        let error = open().map(|_| ()).unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
        assert_eq!(matches!(error, JournalError::Newer { version: 3, .. }), index == 3, "{error}");
        assert_eq!(fs::read(&path).unwrap(), bytes, "nothing was touched");
        assert!(verify(dir.path()).is_err());
        fs::remove_file(path).unwrap();
    }
    let (mut appender, reader, _) = open().unwrap();
    append(&mut appender, &[b"mine"]);
    drop((appender, reader));
    let error = crate::journal::open(dir.path(), LaneId(4), None, &options(4096)).map(|_| ()).unwrap_err();
    assert!(matches!(error, JournalError::OtherLane { found: LANE, .. }), "{error}");
}

#[test]
fn a_file_put_beside_a_running_lane_does_not_stop_it() {
    let dir = tempfile::tempdir().unwrap();
    let (mut appender, mut reader, _) = reopen(dir.path(), 120);
    fs::write(dir.path().join("backup.seg"), b"").unwrap();
    append(&mut appender, &[&[1; 60], &[2; 60]]);
    assert!(Syncer::new(appender.state().clone()).plan().unwrap().is_some());
    assert_eq!(drain(&mut reader).len(), 2);
}

/// Checks that a segment with one record, given by its bytes, can be read.
fn read_for_ever(hex: &str) {
    let digits: Vec<u8> = hex.bytes().filter(|digit| *digit != b' ').collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    let bytes: Vec<u8> = digits.chunks(2).map(byte).collect();
    let dir = tempfile::tempdir().unwrap();
    fs::write(segment::path(dir.path(), 0x0102), bytes).unwrap();
    let (_appender, mut reader, recovered) = reopen(dir.path(), 4096);
    assert_eq!((recovered.first, recovered.last), (Some(Sequence(7)), Sequence(7)));
    let mut batch = Batch::new();
    reader.read(&mut batch, 10, 1000).unwrap();
    let records: Vec<_> = batch.records().collect();
    assert_eq!(records, [Record { sequence: Sequence(7), kind: 200, payload: b"kind 200" }]);
}

#[test]
fn a_segment_written_by_format_1_is_read_for_ever() {
    let copy = "46484a4c010002000201000000000000 0700000000000000efbeaddeca0e1e43";
    let record = "6497f893 08000000 0700000000000000 c8 6b696e6420323030";
    read_for_ever(&format!("{copy}{copy}{record}"));
}

#[test]
fn a_segment_written_by_format_2_is_read_for_ever() {
    let (base, salt, run) = (0x0102, 0xdead_beef, Run::Begins);
    let header = SegmentHeader { lane: LANE, base, first: Sequence(7), salt, run };
    let mut bytes = header.encode().to_vec();
    let at = header.base + bytes.len() as u64;
    let heading = Heading { sequence: Sequence(7), kind: 200, synced: Some(0x0110) };
    encode_record(&mut bytes, header.salt, at, heading, &[b"kind ", b"200"], 8);
    let copy = "46484a4c020002010201000000000000 0700000000000000efbeadde44422885";
    let record = "6a806b0c 08000080 0700000000000000 c8 1001000000000000 6b696e6420323030";
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, format!("{copy}{copy}{record}").replace(' ', ""));
    read_for_ever(&hex);
}
