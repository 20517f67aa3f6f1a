//! Finds a product's last sale in one shard, in bounded steps.
//!
//! The sums by day and product show the day of the last sale, and only the orders of that day are searched. In any
//! snapshot, the sums equal the rows (R3). The work is two seeks per currency for each later day that has sales, and
//! then, if a partition has no lists yet, the tenant's orders of one day in it.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::indexed::{by_id_sql, damaged, found};
use super::render::PRODUCT_SQL;
use super::{OrderFilter, step};
use crate::base::bucket_size::BucketSize;
use crate::base::clock;
use crate::base::ids::ShardId;
use crate::base::money::Currency;
use crate::orders::sales_days::{SalesFilter, currencies};
use crate::orders::schema::{ORDERS, item_ids, items_sql};
use crate::shard::read::{Bounds, Position, TimeRange};
use crate::shard::{ShardError, partitions_of, tenant_number};

/// The maximum time that one step holds its snapshot.
const STEP_US: u64 = 50_000;

/// A sale of one product.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProductSale {
    pub ordered_at_us: i64,
    pub order_id: String,
    pub currency: Currency,
    /// The units of the product in the whole order.
    pub quantity: i64,
    /// The price of the order's first line with the product, in minor units.
    pub unit_price: i64,
    /// The category in that line.
    pub category: String,
}

/// The position of a search for the last sale.
#[derive(Clone, Debug)]
pub(in crate::orders) enum SaleSearch {
    /// No day from here on has a sale of the product.
    Days { before_us: i64 },
    /// The last day with a sale of the product, and the position after which its orders are to be read.
    Orders { day_us: i64, position: Position },
}

/// The result of one step.
#[derive(Clone, Debug)]
pub(in crate::orders) enum SaleStep {
    Found(Option<ProductSale>),
    Continues(SaleSearch),
}

/// Continues the search for the last sale that the filter selects. The filter has one product.
pub(in crate::orders) fn last_sale(
    connection: &Connection,
    shard: ShardId,
    of: &OrderFilter,
    from: SaleSearch,
) -> Result<SaleStep, ShardError> {
    let Some(tenant) = tenant_number(connection, &of.tenant_id)? else { return Ok(SaleStep::Found(None)) };
    let Some(product_id) = of.product_ids.first() else { return Ok(SaleStep::Found(None)) };
    let (day_us, position) = match from {
        SaleSearch::Orders { day_us, position } => (day_us, Some(position)),
        SaleSearch::Days { before_us } => {
            match last_day(connection, &of.tenant_id, tenant, product_id, before_us)? {
                Days::Found(day_us) => (day_us, None),
                Days::None => return Ok(SaleStep::Found(None)),
                Days::Before(before_us) => return Ok(SaleStep::Continues(SaleSearch::Days { before_us })),
            }
        }
    };
    let range = TimeRange {
        from_us: Some(day_us),
        to_us: Some(day_us.saturating_add(BucketSize::Day.us())),
        descending: true,
    };
    let bounds = Bounds { rows: 1, bytes: usize::MAX };
    let position = position.unwrap_or_else(|| range.start());
    let partial = step(connection, shard, (&range, of), i64::MAX, &position, bounds, true)?;
    match (partial.rows.first(), partial.next) {
        (Some(row), _) => Ok(SaleStep::Found(sale(connection, tenant, product_id, row.id)?)),
        (None, Some(position)) => Ok(SaleStep::Continues(SaleSearch::Orders { day_us, position })),
        // A step that continues on this day has another snapshot, in which the sale may have ended.
        (None, None) => Ok(SaleStep::Continues(SaleSearch::Days { before_us: day_us })),
    }
}

enum Days {
    Found(i64),
    None,
    /// The days from here on have no sale of the product. The others were not read yet.
    Before(i64),
}

const DAY_SQL: &str =
    "SELECT max(start_us) FROM sales_by_product WHERE tenant = ?1 AND currency = ?2 AND start_us < ?3";
const SOLD_SQL: &str = "SELECT start_us FROM sales_by_product WHERE tenant = ?1 AND currency = ?2 AND start_us = ?3 \
                        AND product IN (SELECT id FROM product_row WHERE tenant = ?1 AND product_id = ?4) LIMIT 1";

/// Finds the last day before `before_us` on which the product was sold, in any currency.
fn last_day(
    connection: &Connection,
    tenant_id: &str,
    tenant: i64,
    product_id: &str,
    mut before_us: i64,
) -> Result<Days, ShardError> {
    let until_us = clock::monotonic_us() + STEP_US;
    let of = SalesFilter { tenant_id: tenant_id.to_owned(), currency: None };
    let currencies = currencies(connection, &of, tenant)?;
    let mut last = connection.prepare_cached(DAY_SQL)?;
    let mut sold = connection.prepare_cached(SOLD_SQL)?;
    loop {
        let mut day_us: Option<i64> = None;
        for currency in &currencies {
            let found = last.query_row(params![tenant, currency.as_str(), before_us], |row| row.get(0))?;
            day_us = day_us.max(found);
        }
        let Some(day_us) = day_us else { return Ok(Days::None) };
        for currency in &currencies {
            let values = params![tenant, currency.as_str(), day_us, product_id];
            if sold.exists(values)? {
                return Ok(Days::Found(day_us));
            }
        }
        before_us = day_us;
        if clock::monotonic_us() >= until_us {
            return Ok(Days::Before(before_us));
        }
    }
}

/// Returns what the order with this row id says about the product.
fn sale(
    connection: &Connection,
    tenant: i64,
    product_id: &str,
    row_id: i64,
) -> Result<Option<ProductSale>, ShardError> {
    let partitions = partitions_of(connection, &ORDERS)?;
    let Some(partition) = partitions.iter().rev().find(|partition| partition.first_id <= row_id) else {
        return Ok(None);
    };
    let mut by_id = connection.prepare_cached(&by_id_sql(&partition.name))?;
    let order = by_id.query_row(params![row_id, tenant], |row| Ok(found(row))).optional()?;
    let Some(order) = order.transpose()? else { return Ok(None) };
    let mut names = connection.prepare_cached(PRODUCT_SQL)?;
    let mut items = connection.prepare_cached(&items_sql(&partition.name))?;
    let mut rows = items.query(item_ids(row_id, row_id))?;
    let mut sale: Option<ProductSale> = None;
    while let Some(row) = rows.next()? {
        let (product, quantity, unit_price): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let name = names.query_row([product], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)));
        let (name, category) = name.optional()?.ok_or_else(damaged)?;
        match &mut sale {
            _ if name != product_id => {}
            Some(sale) => sale.quantity = sale.quantity.saturating_add(quantity),
            None => {
                sale = Some(ProductSale {
                    ordered_at_us: order.ordered_at_us,
                    order_id: order.order_id.clone(),
                    currency: order.currency,
                    quantity,
                    unit_price,
                    category,
                });
            }
        }
    }
    Ok(sale)
}

pub(super) fn sale_statements() -> Vec<(String, String)> {
    vec![
        ("the last day with sales".to_owned(), DAY_SQL.to_owned()),
        ("sales of a product on a day".to_owned(), SOLD_SQL.to_owned()),
    ]
}
