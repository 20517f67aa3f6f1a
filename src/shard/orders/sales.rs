//! Sales of one tenant, read for figures: groups with sketches from the sums, or single sales from the rows.

use std::collections::{BTreeMap, HashMap};

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension as _, Row, params, params_from_iter};

use super::super::error::ShardError;
use super::super::inspect::{PartitionInfo, partitions_of};
use super::super::stream::Stream;
use super::read::tenant_number;
use super::schema::items_of;
use super::sums::{DAY_US, HOUR_US};
use crate::base::money::Currency;
use crate::sketch::{HyperLogLog, TDigest};

/// Which sales.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SalesOf {
    pub tenant_id: String,
    pub currency: Option<Currency>,
}

/// A sum over a stretch of time, of one category or product where it is by those.
#[derive(Clone, Debug, Default)]
pub struct SalesSum {
    pub orders: i64,
    pub units: i64,
    pub revenue: i64,
    /// Encoded sketches; empty of products.
    pub customers: Vec<u8>,
    pub order_value: Vec<u8>,
}

/// Which sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SumsBy {
    Hour,
    Day,
    Category,
    Product,
}

impl SumsBy {
    /// How long a sum's stretch of time is.
    #[must_use]
    pub const fn us(self) -> i64 {
        if matches!(self, SumsBy::Hour) { HOUR_US } else { DAY_US }
    }

    fn sql(self) -> &'static str {
        match self {
            SumsBy::Hour => {
                "SELECT start_us, '', currency, orders, units, revenue, customers, order_value FROM sales_hour \
                 WHERE tenant = ?1 AND currency = ?2 AND start_us >= ?3 AND start_us < ?4 ORDER BY start_us"
            }
            SumsBy::Day => {
                "SELECT start_us, '', currency, orders, units, revenue, customers, order_value FROM sales_day \
                 WHERE tenant = ?1 AND currency = ?2 AND start_us >= ?3 AND start_us < ?4 ORDER BY start_us"
            }
            SumsBy::Category => {
                "SELECT s.start_us, c.name, s.currency, s.orders, s.units, s.revenue, s.customers, s.order_value \
                 FROM sales_category s CROSS JOIN category_row c ON c.id = s.category \
                 WHERE s.tenant = ?1 AND s.currency = ?2 AND s.start_us >= ?3 AND s.start_us < ?4 \
                 ORDER BY s.start_us"
            }
            SumsBy::Product => {
                "SELECT s.start_us, p.product_id, s.currency, s.orders, s.units, s.revenue, x'', x'' \
                 FROM sales_by_product s CROSS JOIN product_row p ON p.id = s.product \
                 WHERE s.tenant = ?1 AND s.currency = ?2 AND s.start_us >= ?3 AND s.start_us < ?4 \
                 ORDER BY s.start_us"
            }
        }
    }
}

/// Group, name (of a category or product) and currency.
pub type SumKey = (u32, String, Currency);

/// The sums of `[from, to)`, added up by group: `starts` are where groups begin, in order, the first at or before
/// `from`. The range is of whole hours or days, as `by` has them. Adds the sums' sketches.
pub fn sales_sums(
    connection: &Connection,
    of: &SalesOf,
    by: SumsBy,
    starts: &[i64],
    (from_us, to_us): (i64, i64),
) -> Result<Vec<(SumKey, SalesSum)>, ShardError> {
    let Some(tenant) = tenant_number(connection, &of.tenant_id)? else { return Ok(Vec::new()) };
    let mut sums: BTreeMap<(u32, Currency, String), Adding> = BTreeMap::new();
    for currency in currencies(connection, of, tenant)? {
        let mut statement = connection.prepare_cached(by.sql())?;
        let mut rows = statement.query(params![tenant, currency.as_str(), from_us, to_us])?;
        while let Some(row) = rows.next()? {
            let start_us: i64 = row.get(0)?;
            let group = starts.partition_point(|start| *start <= start_us).saturating_sub(1) as u32;
            let name = row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?;
            let sum = match sums.get_mut(&(group, currency, name.to_owned())) {
                Some(sum) => sum,
                None => sums.entry((group, currency, name.to_owned())).or_default(),
            };
            sum.add(row, by != SumsBy::Product)?;
        }
    }
    Ok(sums.into_iter().map(|((group, currency, name), sum)| ((group, name, currency), sum.done())).collect())
}

const CURRENCY_SQL: &str = "SELECT min(currency) FROM sales_day WHERE tenant = ?1 AND currency > ?2";

/// The currencies a tenant has sales in, or the one that is asked for. One seek each.
fn currencies(connection: &Connection, of: &SalesOf, tenant: i64) -> Result<Vec<Currency>, ShardError> {
    if let Some(currency) = of.currency {
        return Ok(vec![currency]);
    }
    let mut statement = connection.prepare_cached(CURRENCY_SQL)?;
    let mut found = Vec::new();
    let mut last = String::new();
    loop {
        let next: Option<String> = statement.query_row(params![tenant, last], |row| row.get(0))?;
        let Some(next) = next else { return Ok(found) };
        found.extend(Currency::parse(&next));
        last = next;
    }
}

