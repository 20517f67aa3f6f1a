//! The orders of the commerce scenarios, made by the generator of `gen-dataset`: as journal records, as NDJSON, or
//! loaded into a data folder.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use firehose::base::clock;
use firehose::base::ids::{LaneId, Sequence};
use firehose::base::keys::KeyHasher;
use firehose::base::money::Currency;
use firehose::gen_dataset::{Order, Orders, Spec, SpecArgs, World};
use firehose::orders::ORDER;
use firehose::orders::{ItemRow, OrderParts, encode_order};
use firehose::shard::{CheckpointMode, DataFolder, Entry, Records, Shard, ShardOptions};
use rusqlite::Connection;
use serde::Serialize;

use crate::process;
use crate::setup::Folder;
use firehose::families::FAMILIES;
use firehose::orders::ORDERS;

/// Orders of one transaction of an in-process load.
const LOAD_BATCH: usize = 10_000;
const UPKEEP_SLICE: Duration = Duration::from_millis(100);

/// Parameters of a dataset as `gen-dataset` parses them.
#[derive(Parser)]
struct Line {
    #[command(flatten)]
    spec: SpecArgs,
}

/// The flags of the dataset of most scenarios, without its orders.
pub(crate) const MEDIUM: &str = "--preset 1m --tenants 5 --products 20000 --customers 40000";
/// The number of tenants in [`MEDIUM`].
pub(crate) const TENANTS: usize = 5;
/// The flags of a dataset of one large tenant.
pub(crate) const ONE_TENANT: &str = "--preset 1m --tenants 1 --products 20000 --customers 333333";

/// Returns the dataset of these flags of `gen-dataset`, with `orders` orders of all tenants together, and about three
/// items per order.
pub(crate) fn world(flags: &str, orders: usize) -> Result<World> {
    let spec = |orders: &str| -> Result<Spec> {
        let words = ["gen-dataset"].into_iter().chain(flags.split_whitespace());
        Ok(Line::try_parse_from(words.chain(orders.split_whitespace()))?.spec.check()?)
    };
    let tenants = spec("")?.tenants as usize;
    ensure!(orders.is_multiple_of(tenants), "{orders} orders cannot be divided among {tenants} tenants");
    let orders = orders / tenants;
    Ok(World::new(spec(&format!("--price-samples 0 --stock-events 0 --orders {orders}"))?))
}

/// Records of orders as in a journal, numbered without gaps.
#[derive(Default)]
pub(crate) struct Batch {
    pub(crate) bytes: Vec<u8>,
    pub(crate) ends: Vec<usize>,
    /// Number of records before the first.
    pub(crate) before: u64,
}

impl Batch {
    /// Appends an order; `line` is its position in the dataset, from 1.
    pub(crate) fn push(&mut self, order: &Order<'_>, line: u64) -> Result<()> {
        let currency = Currency::parse(order.currency.code).context("an unknown currency")?;
        let at_us = order.ordered_at_ms * 1_000;
        let parts = OrderParts {
            tenant_id: order.tenant_id,
            order_id: order.order_id.as_str(),
            customer_id: order.customer_id.as_str(),
            customer_name: order.customer_name,
            customer_email: order.customer_email,
            status: order.status,
            currency,
            ordered_at_us: at_us,
        };
        let items = order.items.iter().map(|item| ItemRow {
            product_id: item.product_id.as_str(),
            category: item.category,
            quantity: i64::from(item.quantity),
            unit_price: item.unit_price_minor as i64,
        });
        encode_order(&parts, (1, line as i64, at_us), items, &mut self.bytes);
        self.ends.push(self.bytes.len());
        Ok(())
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Returns `count` payloads, from index `first` on.
    pub(crate) fn payloads(&self, first: usize, count: usize) -> impl Iterator<Item = &[u8]> {
        (first..(first + count).min(self.ends.len())).map(|n| {
            let start = n.checked_sub(1).map_or(0, |before| self.ends[before]);
            &self.bytes[start..self.ends[n]]
        })
    }

    /// Empties the batch. The next one begins after this one.
    fn clear(&mut self) {
        self.before += self.ends.len() as u64;
        self.bytes.clear();
        self.ends.clear();
    }
}

impl Records for Batch {
    fn records(&self) -> impl Iterator<Item = Entry<'_>> {
        let numbered = (self.before + 1..).zip(self.payloads(0, self.len()));
        numbered.map(|(n, payload)| Entry { sequence: Sequence(n), kind: ORDER.number(), payload })
    }
}

/// Returns all orders of a dataset as records.
pub(crate) fn records(world: &World) -> Result<Batch> {
    let mut batch = Batch::default();
    let mut orders = Orders::new(world);
    while let Some(order) = orders.next() {
        batch.push(&order, batch.len() as u64 + 1)?;
    }
    Ok(batch)
}

