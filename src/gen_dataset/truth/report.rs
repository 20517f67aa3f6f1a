//! `truth.json`: the totals with their names. Amounts are decimal strings.

use std::collections::BTreeMap;

use serde::Serialize;

use super::super::catalogue::CATEGORIES;
use super::super::currency::Currency;
use super::super::tally::Quantiles;
use super::super::text::date;
use super::super::world::{World, product_id};
use super::{Day, Sum, TenantTruth, Truth};
use crate::orders::OrderStatus;

/// The number of products in `by_product_top`: those with the most revenue. If the revenue is equal, the lower
/// product number is first.
const TOP: usize = 20;

/// The number of rows in each table.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(in super::super) struct Rows {
    pub(in super::super) customers: u64,
    pub(in super::super) products: u64,
    pub(in super::super) orders: u64,
    pub(in super::super) order_items: u64,
    pub(in super::super) price_samples: u64,
    pub(in super::super) stock_events: u64,
}

#[derive(Serialize)]
struct Report {
    seed: u64,
    rows: Rows,
    tenants: BTreeMap<String, TenantReport>,
}

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

/// Appends the report on finished totals as indented JSON.
pub(in super::super) fn write(truth: &mut Truth, world: &World, rows: Rows, out: &mut Vec<u8>) {
    let tenants = world.tenants.iter().zip(&mut truth.tenants);
    let tenants = tenants.map(|(tenant, truth)| (tenant.id.clone(), of_tenant(truth, tenant.currency)));
    let report = Report { seed: world.spec.seed, rows, tenants: tenants.collect() };
    // The report consists of strings and integers under string keys, which JSON can always represent.
    let text = serde_json::to_string_pretty(&report).unwrap_or_default();
    out.extend_from_slice(text.as_bytes());
    out.push(b'\n');
}

fn of_tenant(truth: &mut TenantTruth, currency: Currency) -> TenantReport {
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
