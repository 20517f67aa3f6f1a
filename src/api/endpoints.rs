//! Endpoints, and everything that follows from the endpoint table: routing, `Allow`, preflights, required keys,
//! access from pages, the paths of the OpenAPI document.
//!
//! The rows are in `server/endpoints.rs`, the handlers in the features. This module does not know any particular endpoint.

use std::fmt;

use utoipa::openapi::path::OperationBuilder;

use super::callers::{Pages, Preflight};
use super::error::{Asker, problem};
use super::template::{Template, slashes, trimmed};
use super::{Problem, QueryNames, Wants, request};
use crate::config::Config;
use crate::http::{Answer, Cors, Method};
use crate::ops::Format;
use crate::ops::vitals::{Route, Vitals};
use crate::tenants::Need;

/// One path and its operations.
#[derive(Debug)]
pub struct Endpoint<H: 'static> {
    /// A template: `{name}` matches one segment, `{name..}` at the end matches any number of them.
    pub path: &'static str,
    /// The `route` label in the metrics. Related rows share it.
    pub route: &'static str,
    /// If set, the row matches only requests with this query parameter. Such a row precedes rows without a required
    /// parameter.
    pub if_query: Option<&'static str>,
    /// If true, an invalid product in the path is a 404 before anything else, as an invalid tenant always is.
    pub checks_product: bool,
    /// If true, a POST with another method in `X-HTTP-Method-Override` is treated as that method, as tus requires.
    pub overrides_method: bool,
    /// If true, the operators' listener answers the path too.
    pub for_operators: bool,
    pub operations: &'static [Operation<H>],
    template: Template,
    methods: Methods,
}

/// One method of an endpoint.
#[derive(Clone, Copy)]
pub struct Operation<H: 'static> {
    pub method: Method,
    /// The access that the operation requires.
    pub need: Need,
    /// The pages that may call the operation.
    pub pages: Pages,
    pub body: Body,
    pub lane: Lane,
    pub logged: Logged,
    pub handler: H,
    /// Returns the operation's description for the OpenAPI document.
    pub describe: fn() -> OperationBuilder,
}

/// How an operation treats a body.
#[derive(Clone, Copy, Debug)]
pub enum Body {
    /// No body is expected. If there is one, it is read and discarded, so that the next request starts where it
    /// should.
    Unused,
    /// The body is complete before the handler starts. It has at most this many decoded bytes; a larger one is a 413.
    Whole(fn(&Config) -> u64),
    /// The handler reads the body as it arrives.
    Streamed,
}

/// Which of an operation's responses are logged at level info.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logged {
    /// Every response.
    Each,
    /// The first response of each status in a second.
    Sampled,
    /// No response at level info, and every response at level debug.
    Never,
}

impl Logged {
    /// Returns `Never` for reads and `Each` for writes.
    #[must_use]
    pub const fn of(method: Method) -> Logged {
        match method {
            Method::Get | Method::Head | Method::Options => Logged::Never,
            _ => Logged::Each,
        }
    }
}

/// The lane that answers an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// The listener, or the executor for connections that the executor already has.
    Hot,
    Executor,
}

impl<H> fmt::Debug for Operation<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Operation")
            .field("method", &self.method)
            .field("need", &self.need)
            .finish_non_exhaustive()
    }
}

impl<H> Endpoint<H> {
    #[must_use]
    pub const fn new(path: &'static str, operations: &'static [Operation<H>]) -> Endpoint<H> {
        Endpoint {
            path,
            route: path,
            if_query: None,
            checks_product: false,
            overrides_method: false,
            for_operators: false,
            operations,
            template: Template::new(path),
            methods: methods(operations),
        }
    }

    /// Counts the row under another route.
    #[must_use]
    pub const fn counted_as(mut self, route: &'static str) -> Endpoint<H> {
        self.route = route;
        self
    }

    #[must_use]
    pub const fn if_query(mut self, parameter: &'static str) -> Endpoint<H> {
        self.if_query = Some(parameter);
        self
    }

