//! Stores rows directly in a data folder, through the code that stores journal records, in chunks of one transaction
//! each. The loader holds the folder's lock, so no server can use the folder in the meantime.
//!
//! One thread feeds the rows; each shard has a writer thread. Two chunks of a shard are in memory at most: the one
//! that is filled and the one that is stored. A loader that is killed leaves whole chunks, and a second run finds
//! their rows and adds the others.

use std::fmt;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

use async_channel::{Receiver, Sender, bounded};

use super::error::GenError;
use super::row::{Order, PriceSample, Sink, StockChange, StockEvent};
use super::units::bytes_text;
use crate::base::clock;
use crate::base::ids::{LaneId, Sequence};
use crate::base::keys::KeyHasher;
use crate::base::kinds::Kind;
use crate::base::money::Currency;
use crate::base::observed::Observed;
use crate::config::DataMode;
use crate::families::FAMILIES;
use crate::orders::{ItemRow, ORDER, ORDERS, OrderParts, encode_order};
use crate::prices::{PRICE, PRICE_ROWS, PriceRow};
use crate::shard::{
    CheckpointMode, DataFolder, Entry, Outcome, Records, Shard, ShardError, ShardFolder, ShardOptions,
    ledger_rows, restrict_new_files,
};
use crate::stock::{STOCK, STOCK_EVENTS, StockRow};

/// No core writes a journal with this number, so the load does not change other journals' positions.
const LANE: LaneId = LaneId(63);
/// The maximum number of rows of a shard that are stored together. More are hardly faster.
const CHUNK_ROWS_MAX: usize = 20_000;
/// The number of rows in all chunks that are being filled, so that many shards take no more memory than two: about
/// 300 bytes per row, twice.
const FILLED_ROWS_MAX: usize = 40_000;
/// The duration of one upkeep slice.
const UPKEEP_SLICE: Duration = Duration::from_millis(50);
/// How long the rows of one kind are counted in a shard that exists.
const COUNT_PATIENCE: Duration = Duration::from_secs(1);
/// The pause while a thread sorts, or another shard's entries are in memory.
const SORT_PAUSE: Duration = Duration::from_millis(5);

/// Loads rows into a data folder, which it creates if it is missing.
pub(super) struct Loader {
    keys: KeyHasher,
    shards: Vec<ShardFeed>,
    chunk_rows: usize,
    received_us: i64,
    bytes: u64,
    /// The outcomes of the current table's rows.
    loaded: Loaded,
    /// Dropped last, because it holds the lock.
    _folder: DataFolder,
}

/// The number of rows by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Loaded {
    pub(super) inserted: u64,
    pub(super) duplicate: u64,
}

/// The content of a data folder before a load, such as the rows of a load that was killed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) shards: u16,
    pub(super) bytes: u64,
    orders: u64,
    /// Price samples and stock events; `None` if counting takes too long.
    prices: Option<u64>,
    stock: Option<u64>,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Found { shards, bytes, orders, prices, stock } = *self;
        let counted = |rows: Option<u64>| rows.map_or_else(|| "many".to_owned(), |rows| rows.to_string());
        let (prices, stock, size) = (counted(prices), counted(stock), bytes_text(bytes));
        write!(
            f,
            "found {shards} shards ({size}) with {orders} orders, {prices} price samples and {stock} stock events; \
             rows of this dataset that are there are kept, and the others are added"
        )
    }
}

/// Returns what a data folder has. `None` if there is none yet.
pub(super) fn found(path: &Path) -> Option<Found> {
    let folder = DataFolder::read_only(path).ok()?;
    let mut found =
        Found { shards: folder.manifest().shards, prices: Some(0), stock: Some(0), ..Found::default() };
    for (_, shard) in folder.shards() {
        let database = shard.database();
        // A load that was killed at its beginning has shards without a file, or without tables.
        let Ok(inspection) = crate::shard::inspect(&database, &FAMILIES) else { continue };
        found.bytes += inspection.database_bytes + inspection.wal_bytes;
        found.orders += inspection.stored(&ORDERS);
        for (sum, ledger) in [(&mut found.prices, &PRICE_ROWS), (&mut found.stock, &STOCK_EVENTS)] {
            let rows = ledger_rows(&database, ledger, COUNT_PATIENCE).ok().flatten();
            *sum = sum.zip(rows).map(|(sum, rows)| sum + rows);
        }
    }
    Some(found)
}

