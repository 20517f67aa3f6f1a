//! Truncated, flipped, missing and forged bytes.

use std::fs;
use std::path::PathBuf;

use super::*;
use crate::journal::format::{HEADER_BYTES, RECORD_HEADER_BYTES};
use crate::journal::{segment, verify};

const PAYLOADS: [&[u8]; 6] = [b"first", b"", b"the third", b"4", b"the fifth one", b"last"];

/// Creates a small lane of three segments with two records each. Returns its files by ascending offset, with their
/// bytes.
fn small_lane(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let (mut appender, _reader, _) = reopen(dir, 120);
    append(&mut appender, &PAYLOADS);
    let files = files(dir);
    assert_eq!(files.len(), 3);
    files
}

fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let paths = segment::list(dir).unwrap().into_iter().map(|base| segment::path(dir, base));
    paths.map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

fn restore(dir: &Path, files: &[(PathBuf, Vec<u8>)]) {
    for base in segment::list(dir).unwrap() {
        fs::remove_file(segment::path(dir, base)).unwrap();
    }
    let _ = fs::remove_dir_all(dir.join(segment::QUARANTINE));
    files.iter().for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
}

/// Checks that everything that exists can be read, and that the lane continues: a record appended now survives
/// another restart.
fn check_and_go_on(dir: &Path, expected: &[(u64, Vec<u8>)], context: &str) -> Recovered {
    let (mut appender, mut reader, recovered) = reopen(dir, 120);
    assert_eq!(drain(&mut reader), expected, "{context}");
    assert_eq!(recovered.first.map(|first| first.0), expected.first().map(|record| record.0), "{context}");
    append(&mut appender, &[b"new"]);
    let new = (recovered.last.0 + 1, b"new".to_vec());
    assert_eq!(drain(&mut reader), std::slice::from_ref(&new), "{context}");
    drop((appender, reader));
    let (_appender, mut reader, again) = reopen(dir, 120);
    assert_eq!(drain(&mut reader), [expected, &[new]].concat(), "{context}");
    assert_eq!(again.torn_bytes_cut, 0, "{context}: once");
    recovered
}

#[test]
fn a_torn_tail_is_cut_and_said() {
    let dir = tempfile::tempdir().unwrap();
    let files = small_lane(dir.path());
    let (newest, whole) = files.last().unwrap();
    for keep in 0..whole.len() {
        restore(dir.path(), &files);
        fs::write(newest, &whole[..keep]).unwrap();
        let fifth = HEADER_BYTES + RECORD_HEADER_BYTES + PAYLOADS[4].len();
        let (records, cut) = match keep {
            _ if keep < HEADER_BYTES => (4, keep),
            _ if keep < fifth => (4, keep - HEADER_BYTES),
            _ => (5, keep - fifth),
        };
        let recovered = check_and_go_on(dir.path(), &numbered(&PAYLOADS[..records]), &format!("keep {keep}"));
        assert_eq!(recovered.torn_bytes_cut, cut as u64, "keep {keep}");
        assert_eq!(recovered.damaged, [], "keep {keep}");
        assert_eq!(recovered.last, Sequence(records as u64));
    }
}

#[test]
fn a_file_grown_but_not_written_is_a_torn_tail() {
    let dir = tempfile::tempdir().unwrap();
    let files = small_lane(dir.path());
    let (newest, whole) = files.last().unwrap();
    for (written, records) in [(0, 4), (whole.len(), 6), (whole.len() - 3, 5)] {
        restore(dir.path(), &files);
        let mut bytes = whole[..written].to_vec();
        bytes.resize(5000, 0);
        fs::write(newest, bytes).unwrap();
        let recovered = check_and_go_on(dir.path(), &numbered(&PAYLOADS[..records]), "grown");
        assert!(recovered.torn_bytes_cut > 4000);
    }
}

