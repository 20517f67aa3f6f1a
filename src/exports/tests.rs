//! Erasures while a file is written. Regardless of which orders they remove and when a crash occurs, the finished
//! file contains each of the remaining orders once.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read as _;
use std::path::PathBuf;
use std::sync::Arc;

use super::body::{Compression, ExportFormat};
use super::erase::PeopleInExports;
use super::file::{ChosenFile, ExportFile, Remaining};
use super::record::tests::record;
use super::record::{Export, ExportId, ExportState, Progress};
use super::source::{Batch, Chosen, id_of, order_of};
use super::store::{BESIDE, CHOSEN, ExportStore, FILE, FILES, MARKS};
use crate::orders::{ChosenOrder, OrderBatch, OrderStatus};
use crate::people::PersonMatcher;

/// The number of orders in one batch. Four batches form a Parquet group.
const BATCH: u64 = 500;
/// The order ids of each of three shards. The second shard has no orders. The ids are unique across shards.
const SHARDS: [std::ops::Range<u64>; 3] = [0..5_200, 0..0, 5_200..9_000];

struct Made {
    data: tempfile::TempDir,
    store: Arc<ExportStore>,
    id: ExportId,
    tenant: String,
}

impl Made {
    /// Creates an export that selects all orders and has written none of them.
    fn new(wish: &str) -> Made {
        Made::with_room(wish, 1 << 30)
    }

    fn with_room(wish: &str, bytes_max: u64) -> Made {
        let data = tempfile::tempdir().unwrap();
        let store = Arc::new(ExportStore::open(data.path(), bytes_max, 1_000).unwrap());
        let export = store.create(record(wish)).unwrap();
        let (id, tenant) = (export.id.clone(), export.tenant.clone());
        let made = Made { data, store, id, tenant };
        made.choose();
        made
    }

    fn export(&self) -> Arc<Export> {
        self.store.find(&self.tenant, self.id.as_str()).unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.store.folder_of(&self.id).join(name)
    }

    fn choose(&self) {
        let export = self.export();
        let mut chosen = ChosenFile::open(&self.store, &export).unwrap();
        chosen.clear().unwrap();
        for ids in SHARDS {
            let order = |id: u64| ChosenOrder { id: id as i64, status: OrderStatus::ALL[(id % 6) as usize] };
            chosen.append(&self.store, &export, &Chosen::Orders(ids.map(order).collect())).unwrap();
        }
        let counts = SHARDS.map(|ids| ids.end - ids.start).to_vec();
        let progress = Progress {
            state: ExportState::Running,
            chosen: Some(counts),
            ..Progress::clone(&export.progress())
        };
        self.store.publish(&export, progress, true).unwrap();
    }

    /// Simulates a kill and a restart.
    fn restart(&mut self) {
        self.store = Arc::new(ExportStore::open(self.data.path(), 1 << 30, 1_000).unwrap());
    }

    /// Writes this many batches, as a job does. Returns `true` if the file is done.
    fn write(&self, batches: usize) -> bool {
        let export = self.export();
        let mut file = ExportFile::open(self.store.clone(), export.clone()).unwrap();
        let mut from = Some(file.seen());
        while let Some(at) = from {
            from = file.verify(at).unwrap();
        }
        let progress = export.progress();
        let counts = progress.chosen.clone().unwrap();
        let chosen = ChosenFile::open(&self.store, &export).unwrap();
        assert_eq!(chosen.count().unwrap(), progress.orders().unwrap());
        let mut at = file.orders();
        assert!(at >= progress.spliced);
        for _ in 0..batches {
            let mut end = progress.spliced;
            let ends = counts.iter().map(|count| {
                end += count;
                end
            });
            let Some((shard, end)) = ends.enumerate().find(|(_, end)| *end > at) else {
                while file.is_holding() {
                    file.encode_more().unwrap();
                }
                file.finish().unwrap();
                return true;
            };
            let orders = chosen.read(at, BATCH.min(end - at) as usize).unwrap();
            at += orders.len() as u64;
            for order in orders.iter().map(|word| order_of(*word).unwrap()) {
                let id = order.id as u64;
                assert!(SHARDS[shard].contains(&id), "order {id} is not of shard {shard}");
                assert_eq!(order.status, OrderStatus::ALL[(id % 6) as usize]);
            }
            let ids = orders.iter().map(|word| id_of(*word) as u64);
            let mut batch = Batch::Orders(OrderBatch::numbered(ids, OrderStatus::ALL[0]));
            let mut left = file.encode(&mut batch, shard as u32).unwrap();
            while left == Remaining::More {
                left = file.encode_more().unwrap();
            }
        }
        false
    }

