//! The shapes of the endpoints of exports, as they are described in the OpenAPI document.

use serde::Serialize;
use utoipa::ToSchema;

/// What an export is to be. All but the format may be left out.
#[derive(Serialize, ToSchema)]
pub struct NewExport {
    /// `csv` (RFC 4180, with a header line), `ndjson` or `parquet`.
    #[schema(example = "parquet")]
    pub format: String,
    /// What a row is: `orders` (an order, the default) or `items` (a line of an order, with what the order has).
    #[schema(example = "items")]
    pub rows: Option<String>,
    pub filters: Option<ExportFilters>,
    /// The columns, in this order. Of orders: order_id, tenant_id, customer_id, customer_name, customer_email, status,
    /// currency, ordered_at, total, units, item_count, items (JSON), received_at. Of items all of these but items, and
    /// line, product_id, category, quantity, unit_price, amount.
    #[schema(example = json!(["order_id", "ordered_at", "product_id", "amount"]))]
    pub fields: Option<Vec<String>>,
    /// `none` (the default), `gzip` or `zstd`: of CSV and NDJSON the file, of Parquet the pages in it.
    #[schema(example = "zstd")]
    pub compression: Option<String>,
}

/// Which orders: the parameters of a search.
#[derive(Serialize, ToSchema)]
pub struct ExportFilters {
    #[schema(format = DateTime, example = "2026-01-01T00:00:00Z")]
    pub from: Option<String>,
    #[schema(format = DateTime)]
    pub to: Option<String>,
    /// The first day. Not with from or to.
    #[schema(format = Date)]
    pub start_date: Option<String>,
    /// The last day, included.
    #[schema(format = Date)]
    pub end_date: Option<String>,
    /// An IANA zone, whose days they are.
    #[schema(example = "Europe/Berlin")]
    pub tz: Option<String>,
    pub product_id: Option<Vec<String>>,
    #[schema(example = json!(["paid", "shipped"]))]
    pub status: Option<Vec<String>>,
    #[schema(example = "10.00")]
    pub min_total: Option<String>,
    pub max_total: Option<String>,
    /// Words of the customer's name or e-mail address; a star at the end of one makes it a prefix.
    pub q: Option<String>,
}

/// One export, and how far it is.
#[derive(Serialize, ToSchema)]
pub struct ExportStatus {
    /// 32 hexadecimal digits.
    #[schema(example = "5f0c4be0a1d94c0e8f1b6b1f5f7a9c3d")]
    pub id: String,
    #[schema(example = "acme")]
    pub tenant_id: String,
    /// `queued` (others run first), `running`, `done`, `failed`, `expired` or `erased` (its file told
    /// of a person who was erased).
    #[schema(example = "running")]
    pub state: String,
    #[schema(example = "parquet")]
    pub format: String,
    #[schema(example = "items")]
    pub rows_are: String,
    #[schema(example = "zstd")]
    pub compression: String,
    pub filters: ExportFilters,
    pub fields: Vec<String>,
    #[schema(format = DateTime)]
    pub created_at: String,
    #[schema(format = DateTime)]
    pub finished_at: Option<String>,
    /// When the file goes; later the name too.
    #[schema(format = DateTime)]
    pub expires_at: Option<String>,
    /// Orders that it tells, once they are chosen.
    #[schema(example = 3_333_333)]
    pub orders: Option<u64>,
    /// Rows that are in the file by now.
    #[schema(example = 1_228_800)]
    pub rows: u64,
    /// Bytes of the file that can be downloaded by now.
    pub bytes: u64,
    /// 100 when it is done.
    #[schema(example = 12.2)]
    pub percent: f64,
    /// `sha-256:` and 64 hexadecimal digits, once it is done.
    pub digest: Option<String>,
    /// Why it failed.
    pub error: Option<String>,
    pub url: String,
    pub download_url: String,
}

/// A tenant's exports, newest first.
#[derive(Serialize, ToSchema)]
pub struct ExportList {
    pub exports: Vec<ExportStatus>,
}
