//! E1 in one shard whose rows are shipped: an erasure is finished once every sink has it. Until then, only its own record
//! names the person, and others do not wait.

use std::path::Path;
use std::time::Duration;

use super::people::{apply, encoded, event, event_named, records, small, subject};
use super::{KEYED, folder, reopen, sound};
use crate::base::ids::ShardId;
use crate::clicks::CLICKS;
use crate::events::SERVICE_EVENT;
use crate::families::FAMILIES;
use crate::ingest::CLICK;
use crate::people::feed::{self, EventFate, FeedErasure};
use crate::people::{ErasureRecord, ErasureState, PeopleStore, RemovedOutside, Subject, WaitPauses, erasure};
use crate::shard::{
    CheckpointMode, Confirmed, ErasureMode, Outcome, Renewed, Shard, ShardOptions, ShipOptions, SinkEntry,
    WriterTask, epochs, open_reader, register_sink, remove_sink, verify_aggregates, write_confirmed,
};

const HOUR: Duration = Duration::from_secs(3_600);
/// Nothing waits for a time.
const AT_ONCE: WaitPauses =
    WaitPauses { look: Duration::ZERO, patience: Duration::ZERO, between: Duration::ZERO };

/// A shard in a data folder with sinks.
struct World {
    dir: tempfile::TempDir,
    pauses: WaitPauses,
    open: Option<Shard>,
    /// The number of passes over the file that ended.
    passes: u64,
}

fn options(data: &Path) -> ShardOptions {
    ShardOptions { ship: Some(ShipOptions::of(data.to_owned(), ShardId(0))), ..small() }
}

fn opened(data: &Path, pauses: WaitPauses) -> Shard {
    let mut shard = reopen(data, &options(data));
    shard.store_mut::<PeopleStore>().unwrap().0.set_pauses(pauses);
    shard
}

impl World {
    fn new(pauses: WaitPauses, sinks: &[&str]) -> World {
        let dir = tempfile::tempdir().unwrap();
        for name in sinks {
            register(dir.path(), name, name);
        }
        let shard = opened(dir.path(), pauses);
        World { dir, pauses, open: Some(shard), passes: 0 }
    }

    fn shard(&mut self) -> &mut Shard {
        self.open.as_mut().unwrap()
    }

    fn set_pauses(&mut self, pauses: WaitPauses) {
        self.pauses = pauses;
        self.shard().store_mut::<PeopleStore>().unwrap().0.set_pauses(pauses);
    }

    /// Ends the shard without a clean stop, and opens it again.
    fn kill(&mut self) {
        self.open.take().unwrap().poison();
        self.open = Some(opened(self.dir.path(), self.pauses));
    }

    fn begin(&mut self, id: &str, mode: ErasureMode, subject: Subject) {
        let record = ErasureRecord::Erase {
            id: id.repeat(32),
            began_us: 1,
            mode,
            subject: subject.clone(),
            names_truncated: false,
            removed: RemovedOutside::default(),
            batch: None,
        };
        apply(self.shard(), &[encoded(&ErasureRecord::Suppress { mode, subject }), encoded(&record)]);
    }

    /// Runs a turn as the writer does.
    fn turn(&mut self) {
        match self.shard().writer_task() {
            WriterTask::RotateJournals => {
                self.shard().journals_renewed(Renewed { journals: 1, bytes: 2, quarantined: 0 }).unwrap();
            }
            WriterTask::ReportLanes => {
                let positions = self.shard().positions();
                self.shard().lanes_reported(&positions);
            }
            WriterTask::TruncateWal => {
                self.shard().checkpoint(CheckpointMode::Truncate).unwrap();
                assert!(self.shard().is_wal_truncated());
                self.shard().wal_truncated().unwrap();
                self.passes += 1;
            }
            WriterTask::Nothing => {}
        }
        if self.shard().upkeep_due() {
            self.shard().upkeep(Duration::ZERO).unwrap();
        }
    }

