//! [`Shard::apply`] of orders against a bare insert loop on the same tables.
//!
//! Both start from the schema that the shard creates, decode the same records, and write 10,000 orders per transaction
//! with the same settings of SQLite. `rows_per_s` excludes the time of checkpoints and upkeep.
//!
//! The bare loop executes one prepared INSERT per order and one per item, with the covering index in order of time.
//! It inserts tenants, categories, products and customers once each, with the indexes of these tables and the
//! full-text index of names and e-mail addresses. Hash maps keep the numbers of these rows. The bare loop does less
//! than the server. It keeps no ids, so it cannot find an order that exists, and it does not compare or hash content.
//! It keeps no sums, sketches, row counts or journal positions, and never opens a new partition.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use firehose::base::clock;
use firehose::base::ids::{LaneId, Sequence};
use firehose::base::keys::KeyHasher;
use firehose::orders::ORDER;
use firehose::orders::{OrderRow, decode_order};
use firehose::shard::{CheckpointMode, Entry, Records, Shard, ShardFolder, ShardOptions};
use rusqlite::{CachedStatement, Connection, Transaction, TransactionBehavior, params};

use crate::orders::Batch;
use crate::process;
use crate::run::{Figures, Round};
use crate::setup::{Folder, Setup};
use firehose::families::FAMILIES;
use firehose::orders::ORDERS;

/// Orders of a transaction.
const BATCH: usize = 10_000;
/// About 32 MiB of WAL.
const ORDERS_PER_CHECKPOINT: usize = 60_000;
const UPKEEP_SLICE: Duration = Duration::from_millis(4);
/// Item ids of one order.
const ITEM_IDS: i64 = 1_024;

/// A range of the records.
struct Part<'r> {
    records: &'r Batch,
    first: usize,
    count: usize,
}

impl Records for Part<'_> {
    fn records(&self) -> impl Iterator<Item = Entry<'_>> {
        let numbered = (self.first as u64 + 1..).zip(self.records.payloads(self.first, self.count));
        numbered.map(|(n, payload)| Entry { sequence: Sequence(n), kind: ORDER.number(), payload })
    }
}

/// Measures the transactions separately, and together with everything between them.
struct Watch {
    start: std::time::Instant,
    writing: Duration,
    /// CPU time of this thread while it was writing.
    cpu_ns: u64,
}

impl Watch {
    fn start() -> Watch {
        Watch { start: clock::now(), writing: Duration::ZERO, cpu_ns: 0 }
    }

    fn write<T>(&mut self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let (before, cpu_before) = (clock::now(), process::thread_cpu_ns()?);
        let done = work()?;
        self.writing += before.elapsed();
        self.cpu_ns += process::thread_cpu_ns()? - cpu_before;
        Ok(done)
    }

    fn round(self, rows: usize) -> Round {
        let mut figures = Figures::new();
        figures.insert("rows_per_s", rows as f64 / self.writing.as_secs_f64());
        figures.insert("row_us", self.writing.as_secs_f64() * 1e6 / rows as f64);
        figures.insert("row_cpu_us", self.cpu_ns as f64 / 1e3 / rows as f64);
        figures.insert("with_upkeep_per_s", rows as f64 / self.start.elapsed().as_secs_f64());
        Round { figures, fault: None }
    }
}

/// Works like the server's writer: partitions of 100,000, upkeep between the batches.
pub(super) fn apply(setup: &Setup, records: &Batch) -> Result<Round> {
    let folder = Folder::new(&setup.data_root)?;
    let shard_folder = ShardFolder::new(folder.path().join("shard-00"));
    let mut shard = Shard::open(&shard_folder, &ShardOptions::default(), &FAMILIES)?;
    let mut watch = Watch::start();
    for first in (0..records.len()).step_by(BATCH) {
        ensure!(!process::interrupted(), "interrupted");
        let part = Part { records, first, count: BATCH };
        watch.write(|| Ok(shard.apply(&[(LaneId::keyed(0), &part)], &mut |_, _, _| {})?))?;
        if shard.upkeep_due() {
            shard.upkeep(UPKEEP_SLICE)?;
        }
        if let Some(mode) = shard.checkpoint_due() {
            shard.checkpoint(mode)?;
        }
    }
    shard.checkpoint(CheckpointMode::Passive)?;
    ensure!(shard.stored(&ORDERS) == records.len() as u64, "{} orders are stored", shard.stored(&ORDERS));
    Ok(watch.round(records.len()))
}

