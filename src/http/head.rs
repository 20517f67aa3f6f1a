//! A request's head: located in the bytes, checked for every form that two servers could parse differently
//! (request smuggling), and reduced to what the response depends on.

use super::{Coding, Credential, Refusal, request_id};
use crate::base::limits::{HEAD_BYTES_MAX, HEADER_COUNT_MAX, TARGET_BYTES_MAX};

/// How the end of the body is found (RFC 9112 §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// `Content-Length`, or 0 if neither header is present.
    Length(u64),
    Chunked,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Get,
    Head,
    Post,
    Options,
    Put,
    Patch,
    Delete,
    Other,
}

/// A checked head. Everything is borrowed from the received bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head<'b> {
    pub method: Method,
    pub path: &'b str,
    pub query: Option<&'b str>,
    /// 0 or 1: the minor version of HTTP/1.
    pub minor: u8,
    pub framing: Framing,
    pub keep_alive: bool,
    pub expects_continue: bool,
    /// `None` if the request names an unsupported coding (415).
    pub coding: Option<Coding>,
    /// Set if the request comes from a page of another origin. The response then lists the headers that its script
    /// may read.
    pub has_origin: bool,
    /// The client's own `X-Request-Id`, if it is 1 to 200 visible ASCII characters.
    pub request_id: Option<&'b str>,
    /// The key, if the request has one.
    pub credential: Credential<'b>,
    /// The whole head, for fields that are rarely read.
    raw: &'b [u8],
}

/// A head whose strings are positions, so that it remains valid while the bytes after it move.
#[derive(Clone, Copy, Debug)]
pub(super) struct Places {
    method: Method,
    path: (u32, u32),
    query: Option<(u32, u32)>,
    minor: u8,
    framing: Framing,
    keep_alive: bool,
    expects_continue: bool,
    coding: Option<Coding>,
    has_origin: bool,
    request_id: Option<(u32, u32)>,
    credential: KeyPlace,
}

/// A [`Credential`] as a position.
#[derive(Clone, Copy, Debug)]
enum KeyPlace {
    Absent,
    Key((u32, u32)),
    Unusable,
}

impl<'b> Head<'b> {
    /// Returns a header field's values, line by line. Each call searches the bytes.
    pub fn field(&self, name: &'static str) -> impl DoubleEndedIterator<Item = &'b [u8]> + use<'b> {
        // `find_end` and `parse` have checked that no line is folded and that each ends with CR LF.
        let first = memchr::memchr(b'\n', self.raw).map_or(self.raw.len(), |end| end + 1);
        self.raw[first..].split(|byte| *byte == b'\n').filter_map(move |line| {
            let (found, rest) = line.split_at_checked(name.len())?;
            let value = rest.strip_prefix(b":")?;
            found.eq_ignore_ascii_case(name.as_bytes()).then(|| value.trim_ascii())
        })
    }

    /// Returns the name by which the request addresses this server: the host of an absolute URL in its request line,
    /// or else that of `Host` (RFC 9112 §3.2.2).
    #[must_use]
    pub fn host(&self) -> Option<&'b [u8]> {
        let target = self.raw.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
        match memchr::memmem::find(target, b"://") {
            Some(at) if !target.starts_with(b"/") => {
                target[at + 3..].split(|byte| matches!(byte, b'/' | b'?' | b'#')).next()
            }
            _ => self.field("host").next(),
        }
    }

    /// Returns the positions of this head's strings in `bytes`, from which it was parsed.
    pub(super) fn places(&self, bytes: &[u8]) -> Places {
        let place = |text: &str| match (text.as_ptr() as usize).checked_sub(bytes.as_ptr() as usize) {
            Some(start) if start + text.len() <= bytes.len() => (start as u32, (start + text.len()) as u32),
            // The path of a target without one is `/`, which is not in the bytes.
            _ => (0, 0),
        };
        Places {
            method: self.method,
            path: place(self.path),
            query: self.query.map(place),
            minor: self.minor,
            framing: self.framing,
            keep_alive: self.keep_alive,
            expects_continue: self.expects_continue,
            coding: self.coding,
            has_origin: self.has_origin,
            request_id: self.request_id.map(place),
            credential: match self.credential {
                Credential::Absent => KeyPlace::Absent,
                Credential::Key(key) => KeyPlace::Key(place(key)),
                Credential::Unusable => KeyPlace::Unusable,
            },
        }
    }
}

