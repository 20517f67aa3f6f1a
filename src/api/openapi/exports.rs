//! Exports in the OpenAPI document.

use utoipa::openapi::path::{OperationBuilder, Parameter};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::{Required, Response, ResponseBuilder};

use super::events::READING;
use super::links::{Next, SAME_TENANT, with_links};
use super::parameters::{ack, id_in_path, idempotency_key, identifier, in_header, in_path, string};
use super::{answer, header, json_of, request_id, with_problems};
use crate::api::problem::Problem;

fn tenant() -> Parameter {
    in_path("tenant", "Whose orders.", identifier())
}

fn export() -> Parameter {
    id_in_path("export", "The last segment of the `Location` that the creation answered.")
}

fn with(operation: OperationBuilder, problems: &[Problem]) -> OperationBuilder {
    with_problems(operation, &[READING, problems].concat())
}

const THIS_EXPORT: &[(&str, &str)] = &[SAME_TENANT, ("export", "$response.body#/id")];
const LINKS: [Next; 3] = [
    Next { operation: "getExport", parameters: THIS_EXPORT },
    Next { operation: "downloadExport", parameters: THIS_EXPORT },
    Next { operation: "deleteExport", parameters: THIS_EXPORT },
];

#[must_use]
pub fn create() -> OperationBuilder {
    let created = ResponseBuilder::new()
        .description("It is taken on, also after a kill.")
        .content("application/json", json_of("ExportStatus"))
        .header("Location", header("Where it is.", &[]))
        .header("Idempotent-Replayed", header("It was there before, under the same key.", &["true"]))
        .header("X-Request-Id", request_id());
    let operation = OperationBuilder::new()
        .operation_id(Some("createExport"))
        .tag("exports")
        .summary(Some("Begin an export of orders or their items"))
        .description(Some(
            "It runs in the background and can be read from its first byte on. It tells the orders that were \
             committed when it was created, with the status each had when the job chose them, in its first seconds; \
             the bytes are the same however often the server is stopped on the way. Rows come shard by shard in \
             order of arrival.\n\nMoney of CSV and NDJSON has the digits of its currency; of Parquet it is \
             DECIMAL(38,4). A text of CSV that begins with `=`, `+`, `-`, `@`, a tab or a carriage return has an \
             apostrophe in front, so that no spreadsheet takes it for a formula.",
        ))
        .parameter(tenant())
        .parameter(ack())
        .parameter(idempotency_key(
            "1 to 255 visible ASCII characters: the same request once more answers the same export.",
            Required::False,
        ))
        .request_body(Some(
            RequestBodyBuilder::new()
                .required(Some(Required::True))
                .content("application/json", json_of("NewExport"))
                .build(),
        ))
        .response("201", with_links(created, &LINKS));
    let problems = [
        Problem::IngestRunning,
        Problem::PayloadTooLarge,
        Problem::IdempotencyKeyReused,
        Problem::InvalidExport,
        Problem::NoRoomForExport,
    ];
    with(operation, &problems)
}

#[must_use]
pub fn list() -> OperationBuilder {
    let operation = OperationBuilder::new()
        .operation_id(Some("listExports"))
        .tag("exports")
        .summary(Some("A tenant's exports, newest first"))
        .parameter(tenant())
        .response("200", answer("All that are known.", json_of("ExportList"), "application/json"));
    with(operation, &[])
}

#[must_use]
pub fn get() -> OperationBuilder {
    let operation = OperationBuilder::new()
        .operation_id(Some("getExport"))
        .tag("exports")
        .summary(Some("How far an export is"))
        .parameter(tenant())
        .parameter(export())
        .response("200", answer("Its state.", json_of("ExportStatus"), "application/json"));
    with(operation, &[Problem::NoSuchExport])
}

