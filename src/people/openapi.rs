//! Erasures in the OpenAPI document.

use serde_json::json;
use utoipa::openapi::path::OperationBuilder;
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{AnyOfBuilder, ComponentsBuilder, Schema};
use utoipa::openapi::{ContentBuilder, Ref, Required};

use super::place::Read;
use super::places;
use super::shapes::{
    CustomerErasure, EndOfHeldRows, ErasedInShard, ErasedInSink, ErasureCertificate, ErasureProgress,
    ErasureStep, Erasures, HeldCustomer, HeldRow, HeldRows, NewErasures,
};
use crate::api::openapi::links::{Next, SAME_TENANT, with_links};
use crate::api::openapi::parameters::{ack, id_in_path, identifier, in_path, number, parameter, words};
use crate::api::openapi::{READING, answer, json_like, json_of, with_problems};
use crate::api::problem::Problem;

/// Adds the erasure schemas.
pub fn schemas(components: ComponentsBuilder) -> ComponentsBuilder {
    components
        .schema_from::<ErasureCertificate>()
        .schema_from::<ErasedInShard>()
        .schema_from::<ErasedInSink>()
        .schema_from::<ErasureProgress>()
        .schema_from::<ErasureStep>()
        .schema_from::<NewErasures>()
        .schema_from::<Erasures>()
        .schema_from::<CustomerErasure>()
        .schema_from::<HeldCustomer>()
        .schema_from::<HeldRows>()
        .schema_from::<HeldRow>()
        .schema_from::<EndOfHeldRows>()
}

const ERASING: &[Problem] = &[
    Problem::NotFound,
    Problem::ErasureBlocked,
    Problem::UploadLocked,
    Problem::QueueFull,
    Problem::OutcomeUnknown,
    Problem::JournalUnsynced,
    Problem::JournalFull,
];

const THE_ERASURE: (&str, &str) = ("erasure", "$response.body#/id");

fn erasing(operation: OperationBuilder, link: Next) -> OperationBuilder {
    let certificate = json_of("ErasureCertificate");
    let done =
        answer("The erasure is finished. The body is its certificate.", certificate, "application/json");
    let operation = operation.tag("people").response("200", with_links(done, &[link])).response(
        "202",
        answer(
            "The erasure takes longer than ten seconds, or a sink of `firehose ship` does not have it yet. It \
                 continues in the background, also after a crash. `Location` is the URL of its progress.",
            json_of("ErasureProgress"),
            "application/json",
        ),
    );
    with_problems(operation, &[READING, ERASING].concat())
}

#[must_use]
pub fn erase_customer() -> OperationBuilder {
    erasing(
        OperationBuilder::new()
            .operation_id(Some("eraseCustomer"))
            .summary(Some("Erase a customer"))
            .description(Some(
                "With `mode=erase`, the server deletes the customer's orders and their items, and removes \
                 them from sums and sketches as if they had never existed. It also deletes the tenant's \
                 service events whose payload contains the customer's id or e-mail address. With \
                 `mode=pseudonymise`, orders, events and all figures remain, and a random token replaces \
                 the id, name and e-mail address. The same policy applies to the customer's later records: \
                 after an erasure, new orders fail with the code `suppressed`. Once the erasure is \
                 finished, no file of the data folder contains the personal data: no database with its \
                 unused pages and write-ahead log, and no journal, upload or export, and every registered sink of \
                 `firehose ship` has erased its copies. Backups outside the \
                 data folder are your responsibility. Order ids are the tenant's own names and remain when \
                 a customer is pseudonymised. Repeating an erasure is safe.",
            ))
            .parameter(in_path("tenant", "The tenant that owns the customer.", identifier()))
            .parameter(in_path("customer", "The customer's id, percent-encoded.", identifier()))
            .parameter(parameter(
                "mode",
                "Default: `erase`, as in `eraseCustomers`.",
                words(&["erase", "pseudonymise"]),
            ))
            .parameter(ack()),
        Next { operation: "erasure", parameters: &[SAME_TENANT, THE_ERASURE] },
    )
}