impl Places {
    /// Returns the places in a head that has other digits of `Content-Length`: `count` of them instead of those at
    /// `start..end`.
    pub(super) fn with_length(&self, length: u64, (start, end): (usize, usize), count: usize) -> Places {
        if count == end - start {
            return Places { framing: Framing::Length(length), ..*self };
        }
        let moved = |at: u32| match at as usize {
            at if at >= end => (at - (end - start) + count) as u32,
            _ => at,
        };
        let place = |(start, end): (u32, u32)| (moved(start), moved(end));
        Places {
            path: place(self.path),
            query: self.query.map(place),
            framing: Framing::Length(length),
            request_id: self.request_id.map(place),
            credential: match self.credential {
                KeyPlace::Key(key) => KeyPlace::Key(place(key)),
                other => other,
            },
            ..*self
        }
    }

    /// Returns the head, from the same bytes.
    pub(super) fn head<'b>(&self, bytes: &'b [u8]) -> Head<'b> {
        let text = |(start, end): (u32, u32)| {
            bytes
                .get(start as usize..end as usize)
                .and_then(|text| std::str::from_utf8(text).ok())
                .unwrap_or_default()
        };
        Head {
            method: self.method,
            path: match self.path {
                (0, 0) => "/",
                // Nearly all requests of the hot lane have this path, which need not be checked again.
                (start, end) if bytes.get(start as usize..end as usize) == Some(b"/event") => "/event",
                place => text(place),
            },
            query: self.query.map(text),
            minor: self.minor,
            framing: self.framing,
            keep_alive: self.keep_alive,
            expects_continue: self.expects_continue,
            coding: self.coding,
            has_origin: self.has_origin,
            request_id: self.request_id.map(text),
            credential: match self.credential {
                KeyPlace::Absent => Credential::Absent,
                KeyPlace::Key(place) => Credential::Key(text(place)),
                KeyPlace::Unusable => Credential::Unusable,
            },
            raw: bytes,
        }
    }
}

/// Finds the end of the head in `bytes`, starting at byte `from` (earlier calls have checked the bytes before it).
/// Returns the length of the head with its empty line, or `None` while it is incomplete. Refuses bare line feeds and
/// folded lines, because a lenient parser elsewhere would read them as line ends.
pub(super) fn find_end(bytes: &[u8], from: usize) -> Result<Option<usize>, Refusal> {
    // TLS and other binary protocols are refused at once, because their clients would wait for the server to speak.
    if from == 0 && bytes.first().is_some_and(|first| !matches!(first, b'!'..=b'~' | b'\r' | b'\n')) {
        return Err(Refusal::MalformedHead);
    }
    let start = from.min(bytes.len());
    for at in memchr::memchr_iter(b'\n', &bytes[start..]) {
        let at = start + at;
        // Limits come first, so that the result does not depend on how many bytes arrived at once.
        if at >= REQUEST_LINE_BYTES_MAX && !has_request_line(bytes) {
            return Err(Refusal::TargetTooLong);
        }
        if at >= HEAD_BYTES_MAX {
            return Err(Refusal::HeadTooLarge);
        }
        if at == 0 || bytes[at - 1] != b'\r' {
            return Err(Refusal::BareLineFeed);
        }
        // An empty line: CR LF directly after a line end.
        if at >= 3 && bytes[at - 2] == b'\n' {
            return Ok(Some(at + 1));
        }
        if at + 1 == HEAD_BYTES_MAX {
            return Err(Refusal::HeadTooLarge);
        }
        if matches!(bytes.get(at + 1), Some(b' ' | b'\t')) {
            return Err(Refusal::FoldedHeader);
        }
    }
    match bytes.len() {
        len if len >= REQUEST_LINE_BYTES_MAX && !has_request_line(bytes) => Err(Refusal::TargetTooLong),
        len if len >= HEAD_BYTES_MAX => Err(Refusal::HeadTooLarge),
        _ => Ok(None),
    }
}

/// The maximum length of a request line: a target, the longest method and the version, with space to spare.
const REQUEST_LINE_BYTES_MAX: usize = TARGET_BYTES_MAX + 64;

fn has_request_line(bytes: &[u8]) -> bool {
    memchr::memchr(b'\n', &bytes[..bytes.len().min(REQUEST_LINE_BYTES_MAX)]).is_some()
}

/// Returns the head at the front of a connection's bytes, if it is complete and valid. It is for responses to
/// requests whose body was refused.
#[must_use]
pub fn peek(bytes: &[u8]) -> Option<Head<'_>> {
    let head_bytes = find_end(bytes, 0).ok()??;
    parse(&bytes[..head_bytes]).ok()
}

