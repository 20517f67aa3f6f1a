//! Orders in the OpenAPI document: ingest, search, one order, its status.

use serde_json::json;
use utoipa::openapi::path::{OperationBuilder, Parameter};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{ComponentsBuilder, KnownFormat, ObjectBuilder, SchemaFormat, Type};
use utoipa::openapi::{Content, ContentBuilder, Ref, Required, Response, ResponseBuilder};

use super::read::ORDER_FIELDS;
use super::search::LIMIT_MAX;
use super::shapes::{
    FoundOrder, IngestFault, IngestSummary, NewItem, NewOrder, OrderPage, OrderState, SkippedPart,
    StatusChange, StatusChanged, StoredItem, StoredOrder,
};
use super::status::OrderStatus;
use crate::api::openapi::links::{Next, with_links};
use crate::api::openapi::parameters::{
    ack, cursor, decimal, idempotency_key, identifier, in_path, list_of, matching, name, number, of_form,
    parameter, range,
};
use crate::api::openapi::{
    READING, answer, bytes, header, json_like, json_of, request_id, rows_of, with_problems,
};
use crate::api::problem::Problem;

/// Adds the order schemas.
pub fn schemas(components: ComponentsBuilder) -> ComponentsBuilder {
    components
        .schema_from::<NewOrder>()
        .schema_from::<NewItem>()
        .schema_from::<OrderState>()
        .schema_from::<IngestSummary>()
        .schema_from::<IngestFault>()
        .schema_from::<SkippedPart>()
        .schema_from::<StatusChange>()
        .schema_from::<StatusChanged>()
        .schema_from::<StoredOrder>()
        .schema_from::<FoundOrder>()
        .schema_from::<StoredItem>()
        .schema_from::<OrderPage>()
}

/// The problems of an ingest, regardless of how its bytes arrive.
pub const INGESTING: &[Problem] = &[
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
    in_path("tenant", "The tenant that owns the orders.", identifier())
}

/// Describes a body with one order per line.
fn orders() -> Content {
    let line = json!({
        "order_id": "o-1001", "tenant_id": "acme", "customer_id": "c-7", "customer_name": "Ann Smith",
        "customer_email": "ann@example.com", "status": "paid", "currency": "USD",
        "ordered_at": "2026-03-01T12:00:00Z",
        "items": [{"product_id": "p-1", "category": "garden", "quantity": 2, "unit_price": "19.99"}],
    });
    json_like("NewOrder", line)
}

/// Describes a form with files under any names.
fn form() -> Content {
    let file = ObjectBuilder::new()
        .schema_type(Type::String)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Binary)));
    let schema = ObjectBuilder::new().schema_type(Type::Object).property("file", file).required("file");
    ContentBuilder::new().schema(Some(schema.build())).build()
}

fn name_of_the_ingest() -> Parameter {
    idempotency_key(
        "1 to 255 visible ASCII characters, quoted or unquoted. The key names this ingest and is the same \
         for every retry of it. The server keeps it for 48 hours after the ingest ends.",
        Required::True,
    )
}

