//! Reading orders back, newest first: one bounded step on one shard.
//!
//! Each partition is a source in order of (ordered_at, order id): its index in order of time, or, where it is
//! sealed and few products or customers are asked for, its lists of those. A step merges the sources whose
//! times overlap.

mod customers;
mod export;
mod lists;
mod met;
mod one;
mod render;

use rusqlite::fallible_streaming_iterator::FallibleStreamingIterator as _;
use rusqlite::{Connection, OptionalExtension as _, Row, Rows, params};

use self::customers::CustomerSet;
pub use self::export::{
    BatchBounds, BatchItem, BatchOrder, Choosing, ChosenOrder, ExportedFrom, NameCache, OrderBatch, Span,
    choose_orders, forget_pages, read_orders,
};
use self::lists::Lists;
pub use self::met::Met;
pub use self::one::OneOrder;
use self::render::Renderer;
use super::super::error::ShardError;
use super::super::ids::{ORDERS, recent_sql, runs_sql};
use super::super::inspect::{PartitionInfo, partitions_of};
use super::super::read::{Bounds, Filter, Partial, PartialRow, Position};
use super::super::stream::Stream;
use super::schema::{by_customer, by_product, item_ids, items_sql};
use crate::base::clock;
use crate::base::ids::ShardId;
use crate::base::money::Currency;
use crate::base::order_status::OrderStatus;

/// How long one step may hold its snapshot.
const STEP_US: u64 = 50_000;
/// Orders looked at between two looks at the clock.
const LOOKED_AT: u32 = 256;
/// Customers whose lists are merged; of more, the orders are gone through in order of time.
const CUSTOMER_LISTS_MAX: usize = 64;

/// A part of an order that an answer may have, by its bit in a set of fields.
pub const ORDER_FIELDS: [&str; 12] = [
    "order_id",
    "tenant_id",
    "customer_id",
    "customer_name",
    "customer_email",
    "status",
    "currency",
    "ordered_at",
    "total",
    "units",
    "items",
    "received_at",
];

/// Which orders of one tenant, and what of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrdersOf {
    pub tenant_id: String,
    /// This one only.
    pub order: Option<OneOrder>,
    /// Orders with one of these products; all where it is empty.
    pub product_ids: Vec<String>,
    /// The allowed statuses, by the bit of their number; 0 for all.
    pub statuses: u8,
    /// Bounds of the total in ten-thousandths of the currency's unit, inclusive.
    pub total_min: Option<i128>,
    pub total_max: Option<i128>,
    /// Words of the customer's name or e-mail address, all of them; a `*` at the end makes a prefix.
    pub words: Vec<String>,
    /// Bits of [`ORDER_FIELDS`].
    pub fields: u16,
    /// Names that were met so far.
    pub met: Met,
}

/// One order as the index has it.
#[derive(Clone, Debug)]
struct Found {
    ordered_at_us: i64,
    order_id: String,
    id: i64,
    currency: Currency,
    status: OrderStatus,
    total: i64,
    units: i64,
    customer: i64,
}

/// What a row has to be, in the shard's own numbers.
struct Wanted<'a> {
    of: &'a OrdersOf,
    tenant: i64,
    /// Sorted; `None`: any.
    products: Option<Vec<i64>>,
    customers: Option<&'a CustomerSet>,
    pin: i64,
    from_us: i64,
}

impl Wanted<'_> {
    fn takes(&self, found: &Found) -> bool {
        let status = self.of.statuses == 0 || self.of.statuses & (1 << found.status as u8) != 0;
        let scaled =
            || i128::from(found.total) * 10_i128.pow(4_u32.saturating_sub(found.currency.digits().into()));
        found.id <= self.pin
            && status
            && self.of.total_min.is_none_or(|min| scaled() >= min)
            && self.of.total_max.is_none_or(|max| scaled() <= max)
            && self.customers.is_none_or(|customers| customers.has(found.customer))
    }
}

