//! Sales sums and sketches by hour, day and category. They are computed from the batch's groups and updated
//! in the transaction that changes the orders (R3). The cost of a batch therefore depends on its number of groups.
//!
//! Sums by day and product are kept of dropped orders only. Hardly two items of a batch have the same day and product,
//! so a commit would change a row for each item. Questions by product read the segments instead.

use std::collections::BTreeSet;
use std::collections::hash_map::Entry;

use foldhash::{HashMap, HashSet};
use rusqlite::{CachedStatement, Connection, OptionalExtension as _, params};

use super::batch_groups::{BatchGroups, BatchSales, Counts, GroupSales, Key, SortedGroups};
use super::names::Product;
use super::record::DroppedSumRow;
use super::schema::{items_of, unfreed};
use super::sums_by::SumsBy;
use crate::base::bucket_size::BucketSize;
use crate::base::money::Currency;
use crate::shard::ShardError;
use crate::sketch::{HyperLogLog, TDigest};

/// The maximum capacity for product counts that is kept from one batch to the next.
const PRODUCTS_KEPT: usize = 1 << 15;
/// The same for days.
const DAYS_KEPT: usize = 1 << 10;

/// What an order contributes to the sums.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sale {
    pub(super) tenant: i64,
    pub(super) currency: Currency,
    pub(super) ordered_at_us: i64,
    pub(super) total: i64,
    pub(super) units: i64,
    pub(super) customer_key: i64,
}

/// A day that the batch changes.
#[derive(Debug)]
struct Day {
    /// The day's units and revenue, including the batch's changes so far, if [`Sums::has_room`] was asked. Every other
    /// sum is part of a day's sum, and no part is negative. If a day's sum fits into 64 bits, all sums do.
    sum: Option<(i64, i64)>,
    /// The group of each hour, or [`NONE`].
    hours: [u32; 24],
}

const NONE: u32 = u32::MAX;

/// The groups of one batch.
#[derive(Debug, Default)]
pub(super) struct Sums {
    sales: BatchSales,
    hours: BatchGroups,
    categories: BatchGroups,
    days: Vec<Day>,
    /// The places of days in `days`.
    places: HashMap<(i64, Currency, i64), u32>,
    /// The day that was looked up last.
    last_day: Option<((i64, Currency, i64), u32)>,
    /// The group of each category of a day.
    of_categories: HashMap<(u32, i64), u32>,
    /// Of dropped orders, in order of arrival. One key may occur many times.
    products: Vec<(Key, Counts)>,
    tenants: HashSet<i64>,
    /// Category, product, units and revenue of the current order's items.
    items: Vec<(i64, i64, i64, i64)>,
    /// For each product id in these items: the lowest product number with that id, and the lowest such number in the
    /// order. Empty if the two are equal for every item.
    alike: Vec<(i64, i64)>,
}

impl Sums {
    /// Records that the batch changes the tenant's orders.
    pub(super) fn touch(&mut self, tenant: i64) {
        self.tenants.insert(tenant);
    }

    /// Returns `true` if all sums still fit into 64 bits with this sale. Takes about 2 us for the first sale of a day
    /// in a batch, and 30 ns for each further sale of that day.
    pub(super) fn has_room(&mut self, transaction: &Connection, sale: &Sale) -> Result<bool, ShardError> {
        let (units, revenue) = *self.day_sum(transaction, sale)?;
        Ok(units.checked_add(sale.units).is_some() && revenue.checked_add(sale.total).is_some())
    }

    fn day_sum(&mut self, transaction: &Connection, sale: &Sale) -> Result<&mut (i64, i64), ShardError> {
        let key = (sale.tenant, sale.currency, BucketSize::Day.floor(sale.ordered_at_us));
        let place = self.day(key);
        let sum = &mut self.days[place as usize].sum;
        if sum.is_none() {
            let values = params![key.0, key.1.as_str(), key.2];
            let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
            let stored = transaction.prepare_cached(DAY_SQL)?.query_row(values, read).optional()?;
            *sum = Some(stored.unwrap_or_default());
        }
        Ok(sum.get_or_insert_default())
    }

