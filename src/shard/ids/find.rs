//! A reader's lookup of ids, from the tables alone.

use rusqlite::Connection;

use super::run::Span;
use super::table::{Entry, entry, hash_of};
use super::{IdsOf, lower, store};
use crate::base::keys::KeyHash;
use crate::shard::error::ShardError;

pub fn runs_sql(of: &IdsOf) -> String {
    format!("SELECT first_id, ids, chunks FROM {}id_run WHERE first_id >= ?1 ORDER BY first_id", of.prefix)
}

pub fn recent_sql(of: &IdsOf) -> String {
    format!("SELECT first_id, hashes FROM {}id_recent WHERE first_id >= ?1", of.prefix)
}

/// Returns the rows that may have this id. The caller compares the ids of these rows. A reader does not have the
/// filters, which are in the writer's memory. It therefore reads a chunk of every run, which takes 4 us per run, and
/// scans the newest ids, which takes up to half a millisecond.
pub fn find(connection: &Connection, of: &'static IdsOf, hash: KeyHash) -> Result<Vec<i64>, ShardError> {
    IdReader::open(connection, of)?.find(connection, &[hash])
}

/// The ids of one snapshot, for many lookups.
#[derive(Debug)]
pub struct IdReader {
    of: &'static IdsOf,
    runs: Vec<Span>,
    /// The newest ids are in the rows from this id on. Earlier rows of their table are already in a run and wait for
    /// deletion.
    newest_from: i64,
    /// The newest ids sorted by hash, with the offsets of their rows from `sorted_from`.
    sorted: Option<Vec<Entry>>,
    sorted_from: i64,
}

impl IdReader {
    /// Opens the ids. A lookup scans the newest ones, once for all ids that are looked up together.
    pub fn open(connection: &Connection, of: &'static IdsOf) -> Result<IdReader, ShardError> {
        let (mut runs, mut newest_from) = (Vec::new(), i64::MIN);
        let mut statement = connection.prepare_cached(&runs_sql(of))?;
        let mut rows = statement.query([newest_from])?;
        while let Some(row) = rows.next()? {
            let run = Span { first_id: row.get(0)?, ids: row.get(1)?, chunks: row.get(2)? };
            newest_from = run.first_id.saturating_add(run.ids.into());
            runs.push(run);
        }
        Ok(IdReader { of, runs, newest_from, sorted: None, sorted_from: 0 })
    }

    /// Sorts the newest ids, so that no later lookup scans them. They need 12 bytes each. More than `ids_max` of them
    /// remain unsorted. Returns the number of sorted ids.
    pub fn sort(&mut self, connection: &Connection, ids_max: usize) -> Result<usize, ShardError> {
        let (mut entries, mut first) = (Vec::new(), None);
        let mut is_small = true;
        self.scan(connection, |hash, row| {
            let from = *first.get_or_insert(row);
            let offset = row.checked_sub(from).and_then(|offset| u32::try_from(offset).ok());
            match offset.filter(|_| entries.len() < ids_max) {
                Some(offset) if is_small => entries.push(entry(hash, offset)),
                _ => is_small = false,
            }
        })?;
        if !is_small {
            return Ok(0);
        }
        entries.sort_unstable_by_key(hash_of);
        let count = entries.len();
        (self.sorted, self.sorted_from) = (Some(entries), first.unwrap_or(0));
        Ok(count)
    }

    /// Returns the rows that may have one of these ids, in ascending order. The caller compares the ids of these rows.
    pub fn find(&self, connection: &Connection, hashes: &[KeyHash]) -> Result<Vec<i64>, ShardError> {
        let mut wanted: Vec<(u64, u32)> = hashes.iter().map(|hash| (lower(*hash), 0)).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let mut candidates = Vec::new();
        for run in &self.runs {
            run.settle(connection, self.of, &wanted, &mut candidates)?;
        }
        let mut found: Vec<i64> = candidates.into_iter().map(|(_, row)| row).collect();
        match &self.sorted {
            Some(entries) => {
                for (hash, _) in &wanted {
                    let at = entries.partition_point(|entry| hash_of(entry) < *hash);
                    let same = entries.iter().skip(at).take_while(|entry| hash_of(entry) == *hash);
                    found.extend(same.map(|entry| self.sorted_from.saturating_add(entry[2].into())));
                }
            }
            None => {
                let is_wanted = |hash: u64| match wanted.as_slice() {
                    [(only, _)] => *only == hash,
                    many => many.binary_search(&(hash, 0)).is_ok(),
                };
                self.scan(connection, |hash, row| {
                    if is_wanted(hash) {
                        found.push(row);
                    }
                })?;
            }
        }
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    /// Passes every one of the newest ids to `read`, with its row.
    fn scan(&self, connection: &Connection, mut read: impl FnMut(u64, i64)) -> Result<(), ShardError> {
        let mut statement = connection.prepare_cached(&recent_sql(self.of))?;
        let mut rows = statement.query([self.newest_from])?;
        while let Some(row) = rows.next()? {
            let first_id: i64 = row.get(0)?;
            let blob = row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?;
            let (hashes, _) = store::unseal("id_recent", first_id, blob)?.as_chunks::<8>();
            for (hash, offset) in hashes.iter().zip(0_i64..) {
                read(u64::from_le_bytes(*hash), first_id.saturating_add(offset));
            }
        }
        Ok(())
    }
}