#[must_use]
pub fn erase_customers() -> OperationBuilder {
    let erased = |description| answer(description, json_of("Erasures"), "application/json");
    let example = json!({"mode": "erase", "customers": ["c-1001", "c-1002"]});
    let operation = OperationBuilder::new()
        .operation_id(Some("eraseCustomers"))
        .tag("people")
        .summary(Some("Erase several customers"))
        .description(Some(
            "Erases up to 1,000 customers in one pass over everything that is held, which takes far less \
             time than one request for each. The effect on each customer is that of `eraseCustomer`, with the \
             same default `mode`, and each has a certificate. An invalid id is refused, and then no one is erased. A customer of whom \
             nothing is held gets a certificate without rows. Repeating a request is safe.",
        ))
        .parameter(in_path("tenant", "The tenant that owns the customers.", identifier()))
        .parameter(ack())
        .request_body(Some(
            RequestBodyBuilder::new()
                .required(Some(Required::True))
                .content("application/json", json_like("NewErasures", example))
                .build(),
        ))
        .response("200", erased("All erasures are finished. Each has its certificate."))
        .response(
            "202",
            erased(
                "The erasures take longer than ten seconds, or a sink does not have them yet. They continue in the \
                 background, also after a crash. Each has the `url` of its progress.",
            ),
        );
    let problems = [Problem::InvalidErasure];
    with_problems(operation, &[READING, ERASING, &problems].concat())
}

fn held(operation: OperationBuilder) -> OperationBuilder {
    operation
        .tag("people")
        .parameter(in_path("tenant", "The tenant that owns the customer.", identifier()))
        .parameter(in_path("customer", "The customer's id, percent-encoded.", identifier()))
}

#[must_use]
pub fn customer() -> OperationBuilder {
    let operation = held(OperationBuilder::new())
        .operation_id(Some("getCustomer"))
        .summary(Some("A customer, and what is held of them"))
        .description(Some(
            "Counts the rows of the customer in every place that an erasure would change. The server searches \
             everything that is held, for at most ten seconds; `unfinished` lists the places that it did not \
             search to their end. A customer of whom nothing is held is 404. For an erased or pseudonymised \
             customer, `suppressed` is the mode. The orders of a pseudonymised customer are not counted, \
             because the response would link them to the customer.",
        ))
        .response("200", answer("The customer.", json_of("HeldCustomer"), "application/json"));
    with_problems(operation, &[READING, &[Problem::NotFound]].concat())
}

#[must_use]
pub fn export() -> OperationBuilder {
    let line = AnyOfBuilder::new()
        .item(Ref::from_schema_name("HeldRow"))
        .item(Ref::from_schema_name("EndOfHeldRows"))
        .description(Some("A line."));
    let line = ContentBuilder::new().schema(Some(Schema::AnyOf(line.build()))).build();
    let lines = answer(
        "One row per line, and a last line with `\"_end\":true`. A response without that last line is incomplete.",
        line,
        "application/x-ndjson",
    );
    let operation = held(OperationBuilder::new())
        .operation_id(Some("exportCustomer"))
        .summary(Some("Export everything that is held of a customer"))
        .description(Some(export_description()))
        .response("200", lines);
    with_problems(operation, &[READING, &[Problem::NotFound, Problem::ErasureBlocked]].concat())
}

/// Returns the description of the export, with every place.
fn export_description() -> String {
    let read: Vec<String> = places::readable().iter().map(|place| format!("`{}`", place.name)).collect();
    let never = places::PLACES.iter().filter_map(|place| match place.read {
        Read::Never(reason) => Some(format!("`{}` ({reason})", place.name)),
        _ => None,
    });
    format!(
        "Streams every row of the customer, from every place that an erasure would change: {}. Orders contain \
         their items and the time of their last status change. `upload_lines` are the lines of an upload. A \
         row with `\"match\":\"possible\"` cannot be distinguished from other people's: a record that could not be \
         stored, an ingest's response with order ids, an upload that cannot be searched. Bytes that cannot be \
         decoded are in base64 with a reason. A record in `journals` with `\"stored\":true` is a copy of a row, \
         or was refused, and is removed with its segment. Data that moves during the export may be listed \
         twice. Not listed: {}. If the customer is erased during the export, the connection breaks before the \
         end of the response.",
        read.join(", "),
        never.collect::<Vec<_>>().join(", "),
    )
}

