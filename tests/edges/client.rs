//! A connection that sends exactly the given bytes and reads responses strictly.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// Far above what a healthy server needs. Only a hang reaches it.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Client {
    pub socket: TcpStream,
    unread: Vec<u8>,
}

/// One response.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    /// Names in lower case, in the order received.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Number of `100 Continue` heads before the response.
    pub continues: usize,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }

    /// Returns the last part of the `type` of a problem document. Checks all other members of the document.
    pub fn slug(&self) -> String {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let document = self.json();
        assert_eq!(document["status"], self.status, "{document}");
        assert_eq!(document["instance"].as_str(), self.header("x-request-id"), "{document}");
        assert!(document["title"].is_string() && document["detail"].is_string(), "{document}");
        document["type"].as_str().unwrap().strip_prefix("/docs/problems/").unwrap().to_owned()
    }

    pub fn says_close(&self) -> bool {
        self.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }

    /// Returns the status, the headers and the body without the values that differ each time, to compare two lanes.
    pub fn essence(&self) -> (u16, Vec<(String, String)>, String) {
        let mut headers: Vec<_> = self.headers.clone();
        headers.retain(|(name, value)| {
            let changing =
                ["date", "x-request-id", "firehose-receipt", "content-length"].contains(&name.as_str());
            !changing && (name != "connection" || value == "close")
        });
        headers.sort();
        let body = match serde_json::from_slice::<Value>(&self.body) {
            Ok(mut document) if self.status >= 400 => {
                document["instance"] = Value::Null;
                document.to_string()
            }
            _ => String::new(),
        };
        (self.status, headers, body)
    }
}

impl Client {
    pub fn new(socket: TcpStream) -> Client {
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        Client { socket, unread: Vec::new() }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).unwrap();
    }

    /// Sends bytes to a server that may close the connection meanwhile.
    pub fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.socket.write_all(bytes)
    }

    pub fn ask(&mut self, bytes: &[u8]) -> Reply {
        self.send(bytes);
        self.reply()
    }

    /// Sends a request to a server that may refuse the connection, and reads the response.
    pub fn try_reply_to(&mut self, bytes: &[u8]) -> io::Result<Reply> {
        self.try_send(bytes).and_then(|()| self.try_reply(false))
    }

    /// Closes the client's direction of the connection.
    pub fn finish(&mut self) {
        self.socket.shutdown(Shutdown::Write).unwrap();
    }

    /// Reads the next response to a request other than HEAD.
    pub fn reply(&mut self) -> Reply {
        self.try_reply(false).unwrap_or_else(|error| panic!("no answer: {error}"))
    }

    /// Reads the next response to a HEAD request.
    pub fn reply_to_head(&mut self) -> Reply {
        self.try_reply(true).unwrap_or_else(|error| panic!("no answer: {error}"))
    }

    pub fn try_reply(&mut self, to_head: bool) -> io::Result<Reply> {
        let mut continues = 0;
        loop {
            let (status, headers) = self.head()?;
            if status == 100 {
                assert!(headers.is_empty());
                continues += 1;
                continue;
            }
            let mut reply = Reply { status, headers, body: Vec::new(), continues };
            let lengths = reply.headers.iter().filter(|(name, _)| name == "content-length").count();
            assert!(lengths <= 1 && reply.header("transfer-encoding").is_none(), "{reply:?}");
            let length = reply.header("content-length").map(|value| value.parse().unwrap());
            assert_eq!(length.is_none(), status == 204, "{reply:?}");
            if !to_head {
                reply.body = self.take(length.unwrap_or(0))?;
            }
            check_always(&reply);
            return Ok(reply);
        }
    }

    /// Expects `100 Continue` and nothing else.
    pub fn expect_invitation(&mut self) {
        let (status, headers) = self.head().unwrap();
        assert_eq!((status, headers.len()), (100, 0));
        assert!(self.unread.is_empty());
    }

    fn head(&mut self) -> io::Result<(u16, Vec<(String, String)>)> {
        let end = loop {
            if let Some(at) = self.unread.windows(4).position(|four| four == b"\r\n\r\n") {
                break at;
            }
            self.receive()?;
        };
        let head: Vec<u8> = self.unread.drain(..end + 4).collect();
        let head = String::from_utf8(head).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let first = lines.next().unwrap();
        assert!(first.starts_with("HTTP/1.1 ") || first.starts_with("HTTP/1.0 "), "{first}");
        let headers = lines.map(|line| {
            let (name, value) = line.split_once(": ").unwrap_or_else(|| panic!("{line:?}"));
            (name.to_ascii_lowercase(), value.to_owned())
        });
        Ok((first[9..12].parse().unwrap(), headers.collect()))
    }

    fn take(&mut self, count: usize) -> io::Result<Vec<u8>> {
        while self.unread.len() < count {
            self.receive()?;
        }
        Ok(self.unread.drain(..count).collect())
    }

    fn receive(&mut self) -> io::Result<()> {
        let mut piece = [0; 16 * 1024];
        match self.socket.read(&mut piece)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            count => {
                self.unread.extend_from_slice(&piece[..count]);
                Ok(())
            }
        }
    }

    /// Expects that nothing more arrives and that the connection ends, cleanly or not.
    pub fn expect_end(&mut self) {
        match self.receive() {
            Ok(()) => panic!("more was said: {}", String::from_utf8_lossy(&self.unread)),
            Err(error) => assert!(is_end(&error), "{error}"),
        }
        assert!(self.unread.is_empty(), "{}", String::from_utf8_lossy(&self.unread));
    }

    /// Returns `true` if bytes have arrived or the connection has ended. Does not wait.
    pub fn has_input(&mut self) -> bool {
        let mut one = [0];
        self.socket.set_nonblocking(true).unwrap();
        let outcome = self.socket.peek(&mut one);
        self.socket.set_nonblocking(false).unwrap();
        !self.unread.is_empty() || !matches!(outcome, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Expects that nothing has arrived yet. Does not wait.
    pub fn expect_silence(&mut self) {
        self.socket.set_nonblocking(true).unwrap();
        let outcome = self.receive();
        self.socket.set_nonblocking(false).unwrap();
        assert!(
            matches!(&outcome, Err(error) if error.kind() == io::ErrorKind::WouldBlock),
            "{outcome:?} {:?}",
            self.unread
        );
    }
}

pub fn is_end(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionAborted
    )
}

/// Checks the headers that every response has.
fn check_always(reply: &Reply) {
    let once = |name: &str| {
        let mut values = reply.headers.iter().filter(|(known, _)| known == name);
        let value = values.next().unwrap_or_else(|| panic!("no {name}: {reply:?}"));
        assert!(values.next().is_none(), "{name} twice: {reply:?}");
        value.1.as_str()
    };
    let date = once("date");
    assert!(date.len() == 29 && date.ends_with(" GMT") && date.as_bytes()[3] == b',', "{date}");
    let id = once("x-request-id");
    assert!((1..=200).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic()), "{id:?}");
    // A page of another origin can read the responses to posted events, and all responses if its origin is listed.
    let allowed = reply.header("access-control-allow-origin");
    assert!(allowed.is_none_or(|origin| ["*", "https://a.example"].contains(&origin)), "{reply:?}");
    assert!(reply.header("access-control-allow-credentials").is_none());
}
