//! One HTTP/1.1 connection without I/O: bytes in, requests out. The requests do not depend on how the bytes are split.

use super::{Chunked, Framing, Head, KnownHead, Refusal, chunked, head};

/// The caller's decision about a head, before its body is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// This lane answers. It refuses a body that, as sent, is larger than `body_bytes_max`.
    Here { body_bytes_max: usize },
    /// Another lane answers. The socket goes there with all bytes that are not consumed.
    Elsewhere,
}

/// The result for the bytes received so far.
#[derive(Debug, PartialEq, Eq)]
pub enum Next<'b> {
    /// There is no complete request yet. `send_continue` is set if the client waits for `100 Continue` before it
    /// sends the body. It is reported once.
    More {
        send_continue: bool,
    },
    /// The caller drops this many bytes at the front (empty lines between requests), then calls again.
    Skip(usize),
    /// A complete request. The caller drops `consumed` bytes when it is finished.
    Request {
        head: Head<'b>,
        body: &'b [u8],
        consumed: usize,
    },
    HandOver,
    /// The caller answers with this, then closes the connection.
    Refused(Refusal),
}

/// A connection's state between two reads. It takes 40 bytes and has no buffer.
#[derive(Clone, Copy, Debug, Default)]
pub struct Connection {
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Within the head. The bytes before `seen` do not contain its end.
    Head { seen: u32 },
    /// The head is complete; `need` bytes complete the request.
    Length { head_bytes: u32, need: usize },
    /// The head is complete; `decoded` bytes of contiguous payload follow it.
    Chunked { head_bytes: u32, decoded: usize, body_bytes_max: usize, decoder: Chunked },
}

impl Default for State {
    fn default() -> State {
        State::Head { seen: 0 }
    }
}

impl Connection {
    /// Returns `true` while a body is incomplete. Its time limit differs from that of a head.
    #[must_use]
    pub fn in_body(&self) -> bool {
        !matches!(self.state, State::Head { .. })
    }