    /// Runs turns until every erasure is finished or waits, and some more.
    fn settle(&mut self) {
        let mut more = 0;
        for _ in 0..200_000 {
            self.turn();
            let rest = self.count("SELECT count(*) FROM erasure WHERE step NOT IN ('ships', 'finished')");
            more = if rest == 0 { more + 1 } else { 0 };
            if more > 20 {
                return;
            }
        }
        panic!("it does not end: {:?}", self.state("0"));
    }

    fn count(&mut self, sql: &str) -> i64 {
        self.shard().connection().query_row(sql, [], |row| row.get(0)).unwrap()
    }

    fn state(&mut self, id: &str) -> ErasureState {
        erasure(self.shard().connection(), &id.repeat(32)).unwrap().unwrap()
    }

    fn known(&mut self, number: i64) -> Option<FeedErasure> {
        feed::erasure(self.shard().connection(), number).unwrap()
    }

    /// Notes that a sink has the feed up to this change.
    fn confirm(&mut self, name: &str, upto: i64) {
        let epoch = epochs(self.shard().connection()).unwrap().pop().unwrap().id;
        note(self.dir.path(), name, (name, &epoch), upto);
    }

    fn has_in_files(&self, text: &[u8]) -> bool {
        let files =
            std::fs::read_dir(folder(self.dir.path()).dir()).unwrap().map(|file| file.unwrap().path());
        let files: Vec<_> =
            files.filter(|path| path.is_file()).map(|path| std::fs::read(path).unwrap()).collect();
        files.iter().any(|file| memchr::memmem::find(file, text).is_some())
    }
}

fn register(data: &Path, name: &str, id: &str) {
    let of = |text: &str| text.to_owned();
    let sink = SinkEntry { id: of(id), kind: of("test"), target: of("here"), registered_at: of("now") };
    register_sink(data, name, &sink).unwrap();
}

fn note(data: &Path, name: &str, (sink, epoch): (&str, &str), upto: i64) {
    let (sink, epoch) = (sink.to_owned(), epoch.to_owned());
    let last = [("change".to_owned(), upto)].into_iter().collect();
    let note = Confirmed { sink, epoch, last, at_us: 1, rejected: 0 };
    write_confirmed(data, name, ShardId(0), &note).unwrap();
}

fn customer(id: &str) -> Subject {
    Subject::Customer {
        tenant_id: "t".to_owned(),
        customer_id: id.to_owned(),
        token: format!("anon-{id}"),
        names: Vec::new(),
        emails: Vec::new(),
    }
}

/// Texts that show the erased customer.
const TRACES: [&str; 2] = ["Zq7x9", "aphodius"];