/// Returns `true` for a byte of a method or a header name (RFC 9110 §5.6.2).
#[must_use]
pub(super) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Returns the length of the empty lines before a request line, which are skipped (RFC 9112 §2.2).
#[must_use]
pub(super) fn empty_lines(bytes: &[u8]) -> usize {
    let mut at = 0;
    while bytes[at..].starts_with(b"\r\n") {
        at += 2;
    }
    at
}

/// Returns `true` if a request that may not be valid begins with the method HEAD. The response has no body then, whatever
/// is wrong with the request (RFC 9110 §9.3.2).
#[must_use]
pub fn is_to_head(bytes: &[u8]) -> bool {
    bytes[empty_lines(bytes)..].starts_with(b"HEAD ")
}

/// Checks a complete head as delimited by [`find_end`]. Takes about 150 ns for six headers.
pub(super) fn parse(bytes: &[u8]) -> Result<Head<'_>, Refusal> {
    let mut headers = [const { std::mem::MaybeUninit::uninit() }; HEADER_COUNT_MAX];
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(bytes, &mut headers) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Err(Refusal::MalformedHead),
        Err(httparse::Error::TooManyHeaders) => return Err(Refusal::TooManyHeaders),
        Err(httparse::Error::Version) if names_a_version(bytes) => return Err(Refusal::Version),
        Err(_) => return Err(Refusal::MalformedHead),
    }
    let method = match request.method.unwrap_or_default() {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "OPTIONS" => Method::Options,
        "PUT" => Method::Put,
        "PATCH" => Method::Patch,
        "DELETE" => Method::Delete,
        _ => Method::Other,
    };
    let target = request.path.unwrap_or_default();
    if target.len() > TARGET_BYTES_MAX {
        return Err(Refusal::TargetTooLong);
    }
    let minor = request.version.unwrap_or(1);
    let mut fields = Fields::default();
    for header in request.headers.iter() {
        fields.take(header.name, header.value)?;
    }
    if minor == 1 && fields.hosts != 1 || fields.hosts > 1 {
        return Err(Refusal::Host);
    }
    let framing = match (fields.chunked, fields.length) {
        (true, Some(_)) => return Err(Refusal::LengthAndChunked),
        // HTTP/1.0 has no chunked bodies, so the body cannot be delimited.
        (true, None) if minor == 0 => return Err(Refusal::MalformedTransferEncoding),
        (true, None) => Framing::Chunked,
        (false, length) => Framing::Length(length.unwrap_or(0)),
    };
    let (path, query) = split_target(target, method)?;
    Ok(Head {
        method,
        path,
        query,
        minor,
        framing,
        keep_alive: !fields.close && (minor == 1 || fields.keep_alive),
        expects_continue: fields.expects_continue && minor == 1,
        coding: fields.coding,
        has_origin: fields.has_origin,
        request_id: fields.request_id,
        credential: fields.credential,
        raw: bytes,
    })
}

/// The content of the header lines.
struct Fields<'b> {
    hosts: u32,
    length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    expects_continue: bool,
    coding: Option<Coding>,
    coding_given: bool,
    has_origin: bool,
    request_id: Option<&'b str>,
    credential: Credential<'b>,
}

impl Default for Fields<'_> {
    fn default() -> Self {
        Fields {
            hosts: 0,
            length: None,
            chunked: false,
            close: false,
            keep_alive: false,
            expects_continue: false,
            coding: Some(Coding::Identity),
            coding_given: false,
            has_origin: false,
            request_id: None,
            credential: Credential::Absent,
        }
    }
}