impl Wanted<'_> {
    /// Not read yet, and not too old.
    fn is_behind(&self, found: &Found, position: &Position) -> bool {
        found.ordered_at_us >= self.from_us
            && (found.ordered_at_us, &found.order_id) < (position.timestamp_us, &position.event_id)
    }

    /// One of its items is of the products, where only those count.
    fn has_product(&self, connection: &Connection, partition: &str, id: i64) -> Result<bool, ShardError> {
        let Some(products) = &self.products else { return Ok(true) };
        has_product(connection, partition, id, products)
    }
}

fn damaged() -> ShardError {
    ShardError::Corrupt("an order has an unknown status or currency".to_owned())
}

/// From columns ordered_at_us, order_id, id, currency, status, total, units, customer.
fn found(row: &Row<'_>) -> Result<Found, ShardError> {
    let text = |at: usize| row.get_ref(at)?.as_str().map_err(rusqlite::Error::from);
    Ok(Found {
        ordered_at_us: row.get(0)?,
        order_id: text(1)?.to_owned(),
        id: row.get(2)?,
        currency: Currency::parse(text(3)?).ok_or_else(damaged)?,
        status: OrderStatus::from_code(row.get(4)?).ok_or_else(damaged)?,
        total: row.get(5)?,
        units: row.get(6)?,
        customer: row.get(7)?,
    })
}

const FOUND_COLUMNS: &str = "ordered_at_us, order_id, id, currency, status, total, units, customer";

fn scan_sql(partition: &str) -> String {
    format!(
        "SELECT {FOUND_COLUMNS} FROM {partition} INDEXED BY {partition}_time WHERE tenant = ?1 \
         AND (ordered_at_us, order_id) < (?2, ?3) AND ordered_at_us >= ?4 AND id <= ?5 \
         ORDER BY ordered_at_us DESC, order_id DESC"
    )
}

fn by_id_sql(partition: &str) -> String {
    format!("SELECT {FOUND_COLUMNS} FROM {partition} WHERE id = ?1 AND tenant = ?2")
}

/// One partition's orders in order.
enum Source<'s> {
    Scan { rows: Rows<'s>, head: Option<Found> },
    Lists { lists: Lists<'s>, head: Option<Found> },
}

impl Source<'_> {
    fn head(&self) -> Option<&Found> {
        match self {
            Source::Scan { head, .. } | Source::Lists { head, .. } => head.as_ref(),
        }
    }

    fn advance(&mut self, connection: &Connection, wanted: &Wanted<'_>) -> Result<Option<Found>, ShardError> {
        match self {
            Source::Scan { rows, head } => {
                rows.advance()?;
                let next = rows.get().map(found).transpose()?;
                Ok(std::mem::replace(head, next))
            }
            Source::Lists { lists, head } => {
                let next = lists.next(connection, wanted)?;
                Ok(std::mem::replace(head, next))
            }
        }
    }
}