/// The rows of one shard, and its writer.
struct ShardFeed {
    chunk: Chunk,
    to_writer: Sender<Work>,
    writer: Option<JoinHandle<Result<(), LoadError>>>,
    /// The database, for errors.
    database: PathBuf,
}

/// Why a shard did not store all of its rows. The rows before, and the other rows of the same chunk, are stored.
#[derive(Debug, thiserror::Error)]
enum LoadError {
    #[error(transparent)]
    Shard(#[from] ShardError),
    #[error(
        "{0} or more rows have the ids of other rows in the folder, which are kept: the folder has another \
         dataset. Load into a new folder, or repeat the options (--seed, --start, …) with which it was loaded. Rows \
         with other ids may have been added; a folder that must not have them is restored from a backup"
    )]
    Conflict(u64),
    #[error("{0} or more orders belong to customers who were erased from the folder; load into a new folder")]
    Suppressed(u64),
    #[error(
        "{0} or more orders would take the sales of a day beyond 64 bits, together with those in the folder; load \
         into a new folder"
    )]
    SumTooLarge(u64),
    #[error("{0} or more rows were refused; load into a new folder")]
    Refused(u64),
    #[error("the writer of the shard panicked")]
    Panicked,
}

/// What a writer does.
enum Work {
    Store(Chunk),
    /// Reports the outcomes since the last report, once everything before is stored.
    Report(Sender<Loaded>),
    /// Does all upkeep and writes everything to the file.
    Complete,
}

/// Collected records for one shard.
#[derive(Default)]
struct Chunk {
    kinds: Vec<Kind>,
    ends: Vec<usize>,
    bytes: Vec<u8>,
    first: u64,
}

impl Records for Chunk {
    fn records(&self) -> impl Iterator<Item = Entry<'_>> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        self.kinds.iter().zip(starts.zip(&self.ends)).zip(self.first..).map(
            |((kind, (start, end)), sequence)| Entry {
                sequence: Sequence(sequence),
                kind: kind.number(),
                payload: &self.bytes[start..*end],
            },
        )
    }
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> GenError {
    GenError::Sink(Box::new(error))
}

fn not_loaded(database: &Path, error: LoadError) -> GenError {
    GenError::NotLoaded { database: database.to_owned(), source: Box::new(error) }
}

impl Loader {
    /// Opens a data folder. `shards` is the number of shards if the folder is new.
    pub(super) fn open(path: &Path, shards: u16) -> Result<Loader, GenError> {
        // A server restricts its files in the same way by default.
        restrict_new_files(DataMode::Owner.folder_mode());
        let folder = DataFolder::open(path, None, shards).map_err(failed)?;
        let folder_id = folder.manifest().folder_id();
        let shards =
            folder.shards().map(|(_, of)| ShardFeed::begin(of, folder_id)).collect::<Result<Vec<_>, _>>()?;
        Ok(Loader {
            keys: KeyHasher::new(&folder_id),
            chunk_rows: (FILLED_ROWS_MAX / shards.len().max(1)).clamp(100, CHUNK_ROWS_MAX),
            shards,
            received_us: clock::unix_us(),
            bytes: 0,
            loaded: Loaded::default(),
            _folder: folder,
        })
    }

    /// Returns the outcomes of the last table's rows.
    pub(super) fn loaded(&self) -> Loaded {
        self.loaded
    }

    fn push(
        &mut self,
        (tenant, key): (&str, &str),
        kind: Kind,
        encode: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), GenError> {
        let place = self.keys.hash(tenant, key).shard(self.shards.len() as u16);
        let Some(ShardFeed { chunk, .. }) = self.shards.get_mut(usize::from(place.0)) else { return Ok(()) };
        let before = chunk.bytes.len();
        encode(&mut chunk.bytes);
        self.bytes += (chunk.bytes.len() - before) as u64;
        chunk.kinds.push(kind);
        chunk.ends.push(chunk.bytes.len());
        if chunk.kinds.len() >= self.chunk_rows { self.shards[usize::from(place.0)].flush() } else { Ok(()) }
    }

