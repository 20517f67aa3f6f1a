//! The shapes of stock updates for the OpenAPI document. The members of an update depend on the mode.

use utoipa::openapi::schema::{
    ArrayBuilder, KnownFormat, ObjectBuilder, Schema, SchemaFormat, SchemaType, Type,
};
use utoipa::openapi::{OneOfBuilder, Ref, RefOr};
use utoipa::{Number, PartialSchema, ToSchema};

use crate::base::limits::STOCK_UPDATES_MAX;
use crate::base::stock_mode::STOCK_MAX;

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

/// The two amounts, and whether an update has them.
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

/// An update of a product.
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