#[test]
fn one_flipped_bit_costs_its_record_at_most_and_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let files = small_lane(dir.path());
    let all = numbered(&PAYLOADS);
    let mut sequence_before = 0;
    for (path, whole) in &files {
        let second = HEADER_BYTES + RECORD_HEADER_BYTES + PAYLOADS[sequence_before].len();
        for bit in 0..whole.len() * 8 {
            restore(dir.path(), &files);
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            fs::write(path, &bytes).unwrap();
            let hit = match bit / 8 {
                byte if byte < HEADER_BYTES => None,
                byte if byte < second => Some(sequence_before),
                _ => Some(sequence_before + 1),
            };
            let mut left = all.clone();
            hit.map(|index| left.remove(index));
            let context = format!("{} bit {bit}", path.display());
            let verified = verify(dir.path()).unwrap();
            assert_eq!(verified.records, left.len() as u64, "{context}");
            let recovered = check_and_go_on(dir.path(), &left, &context);
            if hit == Some(all.len() - 1) {
                assert!(recovered.torn_bytes_cut > 0, "{context}: the last record looks torn");
                assert!(verified.unfinished_bytes > 0, "{context}");
                continue;
            }
            assert_eq!(verified.damaged.len(), 1, "{context}");
            let damage = &recovered.damaged[0];
            assert_eq!(recovered.damaged.len(), 1, "{context}");
            assert_eq!((&damage.file, damage.lost), (path, u64::from(hit.is_some())), "{context}");
            assert!((damage.offset..damage.offset + damage.bytes).contains(&(bit as u64 / 8)), "{context}");
            assert!(damage.quarantined);
            let kept = dir.path().join(segment::QUARANTINE).join(path.file_name().unwrap());
            assert_eq!(fs::read(kept).unwrap(), bytes, "{context}: kept as it was found");
        }
        sequence_before += 2;
    }
}

#[test]
fn bytes_behind_the_end_of_a_finished_segment_are_nobodys() {
    let dir = tempfile::tempdir().unwrap();
    let files = small_lane(dir.path());
    let (appender, mut reader, _) = reopen(dir.path(), 120);
    // The next segment begins where the records of this one end. Bytes after that offset are a failed write that
    // could not be truncated.
    let mut bytes = files[0].1.clone();
    bytes.extend_from_slice(&[0xaa; 200]);
    fs::write(&files[0].0, bytes).unwrap();
    assert_eq!(drain(&mut reader), numbered(&PAYLOADS));
    assert_eq!(reader.state().damaged_ranges(), 0);
    drop((appender, reader));
    let recovered = check_and_go_on(dir.path(), &numbered(&PAYLOADS), "nobody's");
    assert_eq!(recovered.damaged, []);
}

#[test]
fn a_missing_segment_is_a_gap_and_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let files = small_lane(dir.path());
    let all = numbered(&PAYLOADS);
    for missing in 0..3 {
        restore(dir.path(), &files);
        fs::remove_file(&files[missing].0).unwrap();
        let left = [&all[..missing * 2], &all[missing * 2 + 2..]].concat();
        let recovered = check_and_go_on(dir.path(), &left, "missing");
        let lost: Vec<_> = recovered.damaged.iter().map(|damage| (damage.first.0, damage.lost)).collect();
        // Any records may be missing before the first one, and nothing shows that there were more after the last one.
        assert_eq!(lost, if missing == 1 { vec![(3, 2)] } else { vec![] });
    }
}

#[test]
fn a_segment_whose_header_is_gone_is_skipped_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let files = small_lane(dir.path());
    let all = numbered(&PAYLOADS);
    for hit in 0..3 {
        restore(dir.path(), &files);
        let mut bytes = files[hit].1.clone();
        bytes[20] ^= 1;
        bytes[50] ^= 1;
        fs::write(&files[hit].0, &bytes).unwrap();
        let left = [&all[..hit * 2], &all[hit * 2 + 2..]].concat();
        let recovered = check_and_go_on(dir.path(), &left, "header");
        assert_eq!(recovered.damaged.len(), 1);
        assert_eq!(recovered.damaged[0].bytes, bytes.len() as u64);
        assert_eq!(recovered.damaged[0].lost, if hit == 1 { 2 } else { 0 }, "what follows tells how many");
    }
}

#[test]
fn damage_while_running_is_skipped_counted_and_said_once() {
    let dir = tempfile::tempdir().unwrap();
    let files = small_lane(dir.path());
    let (mut appender, mut reader, recovered) = reopen(dir.path(), 120);
    assert_eq!(recovered.damaged, []);
    let mut bytes = files[1].1.clone();
    bytes[HEADER_BYTES + 8] ^= 4;
    fs::write(&files[1].0, &bytes).unwrap();
    let sequences =
        |reader: &mut Reader| -> Vec<_> { drain(reader).into_iter().map(|record| record.0).collect() };
    assert_eq!(sequences(&mut reader), [1, 2, 4, 5, 6]);
    assert_eq!(reader.state().damaged_records(), 1);
    let damage = reader.take_damage();
    assert_eq!((damage.len(), damage[0].first, damage[0].lost), (1, Sequence(3), 1));
    assert!(damage[0].quarantined);
    assert_eq!(seek(&mut reader, 0), None);
    assert_eq!(sequences(&mut reader), [1, 2, 4, 5, 6], "again, as after a failed commit");
    assert_eq!(seek(&mut reader, 2), Some((3, 4)));
    assert_eq!(seek(&mut reader, 4), None);
    append(&mut appender, &[b"seven"]);
    drain(&mut reader);
    assert_eq!(reader.state().damaged_records(), 1);
    assert!(reader.release(Sequence(7)).unwrap() > 0);
    assert!(dir.path().join(segment::QUARANTINE).join(files[1].0.file_name().unwrap()).exists());
}