impl<'b> Fields<'b> {
    /// Reads one header line. The length of a name distinguishes almost all headers before a byte is compared.
    fn take(&mut self, name: &str, value: &'b [u8]) -> Result<(), Refusal> {
        match name.len() {
            4 if name.eq_ignore_ascii_case("host") => {
                self.hosts += 1;
                if value.iter().any(|byte| matches!(byte, b' ' | b'\t' | b',' | b'/' | b'@')) {
                    return Err(Refusal::Host);
                }
            }
            6 if name.eq_ignore_ascii_case("expect") => {
                if !value.eq_ignore_ascii_case(b"100-continue") {
                    return Err(Refusal::UnknownExpectation);
                }
                self.expects_continue = true;
            }
            6 if name.eq_ignore_ascii_case("origin") => self.has_origin = true,
            9 if name.eq_ignore_ascii_case("x-api-key") => self.credential = self.credential.and_key(value),
            10 if name.eq_ignore_ascii_case("connection") => {
                for option in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                    self.close |= option.eq_ignore_ascii_case(b"close");
                    self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                }
            }
            12 if name.eq_ignore_ascii_case("x-request-id") => {
                self.request_id = request_id::taken_over(value).or(self.request_id);
            }
            13 if name.eq_ignore_ascii_case("authorization") => {
                self.credential = self.credential.and_authorization(value);
            }
            14 if name.eq_ignore_ascii_case("content-length") => {
                if self.length.is_some() {
                    return Err(Refusal::RepeatedLength);
                }
                self.length = Some(decimal(value).ok_or(Refusal::MalformedLength)?);
            }
            16 if name.eq_ignore_ascii_case("content-encoding") => {
                // Nested codings would permit nested decompression bombs.
                self.coding = if self.coding_given { None } else { Coding::from_header(value) };
                self.coding_given = true;
            }
            17 if name.eq_ignore_ascii_case("transfer-encoding") => {
                if self.chunked {
                    return Err(Refusal::MalformedTransferEncoding);
                }
                let last = value.rsplit(|byte| *byte == b',').next().unwrap_or_default().trim_ascii();
                if !last.eq_ignore_ascii_case(b"chunked") {
                    return Err(Refusal::MalformedTransferEncoding);
                }
                if value.len() != last.len() {
                    return Err(Refusal::UnknownTransferCoding);
                }
                self.chunked = true;
            }
            _ => {}
        }
        Ok(())
    }
}

/// Parses `1*DIGIT`, and nothing that only a lenient parser would accept: no sign, space, comma or overflow. The
/// limit is 63 bits, because other programs give the top of the range another meaning.
pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    let number = text.iter().try_fold(0u64, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })?;
    (number <= i64::MAX as u64).then_some(number)
}

/// Returns `true` if the request line is `method target HTTP/digit.digit`. Its version is then unsupported, and the
/// line is not malformed.
fn names_a_version(head: &[u8]) -> bool {
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let mut parts = line.split(|byte| *byte == b' ');
    let version = parts.nth(2).and_then(|part| part.strip_prefix(b"HTTP/")).unwrap_or_default();
    parts.next().is_none()
        && matches!(version, [major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit())
}

/// Splits a target into its path and query. The target is in origin form, in absolute form (which every server must
/// accept), or `*` with OPTIONS.
fn split_target(target: &str, method: Method) -> Result<(&str, Option<&str>), Refusal> {
    let local = if target.starts_with('/') {
        target
    } else if target == "*" && method == Method::Options {
        return Ok((target, None));
    } else {
        let (scheme, rest) = target.split_once("://").ok_or(Refusal::MalformedTarget)?;
        if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
            return Err(Refusal::MalformedTarget);
        }
        // This is rare enough to ask the other lane's own parser whether it accepts the host.
        target.parse::<hyper::Uri>().map_err(|_| Refusal::MalformedTarget)?;
        match rest.find(['/', '?', '#']) {
            Some(at) if !rest[at..].starts_with('#') => &rest[at..],
            _ => "/",
        }
    };
    let end = memchr::memchr(b'#', local.as_bytes()).unwrap_or(local.len());
    let local = &local[..end];
    let (path, query) = match memchr::memchr(b'?', local.as_bytes()) {
        Some(0) => ("/", Some(&local[1..])),
        Some(at) => (&local[..at], Some(&local[at + 1..])),
        None => (local, None),
    };
    // `<`, `>` and quotes are not permitted in a URI, and the other lane refuses them, because they can bring scripts
    // into pages.
    let odd_path = path.bytes().any(|byte| matches!(byte, b'<' | b'>' | b'`' | b'%')) && is_odd(path);
    let odd_query = query.is_some_and(|query| query.bytes().any(|byte| matches!(byte, b'"' | b'<' | b'>')));
    if odd_path || odd_query { Err(Refusal::MalformedTarget) } else { Ok((path, query)) }
}

