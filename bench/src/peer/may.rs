//! may_minihttp with the same 202: a second thread-per-core runtime, with coroutines.
//!
//! It reads the whole body, because it would parse unread bytes as the next request. It writes its own `Server` and
//! `Date` headers in addition to ours.

use std::io::{self, BufRead};
use std::net::SocketAddr;

use anyhow::{Result, bail};
use may_minihttp::{HttpServer, HttpService, Request, Response};

use super::{ANSWER_BODY, ANSWER_HEADERS};

#[derive(Clone)]
struct Accept;

impl HttpService for Accept {
    fn call(&mut self, request: Request, response: &mut Response) -> io::Result<()> {
        let mut body = request.body();
        loop {
            let length = body.fill_buf()?.len();
            if length == 0 {
                break;
            }
            body.consume(length);
        }
        response.status_code(202, "Accepted");
        for header in ANSWER_HEADERS {
            response.header(header);
        }
        response.body(ANSWER_BODY);
        Ok(())
    }
}

/// Serves until it is killed, with one worker thread.
pub(crate) fn serve(addr: SocketAddr) -> Result<()> {
    may::config().set_workers(1).set_stack_size(0x4000).set_worker_pin(false);
    let server = HttpServer(Accept).start(addr)?;
    match server.join() {
        Ok(()) => bail!("the listener ended"),
        Err(_) => bail!("the listener panicked"),
    }
}
