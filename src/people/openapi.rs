//! Erasures in the OpenAPI document.

use utoipa::openapi::path::OperationBuilder;

use super::shapes::{ErasedInShard, ErasureCertificate, ErasureProgress, ErasureStep};
use crate::api::openapi::links::{Next, SAME_TENANT, with_links};
use crate::api::openapi::parameters::{ack, id_in_path, identifier, in_path, number, parameter, words};
use crate::api::openapi::{READING, answer, json_of, with_problems};
use crate::api::problem::Problem;
use utoipa::openapi::schema::ComponentsBuilder;

/// Adds the erasure schemas.
pub fn schemas(components: ComponentsBuilder) -> ComponentsBuilder {
    components
        .schema_from::<ErasureCertificate>()
        .schema_from::<ErasedInShard>()
        .schema_from::<ErasureProgress>()
        .schema_from::<ErasureStep>()
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
            "The erasure takes longer than ten seconds and continues in the background, also after a \
                 crash. `Location` is the URL of its progress.",
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
                 unused pages and write-ahead log, and no journal, upload or export. Backups outside the \
                 data folder are your responsibility. Order ids are the tenant's own names and remain when \
                 a customer is pseudonymised. Repeating an erasure is safe.",
            ))
            .parameter(in_path("tenant", "The tenant that owns the customer.", identifier()))
            .parameter(in_path("customer", "The customer's id, percent-encoded.", identifier()))
            .parameter(parameter("mode", "Default: `erase`.", words(&["erase", "pseudonymise"])))
            .parameter(ack()),
        Next { operation: "erasure", parameters: &[SAME_TENANT, THE_ERASURE] },
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
        .response("200", answer("The erasure's state.", json_of("ErasureProgress"), "application/json"));
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

    use super::super::answer::{Erasure, status};
    use super::super::report::{ErasureReport, ErasureState};
    use crate::api::openapi::document_of;

    #[test]
    fn shapes_are_described_as_they_are_sent() {
        let document = document_of(&[], &[super::schemas]);
        let keys = |object: &Value| object.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
        let described = |schema: &str| keys(&document["components"]["schemas"][schema]["properties"]);
        let state = ErasureState {
            tenant_id: None,
            mode: "erase".to_owned(),
            began_us: 0,
            finished_us: Some(1),
            step: "finished".to_owned(),
            uploads: 0,
            exports: 0,
            names_truncated: false,
            report: ErasureReport::default(),
        };
        let answer = status(&Erasure { id: "0", shards: &[Some(state)] });
        let said: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(keys(&said), described("ErasureProgress"));
        assert_eq!(keys(&said["shards"][0]), described("ErasureStep"));
        assert_eq!(keys(&said["certificate"]), described("ErasureCertificate"));
        assert_eq!(keys(&said["certificate"]["shards"][0]), described("ErasedInShard"));
    }
}
