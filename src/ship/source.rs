//! One shard's rows, read in short snapshots of its file.
//!
//! In: a stream and a place. Out: the next rows, up to what the file has without its WAL, and the place after them.
//! Rows that retention or an erasure has deleted are passed over. Owns: a read-only connection. Never: holds a snapshot
//! while its caller waits for a target, because a snapshot keeps checkpoints from being complete.

mod changes;
mod clicks;
mod events;
mod names;
mod orders;
mod portion;
mod prices;
mod seen;
mod settled;
mod stock;

use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::rows::{Rows, ShipStream};
use super::sink::{EpochId, Places};
use crate::shard::{
    EPOCH, Epoch, Identity, ShardError, beside, check_current, checkpointed, epochs, is_made, open_reader,
};

pub use portion::ReadLimits;
pub use seen::{Seen, Unshipped};

use self::names::Names;
use self::portion::Portion;

/// The page cache of a connection. Rows are read once and in order, so a small one suffices.
const CACHE_KIB: i64 = 2_048;
/// The maximum number of compiled statements of a connection.
const STATEMENTS: usize = 48;

/// The durable state of a shard's file in one snapshot.
#[derive(Clone, Debug, PartialEq)]
pub struct Look {
    /// The epochs, oldest first, without those that the file has only in its WAL.
    pub epochs: Vec<Epoch>,
    /// The last row id of each stream that the file has without its WAL.
    pub limits: Places,
    /// `true` if the file has a newer epoch, which cannot be used yet.
    pub is_beginning: bool,
}

/// The next rows of a stream.
#[derive(Clone, Debug, PartialEq)]
pub struct NextRows {
    pub rows: Rows,
    /// The place after them.
    pub last: i64,
    /// Changes that name a row which no longer exists.
    pub skipped: u64,
}

/// The answer to a read.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    /// The file is in another epoch than the reader assumed.
    OtherEpoch,
    /// The place is at the limit.
    Nothing,
    /// There are rows, but the next one can be sent only after the next checkpoint.
    Unsettled,
    Next(NextRows),
}