/// The operations to call next on the order, if the body has one line.
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
            "The outcome of every line. All stored rows are committed. A retry with the same key and the \
             same lines gets this response again.",
        )
        .content("application/json", json_of("IngestSummary"))
        .header(
            "Idempotent-Replayed",
            header("`true` if this is the stored response of an earlier request.", &["true"]),
        )
        .header("X-Request-Id", request_id());
    let operation = OperationBuilder::new()
        .operation_id(Some("ingestOrders"))
        .tag("orders")
        .summary(Some("Ingest orders"))
        .description(Some(
            "Each order is stored once. The body is NDJSON, one order per line (the schema describes a \
             line), plain or compressed: gzip, zstd, or a zip archive of which every `*.ndjson`, `*.jsonl` \
             and `*.json` entry is read. The encoding is detected from the first bytes, whatever the \
             content type says. The body may also be `multipart/form-data`; its file parts are read one \
             after another. Nested compression (a compressed entry of an archive, or a compressed file sent \
             with a content coding) is decompressed too. `skipped` lists parts without a file name and \
             entries with other names. The body is streamed and may have any size up to `ingest_bytes_max` \
             after decompression. A line may have up to 2 MiB.\n\nInvalid lines do not affect valid ones. \
             An `order_id` that the tenant already has is a duplicate. If its content differs, the first \
             order remains and `errors` lists the line with the code `conflict`. An interrupted ingest \
             keeps the orders that were committed; if it is sent again with the same key, those orders \
             count as inserted, not as duplicates. A body in which no line is an order that is stored now \
             or was stored before is refused, and its key remains unused.",
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
    let description = "Orders, newest first. NDJSON (the default) has one order per line and a last line \
                       `{\"_end\":true,\"rows\":n,\"next_cursor\":…}`; a response without that last line is \
                       incomplete. JSON is one object.";
    rows_of(description, "FoundOrder", "OrderPage")
}

#[must_use]
pub fn search() -> OperationBuilder {
    let limit = format!("1 to {LIMIT_MAX}. Default: 1,000.");
    let fields = format!(
        "Fields to return for each order, separated by commas: {}. Default: all except `received_at`. \
         Requests for few fields are faster.",
        ORDER_FIELDS.join(", ")
    );
    let operation = OperationBuilder::new()
        .operation_id(Some("searchOrders"))
        .tag("orders")
        .summary(Some("Search a tenant's orders"))
        .description(Some(
            "An order must match every condition. A cursor names a position in the sort order, not a row \
             number, so orders stored after the first page neither shift nor repeat any row. If a stream \
             fails, the connection breaks before the end of the response.",
        ))
        .parameter(tenant())
        .parameter(parameter(
            "order_id",
            "Only the order with this id, if it matches the other conditions.",
            identifier(),
        ))
        .parameter(parameter("customer_id", "Only orders of the customer with this id.", identifier()))
        .parameter(parameter(
            "product_id",
            "Up to 50 product ids, separated by commas. Matches orders with an item of one of them. If there are \
             other conditions on items (`category`, `min_price`, `max_price`), the same item must meet all.",
            matching("^[^,]{1,200}(,[^,]{1,200}){0,49}$"),
        ))
        .parameter(parameter("category", "Only orders with an item of this category.", name()))
        .parameter(parameter(
            "min_price",
            "Only orders with an item whose price is at least this, a decimal number in the order's currency. A bound \
             beyond every amount is valid.",
            decimal(),
        ))
        .parameter(parameter("max_price", "Only orders with an item whose price is at most this.", decimal()))
        .parameter(parameter(
            "currency",
            "Only orders in this currency, ISO 4217.",
            Ref::from_schema_name("CurrencyCode"),
        ))
        .parameter(parameter("min_total", "Minimum total, a decimal number, inclusive. A bound beyond every amount is valid.", decimal()))
        .parameter(parameter("max_total", "Maximum total, a decimal number, inclusive.", decimal()))
        .parameter(parameter(
            "status",
            "One or more statuses, separated by commas.",
            list_of(OrderStatus::ALL.map(OrderStatus::as_str)),
        ))
        .parameter(parameter(
            "q",
            "Up to 10 words, each of which must occur in the customer's name or e-mail address. `ann*` \
             matches a prefix. Separate punctuation is ignored.",
            of_form("search-words"),
        ))
        .parameter(parameter("fields", &fields, list_of(ORDER_FIELDS)))
        .parameter(parameter("limit", &limit, number(1, LIMIT_MAX as i64)))
        .parameter(parameter(
            "cursor",
            "The `next_cursor` of a response with the same filter. `limit` and `fields` may differ.",
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
            "The path of an order with the id `search` belongs to the search endpoint. Read that order with \
             `GET /api/v1/tenants/{tenant}/orders/search?order_id=search`.",
        ))
        .parameter(tenant())
        .parameter(in_path("order", "The order's id, percent-encoded.", identifier()))
        .response("200", answer("The order.", json_of("StoredOrder"), "application/json"));
    with_problems(operation, &[READING, &[Problem::NotFound, Problem::NoSuchOrder]].concat())
}

#[must_use]
pub fn patch_order() -> OperationBuilder {
    let example = json!({"status": "shipped", "occurred_at": "2026-03-02T09:00:00Z"});
    let operation = OperationBuilder::new()
        .operation_id(Some("changeOrder"))
        .tag("orders")
        .summary(Some("Change the status of an order"))
        .description(Some(
            "The sales figures change in the same commit: an order that is cancelled or refunded is \
             subtracted, and one that is reinstated is added again. A change that would take the sales of \
             the order's day beyond 64 bits is refused with the code `amount_out_of_range`. Setting the \
             current status again changes nothing and is not an error. Changes may arrive in any order. One \
             whose `occurred_at` is older than that of the last applied change has no effect \
             (`superseded`). Of two changes with the same time, the one that arrives later applies.",
        ))
        .parameter(tenant())
        .parameter(in_path("order", "The order's id, percent-encoded.", identifier()))
        .parameter(ack())
        .request_body(Some(
            RequestBodyBuilder::new()
                .required(Some(Required::True))
                .content("application/json", json_like("StatusChange", example))
                .build(),
        ))
        .response("200", answer("The change is committed.", json_of("StatusChanged"), "application/json"));
    with_problems(
        operation,
        &[
            Problem::BadParameter,
            Problem::NotFound,
            Problem::NoSuchOrder,
            Problem::InvalidStatus,
            Problem::QueueFull,
            Problem::Overloaded,
            Problem::OutcomeUnknown,
            Problem::JournalUnsynced,
            Problem::JournalFull,
        ],
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::{post_ingest, schemas, search};
    use crate::api::openapi::{OneOperation, document_of};
    use crate::base::keys::KeyHasher;
    use crate::http::Method;
    use crate::orders::body::OrderDecoder;
    use crate::orders::ingest::Summary;
    use crate::orders::read::ORDER_FIELDS;
    use crate::orders::search::SearchPlan;

    fn parsed() -> Value {
        let operations: [OneOperation; 2] = [
            ("/api/v1/ingest/orders", Method::Post, post_ingest),
            ("/api/v1/tenants/{tenant}/orders/search", Method::Get, search),
        ];
        document_of(&operations, &[schemas])
    }

    fn keys(object: &Value) -> BTreeSet<String> {
        object.as_object().unwrap().keys().cloned().collect()
    }

    /// Returns the names of the members in a shape's description.
    fn described(schema: &str) -> BTreeSet<String> {
        keys(&parsed()["components"]["schemas"][schema]["properties"])
    }

    #[test]
    fn the_example_of_an_order_is_one() {
        let document = parsed();
        let post = &document["paths"]["/api/v1/ingest/orders"]["post"];
        let example = &post["requestBody"]["content"]["application/x-ndjson"]["example"];
        assert!(OrderDecoder::new().order(example.to_string().as_bytes()).is_ok());
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
            detail
                .rsplit("the known parameters are ")
                .next()
                .unwrap()
                .split(", ")
                .map(str::to_owned)
                .collect()
        };
        let errors = SearchPlan::new("t", Some(unknown), &KeyHasher::new(&[3; 16])).unwrap_err();
        assert_eq!(names("/api/v1/tenants/{tenant}/orders/search"), known(&errors[0].detail));
    }
}