pub(super) fn bare(setup: &Setup, records: &Batch) -> Result<Round> {
    let folder = Folder::new(&setup.data_root)?;
    let shard_folder = ShardFolder::new(folder.path().join("shard-00"));
    let mut connection = emptied(&shard_folder, records)?;
    let mut names = Names::new();
    let mut watch = Watch::start();
    let mut since_checkpoint = 0;
    for first in (0..records.len()).step_by(BATCH) {
        ensure!(!process::interrupted(), "interrupted");
        watch.write(|| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            insert(&transaction, &mut names, records.payloads(first, BATCH))?;
            Ok(transaction.commit()?)
        })?;
        since_checkpoint += BATCH;
        if since_checkpoint >= ORDERS_PER_CHECKPOINT {
            connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?;
            since_checkpoint = 0;
        }
    }
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?;
    let stored: i64 =
        connection.query_row("SELECT count(*) FROM sales_order_000001", [], |row| row.get(0))?;
    ensure!(stored == records.len() as i64, "{stored} orders are stored");
    Ok(watch.round(records.len()))
}

/// Returns a connection to a shard's tables without rows. The shard creates them, the first partition with the first
/// order. After that, only SQLite is used.
fn emptied(folder: &ShardFolder, records: &Batch) -> Result<Connection> {
    let mut shard = Shard::open(folder, &ShardOptions::default(), &FAMILIES)?;
    shard.apply(&[(LaneId::keyed(0), &Part { records, first: 0, count: 1 })], &mut |_, _, _| {})?;
    drop(shard);
    let connection = Connection::open(folder.database())?;
    for table in ["sales_order_000001", "sales_item_000001", "tenant_row", "customer_row", "category_row"] {
        connection.execute(&format!("DELETE FROM {table}"), [])?;
    }
    connection.execute("DELETE FROM product_row", [])?;
    connection.execute("INSERT INTO customer_text (customer_text) VALUES ('delete-all')", [])?;
    for (pragma, value) in [("wal_autocheckpoint", 0), ("cache_size", -16 * 1024), ("mmap_size", 0)] {
        connection.pragma_update(None, pragma, value)?;
    }
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(connection)
}

fn insert<'r>(
    transaction: &Transaction<'_>,
    names: &mut Names<'r>,
    payloads: impl Iterator<Item = &'r [u8]>,
) -> Result<()> {
    let mut insert_order = transaction.prepare_cached(
        "INSERT INTO sales_order_000001 (id, tenant, order_id, customer, status, first_status, currency, \
         ordered_at_us, total, units, items, received_us, ingest, ingest_line, content, customer_key) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
    )?;
    let mut insert_item = transaction.prepare_cached(
        "INSERT INTO sales_item_000001 (id, tenant, product, quantity, unit_price) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    let mut new = New::prepare(transaction)?;
    for payload in payloads {
        let order = decode_order(payload).context("no order")?;
        let tenant = names.tenant(&mut new, order.tenant_id)?;
        let (customer, customer_key) = names.customer(&mut new, tenant, &order)?;
        let id = names.next_id;
        names.next_id += 1;
        insert_order.raw_bind_parameter(1, id)?;
        insert_order.raw_bind_parameter(2, tenant)?;
        insert_order.raw_bind_parameter(3, order.order_id)?;
        insert_order.raw_bind_parameter(4, customer)?;
        insert_order.raw_bind_parameter(5, order.status as u8)?;
        insert_order.raw_bind_parameter(6, order.currency.as_str())?;
        insert_order.raw_bind_parameter(7, order.ordered_at_us)?;
        insert_order.raw_bind_parameter(8, order.total)?;
        insert_order.raw_bind_parameter(9, order.units)?;
        insert_order.raw_bind_parameter(10, order.item_count() as i64)?;
        insert_order.raw_bind_parameter(11, order.received_us)?;
        insert_order.raw_bind_parameter(12, order.ingest)?;
        insert_order.raw_bind_parameter(13, order.line)?;
        // As wide as the hash of the content that the shard stores there.
        insert_order.raw_bind_parameter(14, id.wrapping_mul(0x9e37_79b9_7f4a_7c15_u64 as i64))?;
        insert_order.raw_bind_parameter(15, customer_key)?;
        insert_order.raw_execute()?;
        for (place, item) in order.items().enumerate() {
            let product = names.product(&mut new, tenant, item.product_id, item.category)?;
            insert_item.raw_bind_parameter(1, id * ITEM_IDS + place as i64)?;
            insert_item.raw_bind_parameter(2, tenant)?;
            insert_item.raw_bind_parameter(3, product)?;
            insert_item.raw_bind_parameter(4, item.quantity)?;
            insert_item.raw_bind_parameter(5, item.unit_price)?;
            insert_item.raw_execute()?;
        }
    }
    Ok(())
}

/// The statements that store a name.
struct New<'t> {
    tenant: CachedStatement<'t>,
    customer: CachedStatement<'t>,
    customer_text: CachedStatement<'t>,
    category: CachedStatement<'t>,
    product: CachedStatement<'t>,
}

