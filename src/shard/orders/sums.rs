//! Sales by hour, day, category and product, with sketches, kept in the transaction that changes the orders
//! (R3): from the batch's own groups, so that what a batch costs here depends on its groups.

use std::collections::{BTreeMap, HashMap, HashSet};

use rusqlite::{Connection, OptionalExtension as _, params};

use super::super::error::ShardError;
use super::items_of;
use super::names::Product;
use crate::base::money::Currency;
use crate::sketch::{HyperLogLog, TDigest};

pub(in crate::shard) const HOUR_US: i64 = 3_600_000_000;
pub(in crate::shard) const DAY_US: i64 = 86_400_000_000;
/// Groups of products kept room for from one batch to the next.
const PRODUCTS_KEPT: usize = 1 << 15;

/// What of an order counts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sale {
    pub(super) tenant: i64,
    pub(super) currency: Currency,
    pub(super) ordered_at_us: i64,
    pub(super) total: i64,
    pub(super) units: i64,
    pub(super) customer_key: i64,
}

/// Orders, units and revenue; added up without overflow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    orders: i64,
    units: i64,
    revenue: i64,
}

impl Counts {
    fn add(&mut self, more: Counts) {
        self.orders += more.orders;
        self.units = self.units.saturating_add(more.units);
        self.revenue = self.revenue.saturating_add(more.revenue);
    }

    fn negated(self) -> Counts {
        Counts { orders: -self.orders, units: -self.units, revenue: -self.revenue }
    }
}

/// One group's share of a batch.
#[derive(Clone, Debug, Default)]
struct Group {
    counts: Counts,
    customers: Vec<u64>,
    totals: Vec<i64>,
    /// A sale was taken out: sketches cannot forget, so they are made anew from the rows.
    is_recounted: bool,
}

impl Group {
    fn sale(&mut self, sale: &Sale, counts: Counts, is_added: bool) {
        if is_added {
            self.counts.add(counts);
            self.customers.push(sale.customer_key as u64);
            self.totals.push(sale.total);
        } else {
            self.counts.add(counts.negated());
            self.is_recounted = true;
        }
    }

    fn merge(&mut self, other: &Group) {
        self.counts.add(other.counts);
        self.customers.extend_from_slice(&other.customers);
        self.totals.extend_from_slice(&other.totals);
        self.is_recounted |= other.is_recounted;
    }
}

/// Tenant, currency, start, and the category or product where it is by one.
type Key = (i64, Currency, i64, i64);

/// The groups of one batch.
#[derive(Debug, Default)]
pub(super) struct Sums {
    hours: HashMap<Key, Group>,
    categories: HashMap<Key, Group>,
    products: HashMap<Key, Counts>,
    tenants: HashSet<i64>,
    /// Category, product, units and revenue of the items at hand.
    items: Vec<(i64, i64, i64, i64)>,
    /// First number and number of their products, where one has two of them.
    alike: Vec<(i64, i64)>,
}

impl Sums {
    /// Something of the tenant changes in this batch.
    pub(super) fn touch(&mut self, tenant: i64) {
        self.tenants.insert(tenant);
    }

    /// An order becomes a sale; its items with quantity and price. About 0.3 us with three items.
    pub(super) fn add(&mut self, sale: &Sale, items: impl Iterator<Item = (Product, (i64, i64))>) {
        self.change(sale, items, true);
    }

    /// It is none any more.
    pub(super) fn take_out(&mut self, sale: &Sale, items: impl Iterator<Item = (Product, (i64, i64))>) {
        self.change(sale, items, false);
    }

    fn change(&mut self, sale: &Sale, items: impl Iterator<Item = (Product, (i64, i64))>, is_added: bool) {
        let Sale { tenant, currency, ordered_at_us: at, total, units, .. } = *sale;
        let hour = (tenant, currency, at - at.rem_euclid(HOUR_US), 0);
        let counts = Counts { orders: 1, units, revenue: total };
        self.hours.entry(hour).or_default().sale(sale, counts, is_added);
        self.items.clear();
        self.alike.clear();
        for (product, (quantity, unit_price)) in items {
            let revenue = quantity.saturating_mul(unit_price);
            self.items.push((product.category, product.id, quantity, revenue));
            self.alike.push((product.first, product.id));
        }
        self.items.sort_unstable();
        // A product that is in one order in two categories is in one order: the lowest number has it.
        if self.alike.iter().all(|(first, product)| first == product) {
            self.alike.clear();
        }
        self.alike.sort_unstable();
        self.alike.dedup_by_key(|(first, _)| *first);
        let day_us = at - at.rem_euclid(DAY_US);
        let sum = |items: &[(i64, i64, i64, i64)]| {
            items.iter().fold(Counts { orders: 1, ..Counts::default() }, |mut sum, (_, _, units, revenue)| {
                sum.add(Counts { orders: 0, units: *units, revenue: *revenue });
                sum
            })
        };
        for of_category in self.items.chunk_by(|one, next| one.0 == next.0) {
            let Some((category, ..)) = of_category.first() else { continue };
            let group = self.categories.entry((tenant, currency, day_us, *category)).or_default();
            group.sale(sale, sum(of_category), is_added);
            for of_product in of_category.chunk_by(|one, next| one.1 == next.1) {
                let Some((_, product, ..)) = of_product.first() else { continue };
                let mut counts = sum(of_product);
                if !self.alike.is_empty() && !self.alike.iter().any(|(_, counted)| counted == product) {
                    counts.orders = 0;
                }
                let counts = if is_added { counts } else { counts.negated() };
                self.products.entry((tenant, currency, day_us, *product)).or_default().add(counts);
            }
        }
    }

