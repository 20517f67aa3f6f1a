//! Posts orders through the API: NDJSON in chunks, each with an idempotency key. A failed chunk is retried if a retry
//! may succeed.
//!
//! Each chunk remains in memory until the server has answered it, because a retry needs the same bytes with the same
//! key. In a retry, rows that the first attempt stored are not stored again.

use std::io::Write;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Deserialize;
use serde_json::Value;
use ureq::http::{HeaderMap, Response, Uri};
use ureq::{Agent, Body, SendBody};

use super::error::GenError;
use super::row::{Order, Sink};
use super::spec::Spec;
use super::text::{Clockface, push_order};
use crate::base::clock;

const PATH: &str = "/api/v1/ingest/orders/";
const TRIES_MAX: u32 = 10;
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest pause between attempts. A longer `Retry-After` of the server is reduced to it.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// The maximum size of a response. A response has at most 1,000 errors of a few hundred bytes.
const ANSWER_BYTES_MAX: u64 = 4 << 20;
const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);
/// How long to wait for a response. The server may take long to store a chunk.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(600);
/// The maximum length of a server's text in an error message, in characters.
const DETAIL_CHARS_MAX: usize = 300;

/// Where the orders are sent.
#[derive(Clone, Debug)]
pub struct Target {
    /// `http://host:port`, without the API's path.
    pub url: String,
    /// The key, which is sent as `Authorization: Bearer`.
    pub key: Option<String>,
    /// The number of orders per request. Each order takes about 500 bytes of memory.
    pub chunk_rows: u32,
    pub gzip: bool,
}

/// The totals over all responses.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Posted {
    pub chunks: u64,
    pub rows_sent: u64,
    pub rows_inserted: u64,
    pub rows_duplicate: u64,
    pub rows_failed: u64,
    /// The number of requests, not counting the first request of each chunk.
    pub retries: u64,
    /// The first failed row, in the server's words.
    pub first_error: Option<String>,
}

/// A sink that sends orders.
#[derive(Debug)]
pub struct Poster {
    agent: Agent,
    target: Target,
    url: String,
    /// `gen-<seed>-<hash>-`. The chunk's number follows it.
    key_prefix: String,
    chunk: Vec<u8>,
    chunk_rows: u64,
    clock: Clockface,
    posted: Posted,
    sent_bytes: u64,
}

/// The server's summary of one request.
#[derive(Debug, Deserialize)]
struct Summary {
    rows_received: u64,
    rows_inserted: u64,
    rows_duplicate: u64,
    rows_failed: u64,
    #[serde(default)]
    errors: Vec<Value>,
}

/// The outcome of one attempt.
#[derive(Debug)]
enum Try {
    Done(Summary),
    /// Another attempt may succeed after the pause that the server requests.
    Again {
        reason: String,
        pause: Option<Duration>,
        is_lost: bool,
    },
    Never(GenError),
}

