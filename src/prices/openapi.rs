//! Price events in the OpenAPI document: events in, anomalies out as a list or a stream, decisions.

use serde_json::json;
use utoipa::openapi::path::{OperationBuilder, Parameter};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::{Required, ResponseBuilder};

use super::body::ANOMALIES_MAX;
use super::shapes::{
    AnomalyReason, AnomalyScore, AnomalyState, FoundAnomaly, NewPriceEvent, PriceAccepted, PriceAnomalies,
    PriceAnomaly, PriceDecision, PriceRecorded, PriceReview,
};
use crate::api::openapi::links::{Next, SAME_PRODUCT, SAME_TENANT, with_links};
use crate::api::openapi::parameters::{
    ack, cursor, id_in_path, identifier, in_header, in_path, number, parameter, range, string, time_or_date,
    words,
};
use crate::api::openapi::{READING, answer, header, json_like, json_of, request_id, text, with_problems};
use crate::api::problem::Problem;
use utoipa::openapi::schema::ComponentsBuilder;

/// Adds the price schemas.
pub fn schemas(components: ComponentsBuilder) -> ComponentsBuilder {
    components
        .schema_from::<NewPriceEvent>()
        .schema_from::<PriceRecorded>()
        .schema_from::<PriceAccepted>()
        .schema_from::<FoundAnomaly>()
        .schema_from::<AnomalyReason>()
        .schema_from::<AnomalyScore>()
        .schema_from::<PriceAnomaly>()
        .schema_from::<AnomalyState>()
        .schema_from::<PriceAnomalies>()
        .schema_from::<PriceReview>()
        .schema_from::<PriceDecision>()
}

const JSON: &str = "application/json";

fn tenant() -> Parameter {
    in_path("tenant", "The tenant that owns the prices.", identifier())
}

fn product() -> Parameter {
    in_path("product", "The product's id, percent-encoded.", identifier())
}

const WRITING: &[Problem] = &[
    Problem::BadParameter,
    Problem::NotFound,
    Problem::QueueFull,
    Problem::Overloaded,
    Problem::OutcomeUnknown,
    Problem::JournalUnsynced,
    Problem::JournalFull,
];

/// The path parameter with the anomaly's id. The response contains an anomaly only if the price is one.
const THE_ANOMALY: (&str, &str) = ("anomaly", "$response.body#/anomaly/id");
const LINKS: [Next; 4] = [
    Next { operation: "priceAnomalies", parameters: &[SAME_TENANT] },
    Next { operation: "productAnomalies", parameters: &[SAME_TENANT, SAME_PRODUCT] },
    Next { operation: "reviewAnomaly", parameters: &[SAME_TENANT, THE_ANOMALY] },
    Next { operation: "reviewProductAnomaly", parameters: &[SAME_TENANT, SAME_PRODUCT, THE_ANOMALY] },
];

#[must_use]
pub fn post_event() -> OperationBuilder {
    let recorded = |description: &str| {
        ResponseBuilder::new()
            .description(description)
            .content(JSON, json_of("PriceRecorded"))
            .header("X-Request-Id", request_id())
    };
    let example = json!({
        "event_id": "obs-1", "price": "19.99", "currency": "USD", "observed_at": "2026-03-01T12:00:00Z",
    });
    let body = json_like("NewPriceEvent", example);
    let signature = |name: &str, what: &str| in_header(name, what, string(), Required::False);
    let operation = OperationBuilder::new()
        .operation_id(Some("recordPrice"))
        .tag("prices")
        .summary(Some("Record an observed price and check it for an anomaly"))
        .description(Some(
            "Each event is stored once. A retry gets the first response; the same id with another price, \
             currency or time is a conflict. The price is compared with the accepted prices in its \
             currency: with the last one, by percent, and with a window of earlier ones, by a modified \
             z-score. Either comparison can make it an anomaly. An anomaly is excluded from later \
             comparisons until it is approved. A price that arrives late is compared with its neighbours in \
             time and never becomes the last price.\n\nIf the tenant has webhook secrets, the request must \
             be signed by the scheme of Standard Webhooks, which covers id, time and body. The signature \
             does not cover the path, so an intercepted request can be replayed to another product of the \
             tenant within five minutes. If the body of a signed request has no `event_id`, the signed \
             `webhook-id` is used, and no other header. Price events are rate limited per product and per \
             tenant. The response is 202 if the shard does not commit in time: the comparison then happens \
             at commit, and a retry of the event returns the outcome.",
        ))
        .parameter(tenant())
        .parameter(product())
        .parameter(ack())
        .parameter(in_header(
            "Idempotency-Key",
            "Used as the `event_id` if the body has none and the tenant has no webhook secrets: 1 to 200 \
             visible ASCII characters or spaces, quoted or unquoted. If the body has an `event_id` too, the \
             key is bound to that id, and using it with another `event_id` is a conflict. A malformed key \
             next to an `event_id` is ignored.",
            string(),
            Required::False,
        ))
        .parameter(signature(
            "webhook-id",
            "Signed. Used as the `event_id` if neither the body nor \
                                            `Idempotency-Key` has one.",
        ))
        .parameter(signature(
            "webhook-timestamp",
            "Seconds since 1970, within five minutes of the server's \
                                                   clock.",
        ))
        .parameter(signature(
            "webhook-signature",
            "One or more signatures, separated by spaces, each `v1,` \
                                                   and base64.",
        ))
        .request_body(Some(
            RequestBodyBuilder::new().required(Some(Required::True)).content(JSON, body).build(),
        ))
        .response("201", with_links(recorded("The price is committed."), &LINKS))
        .response(
            "200",
            recorded("The price was committed before. The body is the first response.")
                .header("Idempotent-Replayed", header("`true`.", &["true"])),
        )
        .response(
            "202",
            answer(
                "The price is in the journal and will be compared at commit.",
                json_of("PriceAccepted"),
                JSON,
            ),
        );
    let also = [
        Problem::BadSignature,
        Problem::IdempotencyKeyMissing,
        Problem::PriceEventConflict,
        Problem::InvalidEvent,
    ];
    with_problems(operation, &[WRITING, &also].concat())
}