fn waits_and_ends(mode: ErasureMode, kills: bool) {
    let mut world = World::new(AT_ONCE, &["lake", "pg"]);
    apply(world.shard(), &records());
    let deleted = "SELECT count(*) FROM service_events WHERE payload LIKE '%Zq7x9%'";
    assert_eq!(world.count(deleted), 18);
    world.begin("0", mode, subject());
    world.settle();
    // The shard has done its part, and the masked record is all that is left of the person.
    let state = world.state("0");
    assert!(state.step == "ships" && state.local_us.is_some() && state.finished_us.is_none(), "{state:?}");
    assert_eq!(
        (world.passes, world.count(deleted), state.report.events, state.report.orders),
        (1, 0, 18, 18)
    );
    assert!(TRACES.iter().all(|trace| !world.has_in_files(trace.as_bytes())));
    let known = world.known(1).unwrap();
    assert_eq!((known.subject, known.mode), (subject(), mode));
    let masked = "SELECT hex(subject) FROM erasure WHERE number = 1";
    let masked: String = world.shard().connection().query_row(masked, [], |row| row.get(0)).unwrap();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    let masked: Vec<u8> = masked.as_bytes().chunks(2).take(16).map(byte).collect();
    assert!(world.has_in_files(&masked));
    // One of two sinks, notes of another registration and of another epoch, and an earlier change do not suffice.
    let seq = state.seq.unwrap();
    world.confirm("pg", seq + 5);
    let epoch = epochs(world.shard().connection()).unwrap().pop().unwrap().id;
    for (sink, epoch, upto) in
        [("other", epoch.as_str(), seq), ("lake", "other", seq), ("lake", &epoch, seq - 1)]
    {
        note(world.dir.path(), "lake", (sink, epoch), upto);
        if kills {
            world.kill();
        }
        world.settle();
        assert_eq!(world.state("0").step, "ships", "{sink} {epoch} {upto}");
        assert!(world.known(1).is_some());
    }
    world.confirm("lake", seq);
    if kills {
        world.kill();
    }
    world.settle();
    let state = world.state("0");
    assert!(state.step == "finished" && state.finished_us >= state.local_us, "{state:?}");
    assert_eq!(state.sinks, Some(vec!["lake".to_owned(), "pg".to_owned()]));
    assert!(world.known(1).is_none() && world.passes == 2);
    assert!(!world.has_in_files(&masked));
    let path = folder(world.dir.path()).database();
    assert_eq!(verify_aggregates(&path, &FAMILIES).unwrap().problems, Vec::<String>::new());
    sound(&path);
}

#[test]
fn e1_a_person_is_forgotten_once_every_sink_has_the_erasure() {
    for mode in ErasureMode::ALL {
        waits_and_ends(mode, false);
        waits_and_ends(mode, true);
    }
}

#[test]
fn e1_a_sink_that_answers_in_time_costs_no_second_pass() {
    let mut world = World::new(WaitPauses { patience: HOUR, ..AT_ONCE }, &["pg"]);
    apply(world.shard(), &records());
    world.begin("0", ErasureMode::Erase, subject());
    world.settle();
    let state = world.state("0");
    assert!(state.step == "ships" && state.local_us.is_none() && world.passes == 0, "{state:?}");
    world.confirm("pg", state.seq.unwrap());
    world.settle();
    let state = world.state("0");
    assert!(state.finished_us.is_some() && state.local_us.is_some() && world.passes == 1, "{state:?}");
    assert!(TRACES.iter().all(|trace| !world.has_in_files(trace.as_bytes())));
}

#[test]
fn e1_without_a_sink_nothing_waits_and_no_event_is_named() {
    for mode in ErasureMode::ALL {
        let mut world = World::new(WaitPauses { patience: HOUR, between: HOUR, look: HOUR }, &[]);
        apply(world.shard(), &records());
        world.begin("0", mode, subject());
        world.settle();
        let state = world.state("0");
        assert!(state.finished_us.is_some() && world.passes == 1, "{state:?}");
        assert_eq!(state.sinks, Some(Vec::new()));
        // A sink that is registered while rows were still there would need the erasure.
        let kinds = "SELECT group_concat(kind) FROM change WHERE kind IN ('erasure', 'erased')";
        let kinds: Option<String> =
            world.shard().connection().query_row(kinds, [], |row| row.get(0)).unwrap();
        assert!(kinds.as_deref().is_none_or(|kinds| kinds == "erasure"), "{kinds:?}");
    }
}

#[test]
fn e1_a_removed_sink_is_not_waited_for() {
    let mut world = World::new(AT_ONCE, &["lake", "pg"]);
    apply(world.shard(), &records());
    world.begin("0", ErasureMode::Erase, subject());
    world.settle();
    let seq = world.state("0").seq.unwrap();
    world.confirm("lake", seq);
    world.settle();
    assert_eq!(world.state("0").step, "ships");
    assert!(remove_sink(world.dir.path(), "pg").unwrap());
    world.settle();
    assert_eq!(world.state("0").sinks, Some(vec!["lake".to_owned()]));
    world.begin("1", ErasureMode::Erase, customer("c-1"));
    world.settle();
    assert!(remove_sink(world.dir.path(), "lake").unwrap());
    world.settle();
    assert_eq!(world.state("1").sinks, Some(Vec::new()));
}