    #[must_use]
    pub const fn checks_product(mut self) -> Endpoint<H> {
        self.checks_product = true;
        self
    }

    #[must_use]
    pub const fn overrides_method(mut self) -> Endpoint<H> {
        self.overrides_method = true;
        self
    }

    pub const fn for_operators(mut self) -> Endpoint<H> {
        self.for_operators = true;
        self
    }

    /// Returns the segment of a path that matches a template parameter, as sent. For `{name..}`, this is the rest of
    /// the path.
    #[must_use]
    pub fn segment<'p>(&self, path: &'p str, name: &str) -> Option<&'p str> {
        self.template.segment(trimmed(path), name)
    }

    /// Returns the segment that matches a template parameter, percent-decoded.
    #[must_use]
    pub fn parameter(&self, path: &str, name: &str) -> Option<String> {
        self.segment(path, name).map(request::decoded)
    }

    /// Returns `true` if the path names a tenant.
    #[must_use]
    pub fn has_tenant(&self) -> bool {
        self.template.has_tenant
    }

    fn is_at(&self, path: &str, slashes: usize, query: Option<&str>) -> bool {
        self.template.matches(path, slashes) && self.if_query.is_none_or(|name| names(query, name))
    }

    fn operation(&self, method: Method) -> Option<&'static Operation<H>> {
        let of = |method| self.operations.iter().find(|operation| operation.method == method);
        of(method).or_else(|| if method == Method::Head { of(Method::Get) } else { None })
    }
}

/// Returns the permitted methods: those of the operations, HEAD if GET is among them, and always OPTIONS.
const fn methods<H>(operations: &[Operation<H>]) -> Methods {
    let (mut at, mut all) = (0, 1 << Method::Options as u8);
    while at < operations.len() {
        let method = operations[at].method as u8;
        let head = if method == Method::Get as u8 { 1 << Method::Head as u8 } else { 0 };
        all |= 1 << method | head;
        at += 1;
    }
    Methods(all)
}

/// Returns `true` if a query string has this parameter, in exactly this spelling. A parameter without a value
/// (`a` or `a=`) counts as absent.
fn names(query: Option<&str>, name: &str) -> bool {
    let mut pairs = query.unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    pairs.any(|(known, value)| known == name && !value.is_empty())
}

/// A set of methods, by the bit of their number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Methods(u8);

const _: () = assert!((Method::Other as u8) < 8);

impl Methods {
    /// All methods, in the order that `Allow` lists them.
    const ALL: [(Method, &'static str); 7] = [
        (Method::Get, "GET"),
        (Method::Head, "HEAD"),
        (Method::Post, "POST"),
        (Method::Put, "PUT"),
        (Method::Patch, "PATCH"),
        (Method::Delete, "DELETE"),
        (Method::Options, "OPTIONS"),
    ];

    #[must_use]
    pub fn has(self, method: Method) -> bool {
        self.0 & 1 << method as u8 != 0
    }

    #[must_use]
    fn and(self, method: Method) -> Methods {
        Methods(self.0 | 1 << method as u8)
    }
}

/// Formats the value of the `Allow` header.
impl fmt::Display for Methods {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = Methods::ALL.iter().filter(|(method, _)| self.has(*method));
        for (at, (_, name)) in of.enumerate() {
            f.write_str(if at == 0 { "" } else { ", " })?;
            f.write_str(name)?;
        }
        Ok(())
    }
}

/// The table of all endpoints, and the names of their query parameters.
#[derive(Debug)]
pub struct Endpoints<H: 'static>(pub &'static [Endpoint<H>], pub(super) QueryNames);

/// The result of looking up a request in the endpoint table.
#[derive(Debug)]
pub struct Found<H: 'static> {
    /// The most specific row at the path that has the method. If no row has the method, this is the most specific row
    /// at the path.
    pub endpoint: Option<&'static Endpoint<H>>,
    /// `None` if no row has the method.
    pub operation: Option<&'static Operation<H>>,
    /// The row of the request counters. If there is no endpoint, this is one more than the number of the last row.
    pub row: usize,
    /// The methods of all rows at the path.
    pub allowed: Methods,
    /// Set if the listener answers one of the path's methods. In that case, the listener also answers requests with
    /// methods that the path does not have.
    pub is_hot: bool,
}

