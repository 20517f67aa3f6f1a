//! Erasing people in the OpenAPI document.

use utoipa::openapi::path::OperationBuilder;

use super::events::READING;
use super::links::{Next, SAME_TENANT, with_links};
use super::parameters::{ack, id_in_path, identifier, in_path, number, parameter, words};
use super::{answer, json_of, with_problems};
use crate::api::problem::Problem;

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
    let done = answer("It is done: the certificate.", certificate, "application/json");
    let operation = operation
        .tag("people")
        .response("200", with_links(done, &[link]))
        .response(
            "202",
            answer(
                "It takes longer than ten seconds and goes on by itself, also after a crash; `Location` tells how far \
                 it is.",
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
                "With `mode=erase` the customer's orders go with their items, and leave sums and sketches as if they \
                 had never been; service events of the tenant that have the customer's id or e-mail address in their \
                 payload go as well. With `mode=pseudonymise` orders, events and all figures stay, and a random token \
                 takes the place of id, name and e-mail address. Either way what comes later of the customer is \
                 treated alike: an erased one's orders fail with the code `suppressed`. Afterwards the bytes are in \
                 no file of the data folder: not in databases, their unused pages and write-ahead logs, not in \
                 journals, uploads and exports. Backups are elsewhere, and are yours to see to. Order ids are the \
                 tenant's own names and stay with a pseudonym. Doing it twice is safe.",
            ))
            .parameter(in_path("tenant", "Whose customer.", identifier()))
            .parameter(in_path("customer", "The customer's id, percent-encoded.", identifier()))
            .parameter(parameter("mode", "`erase` unless told.", words(&["erase", "pseudonymise"])))
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
                "Every event that `/event` took of the `user_id` before this request goes, from open and sealed \
                 partitions and their indexes. Clicks are no one tenant's: the key must be bound to all. What the \
                 user sends later is new.",
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
        .summary(Some("How far an erasure is"))
        .parameter(id_in_path("erasure", "The id, as the certificate or `Location` has it."))
        .response("200", answer("Its state.", json_of("ErasureProgress"), "application/json"));
    with_problems(operation, &[READING, &[Problem::NoSuchErasure]].concat())
}

#[must_use]
pub fn erasure() -> OperationBuilder {
    telling(OperationBuilder::new().operation_id(Some("erasure")).parameter(in_path(
        "tenant",
        "Whose customer it is about.",
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

    use crate::api::openapi::document_of;
    use crate::api::people::{Erasure, told};
    use crate::shard::{ErasureReport, ErasureState};

    #[test]
    fn shapes_are_described_as_they_are_sent() {
        let document = document_of(&[]);
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
        let answer = told(&Erasure { id: "0", shards: &[Some(state)] });
        let said: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(keys(&said), described("ErasureProgress"));
        assert_eq!(keys(&said["shards"][0]), described("ErasureStep"));
        assert_eq!(keys(&said["certificate"]), described("ErasureCertificate"));
        assert_eq!(keys(&said["certificate"]["shards"][0]), described("ErasedInShard"));
    }
}
