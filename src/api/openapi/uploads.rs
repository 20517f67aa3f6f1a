//! Resumable uploads of orders (tus 1.0.0) in the OpenAPI document.

use utoipa::openapi::path::{OperationBuilder, Parameter};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::ObjectBuilder;
use utoipa::openapi::{Required, Response, ResponseBuilder};

use super::commerce::INGESTING;
use super::parameters::{
    ack, id_in_path, idempotency_key, in_header, in_path, matching, number, string, words,
};
use super::{answer, bytes, header, json_of, request_id, with_problems};
use crate::api::problem::Problem;
use crate::api::uploads::VERSION;

/// The protocol's own content type.
const OFFSET_OCTETS: &str = "application/offset+octet-stream";

/// What can befall a look at an upload, or its end.
const LOOKING: &[Problem] =
    &[Problem::BadParameter, Problem::NoSuchUpload, Problem::UploadGone, Problem::Overloaded];

/// `name base64,name base64,name`.
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
    in_header("Tus-Resumable", "The version of the protocol.", words(&[VERSION]), Required::True)
}

fn upload() -> Parameter {
    id_in_path("upload", "The last segment of the `Location` that the creation answered.")
}

/// An answer without a body, with the headers of the protocol.
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
    "Bytes taken in. The orders of all whole lines before it are committed: they are there also after the \
     process was killed.",
);
const EXPIRES: (&str, &str) = ("Upload-Expires", "When an upload that nobody goes on with is forgotten.");

#[must_use]
pub fn capabilities(id: &str) -> OperationBuilder {
    OperationBuilder::new()
        .operation_id(Some(id))
        .tag("uploads")
        .summary(Some("What of tus is understood"))
        .response(
            "204",
            bare(
                "Nothing but headers.",
                &[
                    ("Tus-Version", "`1.0.0`."),
                    ("Tus-Extension", "`creation,creation-with-upload,creation-defer-length,expiration,termination,checksum`."),
                    ("Tus-Checksum-Algorithm", "`sha1,sha256`: the algorithms of `Upload-Checksum`."),
                    ("Tus-Max-Size", "Bytes that an upload may have."),
                ],
            ),
        )
}

/// The same of one upload.
#[must_use]
pub fn options() -> OperationBuilder {
    capabilities("uploadOptions").parameter(in_path("upload", "Any.", string()))
}

#[must_use]
pub fn post() -> OperationBuilder {
    let operation = OperationBuilder::new()
        .operation_id(Some("createUpload"))
        .tag("uploads")
        .summary(Some("Begin a resumable upload of orders"))
        .description(Some(
            "The protocol is tus 1.0.0, so that stock clients work; a `POST` to an upload with \
             `X-HTTP-Method-Override: PATCH`, `HEAD` or `DELETE` is that method. The file is what \
             `POST /api/v1/ingest/orders` takes as its body: NDJSON, plain or packed with gzip, zstd or zip. Its \
             bytes are read as they arrive. With `creation-with-upload` the first bytes may come at once.",
        ))
        .parameter(version())
        .parameter(ack())
        .parameter(in_header(
            "Upload-Length",
            "Bytes of the whole file; or `Upload-Defer-Length`.",
            number(0, i64::MAX),
            Required::False,
        ))
        .parameter(in_header(
            "Upload-Defer-Length",
            "`1`: the length is not known yet; a later piece tells it in `Upload-Length`.",
            words(&["1"]),
            Required::False,
        ))
        .parameter(in_header(
            "Upload-Metadata",
            "Pairs of a name and a value in base64, as the protocol has them. `idempotency_key` stands for the \
             header of that name.",
            metadata(),
            Required::False,
        ))
        .parameter(idempotency_key(
            "The name of this upload, as for an ingest. Without one the upload is known by its own id.",
            Required::False,
        ))
        .request_body(Some(RequestBodyBuilder::new().content(OFFSET_OCTETS, bytes()).build()))
        .response(
            "201",
            bare(
                "It exists; send its bytes to `Location`.",
                &[("Location", "Where the upload is."), OFFSET, EXPIRES],
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
        .summary(Some("Where an upload is to go on"))
        .parameter(version())
        .parameter(upload())
        .parameter(ack())
        .response(
            "200",
            bare(
                "Go on at `Upload-Offset`.",
                &[
                    OFFSET,
                    ("Upload-Length", "Bytes of the whole file."),
                    ("Upload-Defer-Length", "`1` until the length is told."),
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
        .summary(Some("What became of the rows of an upload"))
        .description(Some(
            "While it runs the summary so far, `rows_committed` included; at its end the summary of the ingest.",
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
        .parameter(in_header("Upload-Offset", "The offset that `HEAD` answered.", number(0, i64::MAX), Required::True))
        .parameter(in_header(
            "Upload-Length",
            "Bytes of the whole file, of an upload that was created with `Upload-Defer-Length`.",
            number(0, i64::MAX),
            Required::False,
        ))
        .parameter(in_header(
            "Upload-Checksum",
            "An algorithm and the checksum of this body in base64; where it is another, the body is not taken in.",
            checksum(),
            Required::False,
        ))
        .request_body(Some(
            RequestBodyBuilder::new().required(Some(Required::True)).content(OFFSET_OCTETS, bytes()).build(),
        ))
        .response("204", bare("Taken in, and its orders committed.", &[OFFSET, EXPIRES]));
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
        .summary(Some("Give an upload up"))
        .description(Some("Orders that are committed stay."))
        .parameter(version())
        .parameter(upload())
        .parameter(ack())
        .response("204", bare("It is forgotten.", &[]));
    with_problems(operation, &[LOOKING, &[Problem::TusVersion, Problem::UploadLocked]].concat())
}
