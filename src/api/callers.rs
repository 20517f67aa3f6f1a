//! Access from browsers: which pages may call, by their `Origin`, and under which names of this server, by `Host`.
//!
//! A page can send anything to any address that its reader's machine reaches, and its author can point a domain name
//! at any address (DNS rebinding). Every operation except appending events is therefore limited to pages of this
//! server and of origins that the operator has listed. While there are no keys, it is also limited to host names that
//! no stranger can control. Requests without `Origin`, which browsers do not send, are not checked here.

use super::Problem;
use super::error::{Asker, Refuse, problem};
use crate::config::{Config, is_safe_host, is_same_authority};
use crate::http::{Answer, Cors, Method};

/// The pages whose requests an operation answers. This is a column of the endpoint table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pages {
    /// Pages of this server and of listed origins, under a known name.
    Own,
    /// Pages of this server and of listed origins, under any name. This is for probes and scrapes, which reveal no
    /// row.
    OwnByAnyName,
    /// Pages of every origin, under any name. This is for posting events.
    Every,
}

/// The page that a request comes from, and the host name that it uses.
#[derive(Clone, Copy, Debug, Default)]
pub struct Caller<'a> {
    /// The `Host`. `None` for an HTTP/1.0 request without `Host`, which no browser sends.
    pub host: Option<&'a [u8]>,
    /// The `Origin`. It is empty if there are several `Origin` lines, because none of them can be trusted.
    pub origin: Option<&'a [u8]>,
}

/// The request that a browser announces by OPTIONS.
#[derive(Clone, Copy, Debug, Default)]
pub struct Preflight<'a> {
    pub cors: Cors<'a>,
    /// `Access-Control-Request-Headers`, as sent.
    pub wanted_headers: Option<&'a [u8]>,
}

/// Why a request is refused without reaching its operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotCalled {
    /// 421: the request uses a host name that this server does not answer to.
    ByThisName,
    /// 403: the request comes from a page that may not call the operation.
    ByThisPage,
}

impl NotCalled {
    #[must_use]
    pub fn problem(self) -> Problem {
        match self {
            NotCalled::ByThisName => Problem::MisdirectedRequest,
            NotCalled::ByThisPage => Problem::ForeignOrigin,
        }
    }

    /// One sentence for the operator.
    #[must_use]
    pub fn detail(self) -> &'static str {
        match self {
            NotCalled::ByThisName => {
                "the Host header does not name this server; --allowed-hosts or --public-url can add the \
                 name"
            }
            NotCalled::ByThisPage => {
                "pages of other origins may only post events; --cors-origins lists further origins, and \
                 --public-url sets this server's own origin behind a proxy"
            }
        }
    }
}

impl Refuse for NotCalled {
    fn answer(&self, asker: &Asker<'_>) -> Answer {
        problem(self.problem(), self.detail(), asker.request_id, &[], &[], asker.problems)
    }
}

impl<'a> Caller<'a> {
    /// Creates a caller from the lines of a head.
    pub fn new(host: Option<&'a [u8]>, mut origins: impl Iterator<Item = &'a [u8]>) -> Caller<'a> {
        let origin = origins.next().map(|first| if origins.next().is_some() { &b""[..] } else { first });
        Caller { host, origin }
    }

    /// Returns the pages that may read the response.
    #[must_use]
    pub fn cors(&self, config: &Config, pages: Pages, method: Method) -> Cors<'a> {
        let every = pages == Pages::Every;
        if every && method != Method::Options {
            return Cors::Every { has_origin: self.origin.is_some() };
        }
        match self.origin {
            Some(origin) if is_listed(config, origin) => Cors::Listed(origin),
            origin if every => Cors::Every { has_origin: origin.is_some() },
            _ if config.cors_origins.is_empty() => Cors::None,
            _ => Cors::Unlisted,
        }
    }

    /// Checks that the page and the host name are permitted. `is_open` means that there are no keys.
    ///
    /// # Errors
    /// Returns [`NotCalled`] if the page or the host name is not permitted.
    pub fn check(
        &self,
        config: &Config,
        pages: Pages,
        method: Method,
        is_open: impl FnOnce() -> bool,
    ) -> Result<(), NotCalled> {
        if pages == Pages::Every {
            return Ok(());
        }
        if let (Pages::Own, Some(host)) = (pages, self.host)
            && !is_own_host(config, host)
            && is_open()
        {
            return Err(NotCalled::ByThisName);
        }
        match self.origin {
            // A preflight is not refused here. Its response omits the CORS headers instead.
            Some(origin) if method != Method::Options && !self.is_own_origin(config, origin) => {
                Err(NotCalled::ByThisPage)
            }
            _ => Ok(()),
        }
    }

    fn is_own_origin(&self, config: &Config, origin: &[u8]) -> bool {
        self.host.is_some_and(|host| is_same_authority(origin, host))
            || config.public_url.as_ref().is_some_and(|own| own.is(origin))
            || is_listed(config, origin)
    }
}

fn is_listed(config: &Config, origin: &[u8]) -> bool {
    config.cors_origins.iter().any(|listed| listed.is(origin))
}