#[must_use]
pub fn list(of_product: bool) -> OperationBuilder {
    let limit = format!("1 to {ANOMALIES_MAX}. Default: 100.");
    let found = ResponseBuilder::new()
        .description(
            "A page of anomalies; or, with `Accept: text/event-stream`, a stream of `anomaly` and `review` \
             events as they occur, each with an anomaly as its data.",
        )
        .content(JSON, json_of("PriceAnomalies"))
        .content("text/event-stream", text())
        .header("X-Request-Id", request_id());
    let mut operation = OperationBuilder::new()
        .operation_id(Some(if of_product { "productAnomalies" } else { "priceAnomalies" }))
        .tag("prices")
        .summary(Some(if of_product {
            "Price anomalies of a product"
        } else {
            "Price anomalies of a tenant"
        }))
        .description(Some(
            "The list is sorted by time of receipt, newest first, and a period selects by it. The stream begins now, or after the event \
             that `Last-Event-ID` names, also across restarts of the server. It neither omits nor repeats \
             an event. A comment is sent every 15 seconds; it has its own id if other changes have passed \
             in the meantime. A reader that is too slow gets an event `lagged`, then the events that it \
             missed. If retention has deleted changes after the named event, an event `dropped` precedes the \
             remaining ones. The stream ends when the server stops; reconnect with the last id. It also ends when \
             its key becomes invalid. An id from before a reshard is refused; reconnect without an id.",
        ))
        .parameter(tenant());
    if of_product {
        operation = operation.parameter(product());
    }
    let operation = operation
        .parameter(parameter(
            "status",
            "Only anomalies with this status. Lists only.",
            words(&["open", "approved", "rejected"]),
        ))
        .parameter(parameter(
            "since",
            "Another name of `from`: only prices received at or after this time or date. Lists only.",
            time_or_date(),
        ))
        .parameter(parameter("limit", &limit, number(1, ANOMALIES_MAX as i64)))
        .parameter(parameter("cursor", "The `next_cursor` of a response to the same query.", cursor()))
        .parameter(parameter(
            "last_event_id",
            "Same as the header `Last-Event-ID`, for clients that cannot set headers. Streams only.",
            cursor(),
        ));
    let operation = range(operation)
        .parameter(in_header(
            "Last-Event-ID",
            "The id of the last event that the client read.",
            cursor(),
            Required::False,
        ))
        .response("200", found);
    with_problems(operation, &[READING, &[Problem::NotFound]].concat())
}

#[must_use]
pub fn post_review(of_product: bool) -> OperationBuilder {
    let mut operation = OperationBuilder::new()
        .operation_id(Some(if of_product { "reviewProductAnomaly" } else { "reviewAnomaly" }))
        .tag("prices")
        .summary(Some("Approve or reject an anomaly"))
        .description(Some(
            "An anomaly is decided once. Repeating the same decision changes nothing and is not an error; a \
             different decision is a conflict. An approved price counts as accepted from its own time on. \
             Earlier verdicts remain.",
        ))
        .parameter(tenant());
    if of_product {
        operation = operation.parameter(product());
    }
    let operation = operation
        .parameter(id_in_path("anomaly", "The anomaly's id."))
        .parameter(ack())
        .request_body(Some(
            RequestBodyBuilder::new()
                .required(Some(Required::True))
                .content(JSON, json_like("PriceReview", json!({"decision": "approve"})))
                .build(),
        ))
        .response("200", answer("The decision is committed.", json_of("PriceAnomaly"), JSON));
    let also =
        [Problem::NoSuchAnomaly, Problem::AlreadyReviewed, Problem::InvalidReview, Problem::ShardUnavailable];
    with_problems(operation, &[WRITING, &also].concat())
}

#[cfg(test)]
mod tests {
    use super::super::body::{AnomaliesPlan, PriceEvent};
    use super::{list, post_event};
    use crate::api::members::Member;
    use crate::api::openapi::document_of;
    use crate::http::Method;

    #[test]
    fn the_example_is_a_price_event_and_the_parameters_are_understood() {
        let path = "/api/v1/tenants/{tenant}/products/{product}/price-event";
        let anomalies = "/api/v1/tenants/{tenant}/price-anomalies";
        let document =
            document_of(&[(path, Method::Post, post_event), (anomalies, Method::Get, || list(false))], &[]);
        let body = &document["paths"][path]["post"]["requestBody"]["content"]["application/json"];
        let example = body["example"].to_string();
        assert!(PriceEvent::read(Member::of(example.as_bytes()).unwrap(), i64::MAX).is_ok());
        let errors = AnomaliesPlan::new("t", None, Some("nothing_has_this_name=1")).unwrap_err();
        let known: Vec<&str> =
            errors[0].detail.rsplit("the known parameters are ").next().unwrap().split(", ").collect();
        let parameters = &document["paths"][anomalies]["get"]["parameters"];
        let of_query: Vec<&str> = parameters
            .as_array()
            .unwrap()
            .iter()
            .filter(|parameter| parameter["in"] == "query" && parameter["name"] != "last_event_id")
            .map(|parameter| parameter["name"].as_str().unwrap())
            .collect();
        assert_eq!(of_query, known);
    }
}
