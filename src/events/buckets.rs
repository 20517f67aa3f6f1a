//! Event counts by tenant, source and type in minutes, hours and days. The transaction that stores the rows also
//! updates the counts (R3), from the batch's own pre-aggregation. A batch's cost therefore depends on its groups, not
//! on its rows. The newest counts are on the commit page ([`newest`](super::newest)).
//!
//! Rows of an unordered partition have about as many groups as rows. They are counted when the partition gets its
//! index, by the larger sizes of which there are few groups. What is not counted is read from the rows
//! ([`is_counted`]).

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};

use rusqlite::{Connection, OptionalExtension as _, params};

use super::newest::{self, BatchPlace, PageMinutes};
use super::record::ServiceEventRow;
use crate::base::bucket_size::BucketSize;
use crate::shard::{PartitionInfo, ShardError};

/// Returns the view of all counts of a bucket size.
pub(super) const fn view_of(size: BucketSize) -> &'static str {
    match size {
        BucketSize::Minute => "bucket_minute",
        BucketSize::Hour => "bucket_hour",
        BucketSize::Day => "bucket_day",
    }
}

/// Returns the table of a bucket size, which has all counts except the newest.
pub(super) const fn older_of(size: BucketSize) -> &'static str {
    match size {
        BucketSize::Minute => "bucket_minute_older",
        BucketSize::Hour => "bucket_hour_older",
        BucketSize::Day => "bucket_day_older",
    }
}

/// The sizes in the order in which an unordered partition is counted, the one with the fewest groups first.
pub(super) const SIZES: [BucketSize; 3] = [BucketSize::Day, BucketSize::Hour, BucketSize::Minute];

/// Returns the number of sizes that a partition is counted by.
pub(super) fn counted_of(partition: &PartitionInfo) -> usize {
    if partition.unordered { usize::from(partition.counted).min(SIZES.len()) } else { SIZES.len() }
}

/// Returns `true` if the buckets of this size contain the rows of the partition.
pub(super) fn is_counted(partition: &PartitionInfo, size: BucketSize) -> bool {
    SIZES[..counted_of(partition)].contains(&size)
}

/// Returns the SQL for the three tables. Later, they have other names ([`newest::schema`]).
pub(super) fn schema() -> String {
    BucketSize::ALL
        .map(|size| {
            let (table, length) = (view_of(size), view_of(size).trim_start_matches("bucket_"));
            format!(
                "
CREATE TABLE {table} (
  -- Service events by {length} (UTC), equal to a recount of the rows at every commit.
  tenant_id TEXT NOT NULL,
  start_us INTEGER NOT NULL,  -- microseconds since 1970
  source TEXT NOT NULL,
  event_type TEXT NOT NULL,
  count INTEGER NOT NULL,
  first_us INTEGER NOT NULL,  -- earliest timestamp_us in it
  last_us INTEGER NOT NULL,   -- latest
  PRIMARY KEY (tenant_id, start_us, source, event_type)
) WITHOUT ROWID;
"
            )
        })
        .concat()
}

/// One group's count, earliest time and latest time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) count: i64,
    pub(super) first_us: i64,
    pub(super) last_us: i64,
}

impl Tally {
    pub(super) fn of(us: i64) -> Tally {
        Tally { count: 1, first_us: us, last_us: us }
    }

    #[inline]
    pub(super) fn add(&mut self, other: Tally) {
        self.count += other.count;
        self.first_us = self.first_us.min(other.first_us);
        self.last_us = self.last_us.max(other.last_us);
    }
}

/// A hasher for a group's number and the start of a minute, which mixes them by one multiplication (Fibonacci
/// hashing). The server assigns the numbers, so no client can choose them.
#[derive(Default)]
pub(super) struct FibonacciHasher(u64);

impl Hasher for FibonacciHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }
    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(26) ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
    fn write_u32(&mut self, value: u32) {
        self.write_u64(u64::from(value));
    }
    fn write_i64(&mut self, value: i64) {
        self.write_u64(value as u64);
    }
}

/// Counts by the number of a group and the start of a time.
pub(super) type ByStart = HashMap<(u32, i64), Tally, BuildHasherDefault<FibonacciHasher>>;

/// The number of groups whose names are kept between batches. Above this number, all of them are forgotten.
const GROUPS_KEPT: usize = 20_000;

/// The number of groups remembered by a few bits of their names.
const RECENT: usize = 256;

