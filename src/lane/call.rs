//! A request on its way through the lane: its head as all handlers see it, a handler's arguments, and its result.

use std::cell::{Cell, OnceCell};
use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::ops::Deref;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{CONTENT_ENCODING, HOST, ORIGIN};

use super::body::AnswerBody;
use super::gated::SharedGate;
use super::memory::Reservation;
use super::response::X_REQUEST_ID;
use super::state::Lane;
use crate::api::error::{Asker, EventRefused, Refuse};
use crate::api::members::Member;
use crate::api::write::WriteRefused;
use crate::api::{Asked, Caller, Found, NotCalled, Pages, Preflight};
use crate::base::clock;
use crate::config::{Config, client_address};
use crate::http::{self, Answer, Coding, Cors, Media, Method, without_mark};
use crate::query::Readers;
use crate::tenants::{Denied, Now, Payer, Principal};
use crate::{api, ingest};

/// The head of a request, its endpoint, and the tenant that is charged for it.
pub struct RequestHead {
    parts: hyper::http::request::Parts,
    /// The peer's address. It is requested from the kernel only if there is a limit per client address.
    peer: Option<IpAddr>,
    pub method: Method,
    pub found: Found<Handler>,
    pub id: String,
    /// The tenant in the path; empty if there is none.
    pub tenant: String,
    /// The payer whose budget was charged. `None` until then.
    pub payer: Cell<Option<Payer>>,
    /// The key's tenant, if the path has no tenant and a handler requested it. It is for the log.
    pub owner: OnceCell<Arc<str>>,
    /// The readers as this request uses them.
    readers: OnceCell<Readers>,
    /// The number of rows in the request, if a handler counted them. It is for the log.
    pub rows: Cell<Option<u64>>,
    pub started_us: u64,
}

impl Deref for RequestHead {
    type Target = hyper::http::request::Parts;

    fn deref(&self) -> &Self::Target {
        &self.parts
    }
}

/// Returns the method that a POST requests in a header, for clients and proxies that cannot send the method itself.
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
        let taken_over = parts.headers.get_all(&X_REQUEST_ID).iter();
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
            readers: OnceCell::new(),
            rows: Cell::new(None),
            started_us,
        }
    }

    /// Returns the method as the client wrote it.
    pub fn method_name(&self) -> &str {
        self.parts.method.as_str()
    }

    /// Returns a segment of the path by its name in the endpoint's template; empty if the template has none.
    pub fn parameter(&self, name: &str) -> String {
        self.found.parameter(self.uri.path(), name)
    }

    /// Returns a header field as a string. If it has several lines, returns the first.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Returns a header field's values, one for each of its lines.
    pub fn values(&self, name: &str) -> Vec<&str> {
        self.headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok()).collect()
    }

    /// Returns the offer that the client prefers by its `Accept`, or the usual one if it has no preference.
    pub fn preferred(&self, offers: &[Media], usual: usize) -> usize {
        http::preferred(&self.values("accept"), offers, usual)
    }

    /// Returns the coding of the body, or `None` if the request names an unsupported coding, or several.
    pub fn coding(&self) -> Option<Coding> {
        let mut codings = self.headers.get_all(CONTENT_ENCODING).iter();
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

    /// Charges the client if there is a limit per client address. The client is the peer or, if the peer is a trusted
    /// proxy, the client that the proxy forwards for.
    pub fn charge_address(&self, lane: &Lane, now: Now) -> Result<(), Denied> {
        let (Some(peer), Pages::Every) = (self.peer, self.found.pages(self.method)) else { return Ok(()) };
        if self.method == Method::Options {
            return Ok(());
        }
        let lines = self.headers.get_all("x-forwarded-for").iter().map(hyper::header::HeaderValue::as_bytes);
        let client = client_address(peer, &lane.vitals.config.trusted_proxies, lines);
        lane.desk.borrow().charge_address(client, now)
    }

    /// Returns the page that the request comes from and the server name that it uses, as stated in the head.
    fn caller(&self) -> Caller<'_> {
        // The authority in the target takes precedence: RFC 9112 §3.2.2.
        let in_target = self.uri.authority().map(|authority| authority.as_str().as_bytes());
        let host = in_target.or_else(|| self.headers.get(HOST).map(hyper::header::HeaderValue::as_bytes));
        Caller::new(host, self.headers.get_all(ORIGIN).iter().map(hyper::header::HeaderValue::as_bytes))
    }

    /// Checks that the page may make this request, under this server name.
    pub fn check_caller(&self, lane: &Lane) -> Result<(), NotCalled> {
        let is_open = || lane.desk.borrow_mut().is_open();
        self.caller().check(&lane.vitals.config, self.found.pages(self.method), self.method, is_open)
    }

    pub(super) fn cors(&self, lane: &Lane) -> Cors<'_> {
        self.caller().cors(&lane.vitals.config, self.found.pages(self.method), self.method)
    }

    pub fn preflight(&self, lane: &Lane) -> Preflight<'_> {
        let wanted = self.headers.get("access-control-request-headers");
        Preflight { cors: self.cors(lane), wanted_headers: wanted.map(hyper::header::HeaderValue::as_bytes) }
    }

    /// Returns `true` for an HTTP/1.0 request that does not ask to keep the connection open.
    pub(super) fn is_last(&self) -> bool {
        let asks = |value: &hyper::header::HeaderValue| {
            let mut options = value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
            options.any(|option| option.eq_ignore_ascii_case(b"keep-alive"))
        };
        self.version == hyper::Version::HTTP_10 && !self.headers.get_all("connection").iter().any(asks)
    }
}

