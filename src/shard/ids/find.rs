//! A reader's lookup of one id, from the tables alone.

use rusqlite::Connection;

use super::run::Span;
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
pub fn find(connection: &Connection, of: &IdsOf, hash: KeyHash) -> Result<Vec<i64>, ShardError> {
    let hash = lower(hash);
    let mut candidates = Vec::new();
    let mut newest_from = i64::MIN;
    let mut statement = connection.prepare_cached(&runs_sql(of))?;
    let mut rows = statement.query([newest_from])?;
    while let Some(row) = rows.next()? {
        let run = Span { first_id: row.get(0)?, ids: row.get(1)?, chunks: row.get(2)? };
        run.settle(connection, of, &[(hash, 0)], &mut candidates)?;
        newest_from = run.first_id.saturating_add(run.ids.into());
    }
    let mut found: Vec<i64> = candidates.into_iter().map(|(_, row_id)| row_id).collect();
    let mut statement = connection.prepare_cached(&recent_sql(of))?;
    // Earlier rows of the table are already in a run and wait for deletion.
    let mut rows = statement.query([newest_from])?;
    while let Some(row) = rows.next()? {
        let first_id: i64 = row.get(0)?;
        let blob = row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?;
        let (hashes, _) = store::unseal("id_recent", first_id, blob)?.as_chunks::<8>();
        let same = hashes.iter().zip(0_i64..).filter(|(known, _)| u64::from_le_bytes(**known) == hash);
        found.extend(same.map(|(_, offset)| first_id.saturating_add(offset)));
    }
    Ok(found)
}
