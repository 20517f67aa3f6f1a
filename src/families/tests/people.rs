//! E1 in one shard: an erasure that is interrupted after every few slices still finishes, and every figure equals a
//! recount at every step (R3).

use std::time::Duration;

use super::tenant_retention::{age, keeps};
use super::unordered::few_rows;
use super::{KEYED, Lane, folder, options, reopen, sound};
use crate::base::ids::Sequence;
use crate::base::keys::KeyHasher;
use crate::base::money::Currency;
use crate::events::{EventStore, SERVICE_EVENT, ServiceEventRow};
use crate::families::FAMILIES;
use crate::orders::{INGEST, IngestRow, ItemRow, ORDER, ORDERS, OrderParts, OrderStatus, encode_order};
use crate::people::{ERASURE, ErasureRecord, RemovedOutside, Subject, erasure, known_customer};
use crate::shard::{
    CheckpointMode, ErasureMode, Outcome, Renewed, Shard, ShardOptions, WriterTask, open_reader,
    verify_aggregates,
};

fn order(number: usize, customer: &str, name: &str) -> Vec<u8> {
    line_of((0, 0), number, customer, name)
}

fn line_of((ingest, line): (i64, i64), number: usize, customer: &str, name: &str) -> Vec<u8> {
    let parts = OrderParts {
        tenant_id: "t",
        order_id: &format!("o{number}"),
        customer_id: customer,
        customer_name: name,
        customer_email: &format!("{customer}@example.org"),
        status: OrderStatus::ALL[number % 6],
        currency: Currency::parse("USD").unwrap(),
        ordered_at_us: number as i64 * 1_700_000_000,
    };
    let item =
        |product_id| ItemRow { product_id, category: "g", quantity: 2, unit_price: 100 + number as i64 };
    let mut bytes = Vec::new();
    encode_order(&parts, (ingest, line, 7), [item("p1"), item("p2")].into_iter(), &mut bytes);
    bytes
}

pub(super) fn event(number: usize, payload: &str) -> Vec<u8> {
    event_of("t", number, payload)
}

fn event_of(tenant_id: &str, number: usize, payload: &str) -> Vec<u8> {
    event_named(tenant_id, (&format!("e{number}"), number), payload)
}

pub(super) fn event_named(tenant_id: &str, (event_id, number): (&str, usize), payload: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    ServiceEventRow {
        timestamp_us: (number * 29 % 71) as i64 * 31_000_000,
        received_us: 1,
        tenant_id,
        event_id,
        source: "web",
        event_type: "view",
        payload,
    }
    .encode(&mut bytes);
    bytes
}

pub(super) fn subject() -> Subject {
    Subject::Customer {
        tenant_id: "t".to_owned(),
        customer_id: "cust-Zq7x9".to_owned(),
        token: "anon-1".to_owned(),
        names: vec!["Zaphodius".to_owned()],
        emails: vec!["cust-Zq7x9@example.org".to_owned()],
    }
}

pub(super) fn records() -> Vec<(u8, Vec<u8>)> {
    let mut records = Vec::new();
    for number in 0..70 {
        let is_theirs = number % 4 == 1;
        let (customer, name) = if is_theirs { ("cust-Zq7x9", "Zaphodius") } else { ("c-1", "Ann") };
        records.push((ORDER.number(), order(number, customer, name)));
        let payload = format!("{{\"of\":\"{customer}\",\"pad\":\"{}\"}}", "x".repeat(number * 40));
        records.push((SERVICE_EVENT.number(), event(number, &payload)));
    }
    records
}

pub(super) fn small() -> ShardOptions {
    ShardOptions { partition_rows_max: 20, partition_rows_max_of: vec![(&ORDERS, 25)], ..options() }
}

pub(super) fn apply(shard: &mut Shard, records: &[(u8, Vec<u8>)]) -> Vec<Outcome> {
    let first = shard.position(KEYED).0 + 1;
    let numbered =
        records.iter().zip(first..).map(|((kind, payload), n)| (Sequence(n), *kind, payload.clone()));
    let (lane, mut outcomes) = (Lane(numbered.collect()), Vec::new());
    shard.apply(&[(KEYED, &lane)], &mut |_, _, outcome| outcomes.push(outcome)).unwrap();
    outcomes
}

pub(super) fn encoded(record: &ErasureRecord) -> (u8, Vec<u8>) {
    let mut bytes = Vec::new();
    record.encode(&mut bytes).unwrap();
    (ERASURE.number(), bytes)
}