/// Returns a few bits of a group's names. If two groups have the same bits, the map is searched.
#[inline]
fn spot(names: [&str; 3]) -> usize {
    let mut bits = 0_u64;
    for name in names {
        let bytes = name.as_bytes();
        let (words, rest) = bytes.as_chunks::<8>();
        let last = rest.iter().fold(bytes.len() as u64, |last, byte| last << 8 | u64::from(*byte));
        for word in words.iter().map(|word| u64::from_le_bytes(*word)).chain([last]) {
            bits = (bits.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
    }
    (bits >> 56) as usize % RECENT
}

/// A group's tenant, source and type, and the minute that was counted last.
#[derive(Debug)]
struct Group {
    tenant: Box<str>,
    source: Box<str>,
    event_type: Box<str>,
    minute: i64,
    /// Empty while its count is 0.
    tally: Tally,
}

/// The pre-aggregation of one batch.
#[derive(Debug)]
pub struct Buckets {
    /// Each group's number, by `tenant NUL source NUL type`. Names contain no control characters.
    numbers: HashMap<Box<str>, u32>,
    groups: Vec<Group>,
    /// The groups counted recently, by a few bits of their names. The entry is nearly always the right one, and this
    /// lookup is cheaper than one in the map.
    recent: [u32; RECENT],
    /// The groups that have a tally.
    counted: Vec<u32>,
    minutes: ByStart,
    /// What the commit page has. `None` if it must be read.
    page: Option<PageMinutes>,
}

impl Default for Buckets {
    fn default() -> Buckets {
        Buckets {
            numbers: HashMap::new(),
            groups: Vec::new(),
            recent: [0; RECENT],
            counted: Vec::new(),
            minutes: ByStart::default(),
            page: None,
        }
    }
}

impl Buckets {
    /// Counts a row that is being inserted. Takes about 30 ns, and allocates nothing for a known group.
    #[inline]
    pub fn count(&mut self, row: &ServiceEventRow<'_>) {
        let names = [row.tenant_id, row.source, row.event_type];
        let spot = spot(names);
        let recent = self.recent[spot];
        let is_it = |group: &Group| [&*group.tenant, &*group.source, &*group.event_type] == names;
        let number = match self.groups.get(recent as usize) {
            Some(group) if is_it(group) => recent,
            _ => {
                let number = self.number_of(names);
                self.recent[spot] = number;
                number
            }
        };
        let minute = BucketSize::Minute.floor(row.timestamp_us);
        let group = &mut self.groups[number as usize];
        if group.tally.count == 0 {
            self.counted.push(number);
            (group.minute, group.tally) = (minute, Tally::of(row.timestamp_us));
        } else if group.minute == minute {
            group.tally.add(Tally::of(row.timestamp_us));
        } else {
            // The row is in another minute, so the tally of the previous one moves to the map.
            add(&mut self.minutes, (number, group.minute), group.tally);
            (group.minute, group.tally) = (minute, Tally::of(row.timestamp_us));
        }
    }

    #[cold]
    fn number_of(&mut self, [tenant, source, event_type]: [&str; 3]) -> u32 {
        let key = format!("{tenant}\0{source}\0{event_type}");
        if let Some(number) = self.numbers.get(key.as_str()) {
            return *number;
        }
        let number = self.groups.len() as u32;
        self.groups.push(Group {
            tenant: tenant.into(),
            source: source.into(),
            event_type: event_type.into(),
            minute: 0,
            tally: Tally { count: 0, first_us: 0, last_us: 0 },
        });
        self.numbers.insert(key.into(), number);
        number
    }

    /// Adds the batch's counts to the commit page or to the tables, in the caller's transaction. Call
    /// [`Buckets::clear`] or [`Buckets::rolled_back`] afterwards.
    pub fn save(&mut self, transaction: &Connection) -> Result<(), ShardError> {
        self.gather();
        let mut page = match self.page.take() {
            Some(page) => page,
            None => self.read_page(transaction)?,
        };
        let batch = self.minutes.keys().map(|minute| (*minute, self.names_of(minute.0)));
        match page.place_of(batch) {
            BatchPlace::Page => {
                for (minute, tally) in &self.minutes {
                    let names = self.names_of(minute.0);
                    newest::add(transaction, names, minute.1, *tally)?;
                    page.note(*minute, names);
                }
            }
            BatchPlace::TablesWithPage => {
                self.take_page(transaction)?;
                self.save_sums(transaction)?;
                page = page.emptied();
            }
            BatchPlace::Tables => self.save_sums(transaction)?,
        }
        self.page = Some(page);
        Ok(())
    }

    fn save_sums(&mut self, transaction: &Connection) -> Result<(), ShardError> {
        BucketSize::ALL.into_iter().try_for_each(|size| add_sums(transaction, size, self.sums(size)))
    }

    fn names_of(&self, number: u32) -> [&str; 3] {
        let Group { tenant, source, event_type, .. } = &self.groups[number as usize];
        [tenant, source, event_type]
    }

    fn read_page(&mut self, connection: &Connection) -> Result<PageMinutes, ShardError> {
        let mut page = PageMinutes::new(connection)?;
        newest::on_page(connection, |names, minute_us, _| {
            page.note((self.number_of(names), minute_us), names);
        })?;
        Ok(page)
    }

    /// Takes the counts of the commit page over into these.
    fn take_page(&mut self, transaction: &Connection) -> Result<(), ShardError> {
        newest::on_page(transaction, |names, minute_us, tally| {
            let number = self.number_of(names);
            add(&mut self.minutes, (number, minute_us), tally);
        })?;
        newest::clear(transaction)
    }

    /// Subtracts the counts of rows that are removed from a partition, in the caller's transaction. `others` are the
    /// remaining partitions, where this function looks up the remaining rows' earliest and latest times.
    pub fn subtract(
        &mut self,
        transaction: &Connection,
        partition: &PartitionInfo,
        others: &[PartitionInfo],
    ) -> Result<(), ShardError> {
        let mut newest = Buckets::default();
        newest.take_page(transaction)?;
        newest.save_sums(transaction)?;
        // The smaller sizes come first, because the times of the larger ones are found in them.
        for size in BucketSize::ALL.into_iter().filter(|size| is_counted(partition, *size)) {
            let table = older_of(size);
            let at = "tenant_id = ?1 AND start_us = ?2 AND source = ?3 AND event_type = ?4";
            let mut find = transaction
                .prepare_cached(&format!("SELECT count, first_us, last_us FROM {table} WHERE {at}"))?;
            let mut delete = transaction.prepare_cached(&format!("DELETE FROM {table} WHERE {at}"))?;
            let mut update = transaction.prepare_cached(&format!(
                "UPDATE {table} SET count = ?5, first_us = ?6, last_us = ?7 WHERE {at}"
            ))?;
            for (key, gone) in self.sums(size) {
                let (tenant, start_us, source, event_type) = key;
                let mut left = find.query_row(key, |row| {
                    Ok(Tally { count: row.get(0)?, first_us: row.get(1)?, last_us: row.get(2)? })
                })?;
                left.count -= gone.count;
                if left.count <= 0 {
                    delete.execute(key)?;
                    continue;
                }
                if gone.first_us == left.first_us || gone.last_us == left.last_us {
                    (left.first_us, left.last_us) = edges(transaction, others, size, key)?;
                }
                let Tally { count, first_us, last_us } = left;
                update.execute(params![tenant, start_us, source, event_type, count, first_us, last_us])?;
            }
        }
        Ok(())
    }

    /// Adds the tallies of the groups to the minutes.
    fn gather(&mut self) {
        for number in self.counted.drain(..) {
            let group = &mut self.groups[number as usize];
            add(&mut self.minutes, (number, group.minute), group.tally);
            group.tally.count = 0;
        }
    }

    /// Returns the counts by bucket for one size, in the tables' key order, so that neighbours are on the same page.
    fn sums(&mut self, size: BucketSize) -> BTreeMap<(&str, i64, &str, &str), Tally> {
        self.gather();
        let mut sums: BTreeMap<(&str, i64, &str, &str), Tally> = BTreeMap::new();
        for ((number, minute), tally) in &self.minutes {
            let Group { tenant, source, event_type, .. } = &self.groups[*number as usize];
            let key = (&**tenant, size.floor(*minute), &**source, &**event_type);
            sums.entry(key).and_modify(|sum| sum.add(*tally)).or_insert(*tally);
        }
        sums
    }

    /// Discards the counts instead of a commit, and what is known of the commit page.
    pub fn rolled_back(&mut self) {
        self.clear();
        self.page = None;
    }

    /// Discards the counts, after their commit.
    pub fn clear(&mut self) {
        for number in self.counted.drain(..) {
            self.groups[number as usize].tally.count = 0;
        }
        self.minutes.clear();
        if self.groups.len() > GROUPS_KEPT {
            *self = Buckets::default();
        }
    }
}

#[inline]
fn add(minutes: &mut ByStart, at: (u32, i64), tally: Tally) {
    minutes.entry(at).and_modify(|sum| sum.add(tally)).or_insert(tally);
}

/// Adds counts to the table of a size. The order of the table's key is the fastest one.
pub(super) fn add_sums<'k>(
    transaction: &Connection,
    size: BucketSize,
    sums: impl IntoIterator<Item = (BucketKey<'k>, Tally)>,
) -> Result<(), ShardError> {
    let mut upsert = transaction.prepare_cached(upsert_sql(size))?;
    for ((tenant, start_us, source, event_type), Tally { count, first_us, last_us }) in sums {
        upsert.execute(params![tenant, start_us, source, event_type, count, first_us, last_us])?;
    }
    Ok(())
}

/// The key of a bucket: tenant, start, source, type.
pub(super) type BucketKey<'k> = (&'k str, i64, &'k str, &'k str);

/// Returns the earliest and the latest time among a bucket's rows. Those of a minute are found in these partitions,
/// those of an hour in its minutes, and those of a day in its hours, which were changed before. A partition that the
/// smaller size does not count is searched itself.
fn edges(
    transaction: &Connection,
    partitions: &[PartitionInfo],
    size: BucketSize,
    key: BucketKey<'_>,
) -> Result<(i64, i64), ShardError> {
    let part = match size {
        BucketSize::Minute => None,
        BucketSize::Hour => Some(BucketSize::Minute),
        BucketSize::Day => Some(BucketSize::Hour),
    };
    let is_searched =
        |info: &&PartitionInfo| is_counted(info, size) && part.is_none_or(|part| !is_counted(info, part));
    let (low, high) = edges_of_rows(transaction, partitions.iter().filter(is_searched), size, key)?;
    let Some(part) = part else { return Ok((low, high)) };
    let parts = edges_of_parts(transaction, part, size, key)?;
    Ok((low.min(parts.0), high.max(parts.1)))
}

fn edges_of_rows<'p>(
    transaction: &Connection,
    partitions: impl Iterator<Item = &'p PartitionInfo>,
    size: BucketSize,
    (tenant, start_us, source, event_type): BucketKey<'_>,
) -> Result<(i64, i64), ShardError> {
    let end_us = start_us + size.us();
    let mut edges = (i64::MAX, i64::MIN);
    for PartitionInfo { name, timestamp_us, .. } in partitions {
        if timestamp_us.is_none_or(|(low, high)| low >= end_us || high < start_us) {
            continue;
        }
        let range = params![tenant, start_us, end_us, source, event_type];
        let [first, last] = edge_sql(name);
        let edge = |sql: &str| -> Result<Option<i64>, ShardError> {
            Ok(transaction.prepare_cached(sql)?.query_row(range, |row| row.get(0)).optional()?)
        };
        edges.0 = edges.0.min(edge(&first)?.unwrap_or(i64::MAX));
        edges.1 = edges.1.max(edge(&last)?.unwrap_or(i64::MIN));
    }
    Ok(edges)
}

