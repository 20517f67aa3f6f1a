//! Stores rows directly in a data folder, through the code that stores journal records, in chunks of one transaction
//! each. The loader holds the folder's lock, so no server can use the folder in the meantime.

use std::path::Path;

use super::error::GenError;
use super::row::{Order, PriceSample, Sink, StockChange, StockEvent};
use crate::base::clock;
use crate::base::ids::{LaneId, Sequence};
use crate::base::keys::KeyHasher;
use crate::base::kinds::Kind;
use crate::base::money::Currency;
use crate::base::observed::Observed;
use crate::config::DataMode;
use crate::families::FAMILIES;
use crate::orders::{ItemRow, ORDER, OrderParts, encode_order};
use crate::prices::{PRICE, PriceRow};
use crate::shard::{
    CheckpointMode, DataFolder, Entry, Outcome, Records, Shard, ShardError, ShardOptions, restrict_new_files,
};
use crate::stock::{STOCK, StockRow};

/// No core writes a journal with this number, so the load does not change other journals' positions.
const LANE: LaneId = LaneId(63);
/// The number of rows of a shard that are stored together.
const CHUNK_ROWS: usize = 20_000;
/// The duration of one upkeep slice.
const UPKEEP_SLICE: std::time::Duration = std::time::Duration::from_millis(50);

/// Loads rows into a data folder, which it creates if it is missing.
pub(super) struct Loader {
    _folder: DataFolder,
    keys: KeyHasher,
    shards: Vec<(Shard, Chunk)>,
    received_us: i64,
    bytes: u64,
    pub(super) loaded: Loaded,
}

/// The number of rows by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Loaded {
    pub(super) inserted: u64,
    pub(super) duplicate: u64,
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

impl Loader {
    /// Opens a data folder. `shards` is the number of shards if the folder is new.
    pub(super) fn open(path: &Path, shards: u16) -> Result<Loader, GenError> {
        // A server restricts its files in the same way by default.
        restrict_new_files(DataMode::Owner.folder_mode());
        let folder = DataFolder::open(path, None, shards).map_err(failed)?;
        let folder_id = folder.manifest().folder_id();
        let options = ShardOptions { folder_id, ..ShardOptions::default() };
        let opened = folder
            .shards()
            .map(|(_, of)| Ok((Shard::open(&of, &options, &FAMILIES)?, Chunk::default())))
            .collect::<Result<Vec<_>, ShardError>>()
            .map_err(failed)?;
        Ok(Loader {
            _folder: folder,
            keys: KeyHasher::new(&folder_id),
            shards: opened,
            received_us: clock::unix_us(),
            bytes: 0,
            loaded: Loaded::default(),
        })
    }

    fn push(
        &mut self,
        (tenant, key): (&str, &str),
        kind: Kind,
        encode: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), GenError> {
        let place = self.keys.hash(tenant, key).shard(self.shards.len() as u16);
        let Some((_, chunk)) = self.shards.get_mut(usize::from(place.0)) else { return Ok(()) };
        let before = chunk.bytes.len();
        encode(&mut chunk.bytes);
        self.bytes += (chunk.bytes.len() - before) as u64;
        chunk.kinds.push(kind);
        chunk.ends.push(chunk.bytes.len());
        if chunk.kinds.len() >= CHUNK_ROWS { self.flush(usize::from(place.0)) } else { Ok(()) }
    }

    fn flush(&mut self, place: usize) -> Result<(), GenError> {
        let Some((shard, chunk)) = self.shards.get_mut(place) else { return Ok(()) };
        chunk.first = shard.position(LANE).next().0;
        let loaded = &mut self.loaded;
        let mut wrong = 0;
        shard
            .apply(&[(LANE, &*chunk)], &mut |_, _, outcome| match outcome {
                Outcome::Inserted => loaded.inserted += 1,
                Outcome::Duplicate | Outcome::Repeated => loaded.duplicate += 1,
                _ => wrong += 1,
            })
            .map_err(failed)?;
        if wrong > 0 {
            let reason = format!("{wrong} rows conflict with rows of the folder that have the same ids");
            return Err(failed(ShardError::Other(reason)));
        }
        chunk.kinds.clear();
        chunk.ends.clear();
        chunk.bytes.clear();
        if shard.upkeep_due() {
            shard.upkeep(UPKEEP_SLICE).map_err(failed)?;
        }
        if shard.checkpoint_due().is_some() {
            shard.checkpoint(CheckpointMode::Passive).map_err(failed)?;
        }
        Ok(())
    }

    /// Builds the indexes of full partitions, and writes everything to the files.
    pub(super) fn finish(&mut self) -> Result<(), GenError> {
        for (shard, _) in &mut self.shards {
            while shard.upkeep_due() {
                shard.upkeep(UPKEEP_SLICE).map_err(failed)?;
            }
            shard.checkpoint(CheckpointMode::Truncate).map_err(failed)?;
        }
        Ok(())
    }
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

    fn table_end(&mut self) -> Result<(), GenError> {
        (0..self.shards.len()).try_for_each(|place| self.flush(place))
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }
}

fn currency(code: &str) -> Result<Currency, GenError> {
    Currency::parse(code).ok_or_else(|| GenError::Parameters(format!("{code} is not an active currency")))
}
