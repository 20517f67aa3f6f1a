//! One HTTP client: sends a request until the server has decided on it.
//!
//! A request remains in memory until it is answered, because a retry needs the same bytes. Retried are lost
//! connections and the statuses that ask for a retry, after the pause in `Retry-After`.

use std::time::Duration;

use ureq::http::{HeaderMap, Method, Response, Uri, request};
use ureq::{Agent, Body, SendBody};

use super::super::error::GenError;
use crate::base::clock;

const TRIES_MAX: u32 = 10;
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest pause between attempts. A longer `Retry-After` of the server is reduced to it.
pub(super) const PAUSE_MAX: Duration = Duration::from_secs(60);
/// The maximum size of a response. A response has at most 10,000 results of some hundred bytes.
const ANSWER_BYTES_MAX: u64 = 8 << 20;
const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);
/// How long to wait before a large body is sent to a server that says nothing about it.
const GO_ON_TIME_MAX: Duration = Duration::from_secs(2);
/// How long to wait for a response. The server may take long to store a chunk.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(600);
/// The maximum size of a body that is sent with its length.
const SMALL_BYTES_MAX: usize = 4 << 10;
/// The maximum length of a server's text in an error message, in characters.
const DETAIL_CHARS_MAX: usize = 300;

/// Where the rows are sent.
#[derive(Clone, Debug)]
pub struct Target {
    /// `http://host:port`, without the API's path.
    pub url: String,
    /// The key, which is sent as `Authorization: Bearer`.
    pub key: Option<String>,
    /// The number of orders per request. Each order takes about 500 bytes of memory.
    pub chunk_rows: u32,
    pub gzip: bool,
    /// The number of connections that send price samples.
    pub connections: u16,
}

impl Target {
    /// # Errors
    /// Returns an error unless the address is an `http://` URL (without TLS) and the key can be a header.
    pub(super) fn check(&self) -> Result<(), GenError> {
        let url = &self.url;
        let is_usable = url.parse::<Uri>().is_ok_and(|uri| {
            uri.scheme_str() == Some("http")
                && uri.host().is_some_and(|host| !host.is_empty())
                && uri.query().is_none()
        });
        if !is_usable {
            return Err(GenError::Parameters(format!("--post: {url} is not http://host:port")));
        }
        if self.key.as_ref().is_some_and(|key| !key.bytes().all(|byte| (b'!'..=b'~').contains(&byte))) {
            return Err(GenError::Parameters(
                "--key: a key must be printable ASCII without spaces".to_owned(),
            ));
        }
        Ok(())
    }
}

/// One request.
pub(super) struct Request<'a> {
    pub(super) method: Method,
    /// The path, from the first slash.
    pub(super) path: &'a str,
    pub(super) headers: &'a [(&'static str, &'a str)],
    pub(super) body: &'a [u8],
    /// The request's name in error messages.
    pub(super) name: &'a str,
}

/// A response's status, text and headers.
pub(super) struct Answered {
    pub(super) status: u16,
    pub(super) text: String,
    pub(super) headers: HeaderMap,
    /// Set if an earlier attempt may have stored the rows: its connection was lost, or it was only accepted.
    pub(super) is_uncertain: bool,
}

/// What a response means.
pub(super) enum Verdict<T> {
    Done(T),
    /// Another attempt may have a better outcome.
    Again(String),
    Never(GenError),
}

/// A connection to the server.
#[derive(Debug)]
pub(super) struct Client {
    agent: Agent,
    url: String,
    key: Option<String>,
    /// The number of requests, not counting the first attempts.
    pub(super) retries: u64,
    pub(super) sent_bytes: u64,
}

impl Client {
    pub(super) fn new(target: &Target) -> Client {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(CONNECT_TIME_MAX))
            .timeout_await_100(Some(GO_ON_TIME_MAX))
            .timeout_recv_response(Some(ANSWER_TIME_MAX))
            .timeout_recv_body(Some(ANSWER_TIME_MAX))
            .build();
        let url = target.url.trim_end_matches('/').to_owned();
        Client { agent: config.new_agent(), url, key: target.key.clone(), retries: 0, sent_bytes: 0 }
    }

    /// Sends a request until `judge` is content with a response.
    pub(super) fn send<T>(
        &mut self,
        request: &Request<'_>,
        judge: &mut dyn FnMut(&Answered) -> Verdict<T>,
    ) -> Result<T, GenError> {
        let (mut is_uncertain, mut pause, mut tries) = (false, FIRST_PAUSE, 0);
        loop {
            tries += 1;
            self.sent_bytes += request.body.len() as u64;
            let (reason, asked) = match self.attempt(request) {
                Ok(answer) => {
                    let answer = Answered { is_uncertain, ..answer };
                    match judge(&answer) {
                        Verdict::Done(done) => return Ok(done),
                        Verdict::Never(error) => return Err(error),
                        Verdict::Again(reason) => {
                            is_uncertain |= answer.status == 202;
                            (reason, retry_after(&answer.headers))
                        }
                    }
                }
                Err(error @ (ureq::Error::BadUri(_) | ureq::Error::Http(_))) => {
                    return Err(GenError::Parameters(format!("--post: {error}")));
                }
                Err(error) => {
                    is_uncertain |= !is_unconnected(&error);
                    (error.to_string(), None)
                }
            };
            if tries == TRIES_MAX {
                return Err(GenError::GivenUp { request: request.name.to_owned(), tries, reason });
            }
            clock::pause(asked.unwrap_or(pause).min(PAUSE_MAX));
            pause = (pause * 2).min(PAUSE_MAX);
            self.retries += 1;
        }
    }

    /// Returns the response to a `GET`, or `None` if there is none.
    pub(super) fn get(&self, path: &str) -> Option<Answered> {
        let request = Request { method: Method::GET, path, headers: &[], body: b"", name: path };
        self.attempt(&request).ok()
    }

    fn attempt(&self, request: &Request<'_>) -> Result<Answered, ureq::Error> {
        let mut built =
            request::Builder::new().method(&request.method).uri(format!("{}{}", self.url, request.path));
        for (name, value) in request.headers {
            built = built.header(*name, *value);
        }
        if let Some(key) = &self.key {
            built = built.header("Authorization", format!("Bearer {key}"));
        }
        let mut response = match request.body {
            _ if request.method == Method::GET => self.agent.run(built.body(())?)?,
            small if small.len() <= SMALL_BYTES_MAX => self.agent.run(built.body(small)?)?,
            // A reader has no known length, so a large body is sent with chunked transfer coding. A server that refuses
            // the request by its head closes the connection without reading the body, and the refusal would be lost
            // among the bytes that are still sent.
            mut large => {
                let built = built.header("Expect", "100-continue");
                self.agent.run(built.body(SendBody::from_reader(&mut large))?)?
            }
        };
        let text = text(&mut response)?;
        let (parts, _) = response.into_parts();
        Ok(Answered { status: parts.status.as_u16(), text, headers: parts.headers, is_uncertain: false })
    }
}