/// The orders behind `position` with ids up to `pin`, newest first, as far as the bounds allow. `keys_only`
/// leaves the rows' bytes out.
pub(in crate::shard) fn step(
    connection: &Connection,
    shard: ShardId,
    (filter, of): (&Filter, &OrdersOf),
    pin: i64,
    position: &Position,
    bounds: Bounds,
    keys_only: bool,
) -> Result<Partial, ShardError> {
    let until_us = clock::monotonic_us() + STEP_US;
    let mut partial = Partial::default();
    let Some(tenant) = tenant_number(connection, &of.tenant_id)? else { return Ok(partial) };
    let products = (!of.product_ids.is_empty())
        .then(|| product_numbers(connection, tenant, &of.product_ids))
        .transpose()?;
    let customers = (!of.words.is_empty())
        .then(|| of.met.customers(shard, || customers::search(connection, tenant, &of.words)))
        .transpose()?;
    if products.as_ref().is_some_and(Vec::is_empty) || customers.as_ref().is_some_and(|set| set.is_empty()) {
        return Ok(partial);
    }
    let from_us = filter.from_us.unwrap_or(i64::MIN);
    let wanted = Wanted { of, tenant, products, customers: customers.as_deref(), pin, from_us };
    let infos: Vec<PartitionInfo> = partitions_of(connection, Stream::Order)?
        .into_iter()
        .filter(|info| info.first_id <= pin && filter.overlaps(info, position))
        .collect();
    if let Some(order) = &of.order {
        if let Some((info, order)) = one::find(connection, &infos, &wanted, order)?
            && wanted.is_behind(&order, position)
            && wanted.takes(&order)
            && wanted.has_product(connection, &info.name, order.id)?
        {
            if !keys_only {
                Renderer::new(connection, shard, of)?.write(&info.name, &order, &mut partial.bytes)?;
            }
            partial.push_order(&order);
        }
        return Ok(partial);
    }
    let mut statements = Vec::with_capacity(infos.len());
    for info in &infos {
        let by_list = info.indexed && (wanted.products.is_some() || has_few(&wanted));
        statements.push(if by_list { None } else { Some(connection.prepare_cached(&scan_sql(&info.name))?) });
    }
    let mut sources = Vec::with_capacity(infos.len());
    for (statement, info) in statements.iter_mut().zip(&infos) {
        let mut source = match statement {
            Some(statement) => {
                let (time, order_id) = (position.timestamp_us, &position.event_id);
                let rows = statement.query(params![tenant, time, order_id, from_us, pin])?;
                Source::Scan { rows, head: None }
            }
            None => {
                let lists = match (&wanted.products, wanted.customers) {
                    (Some(products), _) => {
                        Lists::new(&info.name, by_product(&info.name), "product", products, position)
                    }
                    (None, customers) => {
                        let few = customers.and_then(CustomerSet::few).unwrap_or_default();
                        Lists::new(&info.name, by_customer(&info.name), "customer", few, position)
                    }
                };
                Source::Lists { lists, head: None }
            }
        };
        source.advance(connection, &wanted)?;
        sources.push(source);
    }
    let mut renderer = Renderer::new(connection, shard, of)?;
    let mut seen = 0_u32;
    loop {
        let newest = sources
            .iter()
            .enumerate()
            .filter_map(|(at, source)| Some((source.head()?, at)))
            .max_by(|(one, _), (other, _)| {
                (one.ordered_at_us, &one.order_id).cmp(&(other.ordered_at_us, &other.order_id))
            })
            .map(|(_, at)| at);
        let Some(newest) = newest else { return Ok(partial) };
        let source = &mut sources[newest];
        let is_scan = matches!(source, Source::Scan { .. });
        let partition = infos[newest].name.as_str();
        let Some(order) = source.advance(connection, &wanted)? else { return Ok(partial) };
        let takes =
            !is_scan || wanted.takes(&order) && wanted.has_product(connection, partition, order.id)?;
        if takes {
            if !keys_only {
                renderer.write(partition, &order, &mut partial.bytes)?;
            }
            partial.push_order(&order);
        }
        seen += 1;
        let is_full = partial.rows.len() >= bounds.rows || partial.bytes.len() >= bounds.bytes;
        if is_full || (seen.is_multiple_of(LOOKED_AT) && clock::monotonic_us() >= until_us) {
            partial.next = Some(Position {
                timestamp_us: order.ordered_at_us,
                user_id: 0,
                event_id: order.order_id,
                id: order.id,
            });
            return Ok(partial);
        }
    }
}

impl Partial {
    /// A row whose bytes, if any, were written just now.
    fn push_order(&mut self, order: &Found) {
        self.ids.extend_from_slice(order.order_id.as_bytes());
        self.rows.push(PartialRow {
            timestamp_us: order.ordered_at_us,
            user_id: 0,
            id: order.id,
            line_end: self.bytes.len() as u32,
            id_end: self.ids.len() as u32,
        });
    }
}

fn has_few(wanted: &Wanted<'_>) -> bool {
    wanted.customers.is_some_and(|customers| customers.few().is_some())
}

fn has_product(
    connection: &Connection,
    partition: &str,
    id: i64,
    products: &[i64],
) -> Result<bool, ShardError> {
    let mut statement = connection.prepare_cached(&items_sql(partition))?;
    let mut rows = statement.query(item_ids(id, id))?;
    while let Some(row) = rows.next()? {
        if products.binary_search(&row.get(0)?).is_ok() {
            return Ok(true);
        }
    }
    Ok(false)
}

