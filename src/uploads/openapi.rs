//! Resumable order uploads (tus 1.0.0) in the OpenAPI document.

use utoipa::openapi::path::{OperationBuilder, Parameter};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::ObjectBuilder;
use utoipa::openapi::{Required, Response, ResponseBuilder};

use super::answer::VERSION;
use super::shapes::UploadSummary;
use crate::api::openapi::parameters::{
    ack, id_in_path, idempotency_key, in_header, in_path, matching, number, string, words,
};
use crate::api::openapi::{answer, bytes, header, json_of, request_id, with_problems};
use crate::api::problem::Problem;
use crate::orders::openapi::INGESTING;
use utoipa::openapi::schema::ComponentsBuilder;

/// Adds the upload schemas.
pub fn schemas(components: ComponentsBuilder) -> ComponentsBuilder {
    components.schema_from::<UploadSummary>()
}

/// The content type that the protocol defines for pieces.
const OFFSET_OCTETS: &str = "application/offset+octet-stream";

/// The problems of reading or terminating an upload.
const LOOKING: &[Problem] =
    &[Problem::BadParameter, Problem::NoSuchUpload, Problem::UploadGone, Problem::Overloaded];

/// Describes metadata: `name base64,name base64,name`.
fn metadata() -> ObjectBuilder {
    let pair = "[!-+.-~-]+( ([A-Za-z0-9+/]{4}){0,40})?";
    matching(&format!("^{pair}(,{pair})*$"))
}

fn checksum() -> ObjectBuilder {
    let digest = |letters: usize, end: &str| format!("[A-Za-z0-9+/]{{{letters}}}[{end}]=");
    let (sha1, sha256) = (digest(26, "AEIMQUYcgkosw048"), digest(42, "AEIMQUYcgkosw048"));
    matching(&format!("^(sha1 {sha1}|sha256 {sha256})$"))
}

fn version() -> Parameter {
    in_header("Tus-Resumable", "The protocol version.", words(&[VERSION]), Required::True)
}

fn upload() -> Parameter {
    id_in_path("upload", "The last segment of the `Location` that the creation returned.")
}

/// Describes a response without a body, with the protocol's headers.
fn bare(description: &str, headers: &[(&str, &str)]) -> Response {
    let mut response = ResponseBuilder::new()
        .description(description)
        .header("Tus-Resumable", header("`1.0.0`.", &["1.0.0"]))
        .header("X-Request-Id", request_id());
    for (name, meaning) in headers {
        response = response.header(*name, header(meaning, &[]));
    }
    response.build()
}

const OFFSET: (&str, &str) = (
    "Upload-Offset",
    "Bytes received. The orders of all complete lines before this offset are committed and survive a kill \
     of the process.",
);
const EXPIRES: (&str, &str) = ("Upload-Expires", "When an abandoned upload expires.");

#[must_use]
pub fn capabilities(id: &str) -> OperationBuilder {
    OperationBuilder::new()
        .operation_id(Some(id))
        .tag("uploads")
        .summary(Some("Supported tus extensions"))
        .response(
            "204",
            bare(
                "The response has headers only.",
                &[
                    ("Tus-Version", "`1.0.0`."),
                    ("Tus-Extension", "`creation,creation-with-upload,creation-defer-length,expiration,termination,checksum`."),
                    ("Tus-Checksum-Algorithm", "`sha1,sha256`: the algorithms of `Upload-Checksum`."),
                    ("Tus-Max-Size", "Maximum size of an upload in bytes."),
                ],
            ),
        )
}

/// Describes OPTIONS for one upload.
#[must_use]
pub fn options() -> OperationBuilder {
    capabilities("uploadOptions").parameter(in_path("upload", "Any.", string()))
}

