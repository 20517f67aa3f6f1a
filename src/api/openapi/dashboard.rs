//! The dashboard in the OpenAPI document.

use utoipa::openapi::path::OperationBuilder;
use utoipa::openapi::schema::ComponentsBuilder;

use super::parameters::{in_path, string};
use super::{answer, file, json_of, with_problems};
use crate::api::problem::Problem;
use crate::api::schema::dashboard::{
    CoreState, DashboardState, LastOutage, ProcessState, RouteState, ShardNumbers,
};

pub(super) fn schemas(components: ComponentsBuilder) -> ComponentsBuilder {
    components
        .schema_from::<DashboardState>()
        .schema_from::<ProcessState>()
        .schema_from::<CoreState>()
        .schema_from::<ShardNumbers>()
        .schema_from::<LastOutage>()
        .schema_from::<RouteState>()
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