/// A registration that cannot be read may be one of a sink that has the rows.
#[test]
fn e1_a_damaged_note_is_waited_for() {
    let mut world = World::new(AT_ONCE, &["pg"]);
    apply(world.shard(), &records());
    let path = world.dir.path().join("ship/pg/sink.json");
    let sound = std::fs::read(&path).unwrap();
    std::fs::write(&path, "{").unwrap();
    world.begin("0", ErasureMode::Erase, subject());
    world.settle();
    assert_eq!(world.state("0").step, "ships");
    assert_eq!(world.count("SELECT count(*) FROM change WHERE kind = 'erased'"), 18);
    std::fs::write(&path, sound).unwrap();
    let seq = world.state("0").seq.unwrap();
    world.confirm("pg", seq);
    world.settle();
    assert_eq!(world.state("0").step, "finished");
}

#[test]
fn e1_the_feed_names_rows_and_nobody() {
    for mode in ErasureMode::ALL {
        let mut world = World::new(AT_ONCE, &["pg"]);
        apply(world.shard(), &records());
        // The id of this event refers to the customer, so a pseudonym is not enough.
        let named = event_named("t", ("cust-Zq7x9", 900), "{}");
        apply(world.shard(), &[(SERVICE_EVENT.number(), named)]);
        let ids = |sql: &str, world: &mut World| -> Vec<i64> {
            let mut statement = world.shard().connection().prepare(sql).unwrap();
            statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
        };
        let theirs = "SELECT id FROM service_events WHERE event_id = 'cust-Zq7x9' OR payload LIKE '%Zq7x9%' ORDER BY id";
        let before = ids(theirs, &mut world);
        assert_eq!(before.len(), 19);
        world.begin("0", mode, subject());
        world.settle();
        let expected = if mode == ErasureMode::Erase { before } else { vec![*before.last().unwrap()] };
        let erased =
            "SELECT ref FROM change WHERE kind = 'erased' AND value = 1 AND tenant IS NULL ORDER BY ref";
        assert_eq!(ids(erased, &mut world), expected);
        let erasures = "SELECT ref FROM change WHERE kind = 'erasure' AND value IS NULL AND tenant IS NULL";
        assert_eq!(ids(erasures, &mut world), [1]);
        // The erasure comes last, so a sink that has applied it never reads a row that is still to be deleted.
        let later = "SELECT count(*) FROM change WHERE seq > (SELECT seq FROM erasure)";
        assert_eq!(world.count(later), 0);
        let texts = "SELECT count(*) FROM change WHERE typeof(tenant) NOT IN ('null', 'integer') \
                     OR typeof(ref) <> 'integer' OR typeof(value) NOT IN ('null', 'integer')";
        assert_eq!(world.count(texts), 0);
    }
}

/// A target that decides with the same code as the shard has the same events.
#[test]
fn e1_a_copy_that_applies_the_erasure_equals_the_shard() {
    for mode in ErasureMode::ALL {
        let mut world = World::new(AT_ONCE, &["pg"]);
        apply(world.shard(), &records());
        let all = |world: &mut World| -> Vec<(i64, [String; 3], String)> {
            let sql = "SELECT id, event_id, source, event_type, payload FROM service_events ORDER BY id";
            let mut statement = world.shard().connection().prepare(sql).unwrap();
            let read = |row: &rusqlite::Row<'_>| {
                Ok((row.get(0)?, [row.get(1)?, row.get(2)?, row.get(3)?], row.get(4)?))
            };
            statement.query_map([], read).unwrap().map(Result::unwrap).collect()
        };
        let before = all(&mut world);
        world.begin("0", mode, subject());
        world.settle();
        let erasing = world.known(1).unwrap();
        let needles = erasing.needles();
        let copy = before.into_iter().filter_map(|(id, names, payload)| {
            let is_candidate = needles.iter().any(|needle| payload.contains(needle));
            let [event_id, source, event_type] = names.each_ref().map(String::as_str);
            match erasing.event([event_id, source, event_type], &payload) {
                EventFate::Other => Some((id, names, payload)),
                EventFate::Replaced(payload) if is_candidate => Some((id, names, payload)),
                EventFate::Deleted if is_candidate => None,
                _ => panic!("the search misses {payload}"),
            }
        });
        assert_eq!(copy.collect::<Vec<_>>(), all(&mut world));
    }
}

