//! A response on the operators' port: status, media type, body.

use super::prometheus::Format;

/// The media types of responses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Media {
    Text,
    Prometheus,
    OpenMetrics,
    Json,
    Problem,
    /// A flame graph.
    Svg,
    /// A profile as folded text.
    Collapsed,
    /// A profile for `pprof`.
    Pprof,
}

impl Media {
    /// Returns the value of `Content-Type`.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        &self.header()["Content-Type: ".len()..]
    }

    /// Returns the whole header line.
    pub(super) fn header(self) -> &'static str {
        match self {
            Media::Text | Media::Collapsed => "Content-Type: text/plain; charset=utf-8",
            Media::Prometheus => "Content-Type: text/plain; version=0.0.4; charset=utf-8",
            Media::OpenMetrics => "Content-Type: application/openmetrics-text; version=1.0.0; charset=utf-8",
            Media::Json => "Content-Type: application/json",
            Media::Problem => "Content-Type: application/problem+json",
            Media::Svg => "Content-Type: image/svg+xml",
            Media::Pprof => "Content-Type: application/octet-stream",
        }
    }

    /// Returns the header line that names the file, for a response that is saved as one. A browser shows it if it can.
    pub(super) fn disposition(self) -> Option<&'static str> {
        match self {
            Media::Svg => Some("Content-Disposition: inline; filename=\"firehose.svg\""),
            Media::Collapsed => Some("Content-Disposition: inline; filename=\"firehose.collapsed.txt\""),
            Media::Pprof => Some("Content-Disposition: attachment; filename=\"firehose.pb.gz\""),
            Media::Text | Media::Prometheus | Media::OpenMetrics | Media::Json | Media::Problem => None,
        }
    }

    /// Returns `true` for text. A `pprof` profile is compressed already.
    pub(super) fn is_packable(self) -> bool {
        self != Media::Pprof
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

/// A response to an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpsAnswer {
    pub status: u16,
    pub media: Media,
    pub body: Vec<u8>,
}

impl OpsAnswer {
    /// Creates a problem document (RFC 9457).
    #[must_use]
    pub fn problem(problem: OpsProblem, detail: &str) -> OpsAnswer {
        let OpsProblem { status, slug, title } = problem;
        let kind = format!("/docs/problems/{slug}");
        let body = serde_json::json!({"type": kind, "title": title, "status": status, "detail": detail});
        OpsAnswer { status, media: Media::Problem, body: body.to_string().into_bytes() }
    }
}

/// A problem type. The page that explains it is on the server's other port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpsProblem {
    pub status: u16,
    pub slug: &'static str,
    pub title: &'static str,
}

impl OpsProblem {
    pub(super) const BAD_PARAMETER: OpsProblem =
        OpsProblem { status: 400, slug: "bad-parameter", title: "Invalid query parameter" };
    pub(super) const METHOD_NOT_ALLOWED: OpsProblem =
        OpsProblem { status: 405, slug: "method-not-allowed", title: "Method not allowed" };
    pub(super) const INTERNAL: OpsProblem =
        OpsProblem { status: 500, slug: "internal", title: "Internal server error" };
    pub(super) const OVERLOADED: OpsProblem =
        OpsProblem { status: 503, slug: "overloaded", title: "The server is overloaded" };
    /// The problems that this folder reports itself, because the catalogue is in a higher layer.
    pub const OWN: [OpsProblem; 4] = [
        OpsProblem::BAD_PARAMETER,
        OpsProblem::METHOD_NOT_ALLOWED,
        OpsProblem::INTERNAL,
        OpsProblem::OVERLOADED,
    ];
}

/// Returns the reason phrase for a status that operators see.
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