/// A handler's arguments.
#[derive(Clone, Copy)]
pub struct Call<'c> {
    pub lane: &'c Rc<Lane>,
    pub gate: &'c SharedGate,
    pub request: &'c RequestHead,
    /// The authenticated principal. If the path names a tenant, the principal has the required access to that tenant,
    /// and the tenant was charged. `Principal::ANYONE` if the body is streamed in, because a handler of streamed
    /// bodies authorizes the request itself.
    pub principal: Principal,
}

impl<'c> Call<'c> {
    pub fn asker(&self) -> Asker<'c> {
        self.request.asker(self.lane)
    }

    /// Returns the tenant in the path.
    pub fn tenant(&self) -> &'c str {
        &self.request.tenant
    }

    /// Returns the readers for the queries of this request. Their time counts as that of the tenant in the path.
    pub fn readers(&self) -> &'c Readers {
        self.readers_for(self.tenant())
    }

    /// Returns the readers for the queries of this request, whose tenant is not in the path. The first call decides.
    pub fn readers_for(&self, tenant_id: &str) -> &'c Readers {
        self.request.readers.get_or_init(|| self.lane.readers.asked_by(tenant_id))
    }

    pub fn is_head(&self) -> bool {
        self.request.method == Method::Head
    }

    /// Returns `true` if the response must wait until what it promises survives a power cut.
    pub fn wants_disk(&self) -> Result<bool, WriteRefused> {
        // A handler of a streamed body authorizes the request itself. Only then may the parameters be refused.
        if self.request.found.streams_in() {
            self.lane.endpoints.check_query(&self.request.found, self.query())?;
        }
        let wants_disk = api::request::wants_disk(self.query(), self.lane.vitals.config.ack);
        wants_disk.map_err(|_| WriteRefused::AckParameter)
    }

    /// Returns the decompressed body, within the endpoint's limit and without a byte order mark.
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

    /// Returns the JSON document in the body, decompressed. The response to a body that is none is the same at every
    /// endpoint.
    pub(crate) fn json<'b>(
        &self,
        body: &'b Body<'_>,
        inflated: &'b mut Vec<u8>,
    ) -> Result<Member<'b>, EventRefused> {
        let document = Member::of(self.decoded(body, inflated)?);
        document.map_err(|error| ingest::Refused::Decode(error).into())
    }

    /// Returns the query string.
    pub fn query(&self) -> Option<&'c str> {
        self.request.uri.query()
    }
}

type Answering<'c> = Pin<Box<dyn Future<Output = Reply> + 'c>>;
/// A handler for requests with a complete body.
pub type Task = for<'c> fn(Call<'c>, Body<'c>) -> Answering<'c>;
/// A handler that reads the body as it arrives. It authorizes the request itself.
pub type StreamTask = for<'c> fn(Call<'c>, Incoming) -> Answering<'c>;

/// A complete response, or a head followed by a body that is streamed.
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

    /// Converts a handler's result or its refusal.
    pub fn of<R: Into<Reply>>(said: Result<R, impl Refuse>, asker: &Asker<'_>) -> Reply {
        said.map_or_else(|refused| refused.answer(asker).into(), Into::into)
    }
}

/// A request body. Its bytes count towards the lane's memory until it is dropped.
pub struct Body<'l> {
    pub bytes: Bytes,
    /// The number of received bytes, whether or not they are stored.
    pub(super) seen: usize,
    pub(super) held: Reservation,
    pub(super) _lane: std::marker::PhantomData<&'l Lane>,
}

/// An operation's handler.
#[derive(Clone, Copy)]
pub enum Handler {
    /// Answers from memory, without waiting.
    Memory(fn(&Asked<'_>) -> Answer),
    /// Adds header fields to the response to OPTIONS.
    Preflight(fn(Answer, &Config) -> Answer),
    /// Handles an event of the collector. The listener stages the event and answers after its append. On the
    /// executor, this task does the same.
    Click(Task),
    /// Takes the complete body, on the executor.
    Task(Task),
    /// Reads the body as it arrives, on the executor.
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

/// Returns the response if it needs no task: one from memory, one to OPTIONS, or a 404 or 405.
pub fn answer_from_memory(found: &Found<Handler>, method: Method, asked: &Asked<'_>) -> Answer {
    match found.operation.map(|operation| operation.handler) {
        Some(Handler::Memory(answer)) => answer(asked),
        Some(Handler::Preflight(add)) => add(found.preflight(&asked.preflight), &asked.vitals.config),
        _ if method == Method::Options => found.preflight(&asked.preflight),
        _ => found.nothing_there(&asked.asker),
    }
}
