//! The commerce backend in the OpenAPI document: orders in, orders out, their status, sales.

use serde_json::json;
use utoipa::openapi::path::{OperationBuilder, Parameter};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{AnyOfBuilder, KnownFormat, ObjectBuilder, Schema, SchemaFormat, Type};
use utoipa::openapi::{Content, ContentBuilder, Ref, Required, Response, ResponseBuilder};

use super::events::READING;
use super::links::{Next, with_links};
use super::parameters::{
    ack, cursor, decimal, idempotency_key, identifier, in_path, list_of, matching, number, of_form,
    parameter, range, words,
};
use super::{answer, bytes, header, json_of, request_id, with_problems};
use crate::api::problem::Problem;
use crate::base::order_status::OrderStatus;
use crate::commerce::{LIMIT_MAX, SALES_FIELDS};
use crate::shard::ORDER_FIELDS;

/// What can befall an ingest, however its bytes come.
pub(super) const INGESTING: &[Problem] = &[
    Problem::BadRequest,
    Problem::BadParameter,
    Problem::IdempotencyKeyMissing,
    Problem::DamagedUpload,
    Problem::RequestTimeout,
    Problem::IngestRunning,
    Problem::PayloadTooLarge,
    Problem::UnsupportedMediaType,
    Problem::IdempotencyKeyReused,
    Problem::NoOrders,
    Problem::QueueFull,
    Problem::Overloaded,
    Problem::OutcomeUnknown,
    Problem::ShardUnavailable,
    Problem::JournalUnsynced,
    Problem::JournalFull,
];

fn tenant() -> Parameter {
    in_path("tenant", "Whose orders.", identifier())
}

/// One order a line.
fn orders() -> Content {
    let line = json!({
        "order_id": "o-1001", "tenant_id": "acme", "customer_id": "c-7", "customer_name": "Ann Smith",
        "customer_email": "ann@example.com", "status": "paid", "currency": "USD",
        "ordered_at": "2026-03-01T12:00:00Z",
        "items": [{"product_id": "p-1", "category": "garden", "quantity": 2, "unit_price": "19.99"}],
    });
    ContentBuilder::new().schema(Some(Ref::from_schema_name("NewOrder"))).example(Some(line)).build()
}

/// Files, under whatever names.
fn form() -> Content {
    let file = ObjectBuilder::new()
        .schema_type(Type::String)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Binary)));
    let schema = ObjectBuilder::new().schema_type(Type::Object).property("file", file).required("file");
    ContentBuilder::new().schema(Some(schema.build())).build()
}

fn name_of_the_ingest() -> Parameter {
    idempotency_key(
        "1 to 255 visible ASCII characters, in quotes or not: the name of this upload, the same at every attempt \
         at it. Kept for 48 hours after the end of the ingest.",
        Required::True,
    )
}

/// The operations on the order of a body that has one line.
const LINKS: [Next; 6] = [
    Next { operation: "getOrder", parameters: THE_ORDER },
    Next { operation: "changeOrder", parameters: THE_ORDER },
    Next { operation: "searchOrders", parameters: &[ITS_TENANT] },
    Next { operation: "sales", parameters: &[ITS_TENANT] },
    Next { operation: "createExport", parameters: &[ITS_TENANT] },
    Next {
        operation: "eraseCustomer",
        parameters: &[ITS_TENANT, ("customer", "$request.body#/customer_id")],
    },
];
const ITS_TENANT: (&str, &str) = ("tenant", "$request.body#/tenant_id");
const THE_ORDER: &[(&str, &str)] = &[ITS_TENANT, ("order", "$request.body#/order_id")];

