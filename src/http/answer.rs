//! A response, and its bytes on an HTTP/1.1 connection.

use std::borrow::Cow;

/// A handler's response. The lane adds the headers of the connection.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    pub status: u16,
    /// Empty if there is no body and no `Content-Type`.
    pub content_type: &'static str,
    pub headers: Vec<(&'static str, Cow<'static, str>)>,
    pub body: Cow<'static, [u8]>,
    /// If true, the connection must be closed after this response.
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

/// The recipient of a response: the parts of the request and the time that appear in every response.
#[derive(Clone, Copy, Debug)]
pub struct To<'a> {
    pub date: &'a [u8; 29],
    pub request_id: &'a [u8],
    pub minor: u8,
    pub keep_alive: bool,
    pub head_only: bool,
    pub cors: Cors<'a>,
}

/// The pages of other origins that may read a response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cors<'a> {
    /// No page may read it.
    #[default]
    None,
    /// No page may read it, but it depends on the origin, so caches must not share it between origins.
    Unlisted,
    /// Pages of this origin may read it. It is the origin of the request, and the operator has listed it.
    Listed(&'a [u8]),
    /// All pages may read it, because it answers posted events. `has_origin` is set if a page sent the request.
    Every { has_origin: bool },
}

/// Headers that a script of any origin may read in a response to posted events, in addition to the safelisted ones
/// (`Content-Type`, `Content-Length`, `Cache-Control` and others).
const EXPOSED_OF_EVENTS: &str = "Firehose-Ack, Firehose-Receipt, Retry-After, X-Request-Id, RateLimit, \
    RateLimit-Policy, WWW-Authenticate, Allow, Accept-Encoding";

/// Headers that a script of a listed origin may read in any response.
const EXPOSED_TO_LISTED: &str = "Firehose-Ack, Firehose-Receipt, X-Request-Id, Idempotent-Replayed, \
    Retry-After, RateLimit, RateLimit-Policy, WWW-Authenticate, Allow, Accept-Encoding, Accept-Patch, Location, \
    ETag, Accept-Ranges, Content-Range, Content-Disposition, Repr-Digest, Tus-Resumable, Tus-Version, \
    Tus-Extension, Tus-Max-Size, Tus-Checksum-Algorithm, Upload-Offset, Upload-Length, Upload-Metadata, \
    Upload-Expires";

impl<'a> Cors<'a> {
    /// Returns the corresponding header lines, by name and value.
    #[inline]
    pub fn lines(self) -> impl Iterator<Item = (&'static str, &'a [u8])> {
        const ORIGIN: &str = "Access-Control-Allow-Origin";
        const EXPOSED: &str = "Access-Control-Expose-Headers";
        const VARY: (&str, &[u8]) = ("Vary", b"Origin");
        let lines: [Option<(&'static str, &'a [u8])>; 3] = match self {
            Cors::None => [None; 3],
            Cors::Unlisted => [Some(VARY), None, None],
            Cors::Listed(origin) => {
                [Some((ORIGIN, origin)), Some((EXPOSED, EXPOSED_TO_LISTED.as_bytes())), Some(VARY)]
            }
            Cors::Every { has_origin } => {
                let exposed = has_origin.then_some((EXPOSED, EXPOSED_OF_EVENTS.as_bytes()));
                [Some((ORIGIN, b"*")), exposed, None]
            }
        };
        lines.into_iter().flatten()
    }
}

/// Writes `Date`, `X-Request-Id`, CORS headers and `Connection`, each with its line end. Every response of the hot lane
/// has them.
#[inline]
pub fn write_common(out: &mut Vec<u8>, to: &To<'_>) {
    out.extend_from_slice(b"Date: ");
    out.extend_from_slice(to.date);
    out.extend_from_slice(b"\r\nX-Request-Id: ");
    out.extend_from_slice(to.request_id);
    out.extend_from_slice(b"\r\n");
    for (name, value) in to.cors.lines() {
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
    }
    if !to.keep_alive {
        out.extend_from_slice(b"Connection: close\r\n");
    } else if to.minor == 0 {
        out.extend_from_slice(b"Connection: keep-alive\r\n");
    }
}

/// Appends the whole response. A 204 has no `Content-Length`. A response to HEAD has the length of the body that it
/// omits.
pub fn write_answer(out: &mut Vec<u8>, answer: &Answer, to: &To<'_>) {
    let to = To { keep_alive: to.keep_alive && !answer.close, ..*to };
    write_parts(out, answer, to.head_only, |out| write_common(out, &to));
}

/// Appends the rest of a response whose connection headers are in `common`, each with its line end.
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

/// Returns the reason phrase (RFC 9110 §15, RFC 6585, RFC 4918).
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
            cors: Cors::Every { has_origin: false },
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
        let closing = Answer { close: true, ..answer.clone() };
        assert!(text(&closing, &To { minor: 0, ..to }).contains("Connection: close\r\n"));
        assert!(!text(&Answer { status: 204, ..Answer::default() }, &to).contains("Content-Length"));
        let told = |cors| {
            let answer = text(&answer, &To { cors, ..to });
            let is_told = |line: &&str| line.starts_with("Access-Control-") || line.starts_with("Vary");
            answer.lines().filter(is_told).map(str::to_owned).collect::<Vec<_>>()
        };
        assert!(told(Cors::None).is_empty());
        assert_eq!(told(Cors::Unlisted), ["Vary: Origin"]);
        let listed = told(Cors::Listed(b"https://a.example"));
        assert_eq!(
            (listed[0].as_str(), listed[2].as_str()),
            ("Access-Control-Allow-Origin: https://a.example", "Vary: Origin")
        );
        assert!(
            listed[1].contains("Upload-Offset")
                && !told(Cors::Every { has_origin: true })[1].contains("Upload-Offset")
        );
    }
}
