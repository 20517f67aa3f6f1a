//! Gives a sealed unordered partition its index by time, and adds its rows to the buckets, in slices of a few
//! milliseconds.
//!
//! A separate thread reads the keys of the partition, which no longer changes, sorts them and counts them by each
//! size that has few buckets. The writer appends the keys (`shard/index_build.rs`) to a table that finally becomes
//! the index (`shard/built.rs`). The same commit adds the counts and marks the partition as counted, so a read finds each
//! row either in the buckets or in the partition (R3). After a crash, the build begins again.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rusqlite::{TransactionBehavior, params};

use super::buckets::{BucketKey, ByStart, SIZES, Tally, add_sums};
use super::schema::{EVENTS, order_sql};
use super::store::EventStore;
use crate::base::bucket_size::BucketSize;
use crate::base::clock;
use crate::shard::partition::{mark_indexed, to_index};
use crate::shard::{
    BuiltIndex, Entries, IndexBuild, IndexNames, Shard, ShardError, become_index, open_reader, reload_schema,
};

/// The number of rows read in one transaction. It is small enough that no checkpoint waits long.
const READ_ROWS: i64 = 50_000;
/// A size of buckets is counted if it and the larger sizes have at most as many groups as an eighth of the rows. The
/// commit that adds them is then as long as that of a batch, and reading the others from the rows costs about what reading
/// their buckets would.
const GROUPS_SHARE: usize = 8;

/// The number of shards that may build at the same time. While an import is faster than one build, reads of every shard
/// wait for its own. The keys of a partition of 250,000 events take about 25 MB.
const BUILDS_MAX: usize = 4;

static BUILDS: AtomicUsize = AtomicUsize::new(0);

/// The permit to build an index, held while its keys are in memory.
#[derive(Debug)]
pub(super) struct BuildPermit;

impl BuildPermit {
    fn acquire() -> Option<BuildPermit> {
        let more = |builds| (builds < BUILDS_MAX).then_some(builds + 1);
        BUILDS.fetch_update(Ordering::AcqRel, Ordering::Relaxed, more).is_ok().then_some(BuildPermit)
    }
}