fn is_own_host(config: &Config, host: &[u8]) -> bool {
    is_safe_host(host)
        || config.public_url.as_ref().is_some_and(|own| own.is_served_as(host))
        || config.allowed_hosts.iter().any(|name| name.is(host))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{HostName, WebOrigin};

    fn config() -> Config {
        Config {
            public_url: WebOrigin::parse("https://events.example"),
            allowed_hosts: vec![HostName::parse("collector").unwrap()],
            cors_origins: vec![WebOrigin::parse("https://console.example").unwrap()],
            ..Config::defaults()
        }
    }

    fn caller<'a>(host: &'a str, origin: Option<&'a str>) -> Caller<'a> {
        Caller::new(Some(host.as_bytes()), origin.map(str::as_bytes).into_iter())
    }

    #[test]
    fn b1_a_foreign_page_posts_events_and_does_nothing_else() {
        let config = config();
        let asked = |origin: &'static str, pages, method| {
            caller("127.0.0.1:8000", Some(origin)).check(&config, pages, method, || true)
        };
        let foreign = [
            "https://evil.example",
            "null",
            "",
            "http://127.0.0.1:9000",
            "https://127.0.0.1",
            "https://events.example.evil",
            "http://events.example",
        ];
        for origin in foreign {
            for method in [Method::Get, Method::Head, Method::Post, Method::Delete, Method::Other] {
                for pages in [Pages::Own, Pages::OwnByAnyName] {
                    assert_eq!(asked(origin, pages, method), Err(NotCalled::ByThisPage), "{origin}");
                }
            }
            assert_eq!(asked(origin, Pages::Every, Method::Post), Ok(()), "{origin}");
            assert_eq!(asked(origin, Pages::Own, Method::Options), Ok(()), "{origin}");
        }
        let own = ["http://127.0.0.1:8000", "https://events.example", "https://console.example"];
        for origin in own {
            assert_eq!(asked(origin, Pages::Own, Method::Delete), Ok(()), "{origin}");
        }
        let twice = Caller::new(Some(b"a"), [&b"https://console.example"[..]; 2].into_iter());
        assert_eq!(twice.check(&config, Pages::Own, Method::Get, || false), Err(NotCalled::ByThisPage));
        assert_eq!(caller("localhost", None).check(&config, Pages::Own, Method::Delete, || true), Ok(()));
    }

    #[test]
    fn b1_while_there_are_no_keys_a_name_that_others_could_give_is_not_answered_to() {
        let config = config();
        let asked = |host, pages, is_open| caller(host, None).check(&config, pages, Method::Get, || is_open);
        for host in ["evil.example", "127.0.0.1.evil.example:8000", "", "events.example:8000"] {
            assert_eq!(asked(host, Pages::Own, true), Err(NotCalled::ByThisName), "{host}");
            assert_eq!(asked(host, Pages::Own, false), Ok(()), "{host}");
            assert_eq!(asked(host, Pages::OwnByAnyName, true), Ok(()), "{host}");
            assert_eq!(asked(host, Pages::Every, true), Ok(()), "{host}");
        }
        for host in
            ["10.0.0.7:8000", "localhost:8000", "events.example", "events.example:443", "collector:8000"]
        {
            assert_eq!(asked(host, Pages::Own, true), Ok(()), "{host}");
        }
        // An attacker's name server points this name at this server. Pages under the name have the same origin as the
        // `Host`, but are refused.
        let rebound = caller("evil.example", Some("http://evil.example"));
        assert_eq!(rebound.check(&config, Pages::Own, Method::Get, || true), Err(NotCalled::ByThisName));
        assert_eq!(rebound.check(&config, Pages::Own, Method::Options, || true), Err(NotCalled::ByThisName));
        let old = Caller { host: None, origin: None };
        assert_eq!(old.check(&config, Pages::Own, Method::Get, || true), Ok(()));
    }

    #[test]
    fn an_answer_names_the_pages_that_may_read_it() {
        let (config, plain) = (config(), Config::defaults());
        let cors = |origin, pages, method| caller("localhost", origin).cors(&config, pages, method);
        let (listed, foreign) = (Some("https://console.example"), Some("https://evil.example"));
        let of_listed = Cors::Listed(b"https://console.example");
        assert_eq!(cors(listed, Pages::Own, Method::Get), of_listed);
        assert_eq!(cors(listed, Pages::Every, Method::Options), of_listed);
        assert_eq!(cors(listed, Pages::Every, Method::Post), Cors::Every { has_origin: true });
        for origin in [foreign, None] {
            assert_eq!(cors(origin, Pages::Own, Method::Get), Cors::Unlisted);
            assert_eq!(
                cors(origin, Pages::Every, Method::Post),
                Cors::Every { has_origin: origin.is_some() }
            );
            assert_eq!(
                cors(origin, Pages::Every, Method::Options),
                Cors::Every { has_origin: origin.is_some() }
            );
            assert_eq!(caller("localhost", origin).cors(&plain, Pages::Own, Method::Get), Cors::None);
        }
    }
}
