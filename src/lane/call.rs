//! A request on its way through the lane: its head as all handlers see it, what a handler is called with, and what
//! it answers.

use std::cell::{Cell, OnceCell};
use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::ops::Deref;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use hyper::Response;
use hyper::body::Incoming;

use super::body::AnswerBody;
use super::gated::SharedGate;
use super::memory::Held;
use super::state::Lane;
use crate::api;
use crate::api::error::{Asker, EventRefused, Refuse};
use crate::api::write::WriteRefused;
use crate::api::{Asked, Caller, Found, NotCalled, Pages, Preflight};
use crate::base::clock;
use crate::config::{Config, client_address};
use crate::cores::stop::Stage;
use crate::http::{self, Answer, Coding, Cors, Media, Method, without_mark};
use crate::ingest;
use crate::tenants::{Denied, Now, Payer, Principal};

/// The head of a request, where it goes, and who pays for it.
pub struct RequestHead {
    parts: hyper::http::request::Parts,
    /// Who is at the other end of the connection; asked of the kernel only where it matters.
    peer: Option<IpAddr>,
    pub method: Method,
    pub found: Found<Handler>,
    pub id: String,
    /// The tenant in the path; empty where there is none.
    pub tenant: String,
    /// Whose budget was charged, once one was.
    pub payer: Cell<Option<Payer>>,
    /// The tenant of its key, where the path names none and a handler asked; for the log.
    pub owner: OnceCell<Arc<str>>,
    /// Rows it brought, where a handler counted them; for the log.
    pub rows: Cell<Option<u64>>,
    pub started_us: u64,
}

impl Deref for RequestHead {
    type Target = hyper::http::request::Parts;

    fn deref(&self) -> &Self::Target {
        &self.parts
    }
}

/// The method that a POST names, for clients and proxies that know no other.
fn overriding(headers: &hyper::HeaderMap) -> Option<Method> {
    let named = headers.get("x-http-method-override")?.as_bytes();
    let known = [("PATCH", Method::Patch), ("HEAD", Method::Head), ("DELETE", Method::Delete)];
    known.into_iter().find_map(|(name, method)| named.eq_ignore_ascii_case(name.as_bytes()).then_some(method))
}

impl RequestHead {
    pub fn new(lane: &Lane, peer: Option<IpAddr>, parts: hyper::http::request::Parts) -> RequestHead {
        let started_us = clock::monotonic_us();
        let method = match parts.method {
            hyper::Method::GET => Method::Get,
            hyper::Method::HEAD => Method::Head,
            hyper::Method::POST => Method::Post,
            hyper::Method::OPTIONS => Method::Options,
            hyper::Method::PUT => Method::Put,
            hyper::Method::PATCH => Method::Patch,
            hyper::Method::DELETE => Method::Delete,
            _ => Method::Other,
        };
        let path = parts.uri.path();
        let (mut method, mut found) = (method, lane.endpoints.find(path, method, parts.uri.query()));
        if method == Method::Post
            && found.endpoint.is_some_and(|endpoint| endpoint.overrides_method)
            && let Some(named) = overriding(&parts.headers)
        {
            (method, found) = (named, lane.endpoints.find(path, named, parts.uri.query()));
        }
        let tenant = found.parameter(path, "tenant");
        let taken_over = parts.headers.get_all("x-request-id").iter();
        let id = match taken_over.filter_map(|id| crate::http::taken_over(id.as_bytes())).next_back() {
            Some(id) => id.to_owned(),
            None => lane.request_ids.borrow_mut().give().to_owned(),
        };
        RequestHead {
            parts,
            peer,
            method,
            found,
            id,
            tenant,
            payer: Cell::new(None),
            owner: OnceCell::new(),
            rows: Cell::new(None),
            started_us,
        }
    }

    /// As it was written.
    pub fn method_name(&self) -> &str {
        self.parts.method.as_str()
    }

    /// A segment of the path by its name in the endpoint's template; empty where it has none.
    pub fn parameter(&self, name: &str) -> String {
        self.found.parameter(self.uri.path(), name)
    }