    /// Builds the indexes of full partitions, merges the runs of ids, and writes everything to the files. Afterwards
    /// no upkeep is left.
    pub(super) fn complete(&mut self) -> Result<(), GenError> {
        self.shards.iter_mut().try_for_each(|shard| shard.send(Work::Complete))?;
        self.shards.iter_mut().try_for_each(ShardFeed::end)
    }
}

impl ShardFeed {
    fn begin(of: ShardFolder, folder_id: [u8; 16]) -> Result<ShardFeed, GenError> {
        let database = of.database();
        let begin = || -> Result<_, LoadError> {
            let options = ShardOptions { folder_id, ..ShardOptions::default() };
            let shard = Shard::open(&of, &options, &FAMILIES)?;
            let (to_writer, work) = bounded(1);
            let named = std::thread::Builder::new().name("load".to_owned());
            let writer = named.spawn(move || write(shard, &work)).map_err(ShardError::from)?;
            Ok((to_writer, writer))
        };
        let (to_writer, writer) = begin().map_err(|error| not_loaded(&database, error))?;
        Ok(ShardFeed { chunk: Chunk::default(), to_writer, writer: Some(writer), database })
    }

    fn flush(&mut self) -> Result<(), GenError> {
        let chunk = std::mem::take(&mut self.chunk);
        if chunk.kinds.is_empty() { Ok(()) } else { self.send(Work::Store(chunk)) }
    }

    /// Waits until the writer accepts the work. A writer that has ended has failed.
    fn send(&mut self, work: Work) -> Result<(), GenError> {
        self.to_writer.send_blocking(work).or_else(|_| self.end())
    }

    /// Returns the writer's outcomes since the last report.
    fn report(&mut self) -> Result<Loaded, GenError> {
        let (to, from) = bounded(1);
        self.send(Work::Report(to))?;
        match from.recv_blocking() {
            Ok(loaded) => Ok(loaded),
            Err(_) => self.end().map(|()| Loaded::default()),
        }
    }

    /// Ends the writer and returns its error.
    fn end(&mut self) -> Result<(), GenError> {
        self.to_writer.close();
        let Some(writer) = self.writer.take() else { return Ok(()) };
        let outcome = writer.join().unwrap_or(Err(LoadError::Panicked));
        outcome.map_err(|error| not_loaded(&self.database, error))
    }
}

impl Drop for ShardFeed {
    /// The folder's lock is released after this, and no writer may outlive it.
    fn drop(&mut self) {
        _ = self.end();
    }
}

/// A writer's thread.
fn write(shard: Shard, work: &Receiver<Work>) -> Result<(), LoadError> {
    let outcome = work_through(shard, work);
    // A feed that waits for the report of a failed writer stops waiting when the request is dropped.
    work.close();
    while work.try_recv().is_ok() {}
    outcome
}

/// Does the work until the feed closes.
fn work_through(mut shard: Shard, work: &Receiver<Work>) -> Result<(), LoadError> {
    let mut loaded = Loaded::default();
    while let Ok(next) = work.recv_blocking() {
        match next {
            Work::Store(chunk) => store(&mut shard, chunk, &mut loaded)?,
            // The feed may have failed meanwhile; then nobody waits.
            Work::Report(to) => _ = to.try_send(std::mem::take(&mut loaded)),
            Work::Complete => complete(&mut shard)?,
        }
    }
    Ok(())
}

