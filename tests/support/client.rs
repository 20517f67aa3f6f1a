//! A blocking HTTP/1.1 client: one connection that is kept alive, with pipelining if wanted.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

use super::PATIENCE;

pub struct Client {
    stream: BufReader<TcpStream>,
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        let text = String::from_utf8_lossy(&self.body);
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {text:?}"))
    }
}

/// Returns the body of event `number`. The number is in `user_id` and in the metadata.
pub fn event(number: u64) -> String {
    event_with(number, 0)
}

/// Returns the same body, larger by `padding` bytes.
pub fn event_with(number: u64, padding: usize) -> String {
    let padding = "x".repeat(padding);
    format!(
        r#"{{"user_id":{number},"timestamp":"2024-01-14T10:30:00Z","metadata":{{"n":{number},"padding":"{padding}"}}}}"#
    )
}

impl Client {
    pub fn connect(address: SocketAddr) -> io::Result<Client> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Client { stream: BufReader::new(stream) })
    }

    /// Wraps an existing connection.
    pub fn of(stream: TcpStream) -> Client {
        stream.set_read_timeout(Some(PATIENCE)).expect("a time limit");
        Client { stream: BufReader::new(stream) }
    }

    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// Closes the sending direction of the connection.
    pub fn end(&mut self) -> io::Result<()> {
        self.stream.get_mut().shutdown(Shutdown::Write)
    }

    /// Resets the connection.
    pub fn reset(self) {
        let stream = self.stream.into_inner();
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("the option is known");
    }

    /// Returns one request with a body. Does not send it.
    pub fn request(method: &str, target: &str, body: &str) -> String {
        format!("{method} {target} HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    }

    pub fn ask(&mut self, method: &str, target: &str, body: &str) -> io::Result<Answer> {
        self.write(Client::request(method, target, body).as_bytes())?;
        self.answer()
    }

    pub fn get(&mut self, target: &str) -> io::Result<Answer> {
        self.get_as(target, "*/*")
    }

    /// Sends a GET with an `Accept` header and reads the response.
    pub fn get_as(&mut self, target: &str, accept: &str) -> io::Result<Answer> {
        let request = format!("GET {target} HTTP/1.1\r\nHost: test\r\nAccept: {accept}\r\n\r\n");
        self.write(request.as_bytes())?;
        self.answer()
    }

    /// Sends a POST with a content type and reads the response.
    pub fn post_as(&mut self, target: &str, content_type: &str, body: &str) -> io::Result<Answer> {
        let length = body.len();
        let head = format!(
            "POST {target} HTTP/1.1\r\nHost: test\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n"
        );
        self.write(head.as_bytes())?;
        self.write(body.as_bytes())?;
        self.answer()
    }

    pub fn post(&mut self, number: u64) -> io::Result<Answer> {
        self.ask("POST", "/event", &event(number))
    }

    /// Reads the next response. Fails with `UnexpectedEof` if the server has closed the connection.
    pub fn answer(&mut self) -> io::Result<Answer> {
        let answer = self.answer_head()?;
        self.answer_body(answer)
    }

    /// Reads the response to a HEAD request, which has no body whatever its head declares.
    pub fn answer_head(&mut self) -> io::Result<Answer> {
        let bad = || io::Error::from(io::ErrorKind::InvalidData);
        let first = self.line()?;
        let status = first.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(bad)?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').ok_or_else(bad)?;
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
        Ok(Answer { status, headers, body: Vec::new() })
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        match self.stream.read_line(&mut line)? {
            0 => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
            _ => Ok(line.trim_end().to_owned()),
        }
    }

    /// Reads the next chunk of a response whose head was read. The chunk is empty at the end.
    pub fn chunk(&mut self) -> io::Result<Vec<u8>> {
        let bad = || io::Error::from(io::ErrorKind::InvalidData);
        let size = usize::from_str_radix(&self.line()?, 16).map_err(|_| bad())?;
        let mut chunk = vec![0; size];
        self.stream.read_exact(&mut chunk)?;
        self.line()?;
        Ok(chunk)
    }

    fn answer_body(&mut self, mut answer: Answer) -> io::Result<Answer> {
        let bad = || io::Error::from(io::ErrorKind::InvalidData);
        if answer.header("transfer-encoding") == Some("chunked") {
            loop {
                let size = usize::from_str_radix(&self.line()?, 16).map_err(|_| bad())?;
                let start = answer.body.len();
                answer.body.resize(start + size, 0);
                self.stream.read_exact(&mut answer.body[start..])?;
                self.line()?;
                if size == 0 {
                    return Ok(answer);
                }
            }
        }
        let length = answer.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        answer.body.resize(length, 0);
        self.stream.read_exact(&mut answer.body)?;
        Ok(answer)
    }
}
