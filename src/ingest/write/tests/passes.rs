//! Passes of the copier: commits that are made meanwhile, kills at every step, and a WAL that is damaged from outside.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use crossbeam_utils::atomic::AtomicCell;
use tempfile::TempDir;

use super::{Rig, folder, settings, until};
use crate::base::ids::LaneId;
use crate::clicks::CLICKS;
use crate::families::FAMILIES;
use crate::ingest::write::{Turn, WriteSettings, Writer};
use crate::shard::{CheckpointMode, PassStep, Recovered, ShardOptions, open_reader, verify};

const STEPS: [PassStep; 6] = [
    PassStep::Begun,
    PassStep::JournalsSynced,
    PassStep::WalSynced,
    PassStep::Recorded,
    PassStep::Copied,
    PassStep::Ended,
];
const NEVER: Duration = Duration::from_secs(3_600);

/// Holds a pass at one step until the test lets it go on.
struct Hold {
    reached: Receiver<()>,
    go_on: SyncSender<()>,
}

impl Hold {
    /// Makes the first pass of the writer's next copier stop at `step`.
    fn at(writer: &mut Writer, step: PassStep) -> Hold {
        Hold::at_each(writer, &[step])
    }

    /// The same at several steps, in their order.
    fn at_each(writer: &mut Writer, steps: &[PassStep]) -> Hold {
        let ((tell, reached), (go_on, wait)) = (sync_channel(1), sync_channel(1));
        // The hook is shared, the receiver is not.
        let left = AtomicCell::new(Some((steps.to_vec(), wait)));
        writer.pass_hook = Some(Arc::new(move |at| {
            let (mut steps, wait): (Vec<PassStep>, Receiver<()>) = left.take().unwrap();
            if steps.first() == Some(&at) {
                steps.remove(0);
                tell.send(()).unwrap();
                let _ = wait.recv();
            }
            left.store(Some((steps, wait)));
        }));
        Hold { reached, go_on }
    }

    fn reached(&self) {
        self.reached.recv_timeout(Duration::from_secs(30)).unwrap();
    }

    fn go_on(&self) {
        self.go_on.send(()).unwrap();
    }
}

/// Settings without passes, except those that a test begins.
fn quiet() -> WriteSettings {
    WriteSettings { checkpoint_age_max: NEVER, ..settings() }
}

/// Returns a rig with `before` events in the database file, and a writer whose next pass stops at these steps.
fn held(before: i64, steps: &[PassStep]) -> (Rig, Writer, Hold) {
    let mut rig = Rig::new();
    let mut writer = rig.writer_with(quiet());
    for _ in 0..before / 10 {
        rig.accept(0, 10);
    }
    writer.settle();
    writer.checkpoint(CheckpointMode::Passive).unwrap();
    // The hook applies to the next copier.
    writer.take_shard();
    let hold = Hold::at_each(&mut writer, steps);
    (rig, writer, hold)
}

/// Copies the folder as a kill leaves it.
fn killed(rig: &Rig) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    copy_folder(rig.dir.path(), copy.path());
    copy
}

fn copy_folder(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let (path, name) = (entry.as_ref().unwrap().path(), entry.as_ref().unwrap().file_name());
        if path.is_dir() {
            fs::create_dir(to.join(&name)).unwrap();
            copy_folder(&path, &to.join(name));
        } else {
            fs::copy(path, to.join(name)).unwrap();
        }
    }
}

fn segments(rig: &Rig) -> usize {
    let lanes = [LaneId::hot(0), LaneId::keyed(0)].map(|lane| folder(&rig.dir).lane(lane));
    lanes.iter().map(|lane| fs::read_dir(lane).unwrap().count()).sum()
}

/// Runs turns until no pass is under way, and the segments that it made superfluous are deleted.
fn end_passes(writer: &mut Writer) {
    until("the pass ends", || {
        writer.turn().unwrap();
        !writer.is_copier_busy() && writer.releasable.is_empty()
    });
}

