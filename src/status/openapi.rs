//! Health, readiness, receipts and the dashboard in the OpenAPI document.

use serde_json::Value;
use utoipa::openapi::path::{OperationBuilder, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::ComponentsBuilder;
use utoipa::openapi::{Required, ResponseBuilder};

use super::shapes::{
    Check, Checks, CoreState, DashboardState, Health, LastOutage, ProcessState, Ready, ReceiptState,
    RouteState, ShardHealth, ShardNumbers,
};
use crate::api::openapi::parameters::{in_path, matching, string};
use crate::api::openapi::{answer, file, header, json_of, request_id, text, with_problems};
use crate::api::problem::Problem;

/// Adds the schemas of health, readiness and the dashboard.
pub fn schemas(components: ComponentsBuilder) -> ComponentsBuilder {
    components
        .schema_from::<DashboardState>()
        .schema_from::<ProcessState>()
        .schema_from::<CoreState>()
        .schema_from::<ShardNumbers>()
        .schema_from::<LastOutage>()
        .schema_from::<RouteState>()
        .schema_from::<Health>()
        .schema_from::<ShardHealth>()
        .schema_from::<Ready>()
        .schema_from::<Checks>()
        .schema_from::<Check>()
        .schema_from::<ReceiptState>()
}

#[must_use]
pub fn state() -> OperationBuilder {
    OperationBuilder::new()
        .operation_id(Some("dashboardState"))
        .tag("operations")
        .summary(Some("Data of the dashboard, updated once a second"))
        .description(Some(
            "Counters of every core and shard, the state of each shard, and the current or last outage. All \
             of it comes from memory. This endpoint belongs to the dashboard and may gain members; use \
             `/metrics` for monitoring. The key must be bound to all tenants.",
        ))
        .response("200", answer("The current state.", json_of("DashboardState"), "application/json"))
}

#[must_use]
pub fn get_file() -> OperationBuilder {
    let operation = OperationBuilder::new()
        .operation_id(Some("dashboardFile"))
        .tag("operations")
        .summary(Some("A file of the dashboard"))
        .description(Some(
            "The page itself is at `/` for clients that accept `text/html`, and at `/dashboard`. Other \
             clients are redirected from `/` to `/docs`. Every file has an `ETag`.",
        ))
        .parameter(in_path("file", "The file's name.", string().examples(["main.js"])))
        .response("200", file(&["text/html", "text/css", "text/javascript", "text/plain", "image/svg+xml"]));
    with_problems(operation, &[Problem::NotFound])
}

#[must_use]
pub fn get_favicon() -> OperationBuilder {
    OperationBuilder::new()
        .operation_id(Some("favicon"))
        .tag("operations")
        .summary(Some("The icon of all pages"))
        .description(Some("An icon of 32 by 32 pixels. It has an `ETag` and may be kept for a day."))
        .response("200", file(&["image/x-icon"]))
}

#[must_use]
pub fn get_receipt() -> OperationBuilder {
    let operation = OperationBuilder::new()
        .operation_id(Some("getReceipt"))
        .tag("collector")
        .summary(Some("State of an accepted event"))
        .parameter(
            ParameterBuilder::new()
                .name("receipt")
                .parameter_in(ParameterIn::Path)
                .required(Required::True)
                .description(Some("The value of a `Firehose-Receipt` header."))
                .example(Some(Value::from("0-64")))
                .schema(Some(matching("^[0-9]{1,5}-[0-9]{1,19}$"))),
        )
        .response("200", answer("The event's state.", json_of("ReceiptState"), "application/json"));
    with_problems(operation, &[Problem::NotAReceipt])
}

#[must_use]
pub fn get_health(id: &str) -> OperationBuilder {
    OperationBuilder::new()
        .operation_id(Some(id))
        .tag("operations")
        .summary(Some("Server health"))
        .description(Some("Returns 200 for as long as the process responds. Never reads the disk."))
        .response("200", answer("State and counters.", json_of("Health"), "application/json"))
}

#[must_use]
pub fn get_ready(id: &str) -> OperationBuilder {
    OperationBuilder::new()
        .operation_id(Some(id))
        .tag("operations")
        .summary(Some("Server readiness"))
        .response("200", answer("The server is ready for requests.", json_of("Ready"), "application/json"))
        .response(
            "503",
            answer(
                "The server is not ready. `checks` gives the reasons.",
                json_of("Ready"),
                "application/json",
            ),
        )
}

/// Describes GET on `/`.
#[must_use]
pub fn get_root() -> OperationBuilder {
    OperationBuilder::new()
        .operation_id(Some("root"))
        .tag("operations")
        .summary(Some("The dashboard, for clients that accept `text/html`"))
        .response("200", answer("The page.", text(), "text/html"))
        .response(
            "303",
            ResponseBuilder::new()
                .description("Redirects all other clients to `/docs`.")
                .header("Location", header("`/docs`.", &["/docs"]))
                .header("X-Request-Id", request_id()),
        )
}
