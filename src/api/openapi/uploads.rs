//! Resumable uploads of orders (tus 1.0.0) in the OpenAPI document.

use utoipa::openapi::path::{OperationBuilder, Parameter};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::{Required, Response, ResponseBuilder};

use super::commerce::INGESTING;
use super::parameters::{ack, in_header, in_path};
use super::{answer, header, json_of, request_id, text, with_problems};
use crate::api::problem::{self, Problem};

/// The protocol's own content type.
const OFFSET_OCTETS: &str = "application/offset+octet-stream";

/// What can befall a look at an upload, or its end.
const LOOKING: &[Problem] = &[
    Problem::BadParameter,
    Problem::Unauthorized,
    Problem::Forbidden,
    Problem::RateLimited,
    Problem::Overloaded,
];

/// What the protocol itself refuses.
type Refusal = (&'static str, &'static str);
const NO_SUCH: Refusal = ("404", "There is no upload with this id, or it is another tenant's.");
const GONE: Refusal = ("410", "The upload was not continued in time and is gone.");
const VERSION: Refusal =
    ("412", "`Tus-Resumable` is missing or another version; `Tus-Version` names those there are.");
const LOCKED: Refusal = ("423", "Another request works on the upload; wait as long as `Retry-After` says.");
const OFFSET_DIFFERS: Refusal = (
    "409",
    "`Upload-Offset` is not the number of bytes the upload has, which the answer's is; or an ingest with the same \
     idempotency key is running.",
);
const CHECKSUM: Refusal = ("460", "The bytes do not have the checksum they were sent with; none was taken.");

/// Adds what the protocol refuses to what befalls any request.
fn with_refusals(operation: OperationBuilder, refusals: &[Refusal]) -> OperationBuilder {
    refusals.iter().fold(operation, |operation, (status, meaning)| {
        operation.response(*status, answer(meaning, json_of("Problem"), problem::CONTENT_TYPE))
    })
}

fn version() -> Parameter {
    in_header("Tus-Resumable", "`1.0.0`.", Required::True)
}

fn upload() -> Parameter {
    in_path("upload", "The last segment of the `Location` that the creation answered.")
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
        .parameter(in_header("Upload-Length", "Bytes of the whole file; or `Upload-Defer-Length`.", Required::False))
        .parameter(in_header(
            "Upload-Defer-Length",
            "`1`: the length is not known yet; a later piece tells it in `Upload-Length`.",
            Required::False,
        ))
        .parameter(in_header(
            "Upload-Metadata",
            "Pairs of a name and a value in base64, as the protocol has them. `idempotency_key` stands for the \
             header of that name.",
            Required::False,
        ))
        .parameter(in_header(
            "Idempotency-Key",
            "The name of this upload, as for an ingest. Without one the upload is known by its own id.",
            Required::False,
        ))
        .request_body(Some(RequestBodyBuilder::new().content(OFFSET_OCTETS, text()).build()))
        .response(
            "201",
            bare(
                "It exists; send its bytes to `Location`.",
                &[("Location", "Where the upload is."), OFFSET, EXPIRES],
            ),
        );
    with_refusals(with_problems(operation, INGESTING), &[VERSION, CHECKSUM])
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
    with_refusals(with_problems(operation, LOOKING), &[NO_SUCH, GONE, VERSION])
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
    with_refusals(with_problems(operation, LOOKING), &[NO_SUCH, GONE])
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
        .parameter(in_header("Upload-Offset", "The offset that `HEAD` answered.", Required::True))
        .parameter(in_header(
            "Upload-Length",
            "Bytes of the whole file, of an upload that was created with `Upload-Defer-Length`.",
            Required::False,
        ))
        .parameter(in_header(
            "Upload-Checksum",
            "An algorithm and the checksum of this body in base64; where it is another, the body is not taken in.",
            Required::False,
        ))
        .request_body(Some(
            RequestBodyBuilder::new().required(Some(Required::True)).content(OFFSET_OCTETS, text()).build(),
        ))
        .response("204", bare("Taken in, and its orders committed.", &[OFFSET, EXPIRES]));
    with_refusals(
        with_problems(operation, INGESTING),
        &[NO_SUCH, OFFSET_DIFFERS, GONE, VERSION, LOCKED, CHECKSUM],
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
    with_refusals(with_problems(operation, LOOKING), &[NO_SUCH, GONE, VERSION, LOCKED])
}
