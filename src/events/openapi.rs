//! The events service in the OpenAPI document.

use serde_json::{Value, json};
use utoipa::openapi::path::{OperationBuilder, Parameter};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::{Content, Required, ResponseBuilder};

use super::distinct::EXACT_VALUES_MAX;
use super::payload_value::{PATH_CHARS_MAX, PATH_PARTS_MAX};
use super::shapes::{
    BulkEvents, BulkResult, BulkRow, EventGroup, EventPage, EventResult, EventSummary, EventTotal, Metric,
    Metrics, ServiceEvent, StoredEvent, SummaryMeta, UniqueMeta, UniqueMethod, UniqueValues,
};
use super::summary::GROUPS_MAX;
use crate::api::openapi::links::{Next, with_links};
use crate::api::openapi::parameters::{identifier, in_path, matching, name, paging, parameter, range, words};
use crate::api::openapi::{READING, answer, json_like, json_of, request_id, text, with_problems};
use crate::api::problem::Problem;
use crate::base::limits::BULK_EVENTS_MAX;
use utoipa::openapi::schema::ComponentsBuilder;

/// Adds the schemas of events.
pub fn schemas(components: ComponentsBuilder) -> ComponentsBuilder {
    components
        .schema_from::<ServiceEvent>()
        .schema_from::<BulkEvents>()
        .schema_from::<EventResult>()
        .schema_from::<BulkResult>()
        .schema_from::<BulkRow>()
        .schema_from::<StoredEvent>()
        .schema_from::<EventPage>()
        .schema_from::<Metrics>()
        .schema_from::<Metric>()
        .schema_from::<EventSummary>()
        .schema_from::<EventGroup>()
        .schema_from::<EventTotal>()
        .schema_from::<SummaryMeta>()
        .schema_from::<UniqueValues>()
        .schema_from::<UniqueMeta>()
        .schema_from::<UniqueMethod>()
}

/// The problems of every request that sends events.
const TAKING: &[Problem] = &[
    Problem::BadParameter,
    Problem::QueueFull,
    Problem::Overloaded,
    Problem::JournalUnsynced,
    Problem::OutcomeUnknown,
    Problem::JournalFull,
];

fn tenant(required: Required) -> Parameter {
    let mut tenant = parameter("tenant_id", "The tenant that owns the events.", identifier());
    tenant.required = required;
    tenant
}

fn ack() -> Parameter {
    parameter(
        "ack",
        "Requests the stronger promise: the journal is synced to disk before the response.",
        words(&["disk"]),
    )
}

fn names(operation: OperationBuilder) -> OperationBuilder {
    operation.parameter(parameter("source", "Only events from this source.", name())).parameter(parameter(
        "event_type",
        "Only events of this type.",
        name(),
    ))
}

fn example(event_id: &str) -> Value {
    json!({
        "event_id": event_id, "tenant_id": "tenant_1", "source": "web", "event_type": "click",
        "timestamp": "2024-01-15T10:30:00Z", "payload": {"button": "buy"},
    })
}

fn one_event() -> Content {
    json_like("ServiceEvent", example("evt_001"))
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
        .summary(Some("Store one event, idempotently"))
        .description(Some(
            "An `event_id` is stored once per tenant, whatever its age: the first write wins. The server \
             responds when the event is committed. If that takes longer than a second, 202 means that the \
             event is in the journal and that the duplicate check happens at commit.",
        ))
        .parameter(ack())
        .request_body(Some(
            RequestBodyBuilder::new()
                .required(Some(Required::True))
                .content("application/json", one_event())
                .build(),
        ))
        .response("201", with_links(stored, &[PAGE, BUCKETS]))
        .response(
            "200",
            answer("The tenant already has this event id.", json_of("EventResult"), "application/json"),
        )
        .response(
            "202",
            answer(
                "The event is in the journal and not yet committed.",
                json_of("EventResult"),
                "application/json",
            ),
        );
    with_problems(operation, &[TAKING, &[Problem::InvalidEvent]].concat())
}

#[must_use]
pub fn post_bulk() -> OperationBuilder {
    let description = format!(
        "Up to {BULK_EVENTS_MAX} events, as `{{\"events\": […]}}` or as NDJSON (`application/x-ndjson`; the \
         schema describes a line). Each row is independent: an invalid row does not affect valid ones. A \
         row of a tenant that the key is not bound to is invalid. The response lists every row that was not \
         inserted, with the reason. If a request contains an id twice, the second row is a duplicate."
    );
    let operation = OperationBuilder::new()
        .operation_id(Some("postEventsBulk"))
        .tag("events")
        .summary(Some("Store many events, idempotently"))
        .description(Some(description))
        .parameter(ack())
        .request_body(Some(
            RequestBodyBuilder::new()
                .required(Some(Required::True))
                .content("application/json", json_like("BulkEvents", json!({"events": [example("evt_002")]})))
                .content("application/x-ndjson", json_like("ServiceEvent", example("evt_003")))
                .build(),
        ))
        .response("200", answer("The outcome of each row.", json_of("BulkResult"), "application/json"));
    with_problems(operation, &[TAKING, &[Problem::TooManyEvents, Problem::InvalidEvents]].concat())
}

