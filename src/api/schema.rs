//! The shape of a problem document, of the end of streamed rows, and of strings that many shapes share. Features have
//! their own shapes.

pub mod texts;

use serde::Serialize;
use utoipa::ToSchema;

/// A problem document (RFC 9457).
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct ProblemDocument {
    /// Path of a page that explains this type of problem. It never changes.
    #[schema(example = "/docs/problems/invalid-event")]
    pub r#type: String,
    /// The type of problem in a few words.
    pub title: String,
    /// The HTTP status code of the response.
    #[schema(example = 422)]
    pub status: u16,
    /// The error in this request, as a sentence.
    pub detail: String,
    /// The request's id, as in the `X-Request-Id` header.
    pub instance: String,
    /// Every invalid field, if fields are invalid.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub errors: Vec<ProblemField>,
    /// Events waiting to be stored. Only in `queue-full`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub queue_size: Option<u64>,
    /// Bytes waiting to be stored. Only in `queue-full`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub queue_bytes: Option<u64>,
    /// Expected time until they are stored. Only in `queue-full`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub expected_delay_seconds: Option<u64>,
}

/// One invalid field of a body, or one invalid query parameter.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ProblemField {
    /// Index of the row, from 0, if the request has many rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub index: Option<usize>,
    /// Line number of the row, from 1, if the body has lines.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub line: Option<usize>,
    /// Name of the invalid query parameter. Absent if the server has no parameter of that name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "limit")]
    pub parameter: Option<String>,
    /// JSON Pointer (RFC 6901) into the body. Empty for the whole document.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "/timestamp")]
    pub pointer: Option<String>,
    /// Stable code, one of those listed in the description of the 422 response. More may be added.
    #[schema(example = "invalid_timestamp")]
    pub code: String,
    /// One sentence for people.
    pub detail: String,
}

/// The last line of a stream of rows.
#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EndOfRows {
    pub _end: bool,
    pub rows: u64,
    /// The cursor for the next rows. It is null at the end.
    pub next_cursor: Option<String>,
}