#[must_use]
pub fn post_ingest() -> OperationBuilder {
    let summary = ResponseBuilder::new()
        .description(
            "What became of every line; all of it is committed. A repetition with the same key and the same \
             lines gets this answer once more.",
        )
        .content("application/json", json_of("IngestSummary"))
        .header("Idempotent-Replayed", header("`true` where the answer is that of before.", &["true"]))
        .header("X-Request-Id", request_id());
    let operation = OperationBuilder::new()
        .operation_id(Some("ingestOrders"))
        .tag("orders")
        .summary(Some("Store orders, each once"))
        .description(Some(
            "One order a line (NDJSON; the schema shown is that of a line), plain or packed: gzip, zstd, or zip \
             with all its `*.ndjson` entries, told apart by their first bytes whatever the content type says. Or \
             `multipart/form-data`: its file parts one after another. What is packed once more (a packed entry \
             of an archive, a packed file sent with a coding) is unpacked too. Parts without a file name and entries \
             with other names stand in `skipped`. The body is taken in as it comes, of any \
             size up to `ingest_bytes_max` unpacked; a line may have 2 MiB.\n\nBad lines never sink good ones. \
             An `order_id` that the tenant has already is a duplicate; where its content differs, `errors` has it \
             with the code `conflict`, and the first one stays. An ingest that breaks off leaves what was committed; \
             sent again with the same key, those orders count as inserted, not as duplicates. A body of which no line \
             is an order that is stored, or was before, is refused and leaves its key free.",
        ))
        .parameter(name_of_the_ingest())
        .parameter(ack())
        .request_body(Some(
            RequestBodyBuilder::new()
                .required(Some(Required::True))
                .content("application/x-ndjson", orders())
                .content("application/octet-stream", bytes())
                .content("multipart/form-data", form())
                .build(),
        ))
        .response("200", with_links(summary, &LINKS));
    with_problems(operation, INGESTING)
}

fn rows() -> Response {
    let description = "Orders, newest first. As NDJSON (the default) one a line, and a last line \
                       `{\"_end\":true,\"rows\":n,\"next_cursor\":…}`: an answer without it is not whole. As JSON \
                       one object.";
    let line = AnyOfBuilder::new()
        .item(Ref::from_schema_name("FoundOrder"))
        .item(Ref::from_schema_name("EndOfRows"))
        .description(Some("A line."));
    let line = ContentBuilder::new().schema(Some(Schema::AnyOf(line.build()))).build();
    ResponseBuilder::new()
        .description(description)
        .content("application/x-ndjson", line)
        .content("application/json", json_of("OrderPage"))
        .header("X-Request-Id", request_id())
        .build()
}

#[must_use]
pub fn search() -> OperationBuilder {
    let limit = format!("1 to {LIMIT_MAX}; 1,000 unless told.");
    let fields = format!(
        "What of each order, separated by commas: {}. All but `received_at` unless told; few are quicker.",
        ORDER_FIELDS.join(", ")
    );
    let operation = OperationBuilder::new()
        .operation_id(Some("searchOrders"))
        .tag("orders")
        .summary(Some("Find a tenant's orders"))
        .description(Some(
            "All conditions at once. A cursor names the place in the order of rows, not a number of them: \
             orders that are stored after the first page shift and repeat nothing. A failure in the middle of \
             a stream breaks it off without its end.",
        ))
        .parameter(tenant())
        .parameter(parameter("order_id", "The order with this id, if the other conditions hold for it.", identifier()))
        .parameter(parameter(
            "product_id",
            "Up to 50 products, separated by commas: orders that have one of them.",
            matching("^[^,]{1,200}(,[^,]{1,200}){0,49}$"),
        ))
        .parameter(parameter("min_total", "Of at least this total, a decimal.", decimal()))
        .parameter(parameter("max_total", "Of at most this total.", decimal()))
        .parameter(parameter("status", "One status or several, separated by commas.", list_of(OrderStatus::ALL.map(OrderStatus::as_str))))
        .parameter(parameter(
            "q",
            "Up to 10 words of the customer's name or e-mail address, all of which must be there; `ann*` is a \
             prefix. Signs that stand by themselves are ignored.",
            of_form("search-words"),
        ))
        .parameter(parameter("fields", &fields, list_of(ORDER_FIELDS)))
        .parameter(parameter("limit", &limit, number(1, LIMIT_MAX as i64)))
        .parameter(parameter(
            "cursor",
            "The `next_cursor` of an answer with the same filter. `limit` and `fields` may differ.",
            cursor(),
        ))
        .response("200", rows());
    with_problems(range(operation), READING)
}