impl<'t> New<'t> {
    fn prepare(transaction: &'t Transaction<'_>) -> Result<New<'t>> {
        let prepare = |sql| transaction.prepare_cached(sql);
        Ok(New {
            tenant: prepare("INSERT INTO tenant_row (tenant_id) VALUES (?1)")?,
            customer: prepare(
                "INSERT INTO customer_row (tenant, customer_id, name, email, key) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?,
            customer_text: prepare(
                "INSERT INTO customer_text (rowid, name, email, tenant) VALUES (?1, ?2, ?3, ?4)",
            )?,
            category: prepare("INSERT INTO category_row (tenant, name) VALUES (?1, ?2)")?,
            product: prepare("INSERT INTO product_row (tenant, product_id, category) VALUES (?1, ?2, ?3)")?,
        })
    }
}

/// Numbers of names: customers by their ids, products by their ids and categories.
#[derive(Default)]
struct Names<'r> {
    tenants: HashMap<&'r str, i64>,
    customers: HashMap<(i64, &'r str), (i64, i64)>,
    categories: HashMap<(i64, &'r str), i64>,
    products: HashMap<(i64, &'r str, &'r str), i64>,
    next_id: i64,
}

impl<'r> Names<'r> {
    fn new() -> Names<'r> {
        Names { next_id: 1, ..Names::default() }
    }

    fn tenant(&mut self, new: &mut New<'_>, tenant_id: &'r str) -> Result<i64> {
        if let Some(tenant) = self.tenants.get(tenant_id) {
            return Ok(*tenant);
        }
        let tenant = new.tenant.insert([tenant_id])?;
        self.tenants.insert(tenant_id, tenant);
        Ok(tenant)
    }

    /// Returns a customer's number and key.
    fn customer(&mut self, new: &mut New<'_>, tenant: i64, order: &OrderRow<'r>) -> Result<(i64, i64)> {
        if let Some(customer) = self.customers.get(&(tenant, order.customer_id)) {
            return Ok(*customer);
        }
        let key = KeyHasher::new(&[0; 16]).hash(order.tenant_id, order.customer_id).0 as i64;
        let (id, name, email) = (order.customer_id, order.customer_name, order.customer_email);
        let customer = (new.customer.insert(params![tenant, id, name, email, key])?, key);
        new.customer_text.execute(params![customer.0, name, email, format!("tenant{tenant}")])?;
        self.customers.insert((tenant, order.customer_id), customer);
        Ok(customer)
    }

    fn product(&mut self, new: &mut New<'_>, tenant: i64, id: &'r str, category: &'r str) -> Result<i64> {
        if let Some(product) = self.products.get(&(tenant, id, category)) {
            return Ok(*product);
        }
        let number = match self.categories.get(&(tenant, category)) {
            Some(number) => *number,
            None => {
                let number = new.category.insert(params![tenant, category])?;
                self.categories.insert((tenant, category), number);
                number
            }
        };
        let product = new.product.insert(params![tenant, id, number])?;
        self.products.insert((tenant, id, category), product);
        Ok(product)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::orders;

    #[test]
    fn the_bare_loop_stores_what_the_shard_stores() -> Result<()> {
        let records = orders::records(&orders::world("--preset tiny --tenants 2", 500)?)?;
        let folders = [Folder::new(&std::env::temp_dir())?, Folder::new(&std::env::temp_dir())?];
        let shards = folders.each_ref().map(|folder| ShardFolder::new(folder.path().join("shard-00")));
        let mut shard = Shard::open(&shards[0], &ShardOptions::default(), &FAMILIES)?;
        let part = Part { records: &records, first: 0, count: 500 };
        shard.apply(&[(LaneId::keyed(0), &part)], &mut |_, _, _| {})?;
        drop(shard);
        let mut connection = emptied(&shards[1], &records)?;
        let transaction = connection.transaction()?;
        insert(&transaction, &mut Names::new(), records.payloads(0, 500))?;
        transaction.commit()?;
        for view in ["orders", "order_items", "customers", "products"] {
            let rows = |shard: &ShardFolder| -> Result<Vec<String>> {
                let connection = Connection::open(shard.database())?;
                let mut statement = connection.prepare(&format!("SELECT * FROM {view} ORDER BY 1, 2, 3"))?;
                let columns = statement.column_count();
                let row = |row: &rusqlite::Row<'_>| {
                    let values = (0..columns).map(|at| row.get::<_, rusqlite::types::Value>(at));
                    Ok(format!("{:?}", values.collect::<Result<Vec<_>, _>>()?))
                };
                Ok(statement.query_map([], row)?.collect::<Result<_, _>>()?)
            };
            let both = [rows(&shards[0])?, rows(&shards[1])?];
            assert!(!both[0].is_empty() && both[0] == both[1], "{view}");
        }
        Ok(())
    }
}