#[test]
fn e1_others_do_not_wait_for_an_erasure_that_waits() {
    let mut world = World::new(AT_ONCE, &["pg"]);
    apply(world.shard(), &records());
    world.begin("0", ErasureMode::Erase, subject());
    world.settle();
    let passes = world.passes;
    // Rows and erasures are as usual, also after the shard was opened again.
    world.kill();
    assert_eq!(
        apply(world.shard(), &[(SERVICE_EVENT.number(), event(901, "{\"of\":\"c-1\"}"))]),
        [Outcome::Inserted]
    );
    world.begin("1", ErasureMode::Pseudonymise, customer("c-1"));
    world.settle();
    let [first, second] = [world.state("0"), world.state("1")];
    assert!(first.step == "ships" && second.step == "ships" && second.local_us.is_some(), "{second:?}");
    assert_eq!((second.report.orders, world.passes), (52, passes + 1));
    // The first is finished while the second waits.
    world.confirm("pg", first.seq.unwrap());
    world.settle();
    assert_eq!([world.state("0").step, world.state("1").step], ["finished", "ships"]);
    world.confirm("pg", second.seq.unwrap());
    world.settle();
    assert_eq!(world.state("1").step, "finished");
}

/// 500 people of whom nothing is held are erased, each by a request of its own, while the sink is away.
#[test]
fn e1_many_that_wait_share_the_passes_over_the_file() {
    let mut world = World::new(WaitPauses { patience: HOUR, ..AT_ONCE }, &["pg"]);
    apply(world.shard(), &records());
    for number in 0..500 {
        world.begin(&format!("{number:03}"), ErasureMode::Erase, customer(&format!("nobody-{number}")));
    }
    world.settle();
    let waiting =
        "SELECT count(*) FROM erasure WHERE step = 'ships' AND subject IS NOT NULL AND local_us IS ";
    assert_eq!((world.count(&format!("{waiting} NULL")), world.passes), (500, 0));
    world.set_pauses(AT_ONCE);
    world.settle();
    assert_eq!((world.count(&format!("{waiting} NOT NULL")), world.passes), (500, 1));
    let last = world.count("SELECT max(seq) FROM erasure");
    world.confirm("pg", last);
    world.settle();
    assert_eq!(world.count("SELECT count(*) FROM erasure WHERE finished_us IS NULL"), 0);
    assert_eq!(world.passes, 2);
}

/// A sink that is behind confirms one erasure after the other.
#[test]
fn e1_a_sink_that_catches_up_slowly_causes_few_passes() {
    let mut world = World::new(AT_ONCE, &["pg"]);
    for number in 0..20 {
        world.begin(&format!("{number:02}"), ErasureMode::Erase, customer(&format!("nobody-{number}")));
    }
    world.settle();
    world.set_pauses(WaitPauses { between: HOUR, ..AT_ONCE });
    let passes = world.passes;
    let mut seqs = Vec::new();
    for number in 0..20 {
        seqs.push(world.state(&format!("{number:02}")).seq.unwrap());
    }
    for seq in &seqs[..19] {
        world.confirm("pg", *seq);
        world.settle();
    }
    assert!(world.passes - passes <= 1, "{} passes", world.passes - passes);
    world.confirm("pg", seqs[19]);
    world.settle();
    assert!(world.passes - passes <= 2, "{} passes", world.passes - passes);
    assert_eq!(world.count("SELECT count(*) FROM erasure WHERE finished_us IS NULL"), 0);
}

