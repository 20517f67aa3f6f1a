//! The order shapes in requests and responses.

use serde::Serialize;
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::api::schema::texts::{Amount, CurrencyCode, Identifier, Name};

/// One order. Unknown fields are ignored. A known field must not occur twice in the order or in an item. The total is
/// not sent: the server computes it from the items.
#[derive(Serialize, ToSchema)]
pub struct NewOrder {
    /// 1 to 200 bytes without control characters. The tenant's own id for the order. An order with the same id is
    /// stored only once.
    #[schema(value_type = Identifier)]
    pub order_id: String,
    /// 1 to 200 bytes without control characters.
    #[schema(value_type = Identifier)]
    pub tenant_id: String,
    /// 1 to 200 bytes without control characters.
    #[schema(value_type = Identifier)]
    pub customer_id: String,
    /// At most 200 bytes without control characters. It may be empty.
    #[schema(max_length = 200, pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$", example = "Ann Smith")]
    pub customer_name: String,
    /// At most 320 bytes. Either empty, or an address with characters on both sides of an @.
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
    /// RFC 3339 with an offset. It is stored to the microsecond.
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

/// An order's status. Cancelled and refunded orders do not count as sales. Any status may follow any other.
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

/// The outcome of an ingest. received = inserted + duplicate + failed.
#[derive(Serialize, ToSchema)]
pub struct IngestSummary {
    #[schema(example = 3)]
    pub rows_received: u64,
    #[schema(example = 1)]
    pub rows_inserted: u64,
    /// Orders whose id the tenant already has. Those with different content are in `errors` with the code `conflict`.
    #[schema(example = 1)]
    pub rows_duplicate: u64,
    /// Lines that are not a valid order, and orders that could not be stored.
    #[schema(example = 1)]
    pub rows_failed: u64,
    /// In seconds.
    #[schema(example = 0.016)]
    pub processing_time: f64,
    #[schema(example = "2026-03-01-orders")]
    pub idempotency_key: String,
    /// The first 1,000 errors, sorted by line.
    pub errors: Vec<IngestFault>,
    /// `true` if there were more errors than are listed.
    pub errors_truncated: bool,
    /// The first 100 form parts without a file name and archive entries whose names do not end in `.ndjson`,
    /// `.jsonl` or `.json`.
    pub skipped: Vec<SkippedPart>,
    /// `true` if more parts or entries were skipped than are listed.
    pub skipped_truncated: bool,
}

/// A form part or an archive entry that was not read.
#[derive(Serialize, ToSchema)]
pub struct SkippedPart {
    /// The name of the field or the entry, shortened and without control characters.
    #[schema(example = "README.txt")]
    pub name: String,
    #[schema(example = "the entry is not named *.ndjson, *.jsonl or *.json")]
    pub reason: String,
}

/// The errors in one line.
#[derive(Serialize, ToSchema)]
pub struct IngestFault {
    /// The line number, counted from 1 across all entries of an archive and all files of a form.
    #[schema(example = 3)]
    pub line: u64,
    /// The order's id, if it could be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "o-1003")]
    pub order_id: Option<String>,
    /// JSON Pointer to the first invalid field. It is empty for the line as a whole.
    #[schema(example = "/items/0/unit_price")]
    pub pointer: String,
    /// A stable code. More codes may be added.
    #[schema(example = "too_many_digits")]
    pub code: String,
    /// All errors in the line, as text for people.
    pub detail: String,
}

/// A new status for an order. Other members are not allowed.
#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StatusChange {
    pub status: OrderState,
    /// The time of the change, RFC 3339 with an offset, at most 24 hours ahead. The default is now.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime, example = "2026-03-02T09:00:00Z")]
    pub occurred_at: Option<String>,
}

/// The response to a status change. The status and the sums are committed.
#[derive(Serialize, ToSchema)]
pub struct StatusChanged {
    #[schema(example = "o-1001")]
    pub order_id: String,
    pub status: OrderState,
    /// `false` if the order already had this status.
    pub changed: bool,
    /// `true` if a change with a later time was applied before. In that case, nothing changed.
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
    /// The sum of the quantities.
    #[schema(example = 2)]
    pub units: i64,
    pub items: Vec<StoredItem>,
    /// The time of acceptance, in UTC. It is present only with `fields=received_at`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, format = DateTime, example = "2026-03-01T12:00:01.234567Z")]
    pub received_at: Option<String>,
}

/// An order that matches the search, with the fields listed in `fields=`.
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
    /// The cursor for the next orders. It is null at the end.
    pub next_cursor: Option<String>,
}