#[must_use]
pub fn erase_user() -> OperationBuilder {
    erasing(
        OperationBuilder::new()
            .operation_id(Some("eraseClickUser"))
            .summary(Some("Erase a user of the collector"))
            .description(Some(
                "Deletes every event of the `user_id` that `/event` accepted before this request, from open \
                 and sealed partitions and their indexes. Clicks belong to no tenant, so the key must be \
                 bound to all tenants. Events that the user sends later are stored as usual.",
            ))
            .parameter(in_path("user_id", "A 64-bit integer.", number(i64::MIN, i64::MAX)))
            .parameter(parameter("mode", "There is one.", words(&["erase"])))
            .parameter(ack()),
        Next { operation: "clickErasure", parameters: &[THE_ERASURE] },
    )
}

fn telling(operation: OperationBuilder) -> OperationBuilder {
    let operation = operation
        .tag("people")
        .summary(Some("Progress of an erasure"))
        .parameter(id_in_path("erasure", "The erasure's id, from the certificate or `Location`."))
        .response("200", answer("The erasure's state.", json_of("ErasureProgress"), "application/json"))
        .response(
            "202",
            answer(
                "The erasure is not finished, and sinks of `firehose ship` are registered. `sinks` has the state of \
                 each.",
                json_of("ErasureProgress"),
                "application/json",
            ),
        );
    with_problems(operation, &[READING, &[Problem::NoSuchErasure]].concat())
}

#[must_use]
pub fn erasure() -> OperationBuilder {
    telling(OperationBuilder::new().operation_id(Some("erasure")).parameter(in_path(
        "tenant",
        "The tenant that owns the customer.",
        identifier(),
    )))
}

#[must_use]
pub fn click_erasure() -> OperationBuilder {
    telling(OperationBuilder::new().operation_id(Some("clickErasure")))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::super::answer::{Erasure, customer, several, status};
    use super::super::notes::SinkNotes;
    use super::super::report::{ErasureReport, ErasureState, KnownCustomer};
    use crate::api::openapi::document_of;
    use crate::config::AckLevel;

    #[test]
    fn shapes_are_described_as_they_are_sent() {
        let document = document_of(&[], &[super::schemas]);
        let keys = |object: &Value| object.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
        let described = |schema: &str| keys(&document["components"]["schemas"][schema]["properties"]);
        let state = ErasureState {
            tenant_id: None,
            mode: "erase".to_owned(),
            began_us: 0,
            local_us: Some(1),
            finished_us: Some(1),
            seq: Some(1),
            sinks: Some(vec!["postgres".to_owned()]),
            step: "finished".to_owned(),
            uploads: 0,
            exports: 0,
            names_truncated: false,
            report: ErasureReport::default(),
            batch: None,
        };
        let sinks = &SinkNotes::default();
        let answer = status(&Erasure { id: "0", shards: &[Some(state.clone())], is_pending: false, sinks });
        let said: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(keys(&said), described("ErasureProgress"));
        assert_eq!(keys(&said["shards"][0]), described("ErasureStep"));
        assert_eq!(keys(&said["certificate"]), described("ErasureCertificate"));
        assert_eq!(keys(&said["certificate"]["shards"][0]), described("ErasedInShard"));
        assert_eq!(keys(&said["sinks"][0]), described("ErasedInSink"));
        let names = ["c-7".to_owned()];
        let erasures = [Erasure { id: "0", shards: &[Some(state)], is_pending: false, sinks }];
        let answer = several("acme", &names, &erasures, AckLevel::Os);
        let said: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!((answer.status, keys(&said)), (200, described("Erasures")));
        assert_eq!(keys(&said["erasures"][0]), described("CustomerErasure"));
        let answer = customer("c-7", &KnownCustomer::default(), &[("orders", 1)], &["events"]);
        let said: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(keys(&said), described("HeldCustomer"));
        assert_eq!(keys(&said["held"][0]), described("HeldRows"));
    }
}