fn checkpointed(path: &Path) -> Vec<(String, i64)> {
    let reader = open_reader(path).unwrap();
    let sql = "SELECT stream, last FROM checkpointed WHERE stream IN ('click', 'hot') ORDER BY stream";
    let mut statement = reader.prepare(sql).unwrap();
    statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().collect::<Result<_, _>>().unwrap()
}

#[test]
fn w3_commits_do_not_wait_for_a_pass_and_only_what_it_has_copied_leaves_the_journals() {
    let mut rig = Rig::new();
    let mut writer = rig.writer_with(quiet());
    let hold = Hold::at(&mut writer, PassStep::Recorded);
    for _ in 0..100 {
        rig.accept(0, 10);
    }
    writer.settle();
    let before = segments(&rig);
    writer.begin_pass().unwrap();
    hold.reached();
    for _ in 0..100 {
        rig.accept(0, 10);
    }
    writer.settle();
    assert_eq!(rig.status.stored(&CLICKS), 2_000);
    let meanwhile = segments(&rig);
    assert!(meanwhile > before && writer.is_passing());
    assert_eq!(checkpointed(&rig.path()), []);
    hold.go_on();
    end_passes(&mut writer);
    let after = segments(&rig);
    // The segments of the second half remain, and those of the first half are gone.
    assert!(after < meanwhile && after >= meanwhile - before, "{before} {meanwhile} {after}");
    assert_eq!(checkpointed(&rig.path()), [("click".to_owned(), 1_000), ("hot".to_owned(), 1_000)]);
    writer.begin_pass().unwrap();
    end_passes(&mut writer);
    assert_eq!(checkpointed(&rig.path()), [("click".to_owned(), 2_000), ("hot".to_owned(), 2_000)]);
    assert!(segments(&rig) < 4);
    rig.all_stored();
}

#[test]
fn w3_commits_do_not_wait_for_segments_that_are_being_deleted_and_a_kill_costs_no_row() {
    let mut rig = Rig::new();
    let mut writer = rig.writer_with(quiet());
    let hold = Hold::at(&mut writer, PassStep::Releasing);
    for _ in 0..100 {
        rig.accept(0, 10);
    }
    writer.settle();
    let before = segments(&rig);
    writer.begin_pass().unwrap();
    until("the pass ends", || {
        writer.turn().unwrap();
        !writer.is_passing()
    });
    hold.reached();
    for _ in 0..100 {
        rig.accept(0, 10);
    }
    writer.settle();
    assert_eq!(rig.status.stored(&CLICKS), 2_000);
    assert!(writer.is_copier_busy() && segments(&rig) > before);
    // No pass begins meanwhile.
    writer.begin_pass().unwrap();
    assert!(!writer.is_passing());
    let copy = killed(&rig);
    hold.go_on();
    end_passes(&mut writer);
    assert!(segments(&rig) <= before, "{before}");
    rig.all_stored();
    let mut after = Rig::on(copy, rig.accepted);
    let mut writer = after.writer();
    writer.settle();
    assert_eq!(after.status.lost_records.get(), 0);
    after.all_stored();
}

#[test]
fn a_kill_at_any_step_of_a_pass_costs_no_row() {
    for step in STEPS {
        let mut rig = Rig::new();
        let mut writer = rig.writer_with(quiet());
        let hold = Hold::at(&mut writer, step);
        rig.accept(0, 300);
        writer.settle();
        writer.begin_pass().unwrap();
        hold.reached();
        rig.accept(1, 200);
        writer.settle();
        let copy = killed(&rig);
        hold.go_on();
        end_passes(&mut writer);
        rig.all_stored();
        let mut after = Rig::on(copy, rig.accepted);
        assert_eq!(after.recovered, None, "{step:?}");
        let mut writer = after.writer();
        writer.settle();
        assert_eq!(after.status.lost_records.get(), 0, "{step:?}");
        after.all_stored();
    }
}