impl<H> Clone for Found<H> {
    fn clone(&self) -> Found<H> {
        *self
    }
}

impl<H> Copy for Found<H> {}

impl<H> Endpoints<H> {
    #[must_use]
    pub const fn new(rows: &'static [Endpoint<H>]) -> Endpoints<H> {
        Endpoints(rows, QueryNames::new())
    }

    /// Finds the endpoint of a request. Among the matching rows, a word precedes a parameter. A method that the most
    /// specific row lacks may belong to another row. Takes about 2 ns for the first row, 0.1 us for the others.
    #[inline]
    #[must_use]
    pub fn find(&self, path: &str, method: Method, query: Option<&str>) -> Found<H> {
        let path = trimmed(path);
        if let [first, ..] = self.0
            && first.path == path
            && let Some(operation) = first.operation(method)
        {
            // No path is more specific than one without parameters.
            let (allowed, is_hot) = (first.methods, operation.lane == Lane::Hot);
            return Found { endpoint: Some(first), operation: Some(operation), row: 0, allowed, is_hot };
        }
        self.search(path, method, query)
    }

    fn search(&self, path: &str, method: Method, query: Option<&str>) -> Found<H> {
        let nothing = Methods::default();
        let mut found =
            Found { endpoint: None, operation: None, row: self.0.len(), allowed: nothing, is_hot: false };
        let (mut best, slashes) = ((false, 0, false), slashes(path));
        let fits = |(_, endpoint): &(usize, &Endpoint<H>)| endpoint.is_at(path, slashes, query);
        for (row, endpoint) in self.0.iter().enumerate().filter(fits) {
            found.allowed = Methods(found.allowed.0 | endpoint.methods.0);
            found.is_hot |= endpoint.operations.iter().any(|operation| operation.lane == Lane::Hot);
            let operation = endpoint.operation(method);
            let nearness = (operation.is_some(), endpoint.template.rank, endpoint.if_query.is_some());
            if found.endpoint.is_none() || nearness > best {
                best = nearness;
                (found.endpoint, found.operation, found.row) = (Some(endpoint), operation, row);
            }
        }
        found
    }

    /// Returns the labels under which requests are counted. The last label is for requests without an endpoint.
    #[must_use]
    pub fn routes(&self) -> Vec<Route> {
        let mut routes: Vec<Route> = Vec::new();
        for (row, name) in self.0.iter().map(|endpoint| endpoint.route).chain([NO_ROUTE]).enumerate() {
            match routes.iter_mut().find(|route| route.name == name) {
                Some(route) => route.rows.push(row),
                None => routes.push(Route { name, rows: vec![row] }),
            }
        }
        routes
    }
}

/// The `route` label of requests to unknown paths.
const NO_ROUTE: &str = "other";