const TENANT_SQL: &str = "SELECT id FROM tenant_row WHERE tenant_id = ?1";
const PRODUCTS_SQL: &str = "SELECT id FROM product_row WHERE tenant = ?1 AND product_id = ?2";
const VERSION_SQL: &str = "SELECT version FROM sales_version WHERE tenant = ?1";
const INGEST_SQL: &str =
    "SELECT fingerprint, response, expires_us FROM ingest_key WHERE scope = ?1 AND key = ?2";

/// The number a tenant has in this shard, if it has orders here.
pub(in crate::shard) fn tenant_number(
    connection: &Connection,
    tenant_id: &str,
) -> Result<Option<i64>, ShardError> {
    let mut statement = connection.prepare_cached(TENANT_SQL)?;
    Ok(statement.query_row([tenant_id], |row| row.get(0)).optional()?)
}

fn product_numbers(
    connection: &Connection,
    tenant: i64,
    product_ids: &[String],
) -> Result<Vec<i64>, ShardError> {
    let mut statement = connection.prepare_cached(PRODUCTS_SQL)?;
    let mut numbers = Vec::new();
    for product_id in product_ids {
        let rows = statement.query_map(params![tenant, product_id], |row| row.get(0))?;
        numbers.extend(rows.collect::<Result<Vec<i64>, _>>()?);
    }
    numbers.sort_unstable();
    numbers.dedup();
    Ok(numbers)
}

/// Goes up with every commit that changes the tenant's orders here; 0 before the first.
pub fn sales_version(connection: &Connection, tenant_id: &str) -> Result<i64, ShardError> {
    let Some(tenant) = tenant_number(connection, tenant_id)? else { return Ok(0) };
    let mut statement = connection.prepare_cached(VERSION_SQL)?;
    Ok(statement.query_row([tenant], |row| row.get(0)).optional()?.unwrap_or(0))
}

/// A finished ingest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FinishedIngest {
    pub fingerprint: [u8; 32],
    pub response: String,
    pub expires_us: i64,
}

/// What was answered to an idempotency key, if it was and is kept.
pub fn find_ingest(
    connection: &Connection,
    scope: &str,
    key: &str,
) -> Result<Option<FinishedIngest>, ShardError> {
    let read = |row: &Row<'_>| {
        Ok(FinishedIngest { fingerprint: row.get(0)?, response: row.get(1)?, expires_us: row.get(2)? })
    };
    Ok(connection.prepare_cached(INGEST_SQL)?.query_row([scope, key], read).optional()?)
}

/// Every SQL text about orders that has nothing to do with a partition, by name; for looking at plans.
#[must_use]
pub fn order_statements() -> Vec<(String, String)> {
    let mut found = vec![
        ("a tenant's number".to_owned(), TENANT_SQL.to_owned()),
        ("numbers of a product".to_owned(), PRODUCTS_SQL.to_owned()),
        ("version of the sales".to_owned(), VERSION_SQL.to_owned()),
        ("a finished ingest".to_owned(), INGEST_SQL.to_owned()),
        ("runs of order ids".to_owned(), runs_sql(ORDERS)),
        ("the newest order ids".to_owned(), recent_sql(ORDERS)),
        ("customers with words".to_owned(), customers::SQL.to_owned()),
    ];
    found.extend(render::name_statements());
    found.extend(super::sales::sum_statements());
    found
}

/// Every SQL text a search can issue against a partition, by name; for looking at plans.
#[must_use]
pub(in crate::shard) fn statements(partition: &PartitionInfo) -> Vec<(String, String)> {
    let name = &partition.name;
    let mut found = vec![
        ("orders in order of time".to_owned(), scan_sql(name)),
        ("an order by its row".to_owned(), by_id_sql(name)),
        ("items of orders".to_owned(), items_sql(name)),
    ];
    found.extend(render::statements(name));
    found.extend(super::sales::sales_statements(partition));
    found.extend(export::statements(name));
    if partition.indexed {
        found.push(("orders of a product".to_owned(), lists::sql(&by_product(name), "product")));
        found.push(("orders of a customer".to_owned(), lists::sql(&by_customer(name), "customer")));
    }
    found
}
