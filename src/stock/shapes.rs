//! The stock shapes in requests and responses. The members of an update depend on the mode.

use serde::Serialize;
use utoipa::openapi::schema::{
    ArrayBuilder, KnownFormat, ObjectBuilder, Schema, SchemaFormat, SchemaType, Type,
};
use utoipa::openapi::{OneOfBuilder, Ref, RefOr};
use utoipa::{Number, PartialSchema, ToSchema};

use super::mode::STOCK_MAX;
use super::read::StockLevel;
use crate::base::clock;
use crate::base::limits::STOCK_UPDATES_MAX;

/// Stock updates.
#[derive(Clone, Copy, Debug)]
pub struct StockUpdates;

impl PartialSchema for StockUpdates {
    fn schema() -> RefOr<Schema> {
        let counted = "The quantity with the newest `occurred_at` applies, whatever the order of arrival.";
        let expected = || expected_version().schema_type(Type::Integer);
        let ignored = || expected_version().schema_type(or_null(Type::Integer));
        let count = || update(COUNTED).property("expected_version", ignored());
        let moved = || update(MOVED).property("expected_version", ignored());
        let on_top =
            |amount| update(amount).property("expected_version", expected()).required("expected_version");
        let either = OneOfBuilder::new().item(on_top(COUNTED)).item(on_top(MOVED));
        OneOfBuilder::new()
            .item(mode("last_write_wins", counted, count()))
            .item(mode("merge", "Deltas are added.", moved()))
            .item(mode("reject", "Applies only if the product is at the expected version.", either))
            .description(Some(
                "1 to 10,000 stock updates. The updates of each product apply together or not at all. \
                 Unknown fields are ignored, and null counts as absent.",
            ))
            .into()
    }
}

impl ToSchema for StockUpdates {}

/// The names of the two amounts, and whether an update has each of them.
type Amounts = [(&'static str, bool); 2];
const COUNTED: Amounts = [("quantity", true), ("delta", false)];
const MOVED: Amounts = [("quantity", false), ("delta", true)];

fn mode(name: &str, description: &str, update: impl Into<RefOr<Schema>>) -> ObjectBuilder {
    let updates =
        ArrayBuilder::new().items(update.into()).min_items(Some(1)).max_items(Some(STOCK_UPDATES_MAX));
    ObjectBuilder::new()
        .schema_type(Type::Object)
        .description(Some(description))
        .property("mode", text().enum_values(Some([name])))
        .required("mode")
        .property("updates", updates)
        .required("updates")
}

/// Describes a product's update.
fn update(amounts: Amounts) -> ObjectBuilder {
    let event_id = "Identifies this event of the product permanently.";
    let occurred = "RFC 3339 with an offset. Stored to the microsecond.";
    let common = ObjectBuilder::new()
        .schema_type(Type::Object)
        .property("event_id", described_identifier(event_id))
        .required("event_id")
        .property("product_id", Ref::from_schema_name("Identifier"))
        .required("product_id")
        .property(
            "occurred_at",
            text().format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime))).description(Some(occurred)),
        )
        .required("occurred_at");
    amounts.into_iter().fold(common, |update, (name, is_there)| match is_there {
        true => update.property(name, amount(name)).required(name),
        false => update.property(name, ObjectBuilder::new().schema_type(Type::Null)),
    })
}

fn amount(name: &str) -> ObjectBuilder {
    let (least, description) = match name {
        "quantity" => (0, "The quantity in stock."),
        _ => (-STOCK_MAX, "The quantity added or, if negative, removed."),
    };
    ObjectBuilder::new()
        .schema_type(Type::Integer)
        .minimum(Some(Number::Int(least as isize)))
        .maximum(Some(Number::Int(STOCK_MAX as isize)))
        .description(Some(description))
}

fn expected_version() -> ObjectBuilder {
    ObjectBuilder::new().minimum(Some(Number::Int(0))).maximum(Some(Number::Int(isize::MAX))).description(Some(
        "In `reject`: the product's version that the update expects, 0 before its first change. Ignored in \
         the other modes.",
    ))
}

fn text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

fn or_null(kind: Type) -> SchemaType {
    SchemaType::from_iter([kind, Type::Null])
}

fn described_identifier(description: &str) -> Ref {
    let mut identifier = Ref::from_schema_name("Identifier");
    description.clone_into(&mut identifier.description);
    identifier
}

/// The outcome of a request's products.
#[derive(Serialize, ToSchema)]
pub struct StockUpdated {
    /// Products that were changed.
    pub applied: usize,
    /// Products that the same events had already changed before.
    pub duplicates: usize,
    /// Products with a conflict or a rejection.
    pub failed: usize,
    /// Products whose outcome is not known yet.
    pub pending: usize,
    /// The products, sorted by the first update of each.
    pub products: Vec<StockProductResult>,
}

/// The outcome of one product.
#[derive(Serialize, ToSchema)]
pub struct StockProductResult {
    /// The product's id. It is null if an update does not contain one.
    pub product_id: Option<String>,
    /// `applied`, `duplicate` (the same events were applied before; quantity and version are those of the first
    /// time), `conflict`, `rejected`, `pending` (safe in the journal and decided later) or `unknown`.
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
    /// JSON Pointer to the invalid part of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
}

/// A product's stock.
#[derive(Serialize, ToSchema)]
pub struct StockLevelState {
    #[schema(example = "p-1")]
    pub product_id: String,
    /// The stock. It is negative only if imported stock adds up to less than zero.
    #[schema(example = 40)]
    pub quantity: i64,
    /// The number of changes so far. The `ETag` has the same value.
    #[schema(minimum = 1, example = 3)]
    pub version: i64,
    /// When the last change was accepted.
    #[schema(format = DateTime)]
    pub updated_at: String,
}

impl StockLevelState {
    pub(super) fn new(product_id: &str, level: &StockLevel) -> StockLevelState {
        StockLevelState {
            product_id: product_id.to_owned(),
            quantity: level.quantity,
            version: level.version,
            updated_at: clock::rfc3339(level.updated_us),
        }
    }
}

/// A page of levels, sorted by the bytes of the product ids.
#[derive(Serialize, ToSchema)]
pub struct StockPage {
    pub stock: Vec<StockLevelState>,
    /// The number of levels in this response.
    pub rows: u64,
    /// The cursor of the next page, or `null` on the last page.
    pub next_cursor: Option<String>,
}