    /// Returns the place of a day.
    #[inline]
    fn day(&mut self, key: (i64, Currency, i64)) -> u32 {
        if let Some((last, place)) = self.last_day
            && last == key
        {
            return place;
        }
        let place = match self.places.entry(key) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(new) => {
                self.days.push(Day { sum: None, hours: [NONE; 24] });
                *new.insert(self.days.len() as u32 - 1)
            }
        };
        self.last_day = Some((key, place));
        place
    }

    /// Adds an order that becomes a sale, with its items' quantities and prices. The caller has checked
    /// [`Sums::has_room`]. Takes about 0.2 us with three items.
    pub(super) fn add(&mut self, sale: &Sale, items: impl Iterator<Item = (Product, (i64, i64))>) {
        self.change(sale, items, true);
    }

    /// Adds an order that is a sale and is deleted because of its age, for [`Sums::save_dropped`]. `by_id` are the
    /// products of its items ([`products_by_id`](super::erase::products_by_id)).
    pub(super) fn add_dropped_sale(
        &mut self,
        sale: &Sale,
        items: &[(Product, (i64, i64))],
        by_id: Vec<(i64, i64)>,
    ) {
        self.change(sale, items.iter().copied(), true);
        self.alike = by_id;
        self.count_products(sale);
    }

    /// Removes an order that is no longer a sale.
    pub(super) fn take_out(
        &mut self,
        transaction: &Connection,
        sale: &Sale,
        items: impl Iterator<Item = (Product, (i64, i64))>,
    ) -> Result<(), ShardError> {
        self.day_sum(transaction, sale)?;
        self.change(sale, items, false);
        Ok(())
    }

    fn change(&mut self, sale: &Sale, items: impl Iterator<Item = (Product, (i64, i64))>, is_added: bool) {
        let Sale { tenant, currency, ordered_at_us: at, total, units, .. } = *sale;
        let day_us = BucketSize::Day.floor(at);
        let place = self.day((tenant, currency, day_us));
        let day = &mut self.days[place as usize];
        if let Some(sum) = &mut day.sum {
            let sign = if is_added { 1 } else { -1 };
            *sum = (sum.0.saturating_add(sign * units), sum.1.saturating_add(sign * total));
        }
        let number = is_added.then(|| self.sales.push(sale.customer_key as u64, total));
        let change = |groups: &mut BatchGroups, group, counts| match number {
            Some(number) => groups.add(group, counts, number),
            None => groups.take_out(group, counts),
        };
        let hour = &mut day.hours[(at.rem_euclid(BucketSize::Day.us()) / BucketSize::Hour.us()) as usize];
        if *hour == NONE {
            *hour = self.hours.begin((tenant, currency, BucketSize::Hour.floor(at), 0));
        }
        change(&mut self.hours, *hour, Counts { orders: 1, units, revenue: total });
        self.items.clear();
        for (product, (quantity, unit_price)) in items {
            let revenue = quantity.saturating_mul(unit_price);
            self.items.push((product.category, product.id, quantity, revenue));
        }
        self.items.sort_unstable();
        for of_category in self.items.chunk_by(|one, next| one.0 == next.0) {
            let Some((category, ..)) = of_category.first() else { continue };
            let begin = || self.categories.begin((tenant, currency, day_us, *category));
            let group = *self.of_categories.entry((place, *category)).or_insert_with(begin);
            change(&mut self.categories, group, sum_of(of_category));
        }
    }

    /// Counts the products of the current order's items.
    fn count_products(&mut self, sale: &Sale) {
        let Sale { tenant, currency, ordered_at_us, .. } = *sale;
        // An order counts once for a product, even if it contains the product in two categories. It is counted under
        // the product's lowest number in the order.
        if self.alike.iter().all(|(first, product)| first == product) {
            self.alike.clear();
        }
        self.alike.sort_unstable();
        self.alike.dedup_by_key(|(first, _)| *first);
        let day_us = BucketSize::Day.floor(ordered_at_us);
        for of_product in self.items.chunk_by(|one, next| one.1 == next.1) {
            let Some((_, product, ..)) = of_product.first() else { continue };
            let mut counts = sum_of(of_product);
            if !self.alike.is_empty() && !self.alike.iter().any(|(_, counted)| counted == product) {
                counts.orders = 0;
            }
            self.products.push(((tenant, currency, day_us, *product), counts));
        }
    }

    /// Adds the groups to the tables. The caller has already written the rows in the same transaction. `tables` are
    /// the tables of all partitions.
    pub(super) fn save(&mut self, transaction: &Connection, tables: &[&str]) -> Result<(), ShardError> {
        self.add_to(transaction, SumsBy::table, tables)?;
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

    /// Adds the groups to the sums of dropped orders. The caller has already deleted the rows in the same transaction.
    /// If `drops` is set, the sums of every day without other sales are deleted.
    pub(super) fn save_dropped(&mut self, transaction: &Connection, drops: bool) -> Result<(), ShardError> {
        self.add_to(transaction, SumsBy::dropped_table, &[])?;
        save_products(transaction, &mut self.products)?;
        if !drops {
            return Ok(());
        }
        let days = self
            .hours
            .keys()
            .map(|(tenant, currency, start_us, _)| (*tenant, *currency, BucketSize::Day.floor(*start_us)));
        days.collect::<BTreeSet<_>>().into_iter().try_for_each(|day| drop_day(transaction, day))
    }

    fn add_to(
        &mut self,
        transaction: &Connection,
        table: fn(SumsBy) -> &'static str,
        tables: &[&str],
    ) -> Result<(), ShardError> {
        // The groups are sorted like the tables, so that neighbouring groups use the same page.
        let mut hours = self.hours.sorted(&self.sales);
        save_groups(transaction, (SumsBy::Hour, table), tables, &hours)?;
        hours.join(|(tenant, currency, start_us, _)| {
            (*tenant, *currency, BucketSize::Day.floor(*start_us), 0)
        });
        save_groups(transaction, (SumsBy::Day, table), tables, &hours)?;
        save_groups(transaction, (SumsBy::Category, table), tables, &self.categories.sorted(&self.sales))
    }

    /// Discards the groups after a commit or a rollback.
    pub(super) fn clear(&mut self) {
        self.sales.clear();
        self.hours.clear();
        self.categories.clear();
        self.days.clear();
        self.days.shrink_to(DAYS_KEPT);
        self.places.clear();
        self.last_day = None;
        self.of_categories.clear();
        self.tenants.clear();
        self.products.clear();
        self.products.shrink_to(PRODUCTS_KEPT);
    }
}