#[must_use]
pub fn get_order() -> OperationBuilder {
    let operation = OperationBuilder::new()
        .operation_id(Some("getOrder"))
        .tag("orders")
        .summary(Some("One order with its items, status and times"))
        .description(Some(
            "An order whose id is `search` has that path taken: ask for it with \
             `GET /api/v1/tenants/{tenant}/orders/search?order_id=search`.",
        ))
        .parameter(tenant())
        .parameter(in_path("order", "The order's id, percent-encoded.", identifier()))
        .response("200", answer("The order.", json_of("StoredOrder"), "application/json"));
    with_problems(operation, &[READING, &[Problem::NotFound, Problem::NoSuchOrder]].concat())
}

#[must_use]
pub fn patch_order() -> OperationBuilder {
    let operation = OperationBuilder::new()
        .operation_id(Some("changeOrder"))
        .tag("orders")
        .summary(Some("Give an order another status"))
        .description(Some(
            "The sales change in the same commit: an order that is cancelled or refunded leaves them, one that \
             comes back is counted again. Where it would take the sales of its day beyond 64 bits, that is refused with \
             the code `amount_out_of_range`. The same status once more changes nothing and is no error. Changes may come in any \
             order: one whose `occurred_at` is older than that of the last one that was applied changes nothing \
             (`superseded`); of two at the same time the later one to come stands.",
        ))
        .parameter(tenant())
        .parameter(in_path("order", "The order's id, percent-encoded.", identifier()))
        .parameter(ack())
        .request_body(Some(
            RequestBodyBuilder::new()
                .required(Some(Required::True))
                .content("application/json", json_of("StatusChange"))
                .build(),
        ))
        .response("200", answer("It is committed.", json_of("StatusChanged"), "application/json"));
    with_problems(
        operation,
        &[
            Problem::BadRequest,
            Problem::BadParameter,
            Problem::NotFound,
            Problem::NoSuchOrder,
            Problem::RequestTimeout,
            Problem::PayloadTooLarge,
            Problem::InvalidStatus,
            Problem::QueueFull,
            Problem::Overloaded,
            Problem::OutcomeUnknown,
            Problem::JournalUnsynced,
            Problem::JournalFull,
        ],
    )
}

