//! The shapes of sales in responses.

use serde::Serialize;
use utoipa::ToSchema;

/// A tenant's sales figures, and how they were computed.
#[derive(Serialize, ToSchema)]
pub struct Sales {
    /// Sorted by time or name, then by currency. Groups without a sale are omitted.
    pub groups: Vec<SalesGroup>,
    pub meta: SalesMeta,
}

/// The sales of one day, hour, product or category, in one currency.
#[derive(Serialize, ToSchema)]
pub struct SalesGroup {
    /// A date, the start of an hour in UTC, a product or a category.
    #[schema(example = "2026-03-01")]
    pub key: String,
    #[schema(example = "USD")]
    pub currency: String,
    /// Number of orders. For a product or category, the orders that contain at least one of its items.
    #[schema(example = 2)]
    pub orders: i64,
    #[schema(example = 3)]
    pub units: i64,
    /// A decimal string. For a product or category, the cost of its items.
    #[schema(example = "59.97")]
    pub revenue: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = 2)]
    pub unique_customers: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub order_value: Option<OrderValues>,
}

/// Percentiles of order totals, as decimal strings.
#[derive(Serialize, ToSchema)]
pub struct OrderValues {
    #[schema(example = "19.99")]
    pub p50: String,
    #[schema(example = "39.98")]
    pub p95: String,
    #[schema(example = "39.98")]
    pub p99: String,
}

/// How the figures were computed.
#[derive(Serialize, ToSchema)]
pub struct SalesMeta {
    /// `approx` if a figure is estimated. `approx` that was computed exactly says `exact`.
    #[schema(example = "exact")]
    pub precision: String,
    pub method: SalesMethod,
    /// Error bounds of the estimated figures. Empty if no figure is estimated.
    #[schema(value_type = Object)]
    pub error_bounds: serde_json::Value,
    /// Number of orders and sums read. 0 if the answer was cached.
    pub rows_scanned: u64,
    /// `true` if the answer comes from sums that are updated together with the orders.
    pub preaggregated: bool,
    /// `true` if the answer was computed earlier and none of the tenant's orders has changed since.
    pub materialized: bool,
    #[schema(format = DateTime, example = "2026-03-01T12:00:02Z")]
    pub as_of: String,
    /// Only if the range had no beginning and retention has deleted orders or figures that days of it require: the
    /// figures do not count these days.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub incomplete_days: Option<IncompleteDays>,
    /// Only with `incomplete_days`: the figures count every day from here on.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, format = DateTime, example = "2026-02-01T00:00:00Z")]
    pub complete_from: Option<String>,
    #[schema(example = 1.4)]
    pub elapsed_ms: f64,
}

/// Days in UTC that the figures do not count. A group by day or hour that overlaps one is omitted.
#[derive(Serialize, ToSchema)]
pub struct IncompleteDays {
    #[schema(example = 31)]
    pub count: u64,
    #[schema(format = Date, example = "2026-01-01")]
    pub first: String,
    #[schema(format = Date, example = "2026-01-31")]
    pub last: String,
}

/// Where each figure comes from.
#[derive(Serialize, ToSchema)]
pub struct SalesMethod {
    /// Orders, units and revenue are always `exact`.
    #[schema(example = "exact")]
    pub counts: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "hyperloglog p=14")]
    pub unique_customers: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "t-digest compression=200")]
    pub order_value: Option<String>,
}
