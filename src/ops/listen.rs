//! The operators' listener: may_minihttp on one thread named `ops`, which responds even when the cores do not.
//!
//! In: GET and HEAD on a private address. Out: the pages of the given closure, and
//! `/debug/flamegraph?seconds=5&hz=99&format=svg`. Owns: the threads `ops` (an event loop and an idle timer). Never: uses
//! anything that belongs to the cores, or waits within a coroutine, which would stop all other coroutines.
//!
//! The limits of may_minihttp 0.1.11, and their consequences:
//! - It accepts 16 header fields and closes the connection without a response if there are more. It does the same for
//!   a malformed head, and writes its own line to stderr.
//! - It buffers a head of any length, and keeps silent connections indefinitely. There are therefore at most 256
//!   connections, each closed after 120 seconds without a complete request. The port is still unsafe for strangers:
//!   keep it on loopback or behind a network policy.
//! - It panics on `Content-Length: abc` when the body is read, and parses an unread body as the next request. Bodies
//!   are therefore never read, and a request with one is the last of its connection.
//! - It writes its own Content-Length, so the response to a HEAD has the length of its own empty body.
//! - Header lines and reasons are `&'static str`, so [`Media`] is a closed list.
//! - It shares the port (SO_REUSEPORT) with any program that does the same. A plain bind beforehand detects a port in
//!   use.
//! - When descriptors run out, its accept loop spins, and no connection gets a response until descriptors are free
//!   again. In a test, connections that were already open waited too. Clients therefore never get the last
//!   descriptors (see `cores::preflight::connection_room`).
#![allow(
    unsafe_code,
    reason = "shutdown(2) by descriptor: the only way to end a connection that the crate owns"
)]

use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::RawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use may_minihttp::{HttpService, HttpServiceFactory, Request, Response};

use super::answer::{Media, OpsAnswer, OpsProblem, reason};
use super::profile::{self, PROFILE_HZ, ProfileError, ProfileFormat};
use super::slots::{Slots, WORKING, shut};
use crate::base::clock;
use crate::http::{UNPACKED_MAX, preferred_coding};
use crate::query::pair_errors;

/// The size of a coroutine's stack in words: 128 KiB. A page is rendered on it.
const STACK_WORDS: usize = 0x4000;
/// The number of coroutines created in advance. Each occupies the touched pages of its stack. The default is 1,000
/// coroutines, which take 8 MB.
const COROUTINES_KEPT: usize = 8;

/// The request, reduced to what decides whether it is answered.
#[derive(Clone, Copy, Debug)]
pub struct OpsAsked<'a> {
    /// The path with its query.
    pub target: &'a str,
    pub accept: Option<&'a str>,
    pub host: Option<&'a [u8]>,
    pub origin: Option<&'a [u8]>,
}

impl OpsAsked<'_> {
    #[must_use]
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }
}

