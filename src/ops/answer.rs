//! An answer on the operators' port: status, kind of body, body.

use super::prometheus::Format;

/// What an answer is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Media {
    Text,
    Prometheus,
    OpenMetrics,
    Json,
    Problem,
    Svg,
}

impl Media {
    /// The value of `Content-Type`.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        &self.header()["Content-Type: ".len()..]
    }

    /// The whole header line.
    pub(super) fn header(self) -> &'static str {
        match self {
            Media::Text => "Content-Type: text/plain; charset=utf-8",
            Media::Prometheus => "Content-Type: text/plain; version=0.0.4; charset=utf-8",
            Media::OpenMetrics => "Content-Type: application/openmetrics-text; version=1.0.0; charset=utf-8",
            Media::Json => "Content-Type: application/json",
            Media::Problem => "Content-Type: application/problem+json",
            Media::Svg => "Content-Type: image/svg+xml",
        }
    }
}

impl From<Format> for Media {
    fn from(format: Format) -> Media {
        match format {
            Format::Text => Media::Prometheus,
            Format::OpenMetrics => Media::OpenMetrics,
        }
    }
}

/// An answer to an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpsAnswer {
    pub status: u16,
    pub media: Media,
    pub body: Vec<u8>,
}

impl OpsAnswer {
    /// A problem document (RFC 9457).
    #[must_use]
    pub fn problem(status: u16, detail: &str) -> OpsAnswer {
        let kind = format!("/docs/problems/{}", slug(status));
        let body = serde_json::json!({
            "type": kind, "title": reason(status), "status": status, "detail": detail,
        });
        OpsAnswer { status, media: Media::Problem, body: body.to_string().into_bytes() }
    }
}

/// The problem that a status stands for here: a page of the server's other port.
fn slug(status: u16) -> &'static str {
    match status {
        400 => "bad-parameter",
        404 => "not-found",
        405 => "method-not-allowed",
        503 => "overloaded",
        _ => "internal",
    }
}

/// The reason phrase of a status that operators see.
pub(super) fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        421 => "Misdirected Request",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Answer",
    }
}