/// Returns what one order's items of a category or product contribute: category, product, units and revenue.
fn sum_of(items: &[(i64, i64, i64, i64)]) -> Counts {
    items.iter().fold(Counts { orders: 1, ..Counts::default() }, |mut sum, (_, _, units, revenue)| {
        sum.add(Counts { orders: 0, units: *units, revenue: *revenue });
        sum
    })
}

const DAY_SQL: &str =
    "SELECT units, revenue FROM sales_day WHERE tenant = ?1 AND currency = ?2 AND start_us = ?3";

fn damaged(error: crate::sketch::SketchError) -> ShardError {
    ShardError::Corrupt(format!("a sketch of the sales: {error}"))
}

/// Adds groups to one table.
fn save_groups(
    transaction: &Connection,
    (by, table): (SumsBy, fn(SumsBy) -> &'static str),
    tables: &[&str],
    groups: &SortedGroups,
) -> Result<(), ShardError> {
    if groups.is_empty() {
        return Ok(());
    }
    let mut saving = Saving::begin(transaction, by, table(by))?;
    groups.iter().try_for_each(|group| saving.group(transaction, tables, &group))
}

/// The statements that save one table's groups.
struct Saving<'t> {
    by: SumsBy,
    find: CachedStatement<'t>,
    /// Does nothing if the group has a sum.
    insert: CachedStatement<'t>,
    replace: CachedStatement<'t>,
    delete: CachedStatement<'t>,
    /// Set if the last group had no sum. As orders mostly arrive in order of time, the next one mostly has none either,
    /// and is inserted without a search.
    is_last_new: bool,
    /// Buffers for the encoded sketches.
    customers: Vec<u8>,
    values: Vec<u8>,
}