/// A WAL that is damaged, cut or removed after a kill. The file is in one of two states as a whole here.
#[test]
fn a_damaged_wal_costs_no_row_if_the_file_is_whole() {
    for step in STEPS {
        for damage in 0..10_usize {
            let (mut rig, mut writer, hold) = held(100, &[step]);
            rig.accept(0, 300);
            writer.settle();
            writer.begin_pass().unwrap();
            hold.reached();
            rig.accept(1, 200);
            writer.settle();
            let copy = killed(&rig);
            hold.go_on();
            end_passes(&mut writer);
            let wal = folder(&copy).database().with_extension("db-wal");
            let mut bytes = fs::read(&wal).unwrap();
            match damage {
                0 => fs::remove_file(&wal).unwrap(),
                1 => fs::write(&wal, []).unwrap(),
                2 => fs::write(&wal, &bytes[..bytes.len() / 3]).unwrap(),
                _ => {
                    let at = bytes.len() * (damage - 3) / 7 + 5;
                    bytes[at] ^= 1;
                    fs::write(&wal, bytes).unwrap();
                }
            }
            let mut after = Rig::on(copy, rig.accepted);
            assert!(!matches!(after.recovered, Some(Recovered::SetAside(_))), "{step:?} {damage}");
            let mut writer = after.writer();
            writer.settle();
            assert_eq!(after.status.lost_records.get(), 0, "{step:?} {damage}");
            after.all_stored();
        }
    }
}

/// A folder as a kill in the middle of the copying leaves it: some pages are of the state before, others of the state
/// after. Returns it with the number of events that were accepted, and the number that only the file has.
fn half_copied() -> (TempDir, i64, i64) {
    let (mut rig, mut writer, hold) = held(1_000, &[PassStep::Recorded]);
    for _ in 0..40 {
        rig.accept(0, 10);
    }
    writer.settle();
    writer.begin_pass().unwrap();
    hold.reached();
    let copy = killed(&rig);
    hold.go_on();
    end_passes(&mut writer);
    let (before, after) = (fs::read(folder(&copy).database()).unwrap(), fs::read(rig.path()).unwrap());
    assert!(after.len() > before.len());
    let mut mixture = after.clone();
    // Every second page that was there before is old.
    for (number, page) in before.chunks(4096).enumerate().filter(|(number, _)| number % 2 == 0) {
        mixture[number * 4096..][..4096].copy_from_slice(page);
    }
    assert!(mixture != before && mixture != after);
    fs::write(folder(&copy).database(), mixture).unwrap();
    let kept = fs::read_dir(folder(&copy).lane(LaneId::hot(0))).unwrap();
    assert!(kept.count() > 1);
    (copy, rig.accepted, 1_000)
}

#[test]
fn a_half_copied_file_is_complete_with_its_wal() {
    let (copy, accepted, _) = half_copied();
    let mut after = Rig::on(copy, accepted);
    assert_eq!(after.recovered, None);
    after.writer().settle();
    after.all_stored();
}

#[test]
fn w6_a_half_copied_file_without_its_wal_is_set_aside_and_the_journal_restores_the_rest() {
    for damage in 0..4 {
        let (copy, accepted, copied) = half_copied();
        let path = folder(&copy).database();
        let wal = path.with_extension("db-wal");
        match damage {
            0 => fs::remove_file(&wal).unwrap(),
            1 => fs::write(&wal, &fs::read(&wal).unwrap()[..5_000]).unwrap(),
            _ => {
                let mut bytes = fs::read(&wal).unwrap();
                bytes[32 + 24 + 4_096 * (damage - 1)] ^= 1;
                fs::write(&wal, bytes).unwrap();
            }
        }
        let mut after = Rig::on(copy, accepted);
        let Some(Recovered::SetAside(aside)) = after.recovered.clone() else {
            panic!("{damage}: {:?}", after.recovered);
        };
        assert!(aside.file_name().unwrap().to_str().unwrap().starts_with("shard.db.damaged-"));
        assert_eq!(aside.exists(), !path.exists());
        let mut writer = after.writer();
        writer.settle();
        let (stored, lost) = (after.status.stored(&CLICKS) as i64, after.status.lost_records.get() as i64);
        assert_eq!(stored + lost, accepted, "{damage}");
        assert!(stored >= accepted - copied && lost <= copied, "{damage}: {stored} {lost}");
        assert_eq!(verify(&path, &FAMILIES).unwrap().problems, Vec::<String>::new());
        // New events are stored, and another start has nothing to do.
        after.accept(0, 5);
        writer.settle();
        let after = after.restart(writer);
        assert_eq!(after.recovered, None);
    }
}