fn store(shard: &mut Shard, mut chunk: Chunk, loaded: &mut Loaded) -> Result<(), LoadError> {
    chunk.first = shard.position(LANE).next().0;
    let (mut conflict, mut suppressed, mut too_large, mut refused) = (0, 0, 0, 0);
    shard.apply(&[(LANE, &chunk)], &mut |_, _, outcome| match outcome {
        Outcome::Inserted | Outcome::Flagged => loaded.inserted += 1,
        Outcome::Duplicate | Outcome::Repeated => loaded.duplicate += 1,
        Outcome::Conflict => conflict += 1,
        Outcome::Suppressed => suppressed += 1,
        Outcome::SumTooLarge => too_large += 1,
        Outcome::Rejected | Outcome::Missing | Outcome::Superseded => refused += 1,
    })?;
    match (conflict, suppressed, too_large, refused) {
        (0, 0, 0, 0) => {}
        (0, 0, 0, rows) => return Err(LoadError::Refused(rows)),
        (0, 0, rows, _) => return Err(LoadError::SumTooLarge(rows)),
        (0, rows, ..) => return Err(LoadError::Suppressed(rows)),
        (rows, ..) => return Err(LoadError::Conflict(rows)),
    }
    if shard.upkeep_due() {
        shard.upkeep(UPKEEP_SLICE)?;
    }
    if shard.checkpoint_due().is_some() {
        shard.checkpoint(CheckpointMode::Passive)?;
    }
    Ok(())
}

fn complete(shard: &mut Shard) -> Result<(), ShardError> {
    while shard.upkeep_pending() {
        if shard.upkeep_due() {
            shard.upkeep(UPKEEP_SLICE)?;
        } else {
            clock::pause(SORT_PAUSE);
        }
        if shard.checkpoint_due().is_some() {
            shard.checkpoint(CheckpointMode::Passive)?;
        }
    }
    shard.checkpoint(CheckpointMode::Truncate)?;
    Ok(())
}

impl Sink for Loader {
    fn order(&mut self, row: &Order<'_>) -> Result<(), GenError> {
        let parts = OrderParts {
            tenant_id: row.tenant_id,
            order_id: row.order_id.as_str(),
            customer_id: row.customer_id.as_str(),
            customer_name: row.customer_name,
            customer_email: row.customer_email,
            status: row.status,
            currency: currency(row.currency.code)?,
            ordered_at_us: row.ordered_at_ms * 1_000,
        };
        let items = row.items.iter().map(|item| ItemRow {
            product_id: item.product_id.as_str(),
            category: item.category,
            quantity: item.quantity.into(),
            unit_price: item.unit_price_minor as i64,
        });
        let from = (0, 0, self.received_us);
        self.push((parts.tenant_id, parts.order_id), ORDER, |bytes| {
            encode_order(&parts, from, items, bytes);
        })
    }

    fn price_sample(&mut self, row: &PriceSample<'_>) -> Result<(), GenError> {
        let observed = Observed {
            at_us: row.observed_at_ms * 1_000,
            received_us: self.received_us,
            tenant_id: row.tenant_id,
            product_id: row.product_id.as_str(),
            event_id: row.event_id.as_str(),
        };
        let price =
            PriceRow { observed, price: row.price_minor as i64, currency: currency(row.currency.code)? };
        let place = (row.tenant_id, row.product_id.as_str());
        self.push(place, PRICE, |bytes| price.encode(bytes))
    }

    fn stock_event(&mut self, row: &StockEvent<'_>) -> Result<(), GenError> {
        let change = match row.change {
            StockChange::Delta(number) => crate::stock::StockChange::Delta(number.into()),
            StockChange::Quantity(number) => crate::stock::StockChange::Quantity(number.into()),
        };
        let observed = Observed {
            at_us: row.occurred_at_ms * 1_000,
            received_us: self.received_us,
            tenant_id: row.tenant_id,
            product_id: row.product_id.as_str(),
            event_id: row.event_id.as_str(),
        };
        let stock = StockRow { observed, change };
        let place = (row.tenant_id, row.product_id.as_str());
        self.push(place, STOCK, |bytes| stock.encode(bytes))
    }

    /// Waits until every row of the table is stored.
    fn table_end(&mut self) -> Result<(), GenError> {
        self.shards.iter_mut().try_for_each(ShardFeed::flush)?;
        self.loaded = Loaded::default();
        for shard in &mut self.shards {
            let Loaded { inserted, duplicate } = shard.report()?;
            self.loaded.inserted += inserted;
            self.loaded.duplicate += duplicate;
        }
        Ok(())
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }
}

fn currency(code: &str) -> Result<Currency, GenError> {
    Currency::parse(code).ok_or_else(|| GenError::Parameters(format!("{code} is not an active currency")))
}