#[must_use]
pub fn delete() -> OperationBuilder {
    let operation = OperationBuilder::new()
        .operation_id(Some("deleteExport"))
        .tag("exports")
        .summary(Some("Remove an export, whether or not it is done"))
        .description(Some("Downloads that are under way are broken off, never ended as if they were whole."))
        .parameter(tenant())
        .parameter(export())
        .parameter(ack())
        .response(
            "204",
            ResponseBuilder::new().description("It is gone.").header("X-Request-Id", request_id()).build(),
        );
    with(operation, &[Problem::NoSuchExport])
}

/// The file, or a part of it.
fn bytes(description: &str, more: &[(&str, &str)]) -> Response {
    let mut response = ResponseBuilder::new()
        .description(description)
        .header(
            "ETag",
            header("The same from the first byte to the last: what was given out never changes.", &[]),
        )
        .header("Accept-Ranges", header("`bytes`.", &["bytes"]))
        .header("Content-Disposition", header("A name for the file.", &[]))
        .header("X-Request-Id", request_id());
    for (name, meaning) in more {
        response = response.header(*name, header(meaning, &[]));
    }
    for media in [
        "text/csv",
        "application/x-ndjson",
        "application/vnd.apache.parquet",
        "application/gzip",
        "application/zstd",
    ] {
        response = response.content(media, super::bytes());
    }
    response.build()
}

#[must_use]
pub fn download() -> OperationBuilder {
    const DIGEST: (&str, &str) = ("Repr-Digest", "SHA-256 of the whole file (RFC 9530), once it is done.");
    let operation = OperationBuilder::new()
        .operation_id(Some("downloadExport"))
        .tag("exports")
        .summary(Some("The file of an export, also while it is made"))
        .description(Some(
            "While it is made the answer has no length and follows the file until it is done; should the export fail \
             or be removed, or an erasure take orders out that the file holds (it goes on under another `ETag`), the \
             framing breaks and does not end. A file that told of a person who was erased is 410. A cut download goes on with `Range: bytes=N-` and \
             `If-Range`, while the file grows as well: `Content-Range` then names no total and, as its last byte, a \
             very large number (RFC 8673), and a clean end is the end of the file. Several ranges are answered with \
             the whole.",
        ))
        .parameter(tenant())
        .parameter(export())
        .parameter(in_header("Range", "One range of bytes.", string(), Required::False))
        .parameter(in_header("If-Range", "The `ETag`: the range counts only if the file is that one.", string(), Required::False))
        .parameter(in_header("If-None-Match", "304 where the file is done and this one.", string(), Required::False))
        .response("200", bytes("The file.", &[DIGEST]))
        .response("206", bytes("A part of it.", &[DIGEST, ("Content-Range", "Which part.")]))
        .response(
            "304",
            ResponseBuilder::new()
                .description("It is the file that `If-None-Match` names.")
                .header("X-Request-Id", request_id())
                .build(),
        );
    let problems = [
        Problem::NoSuchExport,
        Problem::ExportFailed,
        Problem::ExportGone,
        Problem::PreconditionFailed,
        Problem::RangeNotSatisfiable,
    ];
    with(operation, &problems)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use crate::api::openapi::document_of;
    use crate::commerce::{Export, ExportId, ExportRecord, ExportSpec, Progress};

    #[test]
    fn an_export_is_described_as_it_is_told() {
        let document = document_of(&[]);
        let schema = &document["components"]["schemas"];
        let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
        let example = br#"{"format":"parquet","rows":"items","compression":"zstd",
            "fields":["order_id","ordered_at","product_id","amount"],
            "filters":{"from":"2026-01-01T00:00:00Z","status":["paid","shipped"],"min_total":"10.00"}}"#;
        let asked: Value = serde_json::from_slice(example).unwrap();
        assert_eq!(keys(&schema["NewExport"]["properties"]), keys(&asked));
        let export = Export::new(ExportRecord {
            id: ExportId::random().unwrap(),
            tenant: "t".to_owned(),
            key: None,
            spec: ExportSpec::read(example).unwrap(),
            created_us: 0,
            pins: Vec::new(),
            progress: Progress::begin(),
        });
        assert_eq!(keys(&schema["ExportStatus"]["properties"]), keys(&export.told()));
    }
}