impl<'t> Saving<'t> {
    fn begin(transaction: &'t Connection, by: SumsBy, table: &'static str) -> Result<Saving<'t>, ShardError> {
        let (column, is_it, value) = match by.column() {
            Some(column) => (format!(", {column}"), format!(" AND {column} = ?4"), ", ?4"),
            None => Default::default(),
        };
        // If the sums have no category or product column, the statements have no fourth parameter.
        let insert = |or: &str| {
            format!(
                "INSERT OR {or} INTO {table} (orders, units, revenue, customers, order_value, tenant, currency, \
                 start_us{column}) VALUES (?5, ?6, ?7, ?8, ?9, ?1, ?2, ?3{value})"
            )
        };
        let key = format!("tenant = ?1 AND currency = ?2 AND start_us = ?3{is_it}");
        Ok(Saving {
            by,
            find: transaction.prepare_cached(&format!(
                "SELECT orders, units, revenue, customers, order_value FROM {table} WHERE {key}"
            ))?,
            insert: transaction.prepare_cached(&insert("IGNORE"))?,
            replace: transaction.prepare_cached(&insert("REPLACE"))?,
            delete: transaction.prepare_cached(&format!("DELETE FROM {table} WHERE {key}"))?,
            is_last_new: false,
            customers: Vec::new(),
            values: Vec::new(),
        })
    }

    /// Adds what a batch contributes to the stored sum. `tables` are the tables of all partitions.
    fn group(
        &mut self,
        transaction: &Connection,
        tables: &[&str],
        group: &GroupSales<'_>,
    ) -> Result<(), ShardError> {
        let key = &group.key;
        let may_be_new = !group.is_recounted && group.counts.orders > 0;
        if may_be_new && self.is_last_new && self.insert_new(group)? {
            return Ok(());
        }
        let (mut counts, mut values) = (group.counts, TDigest::new(TDigest::COMPRESSION_DEFAULT));
        self.customers.clear();
        bind(&mut self.find, self.by, key)?;
        let mut rows = self.find.raw_query();
        let row = rows.next()?;
        self.is_last_new = row.is_none();
        if let Some(row) = row {
            counts.add(Counts { orders: row.get(0)?, units: row.get(1)?, revenue: row.get(2)? });
        }
        if !group.is_recounted {
            let blob = |at: usize| match row {
                Some(row) => row.get_ref(at)?.as_blob().map(Some).map_err(rusqlite::Error::from),
                None => Ok(None),
            };
            HyperLogLog::encode_with(blob(3)?, group.customers, &mut self.customers).map_err(damaged)?;
            blob(4)?.map_or(Ok(()), |blob| values.merge_encoded(blob)).map_err(damaged)?;
            group.totals.iter().try_for_each(|total| values.insert(*total as f64)).map_err(damaged)?;
        }
        drop(rows);
        if counts.orders <= 0 {
            bind(&mut self.delete, self.by, key)?;
            self.delete.raw_execute()?;
            return Ok(());
        }
        if group.is_recounted {
            let unfreed = unfreed(transaction)?;
            let tables: Vec<&str> =
                tables.iter().copied().chain(unfreed.iter().map(String::as_str)).collect();
            let (customers, recounted) = recount(transaction, &tables, self.by, key)?;
            customers.encode(&mut self.customers);
            values = recounted;
        }
        self.replace(key, counts, &mut values)
    }

    /// Stores what a batch contributes as the group's sum. Returns `false` if the group has one already.
    fn insert_new(&mut self, group: &GroupSales<'_>) -> Result<bool, ShardError> {
        let mut values = TDigest::new(TDigest::COMPRESSION_DEFAULT);
        self.customers.clear();
        HyperLogLog::encode_with(None, group.customers, &mut self.customers).map_err(damaged)?;
        group.totals.iter().try_for_each(|total| values.insert(*total as f64)).map_err(damaged)?;
        self.values.clear();
        values.encode(&mut self.values);
        let encoded = (&*self.customers, &*self.values);
        self.is_last_new = store(&mut self.insert, (self.by, &group.key), group.counts, encoded)? > 0;
        Ok(self.is_last_new)
    }

    /// Adds a sum with encoded sketches to the stored sum.
    fn encoded(&mut self, key: &Key, mut counts: Counts, more: &DroppedSumRow<'_>) -> Result<(), ShardError> {
        let (mut customers, mut values) = (HyperLogLog::new(), TDigest::new(TDigest::COMPRESSION_DEFAULT));
        customers.merge_encoded(more.customers).map_err(damaged)?;
        values.merge_encoded(more.order_value).map_err(damaged)?;
        bind(&mut self.find, self.by, key)?;
        let mut rows = self.find.raw_query();
        if let Some(row) = rows.next()? {
            let blob = |at: usize| row.get_ref(at)?.as_blob().map_err(rusqlite::Error::from);
            counts.add(Counts { orders: row.get(0)?, units: row.get(1)?, revenue: row.get(2)? });
            customers.merge_encoded(blob(3)?).map_err(damaged)?;
            values.merge_encoded(blob(4)?).map_err(damaged)?;
        }
        drop(rows);
        self.customers.clear();
        customers.encode(&mut self.customers);
        self.replace(key, counts, &mut values)
    }

    /// Stores a sum. The customers are encoded already.
    fn replace(&mut self, key: &Key, counts: Counts, values: &mut TDigest) -> Result<(), ShardError> {
        self.values.clear();
        values.encode(&mut self.values);
        store(&mut self.replace, (self.by, key), counts, (&self.customers, &self.values))?;
        Ok(())
    }
}