#[test]
fn files_that_vanish_or_shrink_under_a_running_lane_end_no_reader() {
    let dir = tempfile::tempdir().unwrap();
    let (mut appender, mut reader, _) = reopen(dir.path(), 300);
    for round in 0..20 {
        append(&mut appender, &[&[round; 60]]);
    }
    let bases = segment::list(dir.path()).unwrap();
    fs::remove_file(segment::path(dir.path(), bases[2])).unwrap();
    fs::File::options().write(true).open(segment::path(dir.path(), bases[4])).unwrap().set_len(100).unwrap();
    let newest = segment::path(dir.path(), *bases.last().unwrap());
    fs::File::options().write(true).open(&newest).unwrap().set_len(70).unwrap();
    let before: Vec<_> = drain(&mut reader).into_iter().map(|record| record.0).collect();
    assert_eq!(before, [1, 2, 3, 4, 5, 6, 10, 11, 12, 16, 17, 18]);
    assert_eq!(reader.state().pending_bytes(), 0);
    for round in 20..30 {
        append(&mut appender, &[&[round; 60]]);
    }
    let after: Vec<_> = drain(&mut reader).into_iter().map(|record| record.0).collect();
    assert_eq!(after, (21..=30).collect::<Vec<_>>());
    assert_eq!(reader.state().damaged_records(), 3 + 3 + 2);
}

#[test]
fn a_client_cannot_forge_a_record_that_damage_would_bring_to_light() {
    let dir = tempfile::tempdir().unwrap();
    let other = tempfile::tempdir().unwrap();
    // A record of another lane, at every offset that the search tries.
    let (mut forger, _forger_reader, _) = reopen(other.path(), 1 << 20);
    append(&mut forger, &[b"x", b"evil"]);
    let forged = files(other.path()).remove(0).1[HEADER_BYTES + RECORD_HEADER_BYTES + 1..].to_vec();
    let (mut appender, reader, _) = reopen(dir.path(), 1 << 20);
    append(&mut appender, &[&forged.repeat(50), b"honest"]);
    drop((appender, reader));
    let (path, mut bytes) = files(dir.path()).remove(0);
    bytes[HEADER_BYTES + 5] ^= 0x40;
    fs::write(path, bytes).unwrap();
    let (_appender, mut reader, recovered) = reopen(dir.path(), 1 << 20);
    assert_eq!(drain(&mut reader), [(2, b"honest".to_vec())]);
    assert_eq!(recovered.damaged[0].lost, 1);
}

#[test]
fn a_payload_made_of_headers_does_not_make_recovery_slow() {
    let dir = tempfile::tempdir().unwrap();
    let (mut appender, reader, _) = reopen(dir.path(), 16 << 20);
    let mut header = [0; RECORD_HEADER_BYTES];
    header[4..8].copy_from_slice(&1_000_000_u32.to_le_bytes());
    header[8..16].copy_from_slice(&2_u64.to_le_bytes());
    let payload = header.repeat(60_000);
    append(&mut appender, &[&payload, &payload, &payload]);
    drop((appender, reader));
    let (path, mut bytes) = files(dir.path()).remove(0);
    bytes[HEADER_BYTES] ^= 1;
    fs::write(path, bytes).unwrap();
    // 120,000 candidates of a megabyte each would be 120 GB of checksums. Only a limited number is tried.
    let verified = verify(dir.path()).unwrap();
    assert_eq!((verified.records, verified.damaged.len(), verified.unfinished_bytes), (0, 1, 0));
    let length = fs::metadata(segment::path(dir.path(), 0)).unwrap().len();
    let (mut appender, mut reader, recovered) = reopen(dir.path(), 16 << 20);
    assert_eq!(recovered.torn_bytes_cut, 0, "what was not looked at is not cut");
    assert_eq!(fs::metadata(segment::path(dir.path(), 0)).unwrap().len(), length);
    append(&mut appender, &[b"on"]);
    assert_eq!(drain(&mut reader), [(1, b"on".to_vec())]);
}