#[test]
fn e1_clicks_of_a_user_wait_for_the_sinks_too() {
    let mut world = World::new(AT_ONCE, &["pg"]);
    let click = |n: usize| {
        let user = if n.is_multiple_of(4) { 77 } else { n as i64 + 1_000 };
        (CLICK.number(), super::payload(user, n as i64 * 1_000, "{}"))
    };
    apply(world.shard(), &(0..50).map(click).collect::<Vec<_>>());
    world.begin("0", ErasureMode::Erase, Subject::User { user_id: 77 });
    world.settle();
    let state = world.state("0");
    assert_eq!((state.step.as_str(), state.report.clicks, state.tenant_id), ("ships", 13, None));
    let known = world.known(1).unwrap();
    assert_eq!((known.user_id(), known.clicks_upto), (Some(77), Some(50)));
    assert_eq!(world.count("SELECT count(*) FROM events WHERE user_id = 77"), 0);
    // The user may come back meanwhile.
    apply(world.shard(), &[click(100)]);
    world.confirm("pg", state.seq.unwrap());
    world.settle();
    assert_eq!(world.state("0").step, "finished");
    assert_eq!(world.count("SELECT count(*) FROM events WHERE user_id = 77"), 1);
    assert_eq!(
        world.shard().streams().find(|state| state.stream == &CLICKS).map(|state| state.rows),
        Some(38)
    );
}

/// The shard is killed after every few turns, and the sink confirms at some point.
#[test]
fn e1_an_erasure_that_is_cut_off_while_a_sink_is_behind_ends_all_the_same() {
    for (every, answers) in [(6, 40), (9, 300), (23, 800)] {
        for mode in ErasureMode::ALL {
            let mut world = World::new(AT_ONCE, &["pg"]);
            apply(world.shard(), &records());
            world.begin("0", mode, subject());
            world.begin("1", mode, customer("c-1"));
            let left = "SELECT count(*) FROM erasure WHERE finished_us IS NULL";
            let mut turns = 0;
            while world.count(left) > 0 {
                world.turn();
                turns += 1;
                assert!(turns < 20_000, "it does not end");
                if turns > answers && turns % 50 == 0 {
                    let last = world.count("SELECT coalesce(max(seq), 0) FROM erasure");
                    world.confirm("pg", last);
                }
                if turns % every == 0 {
                    world.kill();
                }
            }
            assert_eq!([world.state("0"), world.state("1")].map(|state| state.report.orders), [18, 52]);
            assert_eq!(world.count("SELECT count(*) FROM erasure WHERE seq IS NULL"), 0);
            assert_eq!(world.count("SELECT count(*) FROM erasure WHERE subject IS NOT NULL"), 0);
            assert!(TRACES.iter().all(|trace| !world.has_in_files(trace.as_bytes())));
            assert!(world.shard().position(KEYED).0 > 0);
            let path = folder(world.dir.path()).database();
            assert_eq!(verify_aggregates(&path, &FAMILIES).unwrap().problems, Vec::<String>::new());
        }
    }
}

#[test]
fn an_unknown_erasure_and_a_masked_one_are_nobody() {
    let mut world = World::new(AT_ONCE, &[]);
    world.begin("0", ErasureMode::Erase, subject());
    assert!(world.known(1).is_some() && world.known(2).is_none());
    world.settle();
    assert!(world.known(1).is_none());
    let reader = open_reader(&folder(world.dir.path()).database()).unwrap();
    assert!(feed::erasure(&reader, 1).unwrap().is_none());
}