/// Returns `true` if the request was not sent at all.
fn is_unconnected(error: &ureq::Error) -> bool {
    match error {
        ureq::Error::ConnectionFailed | ureq::Error::HostNotFound => true,
        ureq::Error::Io(error) => error.kind() == std::io::ErrorKind::ConnectionRefused,
        _ => false,
    }
}

impl Answered {
    /// Returns what every response means that is not about rows: a reason to retry, or a refusal.
    pub(super) fn refusal<T>(&self, request: &str) -> Verdict<T> {
        match self.status {
            408 | 429 | 502 | 503 | 504 | 507 => Verdict::Again(format!("status {}", self.status)),
            status => {
                let detail = detail(&self.text);
                Verdict::Never(GenError::Refused { request: request.to_owned(), status, detail })
            }
        }
    }

    /// Parses the body.
    pub(super) fn json<T: serde::de::DeserializeOwned>(&self, request: &str) -> Result<T, GenError> {
        serde_json::from_str(&self.text)
            .map_err(|error| GenError::Answer { request: request.to_owned(), reason: error.to_string() })
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// Parses seconds or a date (RFC 9110 §10.2.3). Returns `None` for anything else.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get("retry-after").and_then(|value| value.to_str().ok()).and_then(pause_of)
}

fn pause_of(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text.trim()).ok()?;
    let wait_us = date.as_microsecond().saturating_sub(clock::unix_us());
    Some(Duration::from_micros(u64::try_from(wait_us).unwrap_or(0)))
}

fn text(response: &mut Response<Body>) -> Result<String, ureq::Error> {
    response.body_mut().with_config().limit(ANSWER_BYTES_MAX).lossy_utf8(true).read_to_string()
}

/// Returns the detail of a problem document and of its first error, or the start of another body. The detail of a
/// request whose rows all failed only says that the errors have the reasons.
fn detail(text: &str) -> String {
    let Ok(problem) = serde_json::from_str::<serde_json::Value>(text) else { return shown(text) };
    let said = ["detail", "title"].into_iter().find_map(|name| problem.get(name)?.as_str());
    let said = shown(said.unwrap_or(text));
    let first = &problem["errors"][0];
    match (first["detail"].as_str(), first["code"].as_str()) {
        (Some(detail), code) if !said.contains(detail) => {
            let of = |name: &str| first[name].as_u64().map(|at| format!("{name} {at}, ")).unwrap_or_default();
            let code = shown(code.unwrap_or("no code"));
            format!("{said}; the first error: {}{}{} ({code})", of("line"), of("index"), shown(detail))
        }
        _ => said,
    }
}

/// Makes a string safe for one line on a terminal.
pub(super) fn shown(text: &str) -> String {
    text.chars().filter(|next| !next.is_control()).take(DETAIL_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_seconds_or_dates() {
        assert_eq!(pause_of("3"), Some(Duration::from_secs(3)));
        assert_eq!(pause_of("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
        assert!(pause_of("Fri, 31 Dec 2100 23:59:59 GMT").is_some_and(|pause| pause > PAUSE_MAX));
        assert_eq!((pause_of("soon"), pause_of("-1")), (None, None));
    }

    #[test]
    fn refusals_are_told_by_their_detail() {
        assert_eq!(detail(r#"{"title":"Forbidden","detail":"no scope"}"#), "no scope");
        assert_eq!(detail(r#"{"title":"Forbidden"}"#), "Forbidden");
        assert_eq!(detail("<h1>\u{1b}[2J</h1>"), "<h1>[2J</h1>");
        assert_eq!(detail(&"x".repeat(5000)).len(), DETAIL_CHARS_MAX);
        let rows = r#"{"detail":"none of the 9 lines is an order","errors":[{"line":1,"pointer":"/tenant_id",
            "code":"wrong_tenant","detail":"the key belongs to another tenant"}]}"#;
        let expected = "none of the 9 lines is an order; the first error: line 1, the key belongs to another tenant \
                        (wrong_tenant)";
        assert_eq!(detail(rows), expected);
        // A detail that has the reason does not have it twice.
        let one = r#"{"detail":"invalid: no price","errors":[{"code":"missing_field","detail":"no price"}]}"#;
        assert_eq!(detail(one), "invalid: no price");
    }
}
