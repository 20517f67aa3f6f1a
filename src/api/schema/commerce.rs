//! The shapes of the commerce endpoints, as they are described in the OpenAPI document.

use serde::Serialize;
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::texts::{Amount, CurrencyCode, Identifier, Name};

/// One order. Unknown fields are ignored; a known one must not be there twice, in the order or in one item. The total is not sent: it is
/// computed from the items.
#[derive(Serialize, ToSchema)]
pub struct NewOrder {
    /// 1 to 200 bytes without control characters; the tenant's own name for the order, stored once.
    #[schema(value_type = Identifier)]
    pub order_id: String,
    /// 1 to 200 bytes without control characters.
    #[schema(value_type = Identifier)]
    pub tenant_id: String,
    /// 1 to 200 bytes without control characters.
    #[schema(value_type = Identifier)]
    pub customer_id: String,
    /// At most 200 bytes without control characters; may be empty.
    #[schema(max_length = 200, pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$", example = "Ann Smith")]
    pub customer_name: String,
    /// At most 320 bytes; empty, or with an @ that has something on both sides.
    #[schema(
        max_length = 320,
        pattern = r"^([^\u0000-\u001f\u007f-\u009f]+@[^\u0000-\u001f\u007f-\u009f]+)?$",
        example = "ann@example.com"
    )]
    pub customer_email: String,
    pub status: OrderState,
    /// An active code of ISO 4217.
    #[schema(value_type = CurrencyCode)]
    pub currency: String,
    /// RFC 3339 with an offset. Kept to the microsecond.
    #[schema(format = DateTime, example = "2026-03-01T12:00:00Z")]
    pub ordered_at: String,
    /// 1 to 1,000 of them.
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

/// Where an order stands. Cancelled and refunded orders are no sales; any status may follow any other.
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

/// What became of an ingest: received = inserted + duplicate + failed.
#[derive(Serialize, ToSchema)]
pub struct IngestSummary {
    #[schema(example = 3)]
    pub rows_received: u64,
    #[schema(example = 1)]
    pub rows_inserted: u64,
    /// Orders whose id the tenant had already. Those with other content are in `errors` with the code `conflict`.
    #[schema(example = 1)]
    pub rows_duplicate: u64,
    /// Lines that are not an order, and orders that could not be stored.
    #[schema(example = 1)]
    pub rows_failed: u64,
    /// Seconds.
    #[schema(example = 0.016)]
    pub processing_time: f64,
    #[schema(example = "2026-03-01-orders")]
    pub idempotency_key: String,
    /// The first 1,000, by line.
    pub errors: Vec<IngestFault>,
    /// Whether there were more than are listed.
    pub errors_truncated: bool,
    /// The first 100 parts of a form without a file name, and entries of archives that are not named as orders are.
    pub skipped: Vec<SkippedPart>,
    /// Whether there were more than are listed.
    pub skipped_truncated: bool,
}

/// Part of a form or entry of an archive that was not read.
#[derive(Serialize, ToSchema)]
pub struct SkippedPart {
    /// Of the field or the entry; shortened, without control characters.
    #[schema(example = "README.txt")]
    pub name: String,
    #[schema(example = "the entry is not named *.ndjson, *.jsonl or *.json")]
    pub reason: String,
}

/// How far an upload is, and what became of its rows so far: the members of an ingest's summary beside its own.
#[derive(Serialize, ToSchema)]
pub struct UploadSummary {
    /// 32 hexadecimal digits.
    #[schema(example = "5f0c4be0a1d94c0e8f1b6b1f5f7a9c3d")]
    pub id: String,
    /// Bytes before which everything is stored.
    #[schema(example = 8_388_608)]
    pub offset: u64,
    /// Bytes of the whole file; null until it is told.
    #[schema(example = 20_971_520)]
    pub length: Option<u64>,
    /// `receiving`, `finished`, `failed` (it cannot be read any further, and what was stored stays; or no line of it is an order) or `expired`.
    #[schema(example = "receiving")]
    pub state: String,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub detail: Option<String>,
    #[schema(format = DateTime, example = "2026-03-01T12:00:00Z")]
    pub created_at: String,
    #[schema(format = DateTime, example = "2026-03-02T12:00:00Z")]
    pub expires_at: String,
    /// Orders that are stored, also after a kill: inserted and duplicate ones.
    #[schema(example = 20_000)]
    pub rows_committed: u64,
    #[serde(flatten)]
    pub summary: IngestSummary,
}

/// What is wrong with one line.
#[derive(Serialize, ToSchema)]
pub struct IngestFault {
    /// From 1, over the whole upload; the entries of an archive and the files of a form count on.
    #[schema(example = 3)]
    pub line: u64,
    /// Where it could be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "o-1003")]
    pub order_id: Option<String>,
    /// JSON Pointer to the first broken field; empty for the line as a whole.
    #[schema(example = "/items/0/unit_price")]
    pub pointer: String,
    /// Stable; more may be added.
    #[schema(example = "too_many_digits")]
    pub code: String,
    /// Everything that is wrong with the line, for people.
    pub detail: String,
}

