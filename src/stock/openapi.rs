//! Stock in the OpenAPI document.

use serde_json::json;
use utoipa::openapi::path::OperationBuilder;
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::ComponentsBuilder;
use utoipa::openapi::{Required, ResponseBuilder};

use super::shapes::{StockLevelState, StockPage, StockProductResult, StockUpdated, StockUpdates};
use crate::api::openapi::links::{Next, SAME_TENANT, with_links};
use crate::api::openapi::parameters::{
    identifier, in_header, in_path, matching, parameter, string, whole_number, words,
};
use crate::api::openapi::{answer, header_of, json_like, json_of, list_by_id, request_id, with_problems};
use crate::api::problem::Problem;

/// Adds the stock schemas.
pub fn schemas(components: ComponentsBuilder) -> ComponentsBuilder {
    components
        .schema_from::<StockUpdates>()
        .schema_from::<StockUpdated>()
        .schema_from::<StockProductResult>()
        .schema_from::<StockLevelState>()
        .schema_from::<StockPage>()
}

/// The operation that returns the first product's stock.
const STOCK: Next = Next {
    operation: "stock",
    parameters: &[SAME_TENANT, ("product", "$response.body#/products/0/product_id")],
};
const LIST: Next = Next { operation: "listStock", parameters: &[SAME_TENANT] };

#[must_use]
pub fn put() -> OperationBuilder {
    let example = json!({
        "mode": "reject",
        "updates": [{
            "event_id": "count-17", "product_id": "p-1", "quantity": 40, "expected_version": 0,
            "occurred_at": "2026-03-01T12:00:00Z",
        }],
    });
    let body = json_like("StockUpdates", example);
    let operation = OperationBuilder::new()
        .operation_id(Some("updateStock"))
        .tag("stock")
        .summary(Some("Update the stock of up to 10,000 products"))
        .description(Some(
            "All updates of one product apply together or not at all. Products succeed or fail \
             independently. The version of a changed product increases by one, however many updates the \
             request has for it.\n\n`last_write_wins` sets quantities. Among all events of the product, of \
             any mode, the one with the newest `occurred_at` applies; of two with the same time, the one \
             with the greater `event_id`. An older one is accepted with the code `superseded`: it is kept \
             and does not change the quantity. `merge` adds deltas, whatever their times, and refuses \
             quantities (`needs_delta`). `reject` accepts both, in order of their times, if the product is \
             at `expected_version`, which must be the same in all of its updates; otherwise the result is a \
             conflict with the current quantity and version. An update that would take the stock below zero \
             is rejected (`negative_stock`).\n\nRequests may be retried: the server identifies events by \
             product and `event_id`. If it has seen all events of a product before, with the same content \
             and mode, the result is `duplicate`, with the quantity and version of the first time. If the \
             content differs (`event_id_reused`), or it has seen some events and not others \
             (`partly_seen`), the result is `conflict`. Only applied events count as seen. An update that \
             is repeated for its product in one request counts once.\n\nAn invalid update makes its product \
             `rejected`, with `code` and `pointer`. Other products are not affected.",
        ))
        .parameter(in_path("tenant", "The tenant that owns the stock.", identifier()))
        .parameter(parameter(
            "ack",
            "`disk` requests a promise that survives a power cut.",
            words(&["os", "disk"]),
        ))
        .request_body(Some(
            RequestBodyBuilder::new()
                .required(Some(Required::True))
                .content("application/json", body)
                .build(),
        ))
        .response(
            "200",
            with_links(
                answer(
                    "At least one product was changed, now or earlier by the same events. The change is \
                     committed.",
                    json_of("StockUpdated"),
                    "application/json",
                ),
                &[STOCK, LIST],
            ),
        )
        .response(
            "202",
            answer(
                "At least one product is `pending`: its updates are safe in the journal and will be decided \
                 when its shard can commit. A retry returns their outcome.",
                json_of("StockUpdated"),
                "application/json",
            ),
        )
        .response("409", answer("No product was changed.", json_of("StockUpdated"), "application/json"));
    with_problems(
        operation,
        &[
            Problem::BadParameter,
            Problem::NotFound,
            Problem::TooManyUpdates,
            Problem::InvalidStockUpdate,
            Problem::QueueFull,
            Problem::Overloaded,
            Problem::JournalUnsynced,
            Problem::OutcomeUnknown,
            Problem::JournalFull,
        ],
    )
}

#[must_use]
pub fn get() -> OperationBuilder {
    let tag = || header_of("The version, in quotes.", matching("^\"[0-9]+\"$"));
    let level = ResponseBuilder::new()
        .description("The product's quantity and version.")
        .content("application/json", json_of("StockLevelState"))
        .header("ETag", tag())
        .header("X-Request-Id", request_id());
    let known = ResponseBuilder::new()
        .description("The client has this version.")
        .header("ETag", tag())
        .header("X-Request-Id", request_id());
    let operation = OperationBuilder::new()
        .operation_id(Some("stock"))
        .tag("stock")
        .summary(Some("Stock of a product"))
        .parameter(in_path("tenant", "The tenant that owns the stock.", identifier()))
        .parameter(in_path("product", "The product's id, percent-encoded.", identifier()))
        .parameter(in_header(
            "If-None-Match",
            "Versions that the client has, from earlier `ETag` headers.",
            string(),
            Required::False,
        ))
        .response("200", level)
        .response("304", known);
    with_problems(
        operation,
        &[
            Problem::BadRequest,
            Problem::NotFound,
            Problem::NoSuchStock,
            Problem::Overloaded,
            Problem::ShardUnavailable,
        ],
    )
}

#[must_use]
pub fn list() -> OperationBuilder {
    let bound = |name, description| parameter(name, description, whole_number());
    let operation = OperationBuilder::new()
        .operation_id(Some("listStock"))
        .tag("stock")
        .summary(Some("Stock of a tenant's products"))
        .description(Some(
            "Sorted by the bytes of the product ids. Each level is the one at the moment at which its part of the \
             list is read. A condition on the quantity is checked level by level, so a page of a condition that few \
             products meet takes as long as reading the levels in between.",
        ))
        .parameter(in_path("tenant", "The tenant that owns the stock.", identifier()))
        .parameter(bound("below", "Only quantities less than this. It must be greater than `above`."))
        .parameter(bound("above", "Only quantities greater than this. `0` selects what is in stock."));
    list_by_id(operation, "Levels by product id.", "StockLevelState", "StockPage")
}

#[cfg(test)]
mod tests {
    use super::{get, put};
    use crate::api::members::Member;
    use crate::api::openapi::document_of;
    use crate::http::Method;
    use crate::stock::body::StockRequest;

    #[test]
    fn the_example_is_a_request_that_is_taken() {
        let path = "/api/v1/tenants/{tenant}/stock/bulk_update";
        let document = document_of(&[(path, Method::Put, put)], &[]);
        let put = &document["paths"][path]["put"];
        let example = put["requestBody"]["content"]["application/json"]["example"].to_string();
        assert!(StockRequest::read(Member::of(example.as_bytes()).unwrap()).unwrap().rows[0].is_ok());
    }

    #[test]
    fn any_version_may_be_the_tag() {
        let path = "/api/v1/tenants/{tenant}/stock/{product}";
        let document = document_of(&[(path, Method::Get, get)], &[]);
        for status in ["200", "304"] {
            let tag = &document["paths"][path]["get"]["responses"][status]["headers"]["ETag"]["schema"];
            assert_eq!((&tag["pattern"], &tag["enum"]), (&"^\"[0-9]+\"$".into(), &serde_json::Value::Null));
        }
    }
}