/// The reader of one shard.
pub struct Source {
    path: PathBuf,
    limits: ReadLimits,
    open: Option<(Files, Connection)>,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Source {
    /// Returns a reader of the database at `path`, which is opened when it is first read.
    #[must_use]
    pub fn new(path: &Path, limits: ReadLimits) -> Source {
        Source { path: path.to_owned(), limits, open: None }
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the epochs and the limits.
    ///
    /// # Errors
    /// The file is missing, is of another schema version, or cannot be read.
    pub fn look(&mut self) -> Result<Look, ShardError> {
        self.snapshot(look)
    }

    /// Reads the next rows of a stream after a place, at most `rows_max` of them.
    ///
    /// # Errors
    /// See [`Source::look`].
    pub fn read(
        &mut self,
        epoch: &EpochId,
        stream: ShipStream,
        after: i64,
        rows_max: usize,
    ) -> Result<Found, ShardError> {
        let limits = ReadLimits { rows: self.limits.rows.min(rows_max.max(1)), ..self.limits };
        self.snapshot(|snapshot| read(snapshot, epoch, stream, after, limits))
    }

    /// Reads rows again that were sent, with ids in `(after, upto]`. Orders have their status now.
    ///
    /// # Errors
    /// See [`Source::look`].
    pub fn read_sent(
        &mut self,
        stream: ShipStream,
        (after, upto): (i64, i64),
    ) -> Result<NextRows, ShardError> {
        let limits = self.limits;
        self.snapshot(|snapshot| rows_of(snapshot, stream, (after, upto), i64::MAX, limits))
    }

    /// Reads how much is not shipped, given the places.
    ///
    /// # Errors
    /// See [`Source::look`].
    pub fn seen(&mut self, places: &Places) -> Result<Seen, ShardError> {
        self.snapshot(|snapshot| seen::seen(snapshot, places))
    }

    /// Returns the greatest row id that a stream has given out, also if its row was deleted.
    ///
    /// # Errors
    /// See [`Source::look`].
    pub fn newest(&mut self, stream: ShipStream) -> Result<i64, ShardError> {
        self.snapshot(|snapshot| seen::newest(snapshot, stream, true))
    }

    /// Calls `read` with a snapshot of the file that the path names now. The snapshot ends with the call.
    fn snapshot<T>(
        &mut self,
        read: impl FnOnce(&Connection) -> Result<T, ShardError>,
    ) -> Result<T, ShardError> {
        let now = Files::of(&self.path)?;
        if self.open.as_ref().is_none_or(|(files, _)| *files != now) {
            self.open = None;
            let connection = open(&self.path)?;
            // Opening may have created the WAL.
            self.open = Some((Files::of(&self.path)?, connection));
        }
        let Some((files, connection)) = &self.open else { return Err(ShardError::Missing) };
        let mut found = connection.unchecked_transaction().map_err(ShardError::from).and_then(|snapshot| {
            check_current(&snapshot)?;
            read(&snapshot)
        });
        if Files::of(&self.path)? != *files {
            self.open = None;
            found = Err(ShardError::Busy);
        }
        // A connection that failed is not trusted. A lock is not a fault.
        if found.as_ref().is_err_and(|error| !matches!(error, ShardError::Busy)) {
            self.open = None;
        }
        found
    }
}

/// The files of a shard. A start after a power cut may remove a damaged WAL, while a connection still reads from it: what
/// it reads is then a mixture of two states.
#[derive(Debug, PartialEq, Eq)]
struct Files {
    database: Identity,
    wal: Option<Identity>,
}

impl Files {
    fn of(path: &Path) -> Result<Files, ShardError> {
        let database = Identity::of(path)?.ok_or(ShardError::Missing)?;
        Ok(Files { database, wal: Identity::of(&beside(path, "-wal"))? })
    }
}

fn open(path: &Path) -> Result<Connection, ShardError> {
    let connection = open_reader(path)?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    match is_made(&connection)? {
        true => Ok(connection),
        false => Err(ShardError::Other("the server is still creating it".to_owned())),
    }
}

fn look(snapshot: &Connection) -> Result<Look, ShardError> {
    let entries = checkpointed(snapshot)?;
    let newest = entries.get(EPOCH).copied().unwrap_or_default();
    let mut all = epochs(snapshot)?;
    let count = all.len();
    all.retain(|epoch| epoch.number <= newest);
    let is_beginning = all.len() < count;
    let limits = ShipStream::ALL
        .into_iter()
        .filter_map(|stream| Some((stream, *entries.get(stream.as_str())?)))
        .collect();
    Ok(Look { epochs: all, limits, is_beginning })
}

fn read(
    snapshot: &Connection,
    epoch: &EpochId,
    stream: ShipStream,
    after: i64,
    limits: ReadLimits,
) -> Result<Found, ShardError> {
    let look = look(snapshot)?;
    if look.is_beginning || look.epochs.last().is_none_or(|newest| newest.id != epoch.0) {
        return Ok(Found::OtherEpoch);
    }
    let limit = look.limits.get(&stream).copied().unwrap_or_default();
    if after >= limit {
        return Ok(Found::Nothing);
    }
    let settled = look.limits.get(&ShipStream::Changes).copied().unwrap_or_default();
    let next = rows_of(snapshot, stream, (after, limit), settled, limits)?;
    Ok(if next.last <= after { Found::Unsettled } else { Found::Next(next) })
}

/// Reads rows with ids in `(after, limit]`. Orders have their status as of the change `settled`.
fn rows_of(
    snapshot: &Connection,
    stream: ShipStream,
    (after, limit): (i64, i64),
    settled: i64,
    limits: ReadLimits,
) -> Result<NextRows, ShardError> {
    let mut names = Names::new(snapshot);
    let mut portion = Portion::new((after, limit), limits);
    let rows = match stream {
        ShipStream::Clicks => Rows::Clicks(clicks::read(snapshot, &mut portion)?),
        ShipStream::Events => Rows::Events(events::read(snapshot, &mut portion)?),
        ShipStream::Orders => Rows::Orders(orders::read(snapshot, &mut portion, &mut names, settled)?),
        ShipStream::StockEvents => Rows::StockEvents(stock::read(snapshot, &mut portion, &mut names)?),
        ShipStream::Prices => Rows::Prices(prices::read(snapshot, &mut portion, &mut names)?),
        ShipStream::Changes => Rows::Changes(changes::read(snapshot, &mut portion, &mut names)?),
    };
    Ok(NextRows { rows, last: portion.last(), skipped: portion.skipped() })
}

/// Returns the statements that read rows, for the first partition of each stream.
#[cfg(test)]
pub(super) fn statements() -> Vec<String> {
    let fixed = [
        stock::SQL,
        prices::SQL,
        changes::SQL,
        changes::ANOMALY_SQL,
        settled::LATER_SQL,
        settled::EARLIER_SQL,
        names::TENANT_SQL,
        names::CUSTOMER_SQL,
        names::PRODUCT_SQL,
        names::LEVEL_SQL,
        names::SERIES_SQL,
    ];
    let streams = [
        clicks::sql("click_000001"),
        events::sql("service_event_000001"),
        orders::sql("sales_order_000001"),
        crate::orders::items_sql("sales_order_000001"),
    ];
    fixed.into_iter().map(str::to_owned).chain(streams).collect()
}