/// A new status for an order; no other member is allowed.
#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StatusChange {
    pub status: OrderState,
    /// When it became so, RFC 3339 with an offset; now, where it is not told. At most 24 hours ahead.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime, example = "2026-03-02T09:00:00Z")]
    pub occurred_at: Option<String>,
}

/// The status is committed, and the sums with it.
#[derive(Serialize, ToSchema)]
pub struct StatusChanged {
    #[schema(example = "o-1001")]
    pub order_id: String,
    pub status: OrderState,
    /// False where the order had this status already.
    pub changed: bool,
    /// True where a change that occurred later was applied before: nothing changed.
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
    /// A decimal string with as many digits behind the point as the currency has.
    #[schema(example = "39.98")]
    pub total: String,
    /// What the quantities add up to.
    #[schema(example = 2)]
    pub units: i64,
    pub items: Vec<StoredItem>,
    /// When it was accepted, UTC; only with `fields=received_at`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, format = DateTime, example = "2026-03-01T12:00:01.234567Z")]
    pub received_at: Option<String>,
}

/// An order that was found: of a stored one what `fields=` names.
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
    /// For the orders behind these; null at the end.
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
    /// For the orders behind these; null at the end.
    pub next_cursor: Option<String>,
}

/// Figures of a tenant's sales, and how they were made.
#[derive(Serialize, ToSchema)]
pub struct Sales {
    /// In order of time or name, then currency. Groups without a sale are left out.
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
    /// Orders; of a product or category those that have one of its items.
    #[schema(example = 2)]
    pub orders: i64,
    #[schema(example = 3)]
    pub units: i64,
    /// A decimal string. Of a product or category what its items cost.
    #[schema(example = "59.97")]
    pub revenue: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = 2)]
    pub unique_customers: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub order_value: Option<OrderValues>,
}

/// Totals of whole orders at three ranks: decimal strings.
#[derive(Serialize, ToSchema)]
pub struct OrderValues {
    #[schema(example = "19.99")]
    pub p50: String,
    #[schema(example = "39.98")]
    pub p95: String,
    #[schema(example = "39.98")]
    pub p99: String,
}

/// How figures were made.
#[derive(Serialize, ToSchema)]
pub struct SalesMeta {
    /// `exact` or `approx`, as it was asked for.
    #[schema(example = "exact")]
    pub precision: String,
    pub method: SalesMethod,
    /// Of what is estimated; empty where nothing is.
    #[schema(value_type = Object)]
    pub error_bounds: serde_json::Value,
    /// Orders and sums that were read; 0 where the answer was kept from before.
    pub rows_scanned: u64,
    /// Whether it comes from the sums that are kept beside the orders.
    pub preaggregated: bool,
    /// Whether it was computed before, and no order of the tenant has changed since.
    pub materialized: bool,
    #[schema(format = DateTime, example = "2026-03-01T12:00:02Z")]
    pub as_of: String,
    #[schema(example = 1.4)]
    pub elapsed_ms: f64,
}

/// What each figure comes from.
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

/// What became of the products of a request.
#[derive(Serialize, ToSchema)]
pub struct StockUpdated {
    /// Products that were changed.
    pub applied: usize,
    /// Products that had been changed by the same events before.
    pub duplicates: usize,
    /// Products in conflict or rejected.
    pub failed: usize,
    /// Products of which nothing is known yet.
    pub pending: usize,
    /// In the order of their first updates.
    pub products: Vec<StockProductResult>,
}

/// What became of one product.
#[derive(Serialize, ToSchema)]
pub struct StockProductResult {
    /// null for an update that does not say which.
    pub product_id: Option<String>,
    /// `applied`, `duplicate` (its events were applied before: quantity and version are those of the first time),
    /// `conflict`, `rejected`, `pending` (safe in the journal, decided later) or `unknown`.
    #[schema(value_type = String, example = "applied")]
    pub result: &'static str,
    /// The stock when this was decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quantity: Option<i64>,
    /// The version then; every applied change counts it up by one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<i64>,
    /// `superseded` (applied, but a newer event stands), `negative_stock`, `stale_version`, `event_id_reused`,
    /// `partly_seen`, `stock_too_large`, `queue_full`, `journal_full`, `overloaded`, `outcome_unknown`, `internal`,
    /// or the code of a field.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub code: Option<&'static str>,
    /// JSON Pointer into the request to what is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
}

/// The stock of a product.
#[derive(Serialize, ToSchema)]
pub struct StockLevelState {
    #[schema(example = "p-1")]
    pub product_id: String,
    /// Below zero only where what was carried in from elsewhere comes to that.
    #[schema(example = 40)]
    pub quantity: i64,
    /// Changes so far; the `ETag` says the same.
    #[schema(minimum = 1, example = 3)]
    pub version: i64,
    /// When the last change was accepted.
    #[schema(format = DateTime)]
    pub updated_at: String,
}
