//! Reads a period of every shard in bounded steps: what a step takes from its rows, and the loop over the steps.

use rusqlite::types::Value;
use rusqlite::{Connection, Row};

use super::payload_value::{ValueHasher, ValuePath};
use super::read::{EventFilter, payload_sql};
use super::schema::EVENTS;
use crate::base::keys::KeyHasher;
use crate::query::{QueryError, Readers, received};
use crate::shard::read::{self, Bounds, Position, Source, TimeRange};
use crate::shard::{PartitionInfo, ShardError, Stream};

/// The maximum number of rows that all shards' pending steps take together.
const PENDING_ROWS_MAX: usize = 262_144;
/// The bounds for the rows of one step.
const STEP_ROWS: std::ops::RangeInclusive<usize> = 256..=8_192;
/// More than a step of the maximum number of rows returns, so that rows are what ends it.
const STEP_BYTES: usize = 4 << 20;

/// Returns the limit for one shard's step. Memory depends on neither the number of shards nor that of rows.
pub(super) fn step_rows(readers: &Readers) -> usize {
    (PENDING_ROWS_MAX / readers.shard_count().max(1)).clamp(*STEP_ROWS.start(), *STEP_ROWS.end())
}

/// Runs steps on every shard, concurrently, until none has another one. `step` gets no position at first. It returns a
/// share, and the position of its shard's next step; `take` gets the shares. Dropping the future ends the scan with the
/// steps that are running.
pub(super) async fn in_steps<S, P>(
    readers: &Readers,
    step: impl Fn(&Connection, Option<P>) -> Result<(S, Option<P>), ShardError> + Clone + Send + 'static,
    mut take: impl FnMut(S) -> Result<(), QueryError>,
) -> Result<(), QueryError>
where
    S: Default + Send + 'static,
    P: Send + 'static,
{
    let ask = |shard, position: Option<P>| {
        let step = step.clone();
        readers.ask(shard, (S::default(), None), move |connection| step(connection, position))
    };
    let asked = readers.shards().map(|shard| Ok((shard, ask(shard, None)?)));
    let mut coming = asked.collect::<Result<Vec<_>, QueryError>>()?;
    while !coming.is_empty() {
        let mut continued = Vec::with_capacity(coming.len());
        for (shard, answer) in coming {
            let (share, next) = received(answer.recv().await)?;
            if next.is_some() {
                // The next step runs while this share is merged.
                continued.push((shard, ask(shard, next)?));
            }
            take(share)?;
        }
        coming = continued;
    }
    Ok(())
}

/// A source that takes something of each row instead of rendering it.
macro_rules! source {
    ($source:ident, $keys_only:expr) => {
        fn stream(&self) -> &'static Stream {
            &EVENTS
        }

        fn cursor_sql(
            &self,
            range: &TimeRange,
            partition: &PartitionInfo,
            pin: i64,
            position: &Position,
            keys_only: bool,
        ) -> (String, Vec<Value>) {
            self.of.cursor_sql(range, partition, pin, position, $keys_only || keys_only)
        }

        fn unordered_sql(
            &self,
            range: &TimeRange,
            partition: &PartitionInfo,
            pin: i64,
            position: &Position,
        ) -> Result<(String, Vec<Value>), ShardError> {
            self.of.unordered_sql(range, partition, pin, position)
        }

        fn key(&self, row: &Row<'_>) -> Result<Position, ShardError> {
            self.of.key(row)
        }

        fn takes(&self, row: &Row<'_>) -> Result<bool, ShardError> {
            self.of.takes(row)
        }
    };
}

/// Takes a column of the index: a row's source or type, or nothing but its time.
struct Names<'s> {
    of: &'s EventFilter,
    column: Option<usize>,
}

impl Source for Names<'_> {
    source!(Names, true);

    fn render(&self, row: &Row<'_>, _: &Position, out: &mut Vec<u8>) -> Result<(), ShardError> {
        if let Some(column) = self.column {
            out.extend_from_slice(row.get_ref(column)?.as_bytes().map_err(rusqlite::Error::from)?);
        }
        Ok(())
    }
}