/// One sum while it is added up. A single row's sketches are handed on as they are.
#[derive(Default)]
struct Adding {
    orders: i64,
    units: i64,
    revenue: i64,
    first: Option<(Vec<u8>, Vec<u8>)>,
    merged: Option<(HyperLogLog, TDigest)>,
}

impl Adding {
    fn add(&mut self, row: &Row<'_>, with_sketches: bool) -> Result<(), ShardError> {
        self.orders += row.get::<_, i64>(3)?;
        self.units = self.units.saturating_add(row.get(4)?);
        self.revenue = self.revenue.saturating_add(row.get(5)?);
        if !with_sketches {
            return Ok(());
        }
        let blob = |at: usize| row.get_ref(at)?.as_blob().map_err(rusqlite::Error::from);
        let (customers, values) = (blob(6)?, blob(7)?);
        if self.first.is_none() && self.merged.is_none() {
            self.first = Some((customers.to_vec(), values.to_vec()));
            return Ok(());
        }
        let damaged = |error: crate::sketch::SketchError| ShardError::Corrupt(format!("a sketch: {error}"));
        let (hll, digest) = self
            .merged
            .get_or_insert_with(|| (HyperLogLog::new(), TDigest::new(TDigest::COMPRESSION_DEFAULT)));
        if let Some((customers, values)) = self.first.take() {
            hll.merge_encoded(&customers).map_err(damaged)?;
            digest.merge_encoded(&values).map_err(damaged)?;
        }
        hll.merge_encoded(customers).map_err(damaged)?;
        digest.merge_encoded(values).map_err(damaged)
    }

    fn done(self) -> SalesSum {
        let Adding { orders, units, revenue, first, merged } = self;
        let (mut customers, mut order_value) = first.unwrap_or_default();
        if let Some((hll, mut digest)) = merged {
            hll.encode(&mut customers);
            digest.encode(&mut order_value);
        }
        SalesSum { orders, units, revenue, customers, order_value }
    }
}

/// How many sales each day has: (start, orders), in order; `None` bounds are open.
pub fn sales_days(
    connection: &Connection,
    of: &SalesOf,
    (from_us, to_us): (Option<i64>, Option<i64>),
) -> Result<Vec<(i64, i64)>, ShardError> {
    let Some(tenant) = tenant_number(connection, &of.tenant_id)? else { return Ok(Vec::new()) };
    let mut days: BTreeMap<i64, i64> = BTreeMap::new();
    // The day that `from` is in begins before it.
    let from_us = from_us.map_or(i64::MIN, |from| from - from.rem_euclid(DAY_US));
    let to_us = to_us.unwrap_or(i64::MAX);
    for currency in currencies(connection, of, tenant)? {
        let mut statement = connection.prepare_cached(DAYS_SQL)?;
        let mut rows = statement.query(params![tenant, currency.as_str(), from_us, to_us])?;
        while let Some(row) = rows.next()? {
            *days.entry(row.get(0)?).or_default() += row.get::<_, i64>(1)?;
        }
    }
    Ok(days.into_iter().collect())
}

const DAYS_SQL: &str = "SELECT start_us, orders FROM sales_day WHERE tenant = ?1 AND currency = ?2 \
                        AND start_us >= ?3 AND start_us < ?4 ORDER BY start_us";

/// What single sales are told by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Single {
    /// One for each order.
    Order,
    /// One for each order and category (or product) it has.
    Category,
    Product,
}

/// One sale, or the part of it that is of one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SingleSale {
    pub ordered_at_us: i64,
    /// Index into the names.
    pub name: u32,
    pub currency: Currency,
    pub customer_key: u64,
    /// Of the whole order.
    pub total: i64,
    pub units: i64,
    pub revenue: i64,
}

/// Single sales with the names they refer to.
#[derive(Clone, Debug, Default)]
pub struct SingleSales {
    pub sales: Vec<SingleSale>,
    pub names: Vec<String>,
}

