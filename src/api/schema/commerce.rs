//! The shapes of the commerce endpoints for the OpenAPI document.

use serde::Serialize;
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::texts::{Amount, CurrencyCode, Identifier, Name};

/// One order. Unknown fields are ignored. A known field must not occur twice in the order or in an item. The
/// total is not sent: the server computes it from the items.
#[derive(Serialize, ToSchema)]
pub struct NewOrder {
    /// 1 to 200 bytes without control characters. The tenant's own name for the order, stored once.
    #[schema(value_type = Identifier)]
    pub order_id: String,
    /// 1 to 200 bytes without control characters.
    #[schema(value_type = Identifier)]
    pub tenant_id: String,
    /// 1 to 200 bytes without control characters.
    #[schema(value_type = Identifier)]
    pub customer_id: String,
    /// At most 200 bytes without control characters. May be empty.
    #[schema(max_length = 200, pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$", example = "Ann Smith")]
    pub customer_name: String,
    /// At most 320 bytes. Either empty, or with an @ that has characters on both sides.
    #[schema(
        max_length = 320,
        pattern = r"^([^\u0000-\u001f\u007f-\u009f]+@[^\u0000-\u001f\u007f-\u009f]+)?$",
        example = "ann@example.com"
    )]
    pub customer_email: String,
    pub status: OrderState,
    /// An active ISO 4217 code.
    #[schema(value_type = CurrencyCode)]
    pub currency: String,
    /// RFC 3339 with an offset. Stored to the microsecond.
    #[schema(format = DateTime, example = "2026-03-01T12:00:00Z")]
    pub ordered_at: String,
    /// 1 to 1,000 items.
    #[schema(min_items = 1, max_items = 1000)]
    pub items: Vec<NewItem>,
}

/// One line of an order.
#[derive(Serialize, ToSchema)]
pub struct NewItem {
    /// 1 to 200 bytes without control characters.
    #[schema(value_type = Identifier)]
    pub product_id: String,
    /// 1 to 100 bytes without control characters.
    #[schema(value_type = Name)]
    pub category: String,
    #[schema(minimum = 1, maximum = 1_000_000_000, example = 2)]
    pub quantity: i64,
    #[schema(value_type = Amount)]
    pub unit_price: String,
}

/// Status of an order. Cancelled and refunded orders do not count as sales. Any status may follow any other.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum OrderState {
    Pending,
    Paid,
    Shipped,
    Delivered,
    Cancelled,
    Refunded,
}

/// Outcome of an ingest. received = inserted + duplicate + failed.
#[derive(Serialize, ToSchema)]
pub struct IngestSummary {
    #[schema(example = 3)]
    pub rows_received: u64,
    #[schema(example = 1)]
    pub rows_inserted: u64,
    /// Orders whose id the tenant already has. Those with different content are in `errors` with the code
    /// `conflict`.
    #[schema(example = 1)]
    pub rows_duplicate: u64,
    /// Lines that are not a valid order, and orders that could not be stored.
    #[schema(example = 1)]
    pub rows_failed: u64,
    /// Seconds.
    #[schema(example = 0.016)]
    pub processing_time: f64,
    #[schema(example = "2026-03-01-orders")]
    pub idempotency_key: String,
    /// The first 1,000 errors, by line.
    pub errors: Vec<IngestFault>,
    /// `true` if there were more errors than are listed.
    pub errors_truncated: bool,
    /// The first 100 form parts without a file name and archive entries whose names do not end in `.ndjson`,
    /// `.jsonl` or `.json`.
    pub skipped: Vec<SkippedPart>,
    /// `true` if more were skipped than are listed.
    pub skipped_truncated: bool,
}

/// A form part or an archive entry that was not read.
#[derive(Serialize, ToSchema)]
pub struct SkippedPart {
    /// Name of the field or the entry, shortened, without control characters.
    #[schema(example = "README.txt")]
    pub name: String,
    #[schema(example = "the entry is not named *.ndjson, *.jsonl or *.json")]
    pub reason: String,
}