impl<H> Found<H> {
    #[must_use]
    pub fn route(&self) -> &'static str {
        self.endpoint.map_or(NO_ROUTE, |endpoint| endpoint.route)
    }

    /// Returns the required access. Responses that only report a missing resource (404, 405), and OPTIONS, are open.
    #[inline]
    #[must_use]
    pub fn need(&self) -> Need {
        self.operation.map_or(Need::Nothing, |operation| operation.need)
    }

    /// Returns the pages that may send the request. A preflight is permitted for every page that the operation
    /// permits.
    #[inline]
    #[must_use]
    pub fn pages(&self, method: Method) -> Pages {
        match self.operation {
            Some(operation) => operation.pages,
            None if method == Method::Options && self.for_every_page() != Methods::default() => Pages::Every,
            None => Pages::Own,
        }
    }

    /// Returns the methods that pages of every origin may use.
    fn for_every_page(&self) -> Methods {
        let operations = self.endpoint.map_or(&[][..], |endpoint| endpoint.operations);
        let open = operations.iter().filter(|operation| operation.pages == Pages::Every);
        open.fold(Methods::default(), |all, operation| all.and(operation.method))
    }

    /// Returns the path segment that matches a parameter, percent-decoded. It is empty if there is none.
    #[must_use]
    pub fn parameter(&self, path: &str, name: &str) -> String {
        self.endpoint.and_then(|endpoint| endpoint.parameter(path, name)).unwrap_or_default()
    }

    /// Returns the maximum number of decoded bytes in a body. A larger body is a 413.
    #[must_use]
    pub fn body_bytes_max(&self, config: &Config) -> u64 {
        match self.operation.map(|operation| operation.body) {
            Some(Body::Whole(bytes_max)) => bytes_max(config),
            _ => config.event_bytes_max,
        }
    }

    #[must_use]
    pub fn streams_in(&self) -> bool {
        matches!(self.operation.map(|operation| operation.body), Some(Body::Streamed))
    }

    /// Returns the response to OPTIONS, including a browser's preflight. It lists what the page may send, or omits
    /// all of that if the page is not permitted.
    #[must_use]
    pub fn preflight(&self, preflight: &Preflight<'_>) -> Answer {
        let allow = self.allow();
        let answer = Answer::new(204, "", &b""[..]).with("Allow", allow.clone());
        let methods = match preflight.cors {
            Cors::None | Cors::Unlisted => return answer,
            Cors::Listed(_) => allow,
            Cors::Every { .. } => self.for_every_page().and(Method::Options).to_string(),
        };
        let headers = preflight.wanted_headers.and_then(field_names).unwrap_or(HEADERS);
        answer
            .with("Access-Control-Allow-Methods", methods)
            .with("Access-Control-Allow-Headers", headers.to_owned())
            .with("Access-Control-Max-Age", "86400")
    }

    fn allow(&self) -> String {
        match self.endpoint {
            Some(_) => self.allowed.to_string(),
            // Only the response to OPTIONS on an unknown path uses this list.
            None => "GET, HEAD, OPTIONS".to_owned(),
        }
    }

    /// Returns the response to a request that nothing handles: 404 or 405.
    #[must_use]
    pub fn nothing_there(&self, asker: &Asker<'_>) -> Answer {
        if self.endpoint.is_none() {
            let detail = "no endpoint has this path";
            return problem(Problem::NotFound, detail, asker.request_id, &[], &[], asker.problems);
        }
        let allow = self.allow();
        let detail = format!("this path allows {allow}");
        problem(Problem::MethodNotAllowed, &detail, asker.request_id, &[], &[], asker.problems)
            .with("Allow", allow)
    }
}

/// The headers that a page may send if its preflight does not name any.
const HEADERS: &str = "Content-Type, Content-Encoding, X-Request-Id, Authorization, X-API-Key, Idempotency-Key, \
    Last-Event-ID, traceparent, tracestate, baggage, sentry-trace, X-Requested-With";

/// Returns the list if it consists of header field names and nothing else.
fn field_names(list: &[u8]) -> Option<&str> {
    let is_listed = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~, ".contains(byte);
    let list = std::str::from_utf8(list).ok()?;
    (!list.is_empty() && list.as_bytes().iter().all(is_listed)).then_some(list)
}

/// The parts of a request that are passed to handlers which answer from memory without waiting.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The path, without a trailing slash.
    pub path: &'a str,
    pub format: Format,
    /// Used only for the dashboard's files.
    pub wants: Wants<'a>,
    /// Used only for OPTIONS.
    pub preflight: Preflight<'a>,
    pub vitals: &'a Vitals,
    pub asker: Asker<'a>,
}

