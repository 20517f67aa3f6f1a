//! Price events in the OpenAPI document: events in, anomalies out as a list or a stream, decisions.

use serde_json::json;
use utoipa::openapi::path::{OperationBuilder, Parameter};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::{ContentBuilder, Ref, Required, ResponseBuilder};

use super::events::READING;
use super::links::{Next, SAME_PRODUCT, SAME_TENANT, with_links};
use super::parameters::{
    ack, cursor, id_in_path, identifier, in_header, in_path, number, parameter, string, time_or_date, words,
};
use super::{answer, header, json_of, request_id, text, with_problems};
use crate::api::problem::Problem;
use crate::commerce::ANOMALIES_MAX;

const JSON: &str = "application/json";

fn tenant() -> Parameter {
    in_path("tenant", "Whose prices.", identifier())
}

fn product() -> Parameter {
    in_path("product", "The product's id, percent-encoded.", identifier())
}

const WRITING: &[Problem] = &[
    Problem::BadRequest,
    Problem::BadParameter,
    Problem::NotJson,
    Problem::NotFound,
    Problem::RequestTimeout,
    Problem::PayloadTooLarge,
    Problem::QueueFull,
    Problem::Overloaded,
    Problem::OutcomeUnknown,
    Problem::JournalUnsynced,
    Problem::JournalFull,
];

/// The anomaly is there where the price was out of line.
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
    let body = ContentBuilder::new()
        .schema(Some(Ref::from_schema_name("NewPriceEvent")))
        .example(Some(example))
        .build();
    let signature = |name: &str, what: &str| in_header(name, what, string(), Required::False);
    let operation = OperationBuilder::new()
        .operation_id(Some("recordPrice"))
        .tag("prices")
        .summary(Some("Record an observed price, and learn whether it is out of line"))
        .description(Some(
            "Stored once: a repetition gets the first answer, the same id with another price, currency or time is a \
             conflict. The price is compared with the accepted ones in its currency: with the last, by percent, and \
             with up to a window of them, by a modified z-score; either can make it an anomaly, which stays out of \
             later comparisons until it is approved. One that comes late is compared with the neighbours of its own \
             time and never becomes the last.\n\nWhere the tenant has webhook secrets, the request is signed by the \
             scheme of Standard Webhooks: id, time and body. The path is not signed, so a request that was overheard \
             can be sent to another product of the tenant within the five minutes; without an `event_id` in the \
             body the signed `webhook-id` stands for it, and no other header does. Price events are limited for each product and each tenant. 202 where the \
             shard does not commit in time: the comparison happens when it does, and who sends the event again is \
             told the outcome.",
        ))
        .parameter(tenant())
        .parameter(product())
        .parameter(ack())
        .parameter(in_header(
            "Idempotency-Key",
            "Stands for an `event_id` that the body has not, where the tenant has no webhook secrets: 1 to 200 visible \
             ASCII characters and spaces between them, in quotes or not. Beside an `event_id`, one that has another \
             form stands for nothing.",
            string(),
            Required::False,
        ))
        .parameter(signature("webhook-id", "Signed; stands for an `event_id` where neither of the others does."))
        .parameter(signature("webhook-timestamp", "Seconds since 1970, within five minutes."))
        .parameter(signature("webhook-signature", "`v1,` and base64, several with spaces between them."))
        .request_body(Some(
            RequestBodyBuilder::new().required(Some(Required::True)).content(JSON, body).build(),
        ))
        .response("201", with_links(recorded("It is committed."), &LINKS))
        .response(
            "200",
            recorded("It was committed before; this is what was answered then.")
                .header("Idempotent-Replayed", header("`true`.", &["true"])),
        )
        .response("202", answer("It is in the journal and will be compared.", json_of("PriceAccepted"), JSON));
    let also = [
        Problem::BadSignature,
        Problem::IdempotencyKeyMissing,
        Problem::PriceEventConflict,
        Problem::InvalidEvent,
        Problem::TooDeep,
    ];
    with_problems(operation, &[WRITING, &also].concat())
}

#[must_use]
pub fn list(of_product: bool) -> OperationBuilder {
    let limit = format!("1 to {ANOMALIES_MAX}; 100 unless told.");
    let found = ResponseBuilder::new()
        .description(
            "A page; or, with `Accept: text/event-stream`, events `anomaly` and `review` with an anomaly as their \
             data, as they become known.",
        )
        .content(JSON, json_of("PriceAnomalies"))
        .content("text/event-stream", text())
        .header("X-Request-Id", request_id());
    let mut operation = OperationBuilder::new()
        .operation_id(Some(if of_product { "productAnomalies" } else { "priceAnomalies" }))
        .tag("prices")
        .summary(Some(if of_product {
            "Prices of a product that were out of line"
        } else {
            "Prices of a tenant that were out of line"
        }))
        .description(Some(
            "Newest first, by when they were received. As a stream: what becomes known from now on, or behind the \
             event that `Last-Event-ID` names, over restarts of the server as well; nothing is missed and nothing \
             comes twice. A comment comes every 15 seconds, with an id of its own where changes of others have passed. A reader that is too slow gets an event `lagged` and \
             then what it missed. The stream ends when the server stops: come back with the last id. It ends as well when its key does. An id of \
             before the folder was distributed anew is refused; begin without one then.",
        ))
        .parameter(tenant());
    if of_product {
        operation = operation.parameter(product());
    }
    let operation = operation
        .parameter(parameter(
            "status",
            "Only those of this status; lists only.",
            words(&["open", "approved", "rejected"]),
        ))
        .parameter(parameter("since", "Received at this time or date or later; lists only.", time_or_date()))
        .parameter(parameter("limit", &limit, number(1, ANOMALIES_MAX as i64)))
        .parameter(parameter("cursor", "The `next_cursor` of an answer to the same question.", cursor()))
        .parameter(parameter(
            "last_event_id",
            "As the header `Last-Event-ID`, for clients that cannot set one; streams only.",
            cursor(),
        ))
        .parameter(in_header(
            "Last-Event-ID",
            "The id of the last event that was read.",
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
            "Once: the same decision again changes nothing and is no error, another one is a conflict. An approved \
             price counts as accepted from its own time on; verdicts that were given before stay.",
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
                .content(JSON, json_of("PriceReview"))
                .build(),
        ))
        .response("200", answer("It is committed.", json_of("PriceAnomaly"), JSON));
    let also =
        [Problem::NoSuchAnomaly, Problem::AlreadyReviewed, Problem::InvalidReview, Problem::ShardUnavailable];
    with_problems(operation, &[WRITING, &also].concat())
}

#[cfg(test)]
mod tests {
    use super::{list, post_event};
    use crate::api::openapi::document_of;
    use crate::commerce::{AnomaliesPlan, PriceEvent};
    use crate::http::Method;

    #[test]
    fn the_example_is_a_price_event_and_the_parameters_are_understood() {
        let path = "/api/v1/tenants/{tenant}/products/{product}/price-event";
        let anomalies = "/api/v1/tenants/{tenant}/price-anomalies";
        let document =
            document_of(&[(path, Method::Post, post_event), (anomalies, Method::Get, || list(false))]);
        let body = &document["paths"][path]["post"]["requestBody"]["content"]["application/json"];
        assert!(PriceEvent::read(body["example"].to_string().as_bytes(), i64::MAX).is_ok());
        let errors = AnomaliesPlan::new("t", None, Some("nothing_has_this_name=1")).unwrap_err();
        let known: Vec<&str> = errors[0].detail.rsplit("known are ").next().unwrap().split(", ").collect();
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
