//! The rows of a shard that a sink lacks, for reports and before the shards are redistributed.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::{Connection, OptionalExtension as _};

use super::backup::file_numbers;
use super::error::ShardError;
use super::family::Families;
use super::hold::Lives;
use super::sinks::{SinkEntry, confirmed_by};
use crate::base::ids::ShardId;

/// The rows of one shard that a sink lacks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lag {
    /// The time of the sink's note, in microseconds since 1970. `None` if it has no note.
    pub noted_us: Option<i64>,
    /// Numbers that were given out and are not confirmed, by stream; `change` has the feed's. Streams without any are not
    /// listed.
    pub behind: BTreeMap<String, i64>,
    /// The time at which the oldest partition with unconfirmed rows was sealed, in microseconds since 1970, by stream.
    pub sealed_us: BTreeMap<String, i64>,
}

/// Returns what a sink lacks of a shard, according to its note.
///
/// # Errors
/// The note or the database cannot be read.
pub fn lag(
    data: &Path,
    (name, sink): (&str, &SinkEntry),
    shard: ShardId,
    connection: &Connection,
    families: &Families,
) -> Result<Lag, ShardError> {
    let note = confirmed_by(data, (name, sink), shard)?;
    let noted_us = note.as_ref().map(|note| note.at_us);
    let places = match note {
        None => BTreeMap::new(),
        Some(note) => Lives::read(connection)?.carried(&note.epoch, note.last),
    };
    let mut sealed_us = BTreeMap::new();
    let sql = "SELECT sealed_at FROM partition WHERE stream = ?1 AND rows > 0 AND sealed_at IS NOT NULL \
               AND first_id + rows + erased - 1 > ?2 ORDER BY first_id LIMIT 1";
    for stream in families.streams() {
        let confirmed = places.get(stream.name).copied().unwrap_or(0);
        let sealed_at: Option<String> = connection
            .prepare_cached(sql)?
            .query_row(rusqlite::params![stream.name, confirmed], |row| row.get(0))
            .optional()?;
        if let Some(at) = sealed_at.and_then(|at| at.parse::<jiff::Timestamp>().ok()) {
            sealed_us.insert(stream.name.to_owned(), at.as_microsecond());
        }
    }
    let behind = file_numbers(connection, families)?.into_iter().filter_map(|(stream, last)| {
        let behind = last - places.get(&stream).copied().unwrap_or(0);
        (behind > 0).then_some((stream, behind))
    });
    Ok(Lag { noted_us, behind: behind.collect(), sealed_us })
}