impl Poster {
    /// Creates a sink for a dataset's parameters. It sends nothing yet.
    ///
    /// # Errors
    /// Returns an error unless the address is an `http://` URL (without TLS).
    pub fn new(target: Target, spec: &Spec) -> Result<Poster, GenError> {
        let url = target.url.trim_end_matches('/');
        let is_usable = url.parse::<Uri>().is_ok_and(|uri| {
            uri.scheme_str() == Some("http")
                && uri.host().is_some_and(|host| !host.is_empty())
                && uri.query().is_none()
        });
        if !is_usable {
            return Err(GenError::Parameters(format!("--post: {url} is not http://host:port")));
        }
        if target.key.as_ref().is_some_and(|key| !key.bytes().all(|byte| (b'!'..=b'~').contains(&byte))) {
            return Err(GenError::Parameters(
                "--key: a key must be printable ASCII without spaces".to_owned(),
            ));
        }
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(CONNECT_TIME_MAX))
            .timeout_recv_response(Some(ANSWER_TIME_MAX))
            .timeout_recv_body(Some(ANSWER_TIME_MAX))
            .build();
        // The hash includes the size and coding of chunks, because these change the requests.
        let hash = spec.hash(&format!("{} {}", target.chunk_rows, target.gzip));
        Ok(Poster {
            agent: config.new_agent(),
            url: format!("{url}{PATH}"),
            key_prefix: format!("gen-{}-{hash}-", spec.seed),
            target,
            chunk: Vec::new(),
            chunk_rows: 0,
            clock: Clockface::new(),
            posted: Posted::default(),
            sent_bytes: 0,
        })
    }

    /// Returns the totals over the responses so far.
    #[must_use]
    pub fn posted(&self) -> &Posted {
        &self.posted
    }

    /// Sends the collected orders.
    fn send(&mut self) -> Result<(), GenError> {
        if self.chunk_rows == 0 {
            return Ok(());
        }
        self.posted.chunks += 1;
        let chunk = self.posted.chunks;
        let packed =
            if self.target.gzip { Some(packed(&self.chunk).map_err(GenError::Packing)?) } else { None };
        let body = packed.as_deref().unwrap_or(&self.chunk);
        let (mut is_lost, mut pause) = (false, FIRST_PAUSE);
        let mut tries = 1;
        let summary = loop {
            self.sent_bytes += body.len() as u64;
            match self.attempt(chunk, body, is_lost) {
                Try::Done(summary) => break summary,
                Try::Never(error) => return Err(error),
                Try::Again { reason, .. } if tries == TRIES_MAX => {
                    return Err(GenError::GivenUp { chunk, tries, reason });
                }
                Try::Again { pause: asked, is_lost: lost, .. } => {
                    is_lost |= lost;
                    clock::pause(asked.unwrap_or(pause).min(PAUSE_MAX));
                    pause = (pause * 2).min(PAUSE_MAX);
                    self.posted.retries += 1;
                    tries += 1;
                }
            }
        };
        if summary.rows_received != self.chunk_rows {
            let reason = format!("{} orders were sent, {} read", self.chunk_rows, summary.rows_received);
            return Err(GenError::Answer { chunk, reason });
        }
        self.posted.rows_sent += self.chunk_rows;
        self.posted.rows_inserted += summary.rows_inserted;
        // A row is not stored if the server has a different row with the same id.
        let conflicts = summary.errors.iter().filter(|error| error["code"] == "conflict").count() as u64;
        let rows_failed = summary.rows_failed + conflicts;
        self.posted.rows_duplicate += summary.rows_duplicate.saturating_sub(conflicts);
        self.posted.rows_failed += rows_failed;
        if self.posted.first_error.is_none() && rows_failed > 0 {
            let error = summary.errors.first().map_or_else(|| "not described".to_owned(), Value::to_string);
            self.posted.first_error = Some(format!("chunk {chunk}, {}", shown(&error)));
        }
        self.chunk.clear();
        self.chunk_rows = 0;
        Ok(())
    }

    /// Sends one request. If `was_lost` is set, an earlier attempt of this chunk may still be running on the server.
    fn attempt(&self, chunk: u64, body: &[u8], was_lost: bool) -> Try {
        let mut request = self
            .agent
            .post(&self.url)
            .header("Content-Type", "application/x-ndjson")
            .header("Idempotency-Key", format!("{}{chunk}", self.key_prefix));
        if self.target.gzip {
            request = request.header("Content-Encoding", "gzip");
        }
        if let Some(key) = &self.target.key {
            request = request.header("Authorization", format!("Bearer {key}"));
        }
        // A reader has no known length, so the body is sent with chunked transfer coding.
        let mut reader = body;
        let mut response = match request.send(SendBody::from_reader(&mut reader)) {
            Ok(response) => response,
            Err(error @ (ureq::Error::BadUri(_) | ureq::Error::Http(_))) => {
                return Try::Never(GenError::Parameters(format!("--post: {error}")));
            }
            Err(error) => return lost(&error),
        };
        let text = match text(&mut response) {
            Ok(text) => text,
            Err(error) => return lost(&error),
        };
        let status = response.status().as_u16();
        match status {
            200 | 201 => match serde_json::from_str(&text) {
                Ok(summary) => Try::Done(summary),
                Err(error) => Try::Never(GenError::Answer { chunk, reason: error.to_string() }),
            },
            // After a lost connection, 409 means that the first attempt is still running.
            408 | 429 | 502 | 503 | 504 | 507 => again(status, response.headers()),
            409 if was_lost => again(status, response.headers()),
            _ => Try::Never(GenError::Refused { chunk, status, detail: detail(&text) }),
        }
    }
}

impl Sink for Poster {
    fn order(&mut self, row: &Order<'_>) -> Result<(), GenError> {
        push_order(row, &mut self.clock, &mut self.chunk);
        self.chunk_rows += 1;
        if self.chunk_rows == u64::from(self.target.chunk_rows) { self.send() } else { Ok(()) }
    }

    fn table_end(&mut self) -> Result<(), GenError> {
        self.send()
    }

    fn bytes(&self) -> u64 {
        self.sent_bytes
    }
}

fn packed(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 4), Compression::fast());
    encoder.write_all(bytes)?;
    encoder.finish()
}

fn lost(error: &ureq::Error) -> Try {
    Try::Again { reason: error.to_string(), pause: None, is_lost: true }
}

fn again(status: u16, headers: &HeaderMap) -> Try {
    let asked = headers.get("retry-after").and_then(|value| value.to_str().ok());
    Try::Again { reason: format!("status {status}"), pause: asked.and_then(retry_after), is_lost: false }
}

/// Parses seconds or a date (RFC 9110 §10.2.3). Returns `None` for anything else.
fn retry_after(text: &str) -> Option<Duration> {
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

/// Returns the detail of a problem document, or the start of another body.
fn detail(text: &str) -> String {
    let problem: Option<Value> = serde_json::from_str(text).ok();
    let said = problem
        .as_ref()
        .and_then(|problem| ["detail", "title"].into_iter().find_map(|name| problem.get(name)?.as_str()));
    shown(said.unwrap_or(text))
}

/// Makes a string safe for one line on a terminal.
fn shown(text: &str) -> String {
    text.chars().filter(|next| !next.is_control()).take(DETAIL_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_seconds_or_dates() {
        assert_eq!(retry_after("3"), Some(Duration::from_secs(3)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
        assert!(retry_after("Fri, 31 Dec 2100 23:59:59 GMT").is_some_and(|pause| pause > PAUSE_MAX));
        assert_eq!((retry_after("soon"), retry_after("-1")), (None, None));
    }

    #[test]
    fn refusals_are_told_by_their_detail() {
        assert_eq!(detail(r#"{"title":"Forbidden","detail":"no scope"}"#), "no scope");
        assert_eq!(detail(r#"{"title":"Forbidden"}"#), "Forbidden");
        assert_eq!(detail("<h1>\u{1b}[2J</h1>"), "<h1>[2J</h1>");
        assert_eq!(detail(&"x".repeat(5000)).len(), DETAIL_CHARS_MAX);
    }
}
