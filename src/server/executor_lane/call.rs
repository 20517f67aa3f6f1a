//! A request on its way through the lane: its head as all handlers see it, what a handler is called with, and what
//! it answers.

use std::cell::Cell;
use std::future::Future;
use std::ops::Deref;
use std::pin::Pin;
use std::rc::Rc;

use bytes::Bytes;
use hyper::Response;
use hyper::body::Incoming;

use super::body::AnswerBody;
use super::respond::Body;
use super::{Lane, SharedGate};
use crate::api::Found;
use crate::api::error::{Asker, Refuse};
use crate::base::clock;
use crate::cores::stop::Stage;
use crate::http::{Answer, Coding, Method};
use crate::server::endpoints::{ENDPOINTS, Handler};
use crate::tenants::{Payer, Principal};

/// The head of a request, where it goes, and who pays for it.
pub(in crate::server) struct RequestHead {
    parts: hyper::http::request::Parts,
    pub(super) method: Method,
    pub(super) found: Found<Handler>,
    pub(super) id: String,
    /// The tenant in the path; empty where there is none.
    pub(super) tenant: String,
    /// Whose budget was charged, once one was.
    pub(super) payer: Cell<Option<Payer>>,
    pub(super) started_us: u64,
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
    pub(super) fn new(lane: &Lane, parts: hyper::http::request::Parts) -> RequestHead {
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
        let (mut method, mut found) = (method, ENDPOINTS.find(path, method, parts.uri.query()));
        if method == Method::Post
            && found.endpoint.is_some_and(|endpoint| endpoint.overrides_method)
            && let Some(named) = overriding(&parts.headers)
        {
            (method, found) = (named, ENDPOINTS.find(path, named, parts.uri.query()));
        }
        let tenant = found.parameter(path, "tenant");
        let taken_over = parts.headers.get_all("x-request-id").iter();
        let id = match taken_over.filter_map(|id| crate::http::taken_over(id.as_bytes())).next_back() {
            Some(id) => id.to_owned(),
            None => lane.request_ids.borrow_mut().give().to_owned(),
        };
        RequestHead { parts, method, found, id, tenant, payer: Cell::new(None), started_us }
    }

    /// A segment of the path by its name in the endpoint's template; empty where it has none.
    pub(super) fn parameter(&self, name: &str) -> String {
        self.found.parameter(self.uri.path(), name)
    }

    /// The text of a header field that is there once, or the first of several.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// `None` where the request names a coding that is not understood, or several.
    pub(super) fn coding(&self) -> Option<Coding> {
        let mut codings = self.headers.get_all("content-encoding").iter();
        match (codings.next(), codings.next()) {
            (None, _) => Some(Coding::Identity),
            (Some(coding), None) => Coding::from_header(coding.as_bytes()),
            _ => None,
        }
    }

    pub(super) fn asker<'a>(&'a self, lane: &'a Lane) -> Asker<'a> {
        Asker {
            request_id: &self.id,
            problems: &lane.me.executor.problems,
            body_bytes_max: self.found.body_bytes_max(&lane.vitals.config),
        }
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
pub(in crate::server) struct Call<'c> {
    pub(super) lane: &'c Rc<Lane>,
    pub(super) gate: &'c SharedGate,
    pub(super) request: &'c RequestHead,
    /// Who asks. Where the path names a tenant, they may do this to it, and it was charged.
    pub(super) principal: Principal,
}

impl<'c> Call<'c> {
    pub(in crate::server) fn asker(&self) -> Asker<'c> {
        self.request.asker(self.lane)
    }

    /// The tenant in the path.
    pub(super) fn tenant(&self) -> &'c str {
        &self.request.tenant
    }

    pub(super) fn is_head(&self) -> bool {
        self.request.method == Method::Head
    }

    /// The query string.
    pub(super) fn query(&self) -> Option<&'c str> {
        self.request.uri.query()
    }
}

type Answering<'c> = Pin<Box<dyn Future<Output = Reply> + 'c>>;
/// A handler of requests whose body is whole.
pub(in crate::server) type Task = for<'c> fn(Call<'c>, Body<'c>) -> Answering<'c>;
/// A handler that takes the body in as it comes; it lets in, itself, who may.
pub(in crate::server) type StreamTask = for<'c> fn(Call<'c>, Incoming) -> Answering<'c>;

/// Everything at once, or the head now and the body as it comes.
pub(in crate::server) struct Reply {
    pub(super) answer: Answer,
    pub(super) body: Option<AnswerBody>,
}

impl From<Answer> for Reply {
    fn from(answer: Answer) -> Reply {
        Reply { answer, body: None }
    }
}

impl Reply {
    pub(super) fn streamed(answer: Answer, body: AnswerBody) -> Reply {
        Reply { answer, body: Some(body) }
    }

    /// What a handler said, or why it did not.
    pub(in crate::server) fn of<R: Into<Reply>>(said: Result<R, impl Refuse>, asker: &Asker<'_>) -> Reply {
        said.map_or_else(|refused| refused.answer(asker).into(), Into::into)
    }

    pub(super) fn response(self, lane: &Lane, request: &RequestHead) -> Response<AnswerBody> {
        let Reply { answer, body } = self;
        let mut response = Response::builder()
            .status(answer.status)
            .header("Date", &clock::http_date(clock::unix_us())[..])
            .header("X-Request-Id", &request.id)
            .header("Access-Control-Allow-Origin", "*");
        if request.headers.contains_key("origin") {
            response = response.header("Access-Control-Expose-Headers", crate::http::EXPOSED_HEADERS);
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
            tracing::error!(%error, "an answer could not be built");
            let mut empty = Response::new(AnswerBody::empty());
            *empty.status_mut() = hyper::StatusCode::INTERNAL_SERVER_ERROR;
            empty
        })
    }
}