/// Serves `pages` on `address` for the rest of the process and returns the bound address (a port of 0 becomes a real
/// one). `guard` refuses requests. Neither may wait, and their stack use must fit into 128 KiB. Call it before threads
/// are pinned, because the `ops` threads inherit the caller's CPUs. Call it once per process, because there is one
/// runtime for all.
///
/// # Errors
/// Returns an error if the address is in use or does not belong to this machine.
pub fn start<G, P>(address: SocketAddr, guard: G, pages: P) -> io::Result<SocketAddr>
where
    G: Fn(&OpsAsked<'_>) -> Result<(), OpsAnswer> + Send + Sync + Clone + 'static,
    P: Fn(&OpsAsked<'_>) -> OpsAnswer + Send + Sync + Clone + 'static,
{
    // This bind does not use SO_REUSEPORT, so that a port in use is an error.
    let bound = TcpListener::bind(address)?.local_addr()?;
    // The runtime does not name its threads. They inherit the name of the thread that starts them.
    let starter = std::thread::Builder::new().name("ops".to_owned()).spawn(move || {
        let config = may::config();
        config.set_workers(1).set_stack_size(STACK_WORDS).set_pool_capacity(COROUTINES_KEPT);
        config.set_worker_pin(false);
        let slots = Arc::new(Slots::new());
        Factory { guard, pages, slots: Arc::clone(&slots) }.start(bound)?;
        let watch = may::coroutine::Builder::new().name("watch".to_owned());
        may::go!(watch, move || loop {
            may::coroutine::sleep(Duration::from_secs(1));
            slots.cut_silent(now_s());
        })?;
        Ok(bound)
    })?;
    starter.join().unwrap_or_else(|_| Err(io::Error::other("the ops thread could not start its runtime")))
}

fn now_s() -> u64 {
    clock::monotonic_us() / 1_000_000
}

struct Factory<G, P> {
    guard: G,
    pages: P,
    slots: Arc<Slots>,
}

impl<G, P> HttpServiceFactory for Factory<G, P>
where
    G: Fn(&OpsAsked<'_>) -> Result<(), OpsAnswer> + Send + Sync + Clone + 'static,
    P: Fn(&OpsAsked<'_>) -> OpsAnswer + Send + Sync + Clone + 'static,
{
    type Service = Connection<G, P>;

    // The crate passes the descriptor of the socket.
    fn new_service(&self, id: usize) -> Connection<G, P> {
        let fd = id as RawFd;
        let slot = self.slots.enter(fd, now_s());
        if slot.is_none() {
            shut(fd, libc::SHUT_RDWR);
        }
        let (guard, pages) = (self.guard.clone(), self.pages.clone());
        Connection { guard, pages, slots: Arc::clone(&self.slots), fd, slot, over: false }
    }
}

struct Connection<G, P> {
    guard: G,
    pages: P,
    slots: Arc<Slots>,
    fd: RawFd,
    slot: Option<usize>,
    /// Set once no further request follows on this connection.
    over: bool,
}

impl<G, P> Drop for Connection<G, P> {
    fn drop(&mut self) {
        if let Some(slot) = self.slot {
            self.slots.leave(slot);
        }
    }
}

impl<G, P> HttpService for Connection<G, P>
where
    G: Fn(&OpsAsked<'_>) -> Result<(), OpsAnswer>,
    P: Fn(&OpsAsked<'_>) -> OpsAnswer,
{
    fn call(&mut self, request: Request, response: &mut Response) -> io::Result<()> {
        self.mark(WORKING);
        let answer = self.answer(&request);
        self.mark(now_s());
        response.status_code(usize::from(answer.status), reason(answer.status));
        response.header(answer.media.header()).header("Cache-Control: no-store");
        if let Some(disposition) = answer.media.disposition() {
            response.header(disposition);
        }
        match answer.status {
            405 => _ = response.header("Allow: GET, HEAD"),
            503 => _ = response.header("Retry-After: 5"),
            _ => {}
        }
        if self.over {
            response.header("Connection: close");
            // Bytes that are already written are still sent. The next read returns the end of the stream.
            shut(self.fd, libc::SHUT_RD);
        }
        let mut body = answer.body;
        if answer.media.is_packable() && body.len() > UNPACKED_MAX {
            response.header("Vary: Accept-Encoding");
            if takes_gzip(&request) {
                response.header("Content-Encoding: gzip");
                body = gzip(&body)?;
            }
        }
        if request.method() != "HEAD" {
            response.body_vec(body);
        }
        Ok(())
    }
}

impl<G, P> Connection<G, P>
where
    G: Fn(&OpsAsked<'_>) -> Result<(), OpsAnswer>,
    P: Fn(&OpsAsked<'_>) -> OpsAnswer,
{
    fn mark(&self, heard_s: u64) {
        if let Some(slot) = self.slot {
            self.slots.mark(slot, self.fd, heard_s);
        }
    }

    fn answer(&mut self, request: &Request) -> OpsAnswer {
        if self.over {
            return OpsAnswer::problem(
                OpsProblem::BAD_PARAMETER,
                "the previous request was the last one of this connection",
            );
        }
        self.over = has_body(request);
        if !matches!(request.method(), "GET" | "HEAD") {
            return OpsAnswer::problem(
                OpsProblem::METHOD_NOT_ALLOWED,
                "this listener only answers GET and HEAD",
            );
        }
        let asked = OpsAsked {
            target: request.path(),
            accept: header(request, "accept").and_then(|value| std::str::from_utf8(value).ok()),
            host: header(request, "host"),
            origin: header(request, "origin"),
        };
        if let Err(refused) = (self.guard)(&asked) {
            return refused;
        }
        if asked.path() == "/debug/flamegraph" {
            return flamegraph(asked.target);
        }
        catch_unwind(AssertUnwindSafe(|| (self.pages)(&asked))).unwrap_or_else(|_| {
            OpsAnswer::problem(
                OpsProblem::INTERNAL,
                "this page could not be generated; the log has the \
                                                      reason",
            )
        })
    }
}

fn header<'a>(request: &'a Request, name: &str) -> Option<&'a [u8]> {
    request.headers().iter().find(|header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value)
}

/// Returns `true` if the client accepts the only coding of this port. Every scraper that accepts one accepts gzip.
fn takes_gzip(request: &Request) -> bool {
    let values: Vec<&str> = request
        .headers()
        .iter()
        .filter(|header| header.name.eq_ignore_ascii_case("accept-encoding"))
        .filter_map(|header| std::str::from_utf8(header.value).ok())
        .collect();
    preferred_coding(&values, &["gzip"]).is_some()
}

fn gzip(body: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
    encoder.write_all(body)?;
    encoder.finish()
}

fn has_body(request: &Request) -> bool {
    header(request, "transfer-encoding").is_some()
        || header(request, "content-length").is_some_and(|value| value != b"0")
}

/// Takes the profile on a separate thread while only this coroutine waits.
fn flamegraph(target: &str) -> OpsAnswer {
    let Wanted { seconds, hz, format } = match Wanted::parse(target) {
        Ok(wanted) => wanted,
        Err(detail) => return OpsAnswer::problem(OpsProblem::BAD_PARAMETER, &detail),
    };
    let (done, result) = may::sync::mpsc::channel();
    let worker = std::thread::Builder::new().name("profile".to_owned());
    if let Err(error) = worker.spawn(move || _ = done.send(profile::profile(seconds, hz, format))) {
        return OpsAnswer::problem(OpsProblem::OVERLOADED, &format!("no thread to profile with: {error}"));
    }
    match result.recv() {
        Ok(Ok(body)) => OpsAnswer { status: 200, media: format.into(), body },
        Ok(Err(error)) => {
            let problem = match error {
                ProfileError::Range => OpsProblem::BAD_PARAMETER,
                ProfileError::Busy => OpsProblem::OVERLOADED,
                ProfileError::Sampler(_) | ProfileError::Writing(_) => OpsProblem::INTERNAL,
            };
            OpsAnswer::problem(problem, &error.to_string())
        }
        Err(_) => OpsAnswer::problem(
            OpsProblem::INTERNAL,
            "the profiling thread ended; the log has the \
                                                            reason",
        ),
    }
}

/// The parameters of a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wanted {
    seconds: u64,
    hz: u32,
    format: ProfileFormat,
}

impl Wanted {
    /// Returns what is wrong with the query, if anything.
    fn parse(target: &str) -> Result<Wanted, String> {
        let mut wanted = Wanted { seconds: 5, hz: PROFILE_HZ, format: ProfileFormat::Svg };
        let query = target.split_once('?').map_or("", |(_, query)| query);
        if let Some(error) = pair_errors(query, &["seconds", "hz", "format"]).into_iter().next() {
            return Err(error.detail);
        }
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match name {
                "seconds" => wanted.seconds = value.parse().map_err(|_| "seconds is not a number")?,
                "hz" => wanted.hz = value.parse().map_err(|_| "hz is not a number")?,
                "format" => {
                    wanted.format = ProfileFormat::from_name(value)
                        .ok_or_else(|| format!("format must be {}", ProfileFormat::NAMES))?;
                }
                _ => return Err("the parameters are seconds, hz and format".to_owned()),
            }
        }
        Ok(wanted)
    }
}

impl From<ProfileFormat> for Media {
    fn from(format: ProfileFormat) -> Media {
        match format {
            ProfileFormat::Svg => Media::Svg,
            ProfileFormat::Collapsed => Media::Collapsed,
            ProfileFormat::Pprof => Media::Pprof,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MISDIRECTED: OpsProblem =
        OpsProblem { status: 421, slug: "misdirected-request", title: "Not here" };
    const NOT_FOUND: OpsProblem = OpsProblem { status: 404, slug: "not-found", title: "Not found" };
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, TcpStream};
    use std::sync::LazyLock;

    /// Returns the one listener that all tests share, because a process has one.
    fn listener() -> SocketAddr {
        static ADDRESS: LazyLock<SocketAddr> = LazyLock::new(|| {
            let guard = |asked: &OpsAsked<'_>| match asked.host {
                Some(b"evil") => Err(OpsAnswer::problem(MISDIRECTED, "no such name")),
                _ => Ok(()),
            };
            start((Ipv4Addr::LOCALHOST, 0).into(), guard, |asked: &OpsAsked<'_>| match asked.target {
                "/health" => OpsAnswer { status: 200, media: Media::Json, body: b"{}".to_vec() },
                "/panic" => panic!("asked to"),
                "/large" => OpsAnswer { status: 200, media: Media::Text, body: vec![b'x'; 8 << 20] },
                "/metrics" => {
                    let format = super::super::prometheus::negotiate(asked.accept.as_slice());
                    OpsAnswer { status: 200, media: format.into(), body: b"# EOF\n".to_vec() }
                }
                _ => OpsAnswer::problem(NOT_FOUND, "no such page"),
            })
            .unwrap()
        });
        *ADDRESS
    }

    fn connect() -> TcpStream {
        let stream = TcpStream::connect(listener()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream
    }

    /// Reads one response: its head, and its body by Content-Length.
    fn read_answer(stream: &mut TcpStream) -> (String, Vec<u8>) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap();
        let mut body = vec![0; length.parse().unwrap()];
        stream.read_exact(&mut body).unwrap();
        (head, body)
    }

    fn ask(request: &str) -> (String, Vec<u8>) {
        let mut stream = connect();
        stream.write_all(request.as_bytes()).unwrap();
        read_answer(&mut stream)
    }

    /// Returns `true` if the other side has closed, after any remaining bytes.
    fn is_closed(stream: &mut TcpStream) -> bool {
        let mut rest = Vec::new();
        match stream.read_to_end(&mut rest) {
            Ok(_) => true,
            Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
        }
    }

    #[test]
    fn the_listener_answers_and_keeps_the_connection() {
        let mut stream = connect();
        for _ in 0..3 {
            stream.write_all(b"GET /health HTTP/1.1\r\nHost: ops\r\n\r\n").unwrap();
            let (head, body) = read_answer(&mut stream);
            assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
            assert!(head.contains("\r\nContent-Type: application/json\r\n"), "{head}");
            assert_eq!(body, b"{}");
        }
        // The requests are pipelined, and the first response is larger than the socket accepts at once.
        stream.write_all(b"GET /large HTTP/1.1\r\n\r\nGET /nowhere HTTP/1.1\r\n\r\n").unwrap();
        assert_eq!(read_answer(&mut stream).1.len(), 8 << 20);
        let (head, body) = read_answer(&mut stream);
        assert!(head.starts_with("HTTP/1.1 404 Not Found\r\n"), "{head}");
        let problem: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(problem["detail"], "no such page");
    }

    #[test]
    fn the_accept_header_reaches_the_page() {
        let (head, _) = ask("GET /metrics HTTP/1.1\r\nAccept: application/openmetrics-text\r\n\r\n");
        assert!(head.contains("\r\nContent-Type: application/openmetrics-text; version=1.0.0"), "{head}");
        let (head, _) = ask("GET /metrics HTTP/1.1\r\n\r\n");
        assert!(head.contains("\r\nContent-Type: text/plain; version=0.0.4"), "{head}");
        use crate::ops::prometheus::Format;
        assert_eq!(Media::OpenMetrics.content_type(), Format::OpenMetrics.content_type());
        assert_eq!(Media::Prometheus.content_type(), Format::Text.content_type());
    }

    #[test]
    fn head_has_no_body_and_other_methods_are_refused() {
        let mut stream = connect();
        stream.write_all(b"HEAD /health HTTP/1.1\r\n\r\nGET /health HTTP/1.1\r\n\r\n").unwrap();
        assert!(read_answer(&mut stream).1.is_empty());
        assert_eq!(read_answer(&mut stream).1, b"{}");
        stream.write_all(b"DELETE /health HTTP/1.1\r\n\r\n").unwrap();
        let (head, _) = read_answer(&mut stream);
        assert!(head.starts_with("HTTP/1.1 405 ") && head.contains("\r\nAllow: GET, HEAD\r\n"), "{head}");
        stream.write_all(b"GET /health HTTP/1.1\r\n\r\n").unwrap();
        assert_eq!(read_answer(&mut stream).1, b"{}");
    }

    #[test]
    fn whom_the_guard_refuses_gets_no_page_and_no_profile() {
        for target in ["/health", "/debug/flamegraph?seconds=60"] {
            let (head, _) = ask(&format!("GET {target} HTTP/1.1\r\nHost: evil\r\n\r\n"));
            assert!(head.starts_with("HTTP/1.1 421 Misdirected Request\r\n"), "{head}");
        }
    }

    #[test]
    fn a_body_is_never_taken_for_a_request_to_trust() {
        for length in ["45", "abc", "-1", "99999999999999999999"] {
            let mut stream = connect();
            let request = format!(
                "POST /health HTTP/1.1\r\nContent-Length: {length}\r\n\r\nGET /health HTTP/1.1\r\nHost: smuggled\r\n\r\n"
            );
            stream.write_all(request.as_bytes()).unwrap();
            let (head, _) = read_answer(&mut stream);
            assert!(head.starts_with("HTTP/1.1 405 ") && head.contains("Connection: close"), "{head}");
            let (head, _) = read_answer(&mut stream);
            assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
            assert!(is_closed(&mut stream), "{length}");
        }
    }

    #[test]
    fn a_page_that_panics_and_a_malformed_head_end_nothing_else() {
        let (head, _) = ask("GET /panic HTTP/1.1\r\n\r\n");
        assert!(head.starts_with("HTTP/1.1 500 "), "{head}");
        let many: String = (0..17).map(|index| format!("X-{index}: 1\r\n")).collect();
        for request in
            [format!("GET / HTTP/1.1\r\n{many}\r\n"), "nonsense\r\n\r\n".to_owned(), "\0\0".to_owned()]
        {
            let mut stream = connect();
            stream.write_all(request.as_bytes()).unwrap();
            assert!(is_closed(&mut stream), "{request:?}");
        }
        assert_eq!(ask("GET /health HTTP/1.1\r\n\r\n").1, b"{}");
    }

    #[test]
    fn a_taken_port_is_an_error() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let pages = |_: &OpsAsked<'_>| OpsAnswer::problem(NOT_FOUND, "");
        let error = start(taken.local_addr().unwrap(), |_| Ok(()), pages).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert_eq!(start(listener(), |_| Ok(()), pages).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn a_flame_graph_names_the_busy_thread_while_other_pages_are_served() {
        let (say_end, end) = async_channel::bounded::<()>(1);
        let busy = std::thread::Builder::new().name("busy-bee".to_owned());
        let busy = busy.spawn(move || {
            while end.try_recv() == Err(async_channel::TryRecvError::Empty) {
                std::hint::black_box(clock::monotonic_us());
            }
        });
        let mut first = connect();
        // One of two concurrent requests is served and the other is refused. Repeat until ours is served.
        let (head, svg) = loop {
            first.write_all(b"GET /debug/flamegraph?seconds=2&hz=199 HTTP/1.1\r\n\r\n").unwrap();
            let (other, _) = ask("GET /debug/flamegraph?seconds=1 HTTP/1.1\r\n\r\n");
            assert_eq!(ask("GET /health HTTP/1.1\r\n\r\n").1, b"{}");
            let (head, svg) = read_answer(&mut first);
            if head.starts_with("HTTP/1.1 200 ") && other.starts_with("HTTP/1.1 503 ") {
                assert!(other.contains("\r\nRetry-After: "), "{other}");
                break (head, svg);
            }
            let is_refused = |head: &str| head.starts_with("HTTP/1.1 503 ");
            assert!(is_refused(&head) || is_refused(&other), "{head}{other}");
        };
        say_end.send_blocking(()).unwrap();
        busy.unwrap().join().unwrap();
        let svg = String::from_utf8(svg).unwrap();
        assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("image/svg+xml"), "{head}\n{svg}");
        assert!(svg.contains("<svg") && svg.contains("busy-bee"), "{svg}");
        assert!(svg.contains("truncate_text_right = true"), "the start of a name remains");
    }

    #[test]
    fn a_refused_parameter_of_a_profile_is_named() {
        for (query, reason) in [
            ("seconds=0", "seconds must be 1 to 60 and hz 1 to 1000"),
            ("seconds=61", "seconds must be 1 to 60 and hz 1 to 1000"),
            ("hz=0&seconds=1", "seconds must be 1 to 60 and hz 1 to 1000"),
            ("seconds=x", "seconds is not a number"),
            ("hz=-1", "hz is not a number"),
            ("format=png", "format must be svg, collapsed or pprof"),
            ("format", "format has no value: leave the parameter out, or give it one"),
            ("minutes=1", "unknown parameter minutes; the known parameters are seconds, hz, format"),
        ] {
            let (head, body) = ask(&format!("GET /debug/flamegraph?{query} HTTP/1.1\r\n\r\n"));
            assert!(head.starts_with("HTTP/1.1 400 "), "{query}: {head}");
            let problem: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(problem["detail"], reason, "{query}");
        }
    }
}
