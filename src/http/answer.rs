//! An answer, and its bytes on an HTTP/1.1 connection.

use std::borrow::Cow;

/// What a handler wants said; the lane adds what belongs to the connection.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    pub status: u16,
    /// Empty: no body and no `Content-Type`.
    pub content_type: &'static str,
    pub headers: Vec<(&'static str, Cow<'static, str>)>,
    pub body: Cow<'static, [u8]>,
    /// The connection cannot be used after this.
    pub close: bool,
}

impl Answer {
    #[must_use]
    pub fn new(status: u16, content_type: &'static str, body: impl Into<Cow<'static, [u8]>>) -> Answer {
        Answer { status, content_type, headers: Vec::new(), body: body.into(), close: false }
    }

    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Answer {
        self.headers.push((name, value.into()));
        self
    }
}

/// Whom an answer goes to: what of the request and the moment shows in every answer.
#[derive(Clone, Copy, Debug)]
pub struct To<'a> {
    pub date: &'a [u8; 29],
    pub request_id: &'a [u8],
    pub minor: u8,
    pub keep_alive: bool,
    pub head_only: bool,
    pub has_origin: bool,
}

/// Answer headers that a script of another origin may read, beside those that any may (`Content-Type`,
/// `Content-Length`, `Cache-Control` and the like).
pub const EXPOSED_HEADERS: &str = "Firehose-Ack, Firehose-Receipt, X-Request-Id, Idempotent-Replayed, \
    Retry-After, RateLimit, RateLimit-Policy, WWW-Authenticate, Allow, Accept-Encoding, Accept-Patch, Location, \
    ETag, Accept-Ranges, Content-Range, Content-Disposition, Repr-Digest, Tus-Resumable, Tus-Version, \
    Tus-Extension, Tus-Max-Size, Tus-Checksum-Algorithm, Upload-Offset, Upload-Length, Upload-Metadata, \
    Upload-Expires";

/// Writes `Date`, `X-Request-Id`, CORS and `Connection`, each with its line end: in every answer of
/// the hot lane.
#[inline]
pub fn write_common(out: &mut Vec<u8>, to: &To<'_>) {
    out.extend_from_slice(b"Date: ");
    out.extend_from_slice(to.date);
    out.extend_from_slice(b"\r\nX-Request-Id: ");
    out.extend_from_slice(to.request_id);
    out.extend_from_slice(b"\r\nAccess-Control-Allow-Origin: *\r\n");
    if to.has_origin {
        out.extend_from_slice(b"Access-Control-Expose-Headers: ");
        out.extend_from_slice(EXPOSED_HEADERS.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    if !to.keep_alive {
        out.extend_from_slice(b"Connection: close\r\n");
    } else if to.minor == 0 {
        out.extend_from_slice(b"Connection: keep-alive\r\n");
    }
}

/// Appends the whole answer. A 204 has no `Content-Length`; an answer to HEAD has that of the body it
/// leaves out.
pub fn write_answer(out: &mut Vec<u8>, answer: &Answer, to: &To<'_>) {
    let to = To { keep_alive: to.keep_alive && !answer.close, ..*to };
    write_parts(out, answer, to.head_only, |out| write_common(out, &to));
}

/// The same where the lines that belong to the connection are there already, each with its line end.
pub fn write_answer_after(out: &mut Vec<u8>, answer: &Answer, common: &[u8]) {
    write_parts(out, answer, false, |out| out.extend_from_slice(common));
}

#[inline]
fn write_parts(out: &mut Vec<u8>, answer: &Answer, head_only: bool, common: impl FnOnce(&mut Vec<u8>)) {
    let mut number = itoa::Buffer::new();
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(number.format(answer.status).as_bytes());
    out.push(b' ');
    out.extend_from_slice(reason(answer.status).as_bytes());
    out.extend_from_slice(b"\r\n");
    common(out);
    if !answer.content_type.is_empty() {
        out.extend_from_slice(b"Content-Type: ");
        out.extend_from_slice(answer.content_type.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    for (name, value) in &answer.headers {
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    if answer.status != 204 {
        out.extend_from_slice(b"Content-Length: ");
        out.extend_from_slice(number.format(answer.body.len()).as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
    if !head_only {
        out.extend_from_slice(&answer.body);
    }
}

/// The reason phrase (RFC 9110 §15, RFC 6585, RFC 4918).
fn reason(status: u16) -> &'static str {
    hyper::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or("Unknown")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_says_how_long_it_is_and_whether_more_may_follow() {
        let to = To {
            date: b"Sun, 06 Nov 1994 08:49:37 GMT",
            request_id: b"r1",
            minor: 1,
            keep_alive: true,
            head_only: false,
            has_origin: false,
        };
        let answer = Answer::new(405, "text/plain", &b"no"[..]).with("Allow", "GET");
        let text = |answer: &Answer, to: &To<'_>| {
            let mut out = Vec::new();
            write_answer(&mut out, answer, to);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(
            text(&answer, &to),
            "HTTP/1.1 405 Method Not Allowed\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nX-Request-Id: r1\r\nAccess-Control-Allow-Origin: *\r\nContent-Type: text/plain\r\nAllow: GET\r\nContent-Length: 2\r\n\r\nno"
        );
        assert!(text(&answer, &To { head_only: true, ..to }).ends_with("Content-Length: 2\r\n\r\n"));
        assert!(text(&answer, &To { minor: 0, ..to }).contains("Connection: keep-alive\r\n"));
        let closing = Answer { close: true, ..answer };
        assert!(text(&closing, &To { minor: 0, ..to }).contains("Connection: close\r\n"));
        assert!(!text(&Answer { status: 204, ..Answer::default() }, &to).contains("Content-Length"));
    }
}
