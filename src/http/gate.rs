//! Applies the checks of the hot lane in front of another HTTP implementation. Bytes pass only after the head that
//! they belong to has been checked, and a refused request is replaced by one that asks for the refusal.

use super::{Chunked, Framing, Refusal, head};

/// The path of the request that replaces a refused one. The service answers it with [`Gate::refused`], and nothing
/// follows it.
pub const REFUSED_PATH: &str = "/.refused";

/// Follows the bytes of one connection through heads and bodies. It counts the bytes that may pass from the front of
/// the unconsumed bytes, as [`super::Connection`] does. It copies nothing.
#[derive(Debug, Default)]
pub struct Gate {
    state: State,
    refused: Option<Refusal>,
    /// Time that the current body may take beyond its limit.
    allowed_us: u64,
}

#[derive(Debug)]
enum State {
    Head { seen: usize },
    Length { left: u64 },
    Chunked(Chunked),
}

impl Default for State {
    fn default() -> State {
        State::Head { seen: 0 }
    }
}

/// How many bytes at the front may pass to the other implementation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passed {
    Bytes(usize),
    /// No byte may pass until more arrive.
    Nothing,
    /// No byte may pass from now on.
    Refused(Refusal),
}

impl Gate {
    #[must_use]
    pub fn refused(&self) -> Option<Refusal> {
        self.refused
    }

    #[must_use]
    pub fn in_body(&self) -> bool {
        !matches!(self.state, State::Head { .. })
    }

    /// Gives the current body more time: for bytes that arrived, or for time that it was kept waiting.
    pub fn allow(&mut self, us: u64) {
        self.allowed_us = self.allowed_us.saturating_add(us);
    }

    #[must_use]
    pub fn allowed_us(&self) -> u64 {
        self.allowed_us
    }

    /// Ends the connection for the caller's reason (a time limit).
    pub fn refuse(&mut self, refusal: Refusal) {
        self.refused = Some(refusal);
    }

    /// Returns the request that replaces the refused one, of which `bytes` is the beginning.
    #[must_use]
    pub fn refusal_request(bytes: &[u8]) -> Vec<u8> {
        let method = if head::is_to_head(bytes) { "HEAD" } else { "GET" };
        format!("{method} {REFUSED_PATH} HTTP/1.1\r\nHost: refused\r\nConnection: close\r\n\r\n").into_bytes()
    }

    /// Examines the bytes that have not passed yet. Before the next call, the caller removes the bytes that passed.
    pub fn pass(&mut self, bytes: &[u8]) -> Passed {
        if let Some(refusal) = self.refused {
            return Passed::Refused(refusal);
        }
        if bytes.is_empty() {
            return Passed::Nothing;
        }
        match self.advance(bytes) {
            Ok(0) => Passed::Nothing,
            Ok(count) => Passed::Bytes(count),
            Err(refusal) => {
                self.refused = Some(refusal);
                Passed::Refused(refusal)
            }
        }
    }

    /// Passes the part of a body that has arrived. Returns its length.
    fn pass_length(&mut self, left: u64, arrived: usize) -> usize {
        let count = left.min(arrived as u64);
        self.state = if left == count { State::default() } else { State::Length { left: left - count } };
        count as usize
    }

    fn advance(&mut self, bytes: &[u8]) -> Result<usize, Refusal> {
        match &mut self.state {
            State::Head { seen } => {
                let skip = head::empty_lines(bytes);
                if skip > 0 {
                    return Ok(skip);
                }
                let Some(head_bytes) = head::find_end(bytes, *seen)? else {
                    *seen = bytes.len() - 1;
                    return Ok(0);
                };
                let framing = head::parse(&bytes[..head_bytes])?.framing;
                self.allowed_us = 0;
                match framing {
                    // The received part of the body passes with the head, so that hyper reads once.
                    Framing::Length(length) => {
                        Ok(head_bytes + self.pass_length(length, bytes.len() - head_bytes))
                    }
                    Framing::Chunked => {
                        self.state = State::Chunked(Chunked::default());
                        Ok(head_bytes)
                    }
                }
            }
            State::Length { left } => {
                let left = *left;
                Ok(self.pass_length(left, bytes.len()))
            }
            State::Chunked(decoder) => {
                let mut taken = 0;
                while taken < bytes.len() {
                    let found = decoder.advance(&bytes[taken..])?;
                    taken += found.taken;
                    if found.done {
                        self.state = State::default();
                        break;
                    }
                }
                Ok(taken)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through(input: &[u8], step: usize) -> (Vec<u8>, Option<Refusal>) {
        let (mut gate, mut waiting, mut passed) = (Gate::default(), Vec::new(), Vec::new());
        for piece in input.chunks(step) {
            waiting.extend_from_slice(piece);
            loop {
                match gate.pass(&waiting) {
                    Passed::Bytes(count) => passed.extend(waiting.drain(..count)),
                    Passed::Nothing => break,
                    Passed::Refused(refusal) => return (passed, Some(refusal)),
                }
            }
        }
        (passed, None)
    }

    #[test]
    fn good_requests_pass_whole_and_a_bad_one_stops_the_rest() {
        let good = b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nPOST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nGET GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        for step in [1, 2, 7, good.len()] {
            assert_eq!(through(good, step), (good.to_vec(), None));
            let mut bad = good.to_vec();
            bad.extend(b"GET / HTTP/1.1\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!(through(&bad, step), (good.to_vec(), Some(Refusal::BareLineFeed)));
        }
    }

    #[test]
    fn what_has_arrived_of_a_body_passes_with_its_head() {
        let head = b"POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n";
        let passed = |body: &[u8]| {
            let mut gate = Gate::default();
            let passed = gate.pass(&[head, body].concat());
            (passed, gate.in_body())
        };
        let behind = |count| Passed::Bytes(head.len() + count);
        assert_eq!(passed(b""), (behind(0), true));
        assert_eq!(passed(b"12"), (behind(2), true));
        assert_eq!(passed(b"1234"), (behind(4), false));
        assert_eq!(passed(b"1234GET / HTTP/1.1\r\n"), (behind(4), false), "not the next request");
    }

    #[test]
    fn a_malformed_chunk_is_refused_before_it_passes() {
        let bad = b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n";
        let (passed, refusal) = through(bad, 1);
        assert_eq!(refusal, Some(Refusal::MalformedChunk));
        assert!(passed.ends_with(b"\r\n\r\n3"));
    }
}