/// Returns the SQL that finds the earliest and the latest time of a bucket's rows in a partition.
pub(super) fn edge_sql(partition: &str) -> [String; 2] {
    ["ASC", "DESC"].map(|order| {
        format!(
            "SELECT timestamp_us FROM {partition} INDEXED BY {partition}_order WHERE tenant_id = ?1 \
             AND timestamp_us >= ?2 AND timestamp_us < ?3 AND source = ?4 AND event_type = ?5 \
             ORDER BY timestamp_us {order} LIMIT 1"
        )
    })
}

/// Finds the first and the last of the parts of a bucket that exist.
fn edges_of_parts(
    transaction: &Connection,
    part: BucketSize,
    size: BucketSize,
    (tenant, start_us, source, event_type): BucketKey<'_>,
) -> Result<(i64, i64), ShardError> {
    let mut find = transaction.prepare_cached(&part_sql(part))?;
    let mut edge = |start_us: i64| -> Result<Option<(i64, i64)>, ShardError> {
        let key = params![tenant, start_us, source, event_type];
        Ok(find.query_row(key, |row| Ok((row.get(0)?, row.get(1)?))).optional()?)
    };
    let parts = 0..size.us() / part.us();
    let mut edges = (i64::MAX, i64::MIN);
    for at in parts.clone() {
        if let Some((first_us, _)) = edge(start_us + at * part.us())? {
            edges.0 = first_us;
            break;
        }
    }
    for at in parts.rev() {
        if let Some((_, last_us)) = edge(start_us + at * part.us())? {
            edges.1 = last_us;
            break;
        }
    }
    Ok(edges)
}

/// Returns the SQL that finds the times of a bucket.
pub(super) fn part_sql(size: BucketSize) -> String {
    format!(
        "SELECT first_us, last_us FROM {} WHERE tenant_id = ?1 AND start_us = ?2 AND source = ?3 \
         AND event_type = ?4",
        older_of(size)
    )
}

fn upsert_sql(size: BucketSize) -> &'static str {
    macro_rules! upsert {
        ($table:literal) => {
            concat!(
                "INSERT INTO ",
                $table,
                " (tenant_id, start_us, source, event_type, count, first_us, last_us) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) \
                 ON CONFLICT (tenant_id, start_us, source, event_type) DO UPDATE SET \
                 count = count + excluded.count, first_us = min(first_us, excluded.first_us), \
                 last_us = max(last_us, excluded.last_us)"
            )
        };
    }
    match size {
        BucketSize::Minute => upsert!("bucket_minute_older"),
        BucketSize::Hour => upsert!("bucket_hour_older"),
        BucketSize::Day => upsert!("bucket_day_older"),
    }
}