/// A data folder that servers may be started on repeatedly. Dropping it deletes the folder.
pub(crate) struct Loaded {
    folder: Folder,
    pub(crate) shards: usize,
    pub(crate) seconds: f64,
}

impl Loaded {
    /// Loads the dataset through [`Shard::apply`], as a server with this many shards would have stored it, with all
    /// upkeep done and nothing left in a WAL. Calls `seen` with every order, in order.
    pub(crate) fn new(
        root: &Path,
        shards: usize,
        world: &World,
        mut seen: impl FnMut(&Order<'_>) -> Result<()>,
    ) -> Result<Loaded> {
        let start = clock::now();
        let folder = Folder::new(root)?;
        let data = DataFolder::open(&folder.path().join("data"), Some(shards as u16), 1)?;
        let folder_id = data.manifest().folder_id();
        let keys = KeyHasher::new(&folder_id);
        let options = ShardOptions { folder_id, ..ShardOptions::default() };
        let mut open = Vec::new();
        for (_, shard) in data.shards() {
            open.push((Shard::open(&shard, &options, &FAMILIES)?, Batch::default()));
        }
        let (mut orders, mut line) = (Orders::new(world), 0);
        while let Some(order) = orders.next() {
            seen(&order)?;
            line += 1;
            let at = keys.hash(order.tenant_id, order.order_id.as_str()).shard(shards as u16);
            let (shard, batch) = &mut open[usize::from(at.0)];
            batch.push(&order, line)?;
            if batch.len() == LOAD_BATCH {
                ensure!(!process::interrupted(), "interrupted");
                store(shard, batch)?;
            }
        }
        for (shard, batch) in &mut open {
            store(shard, batch)?;
        }
        let mut loaded: Vec<Shard> = open.into_iter().map(|(shard, _)| shard).collect();
        finish_upkeep(&mut loaded)?;
        let mut stored = 0;
        for shard in &mut loaded {
            shard.checkpoint(CheckpointMode::Truncate)?;
            stored += shard.stored(&ORDERS);
        }
        ensure!(stored == line, "{stored} orders were stored, not {line}");
        drop(loaded);
        drop(data);
        Ok(Loaded { folder, shards, seconds: start.elapsed().as_secs_f64() })
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Returns the path of a shard's database.
    pub(crate) fn database(&self, shard: usize) -> PathBuf {
        self.data().join(format!("shard-{shard:02}/shard.db"))
    }
}

fn store(shard: &mut Shard, batch: &mut Batch) -> Result<()> {
    shard.apply(&[(LaneId::keyed(0), &*batch)], &mut |_, _, _| {})?;
    batch.clear();
    if shard.upkeep_due() {
        shard.upkeep(UPKEEP_SLICE)?;
    }
    if let Some(mode) = shard.checkpoint_due() {
        shard.checkpoint(mode)?;
    }
    Ok(())
}

/// Waits until every sealed partition has its tables. A background thread sorts them, so that nothing is due for a
/// while, and it sorts for one shard at a time, so that each waits for the others.
pub(crate) fn finish_upkeep(shards: &mut [Shard]) -> Result<()> {
    let unfinished = "SELECT count(*) FROM partition WHERE sealed_at IS NOT NULL AND indexed_at IS NULL";
    process::poll("the sealed partitions are indexed", Duration::from_secs(120), || {
        let mut left = 0;
        for shard in &mut *shards {
            while shard.upkeep_due() {
                shard.upkeep(UPKEEP_SLICE)?;
            }
            let reader = Connection::open(shard.path())?;
            left += reader.query_row(unfinished, [], |row| row.get::<_, i64>(0))?;
        }
        Ok((left == 0).then_some(()))
    })
}

/// An order as a client sends it.
#[derive(Serialize)]
struct Sent<'o> {
    order_id: &'o str,
    tenant_id: &'o str,
    customer_id: &'o str,
    customer_name: &'o str,
    customer_email: &'o str,
    status: &'o str,
    currency: &'o str,
    ordered_at: String,
    items: Vec<SentItem<'o>>,
}

#[derive(Serialize)]
struct SentItem<'o> {
    product_id: &'o str,
    category: &'o str,
    quantity: u32,
    unit_price: String,
}

/// The dataset as NDJSON, in chunks of a fixed number of orders.
pub(crate) struct Lines {
    bytes: Vec<u8>,
    /// The end of each chunk, and its number of orders.
    chunks: Vec<(usize, usize)>,
}