/// With `unordered`, the events' partitions have no index yet, or a part of it.
fn cut_off_after(slices: usize, mode: ErasureMode, unordered: bool) {
    let dir = tempfile::tempdir().unwrap();
    let open = || {
        let mut shard = reopen(dir.path(), &small());
        if unordered {
            shard.store_mut::<EventStore>().unwrap().0.set_order_limits(few_rows(slices > 4));
        }
        shard
    };
    let mut shard = open();
    let path = folder(dir.path()).database();
    for batch in records().chunks(30) {
        assert!(apply(&mut shard, batch).iter().all(|outcome| *outcome == Outcome::Inserted));
        // Some sealed partitions get their lists. In others, the work is interrupted halfway.
        for _ in 0..slices {
            shard.upkeep(Duration::ZERO).unwrap();
        }
    }
    let (id, removed) = ("0".repeat(32), RemovedOutside::default());
    let begin = ErasureRecord::Erase {
        id: id.clone(),
        began_us: 1,
        mode,
        subject: subject(),
        names_truncated: false,
        removed,
        batch: None,
    };
    let begin = encoded(&begin);
    apply(&mut shard, &[encoded(&ErasureRecord::Suppress { mode, subject: subject() }), begin.clone()]);
    // Counts the parts of the masked subject and of its secret that are in the shard's files.
    let shown = || -> usize {
        let files = std::fs::read_dir(path.parent().unwrap()).unwrap().map(|file| file.unwrap().path());
        let files: Vec<Vec<u8>> =
            files.filter(|file| file.is_file()).map(|file| std::fs::read(file).unwrap()).collect();
        let is_in = |part: &[u8]| files.iter().any(|file| memchr::memmem::find(file, part).is_some());
        begin.1.chunks_exact(8).filter(|part| is_in(part)).count()
    };
    shard.checkpoint(CheckpointMode::Truncate).unwrap();
    assert!(shown() > 10);
    let mut turns = 0;
    while super::erasure_turn(&mut shard) {
        turns += 1;
        assert!(turns < 4_000, "it comes to no end");
        if turns % slices == 0 {
            if turns < 120 {
                assert_eq!(verify_aggregates(&path, &FAMILIES).unwrap().problems, Vec::<String>::new());
            }
            // Orders of other customers continue to arrive.
            apply(&mut shard, &[(ORDER.number(), order(1_000 + turns, "c-2", "Bob"))]);
            shard.poison();
            shard = open();
        }
    }
    shard.checkpoint(CheckpointMode::Truncate).unwrap();
    assert!(shard.is_wal_truncated());
    shard.wal_truncated().unwrap();
    assert_eq!(shown(), 0);
    let state = erasure(&open_reader(&path).unwrap(), &id).unwrap().unwrap();
    assert!(
        state.finished_us.is_some() && state.report.events == 18 && state.report.orders == 18,
        "{state:?}"
    );
    let bytes = std::fs::read(&path).unwrap();
    for trace in ["Zq7x9", "Zaphodius", "zaphodius"] {
        assert_eq!(memchr::memmem::find(&bytes, trace.as_bytes()), None, "{trace}");
    }
    // Segments have the customer's hash in this order of bytes, and the list of suppressed people in the other.
    let key = |customer: &str| (shard.keys().hash("t", customer).0 as u64).to_le_bytes();
    let [erased, other, anonymous] = ["cust-Zq7x9", "c-1", "anon-1"].map(key);
    assert_eq!(memchr::memmem::find(&bytes, &erased), None);
    // Threads read the rows of segments, so some may not have been made yet.
    while shard.upkeep_pending() {
        shard.upkeep(Duration::from_millis(1)).unwrap();
        crate::base::clock::pause(Duration::from_micros(50));
    }
    shard.checkpoint(CheckpointMode::Truncate).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let is_in_a_segment = |key: [u8; 8]| memchr::memmem::find(&bytes, &key).is_some();
    assert!(is_in_a_segment(other) && !is_in_a_segment(erased));
    assert_eq!(is_in_a_segment(anonymous), mode == ErasureMode::Pseudonymise);
    assert_eq!(verify_aggregates(&path, &FAMILIES).unwrap().problems, Vec::<String>::new());
    sound(&path);
    let again = apply(&mut shard, &records());
    let of_orders = if mode == ErasureMode::Erase { Outcome::Suppressed } else { Outcome::Duplicate };
    let of_events = if mode == ErasureMode::Erase { Outcome::Duplicate } else { Outcome::Conflict };
    for (number, pair) in again.as_chunks::<2>().0.iter().enumerate() {
        let expected = if number % 4 == 1 { [of_orders, of_events] } else { [Outcome::Duplicate; 2] };
        assert_eq!(*pair, expected, "{number}");
    }
}