/// Every sale of `[from, to)` among orders up to `pin`, in no order. `share` of (n, of) leaves out the names
/// whose hash is not in the n-th of so many parts. About 0.2 us an order, and as much for each of its items.
pub fn single_sales(
    connection: &Connection,
    of: &SalesOf,
    by: Single,
    pin: i64,
    (from_us, to_us): (i64, i64),
    share: (u32, u32),
) -> Result<SingleSales, ShardError> {
    let mut found = SingleSales::default();
    let Some(tenant) = tenant_number(connection, &of.tenant_id)? else { return Ok(found) };
    if by == Single::Order {
        found.names.push(String::new());
    }
    let mut names = Names { numbers: HashMap::new(), products: HashMap::new(), share, by };
    for info in partitions_of(connection, Stream::Order)? {
        let overlaps = info.timestamp_us.is_some_and(|(low, high)| low < to_us && high >= from_us);
        if info.first_id > pin || !overlaps {
            continue;
        }
        let currency = of.currency.map(|currency| currency.as_str().to_owned());
        let values: [Value; 5] = [tenant.into(), from_us.into(), to_us.into(), pin.into(), currency.into()];
        let mut statement = connection.prepare_cached(&sales_sql(&info.name))?;
        let mut items = connection.prepare_cached(&items_sql(&info.name))?;
        let mut rows = statement.query(params_from_iter(values))?;
        while let Some(row) = rows.next()? {
            let currency = row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?;
            let sale = SingleSale {
                ordered_at_us: row.get(0)?,
                name: 0,
                currency: Currency::parse(currency)
                    .ok_or_else(|| ShardError::Corrupt("an order has an unknown currency".to_owned()))?,
                customer_key: row.get::<_, i64>(2)? as u64,
                total: row.get(3)?,
                units: row.get(4)?,
                revenue: row.get(3)?,
            };
            if by == Single::Order {
                found.sales.push(sale);
                continue;
            }
            let id: i64 = row.get(5)?;
            let first = found.sales.len();
            let mut lines = items.query(params![id * 1024, id * 1024 + 1024])?;
            while let Some(line) = lines.next()? {
                let (product, quantity, unit_price): (i64, i64, i64) =
                    (line.get(0)?, line.get(1)?, line.get(2)?);
                let Some(name) = names.of(connection, product, &mut found.names)? else { continue };
                let revenue = quantity.saturating_mul(unit_price);
                // Orders have few items: the names of this one are at the end.
                match found.sales[first..].iter_mut().find(|part| part.name == name) {
                    Some(part) => {
                        part.units = part.units.saturating_add(quantity);
                        part.revenue = part.revenue.saturating_add(revenue);
                    }
                    None => found.sales.push(SingleSale { name, units: quantity, revenue, ..sale }),
                }
            }
        }
    }
    Ok(found)
}

fn sales_sql(partition: &str) -> String {
    format!(
        "SELECT ordered_at_us, currency, customer_key, total, units, id FROM {partition} \
         INDEXED BY {partition}_time WHERE tenant = ?1 AND ordered_at_us >= ?2 AND ordered_at_us < ?3 \
         AND id <= ?4 AND status <= 4 AND (?5 IS NULL OR currency = ?5)"
    )
}

fn items_sql(partition: &str) -> String {
    format!("SELECT product, quantity, unit_price FROM {} WHERE id >= ?1 AND id < ?2", items_of(partition))
}

const PRODUCT_SQL: &str = "SELECT product_id FROM product_row WHERE id = ?1";
const CATEGORY_SQL: &str =
    "SELECT g.name FROM product_row p JOIN category_row g ON g.id = p.category WHERE p.id = ?1";

/// Names by their number in this shard, and in the answer.
struct Names {
    numbers: HashMap<String, u32>,
    /// `None`: not in the share.
    products: HashMap<i64, Option<u32>>,
    share: (u32, u32),
    by: Single,
}

impl Names {
    fn of(
        &mut self,
        connection: &Connection,
        product: i64,
        names: &mut Vec<String>,
    ) -> Result<Option<u32>, ShardError> {
        if let Some(known) = self.products.get(&product) {
            return Ok(*known);
        }
        let sql = if self.by == Single::Product { PRODUCT_SQL } else { CATEGORY_SQL };
        let name: Option<String> =
            connection.prepare_cached(sql)?.query_row([product], |row| row.get(0)).optional()?;
        let name = name.ok_or_else(|| ShardError::Corrupt("an item has an unknown product".to_owned()))?;
        let (share, of) = self.share;
        // Spread by any hash that is the same in every shard.
        let is_ours = crc32c::crc32c(name.as_bytes()) % of.max(1) == share;
        let number = is_ours.then(|| {
            *self.numbers.entry(name).or_insert_with_key(|name| {
                names.push(name.clone());
                names.len() as u32 - 1
            })
        });
        self.products.insert(product, number);
        Ok(number)
    }
}

/// Every SQL text of the figures that reads a partition, by name; for looking at plans.
#[must_use]
pub(in crate::shard) fn sales_statements(partition: &PartitionInfo) -> Vec<(String, String)> {
    vec![
        ("single sales".to_owned(), sales_sql(&partition.name)),
        ("items of a sale".to_owned(), items_sql(&partition.name)),
    ]
}

/// The others.
#[must_use]
pub(in crate::shard) fn sum_statements() -> Vec<(String, String)> {
    vec![
        ("sums by hour".to_owned(), SumsBy::Hour.sql().to_owned()),
        ("sums by day".to_owned(), SumsBy::Day.sql().to_owned()),
        ("sums by category".to_owned(), SumsBy::Category.sql().to_owned()),
        ("sums by product".to_owned(), SumsBy::Product.sql().to_owned()),
        ("sales of days".to_owned(), DAYS_SQL.to_owned()),
        ("the next currency".to_owned(), CURRENCY_SQL.to_owned()),
        ("the product of an item".to_owned(), PRODUCT_SQL.to_owned()),
        ("the category of an item".to_owned(), CATEGORY_SQL.to_owned()),
    ]
}
