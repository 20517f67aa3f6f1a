//! Clicks in the OpenAPI document.

use serde_json::json;
use utoipa::openapi::path::{OperationBuilder, ParameterBuilder, ParameterIn};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{ComponentsBuilder, ObjectBuilder, Type};
use utoipa::openapi::{Content, Required, ResponseBuilder};

use super::shapes::{Accepted, ClickEvent, ClickPage, StoredClick};
use crate::api::openapi::links::{Next, with_links};
use crate::api::openapi::parameters::{number, paging, parameter, range};
use crate::api::openapi::{READING, answer, header, json_like, json_of, request_id, with_problems};
use crate::api::problem::Problem;

/// Adds the schemas of clicks.
pub fn schemas(components: ComponentsBuilder) -> ComponentsBuilder {
    components
        .schema_from::<ClickEvent>()
        .schema_from::<Accepted>()
        .schema_from::<StoredClick>()
        .schema_from::<ClickPage>()
}

#[must_use]
pub fn post_event() -> OperationBuilder {
    let accepted = ResponseBuilder::new()
        .description(
            "The event is accepted. The headers name the promise. The response does not wait for \
                      the database.",
        )
        .content("application/json", json_of("Accepted"))
        .header(
            "Firehose-Ack",
            header(
                "The promise of this response: `os` means the event survives the death of the process, `disk` \
                 means it survives a power cut.",
                &["os", "disk"],
            ),
        )
        .header(
            "Firehose-Receipt",
            header("The receipt of the event, `<shard>-<number>`. `/receipts/` reports its state.", &[]),
        )
        .header("X-Request-Id", request_id());
    let operation = OperationBuilder::new()
        .operation_id(Some("postEvent"))
        .tag("collector")
        .summary(Some("Accept one event"))
        .description(Some(
            "The body is parsed as JSON regardless of its Content-Type. `Content-Encoding` may be `gzip`, \
             `deflate`, `zstd` or `identity`; the size limit applies to the decoded bytes. Pages of any \
             origin may post.",
        ))
        .parameter(
            ParameterBuilder::new()
                .name("ack")
                .parameter_in(ParameterIn::Query)
                .required(Required::False)
                .description(Some(
                    "Requests the stronger promise: the server responds once the event survives a power \
                     cut, whatever its own setting.",
                ))
                .schema(Some(ObjectBuilder::new().schema_type(Type::String).enum_values(Some(["disk"])))),
        )
        .request_body(Some(
            RequestBodyBuilder::new()
                .required(Some(Required::True))
                .content("application/json", click_event())
                .build(),
        ))
        .response("202", with_links(accepted, &LINKS));
    with_problems(
        operation,
        &[
            Problem::BadParameter,
            Problem::UriTooLong,
            Problem::ExpectationFailed,
            Problem::InvalidEvent,
            Problem::QueueFull,
            Problem::HeadTooLarge,
            Problem::Internal,
            Problem::UnsupportedTransferCoding,
            Problem::Overloaded,
            Problem::Draining,
            Problem::JournalUnsynced,
            Problem::UnsupportedVersion,
            Problem::JournalFull,
        ],
    )
}

#[must_use]
pub fn get_clicks() -> OperationBuilder {
    let operation = OperationBuilder::new()
        .operation_id(Some("getClicks"))
        .tag("collector")
        .summary(Some("List the collector's events"))
        .description(Some(
            "Like `/events`, sorted by time and user. Clicks belong to no tenant, so the key \
                           must be bound to all tenants.",
        ))
        .parameter(parameter("user_id", "Only events of this user.", number(i64::MIN, i64::MAX)));
    let operation =
        paging(range(operation)).response("200", answer("A page.", json_of("ClickPage"), "application/json"));
    with_problems(operation, READING)
}

const LINKS: [Next; 2] = [
    Next { operation: "getReceipt", parameters: &[("receipt", "$response.header.Firehose-Receipt")] },
    Next { operation: "eraseClickUser", parameters: &[("user_id", "$request.body#/user_id")] },
];

/// Describes the body of a click. It has its own example, because a property of any type cannot have one.
fn click_event() -> Content {
    let example = json!({
        "user_id": 12345,
        "timestamp": "2024-01-14T10:30:00Z",
        "metadata": {"page": "/products/42", "button": "buy"},
    });
    json_like("ClickEvent", example)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::openapi::document_of;
    use crate::api::problem;
    use crate::event::Decoder;
    use crate::http::Method;

    #[test]
    fn what_a_client_must_know_of_post_event_is_in_it() {
        let document = document_of(&[("/event", Method::Post, post_event)], &[]);
        let operation = &document["paths"]["/event"]["post"];
        let example = operation["requestBody"]["content"]["application/json"]["example"].to_string();
        assert!(Decoder::new().click(example.as_bytes()).is_ok());
        let accepted = &operation["responses"]["202"];
        for header in ["Firehose-Ack", "Firehose-Receipt", "X-Request-Id"] {
            assert!(accepted["headers"][header].is_object(), "{header}");
        }
        for status in ["400", "408", "413", "422", "429", "431", "503", "507"] {
            let content = &operation["responses"][status]["content"][problem::CONTENT_TYPE];
            assert_eq!(content["schema"]["$ref"], "#/components/schemas/Problem", "{status}");
            for example in content["examples"].as_object().unwrap().values() {
                assert_eq!(example["value"]["status"].to_string(), status);
            }
        }
        assert!(operation["responses"]["429"]["headers"]["Retry-After"].is_object());
        assert_eq!(operation["parameters"][0]["name"], "ack");
    }
}
