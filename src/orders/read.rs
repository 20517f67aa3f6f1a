//! Reads orders, newest first, in bounded steps on one shard.
//!
//! Each partition is a source, sorted by (ordered_at, order id). The source is the partition's time index or, if the
//! partition is sealed and few products or customers are requested, the lists of their orders. A step merges the
//! sources whose times overlap.

mod cache;
mod customers;
mod export;
mod filter;
mod held;
mod indexed;
mod ingest;
mod last_sale;
mod lists;
mod one;
mod predicate;
mod products;
mod render;

use rusqlite::fallible_streaming_iterator::FallibleStreamingIterator as _;
use rusqlite::{Connection, OptionalExtension as _, Rows, params};

pub use self::export::{
    BatchBounds, BatchItem, BatchOrder, ChosenOrder, OrderBatch, OrderSource, SelectionCursor, StepCache,
    choose_orders, forget_pages, read_orders,
};
pub(super) use self::filter::OneCustomer;
pub use self::filter::{ORDER_FIELDS, OneOrder, OrderFilter};
pub use self::held::{held_customer, held_order};
use self::indexed::{IndexedOrder, by_id_sql, found, scan_sql};
use self::ingest::INGEST_SQL;
pub use self::ingest::{FinishedIngest, find_ingest};
pub use self::last_sale::ProductSale;
pub(super) use self::last_sale::{SaleSearch, SaleStep, last_sale};
use self::lists::Lists;
use self::predicate::{CATEGORY_SQL, OrderPredicate, PRODUCT_CATEGORY_SQL, PRODUCTS_SQL};
pub use self::products::known_products;
use self::render::Renderer;
use super::erase::CUSTOMER_SQL;
use super::schema::{ORDER_IDS, ORDERS, by_customer, by_product, items_sql};
use crate::base::clock;
use crate::base::ids::ShardId;
use crate::shard::ids::{recent_sql, runs_sql};
use crate::shard::read::{Bounds, Partial, PartialRow, Position, TimeRange};
use crate::shard::{self, PartitionInfo, ShardError, partitions_of, tenant_number};