impl Drop for BuildPermit {
    fn drop(&mut self) {
        BUILDS.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The index that is being built.
pub(super) type Sealing = IndexBuild<Sorted, BuildPermit>;

/// An entry of the index. Names are numbers.
#[derive(Clone, Copy, Debug)]
struct Entry {
    tenant: u32,
    source: u32,
    event_type: u32,
    /// The end of the event id in [`Sorted::event_ids`], and its length. An id has at most 255 bytes.
    end: u32,
    length: u16,
    timestamp_us: i64,
    row_id: i64,
}

/// The sorted entries of an index, and the counts of the sizes that are counted.
#[derive(Debug, Default)]
pub(super) struct Sorted {
    names: Vec<Box<str>>,
    event_ids: Vec<u8>,
    entries: Vec<Entry>,
    /// Tenant, source and type, by the number of a group.
    groups: Vec<[u32; 3]>,
    counts: Vec<ByStart>,
}

fn build_of(partition: &str) -> String {
    format!("{partition}_order_build")
}

impl EventStore {
    /// Returns `true` if [`EventStore::seal`] has work to do now.
    pub(super) fn is_seal_due(&self, shard: &Shard) -> bool {
        self.seal_due && !self.sealing.as_ref().is_some_and(Sealing::is_waiting) || self.is_close_due(shard)
    }

    /// Returns `true` if the open partition is unordered and no late rows arrive any more.
    fn is_close_due(&self, shard: &Shard) -> bool {
        let state = shard.streams().find(|state| state.stream == &EVENTS);
        state.is_some_and(|state| {
            let open = state.open.as_ref().filter(|open| open.is_unordered);
            open.is_some_and(|open| self.order.is_quiet(open.rows, state.partition_rows_max))
        })
    }

    /// Spends about `budget` on the partition that is due. Returns its index if this slice completes it.
    pub(super) fn seal(
        &mut self,
        shard: &mut Shard,
        budget: Duration,
    ) -> Result<Option<BuiltIndex>, ShardError> {
        let until_us = clock::monotonic_us() + budget.as_micros() as u64;
        if self.is_close_due(shard) {
            shard.seal_open(&EVENTS)?;
            self.seal_due = true;
            return Ok(None);
        }
        let Some(sealing) = &mut self.sealing else {
            self.begin_sealing(shard)?;
            return Ok(None);
        };
        if sealing.receive()? == Entries::Awaited {
            return Ok(None);
        }
        let table = &*sealing.partition;
        let transaction = shard.connection().transaction_with_behavior(TransactionBehavior::Immediate)?;
        let written = {
            let mut insert = transaction.prepare_cached(&format!(
                "INSERT INTO {} (tenant_id, timestamp_us, event_id, source, event_type, id) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                build_of(table)
            ))?;
            sealing.write(sealing.entries.entries.len(), until_us, |sorted, piece| {
                for entry in &sorted.entries[piece] {
                    let [tenant, source, event_type] = sorted.names_of(entry);
                    insert.raw_bind_parameter(1, tenant)?;
                    insert.raw_bind_parameter(2, entry.timestamp_us)?;
                    insert.raw_bind_parameter(3, sorted.event_id(entry)?)?;
                    insert.raw_bind_parameter(4, source)?;
                    insert.raw_bind_parameter(5, event_type)?;
                    insert.raw_bind_parameter(6, entry.row_id)?;
                    insert.raw_execute()?;
                }
                Ok(())
            })?
        };
        let done = written == sealing.entries.entries.len();
        if done {
            let (build, index) = (build_of(table), format!("{table}_order"));
            let sql = order_sql(table);
            become_index(&transaction, IndexNames { build: &build, index: &index, table, sql: &sql })?;
            let counts = if self.with_buckets { &*sealing.entries.counts } else { &[] };
            for (size, sums) in SIZES.into_iter().zip(counts) {
                add_sums(&transaction, size, sealing.entries.sums(sums))?;
            }
            transaction
                .prepare_cached("UPDATE partition_catalog SET counted = ?2 WHERE name = ?1")?
                .execute(params![table, counts.len() as i64])?;
            mark_indexed(&transaction, table)?;
        }
        transaction.commit()?;
        sealing.written = written;
        if !done {
            return Ok(None);
        }
        reload_schema(shard.connection())?;
        let Some(sealing) = self.sealing.take() else { return Ok(None) };
        self.seal_due = to_index(shard.connection(), &EVENTS)?.is_some();
        let index = format!("{}_order", sealing.partition);
        Ok(Some(sealing.built(index)))
    }

    /// Stops building an index because rows are about to be deleted. The build begins again later, without the rows.
    pub(super) fn stop_sealing(&mut self) {
        self.sealing = None;
    }

    fn begin_sealing(&mut self, shard: &mut Shard) -> Result<(), ShardError> {
        let Some(name) = to_index(shard.connection(), &EVENTS)? else {
            self.seal_due = false;
            return Ok(());
        };
        let Some(permit) = BuildPermit::acquire() else { return Ok(()) };
        let build = build_of(&name);
        let transaction = shard.connection().transaction_with_behavior(TransactionBehavior::Immediate)?;
        // A build that did not end may have entries of rows that were erased since.
        transaction.execute_batch(&format!(
            "DROP TABLE IF EXISTS {build};
CREATE TABLE {build} (
  -- Becomes the index {name}_order when it is complete.
  tenant_id TEXT NOT NULL, timestamp_us INTEGER NOT NULL, event_id TEXT NOT NULL, source TEXT NOT NULL,
  event_type TEXT NOT NULL, id INTEGER NOT NULL,
  PRIMARY KEY (tenant_id, timestamp_us, event_id, source, event_type, id)
) WITHOUT ROWID"
        ))?;
        transaction.commit()?;
        let (path, partition) = (shard.path().to_owned(), name.clone());
        self.sealing = Some(IndexBuild::begin(name, permit, move || sort(path, &partition))?);
        Ok(())
    }
}

/// Drops what a crash has left of a build, because rows are about to be erased.
pub fn drop_build(connection: &rusqlite::Connection, partition: &str) -> Result<(), ShardError> {
    connection.execute_batch(&format!("DROP TABLE IF EXISTS {}", build_of(partition)))?;
    Ok(())
}

impl Sorted {
    fn names_of(&self, entry: &Entry) -> [&str; 3] {
        [entry.tenant, entry.source, entry.event_type].map(|name| &*self.names[name as usize])
    }

    fn id_bytes(&self, entry: &Entry) -> &[u8] {
        let end = entry.end as usize;
        &self.event_ids[end - usize::from(entry.length)..end]
    }

    fn event_id(&self, entry: &Entry) -> Result<&str, ShardError> {
        std::str::from_utf8(self.id_bytes(entry)).map_err(|error| ShardError::Corrupt(error.to_string()))
    }

    /// Returns the counts of a size in the order of the table's key.
    fn sums(&self, counts: &ByStart) -> Vec<(BucketKey<'_>, Tally)> {
        let mut sums: Vec<_> = counts
            .iter()
            .map(|((group, start_us), tally)| {
                let [tenant, source, event_type] =
                    self.groups[*group as usize].map(|name| &*self.names[name as usize]);
                ((tenant, *start_us, source, event_type), *tally)
            })
            .collect();
        sums.sort_unstable_by_key(|(key, _)| *key);
        sums
    }

    /// Numbers the names in their order, so that entries are compared by numbers.
    fn rank(&mut self) {
        let mut order: Vec<u32> = (0..self.names.len() as u32).collect();
        order.sort_unstable_by_key(|name| &self.names[*name as usize]);
        let mut ranks = vec![0_u32; order.len()];
        for (rank, name) in order.iter().enumerate() {
            ranks[*name as usize] = rank as u32;
        }
        self.names = order.iter().map(|name| self.names[*name as usize].clone()).collect();
        for entry in &mut self.entries {
            for name in [&mut entry.tenant, &mut entry.source, &mut entry.event_type] {
                *name = ranks[*name as usize];
            }
        }
    }

    fn sort(&mut self) {
        self.rank();
        let mut entries = std::mem::take(&mut self.entries);
        // An id is stored once for each tenant, so the names that follow in the index decide nothing.
        entries.sort_unstable_by(|a, b| {
            (a.tenant, a.timestamp_us)
                .cmp(&(b.tenant, b.timestamp_us))
                .then_with(|| self.id_bytes(a).cmp(self.id_bytes(b)))
                .then_with(|| a.row_id.cmp(&b.row_id))
        });
        self.entries = entries;
    }

    /// Counts the rows by the largest size, and by the next ones as long as there are few groups.
    fn count(&mut self) {
        let groups_max = (self.entries.len() / GROUPS_SHARE).max(1);
        let mut numbers: HashMap<[u32; 3], u32> = HashMap::new();
        let mut group_of = Vec::with_capacity(self.entries.len());
        for entry in &self.entries {
            let names = [entry.tenant, entry.source, entry.event_type];
            let number = *numbers.entry(names).or_insert_with(|| {
                self.groups.push(names);
                self.groups.len() as u32 - 1
            });
            group_of.push(number);
        }
        let mut counted = 0;
        for size in SIZES {
            let Some(sums) = self.count_by(size, &group_of, groups_max.saturating_sub(counted)) else {
                return;
            };
            counted += sums.len();
            self.counts.push(sums);
        }
    }

    fn count_by(&self, size: BucketSize, group_of: &[u32], groups_max: usize) -> Option<ByStart> {
        let mut sums = ByStart::default();
        for (entry, group) in self.entries.iter().zip(group_of) {
            let tally = Tally::of(entry.timestamp_us);
            let key = (*group, size.floor(entry.timestamp_us));
            sums.entry(key).and_modify(|sum| sum.add(tally)).or_insert(tally);
            if sums.len() > groups_max {
                return None;
            }
        }
        Some(sums)
    }
}

/// Reads and sorts the keys of a partition.
fn sort(path: PathBuf, partition: &str) -> Result<Sorted, ShardError> {
    let mut sorted = read(&path, partition)?;
    sorted.sort();
    sorted.count();
    Ok(sorted)
}

fn read(path: &Path, partition: &str) -> Result<Sorted, ShardError> {
    let reader = open_reader(path)?;
    let mut sorted = Sorted::default();
    let mut numbers: HashMap<Box<str>, u32> = HashMap::new();
    let mut last = i64::MIN;
    let mut statement = reader.prepare(&format!(
        "SELECT id, timestamp_us, event_id, tenant_id, source, event_type FROM {partition} NOT INDEXED \
         WHERE id > ?1 ORDER BY id LIMIT ?2"
    ))?;
    loop {
        let before = last;
        let mut rows = statement.query([last, READ_ROWS])?;
        while let Some(row) = rows.next()? {
            last = row.get(0)?;
            let text = |at: usize| row.get_ref(at)?.as_str().map_err(rusqlite::Error::from);
            let mut number = |at: usize| -> Result<u32, ShardError> {
                let name = text(at)?;
                if let Some(number) = numbers.get(name) {
                    return Ok(*number);
                }
                let number = sorted.names.len() as u32;
                sorted.names.push(name.into());
                numbers.insert(name.into(), number);
                Ok(number)
            };
            let [tenant, source, event_type] = [number(3)?, number(4)?, number(5)?];
            let event_id = text(2)?.as_bytes();
            sorted.event_ids.extend_from_slice(event_id);
            sorted.entries.push(Entry {
                tenant,
                source,
                event_type,
                end: sorted.event_ids.len() as u32,
                length: event_id.len() as u16,
                timestamp_us: row.get(1)?,
                row_id: last,
            });
        }
        if last == before {
            return Ok(sorted);
        }
    }
}