    /// Examines the unconsumed bytes of the connection, `buffer[..*filled]`. Moves chunked payload together in place,
    /// which may reduce `filled`. The result does not depend on which head is `known`.
    pub fn next<'b>(
        &mut self,
        known: &mut KnownHead,
        buffer: &'b mut [u8],
        filled: &mut usize,
        wanted: impl FnOnce(&Head<'_>) -> Wanted,
    ) -> Next<'b> {
        if matches!(self.state, State::Head { .. })
            && let Some((head_bytes, places)) = known.find(&buffer[..*filled])
        {
            return self.next_of_known(&places, head_bytes, &buffer[..*filled], wanted);
        }
        match self.advance(known, buffer, filled, wanted) {
            Ok(Progress::More { send_continue }) => Next::More { send_continue },
            Ok(Progress::Skip(bytes)) => Next::Skip(bytes),
            Ok(Progress::HandOver) => Next::HandOver,
            Ok(Progress::Whole { places, head_bytes, body_bytes }) => {
                self.state = State::default();
                let (head, rest) = buffer.split_at(head_bytes);
                // If the body arrived after its head, the result of parsing the head was not kept, so the head is
                // parsed again.
                match places.map_or_else(|| head::parse(head), |places| Ok(places.head(head))) {
                    Ok(head) => {
                        Next::Request { head, body: &rest[..body_bytes], consumed: head_bytes + body_bytes }
                    }
                    Err(refusal) => Next::Refused(refusal),
                }
            }
            Err(refusal) => Next::Refused(refusal),
        }
    }

    /// Does what [`Connection::advance`] does after a head with a length, for the known head at the front of `bytes`.
    #[inline]
    fn next_of_known<'b>(
        &mut self,
        places: &head::Places,
        head_bytes: usize,
        bytes: &'b [u8],
        wanted: impl FnOnce(&Head<'_>) -> Wanted,
    ) -> Next<'b> {
        let (head, rest) = bytes.split_at(head_bytes);
        let head = places.head(head);
        let Framing::Length(length) = head.framing else { unreachable!("a known head has a length") };
        let Wanted::Here { body_bytes_max } = wanted(&head) else {
            self.state = State::default();
            return Next::HandOver;
        };
        if length > body_bytes_max as u64 {
            return Next::Refused(Refusal::BodyTooLarge);
        }
        let length = length as usize;
        match rest.get(..length) {
            Some(body) => {
                self.state = State::default();
                Next::Request { head, body, consumed: head_bytes + length }
            }
            None => {
                self.state = State::Length { head_bytes: head_bytes as u32, need: head_bytes + length };
                Next::More { send_continue: head.expects_continue && rest.is_empty() }
            }
        }
    }

    fn advance(
        &mut self,
        known: &mut KnownHead,
        buffer: &mut [u8],
        filled: &mut usize,
        wanted: impl FnOnce(&Head<'_>) -> Wanted,
    ) -> Result<Progress, Refusal> {
        let mut send_continue = false;
        let mut places = None;
        if let State::Head { seen } = self.state {
            let bytes = &buffer[..*filled];
            let skip = head::empty_lines(bytes);
            if skip > 0 {
                return Ok(Progress::Skip(skip));
            }
            let Some(head_bytes) = head::find_end(bytes, seen as usize)? else {
                // The last byte is examined again: its meaning depends on the byte after a line feed.
                self.state = State::Head { seen: bytes.len().saturating_sub(1) as u32 };
                return Ok(Progress::More { send_continue: false });
            };
            let bytes = &bytes[..head_bytes];
            let head = head::parse(bytes)?;
            let found = head.places(bytes);
            known.keep(&head, bytes, &found);
            places = Some(found);
            let Wanted::Here { body_bytes_max } = wanted(&head) else {
                self.state = State::default();
                return Ok(Progress::HandOver);
            };
            let head_bytes = head_bytes as u32;
            send_continue = head.expects_continue;
            self.state = match head.framing {
                Framing::Length(length) if length > body_bytes_max as u64 => {
                    return Err(Refusal::BodyTooLarge);
                }
                Framing::Length(length) => {
                    State::Length { head_bytes, need: head_bytes as usize + length as usize }
                }
                Framing::Chunked => {
                    State::Chunked { head_bytes, decoded: 0, body_bytes_max, decoder: Chunked::default() }
                }
            };
        }
        match &mut self.state {
            State::Head { .. } => Ok(Progress::More { send_continue: false }),
            State::Length { head_bytes, need } => Ok(if *filled >= *need {
                let head_bytes = *head_bytes as usize;
                Progress::Whole { places, head_bytes, body_bytes: *need - head_bytes }
            } else {
                // A client that has begun to send the body does not wait.
                Progress::More { send_continue: send_continue && *filled == *head_bytes as usize }
            }),
            State::Chunked { head_bytes, decoded, body_bytes_max, decoder } => {
                let head_bytes = *head_bytes as usize;
                let nothing_sent = *filled == head_bytes;
                let mut read = head_bytes + *decoded;
                loop {
                    let chunked::Advance { taken, data, done } = decoder.advance(&buffer[read..*filled])?;
                    let write = head_bytes + *decoded;
                    buffer.copy_within(read + taken - data..read + taken, write);
                    read += taken;
                    *decoded += data;
                    if *decoded > *body_bytes_max {
                        return Err(Refusal::BodyTooLarge);
                    }
                    if done || read == *filled {
                        let end = head_bytes + *decoded;
                        buffer.copy_within(read..*filled, end);
                        *filled = end + (*filled - read);
                        return Ok(if done {
                            Progress::Whole { places, head_bytes, body_bytes: *decoded }
                        } else {
                            Progress::More { send_continue: send_continue && nothing_sent }
                        });
                    }
                }
            }
        }
    }
}

enum Progress {
    More { send_continue: bool },
    Skip(usize),
    HandOver,
    Whole { places: Option<head::Places>, head_bytes: usize, body_bytes: usize },
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BODY_MAX: usize = 64;

    #[derive(Debug, PartialEq, Eq)]
    enum Seen {
        Request { path: String, body: Vec<u8> },
        HandOver(Vec<u8>),
        Refused(Refusal),
    }

    /// Returns all requests of a connection whose `input` is fed in pieces that end at `cuts`.
    fn requests(input: &[u8], cuts: &[usize]) -> (Vec<Seen>, usize) {
        requests_knowing(&mut KnownHead::default(), input, cuts)
    }