#[must_use]
pub fn sales() -> OperationBuilder {
    let operation = OperationBuilder::new()
        .operation_id(Some("sales"))
        .tag("sales")
        .summary(Some("A tenant's sales by day, hour, product or category"))
        .description(Some(
            "Orders, units and revenue are exact, whatever the precision; cancelled and refunded orders are not \
             in them. With `precision=exact` so are the number of different customers and the order values (the \
             value at a rank is one that occurs), from every single sale. With `approx` they come from sketches \
             that are kept beside the orders, and `error_bounds` says how far they may be off. Currencies are \
             never added up: each has groups of its own.",
        ))
        .parameter(tenant())
        .parameter(parameter("group_by", "`day` unless told.", words(&["day", "hour", "product", "category"])))
        .parameter(parameter("precision", "`exact` unless told.", words(&["exact", "approx"])))
        .parameter(parameter("currency", "Sales in this one only, ISO 4217.", Ref::from_schema_name("CurrencyCode")))
        .parameter(parameter(
            "fields",
            "Of orders, units, revenue, unique_customers, order_value, separated by commas. Without the last two \
             an exact answer needs no single sales.",
            list_of(SALES_FIELDS),
        ))
        .response("200", answer("Groups and how they were made.", json_of("Sales"), "application/json"));
    with_problems(range(operation), &[READING, &[Problem::QueryTooLarge]].concat())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::{post_ingest, sales, search};
    use crate::api::openapi::document_of;
    use crate::base::keys::KeyHasher;
    use crate::base::money::Currency;
    use crate::commerce::{Materialized, SalesPlan, SearchPlan, Summary};
    use crate::event::Decoder;
    use crate::http::Method;
    use crate::query::{Figures, SalesGroup, SalesResult};
    use crate::shard::ORDER_FIELDS;

    fn parsed() -> Value {
        document_of(&[
            ("/api/v1/ingest/orders", Method::Post, post_ingest),
            ("/api/v1/tenants/{tenant}/orders/search", Method::Get, search),
            ("/api/v1/tenants/{tenant}/metrics/sales", Method::Get, sales),
        ])
    }

    fn keys(object: &Value) -> BTreeSet<String> {
        object.as_object().unwrap().keys().cloned().collect()
    }

    /// The members that a shape is described with.
    fn described(schema: &str) -> BTreeSet<String> {
        keys(&parsed()["components"]["schemas"][schema]["properties"])
    }

    #[test]
    fn the_example_of_an_order_is_one() {
        let document = parsed();
        let post = &document["paths"]["/api/v1/ingest/orders"]["post"];
        let example = &post["requestBody"]["content"]["application/x-ndjson"]["example"];
        assert!(Decoder::new().order(example.to_string().as_bytes()).is_ok());
        assert_eq!(keys(example), described("NewOrder"));
        let required = &document["components"]["schemas"]["NewOrder"]["required"];
        assert_eq!(required.as_array().unwrap().len(), described("NewOrder").len());
    }

    #[test]
    fn shapes_are_described_as_they_are_sent() {
        let summary: Value = serde_json::from_slice(&Summary::default().json("k", 1)).unwrap();
        assert_eq!(keys(&summary), described("IngestSummary"));
        let fields: BTreeSet<String> = ORDER_FIELDS.iter().map(|field| (*field).to_owned()).collect();
        assert_eq!(fields, described("StoredOrder"));

        let plan = SalesPlan::new("t", Some("precision=approx")).unwrap();
        let figures = Figures { orders: 1, units: 1, revenue: 100, details: Some((1, [100; 3])) };
        let currency = Currency::parse("USD").unwrap();
        let group = SalesGroup { start_us: 0, name: String::new(), currency, figures };
        let result =
            SalesResult { groups: vec![group], rows_scanned: 1, preaggregated: true, estimated: true };
        let sales: Value =
            serde_json::from_slice(&Materialized::new(&plan, &result, 0).json(false, 1)).unwrap();
        for (object, schema) in [
            (&sales, "Sales"),
            (&sales["groups"][0], "SalesGroup"),
            (&sales["groups"][0]["order_value"], "OrderValues"),
            (&sales["meta"], "SalesMeta"),
            (&sales["meta"]["method"], "SalesMethod"),
        ] {
            assert_eq!(keys(object), described(schema), "{schema}");
        }
    }

    #[test]
    fn every_parameter_that_is_described_is_understood() {
        let document = parsed();
        let names = |path: &str| -> BTreeSet<String> {
            let parameters = document["paths"][path]["get"]["parameters"].as_array().unwrap();
            let of_query = parameters.iter().filter(|parameter| parameter["in"] == "query");
            of_query.map(|parameter| parameter["name"].as_str().unwrap().to_owned()).collect()
        };
        let unknown = "nothing_has_this_name=1";
        let known = |detail: &str| -> BTreeSet<String> {
            detail.rsplit("known are ").next().unwrap().split(", ").map(str::to_owned).collect()
        };
        let errors = SearchPlan::new("t", Some(unknown), &KeyHasher::new(&[3; 16])).unwrap_err();
        assert_eq!(names("/api/v1/tenants/{tenant}/orders/search"), known(&errors[0].detail));
        let errors = SalesPlan::new("t", Some(unknown)).unwrap_err();
        assert_eq!(names("/api/v1/tenants/{tenant}/metrics/sales"), known(&errors[0].detail));
    }
}
