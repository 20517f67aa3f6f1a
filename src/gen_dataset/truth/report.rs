//! `truth.json`: the totals with their names, written tenant by tenant. Amounts are decimal strings.

use std::collections::BTreeMap;

use serde::Serialize;

use super::super::catalogue::CATEGORIES;
use super::super::currency::Currency;
use super::super::error::GenError;
use super::super::folder::Draft;
use super::super::generate::Table;
use super::super::tally::Quantiles;
use super::super::text::date;
use super::super::world::{World, product_id};
use super::counts::{RowCounts, TenantCounts};
use super::{Day, Sum, TenantTruth};
use crate::orders::OrderStatus;

/// The number of products in `by_product_top`: those with the most revenue. If the revenue is equal, the lower
/// product number is first.
const TOP: usize = 20;

#[derive(Serialize)]
struct TenantReport {
    currency: &'static str,
    orders_all: u64,
    by_status: BTreeMap<&'static str, u64>,
    #[serde(flatten)]
    sales: SumReport,
    unique_customers: u64,
    order_value: ValueReport,
    by_day: BTreeMap<String, DayReport>,
    by_category: BTreeMap<&'static str, CategoryReport>,
    by_product_top: Vec<ProductReport>,
    price_history: PriceReport,
    stock_events: StockReport,
}

/// The price history: its samples, the products that have some, and the sum of their newest prices.
#[derive(Serialize)]
struct PriceReport {
    samples: u64,
    products: u64,
    newest_total: String,
}

/// The stock: its events, the products that have some, and the sum of their levels after the last event.
#[derive(Serialize)]
struct StockReport {
    events: u64,
    products: u64,
    units: u64,
}

#[derive(Serialize)]
struct SumReport {
    orders: u64,
    units: u64,
    revenue: String,
}

#[derive(Serialize)]
struct ValueReport {
    p50: String,
    p95: String,
    p99: String,
}

#[derive(Serialize)]
struct DayReport {
    #[serde(flatten)]
    sales: SumReport,
    unique_customers: u64,
    order_value: ValueReport,
}

#[derive(Serialize)]
struct CategoryReport {
    #[serde(flatten)]
    sales: SumReport,
    unique_customers: u64,
}

#[derive(Serialize)]
struct ProductReport {
    key: String,
    #[serde(flatten)]
    sales: SumReport,
}

/// Writes the report as indented JSON. `row_done` is called after each order that is counted.
pub(in super::super) fn write(
    counts: &RowCounts,
    world: &World,
    draft: &mut Draft,
    row_done: &mut dyn FnMut(),
) -> Result<(), GenError> {
    let rows = Table::ALL.into_iter().map(|table| (table.name(), table.rows(&world.spec)));
    let rows: BTreeMap<_, _> = rows.chain([("order_items", counts.order_items)]).collect();
    let out = draft.buffer();
    out.extend_from_slice(format!("{{\n  \"seed\": {},\n  \"rows\": ", world.spec.seed).as_bytes());
    push_json(&rows, "\n  ", out);
    out.extend_from_slice(b",\n  \"tenants\": {");
    for (index, (tenant, counted)) in (0..).zip(world.tenants.iter().zip(&counts.tenants)) {
        let mut truth = TenantTruth::of(world, index, row_done);
        let report = of_tenant(&mut truth, *counted, tenant.currency);
        let out = draft.buffer();
        out.extend_from_slice(if index == 0 { b"\n    " } else { b",\n    " });
        push_json(&tenant.id, "\n    ", out);
        out.extend_from_slice(b": ");
        push_json(&report, "\n    ", out);
        draft.row_done()?;
    }
    draft.buffer().extend_from_slice(b"\n  }\n}\n");
    draft.row_done()
}

/// Appends a value as indented JSON. Each of its lines but the first begins with `indent`.
fn push_json(value: &impl Serialize, indent: &str, out: &mut Vec<u8>) {
    // The report consists of strings and integers under string keys, which JSON can always represent. A line break
    // within a string is escaped, so every other one begins a line.
    let text = serde_json::to_string_pretty(value).unwrap_or_default();
    out.extend_from_slice(text.replace('\n', indent).as_bytes());
}

fn of_tenant(truth: &mut TenantTruth, counted: TenantCounts, currency: Currency) -> TenantReport {
    let order_value = of_value(truth.order_value(), currency);
    let by_day = |day: &Day| {
        let report = DayReport {
            sales: of_sum(day.sum, currency),
            unique_customers: day.unique_customers,
            order_value: of_value(day.order_value, currency),
        };
        (String::from_utf8_lossy(&date(day.day)).into_owned(), report)
    };
    let categories = CATEGORIES.iter().zip(&truth.categories).filter(|(_, (sum, _))| sum.orders > 0);
    let by_category = categories.map(|(category, (sum, unique))| {
        (category.name, CategoryReport { sales: of_sum(*sum, currency), unique_customers: *unique })
    });
    let mut products: Vec<(u32, Sum)> = (0..).zip(truth.products.iter().copied()).collect();
    products.retain(|(_, sum)| sum.orders > 0);
    products.sort_unstable_by_key(|(number, sum)| (std::cmp::Reverse(sum.revenue_minor), *number));
    let top = products.into_iter().take(TOP).map(|(number, sum)| ProductReport {
        key: product_id(number).as_str().to_owned(),
        sales: of_sum(sum, currency),
    });
    TenantReport {
        currency: currency.code,
        orders_all: truth.orders_all,
        by_status: OrderStatus::ALL.iter().map(|status| status.as_str()).zip(truth.by_status).collect(),
        sales: of_sum(truth.sales, currency),
        unique_customers: truth.unique_customers,
        order_value,
        by_day: truth.days.iter().map(by_day).collect(),
        by_category: by_category.collect(),
        by_product_top: top.collect(),
        price_history: PriceReport {
            samples: counted.prices.rows,
            products: counted.prices.products,
            newest_total: currency.text(counted.prices.last_sum),
        },
        stock_events: StockReport {
            events: counted.stock.rows,
            products: counted.stock.products,
            units: counted.stock.last_sum,
        },
    }
}

fn of_sum(sum: Sum, currency: Currency) -> SumReport {
    SumReport { orders: sum.orders, units: sum.units, revenue: currency.text(sum.revenue_minor) }
}

fn of_value(value: Quantiles, currency: Currency) -> ValueReport {
    ValueReport {
        p50: currency.text(value.p50),
        p95: currency.text(value.p95),
        p99: currency.text(value.p99),
    }
}