    fn requests_knowing(known: &mut KnownHead, input: &[u8], cuts: &[usize]) -> (Vec<Seen>, usize) {
        let mut connection = Connection::default();
        let (mut buffer, mut filled, mut seen, mut continues) = (vec![0; input.len() + 1], 0, Vec::new(), 0);
        let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % (input.len() + 1)).collect();
        ends.push(input.len());
        ends.sort_unstable();
        let mut start = 0;
        for end in ends {
            buffer[filled..filled + end - start].copy_from_slice(&input[start..end]);
            filled += end - start;
            start = end;
            loop {
                let wanted = |head: &Head<'_>| match head.path {
                    "/elsewhere" => Wanted::Elsewhere,
                    _ => Wanted::Here { body_bytes_max: BODY_MAX },
                };
                let drop = match connection.next(known, &mut buffer, &mut filled, wanted) {
                    Next::More { send_continue } => {
                        continues += usize::from(send_continue);
                        break;
                    }
                    Next::Skip(bytes) => bytes,
                    Next::Request { head, body, consumed } => {
                        seen.push(Seen::Request { path: head.path.to_owned(), body: body.to_vec() });
                        consumed
                    }
                    Next::HandOver => {
                        let mut rest = buffer[..filled].to_vec();
                        rest.extend_from_slice(&input[start..]);
                        seen.push(Seen::HandOver(rest));
                        return (seen, continues);
                    }
                    Next::Refused(refusal) => {
                        seen.push(Seen::Refused(refusal));
                        return (seen, continues);
                    }
                };
                buffer.copy_within(drop..filled, 0);
                filled -= drop;
            }
        }
        (seen, continues)
    }

    fn request() -> impl Strategy<Value = Vec<u8>> {
        let body = proptest::collection::vec(any::<u8>(), 0..BODY_MAX + 8);
        let sized = body.clone().prop_map(|body| {
            let mut bytes =
                format!("POST /event HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len())
                    .into_bytes();
            bytes.extend(body);
            bytes
        });
        let chunked = (body, 1usize..9).prop_map(|(body, step)| {
            let mut bytes =
                b"POST /chunked HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
            for chunk in body.chunks(step) {
                bytes.extend(format!("{:x}\r\n", chunk.len()).bytes());
                bytes.extend(chunk);
                bytes.extend(b"\r\n");
            }
            bytes.extend(b"0\r\n\r\n");
            bytes
        });
        prop_oneof![
            4 => sized,
            4 => chunked,
            2 => Just(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()),
            1 => Just(b"\r\n".to_vec()),
            1 => Just(b"GET /elsewhere HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()),
            1 => Just(b"GET / HTTP/1.1\nHost: a\r\n\r\n".to_vec()),
            1 => Just(b"GET / HTTP/1.1\r\nHost: a\r\n b: c\r\n\r\n".to_vec()),
            1 => proptest::collection::vec(any::<u8>(), 0..40),
        ]
    }

    proptest! {
        #[test]
        fn any_split_of_the_bytes_gives_the_same_requests(
            parts in proptest::collection::vec(request(), 1..6),
            cuts in proptest::collection::vec(any::<usize>(), 0..40),
        ) {
            let input = parts.concat();
            let (whole, _) = requests(&input, &[]);
            // Each call of the parser knows another head, or the one that it parsed before.
            let mut known = KnownHead::default();
            requests_knowing(&mut known, &parts[0], &[]);
            prop_assert_eq!(&whole, &requests_knowing(&mut known, &input, &cuts).0);
            prop_assert_eq!(&whole, &requests_knowing(&mut known, &input, &[]).0);
            let (split, _) = requests(&input, &cuts);
            prop_assert_eq!(&whole, &split);
            let every: Vec<usize> = (0..input.len()).collect();
            let (bytewise, _) = requests(&input, &every);
            prop_assert_eq!(&whole, &bytewise);
        }
    }

    #[test]
    fn one_request_never_reaches_into_the_next() {
        let (seen, _) = requests(b"POST /event HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET /x HTTP/1.1\r\nHost: a\r\n\r\n", &[]);
        assert_eq!(
            seen,
            [
                Seen::Request { path: "/event".into(), body: b"abc".to_vec() },
                Seen::Request { path: "/x".into(), body: vec![] }
            ]
        );
    }

    #[test]
    fn a_waiting_client_is_told_to_go_on_once() {
        let head = b"POST /event HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n";
        let mut input = head.to_vec();
        input.extend(b"abc");
        assert_eq!(requests(&input, &[head.len(), head.len() + 1]).1, 1);
        assert_eq!(requests(&input, &[head.len() + 1]).1, 0);
        assert_eq!(requests(&input, &[]).1, 0);
    }
}