#[must_use]
pub fn get_page() -> OperationBuilder {
    let operation = OperationBuilder::new()
        .operation_id(Some("getEvents"))
        .tag("events")
        .summary(Some("List a tenant's events"))
        .description(Some(
            "With `Accept: application/x-ndjson`, all matching rows are streamed, one per line. A stream \
             that fails ends without its last chunk, so a client never mistakes it for a complete one.",
        ))
        .parameter(tenant(Required::True));
    let operation = paging(range(names(operation)))
        .response("200", answer("A page.", json_of("EventPage"), "application/json"));
    with_problems(operation, READING)
}

#[must_use]
pub fn get_metrics() -> OperationBuilder {
    let operation = OperationBuilder::new()
        .operation_id(Some("metrics"))
        .tag("events")
        .summary(Some("Counts of a tenant's events, or metrics for Prometheus"))
        .description(Some(
            "With `tenant_id`: counts of events by source and type in buckets of time. They equal a recount \
             at every commit. Without it: the server's own metrics, in text format 0.0.4, or OpenMetrics if \
             `Accept` asks for it. The key must then be bound to all tenants.",
        ))
        .parameter(tenant(Required::False))
        .parameter(parameter("bucket_size", "Length of a bucket.", words(&["minute", "hour", "day"])));
    let operation = range(names(operation)).response(
        "200",
        ResponseBuilder::new()
            .description(
                "With `tenant_id`: the buckets that hold events, sorted by time. Without it: the server's \
                 metrics.",
            )
            .content("application/json", json_of("Metrics"))
            .content("text/plain", text())
            .content("application/openmetrics-text", text())
            .header("X-Request-Id", request_id())
            .build(),
    );
    with_problems(operation, READING)
}

fn path_tenant() -> Parameter {
    in_path("tenant", "The tenant that owns the events.", identifier())
}

#[must_use]
pub fn get_summary() -> OperationBuilder {
    let description = format!(
        "Counts, earliest and latest times are exact: whole minutes, hours and days come from counts that are \
         updated together with the events, and the ends of the period from the events. With `tz`, hours and days \
         begin as they do in that zone. If more than {GROUPS_MAX} groups have events, the response is 422."
    );
    let operation = OperationBuilder::new()
        .operation_id(Some("eventSummary"))
        .tag("events")
        .summary(Some("A tenant's events by type, source, hour or day"))
        .description(Some(description))
        .parameter(path_tenant())
        .parameter(parameter(
            "group_by",
            "Default: `event_type`.",
            words(&["event_type", "source", "hour", "day"]),
        ));
    let operation = range(names(operation))
        .response("200", answer("The groups.", json_of("EventSummary"), "application/json"));
    with_problems(operation, &[READING, &[Problem::QueryTooLarge]].concat())
}

#[must_use]
pub fn get_unique() -> OperationBuilder {
    let description = format!(
        "Values are equal if they have the same JSON type and content: `1` and `1.0` are one number, `\"1\"` is a \
         string, objects are compared by their members in any order, and the last of several members with one name \
         counts. Up to {EXACT_VALUES_MAX} values are counted exactly. Above that, the number is an estimate with the \
         relative standard error in `error_bounds`. A payload value is read from every event of the period, however \
         many there are, so a long period takes long."
    );
    let by = format!(
        "The value: `source`, `event_type`, or a value in the payload. `payload.user.id` names members. A JSON \
         Pointer (RFC 6901) such as `/payload/user.id/0` can name every member, also one with a dot in its name. A \
         whole number names an element of an array, from 0. At most {PATH_CHARS_MAX} characters and \
         {PATH_PARTS_MAX} members."
    );
    let pattern = format!(
        "^(source|event_type|payload(\\.[^.]+){{1,{PATH_PARTS_MAX}}}|/payload(/([^~/]|~[01])*){{1,{PATH_PARTS_MAX}}})$"
    );
    let mut by = parameter("by", &by, matching(&pattern).max_length(Some(PATH_CHARS_MAX)));
    by.required = Required::True;
    let operation = OperationBuilder::new()
        .operation_id(Some("uniqueEventValues"))
        .tag("events")
        .summary(Some("The number of distinct values in a tenant's events"))
        .description(Some(description))
        .parameter(path_tenant())
        .parameter(by);
    let operation = range(names(operation))
        .response("200", answer("The number.", json_of("UniqueValues"), "application/json"));
    with_problems(operation, READING)
}