#[test]
fn e1_an_erasure_that_is_cut_off_ends_all_the_same() {
    for slices in [4, 7, 1_000] {
        cut_off_after(slices, ErasureMode::Erase, false);
        cut_off_after(slices, ErasureMode::Pseudonymise, false);
        // Not a test of its own, because two of them would wait for each other's sorts.
        cut_off_after(slices, ErasureMode::Erase, true);
        cut_off_after(slices, ErasureMode::Pseudonymise, true);
    }
}

/// The records of one request may reach a shard in two commits, of which the second comes after the first step.
/// Events of two tenants in unordered partitions. One tenant's customer is erased while old events of the other leave, and
/// the shard is opened again after every few slices.
fn erased_and_dropped(mode: ErasureMode, closes: bool, slices: usize) {
    let dir = tempfile::tempdir().unwrap();
    let day = Duration::from_secs(86_400);
    let options = ShardOptions { tenant_keeps: keeps(&[("u", "events", day)]), ..small() };
    let open = || {
        let mut shard = reopen(dir.path(), &options);
        shard.store_mut::<EventStore>().unwrap().0.set_order_limits(few_rows(closes));
        shard
    };
    let mut shard = open();
    let path = folder(dir.path()).database();
    let of_others = (0..70).map(|number| (SERVICE_EVENT.number(), event_of("u", number, "{}")));
    let events = records().into_iter().filter(|(kind, _)| *kind == SERVICE_EVENT.number());
    let both: Vec<(u8, Vec<u8>)> = events.zip(of_others).flat_map(|(one, other)| [one, other]).collect();
    for batch in both.chunks(10) {
        assert!(apply(&mut shard, batch).iter().all(|outcome| *outcome == Outcome::Inserted));
        shard.upkeep(Duration::ZERO).unwrap();
    }
    let states = "SELECT count(*), sum(sealed_at IS NOT NULL AND indexed_at IS NULL) FROM partition \
                  WHERE stream = 'service_event' AND unordered = 1";
    let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
    let (unordered, unsorted): (i64, i64) = shard.connection().query_row(states, [], read).unwrap();
    assert!(unordered > 3 && unsorted > 0, "{unordered} unordered partitions, {unsorted} without an index");
    age(&mut shard, "service_event", 4, "2024-01-01T00:00:00Z");
    let old = "SELECT count(*) FROM service_events e JOIN partition p ON p.stream = 'service_event' \
               AND e.id BETWEEN p.first_id AND p.first_id + p.rows + p.erased - 1 \
               WHERE e.tenant_id = 'u' AND p.sealed_at < '2025'";
    let count = |shard: &mut Shard, sql: &str| -> i64 {
        shard.connection().query_row(sql, [], |row| row.get(0)).unwrap()
    };
    let (old_before, id) = (count(&mut shard, old), "0".repeat(32));
    assert!(old_before > 20, "{old_before}");
    let begin = ErasureRecord::Erase {
        id: id.clone(),
        began_us: 1,
        mode,
        subject: subject(),
        names_truncated: false,
        removed: RemovedOutside::default(),
        batch: None,
    };
    apply(&mut shard, &[encoded(&ErasureRecord::Suppress { mode, subject: subject() }), encoded(&begin)]);
    let mut turns = 0;
    let is_over = |shard: &mut Shard| {
        let is_erased = !super::erasure_turn(shard);
        if is_erased {
            shard.checkpoint(CheckpointMode::Truncate).unwrap();
            shard.wal_truncated().unwrap();
        }
        let state = erasure(&open_reader(shard.path()).unwrap(), &id).unwrap();
        state.is_some_and(|state| state.finished_us.is_some()) && !shard.is_retaining()
    };
    while !is_over(&mut shard) || count(&mut shard, old) > 0 {
        turns += 1;
        assert!(turns < 20_000, "it does not end");
        if turns % 100 == 1 {
            shard.retain_now();
        }
        if turns % slices == 0 && turns < 40 * slices {
            assert_eq!(verify_aggregates(&path, &FAMILIES).unwrap().problems, Vec::<String>::new());
            shard.poison();
            shard = open();
        }
    }
    let of = |tenant: &str| format!("SELECT count(*) FROM service_events WHERE tenant_id = '{tenant}'");
    let state = erasure(&open_reader(&path).unwrap(), &id).unwrap().unwrap();
    assert_eq!(state.report.events, 18);
    let kept = if mode == ErasureMode::Erase { 52 } else { 70 };
    assert_eq!(count(&mut shard, &of("t")), kept);
    assert_eq!(count(&mut shard, &of("u")), 70 - old_before);
    shard.checkpoint(CheckpointMode::Truncate).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(memchr::memmem::find(&bytes, b"Zq7x9"), None);
    assert_eq!(verify_aggregates(&path, &FAMILIES).unwrap().problems, Vec::<String>::new());
    sound(&path);
}