/// Executes a statement that stores a sum with its encoded sketches. Returns the number of stored rows.
fn store(
    statement: &mut CachedStatement<'_>,
    (by, key): (SumsBy, &Key),
    counts: Counts,
    (customers, values): (&[u8], &[u8]),
) -> Result<usize, ShardError> {
    bind(statement, by, key)?;
    for (at, number) in (5..).zip([counts.orders, counts.units, counts.revenue]) {
        statement.raw_bind_parameter(at, number)?;
    }
    statement.raw_bind_parameter(8, customers)?;
    statement.raw_bind_parameter(9, values)?;
    Ok(statement.raw_execute()?)
}

/// Adds a sum of dropped orders to the tables that contain it.
pub(super) fn add_dropped(
    transaction: &Connection,
    row: &DroppedSumRow<'_>,
    by: SumsBy,
    key: &Key,
) -> Result<(), ShardError> {
    let [orders, units, revenue] = row.counts;
    let counts = Counts { orders, units, revenue };
    if by == SumsBy::Product {
        return save_products(transaction, &mut [(*key, counts)]);
    }
    for table in [by.table(), by.dropped_table()] {
        Saving::begin(transaction, by, table)?.encoded(key, counts, row)?;
    }
    Ok(())
}

fn bind(statement: &mut CachedStatement<'_>, by: SumsBy, key: &Key) -> Result<(), ShardError> {
    let (tenant, currency, start_us, name) = *key;
    statement.raw_bind_parameter(1, tenant)?;
    statement.raw_bind_parameter(2, currency.as_str())?;
    statement.raw_bind_parameter(3, start_us)?;
    if by.column().is_some() {
        statement.raw_bind_parameter(4, name)?;
    }
    Ok(())
}

/// Rebuilds one group's customer and order value sketches from the rows in `tables` and the sums of dropped orders.
pub(super) fn recount(
    connection: &Connection,
    tables: &[&str],
    by: SumsBy,
    key: &Key,
) -> Result<(HyperLogLog, TDigest), ShardError> {
    let (tenant, currency, start_us, category) = *key;
    let (mut customers, mut values) = (HyperLogLog::new(), TDigest::new(TDigest::COMPRESSION_DEFAULT));
    for table in tables {
        let mut statement = connection.prepare_cached(&recount_sql(table, by == SumsBy::Category))?;
        let range = params![tenant, start_us, start_us + by.us(), currency.as_str(), category];
        let mut rows = match by {
            SumsBy::Category => statement.query(range)?,
            _ => statement.query(&range[..4])?,
        };
        while let Some(row) = rows.next()? {
            customers.insert_hash(row.get::<_, i64>(0)? as u64);
            values.insert(row.get::<_, i64>(1)? as f64).map_err(damaged)?;
        }
    }
    let named = by.column().map_or(String::new(), |column| format!(" AND {column} = ?4"));
    let mut statement = connection.prepare_cached(&format!(
        "SELECT customers, order_value FROM {} WHERE tenant = ?1 AND currency = ?2 AND start_us = ?3{named}",
        by.dropped_table()
    ))?;
    bind(&mut statement, by, key)?;
    let mut rows = statement.raw_query();
    if let Some(row) = rows.next()? {
        let blob = |at: usize| row.get_ref(at)?.as_blob().map_err(rusqlite::Error::from);
        customers.merge_encoded(blob(0)?).map_err(damaged)?;
        values.merge_encoded(blob(1)?).map_err(damaged)?;
    }
    drop(rows);
    Ok((customers, values))
}