impl<'a> Asked<'a> {
    #[must_use]
    pub fn new(
        path: &'a str,
        format: Format,
        wants: Wants<'a>,
        vitals: &'a Vitals,
        asker: Asker<'a>,
    ) -> Asked<'a> {
        Asked { path: trimmed(path), format, wants, preflight: Preflight::default(), vitals, asker }
    }

    #[must_use]
    pub fn with_preflight(self, preflight: Preflight<'a>) -> Asked<'a> {
        Asked { preflight, ..self }
    }

    /// Returns a 404 for this reason.
    #[must_use]
    pub fn not_found(&self, kind: Problem, detail: &str) -> Answer {
        problem(kind, detail, self.asker.request_id, &[], &[], self.asker.problems)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn operation(method: Method, handler: u8) -> Operation<u8> {
        Operation {
            method,
            need: Need::Nothing,
            pages: if handler == 1 { Pages::Every } else { Pages::Own },
            body: Body::Unused,
            lane: Lane::Executor,
            logged: Logged::of(method),
            handler,
            describe: OperationBuilder::new,
        }
    }

    static TABLE: Endpoints<u8> = Endpoints::new(&[
        Endpoint::new("/a", &[operation(Method::Post, 1)]),
        Endpoint::new(
            "/t/{tenant}/orders/{order}",
            &[operation(Method::Get, 2), operation(Method::Patch, 3)],
        ),
        Endpoint::new("/t/{tenant}/orders/search", &[operation(Method::Get, 4)]),
        Endpoint::new("/m", &[operation(Method::Get, 5)]),
        Endpoint::new("/m", &[operation(Method::Get, 6)]).if_query("tenant_id"),
        Endpoint::new("/files/{file..}", &[operation(Method::Get, 7)]),
        Endpoint::new("/files/state", &[operation(Method::Get, 8)]),
        Endpoint::new("/", &[operation(Method::Get, 9)]),
        Endpoint::new("/docs/{file..}", &[operation(Method::Get, 10)]),
        Endpoint::new("/docs", &[operation(Method::Get, 11)]),
        Endpoint::new("/docs/{one}", &[operation(Method::Put, 12)]),
    ]);

    fn handler(path: &str, method: Method, query: Option<&str>) -> Option<u8> {
        TABLE.find(path, method, query).operation.map(|operation| operation.handler)
    }

    #[test]
    fn a_word_wins_over_a_parameter_and_a_method_it_lacks_falls_through() {
        use Method::{Delete, Get, Head, Patch, Post};
        for (path, method, expected) in [
            ("/a", Post, Some(1)),
            ("/a/", Post, Some(1)),
            ("/a", Get, None),
            ("/t/x/orders/1", Get, Some(2)),
            ("/t/x/orders/1", Head, Some(2)),
            ("/t/x/orders/search", Get, Some(4)),
            ("/t/x/orders/search", Patch, Some(3)),
            ("/t/x/orders/search", Delete, None),
            ("/t//orders/search/", Get, Some(4)),
            ("/t/x/orders", Get, None),
            ("/t/x/orders/1/2", Get, None),
            ("/m", Get, Some(5)),
            ("/files", Get, Some(7)),
            ("/files/a/b", Get, Some(7)),
            ("/files/state", Get, Some(8)),
            ("/filesystem", Get, None),
            ("/", Get, Some(9)),
            ("//", Get, Some(9)),
            ("/docs", Get, Some(11)),
            ("/docs/x", Get, Some(10)),
        ] {
            assert_eq!(handler(path, method, None), expected, "{method:?} {path}");
        }
        let allow = |path| TABLE.find(path, Delete, None).allowed.to_string();
        assert_eq!(allow("/t/x/orders/search"), "GET, HEAD, PATCH, OPTIONS");
        assert_eq!((allow("/a").as_str(), allow("/m").as_str()), ("POST, OPTIONS", "GET, HEAD, OPTIONS"));
    }

    #[test]
    fn two_rows_behind_one_door_are_told_apart_by_a_query_parameter() {
        assert_eq!(handler("/m", Method::Get, Some("bucket_size=day&tenant_id=a")), Some(6));
        // With another spelling of `tenant_id`, the parameter parser does not treat the query as a request for a
        // tenant's counts either.
        for query in ["", "tenant=a", "tenant%5Fid=a", "x=tenant_id"] {
            assert_eq!(handler("/m", Method::Get, Some(query)), Some(5), "{query}");
        }
    }

    #[test]
    fn a_path_names_what_its_template_does() {
        let find = |path| TABLE.find(path, Method::Get, None);
        let both = |path| (find(path).parameter(path, "tenant"), find(path).parameter(path, "order"));
        assert_eq!(both("/t/a%20b/orders/x%2Fy"), ("a b".to_owned(), "x/y".to_owned()));
        assert_eq!(both("/t/100%/orders/1/"), ("100%".to_owned(), "1".to_owned()));
        // A `%` is decoded only with two hexadecimal digits, not with other text that parses as a number, such as
        // `+1`.
        assert_eq!(both("/t/%+1/orders/%-1%2"), ("%+1".to_owned(), "%-1%2".to_owned()));
        assert_eq!(both("/t//orders/%ff"), (String::new(), String::new()));
        let file = |path| find(path).endpoint.unwrap().segment(path, "file");
        assert_eq!((file("/files/a/b"), file("/files")), (Some("a/b"), Some("")));
    }

    #[test]
    fn a_preflight_grants_what_was_asked_for_to_pages_that_may() {
        let ask = |path, cors, wanted_headers| {
            let found = TABLE.find(path, Method::Options, None);
            let answer = found.preflight(&Preflight { cors, wanted_headers });
            let header = |name| {
                let found = answer.headers.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| value.to_string())
            };
            assert_eq!(answer.status, 204);
            assert!(header("Allow").is_some());
            (header("Access-Control-Allow-Methods"), header("Access-Control-Allow-Headers"))
        };
        let (every, listed) = (Cors::Every { has_origin: true }, Cors::Listed(b"https://a"));
        let traced = "content-type,traceparent,tracestate,baggage,sentry-trace,x-requested-with";
        let (methods, headers) = ask("/a", every, Some(traced.as_bytes()));
        assert_eq!((methods.as_deref(), headers.as_deref()), (Some("POST, OPTIONS"), Some(traced)));
        assert!(ask("/a", every, None).1.unwrap().contains("traceparent"));
        for hostile in [&b"a\r\nb: c"[..], b"a\xff", b"", b"a;b", b"a\tb"] {
            assert_eq!(ask("/a", every, Some(hostile)), ask("/a", every, None), "{hostile:?}");
        }
        let (methods, headers) = ask("/t/x/orders/1", listed, Some(b"tus-resumable"));
        assert_eq!(methods.as_deref(), Some("GET, HEAD, PATCH, OPTIONS"));
        assert_eq!(headers.as_deref(), Some("tus-resumable"));
        for cors in [Cors::None, Cors::Unlisted] {
            assert_eq!(ask("/t/x/orders/1", cors, Some(b"a")), (None, None));
        }
        let pages = |path, method| TABLE.find(path, method, None).pages(method);
        assert_eq!((pages("/a", Method::Options), pages("/a", Method::Post)), (Pages::Every, Pages::Every));
        assert_eq!((pages("/a", Method::Get), pages("/m", Method::Options)), (Pages::Own, Pages::Own));
    }

    #[test]
    fn what_no_row_takes_is_404_or_405() {
        let asker = Asker { request_id: "r", problems: &[], body_bytes_max: 0 };
        let answer = |path| TABLE.find(path, Method::Put, None).nothing_there(&asker);
        assert_eq!((answer("/nope").status, answer("/a").status), (404, 405));
        assert_eq!(TABLE.find("/nope", Method::Get, None).row, TABLE.0.len());
        let routes = TABLE.routes();
        assert_eq!(routes.last(), Some(&Route { name: "other", rows: vec![TABLE.0.len()] }));
        assert_eq!(routes.iter().find(|route| route.name == "/m").unwrap().rows, [3, 4]);
    }
}