#[test]
fn e1_unordered_events_of_people_leave_while_others_leave_because_of_their_age() {
    for (closes, slices) in [(false, 1), (true, 3), (true, 8)] {
        erased_and_dropped(ErasureMode::Erase, closes, slices);
        erased_and_dropped(ErasureMode::Pseudonymise, closes, slices);
    }
}

#[test]
fn e1_people_whose_records_arrive_later_are_erased_too() {
    let dir = tempfile::tempdir().unwrap();
    let mut shard = Shard::open(&folder(dir.path()), &small(), &FAMILIES).unwrap();
    apply(&mut shard, &records());
    let begin = |id: &str, customer: &str| {
        let Subject::Customer { tenant_id, token, .. } = subject() else { unreachable!() };
        let (names, emails) = (Vec::new(), vec![format!("{customer}@example.org")]);
        encoded(&ErasureRecord::Erase {
            id: id.repeat(32),
            began_us: 1,
            mode: ErasureMode::Erase,
            subject: Subject::Customer { tenant_id, customer_id: customer.to_owned(), token, names, emails },
            names_truncated: false,
            removed: RemovedOutside::default(),
            batch: Some("9".repeat(32)),
        })
    };
    apply(&mut shard, &[begin("0", "cust-Zq7x9")]);
    let mut turns = 0;
    while shard.writer_task() != WriterTask::RotateJournals {
        if shard.writer_task() == WriterTask::ReportLanes {
            shard.lanes_reported(&shard.positions());
        }
        shard.upkeep(Duration::ZERO).unwrap();
        turns += 1;
        if turns == 1 {
            // One comes in time for the first step, the other does not.
            apply(&mut shard, &[begin("1", "nobody")]);
        }
        if turns == 8 {
            apply(&mut shard, &[begin("2", "c-1")]);
        }
    }
    assert!(turns > 8);
    let state = |id: &str| {
        let reader = open_reader(&folder(dir.path()).database()).unwrap();
        erasure(&reader, &id.repeat(32)).unwrap().unwrap()
    };
    assert_eq!([state("0").step, state("1").step, state("2").step], ["journals", "journals", "waiting"]);
    turns = 0;
    while shard.upkeep_due() || shard.writer_task() != WriterTask::Nothing {
        match shard.writer_task() {
            WriterTask::RotateJournals => {
                shard.journals_renewed(Renewed { journals: 1, bytes: 2, quarantined: 3 }).unwrap();
            }
            WriterTask::ReportLanes => shard.lanes_reported(&shard.positions()),
            WriterTask::TruncateWal => {
                shard.checkpoint(CheckpointMode::Truncate).unwrap();
                shard.wal_truncated().unwrap();
            }
            WriterTask::Nothing => {}
        }
        if shard.upkeep_due() {
            shard.upkeep(Duration::ZERO).unwrap();
        }
        turns += 1;
        assert!(turns < 8_000, "it comes to no end");
    }
    let orders = |id: &str| (state(id).finished_us.is_some(), state(id).report.orders);
    assert_eq!([orders("0"), orders("1"), orders("2")], [(true, 18), (true, 0), (true, 52)]);
    assert_eq!(
        verify_aggregates(&folder(dir.path()).database(), &FAMILIES).unwrap().problems,
        Vec::<String>::new()
    );
}