/// Returns `true` if a path contains `<`, `>`, a backtick, or a `%` without two hexadecimal digits after it. Servers
/// interpret such paths differently.
#[cold]
fn is_odd(path: &str) -> bool {
    let is_escape =
        |rest: &[u8]| matches!(rest, [high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit());
    let bytes = path.as_bytes();
    bytes.iter().enumerate().any(|(at, byte)| match byte {
        b'<' | b'>' | b'`' => true,
        b'%' => !is_escape(&bytes[at + 1..]),
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> Result<Head<'_>, Refusal> {
        assert_eq!(find_end(text.as_bytes(), 0)?, Some(text.len()));
        parse(text.as_bytes())
    }

    #[test]
    fn an_ordinary_head_is_reduced_to_what_decides_the_answer() {
        let text = "POST /event?ack=disk HTTP/1.1\r\nHost: a\r\nX-Request-ID: abc\r\nContent-Length: 12\r\nOrigin: x\r\nContent-Encoding: gzip\r\n\r\n";
        let head = head(text).unwrap();
        assert_eq!((head.method, head.path, head.query), (Method::Post, "/event", Some("ack=disk")));
        assert_eq!(head.framing, Framing::Length(12));
        assert_eq!((head.coding, head.request_id), (Some(Coding::Gzip), Some("abc")));
        assert!(head.keep_alive && head.has_origin && !head.expects_continue);
    }

    #[test]
    fn what_two_servers_could_read_differently_is_refused() {
        let with =
            |lines: &str| head(&format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n")).map(|h| h.framing);
        assert_eq!(with("Content-Length: 1\r\nContent-Length: 1"), Err(Refusal::RepeatedLength));
        assert_eq!(with("Content-Length: 1\r\nTransfer-Encoding: chunked"), Err(Refusal::LengthAndChunked));
        assert_eq!(
            with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
            Err(Refusal::MalformedTransferEncoding)
        );
        assert_eq!(with("Transfer-Encoding: gzip, chunked"), Err(Refusal::UnknownTransferCoding));
        assert_eq!(with("Transfer-Encoding: chunked, gzip"), Err(Refusal::MalformedTransferEncoding));
        assert_eq!(with("Transfer-Encoding : chunked"), Err(Refusal::MalformedHead));
        for length in ["+1", "-1", "1, 1", "0x1", "", "1 1", "18446744073709551616", "1;", "１"] {
            assert_eq!(
                with(&format!("Content-Length: {length}")),
                Err(Refusal::MalformedLength),
                "{length:?}"
            );
        }
        assert_eq!(with("A: b\r\n c: d"), Err(Refusal::FoldedHeader));
        assert_eq!(with("A: b\nContent-Length: 3"), Err(Refusal::BareLineFeed));
        assert_eq!(with("A: b\rContent-Length: 3"), Err(Refusal::MalformedHead));
        assert_eq!(with("A: b\0c"), Err(Refusal::MalformedHead));
        assert_eq!(with("Host: b"), Err(Refusal::Host));
        assert_eq!(head("GET / HTTP/1.1\r\n\r\n"), Err(Refusal::Host));
        assert_eq!(
            head("GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"),
            Err(Refusal::MalformedTransferEncoding)
        );
        assert_eq!(head("GET / HTTP/3.0\r\nHost: a\r\n\r\n"), Err(Refusal::Version));
        assert_eq!(head("GET example HTTP/1.1\r\nHost: a\r\n\r\n"), Err(Refusal::MalformedTarget));
    }

    #[test]
    fn old_clients_and_proxies_are_understood() {
        let old = head("GET /health HTTP/1.0\r\n\r\n").unwrap();
        assert!(!old.keep_alive && old.minor == 0);
        assert!(head("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n").unwrap().keep_alive);
        assert!(!head("GET / HTTP/1.1\r\nHost: a\r\nConnection: x, Close\r\n\r\n").unwrap().keep_alive);
        let proxied = head("GET http://example.org/a?b HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        assert_eq!((proxied.path, proxied.query), ("/a", Some("b")));
        assert_eq!(head("GET http://example.org HTTP/1.1\r\nHost: a\r\n\r\n").unwrap().path, "/");
        assert_eq!(head("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").unwrap().path, "*");
    }

    #[test]
    fn what_no_uri_holds_is_refused_before_another_parser_sees_it() {
        let get = |target: &str| head(&format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")).map(|_| ());
        for byte in 0x21..=0x7eu8 {
            for target in [format!("/a{}", byte as char), format!("/a?{}", byte as char)] {
                // This parser is stricter about paths than the other: an escape must be complete.
                let is_uri = target.parse::<hyper::Uri>().is_ok() && target != "/a%";
                assert_eq!(get(&target).is_ok(), is_uri, "{target}");
            }
        }
        for (path, is_whole) in [
            ("/%", false),
            ("/%4", false),
            ("/%zz", false),
            ("/%4g/a", false),
            ("/%%41", false),
            ("/%41%C3%bc", true),
        ] {
            assert_eq!(get(path).is_ok(), is_whole, "{path}");
        }
        assert_eq!(get("/%zz"), Err(Refusal::MalformedTarget));
        for target in ["http:///a", "http://[::1/a", "http://a b/", "http://"] {
            assert!(get(target).is_err(), "{target}");
        }
        assert_eq!(head("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n"), Err(Refusal::MalformedHead));
        assert_eq!(head("GET http://a#/b HTTP/1.1\r\nHost: a\r\n\r\n").unwrap().path, "/");
    }

    #[test]
    fn a_verdict_does_not_depend_on_how_much_arrived_at_once() {
        let long_line = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(HEAD_BYTES_MAX));
        let bare_behind = format!("GET /{}\n", "a".repeat(TARGET_BYTES_MAX + 64));
        let huge = |end: &str| format!("GET / HTTP/1.1\r\nA: {}{end}", "a".repeat(HEAD_BYTES_MAX));
        let to_the_brim = |end: &str| {
            let start = "GET / HTTP/1.1\r\nA: ";
            format!("{start}{}{end}", "a".repeat(HEAD_BYTES_MAX - start.len() - 2))
        };
        for (text, refusal) in [
            (long_line, Refusal::TargetTooLong),
            (bare_behind, Refusal::TargetTooLong),
            (huge("\n"), Refusal::HeadTooLarge),
            (huge("\r\n\r\n"), Refusal::HeadTooLarge),
            (to_the_brim("\r\n b"), Refusal::HeadTooLarge),
            ("\x16\x03\x01".to_owned(), Refusal::MalformedHead),
        ] {
            let bytes = text.as_bytes();
            let (mut seen, mut verdict) = (0, Ok(None));
            for end in 1..=bytes.len() {
                verdict = find_end(&bytes[..end], seen);
                if verdict != Ok(None) {
                    break;
                }
                seen = end - 1;
            }
            assert_eq!((find_end(bytes, 0), verdict), (Err(refusal), Err(refusal)), "{:.40}", text);
        }
    }

    #[test]
    fn a_head_reads_the_same_from_its_places() {
        for target in ["/event?ack=disk", "/", "*", "http://a", "http://a?b", "http://a/b#c", "/a?"] {
            let method = if target == "*" { "OPTIONS" } else { "GET" };
            let text = format!("{method} {target} HTTP/1.1\r\nHost: a\r\nX-Request-Id: r\r\n\r\n");
            let head = head(&text).unwrap();
            assert_eq!(head.places(text.as_bytes()).head(text.as_bytes()), head, "{target}");
        }
    }

    #[test]
    fn a_field_that_is_looked_at_seldom_is_found_in_the_bytes() {
        let text = "GET /?origin:x HTTP/1.1\r\nHost: a\r\nORIGIN:  x \r\nOriginal: y\r\nForwarded:\r\norigin:z\r\n\r\n";
        let found = |name| head(text).unwrap().field(name).collect::<Vec<_>>();
        assert_eq!(found("origin"), [&b"x"[..], b"z"]);
        assert_eq!((found("host"), found("forwarded")), (vec![&b"a"[..]], vec![&b""[..]]));
        assert!(found("orig").is_empty() && found("http/1.1").is_empty());
        let host = |target: &str, lines: &str| {
            let text = format!("GET {target} HTTP/1.0\r\n{lines}\r\n");
            head(&text).unwrap().host().map(|host| String::from_utf8_lossy(host).into_owned())
        };
        assert_eq!(host("/?u=http://b/", "Host: a:1\r\n").as_deref(), Some("a:1"));
        assert_eq!(host("http://b:2?c", "Host: a\r\n").as_deref(), Some("b:2"));
        assert_eq!(host("/", ""), None);
    }

    #[test]
    fn a_head_without_an_end_is_refused_at_its_limit() {
        let endless = format!("GET / HTTP/1.1\r\nA: {}", "b".repeat(HEAD_BYTES_MAX));
        assert_eq!(find_end(endless.as_bytes(), 0), Err(Refusal::HeadTooLarge));
        assert_eq!(find_end(&endless.as_bytes()[..HEAD_BYTES_MAX - 1], 0), Ok(None));
        let target = format!("GET /{}", "b".repeat(TARGET_BYTES_MAX + 64));
        assert_eq!(find_end(target.as_bytes(), 0), Err(Refusal::TargetTooLong));
        let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "A: b\r\n".repeat(HEADER_COUNT_MAX));
        assert_eq!(head(&many), Err(Refusal::TooManyHeaders));
    }
}