/// Progress of an upload and the outcome of its rows so far: the members of an ingest's summary, and its own.
#[derive(Serialize, ToSchema)]
pub struct UploadSummary {
    /// 32 hexadecimal digits.
    #[schema(example = "5f0c4be0a1d94c0e8f1b6b1f5f7a9c3d")]
    pub id: String,
    /// Offset before which everything is stored.
    #[schema(example = 8_388_608)]
    pub offset: u64,
    /// Size of the whole file in bytes. Null until it is known.
    #[schema(example = 20_971_520)]
    pub length: Option<u64>,
    /// `receiving`, `finished`, `expired`, or `failed`: the rest cannot be read, while rows that were stored
    /// remain, or no line is a valid order.
    #[schema(example = "receiving")]
    pub state: String,
    /// Reason of the failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub detail: Option<String>,
    #[schema(format = DateTime, example = "2026-03-01T12:00:00Z")]
    pub created_at: String,
    #[schema(format = DateTime, example = "2026-03-02T12:00:00Z")]
    pub expires_at: String,
    /// Orders that are stored, inserted or duplicate. They survive a kill of the process.
    #[schema(example = 20_000)]
    pub rows_committed: u64,
    #[serde(flatten)]
    pub summary: IngestSummary,
}

/// Errors of one line.
#[derive(Serialize, ToSchema)]
pub struct IngestFault {
    /// Line number, from 1, counted across all entries of an archive and all files of a form.
    #[schema(example = 3)]
    pub line: u64,
    /// The order's id, if it could be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "o-1003")]
    pub order_id: Option<String>,
    /// JSON Pointer to the first invalid field. Empty for the line as a whole.
    #[schema(example = "/items/0/unit_price")]
    pub pointer: String,
    /// Stable code. More may be added.
    #[schema(example = "too_many_digits")]
    pub code: String,
    /// All errors of the line, for people.
    pub detail: String,
}

/// A new status for an order. Other members are not allowed.
#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StatusChange {
    pub status: OrderState,
    /// Time of the change, RFC 3339 with an offset, at most 24 hours ahead. Default: now.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime, example = "2026-03-02T09:00:00Z")]
    pub occurred_at: Option<String>,
}

/// The status and the sums are committed.
#[derive(Serialize, ToSchema)]
pub struct StatusChanged {
    #[schema(example = "o-1001")]
    pub order_id: String,
    pub status: OrderState,
    /// `false` if the order already had this status.
    pub changed: bool,
    /// `true` if a change with a later time was applied before. Nothing changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub superseded: Option<bool>,
}

/// A stored order.
#[derive(Serialize, ToSchema)]
pub struct StoredOrder {
    #[schema(example = "o-1001")]
    pub order_id: String,
    #[schema(example = "acme")]
    pub tenant_id: String,
    #[schema(example = "c-7")]
    pub customer_id: String,
    #[schema(example = "Ann Smith")]
    pub customer_name: String,
    #[schema(example = "ann@example.com")]
    pub customer_email: String,
    pub status: OrderState,
    #[schema(example = "USD")]
    pub currency: String,
    /// UTC.
    #[schema(format = DateTime, example = "2026-03-01T12:00:00Z")]
    pub ordered_at: String,
    /// A decimal string with as many digits after the point as the currency has.
    #[schema(example = "39.98")]
    pub total: String,
    /// Sum of the quantities.
    #[schema(example = 2)]
    pub units: i64,
    pub items: Vec<StoredItem>,
    /// Time of acceptance, UTC. Only with `fields=received_at`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, format = DateTime, example = "2026-03-01T12:00:01.234567Z")]
    pub received_at: Option<String>,
}

/// An order that matches the search, with the fields that `fields=` names.
#[derive(Clone, Copy, Debug)]
pub struct FoundOrder;

impl PartialSchema for FoundOrder {
    fn schema() -> RefOr<Schema> {
        let mut found = StoredOrder::schema();
        if let RefOr::T(Schema::Object(order)) = &mut found {
            order.required.clear();
        }
        found
    }
}

impl ToSchema for FoundOrder {}

/// The last line of a stream of rows.
#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EndOfRows {
    pub _end: bool,
    pub rows: u64,
    /// Cursor of the next orders. Null at the end.
    pub next_cursor: Option<String>,
}