/// The maximum time that one step holds its snapshot.
const STEP_US: u64 = 50_000;
/// The number of orders read between two checks of the clock.
const LOOKED_AT: u32 = 256;
/// The matching orders of one partition, newest first.
enum Source<'s> {
    Scan { rows: Rows<'s>, head: Option<IndexedOrder> },
    Lists { lists: Lists<'s>, head: Option<IndexedOrder> },
}

impl Source<'_> {
    fn head(&self) -> Option<&IndexedOrder> {
        match self {
            Source::Scan { head, .. } | Source::Lists { head, .. } => head.as_ref(),
        }
    }

    fn advance(
        &mut self,
        connection: &Connection,
        wanted: &OrderPredicate<'_>,
    ) -> Result<Option<IndexedOrder>, ShardError> {
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

/// Returns the orders after `position` with ids up to `pin`, newest first, within the bounds. With `keys_only`, the
/// rows' bytes are omitted.
pub(super) fn step(
    connection: &Connection,
    shard: ShardId,
    (range, of): (&TimeRange, &OrderFilter),
    pin: i64,
    position: &Position,
    bounds: Bounds,
    keys_only: bool,
) -> Result<Partial, ShardError> {
    let until_us = clock::monotonic_us() + STEP_US;
    let mut partial = Partial::default();
    let Some(tenant) = tenant_number(connection, &of.tenant_id)? else { return Ok(partial) };
    let from_us = range.from_us.unwrap_or(i64::MIN);
    let Some(wanted) = OrderPredicate::new(connection, shard, of, tenant, pin, from_us)? else {
        return Ok(partial);
    };
    let infos: Vec<PartitionInfo> = partitions_of(connection, &ORDERS)?
        .into_iter()
        .filter(|info| info.first_id <= pin && range.overlaps(info, position))
        .collect();
    if let Some(order) = &of.order {
        if let Some((info, order)) = one::find(connection, &infos, &wanted, order)?
            && wanted.is_behind(&order, position)
            && wanted.takes(&order)
            && wanted.has_item(connection, &info.name, &order)?
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
                let lists = match (&wanted.products, &wanted.customers) {
                    (Some(products), _) => {
                        Lists::new(&info.name, by_product(&info.name), "product", products, position)
                    }
                    (None, customers) => {
                        let few =
                            customers.as_ref().and_then(|customers| customers.few()).unwrap_or_default();
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
        // An order from a list already meets all conditions except category and price.
        let takes = match is_scan {
            true => wanted.takes(&order) && wanted.has_item(connection, partition, &order)?,
            false => !wanted.has_more_than_products() || wanted.has_item(connection, partition, &order)?,
        };
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
    /// Appends a row. If the row has bytes, the caller has just appended them to `bytes`.
    fn push_order(&mut self, order: &IndexedOrder) {
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

fn has_few(wanted: &OrderPredicate<'_>) -> bool {
    wanted.customers.as_ref().is_some_and(|customers| customers.few().is_some())
}

const VERSION_SQL: &str = "SELECT version FROM sales_version WHERE tenant = ?1";
/// Returns the version of the tenant's orders in this shard. Every commit that changes the orders increments the
/// version. It is 0 before the first such commit.
pub fn sales_version(connection: &Connection, tenant_id: &str) -> Result<i64, ShardError> {
    let Some(tenant) = tenant_number(connection, tenant_id)? else { return Ok(0) };
    let mut statement = connection.prepare_cached(VERSION_SQL)?;
    Ok(statement.query_row([tenant], |row| row.get(0)).optional()?.unwrap_or(0))
}

/// Returns every order statement that does not depend on a partition, with its name, for checking query plans.
#[must_use]
pub fn order_statements() -> Vec<(String, String)> {
    let mut found = vec![
        ("a tenant's number".to_owned(), shard::TENANT_SQL.to_owned()),
        ("numbers of a product".to_owned(), PRODUCTS_SQL.to_owned()),
        ("the number of a category".to_owned(), CATEGORY_SQL.to_owned()),
        ("the category of a product".to_owned(), PRODUCT_CATEGORY_SQL.to_owned()),
        ("numbers of a customer".to_owned(), CUSTOMER_SQL.to_owned()),
        ("version of the sales".to_owned(), VERSION_SQL.to_owned()),
        ("a finished ingest".to_owned(), INGEST_SQL.to_owned()),
        ("runs of order ids".to_owned(), runs_sql(&ORDER_IDS)),
        ("the newest order ids".to_owned(), recent_sql(&ORDER_IDS)),
        ("customers with words".to_owned(), customers::SQL.to_owned()),
        ("when an order changed its status".to_owned(), held::STATUS_TIME_SQL.to_owned()),
    ];
    found.push(("sales of days".to_owned(), super::sales_days::DAYS_SQL.to_owned()));
    for (name, sql) in [
        ("days without sums", super::sales_days::GONE_SQL),
        ("the next currency of dropped orders", super::sales_days::DROPPED_CURRENCY_SQL),
        ("days with dropped orders", super::sales_days::DROPPED_SQL),
    ] {
        found.push((name.to_owned(), sql.to_owned()));
    }
    found.push(("the next currency".to_owned(), super::sales_days::CURRENCY_SQL.to_owned()));
    found.push(("products by id".to_owned(), products::KNOWN_SQL.to_owned()));
    found.extend(super::segment::segment_statements());
    found.extend(render::name_statements());
    found
}

/// Returns every statement that a search can issue against a partition, with its name, for checking query plans.
#[must_use]
pub fn statements(partition: &PartitionInfo) -> Vec<(String, String)> {
    let name = &partition.name;
    let mut found = vec![
        ("orders in order of time".to_owned(), scan_sql(name)),
        ("an order by its row".to_owned(), by_id_sql(name)),
        ("items of orders".to_owned(), items_sql(name)),
        ("the next sale of a dropped partition".to_owned(), super::sales_days::unfreed_sql(name)),
        ("items of an order, counted".to_owned(), held::count_sql(name)),
    ];
    found.extend(render::statements(name));
    found.extend(export::statements(name));
    found.extend(super::segment::row_statements(name));
    found.extend(last_sale::sale_statements(partition));
    if partition.indexed {
        found.push(("orders of a product".to_owned(), lists::sql(&by_product(name), "product")));
        found.push(("orders of a customer".to_owned(), lists::sql(&by_customer(name), "customer")));
    }
    found
}
