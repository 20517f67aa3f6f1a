//! The export shapes in requests and responses.

use serde::Serialize;
use utoipa::ToSchema;
use utoipa::openapi::schema::{AnyOfBuilder, ArrayBuilder, ObjectBuilder, SchemaType, Type};
use utoipa::openapi::{Ref, RefOr, Schema};

use super::body::ExportRows;
use super::columns::Column;
use crate::api::openapi::parameters::{of_form, period, time_or_date};
use crate::api::schema::texts::{CurrencyCode, Identifier, Name};
use crate::orders::OrderState;

/// A request for an export. Only `format` is required.
#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewExport {
    pub format: ExportFormatName,
    /// What a row describes: `orders` (one row per order, the default), `items` (one row per item, with its order's
    /// columns) or `events` (one row per service event).
    pub rows: Option<ExportRowsName>,
    pub filters: Option<ExportFilters>,
    #[schema(schema_with = columns, required = false)]
    pub fields: Option<Vec<String>>,
    /// `none` (the default), `gzip` or `zstd`. In CSV and NDJSON, it compresses the file; in Parquet, the pages
    /// within the file.
    pub compression: Option<CompressionName>,
}

/// `csv` (RFC 4180, with a header line), `ndjson` or `parquet`.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ExportFormatName {
    Csv,
    Ndjson,
    Parquet,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ExportRowsName {
    Orders,
    Items,
    Events,
}

/// A request for an export of clicks. Only `format` is required.
#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewClickExport {
    pub format: ExportFormatName,
    /// What a row describes: a click, always.
    pub rows: Option<ClickExportRowsName>,
    pub filters: Option<ClickExportFilters>,
    #[schema(schema_with = click_columns, required = false)]
    pub fields: Option<Vec<String>>,
    /// `none` (the default), `gzip` or `zstd`. In CSV and NDJSON, it compresses the file; in Parquet, the pages
    /// within the file.
    pub compression: Option<CompressionName>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ClickExportRowsName {
    Clicks,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum CompressionName {
    None,
    Gzip,
    Zstd,
}

/// Describes a list that may be absent or null, but not empty.
fn list(items: ObjectBuilder, description: &str) -> ArrayBuilder {
    ArrayBuilder::new()
        .schema_type(SchemaType::from_iter([Type::Array, Type::Null]))
        .items(items)
        .min_items(Some(1))
        .description(Some(description))
}

/// Describes `fields`. The first columns of the example are in `example`.
fn columns_of(rows: &[ExportRows], example: &[&str]) -> RefOr<Schema> {
    let names = |rows: &[ExportRows]| Column::of(rows).map(Column::name).collect::<Vec<_>>();
    let of_each = rows.iter().map(|one| format!("For {}: {}.", one.name(), names(&[*one]).join(", ")));
    let description =
        format!("The columns, in this order, without repetition. {}", of_each.collect::<Vec<_>>().join(" "));
    list(ObjectBuilder::new().schema_type(Type::String).enum_values(Some(names(rows))), &description)
        .unique_items(true)
        .examples([serde_json::json!(example)])
        .into()
}

fn columns() -> RefOr<Schema> {
    columns_of(ExportRows::OF_TENANT, &["order_id", "ordered_at", "product_id", "amount"])
}

fn click_columns() -> RefOr<Schema> {
    columns_of(ExportRows::OF_ALL, &["user_id", "timestamp", "metadata"])
}

/// Describes a bound of a period that may be absent or null.
fn bound(description: &str) -> RefOr<Schema> {
    let null = ObjectBuilder::new().schema_type(Type::Null);
    time_or_date().item(null).description(Some(description)).into()
}

fn from() -> RefOr<Schema> {
    bound(period::FROM)
}

fn to() -> RefOr<Schema> {
    bound(period::TO)
}

fn start_date() -> RefOr<Schema> {
    bound(period::START_DATE)
}

fn end_date() -> RefOr<Schema> {
    bound(period::END_DATE)
}

fn tz() -> RefOr<Schema> {
    let zone = of_form("time-zone").schema_type(SchemaType::from_iter([Type::String, Type::Null]));
    zone.description(Some(period::TZ)).examples(["Europe/Berlin"]).into()
}

fn filters() -> RefOr<Schema> {
    AnyOfBuilder::new()
        .item(Ref::from_schema_name("ExportFilters"))
        .item(Ref::from_schema_name("ClickExportFilters"))
        .description(Some("The filters of the request: of a tenant's rows, or of clicks."))
        .into()
}

fn products() -> RefOr<Schema> {
    let product = ObjectBuilder::new().schema_type(Type::String).min_length(Some(1)).max_length(Some(200));
    list(product, "Orders that contain at least one of these products.").max_items(Some(50)).into()
}

/// Filters that select clicks. The members are parameters of `GET /clicks`.
#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ClickExportFilters {
    #[schema(schema_with = from, required = false)]
    pub from: Option<String>,
    #[schema(schema_with = to, required = false)]
    pub to: Option<String>,
    #[schema(schema_with = start_date, required = false)]
    pub start_date: Option<String>,
    #[schema(schema_with = end_date, required = false)]
    pub end_date: Option<String>,
    #[schema(schema_with = tz, required = false)]
    pub tz: Option<String>,
    /// Only clicks of this user.
    #[schema(example = 12345)]
    pub user_id: Option<i64>,
}