impl Lines {
    /// Renders the dataset, in about 3 us and 540 bytes per order.
    pub(crate) fn new(world: &World, chunk_orders: usize) -> Result<Lines> {
        let mut lines = Lines { bytes: Vec::new(), chunks: Vec::new() };
        let (mut orders, mut in_chunk) = (Orders::new(world), 0);
        while let Some(order) = orders.next() {
            push_line(&order, &mut lines.bytes)?;
            in_chunk += 1;
            if in_chunk == chunk_orders {
                lines.chunks.push((lines.bytes.len(), in_chunk));
                in_chunk = 0;
            }
        }
        if in_chunk > 0 {
            lines.chunks.push((lines.bytes.len(), in_chunk));
        }
        Ok(lines)
    }

    /// Replaces a text by another of the same length in every line.
    pub(crate) fn replace(&mut self, from: &[u8], to: &[u8]) {
        assert_eq!(from.len(), to.len(), "the chunks stay where they are");
        let found: Vec<usize> = memchr::memmem::find_iter(&self.bytes, from).collect();
        for at in found {
            self.bytes[at..at + to.len()].copy_from_slice(to);
        }
    }

    pub(crate) fn chunks(&self) -> usize {
        self.chunks.len()
    }

    /// Returns a chunk and its number of orders.
    pub(crate) fn chunk(&self, number: usize) -> (&[u8], usize) {
        let start = number.checked_sub(1).map_or(0, |before| self.chunks[before].0);
        let (end, orders) = self.chunks[number];
        (&self.bytes[start..end], orders)
    }
}

fn push_line(order: &Order<'_>, out: &mut Vec<u8>) -> Result<()> {
    let items = order.items.iter().map(|item| {
        let mut price = Vec::new();
        order.currency.push(item.unit_price_minor, &mut price);
        Ok(SentItem {
            product_id: item.product_id.as_str(),
            category: item.category,
            quantity: item.quantity,
            unit_price: String::from_utf8(price)?,
        })
    });
    let sent = Sent {
        order_id: order.order_id.as_str(),
        tenant_id: order.tenant_id,
        customer_id: order.customer_id.as_str(),
        customer_name: order.customer_name,
        customer_email: order.customer_email,
        status: order.status.as_str(),
        currency: order.currency.code,
        ordered_at: clock::rfc3339(order.ordered_at_ms * 1_000),
        items: items.collect::<Result<_>>()?,
    };
    serde_json::to_writer(&mut *out, &sent)?;
    out.push(b'\n');
    Ok(())
}

#[cfg(test)]
mod tests {
    use firehose::orders::OrderDecoder;
    use firehose::orders::decode_order;

    use super::*;

    #[test]
    fn a_line_and_a_record_are_the_same_order() -> Result<()> {
        let world = world("--preset tiny --tenants 2", 50)?;
        let (records, lines) = (records(&world)?, Lines::new(&world, 20)?);
        assert_eq!((records.len(), lines.chunks()), (50, 3));
        let chunks = (0..3).map(|number| lines.chunk(number));
        assert_eq!(chunks.clone().map(|(_, orders)| orders).collect::<Vec<_>>(), [20, 20, 10]);
        let texts = chunks.flat_map(|(bytes, _)| bytes.split_inclusive(|byte| *byte == b'\n'));
        let (mut decoder, mut seen) = (OrderDecoder::new(), 0);
        for (text, payload) in texts.zip(records.payloads(0, 50)) {
            let sent = decoder.order(text.trim_ascii_end()).map_err(|error| anyhow::anyhow!("{error}"))?;
            let stored = decode_order(payload).context("no order")?;
            assert_eq!((sent.order_id, sent.tenant_id), (stored.order_id, stored.tenant_id));
            assert_eq!(
                (sent.customer_email, sent.ordered_at_us),
                (stored.customer_email, stored.ordered_at_us)
            );
            let total: i64 = sent.items().map(|item| item.quantity * item.unit_price_minor).sum();
            assert_eq!((total, stored.line), (stored.total, seen + 1));
            seen += 1;
        }
        assert_eq!(seen, 50);
        Ok(())
    }

    #[test]
    fn the_datasets_of_the_scenarios_have_their_tenants() -> Result<()> {
        assert_eq!(world(MEDIUM, 10)?.spec().tenants as usize, TENANTS);
        assert_eq!(world(ONE_TENANT, 7)?.spec().orders, 7);
        assert!(world(MEDIUM, 7).is_err());
        Ok(())
    }

    #[test]
    fn a_loaded_folder_has_every_order_once() -> Result<()> {
        let root = Folder::new(&std::env::temp_dir())?;
        let (world, mut seen) = (world("--preset tiny", 1_000)?, 0);
        let loaded = Loaded::new(root.path(), 3, &world, |_| {
            seen += 1;
            Ok(())
        })?;
        let mut rows = 0_i64;
        for shard in 0..3 {
            let reader = Connection::open(loaded.database(shard))?;
            rows += reader.query_row("SELECT count(*) FROM orders", [], |row| row.get::<_, i64>(0))?;
        }
        assert_eq!((seen, rows), (1_000, 1_000));
        Ok(())
    }
}