/// The control: without the record, the same file is served.
#[test]
fn without_the_record_a_mixture_is_not_noticed() {
    let (copy, accepted, _) = half_copied();
    let path = folder(&copy).database();
    fs::remove_file(path.with_extension("db-wal")).unwrap();
    fs::remove_file(path.with_extension("db-pass")).unwrap();
    let after = Rig::on(copy, accepted);
    assert_eq!(after.recovered, None);
    let verified = verify(&path, &FAMILIES);
    assert!(verified.is_err() || !verified.unwrap().problems.is_empty());
}

/// Runs a pass during which 300 events are committed after its record was synced. Returns the folder as a kill leaves it
/// at that point, the folder as a kill leaves it once everything is copied, and the number of accepted events.
fn extended(before: i64) -> (TempDir, TempDir, i64) {
    let (mut rig, mut writer, hold) = held(before, &[PassStep::Recorded, PassStep::Copied]);
    rig.accept(0, 300);
    writer.settle();
    writer.begin_pass().unwrap();
    hold.reached();
    let recorded = killed(&rig);
    rig.accept(0, 300);
    writer.settle();
    hold.go_on();
    hold.reached();
    let copied = killed(&rig);
    hold.go_on();
    end_passes(&mut writer);
    (recorded, copied, rig.accepted)
}

fn beside_database(dir: &TempDir, end: &str) -> PathBuf {
    folder(dir).database().with_extension(format!("db{end}"))
}

/// Pages that were copied from frames after the recorded ones, which are damaged now.
#[test]
fn frames_that_were_committed_after_the_record_are_required_too_once_they_are_copied() {
    for is_mixture in [false, true] {
        let (recorded, copy, accepted) = extended(1_000);
        let file = fs::read(folder(&copy).database()).unwrap();
        let mut copied = file.clone();
        if is_mixture {
            // A page that neither the frames before the record nor those after it contain.
            let old = fs::read(folder(&recorded).database()).unwrap();
            let pages = || (4..old.len() / 4096).map(|page| page * 4096..(page + 1) * 4096);
            let untouched = pages().find(|at| old[at.clone()] == file[at.clone()]).unwrap();
            copied[untouched].fill(0);
        } else {
            // Every page was copied except the last one.
            copied.truncate(file.len() - 4_096);
        }
        fs::write(folder(&copy).database(), copied).unwrap();
        let (from, wal) = (beside_database(&recorded, "-wal"), beside_database(&copy, "-wal"));
        let mut bytes = fs::read(&wal).unwrap();
        bytes[fs::metadata(from).unwrap().len() as usize + 100] ^= 1;
        fs::write(&wal, bytes).unwrap();
        let mut after = Rig::on(copy, accepted);
        let is_aside = matches!(after.recovered, Some(Recovered::SetAside(_)));
        assert_eq!(is_aside, is_mixture, "{:?}", after.recovered);
        after.writer().settle();
        let (stored, lost) = (after.status.stored(&CLICKS) as i64, after.status.lost_records.get() as i64);
        assert_eq!(stored + lost, accepted);
        assert!(lost <= if is_mixture { 1_000 } else { 0 }, "{lost}");
        if !is_mixture {
            after.all_stored();
        }
    }
}

/// A power cut that keeps the extended record, and loses the frames that it names and every journal.
#[test]
fn w6_rows_that_only_a_synced_wal_has_survive_a_power_cut_at_the_start_of_a_pass() {
    let (recorded, copied, accepted) = extended(500);
    fs::copy(beside_database(&copied, "-pass"), beside_database(&recorded, "-pass")).unwrap();
    for lane in [LaneId::hot(0), LaneId::keyed(0)] {
        fs::remove_dir_all(folder(&recorded).lane(lane)).unwrap();
    }
    let mut after = Rig::on(recorded, accepted - 300);
    assert_eq!(after.recovered, None);
    after.writer().settle();
    assert_eq!(after.status.lost_records.get(), 0);
    after.all_stored();
}