    /// Adds the groups to the tables; in the transaction of the rows, after them. `tables` are all partitions.
    pub(super) fn save(&mut self, transaction: &Connection, tables: &[&str]) -> Result<(), ShardError> {
        let mut days: BTreeMap<Key, Group> = BTreeMap::new();
        let hours: BTreeMap<&Key, &Group> = self.hours.iter().collect();
        for ((tenant, currency, start_us, _), group) in &hours {
            let day = (*tenant, *currency, start_us - start_us.rem_euclid(DAY_US), 0);
            days.entry(day).or_default().merge(group);
        }
        // In the order of the tables, so that neighbours meet the same page.
        for (key, group) in hours {
            save_group(transaction, tables, Level::Hour, key, group)?;
        }
        for (key, group) in &days {
            save_group(transaction, tables, Level::Day, key, group)?;
        }
        for (key, group) in self.categories.iter().collect::<BTreeMap<_, _>>() {
            save_group(transaction, tables, Level::Category, key, group)?;
        }
        save_products(transaction, &self.products)?;
        for tenant in &self.tenants {
            transaction
                .prepare_cached(
                    "INSERT INTO sales_version (tenant, version) VALUES (?1, 1) \
                     ON CONFLICT (tenant) DO UPDATE SET version = version + 1",
                )?
                .execute([tenant])?;
        }
        Ok(())
    }

    /// After the commit, or instead of it.
    pub(super) fn clear(&mut self) {
        self.hours.clear();
        self.categories.clear();
        self.tenants.clear();
        self.products.clear();
        self.products.shrink_to(PRODUCTS_KEPT);
    }
}

/// Which of the tables with sketches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Hour,
    Day,
    Category,
}

impl Level {
    fn us(self) -> i64 {
        if self == Level::Hour { HOUR_US } else { DAY_US }
    }

    /// For `SELECT`, `INSERT OR REPLACE` and `DELETE`. The category is parameter 4 where there is one.
    fn sql(self) -> [&'static str; 3] {
        match self {
            Level::Hour => [
                "SELECT orders, units, revenue, customers, order_value FROM sales_hour \
                 WHERE tenant = ?1 AND currency = ?2 AND start_us = ?3 AND ?4 = 0",
                "INSERT OR REPLACE INTO sales_hour (tenant, currency, start_us, orders, units, revenue, customers, \
                 order_value) SELECT ?1, ?2, ?3, ?5, ?6, ?7, ?8, ?9 WHERE ?4 = 0",
                "DELETE FROM sales_hour WHERE tenant = ?1 AND currency = ?2 AND start_us = ?3 AND ?4 = 0",
            ],
            Level::Day => [
                "SELECT orders, units, revenue, customers, order_value FROM sales_day \
                 WHERE tenant = ?1 AND currency = ?2 AND start_us = ?3 AND ?4 = 0",
                "INSERT OR REPLACE INTO sales_day (tenant, currency, start_us, orders, units, revenue, customers, \
                 order_value) SELECT ?1, ?2, ?3, ?5, ?6, ?7, ?8, ?9 WHERE ?4 = 0",
                "DELETE FROM sales_day WHERE tenant = ?1 AND currency = ?2 AND start_us = ?3 AND ?4 = 0",
            ],
            Level::Category => [
                "SELECT orders, units, revenue, customers, order_value FROM sales_category \
                 WHERE tenant = ?1 AND currency = ?2 AND start_us = ?3 AND category = ?4",
                "INSERT OR REPLACE INTO sales_category (tenant, currency, start_us, category, orders, units, \
                 revenue, customers, order_value) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
                "DELETE FROM sales_category \
                 WHERE tenant = ?1 AND currency = ?2 AND start_us = ?3 AND category = ?4",
            ],
        }
    }
}

fn damaged(error: crate::sketch::SketchError) -> ShardError {
    ShardError::Corrupt(format!("a sketch of the sales: {error}"))
}