/// Reads one step of a period's rows from the index alone. `row` gets the time of each, and its name in this column.
pub(super) fn names(
    connection: &Connection,
    of: &EventFilter,
    column: Option<usize>,
    (range, position): (&TimeRange, &Position),
    rows_max: usize,
    mut row: impl FnMut(i64, &str),
) -> Result<Option<Position>, ShardError> {
    let bounds = Bounds { rows: rows_max, bytes: STEP_BYTES };
    let partial = read::step(connection, (&Names { of, column }, range), i64::MAX, position, bounds, false)?;
    let mut start = 0;
    for found in &partial.rows {
        let end = found.line_end as usize;
        let name = std::str::from_utf8(&partial.bytes[start..end]);
        row(found.timestamp_us, name.map_err(|error| ShardError::Corrupt(error.to_string()))?);
        start = end;
    }
    Ok(partial.next)
}

/// Takes the hash of a value in each payload that has one.
struct Values<'s> {
    of: &'s EventFilter,
    path: &'s ValuePath,
    hasher: std::cell::RefCell<ValueHasher>,
}

impl Values<'_> {
    fn take(&self, payload: &[u8], out: &mut Vec<u8>) {
        if let Some(value) = self.path.find(payload) {
            out.extend_from_slice(&self.hasher.borrow_mut().hash(value).to_le_bytes());
        }
    }
}

impl Source for Values<'_> {
    source!(Values, false);

    fn reads_keys_first(&self) -> bool {
        self.of.reads_keys_first()
    }

    fn render(&self, row: &Row<'_>, _: &Position, out: &mut Vec<u8>) -> Result<(), ShardError> {
        self.take(row.get_ref(6)?.as_bytes().map_err(rusqlite::Error::from)?, out);
        Ok(())
    }

    fn render_by_id(
        &self,
        connection: &Connection,
        partition: &str,
        _: &Row<'_>,
        key: &Position,
        out: &mut Vec<u8>,
    ) -> Result<(), ShardError> {
        let mut statement = connection.prepare_cached(&payload_sql(partition))?;
        statement.query_row([key.id], |found| {
            self.take(found.get_ref(0)?.as_bytes().map_err(rusqlite::Error::from)?, out);
            Ok(())
        })?;
        Ok(())
    }
}

/// The values of one step's rows.
#[derive(Debug, Default)]
pub(super) struct ValueShare {
    pub rows: u64,
    /// The number of rows without a value.
    pub missing: u64,
    /// The different values' hashes.
    pub hashes: Vec<u128>,
}

/// The position of a scan for values in one shard: the highest row id that it sees, and the row before.
#[derive(Clone, Debug)]
pub(super) struct ValuePosition(i64, Position);

/// Reads one step of a period's values. Without a position, it begins at the first row and pins the rows of the scan.
pub(super) fn values(
    connection: &Connection,
    (of, range): (&EventFilter, &TimeRange),
    (path, keys): (&ValuePath, KeyHasher),
    position: Option<ValuePosition>,
    rows_max: usize,
) -> Result<(ValueShare, Option<ValuePosition>), ShardError> {
    let ValuePosition(pin, position) = match position {
        Some(position) => position,
        None => ValuePosition(read::pin(connection, &EVENTS)?, range.start()),
    };
    let hasher = ValueHasher::new(keys).into();
    let bounds = Bounds { rows: rows_max, bytes: STEP_BYTES };
    let partial =
        read::step(connection, (&Values { of, path, hasher }, range), pin, &position, bounds, false)?;
    let (found, _) = partial.bytes.as_chunks::<16>();
    let mut share = ValueShare {
        rows: partial.rows.len() as u64,
        missing: (partial.rows.len() - found.len()) as u64,
        hashes: found.iter().map(|bytes| u128::from_le_bytes(*bytes)).collect(),
    };
    share.hashes.sort_unstable();
    share.hashes.dedup();
    Ok((share, partial.next.map(|next| ValuePosition(pin, next))))
}