    fn rows(ids: &[u64]) -> Vec<Vec<(i64, usize)>> {
        let of = |shard: &std::ops::Range<u64>| {
            let ids = ids.iter().filter(|id| shard.contains(id));
            let mut ids: Vec<(i64, usize)> = ids.map(|id| (*id as i64, 0)).collect();
            ids.sort_unstable();
            ids
        };
        SHARDS.iter().map(of).collect()
    }

    fn erase(&self, ids: &[u64], are_kept: bool) -> u64 {
        let matcher = PersonMatcher::new(["c-17"], ["zaphod@heartofgold.example"], []);
        let who_is = |text: &str| if matcher.matches_name(text) { vec![0] } else { Vec::new() };
        let orders = &Made::rows(ids);
        let people =
            PeopleInExports { orders, are_kept, events: &[], kept_events: &[], who_is: &who_is, count: 1 };
        self.store.erase_people(&self.tenant, &people).unwrap()[0]
    }

    /// Returns the orders before the file's checkpoint, in file order.
    fn held(&self) -> Vec<u64> {
        let export = self.export();
        let mut bytes = fs::read(self.path(FILE)).unwrap();
        bytes.truncate(export.progress().checkpoint.bytes as usize);
        orders_of(&export, &bytes)
    }

    fn size(&self) -> u64 {
        FILES.iter().map(|name| fs::metadata(self.path(name)).map_or(0, |found| found.len())).sum()
    }

    fn drafts(&self) -> usize {
        let names = fs::read_dir(self.path("")).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().contains(".new-")).count()
    }
}

/// Returns the numbers of the orders in these bytes.
fn orders_of(export: &Export, bytes: &[u8]) -> Vec<u64> {
    let number = |id: &str| id.strip_prefix("o-").unwrap().parse().unwrap();
    if export.spec.format == ExportFormat::Parquet {
        use parquet::file::reader::{FileReader as _, SerializedFileReader};
        use parquet::record::RowAccessor as _;
        let reader = SerializedFileReader::new(bytes::Bytes::copy_from_slice(bytes)).unwrap();
        let rows = reader.get_row_iter(None).unwrap();
        return rows.map(|row| number(row.unwrap().get_string(0).unwrap())).collect();
    }
    let mut text = String::new();
    match export.spec.compression {
        Compression::None => _ = (&mut &bytes[..]).read_to_string(&mut text).unwrap(),
        Compression::Gzip => {
            _ = flate2::read::MultiGzDecoder::new(bytes).read_to_string(&mut text).unwrap();
        }
        Compression::Zstd => {
            _ = zstd::Decoder::new(bytes).unwrap().read_to_string(&mut text).unwrap();
        }
    }
    let mut lines = text.lines();
    if export.spec.format == ExportFormat::Csv {
        assert_eq!(lines.next(), Some("order_id,status"));
        return lines.map(|line| number(line.split(',').next().unwrap())).collect();
    }
    lines.map(|line| number(line.split('"').nth(3).unwrap())).collect()
}

