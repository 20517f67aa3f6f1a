//! Promises of a shard, tested on real files.

mod changes;
mod crash;
mod events;
mod frames;
mod held;
mod kinds;
mod model;
mod old_file;
mod orders;
mod people;
mod people_shipped;
mod prices;
mod prices_dropped;
mod queries;
mod retention;
mod rows;
mod sales_left;
mod segments;
mod stock;
mod sums_oracle;
mod tenant_retention;
mod unordered;

use std::path::Path;
use std::time::Duration;

use super::FAMILIES;
use crate::base::ids::{LaneId, Sequence};
use crate::ingest::encode_header;
use crate::shard::{self, Entry, Records, Renewed, Shard, ShardError, ShardFolder, ShardOptions, WriterTask};

pub(super) const HOT: LaneId = LaneId(0);
pub(super) const KEYED: LaneId = LaneId(1);

/// Records in memory, in the form in which a journal returns them.
#[derive(Clone, Debug, Default)]
pub(super) struct Lane(pub(super) Vec<(Sequence, u8, Vec<u8>)>);

impl Records for Lane {
    fn records(&self) -> impl Iterator<Item = Entry<'_>> {
        self.0.iter().map(|(sequence, kind, payload)| Entry { sequence: *sequence, kind: *kind, payload })
    }
}

pub(super) fn payload(user_id: i64, timestamp_us: i64, metadata: &str) -> Vec<u8> {
    [&encode_header(user_id, timestamp_us, timestamp_us + 1), metadata.as_bytes()].concat()
}

/// Returns clicks with the given sequences. The user is the sequence.
pub(super) fn clicks(sequences: std::ops::RangeInclusive<u64>) -> Lane {
    let click = |n: u64| (Sequence(n), 1, payload(n as i64, n as i64 * 1_000, &format!("{{\"n\":{n}}}")));
    Lane(sequences.map(click).collect())
}

pub(super) fn folder(dir: &Path) -> ShardFolder {
    ShardFolder::new(dir.join("shard-00"))
}

pub(super) fn options() -> ShardOptions {
    ShardOptions { page_bytes: 4096, ..ShardOptions::default() }
}

pub(super) fn open(dir: &Path) -> Shard {
    reopen(dir, &options())
}

/// Runs one turn of an erasure as the writer does. Returns `false` once only the WAL is left to be truncated.
pub(super) fn erasure_turn(shard: &mut Shard) -> bool {
    match shard.writer_task() {
        WriterTask::TruncateWal => return false,
        WriterTask::RotateJournals => {
            shard.journals_renewed(Renewed { journals: 1, bytes: 2, quarantined: 3 }).unwrap();
        }
        WriterTask::ReportLanes => shard.lanes_reported(&shard.positions()),
        WriterTask::Nothing => {}
    }
    if shard.upkeep_due() {
        shard.upkeep(Duration::ZERO).unwrap();
    }
    true
}

/// Opens a shard, for the first time or again. A thread that still reads for upkeep may be the last to close an
/// earlier connection, and then holds the lock for a moment.
pub(super) fn reopen(dir: &Path, options: &ShardOptions) -> Shard {
    loop {
        match Shard::open(&folder(dir), options, &FAMILIES) {
            Err(ShardError::Busy) => std::thread::yield_now(),
            opened => return opened.unwrap(),
        }
    }
}

/// Returns the users of all rows by ascending id, read as another program would read them.
pub(super) fn users(path: &Path) -> Vec<i64> {
    let reader = shard::open_reader(path).unwrap();
    let mut statement = reader.prepare("SELECT user_id FROM events ORDER BY id").unwrap();
    statement.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
}

pub(super) fn sound(path: &Path) -> u64 {
    let verified = shard::verify(path, &FAMILIES).unwrap();
    assert_eq!(verified.problems, Vec::<String>::new());
    verified.rows
}
