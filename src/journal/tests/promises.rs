//! Records missing after a power cut: lost, or never promised to survive one.

use std::fs;
use std::path::{Path, PathBuf};

use super::{LANE, append, drain, reopen, seek};
use crate::base::kinds::Kind;
use crate::journal::{Appender, Syncer, segment, verify};

const SEGMENT: u64 = 1 << 20;
/// A record with this payload takes more than four sectors.
const PAYLOAD: [u8; 2_500] = [b'p'; 2_500];

fn commits(appender: &mut Appender, count: usize) {
    append(appender, &vec![&PAYLOAD[..]; count]);
}

fn newest(dir: &Path) -> PathBuf {
    segment::path(dir, *segment::list(dir).unwrap().last().unwrap())
}

/// Replaces bytes by zeros, as in a page that was never written before a power cut.
fn lose(path: &Path, from: usize, bytes: usize) {
    let mut content = fs::read(path).unwrap();
    content[from..from + bytes].fill(0);
    fs::write(path, content).unwrap();
}

fn promised(dir: &Path) -> Vec<(u64, bool)> {
    verify(dir).unwrap().damaged.iter().map(|damage| (damage.lost, damage.promised)).collect()
}

#[test]
fn w1_what_was_never_synced_was_promised_to_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let (mut appender, reader, _) = reopen(dir.path(), SEGMENT);
    commits(&mut appender, 6);
    drop((appender, reader));
    lose(&newest(dir.path()), 4_096, 4_096);
    assert_eq!(promised(dir.path()), [(3, false)]);
    let (appender, mut reader, recovered) = reopen(dir.path(), SEGMENT);
    assert_eq!(recovered.damaged.len(), 1);
    assert!(!recovered.damaged[0].promised);
    let gap = reader.seek(crate::base::ids::Sequence(1)).unwrap().unwrap();
    assert_eq!((gap.expected.0, gap.found.0, gap.promised), (2, 5, false));
    drop((appender, reader));
    let (_appender, mut reader, _) = reopen(dir.path(), SEGMENT);
    assert_eq!(drain(&mut reader).len(), 3);
    let told = reader.take_damage();
    assert_eq!((told.len(), told[0].lost, told[0].promised), (1, 3, false));
}

#[test]
fn w1_what_a_later_record_says_was_synced_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let (mut appender, reader, _) = reopen(dir.path(), SEGMENT);
    let mut syncer = Syncer::new(appender.state().clone());
    commits(&mut appender, 3);
    syncer.sync().unwrap();
    // The first of these commits contains the synced offset.
    commits(&mut appender, 3);
    drop((appender, reader));
    let whole = fs::read(newest(dir.path())).unwrap();
    // The first record begins after the header, and the fifth ends after the twenty-second sector.
    lose(&newest(dir.path()), 512, 512);
    assert_eq!(promised(dir.path()), [(1, true)]);
    fs::write(newest(dir.path()), &whole).unwrap();
    lose(&newest(dir.path()), 21 * 512, 512);
    assert_eq!(promised(dir.path()), [(1, false)]);
    // A power cut never flips a bit.
    let mut flipped = whole.clone();
    flipped[21 * 512] ^= 1;
    fs::write(newest(dir.path()), &flipped).unwrap();
    assert_eq!(promised(dir.path()), [(1, true)]);
    fs::write(newest(dir.path()), &whole).unwrap();
    let (_appender, mut reader, recovered) = reopen(dir.path(), SEGMENT);
    assert_eq!(recovered.damaged, []);
    let all = drain(&mut reader);
    assert_eq!(all.len(), 6, "the record that says so has its payload");
    assert!(all.iter().all(|(_, payload)| payload[..] == PAYLOAD));
    assert_eq!(seek(&mut reader, 4), None);
}

#[test]
fn what_the_next_run_syncs_says_nothing_of_what_the_one_before_left() {
    let dir = tempfile::tempdir().unwrap();
    let (mut appender, reader, _) = reopen(dir.path(), SEGMENT);
    commits(&mut appender, 4);
    drop((appender, reader));
    lose(&newest(dir.path()), 4_096, 512);
    let (mut appender, reader, _) = reopen(dir.path(), SEGMENT);
    let mut syncer = Syncer::new(appender.state().clone());
    for _ in 0..3 {
        commits(&mut appender, 1);
        syncer.sync().unwrap();
    }
    drop((appender, reader));
    assert_eq!(promised(dir.path()), [(1, false)]);
    lose(&newest(dir.path()), 512, 512);
    assert_eq!(promised(dir.path()), [(1, false), (1, true)]);
}

#[test]
fn segments_of_the_version_before_are_read_and_their_damage_is_a_loss() {
    let dir = tempfile::tempdir().unwrap();
    let (mut appender, reader, _) = reopen(dir.path(), SEGMENT);
    commits(&mut appender, 4);
    drop((appender, reader));
    let path = newest(dir.path());
    let mut content = fs::read(&path).unwrap();
    for copy in 0..2 {
        let header = &mut content[copy * 32..(copy + 1) * 32];
        header[4..6].copy_from_slice(&1_u16.to_le_bytes());
        header[7] = 0;
        let crc = crc32c::crc32c(&header[..28]);
        header[28..].copy_from_slice(&crc.to_le_bytes());
    }
    fs::write(&path, &content).unwrap();
    let (mut appender, mut reader, recovered) = reopen(dir.path(), SEGMENT);
    assert_eq!(recovered.damaged, []);
    assert_eq!(drain(&mut reader).len(), 4);
    appender.stage(Kind::new(1), &[b"of this version"]);
    appender.commit().unwrap();
    assert_eq!(drain(&mut reader), [(5, b"of this version".to_vec())]);
    assert_eq!(appender.state().lane(), LANE);
    drop((appender, reader));
    lose(&path, 4_096, 512);
    assert_eq!(promised(dir.path()), [(1, true)]);
}
