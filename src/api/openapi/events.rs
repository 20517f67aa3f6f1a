//! The events service in the OpenAPI document.

use serde_json::json;
use utoipa::openapi::path::{OperationBuilder, Parameter};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::{Content, ContentBuilder, Ref, Required, ResponseBuilder};

use super::links::{Next, with_links};
use super::parameters::{cursor, identifier, name, number, parameter, range, words};
use super::{answer, json_of, request_id, text, with_problems};
use crate::api::problem::Problem;
use crate::base::limits::BULK_EVENTS_MAX;

/// What can befall any request that brings events.
const TAKING: &[Problem] = &[
    Problem::BadRequest,
    Problem::EmptyBody,
    Problem::NotJson,
    Problem::NotUtf8,
    Problem::BadEncoding,
    Problem::BadParameter,
    Problem::RequestTimeout,
    Problem::PayloadTooLarge,
    Problem::UnsupportedEncoding,
    Problem::TooDeep,
    Problem::QueueFull,
    Problem::Overloaded,
    Problem::JournalUnsynced,
    Problem::OutcomeUnknown,
    Problem::JournalFull,
];

/// What can befall any request that asks for rows.
pub(super) const READING: &[Problem] =
    &[Problem::BadParameter, Problem::Overloaded, Problem::ShardUnavailable];

fn tenant(required: Required) -> Parameter {
    let mut tenant = parameter("tenant_id", "Whose events.", identifier());
    tenant.required = required;
    tenant
}

fn ack() -> Parameter {
    parameter(
        "ack",
        "Asks for the stronger promise: the journal is on disk before the answer.",
        words(&["disk"]),
    )
}

fn names(operation: OperationBuilder) -> OperationBuilder {
    operation.parameter(parameter("source", "Of this source only.", name())).parameter(parameter(
        "event_type",
        "Of this type only.",
        name(),
    ))
}

fn paging(operation: OperationBuilder) -> OperationBuilder {
    operation
        .parameter(parameter("order", "By time; ties by id.", words(&["asc", "desc"])))
        .parameter(parameter(
            "page",
            "From 1. For pages far behind, follow `next_cursor` instead.",
            number(1, 1_000_001),
        ))
        .parameter(parameter("page_size", "1 to 1,000; 100 unless told.", number(1, 1_000)))
        .parameter(parameter(
            "cursor",
            "The `next_cursor` of a page with the same filter. Rows that arrive later never shift or repeat \
             any; page 10,000 costs what page 1 costs.",
            cursor(),
        ))
}

fn one_event() -> Content {
    let example = json!({
        "event_id": "evt_001", "tenant_id": "tenant_1", "source": "web", "event_type": "click",
        "timestamp": "2024-01-15T10:30:00Z", "payload": {"button": "buy"},
    });
    ContentBuilder::new().schema(Some(Ref::from_schema_name("ServiceEvent"))).example(Some(example)).build()
}

const PAGE: Next = Next { operation: "getEvents", parameters: ITS_TENANT };
const BUCKETS: Next = Next { operation: "metrics", parameters: ITS_TENANT };
const ITS_TENANT: &[(&str, &str)] = &[("tenant_id", "$request.body#/tenant_id")];

#[must_use]
pub fn post_one() -> OperationBuilder {
    let stored = answer("Stored.", json_of("EventResult"), "application/json");
    let operation = OperationBuilder::new()
        .operation_id(Some("postEvents"))
        .tag("events")
        .summary(Some("Store one event, once"))
        .description(Some(
            "An `event_id` is stored once for its tenant, whatever its age: the first write stands. The answer \
             comes with the commit; where that takes longer than a second, 202 says that the event is in the \
             journal and is checked for being a duplicate when it is committed.",
        ))
        .parameter(ack())
        .request_body(Some(
            RequestBodyBuilder::new()
                .required(Some(Required::True))
                .content("application/json", one_event())
                .build(),
        ))
        .response("201", with_links(stored, &[PAGE, BUCKETS]))
        .response("200", answer("It was there already.", json_of("EventResult"), "application/json"))
        .response("202", answer("In the journal, not yet committed.", json_of("EventResult"), "application/json"));
    with_problems(operation, &[TAKING, &[Problem::InvalidEvent]].concat())
}

#[must_use]
pub fn post_bulk() -> OperationBuilder {
    let description = format!(
        "Up to {BULK_EVENTS_MAX} events, as `{{\"events\": […]}}` or as NDJSON (`application/x-ndjson`; the schema shown is that of a line). Each \
         row stands for itself: bad ones never sink good ones (those of another tenant than the key's are bad), \
         and every row that was not inserted is listed with the reason. Of one id twice in a request the second is a duplicate."
    );
    let operation = OperationBuilder::new()
        .operation_id(Some("postEventsBulk"))
        .tag("events")
        .summary(Some("Store many events, each once"))
        .description(Some(description))
        .parameter(ack())
        .request_body(Some(
            RequestBodyBuilder::new()
                .required(Some(Required::True))
                .content("application/json", json_of("BulkEvents"))
                .content("application/x-ndjson", json_of("ServiceEvent"))
                .build(),
        ))
        .response("200", answer("What became of each row.", json_of("BulkResult"), "application/json"));
    with_problems(operation, &[TAKING, &[Problem::TooManyEvents, Problem::InvalidEvents]].concat())
}

#[must_use]
pub fn get_page() -> OperationBuilder {
    let operation = OperationBuilder::new()
        .operation_id(Some("getEvents"))
        .tag("events")
        .summary(Some("Read a tenant's events"))
        .description(Some(
            "With `Accept: application/x-ndjson` all rows of the filter are streamed, one a line; a stream that \
             cannot be finished ends without its last chunk, never as if it were whole.",
        ))
        .parameter(tenant(Required::True));
    let operation = paging(range(names(operation)))
        .response("200", answer("A page.", json_of("EventPage"), "application/json"));
    with_problems(operation, READING)
}

#[must_use]
pub fn get_clicks() -> OperationBuilder {
    let operation = OperationBuilder::new()
        .operation_id(Some("getClicks"))
        .tag("collector")
        .summary(Some("Read the collector's events"))
        .description(Some("As `/events`; ordered by time and user. Clicks are no one tenant's: the key must be bound to all."))
        .parameter(parameter("user_id", "Of this user only.", number(i64::MIN, i64::MAX)));
    let operation =
        paging(range(operation)).response("200", answer("A page.", json_of("ClickPage"), "application/json"));
    with_problems(operation, READING)
}

#[must_use]
pub fn get_metrics() -> OperationBuilder {
    let operation = OperationBuilder::new()
        .operation_id(Some("metrics"))
        .tag("events")
        .summary(Some("Counts of a tenant's events, or metrics for Prometheus"))
        .description(Some(
            "With `tenant_id`: events by source and type in buckets of time, equal to a recount at every \
             commit. Without: the server's own metrics, text format 0.0.4, or OpenMetrics on `Accept`; the \
             key must be bound to all tenants then.",
        ))
        .parameter(tenant(Required::False))
        .parameter(parameter("bucket_size", "How long a bucket is.", words(&["minute", "hour", "day"])));
    let operation = range(names(operation)).response(
        "200",
        ResponseBuilder::new()
            .description(
                "With `tenant_id`: buckets that hold events, by time. Without: the server's metrics.",
            )
            .content("application/json", json_of("Metrics"))
            .content("text/plain", text())
            .content("application/openmetrics-text", text())
            .header("X-Request-Id", request_id())
            .build(),
    );
    with_problems(operation, READING)
}