fn save_group(
    transaction: &Connection,
    tables: &[&str],
    level: Level,
    key: &Key,
    group: &Group,
) -> Result<(), ShardError> {
    let (tenant, currency, start_us, category) = *key;
    let at = params![tenant, currency.as_str(), start_us, category];
    let [find, replace, delete] = level.sql();
    let (mut counts, mut customers, mut values) =
        (group.counts, HyperLogLog::new(), TDigest::new(TDigest::COMPRESSION_DEFAULT));
    let read = |row: &rusqlite::Row<'_>| {
        counts.add(Counts { orders: row.get(0)?, units: row.get(1)?, revenue: row.get(2)? });
        if group.is_recounted {
            return Ok(Ok(()));
        }
        let [hll, digest] = [3, 4].map(|at| row.get_ref(at).and_then(|blob| Ok(blob.as_blob()?)));
        let (hll, digest) = (hll?, digest?);
        Ok(customers.merge_encoded(hll).and_then(|()| values.merge_encoded(digest)))
    };
    if let Some(merged) = transaction.prepare_cached(find)?.query_row(at, read).optional()? {
        merged.map_err(damaged)?;
    }
    if counts.orders <= 0 {
        transaction.prepare_cached(delete)?.execute(at)?;
        return Ok(());
    }
    if group.is_recounted {
        recount(transaction, tables, level, key, &mut customers, &mut values)?;
    } else {
        group.customers.iter().for_each(|key| customers.insert_hash(*key));
        group.totals.iter().try_for_each(|total| values.insert(*total as f64)).map_err(damaged)?;
    }
    let (mut hll, mut digest) = (Vec::new(), Vec::new());
    customers.encode(&mut hll);
    values.encode(&mut digest);
    let Counts { orders, units, revenue } = counts;
    transaction.prepare_cached(replace)?.execute(params![
        tenant,
        currency.as_str(),
        start_us,
        category,
        orders,
        units,
        revenue,
        hll,
        digest
    ])?;
    Ok(())
}

/// The sketches of one group, from the rows as they are now.
fn recount(
    transaction: &Connection,
    tables: &[&str],
    level: Level,
    key: &Key,
    customers: &mut HyperLogLog,
    values: &mut TDigest,
) -> Result<(), ShardError> {
    let (tenant, currency, start_us, category) = *key;
    for table in tables {
        let mut statement = transaction.prepare_cached(&recount_sql(table, level == Level::Category))?;
        let mut rows =
            statement.query(params![tenant, start_us, start_us + level.us(), currency.as_str(), category])?;
        while let Some(row) = rows.next()? {
            customers.insert_hash(row.get::<_, i64>(0)? as u64);
            values.insert(row.get::<_, i64>(1)? as f64).map_err(damaged)?;
        }
    }
    Ok(())
}

/// Customer and total of every sale of a tenant in a stretch of time, of one category where asked for.
pub(super) fn recount_sql(table: &str, of_category: bool) -> String {
    let only = if of_category {
        let items = items_of(table);
        format!(
            "EXISTS (SELECT 1 FROM {items} i JOIN product_row p ON p.id = i.product \
             WHERE i.id >= o.id * 1024 AND i.id < o.id * 1024 + 1024 AND p.category = ?5)"
        )
    } else {
        "?5 = 0".to_owned()
    };
    format!(
        "SELECT o.customer_key, o.total FROM {table} o INDEXED BY {table}_time WHERE o.tenant = ?1 \
         AND o.ordered_at_us >= ?2 AND o.ordered_at_us < ?3 AND o.currency = ?4 AND o.status <= 4 AND {only}"
    )
}

fn save_products(transaction: &Connection, products: &HashMap<Key, Counts>) -> Result<(), ShardError> {
    let mut sorted: Vec<(&Key, &Counts)> = products.iter().collect();
    sorted.sort_unstable_by_key(|(key, _)| **key);
    let mut upsert = transaction.prepare_cached(
        "INSERT INTO sales_by_product (tenant, currency, start_us, product, orders, units, revenue) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (tenant, currency, start_us, product) DO UPDATE SET \
         orders = orders + excluded.orders, units = units + excluded.units, revenue = revenue + excluded.revenue",
    )?;
    // Sold and taken back in one batch is as if nothing had been.
    let changed = sorted.into_iter().filter(|(_, counts)| **counts != Counts::default());
    for ((tenant, currency, start_us, product), Counts { orders, units, revenue }) in changed {
        upsert.execute(params![tenant, currency.as_str(), start_us, product, orders, units, revenue])?;
        // Rarely: the last sale of a product on a day was taken out. Every sale has units.
        if *units < 0 {
            transaction
                .prepare_cached(
                    "DELETE FROM sales_by_product WHERE tenant = ?1 AND currency = ?2 AND start_us = ?3 \
                     AND product = ?4 AND units <= 0",
                )?
                .execute(params![tenant, currency.as_str(), start_us, product])?;
        }
    }
    Ok(())
}