    /// The text of a header field that is there once, or the first of several.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The values of a header field, however many lines it has.
    pub fn values(&self, name: &str) -> Vec<&str> {
        self.headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok()).collect()
    }

    /// Which of these the client prefers by its `Accept`; where it leaves that open, the usual one.
    pub fn preferred(&self, offers: &[Media], usual: usize) -> usize {
        http::preferred(&self.values("accept"), offers, usual)
    }

    /// `None` where the request names a coding that is not understood, or several.
    pub fn coding(&self) -> Option<Coding> {
        let mut codings = self.headers.get_all("content-encoding").iter();
        match (codings.next(), codings.next()) {
            (None, _) => Some(Coding::Identity),
            (Some(coding), None) => Coding::from_header(coding.as_bytes()),
            _ => None,
        }
    }

    pub fn asker<'a>(&'a self, lane: &'a Lane) -> Asker<'a> {
        Asker {
            request_id: &self.id,
            problems: &lane.me.executor.problems,
            body_bytes_max: self.found.body_bytes_max(&lane.vitals.config),
        }
    }

    /// Charges the client that the peer is, or that it asks for, where its address is counted.
    pub fn charge_address(&self, lane: &Lane, now: Now) -> Result<(), Denied> {
        let (Some(peer), Pages::Every) = (self.peer, self.found.pages(self.method)) else { return Ok(()) };
        if self.method == Method::Options {
            return Ok(());
        }
        let lines = self.headers.get_all("x-forwarded-for").iter().map(hyper::header::HeaderValue::as_bytes);
        let client = client_address(peer, &lane.vitals.config.trusted_proxies, lines);
        lane.desk.borrow().charge_address(client, now)
    }

    /// What the head says of its page and of this server's name.
    fn caller(&self) -> Caller<'_> {
        // That of the target, where it is there: RFC 9112 §3.2.2.
        let in_target = self.uri.authority().map(|authority| authority.as_str().as_bytes());
        let host = in_target.or_else(|| self.headers.get("host").map(hyper::header::HeaderValue::as_bytes));
        Caller::new(host, self.headers.get_all("origin").iter().map(hyper::header::HeaderValue::as_bytes))
    }

    /// Whether a page may ask this, under this name.
    pub fn check_caller(&self, lane: &Lane) -> Result<(), NotCalled> {
        let is_open = || lane.desk.borrow_mut().is_open();
        self.caller().check(&lane.vitals.config, self.found.pages(self.method), self.method, is_open)
    }

    fn cors(&self, lane: &Lane) -> Cors<'_> {
        self.caller().cors(&lane.vitals.config, self.found.pages(self.method), self.method)
    }

    pub fn preflight(&self, lane: &Lane) -> Preflight<'_> {
        let wanted = self.headers.get("access-control-request-headers");
        Preflight { cors: self.cors(lane), wanted_headers: wanted.map(hyper::header::HeaderValue::as_bytes) }
    }

    /// An HTTP/1.0 request that does not ask to keep the connection.
    fn is_last(&self) -> bool {
        let asks = |value: &hyper::header::HeaderValue| {
            let mut options = value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
            options.any(|option| option.eq_ignore_ascii_case(b"keep-alive"))
        };
        self.version == hyper::Version::HTTP_10 && !self.headers.get_all("connection").iter().any(asks)
    }
}

/// What a handler is called with.
#[derive(Clone, Copy)]
pub struct Call<'c> {
    pub lane: &'c Rc<Lane>,
    pub gate: &'c SharedGate,
    pub request: &'c RequestHead,
    /// Who asks. Where the path names a tenant, they may do this to it, and it was charged. Nobody yet where the body is
    /// taken in as it comes.
    pub principal: Principal,
}

impl<'c> Call<'c> {
    pub fn asker(&self) -> Asker<'c> {
        self.request.asker(self.lane)
    }

    /// The tenant in the path.
    pub fn tenant(&self) -> &'c str {
        &self.request.tenant
    }

    pub fn is_head(&self) -> bool {
        self.request.method == Method::Head
    }

    /// Whether the answer waits until what it promises survives a power cut.
    pub fn wants_disk(&self) -> Result<bool, WriteRefused> {
        let wants_disk = api::event::wants_disk(self.query(), self.lane.vitals.config.ack);
        wants_disk.map_err(|_| WriteRefused::AckParameter)
    }

    /// The body as it was before it was compressed, within the endpoint's limit and without a byte order mark.
    pub fn decoded<'b>(
        &self,
        body: &'b Body<'_>,
        inflated: &'b mut Vec<u8>,
    ) -> Result<&'b [u8], EventRefused> {
        let bytes_max = self.request.found.body_bytes_max(&self.lane.vitals.config) as usize;
        let body = match self.request.coding().ok_or(EventRefused::UnknownCoding)? {
            Coding::Identity => &body.bytes[..],
            coding => {
                coding.inflate(&body.bytes, bytes_max, inflated).map_err(ingest::Refused::Inflate)?;
                &*inflated
            }
        };
        if body.len() > bytes_max {
            return Err(ingest::Refused::TooLarge.into());
        }
        Ok(without_mark(body))
    }

    /// The query string.
    pub fn query(&self) -> Option<&'c str> {
        self.request.uri.query()
    }
}