#[must_use]
pub fn post() -> OperationBuilder {
    let operation = OperationBuilder::new()
        .operation_id(Some("createUpload"))
        .tag("uploads")
        .summary(Some("Create a resumable upload of orders"))
        .description(Some(
            "The protocol is tus 1.0.0, so standard tus clients work. A `POST` to an upload with \
             `X-HTTP-Method-Override: PATCH`, `HEAD` or `DELETE` is treated as that method. The file has \
             the same formats as the body of `POST /api/v1/ingest/orders`: NDJSON, plain or compressed with \
             gzip, zstd or zip. Its bytes are parsed as they arrive. With `creation-with-upload`, this \
             request may carry the first bytes.",
        ))
        .parameter(version())
        .parameter(ack())
        .parameter(in_header(
            "Upload-Length",
            "Size of the whole file in bytes. Send either this or `Upload-Defer-Length`.",
            number(0, i64::MAX),
            Required::False,
        ))
        .parameter(in_header(
            "Upload-Defer-Length",
            "`1` if the size is not known yet. A later `PATCH` gives it in `Upload-Length`.",
            words(&["1"]),
            Required::False,
        ))
        .parameter(in_header(
            "Upload-Metadata",
            "Pairs of a name and a base64 value, as defined by tus. `idempotency_key` has the same effect \
             as the header `Idempotency-Key`.",
            metadata(),
            Required::False,
        ))
        .parameter(idempotency_key(
            "The name of this upload, as for an ingest. Default: the upload's own id.",
            Required::False,
        ))
        .request_body(Some(RequestBodyBuilder::new().content(OFFSET_OCTETS, bytes()).build()))
        .response(
            "201",
            bare(
                "The upload is created. Send its bytes to `Location`.",
                &[("Location", "URL of the upload."), OFFSET, EXPIRES],
            ),
        );
    with_problems(
        operation,
        &[
            INGESTING,
            &[
                Problem::BadUploadHeader,
                Problem::TusVersion,
                Problem::ChecksumMismatch,
                Problem::NoRoomForUpload,
            ],
        ]
        .concat(),
    )
}

#[must_use]
pub fn head() -> OperationBuilder {
    let operation = OperationBuilder::new()
        .operation_id(Some("uploadOffset"))
        .tag("uploads")
        .summary(Some("Offset to resume from"))
        .parameter(version())
        .parameter(upload())
        .parameter(ack())
        .response(
            "200",
            bare(
                "The upload resumes at `Upload-Offset`.",
                &[
                    OFFSET,
                    ("Upload-Length", "Size of the whole file in bytes."),
                    ("Upload-Defer-Length", "`1` until the size is known."),
                ],
            ),
        );
    with_problems(operation, &[LOOKING, &[Problem::TusVersion]].concat())
}

#[must_use]
pub fn get() -> OperationBuilder {
    let operation = OperationBuilder::new()
        .operation_id(Some("uploadSummary"))
        .tag("uploads")
        .summary(Some("Outcome of the rows of an upload"))
        .description(Some(
            "While the upload runs, this is the summary so far, including `rows_committed`. At its end it \
             is the summary of the ingest.",
        ))
        .parameter(upload())
        .response("200", answer("The summary.", json_of("UploadSummary"), "application/json"));
    with_problems(operation, LOOKING)
}

#[must_use]
pub fn patch() -> OperationBuilder {
    let operation = OperationBuilder::new()
        .operation_id(Some("continueUpload"))
        .tag("uploads")
        .summary(Some("Send the next bytes of an upload"))
        .parameter(version())
        .parameter(upload())
        .parameter(ack())
        .parameter(in_header(
            "Upload-Offset",
            "The offset that `HEAD` returned.",
            number(0, i64::MAX),
            Required::True,
        ))
        .parameter(in_header(
            "Upload-Length",
            "Size of the whole file in bytes, for an upload that was created with `Upload-Defer-Length`.",
            number(0, i64::MAX),
            Required::False,
        ))
        .parameter(in_header(
            "Upload-Checksum",
            "An algorithm and the checksum of this body in base64. If the checksum does not match, the body \
             is discarded.",
            checksum(),
            Required::False,
        ))
        .request_body(Some(
            RequestBodyBuilder::new().required(Some(Required::True)).content(OFFSET_OCTETS, bytes()).build(),
        ))
        .response("204", bare("The bytes are received and their orders are committed.", &[OFFSET, EXPIRES]));
    with_problems(
        operation,
        &[
            INGESTING,
            LOOKING,
            &[
                Problem::BadUploadHeader,
                Problem::WrongUploadOffset,
                Problem::TusVersion,
                Problem::UploadLocked,
                Problem::ChecksumMismatch,
                Problem::NoRoomForUpload,
            ],
        ]
        .concat(),
    )
}

#[must_use]
pub fn delete() -> OperationBuilder {
    let operation = OperationBuilder::new()
        .operation_id(Some("endUpload"))
        .tag("uploads")
        .summary(Some("Terminate an upload"))
        .description(Some("Committed orders remain."))
        .parameter(version())
        .parameter(upload())
        .parameter(ack())
        .response("204", bare("The upload is deleted.", &[]));
    with_problems(operation, &[LOOKING, &[Problem::TusVersion, Problem::UploadLocked]].concat())
}
