//! Products in the OpenAPI document.

use utoipa::openapi::path::{OperationBuilder, Parameter};
use utoipa::openapi::schema::ComponentsBuilder;
use utoipa::openapi::{Required, ResponseBuilder};

use super::shapes::{
    CurrentPrice, CurrentStock, LastSale, OpenPriceAnomalies, ProductPage, ProductState, ProductSummary,
};
use crate::api::openapi::links::{Next, SAME_PRODUCT, SAME_TENANT, with_links};
use crate::api::openapi::parameters::{identifier, in_header, in_path, matching, string};
use crate::api::openapi::{header_of, json_of, list_by_id, request_id, with_problems};
use crate::api::problem::Problem;

/// Adds the product schemas.
pub fn schemas(components: ComponentsBuilder) -> ComponentsBuilder {
    components
        .schema_from::<ProductState>()
        .schema_from::<ProductSummary>()
        .schema_from::<ProductPage>()
        .schema_from::<CurrentPrice>()
        .schema_from::<CurrentStock>()
        .schema_from::<OpenPriceAnomalies>()
        .schema_from::<LastSale>()
}

fn tenant() -> Parameter {
    in_path("tenant", "The tenant that owns the products.", identifier())
}

/// The operations that show more of a product.
const LINKS: [Next; 3] = [
    Next { operation: "productAnomalies", parameters: &[SAME_TENANT, SAME_PRODUCT] },
    Next { operation: "stock", parameters: &[SAME_TENANT, SAME_PRODUCT] },
    Next {
        operation: "getOrder",
        parameters: &[SAME_TENANT, ("order", "$response.body#/last_sale/order_id")],
    },
];

#[must_use]
pub fn list() -> OperationBuilder {
    let operation = OperationBuilder::new()
        .operation_id(Some("listProducts"))
        .tag("products")
        .summary(Some("A tenant's products"))
        .description(Some(
            "Every product that an order, a price or a stock update of the tenant names, once, sorted by the bytes of \
             the ids. Each is read when its part of the list is read, so a product that becomes known during a listing \
             appears if its id was not passed. A product remains known if its orders are erased or cancelled.",
        ))
        .parameter(tenant());
    list_by_id(operation, "Products by id.", "ProductSummary", "ProductPage")
}

#[must_use]
pub fn get() -> OperationBuilder {
    let tag = || header_of("A digest of the response.", matching("^\"[0-9a-f]{32}\"$"));
    let product = ResponseBuilder::new()
        .description("The product.")
        .content("application/json", json_of("ProductState"))
        .header("ETag", tag())
        .header("X-Request-Id", request_id());
    let known = ResponseBuilder::new()
        .description("The client has this state of the product.")
        .header("ETag", tag())
        .header("X-Request-Id", request_id());
    let operation = OperationBuilder::new()
        .operation_id(Some("getProduct"))
        .tag("products")
        .summary(Some("Prices, stock, open anomalies and last sale of a product"))
        .description(Some(
            "What is unknown is `null`. Prices are those that a new price is compared with: without an anomaly, \
             approved, or loaded as history.",
        ))
        .parameter(tenant())
        .parameter(in_path("product", "The product's id, percent-encoded.", identifier()))
        .parameter(in_header(
            "If-None-Match",
            "States that the client has, from earlier `ETag` headers.",
            string(),
            Required::False,
        ))
        .response("200", with_links(product, &LINKS))
        .response("304", known);
    with_problems(
        operation,
        &[
            Problem::BadRequest,
            Problem::NotFound,
            Problem::NoSuchProduct,
            Problem::Overloaded,
            Problem::ShardUnavailable,
        ],
    )
}