/// One line of a stored order.
#[derive(Serialize, ToSchema)]
pub struct StoredItem {
    #[schema(example = "p-1")]
    pub product_id: String,
    #[schema(example = "garden")]
    pub category: String,
    #[schema(example = 2)]
    pub quantity: i64,
    #[schema(example = "19.99")]
    pub unit_price: String,
}

/// Orders, newest first.
#[derive(Serialize, ToSchema)]
pub struct OrderPage {
    #[schema(value_type = Vec<FoundOrder>)]
    pub orders: Vec<StoredOrder>,
    pub rows: u64,
    /// Cursor of the next orders. Null at the end.
    pub next_cursor: Option<String>,
}

/// Figures of a tenant's sales, and the method by which they were computed.
#[derive(Serialize, ToSchema)]
pub struct Sales {
    /// Sorted by time or name, then by currency. Groups without a sale are omitted.
    pub groups: Vec<SalesGroup>,
    pub meta: SalesMeta,
}

/// The sales of one day, hour, product or category, in one currency.
#[derive(Serialize, ToSchema)]
pub struct SalesGroup {
    /// A date, an hour with its offset, a product or a category.
    #[schema(example = "2026-03-01")]
    pub key: String,
    #[schema(example = "USD")]
    pub currency: String,
    /// Number of orders. For a product or category: orders that contain at least one of its items.
    #[schema(example = 2)]
    pub orders: i64,
    #[schema(example = 3)]
    pub units: i64,
    /// A decimal string. For a product or category: the cost of its items.
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

/// The method by which the figures were computed.
#[derive(Serialize, ToSchema)]
pub struct SalesMeta {
    /// `exact` or `approx`, as requested.
    #[schema(example = "exact")]
    pub precision: String,
    pub method: SalesMethod,
    /// Errors of the estimated figures. Empty if no figure is estimated.
    #[schema(value_type = Object)]
    pub error_bounds: serde_json::Value,
    /// Number of orders and sums read. 0 if the answer was cached.
    pub rows_scanned: u64,
    /// `true` if the answer comes from sums that are maintained with the orders.
    pub preaggregated: bool,
    /// `true` if the answer was computed earlier and no order of the tenant has changed since.
    pub materialized: bool,
    #[schema(format = DateTime, example = "2026-03-01T12:00:02Z")]
    pub as_of: String,
    #[schema(example = 1.4)]
    pub elapsed_ms: f64,
}

/// The source of each figure.
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

/// Outcome of the products of a request.
#[derive(Serialize, ToSchema)]
pub struct StockUpdated {
    /// Products that were changed.
    pub applied: usize,
    /// Products that the same events had changed before.
    pub duplicates: usize,
    /// Products with a conflict or a rejection.
    pub failed: usize,
    /// Products whose outcome is not known yet.
    pub pending: usize,
    /// Sorted by the first update of each product.
    pub products: Vec<StockProductResult>,
}

/// Outcome of one product.
#[derive(Serialize, ToSchema)]
pub struct StockProductResult {
    /// Null if an update does not name its product.
    pub product_id: Option<String>,
    /// `applied`, `duplicate` (the same events were applied before; quantity and version are those of the
    /// first time), `conflict`, `rejected`, `pending` (safe in the journal and decided later) or `unknown`.
    #[schema(value_type = String, example = "applied")]
    pub result: &'static str,
    /// The stock at the time of the decision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quantity: Option<i64>,
    /// The version at that time. Every applied change increases it by one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<i64>,
    /// `superseded` (accepted, but a newer event applies), `negative_stock`, `stale_version`,
    /// `event_id_reused`, `partly_seen`, `stock_too_large`, `queue_full`, `journal_full`, `overloaded`,
    /// `outcome_unknown`, `internal`, or the code of an invalid field.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub code: Option<&'static str>,
    /// JSON Pointer into the request to the invalid part.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
}

/// The stock of a product.
#[derive(Serialize, ToSchema)]
pub struct StockLevelState {
    #[schema(example = "p-1")]
    pub product_id: String,
    /// Negative only if imported stock adds up to less than zero.
    #[schema(example = 40)]
    pub quantity: i64,
    /// Number of changes so far. The `ETag` has the same value.
    #[schema(minimum = 1, example = 3)]
    pub version: i64,
    /// Time at which the last change was accepted.
    #[schema(format = DateTime)]
    pub updated_at: String,
}