type Answering<'c> = Pin<Box<dyn Future<Output = Reply> + 'c>>;
/// A handler of requests whose body is whole.
pub type Task = for<'c> fn(Call<'c>, Body<'c>) -> Answering<'c>;
/// A handler that takes the body in as it comes; it lets in, itself, who may.
pub type StreamTask = for<'c> fn(Call<'c>, Incoming) -> Answering<'c>;

/// Everything at once, or the head now and the body as it comes.
pub struct Reply {
    pub answer: Answer,
    pub body: Option<AnswerBody>,
}

impl From<Answer> for Reply {
    fn from(answer: Answer) -> Reply {
        Reply { answer, body: None }
    }
}

impl Reply {
    pub fn streamed(answer: Answer, body: AnswerBody) -> Reply {
        Reply { answer, body: Some(body) }
    }

    /// What a handler said, or why it did not.
    pub fn of<R: Into<Reply>>(said: Result<R, impl Refuse>, asker: &Asker<'_>) -> Reply {
        said.map_or_else(|refused| refused.answer(asker).into(), Into::into)
    }

    pub fn response(self, lane: &Lane, request: &RequestHead) -> Response<AnswerBody> {
        let Reply { answer, body } = self;
        let mut response = Response::builder()
            .status(answer.status)
            .header("Date", &clock::http_date(clock::unix_us())[..])
            .header("X-Request-Id", &request.id);
        for (name, value) in request.cors(lane).lines() {
            response = response.header(name, value);
        }
        if answer.close || lane.vitals.stop.stage() >= Stage::Draining || request.is_last() {
            response = response.header("Connection", "close");
        }
        if !answer.content_type.is_empty() {
            response = response.header("Content-Type", answer.content_type);
        }
        for (name, value) in &answer.headers {
            response = response.header(*name, value.as_bytes());
        }
        let whole = match answer.body {
            std::borrow::Cow::Borrowed(bytes) => Bytes::from_static(bytes),
            std::borrow::Cow::Owned(bytes) => Bytes::from(bytes),
        };
        response.body(body.unwrap_or(AnswerBody::Whole(whole))).unwrap_or_else(|error| {
            // Only a header value with control characters could do this, and we write none.
            tracing::error!(%error, "a response could not be built");
            let mut empty = Response::new(AnswerBody::empty());
            *empty.status_mut() = hyper::StatusCode::INTERNAL_SERVER_ERROR;
            empty
        })
    }
}

/// A body, counted among the bytes the lane holds until it is dropped.
pub struct Body<'l> {
    pub bytes: Bytes,
    /// Bytes that came, kept or not.
    pub(super) seen: usize,
    pub(super) held: Held,
    pub(super) _lane: std::marker::PhantomData<&'l Lane>,
}

/// What answers an operation.
#[derive(Clone, Copy)]
pub enum Handler {
    /// From memory, without waiting.
    Memory(fn(&Asked<'_>) -> Answer),
    /// Adds to the answer to OPTIONS.
    Preflight(fn(Answer, &Config) -> Answer),
    /// An event of the collector: the listener stages it and answers after its append; on the executor, this.
    Click(Task),
    /// With the whole body, on the executor.
    Task(Task),
    /// Takes the body in as it comes, on the executor.
    Stream(StreamTask),
}

impl fmt::Debug for Handler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Handler::Memory(_) => "Memory",
            Handler::Preflight(_) => "Preflight",
            Handler::Click(_) => "Click",
            Handler::Task(_) => "Task",
            Handler::Stream(_) => "Stream",
        })
    }
}

/// The answer where no task is needed: from memory, to OPTIONS, 404 or 405.
pub fn at_once(found: &Found<Handler>, method: Method, asked: &Asked<'_>) -> Answer {
    match found.operation.map(|operation| operation.handler) {
        Some(Handler::Memory(answer)) => answer(asked),
        Some(Handler::Preflight(add)) => add(found.preflight(&asked.preflight), &asked.vitals.config),
        _ if method == Method::Options => found.preflight(&asked.preflight),
        _ => found.nothing_there(&asked.asker),
    }
}