#[test]
fn the_wal_starts_again_at_its_size_and_is_cut_only_when_the_shard_is_idle() {
    let mut rig = Rig::new();
    let small = ShardOptions { checkpoint_wal_bytes: 256 << 10, ..settings().shard };
    let mut writer = rig.writer_with(WriteSettings { shard: small, ..quiet() });
    let wal = rig.path().with_extension("db-wal");
    let (mut longest, mut restarts, mut before) = (0, 0, 0);
    for _ in 0..600 {
        rig.accept(0, 60);
        writer.settle();
        let length = fs::metadata(&wal).unwrap().len();
        assert!(length >= longest, "it was cut under load: {longest} to {length}");
        longest = length;
        let whole = writer.open_shard().wal_whole_bytes();
        restarts += usize::from(whole < before);
        before = whole;
    }
    assert!(restarts >= 2, "{restarts} restarts, {longest} bytes");
    assert!(longest < 6 * (256 << 10), "{longest} bytes");
    writer.settings.checkpoint_age_max = Duration::ZERO;
    until("it is cut", || {
        writer.turn().unwrap();
        writer.open_shard().is_wal_truncated()
    });
    // An idle shard comes to rest.
    let checkpoints = rig.status.checkpoints.get();
    for _ in 0..50 {
        assert_eq!(writer.turn().unwrap(), Turn::Idle);
    }
    assert_eq!(rig.status.checkpoints.get(), checkpoints);
    assert!(writer.open_shard().is_wal_truncated());
    rig.all_stored();
}

#[test]
fn a_reader_that_stays_keeps_the_journals_and_a_later_pass_releases_them() {
    let mut rig = Rig::new();
    let mut writer = rig.writer_with(quiet());
    rig.accept(0, 100);
    writer.settle();
    let reader = open_reader(&rig.path()).unwrap();
    let pin = reader.unchecked_transaction().unwrap();
    pin.query_row("SELECT count(*) FROM events", [], |row| row.get::<_, i64>(0)).unwrap();
    for _ in 0..100 {
        rig.accept(0, 10);
    }
    writer.settle();
    let before = segments(&rig);
    writer.begin_pass().unwrap();
    end_passes(&mut writer);
    assert_eq!((segments(&rig), checkpointed(&rig.path())), (before, Vec::new()));
    drop(pin);
    drop(reader);
    // It is tried again without a new reason.
    until("it is released", || {
        writer.turn().unwrap();
        segments(&rig) < before
    });
    rig.all_stored();
}

#[test]
fn a_truncation_waits_for_the_pass_under_way() {
    let mut rig = Rig::new();
    let mut writer = rig.writer_with(quiet());
    let hold = Hold::at(&mut writer, PassStep::Recorded);
    rig.accept(0, 100);
    writer.settle();
    writer.begin_pass().unwrap();
    hold.reached();
    let releasing = thread::spawn(move || hold.go_on());
    writer.checkpoint(CheckpointMode::Truncate).unwrap();
    releasing.join().unwrap();
    assert!(!writer.is_passing() && writer.open_shard().is_wal_truncated());
    rig.all_stored();
}

#[test]
fn a_failed_pass_poisons_the_shard_and_costs_no_row() {
    let mut rig = Rig::new();
    let mut writer = rig.writer_with(quiet());
    rig.accept(0, 100);
    writer.settle();
    let record = rig.path().with_extension("db-pass");
    fs::remove_file(&record).unwrap();
    fs::create_dir(&record).unwrap();
    writer.begin_pass().unwrap();
    let mut failed = None;
    until("the pass fails", || {
        failed = writer.turn().err();
        failed.is_some()
    });
    writer.weather(failed.unwrap());
    assert!(writer.shard.is_none());
    fs::remove_dir(&record).unwrap();
    rig.accept(0, 100);
    writer.settle();
    assert_eq!(rig.status.reopened.get(), 1);
    writer.begin_pass().unwrap();
    end_passes(&mut writer);
    rig.all_stored();
}