/// An order of a pseudonymised customer is read again, by the same ingest after a crash or by another ingest.
#[test]
fn e1_a_line_that_is_read_again_is_told_as_the_first_time() {
    let dir = tempfile::tempdir().unwrap();
    let mut shard = Shard::open(&folder(dir.path()), &small(), &FAMILIES).unwrap();
    let of = |line, customer| (ORDER.number(), line_of(line, 1, customer, "Zaphodius"));
    assert_eq!(apply(&mut shard, &[of((5, 3), "cust-Zq7x9")]), [Outcome::Inserted]);
    let again = [of((5, 3), "cust-Zq7x9"), of((6, 3), "cust-Zq7x9"), of((6, 4), "c-1")];
    let told = [Outcome::Repeated, Outcome::Duplicate, Outcome::Conflict];
    assert_eq!(apply(&mut shard, &again), told);
    // The same key and line with other content, after an aborted body, is not a repetition.
    assert_eq!(apply(&mut shard, &[of((5, 3), "c-1")]), [Outcome::Conflict]);
    let mode = ErasureMode::Pseudonymise;
    apply(&mut shard, &[encoded(&ErasureRecord::Suppress { mode, subject: subject() })]);
    assert_eq!(apply(&mut shard, &again), told);
    let new = (ORDER.number(), line_of((7, 1), 2, "cust-Zq7x9", "Zaphodius"));
    assert_eq!(apply(&mut shard, &[new.clone(), new]), [Outcome::Inserted, Outcome::Repeated]);
}

/// The state of an erasure shows if a customer had more names than an erasure searches for.
#[test]
fn e1_more_names_than_are_looked_for_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let mut shard = Shard::open(&folder(dir.path()), &small(), &FAMILIES).unwrap();
    let named = |numbers: std::ops::Range<usize>| -> Vec<(u8, Vec<u8>)> {
        numbers.map(|n| (ORDER.number(), order(n, "cust-Zq7x9", &format!("Zaphodius {n}")))).collect()
    };
    let keys = KeyHasher::new(&small().folder_id);
    let known = || {
        let reader = open_reader(&folder(dir.path()).database()).unwrap();
        known_customer(&reader, &keys, "t", "cust-Zq7x9").unwrap()
    };
    apply(&mut shard, &named(0..64));
    assert_eq!((known().names.len(), known().is_truncated), (64, false));
    apply(&mut shard, &named(64..65));
    assert_eq!((known().names.len(), known().is_truncated), (64, true));
    let (mode, removed) = (ErasureMode::Erase, RemovedOutside::default());
    for (id, names_truncated) in [("0", false), ("1", true)] {
        let begin = ErasureRecord::Erase {
            id: id.repeat(32),
            began_us: 1,
            mode,
            subject: subject(),
            names_truncated,
            removed,
            batch: None,
        };
        apply(&mut shard, &[encoded(&begin)]);
        let reader = open_reader(&folder(dir.path()).database()).unwrap();
        let state = erasure(&reader, &id.repeat(32)).unwrap().unwrap();
        assert_eq!(state.names_truncated, names_truncated);
    }
}

/// An ingest that was running when the erasure began ends after the step that erases stored responses.
#[test]
fn e1_what_an_ingest_is_answered_meanwhile_has_no_order_ids() {
    let dir = tempfile::tempdir().unwrap();
    let mut shard = Shard::open(&folder(dir.path()), &small(), &FAMILIES).unwrap();
    let path = folder(dir.path()).database();
    let ended = |scope, key| {
        let mut bytes = Vec::new();
        let response = r#"{"errors":[{"code":"conflict","line":3,"order_id":"o-zaphod"}]}"#;
        let row =
            IngestRow { finished_us: 1, expires_us: i64::MAX, scope, key, fingerprint: &[7; 32], response };
        row.encode(&mut bytes);
        (INGEST.number(), bytes)
    };
    let (mode, removed) = (ErasureMode::Erase, RemovedOutside::default());
    let begin = ErasureRecord::Erase {
        id: "0".repeat(32),
        began_us: 1,
        mode,
        subject: subject(),
        names_truncated: false,
        removed,
        batch: None,
    };
    let suppress = ErasureRecord::Suppress { mode, subject: subject() };
    apply(&mut shard, &[ended("t", "before"), encoded(&suppress), encoded(&begin)]);
    apply(&mut shard, &[ended("t", "meanwhile"), ended("*", "of all"), ended("other", "others")]);
    let reader = open_reader(&path).unwrap();
    let mut statement =
        reader.prepare("SELECT key FROM ingest_key WHERE response LIKE '%o-zaphod%' ORDER BY key").unwrap();
    let named: Vec<String> = statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    assert_eq!(named, ["before", "others"]);
}