/// Filters that select rows. For orders and items, the members are parameters of a search; for events, of
/// `GET /events`: `source` and `event_type`, and the times. A filter of other rows is refused.
#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExportFilters {
    #[schema(schema_with = from, required = false)]
    pub from: Option<String>,
    #[schema(schema_with = to, required = false)]
    pub to: Option<String>,
    #[schema(schema_with = start_date, required = false)]
    pub start_date: Option<String>,
    #[schema(schema_with = end_date, required = false)]
    pub end_date: Option<String>,
    #[schema(schema_with = tz, required = false)]
    pub tz: Option<String>,
    /// Only the order with this id, if it matches the other conditions.
    #[schema(value_type = Option<Identifier>)]
    pub order_id: Option<String>,
    /// Only orders of the customer with this id.
    #[schema(value_type = Option<Identifier>)]
    pub customer_id: Option<String>,
    #[schema(schema_with = products, required = false)]
    pub product_id: Option<Vec<String>>,
    /// Only orders with an item of this category.
    #[schema(value_type = Option<Name>)]
    pub category: Option<String>,
    /// Only orders with an item whose price is at least this. If there are several conditions on items, the same item
    /// must meet all.
    #[schema(pattern = r"^-?[0-9]+(\.[0-9]{1,4}0*)?$", example = "5.00")]
    pub min_price: Option<String>,
    #[schema(pattern = r"^-?[0-9]+(\.[0-9]{1,4}0*)?$", example = "50.00")]
    pub max_price: Option<String>,
    /// Only orders in this currency, ISO 4217.
    #[schema(value_type = Option<CurrencyCode>)]
    pub currency: Option<String>,
    #[schema(min_items = 1)]
    pub status: Option<Vec<OrderState>>,
    #[schema(pattern = r"^-?[0-9]+(\.[0-9]{1,4}0*)?$", example = "10.00")]
    pub min_total: Option<String>,
    #[schema(pattern = r"^-?[0-9]+(\.[0-9]{1,4}0*)?$", example = "99.00")]
    pub max_total: Option<String>,
    /// Words in the customer's name or e-mail address. A word with a trailing star matches as a prefix.
    #[schema(format = "search-words", example = "ann*")]
    pub q: Option<String>,
    /// Only events from this source.
    #[schema(value_type = Option<Name>)]
    pub source: Option<String>,
    /// Only events of this type.
    #[schema(value_type = Option<Name>)]
    pub event_type: Option<String>,
}

/// The state and progress of one export.
#[derive(Serialize, ToSchema)]
pub struct ExportStatus {
    /// 32 hexadecimal digits.
    #[schema(example = "5f0c4be0a1d94c0e8f1b6b1f5f7a9c3d")]
    pub id: String,
    /// The tenant. An export of clicks has none.
    #[schema(example = "acme")]
    pub tenant_id: Option<String>,
    /// `queued` (others run first), `running`, `done`, `failed`, `expired` or `erased` (the file contained an erased
    /// person).
    #[schema(example = "running")]
    pub state: String,
    #[schema(example = "parquet")]
    pub format: String,
    #[schema(example = "items")]
    pub rows_are: String,
    #[schema(example = "zstd")]
    pub compression: String,
    #[schema(schema_with = filters)]
    pub filters: ExportFilters,
    pub fields: Vec<String>,
    #[schema(format = DateTime)]
    pub created_at: String,
    #[schema(format = DateTime)]
    pub finished_at: Option<String>,
    /// When the file is deleted. The export's record is deleted later.
    #[schema(format = DateTime)]
    pub expires_at: Option<String>,
    /// For orders and items: the number of selected orders, once they are selected.
    #[schema(example = 3_333_333)]
    pub orders: Option<u64>,
    /// The number of selected orders, events or clicks, once they are selected.
    #[schema(example = 3_333_333)]
    pub selected: Option<u64>,
    /// The number of rows in the file so far.
    #[schema(example = 1_228_800)]
    pub rows: u64,
    /// The number of bytes that can be downloaded so far.
    pub bytes: u64,
    /// The percentage of selected orders, events or clicks in the file. It is 100 when the export is done.
    #[schema(example = 12.2)]
    pub percent: f64,
    /// `sha-256:` and 64 hexadecimal digits, once the export is done.
    pub digest: Option<String>,
    /// The reason for the failure.
    pub error: Option<String>,
    pub url: String,
    pub download_url: String,
}

/// A tenant's exports, newest first.
#[derive(Serialize, ToSchema)]
pub struct ExportList {
    pub exports: Vec<ExportStatus>,
}