/// Deletes the sums of a day if all its sales belong to dropped orders. Records that the day has no sums.
fn drop_day(
    transaction: &Connection,
    (tenant, currency, day_us): (i64, Currency, i64),
) -> Result<(), ShardError> {
    let is_over = "SELECT 1 FROM sales_day s JOIN dropped_sales_day d USING (tenant, currency, start_us) \
                   WHERE s.tenant = ?1 AND s.currency = ?2 AND s.start_us = ?3 AND s.orders = d.orders";
    let day = params![tenant, currency.as_str(), day_us];
    if !transaction.prepare_cached(is_over)?.exists(day)? {
        return Ok(());
    }
    for table in
        SumsBy::WITH_SKETCHES.map(SumsBy::table).into_iter().chain(SumsBy::ALL.map(SumsBy::dropped_table))
    {
        let sql = format!(
            "DELETE FROM {table} WHERE tenant = ?1 AND currency = ?2 AND start_us >= ?3 AND start_us < ?4"
        );
        let values = params![tenant, currency.as_str(), day_us, day_us + BucketSize::Day.us()];
        transaction.prepare_cached(&sql)?.execute(values)?;
    }
    let sql = "INSERT OR IGNORE INTO sales_gone (tenant, start_us) VALUES (?1, ?2)";
    transaction.prepare_cached(sql)?.execute(params![tenant, day_us])?;
    let sql = "UPDATE sales_version SET version = version + 1 WHERE tenant = ?1";
    transaction.prepare_cached(sql)?.execute([tenant])?;
    Ok(())
}

/// Returns the SQL that selects the customer and total of each of a tenant's sales in a period, optionally in one
/// category.
fn recount_sql(table: &str, of_category: bool) -> String {
    let only = if of_category {
        let items = items_of(table);
        format!(
            " AND EXISTS (SELECT 1 FROM {items} i JOIN product_row p ON p.id = i.product \
             WHERE i.id >= o.id * 1024 AND i.id < o.id * 1024 + 1024 AND p.category = ?5)"
        )
    } else {
        String::new()
    };
    format!(
        "SELECT o.customer_key, o.total FROM {table} o INDEXED BY {table}_time WHERE o.tenant = ?1 \
         AND o.ordered_at_us >= ?2 AND o.ordered_at_us < ?3 AND o.currency = ?4 AND o.status <= 4{only}"
    )
}

/// Adds to the sums of dropped orders by product.
fn save_products(transaction: &Connection, products: &mut [(Key, Counts)]) -> Result<(), ShardError> {
    if products.is_empty() {
        return Ok(());
    }
    products.sort_unstable_by_key(|(key, _)| *key);
    let table = SumsBy::Product.dropped_table();
    let mut upsert = transaction.prepare_cached(&format!(
        "INSERT INTO {table} (tenant, currency, start_us, product, orders, units, revenue) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (tenant, currency, start_us, product) DO UPDATE SET \
         orders = orders + excluded.orders, units = units + excluded.units, revenue = revenue + excluded.revenue",
    ))?;
    let mut bound = None;
    for same in products.chunk_by(|(one, _), (next, _)| one == next) {
        let Some(((tenant, currency, start_us, product), _)) = same.first() else { continue };
        let mut counts = Counts::default();
        same.iter().for_each(|(_, more)| counts.add(*more));
        // Bound parameters stay bound, and neighbouring groups differ only in their product.
        if bound != Some((tenant, currency, start_us)) {
            upsert.raw_bind_parameter(1, tenant)?;
            upsert.raw_bind_parameter(2, currency.as_str())?;
            upsert.raw_bind_parameter(3, start_us)?;
            bound = Some((tenant, currency, start_us));
        }
        for (at, number) in (4..).zip([*product, counts.orders, counts.units, counts.revenue]) {
            upsert.raw_bind_parameter(at, number)?;
        }
        upsert.raw_execute()?;
    }
    Ok(())
}