fn wish(format: &str, compression: &str) -> String {
    format!(r#"{{"format":"{format}","compression":"{compression}","fields":["order_id","status"]}}"#)
}

fn all() -> BTreeSet<u64> {
    SHARDS.into_iter().flatten().collect()
}

#[track_caller]
fn check_whole(made: &Made, left: &BTreeSet<u64>) {
    let mut held = made.held();
    held.sort_unstable();
    assert_eq!(held, left.iter().copied().collect::<Vec<_>>());
    assert_eq!(made.store.bytes(), made.size());
    assert_eq!(made.drafts(), 0);
}

/// Without splices, every erasure below would restart the export, and it would never end.
#[test]
fn an_export_under_erasures_ends_with_the_orders_that_are_left_each_once() {
    for format in ["csv", "ndjson", "parquet"] {
        for compression in ["none", "gzip", "zstd"] {
            let mut made = Made::new(&wish(format, compression));
            let (mut left, mut round) = (all(), 0);
            let mut generation = 0;
            // Each erasure costs a block, which in Parquet is a group of four batches.
            let batches = if format == "parquet" { 9 } else { 3 };
            while !made.write(batches) {
                round += 1;
                assert!(round < 400, "{format} {compression}: it does not end");
                let told = made.export().progress().checkpoint.orders;
                // An order in the file, one that is not in it yet, and one that is in no export.
                let chosen = ChosenFile::open(&made.store, &made.export()).unwrap();
                let at = |place: u64| id_of(chosen.read(place, 1).unwrap()[0]) as u64;
                let orders = made.export().progress().orders().unwrap();
                let erased = [at((round * 977) % told), at(orders - 1), 1 << 40];
                assert_eq!(made.erase(&erased, false), 1);
                erased.iter().for_each(|id| _ = left.remove(id));
                let progress = made.export().progress();
                assert!(progress.generation > generation, "the bytes are others");
                assert!(progress.chosen.is_some(), "it does not begin again");
                generation = progress.generation;
                assert_eq!((made.store.bytes(), made.drafts()), (made.size(), 0));
                if format != "parquet" {
                    assert!(made.held().iter().all(|id| left.contains(id)));
                }
                if round % 3 == 0 {
                    made.restart();
                }
            }
            assert!(round >= 3, "{format} {compression}: {round}");
            check_whole(&made, &left);
            // The orders in a finished file are known, so erasing one of them deletes the file.
            made.restart();
            assert_eq!(made.erase(&[1 << 40], false), 0);
            assert_eq!(made.erase(&[*left.last().unwrap()], false), 1);
            assert_eq!((made.export().progress().state, made.size()), (ExportState::Erased, 0));
        }
    }
}

#[test]
fn a_splice_that_a_crash_cuts_is_undone_or_completed() {
    for format in ["csv", "parquet"] {
        // `None` is a crash before the state is written. `Some` is a crash after this many renames.
        for renamed in [None, Some(0), Some(1), Some(2), Some(3), Some(4)] {
            let mut made = Made::new(&wish(format, "zstd"));
            assert!(!made.write(14));
            let export = made.export();
            let before = export.progress();
            let told = before.checkpoint.orders;
            assert!(told > 0);
            let held: Vec<u64> = if format == "csv" { made.held() } else { Vec::new() };
            let spliced = made.store.spliced(&export, &[3, 4, told - 1], false).unwrap().unwrap();
            if let Some(renamed) = renamed {
                made.store.write(&export, &spliced.progress, true).unwrap();
                for name in &FILES[..renamed] {
                    let draft = format!("{name}.new-{}", spliced.progress.generation);
                    fs::rename(made.path(&draft), made.path(name)).unwrap();
                }
            }
            made.restart();
            assert_eq!((made.drafts(), made.store.bytes()), (0, made.size()));
            let after = made.export().progress();
            let mut left = all();
            if renamed.is_none() {
                assert_eq!(*after, *before);
                if format == "csv" {
                    assert_eq!(made.held(), held);
                }
                // The client got no response to the erasure, so it requests the erasure again.
                assert_eq!(made.erase(&[3, 4], false), 1);
            } else {
                assert_eq!(after.generation, before.generation + 1);
                left.remove(&(told - 1));
                assert_eq!(made.erase(&[3, 4, told - 1], false), 0, "they are out already");
            }
            left.remove(&3);
            left.remove(&4);
            assert!(made.write(usize::MAX));
            check_whole(&made, &left);
            assert_eq!(made.export().progress().generation, before.generation + 1, "nothing was damaged");
        }
    }
}

#[test]
fn what_cannot_be_spliced_begins_again_and_nothing_of_the_person_stays() {
    // There is not enough space for a second file.
    let room = 400 * 1024;
    let made = Made::with_room(&wish("csv", "none"), room);
    assert!(!made.write(17));
    let before = made.store.bytes();
    assert!(before < room && before + 100_000 > room - before, "{before}");
    made.store.charge(&made.export(), room - before).unwrap();
    assert_eq!(made.erase(&[3], false), 1);
    check_begun(&made);
    // An older version wrote no marks.
    let made = Made::new(&wish("csv", "none"));
    assert!(!made.write(5));
    let mut progress = Progress::clone(&made.export().progress());
    (progress.checkpoint.marks, progress.checkpoint.marks_digest) = (0, String::new());
    made.store.publish(&made.export(), progress, true).unwrap();
    assert!(!made.write(2));
    assert_eq!(made.export().progress().checkpoint.marks, 0, "half of them would be of no use");
    assert_eq!(made.erase(&[3], false), 1);
    check_begun(&made);
    // The files are damaged, and this process has not verified them.
    for name in [FILE, MARKS, BESIDE] {
        let mut made = Made::new(&wish("parquet", "none"));
        assert!(!made.write(5));
        made.restart();
        let mut bytes = fs::read(made.path(name)).unwrap();
        bytes[10] ^= 1;
        fs::write(made.path(name), bytes).unwrap();
        assert_eq!(made.erase(&[3], false), 1, "{name}");
        check_begun(&made);
    }
    // A crash after the new state was written, but before the files were deleted. The files remain.
    let made = Made::new(&wish("csv", "none"));
    assert!(!made.write(5));
    made.store.publish(&made.export(), Progress::begin(), true).unwrap();
    assert_eq!(made.erase(&[3], false), 0);
    assert_eq!(made.size(), 0);
}

#[track_caller]
fn check_begun(made: &Made) {
    let progress = made.export().progress();
    assert_eq!((progress.state, &progress.chosen), (ExportState::Queued, &None));
    assert_eq!((progress.generation, progress.checkpoint.bytes), (1, 0));
    assert_eq!((made.size(), made.store.bytes(), made.drafts()), (0, 0, 0));
}

#[test]
fn what_a_kill_left_behind_the_checkpoint_goes_with_the_person() {
    let mut made = Made::new(&wish("csv", "none"));
    assert!(!made.write(5));
    let before = made.export().progress().checkpoint.clone();
    let mut bytes = fs::read(made.path(FILE)).unwrap();
    bytes.extend_from_slice(b"o-2600,paid\r\n");
    fs::write(made.path(FILE), bytes).unwrap();
    made.restart();
    assert_eq!(made.erase(&[2_600], false), 1);
    let progress = made.export().progress();
    assert_eq!(
        (&progress.checkpoint, progress.generation),
        (&before, 0),
        "nothing that was written has changed"
    );
    assert_eq!(fs::metadata(made.path(FILE)).unwrap().len(), before.bytes);
    assert!(made.write(usize::MAX));
    let mut left = all();
    left.remove(&2_600);
    check_whole(&made, &left);
}

#[test]
fn orders_under_a_pseudonym_are_written_again_once_they_have_it_and_left_out_where_a_name_found_them() {
    let made = Made::new(&wish("ndjson", "gzip"));
    assert!(!made.write(5));
    // The erased order is not written yet. The file does not change, but the export waits for the pseudonym.
    let (folder, etag) = (made.path(""), made.export().etag(&made.export().progress()));
    assert_eq!(made.erase(&[8_000], true), 1);
    let progress = made.export().progress();
    assert_eq!((progress.awaits_pseudonym, progress.generation), (true, 0));
    assert_eq!(made.export().etag(&progress), etag);
    assert!(!folder.join("progress.json").exists());
    let progress = Progress { awaits_pseudonym: false, ..Progress::clone(&progress) };
    made.store.publish(&made.export(), progress, false).unwrap();
    // The erased order is already written. It is removed from the file and written again at the end of its shard's
    // orders.
    assert_eq!(made.erase(&[700], true), 1);
    let progress = made.export().progress();
    assert_eq!((progress.awaits_pseudonym, progress.generation, progress.spliced), (true, 1, 2_000));
    assert!(!made.held().contains(&700));
    assert!(made.write(usize::MAX));
    check_whole(&made, &all());
    let place = made.held().iter().position(|id| *id == 700).unwrap();
    assert_eq!(place, 2_000 + (5_200 - 2_500) + 200);

    // `q` searches the words of names, and does not find pseudonyms.
    let named = Made::new(r#"{"format":"ndjson","fields":["order_id","status"],"filters":{"q":"zaphod"}}"#);
    assert!(!named.write(5));
    assert_eq!(named.erase(&[700, 8_000], true), 1);
    assert_eq!(named.erase(&[8_001], true), 1);
    assert!(!named.export().progress().awaits_pseudonym);
    assert!(named.write(usize::MAX));
    let mut left = all();
    [700, 8_000, 8_001].iter().for_each(|id| _ = left.remove(id));
    check_whole(&named, &left);
    assert!(named.path(CHOSEN).exists());
}
