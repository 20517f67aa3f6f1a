//! The conversion of received bytes to requests, and of requests to owed responses.

use super::*;

impl CoreLoop {
    pub(super) fn touched(&mut self, key: Key, ready: epoll::Ready) {
        let Some(conn) = self.connections.get(key) else { return };
        conn.hung_up |= ready.hung_up;
        if ready.writable && conn.phase == Phase::Write {
            self.flush(key);
        }
        if ready.readable || ready.hung_up {
            self.readable(key);
        }
    }

    pub(super) fn read_again(&mut self, key: Key) {
        if self.connections.get(key).is_some() {
            self.readable(key);
        }
    }

    /// Reads once. Readiness is edge-triggered, so `more` or `again` records what remains in the socket.
    pub(super) fn readable(&mut self, key: Key) {
        if self.scratch.len() - self.scratch_filled < RECV_BYTES {
            self.parse_reads();
        }
        let Some(conn) = self.connections.get(key) else { return };
        if conn.phase == Phase::Linger {
            return self.drop_input(key);
        }
        if conn.is_blocked() {
            conn.more = true;
            return;
        }
        conn.more = false;
        let fd = conn.raw_fd();
        let owed_before = self.owed.len();
        if conn.input.is_empty() {
            let start = self.scratch_filled;
            self.me.hot.recv_calls.add(1);
            let received = epoll::recv(fd, &mut self.scratch[start..start + RECV_BYTES]);
            let is_full = matches!(received, Ok(RECV_BYTES));
            if let Some(count) = self.received(key, received, is_full)
                && let Some(conn) = self.connections.get(key)
            {
                conn.unparsed = true;
                self.scratch_filled += count;
                self.reads.push(Read { key, start, end: start + count });
                return;
            }
        } else {
            let Some(mut input) = self.room_for_more(key) else { return };
            let filled = input.len();
            input.resize(input.capacity().min(filled + RECV_BYTES), 0);
            self.me.hot.recv_calls.add(1);
            let received = epoll::recv(fd, &mut input[filled..]);
            let is_full = matches!(received, Ok(count) if count == input.len() - filled);
            match self.received(key, received, is_full) {
                Some(count) => {
                    let rest = self.consume(key, &mut input, filled + count);
                    input.copy_within(rest.0..rest.1, 0);
                    input.truncate(rest.1 - rest.0);
                }
                None => input.truncate(filled),
            }
            self.put_input(key, input);
        }
        self.look_again_if_nothing_owed(key, owed_before);
    }

    /// Schedules the connection to be read again, unless a response is owed. In that case, the connection is
    /// scheduled once the response has been sent.
    pub(super) fn look_again_if_nothing_owed(&mut self, key: Key, owed_before: usize) {
        if self.owed.len() == owed_before && self.connections.get(key).is_some_and(|conn| conn.more) {
            self.again.push(key);
        }
    }

    /// Parses what was read into the scratch buffer. Reading everything first and then parsing it keeps each kind of
    /// code in the processor's caches, which saves a quarter of the lane's own time.
    pub(super) fn parse_reads(&mut self) {
        let mut scratch = std::mem::take(&mut self.scratch);
        let reads = std::mem::take(&mut self.reads);
        for read in &reads {
            self.guarded(read.key, |lane| lane.parse_read(read, &mut scratch));
            if self.parts.intake.staged_bytes() > TICK_BYTES_MAX || self.owed.len() > TICK_ANSWERS_MAX {
                self.finish_tick();
                self.parts.intake.begin(self.now_us);
            }
        }
        self.reads = reads;
        self.reads.clear();
        self.scratch = scratch;
        self.scratch_filled = 0;
    }

    pub(super) fn parse_read(&mut self, read: &Read, scratch: &mut [u8]) {
        let key = read.key;
        let Some(conn) = self.connections.get(key) else { return };
        conn.unparsed = false;
        let owed_before = self.owed.len();
        let bytes = &mut scratch[read.start..read.end];
        let rest = self.consume(key, bytes, read.end - read.start);
        self.keep(key, &bytes[rest.0..rest.1]);
        self.look_again_if_nothing_owed(key, owed_before);
    }

    /// Handles the result of a read. Returns the count if there is something to parse.
    pub(super) fn received(&mut self, key: Key, received: io::Result<usize>, is_full: bool) -> Option<usize> {
        match received {
            Ok(0) => {
                // The peer has shut down its sending side. Responses to complete requests have been sent, or are owed
                // and will be sent. A partial request will never be complete.
                self.settle(key, After::Close);
                None
            }
            Ok(count) => {
                let conn = self.connections.get(key)?;
                if is_full || conn.hung_up {
                    conn.more = true;
                }
                Some(count)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(_) => {
                self.close(key);
                None
            }
        }
    }

    /// Returns the connection's buffer. If the buffer is full, at least doubles its capacity. If the buffer is full
    /// and the lane's buffers already exceed their limit, refuses the connection and returns `None`.
    pub(super) fn room_for_more(&mut self, key: Key) -> Option<Vec<u8>> {
        let full = self.connections.buffered() > self.limits.buffer_bytes_max;
        let conn = self.connections.get(key)?;
        let before = conn.input.capacity();
        if conn.input.len() == before {
            if full {
                self.refuse(key, Refusal::BuffersFull);
                return None;
            }
            conn.input.reserve_exact(before.max(INPUT_BYTES_MIN));
        }
        let input = std::mem::take(&mut conn.input);
        self.connections.rebuffered(before, 0);
        Some(input)
    }

    pub(super) fn put_input(&mut self, key: Key, input: Vec<u8>) {
        let Some(conn) = self.connections.get(key) else { return };
        if !input.is_empty() {
            let after = input.capacity();
            conn.input = input;
            self.connections.rebuffered(0, after);
        }
    }

    /// Stores the unparsed bytes `rest` in the connection until the next read. Refuses the connection if the lane's
    /// buffers already exceed their limit.
    pub(super) fn keep(&mut self, key: Key, rest: &[u8]) {
        if rest.is_empty() {
            return;
        }
        if self.connections.buffered() > self.limits.buffer_bytes_max {
            return self.refuse(key, Refusal::BuffersFull);
        }
        let mut input = Vec::with_capacity((rest.len() + 1).next_power_of_two().max(INPUT_BYTES_MIN));
        input.extend_from_slice(rest);
        self.put_input(key, input);
    }

    /// Parses `buffer[..filled]` and answers every complete request in it. Returns the range of the remaining bytes.
    pub(super) fn consume(&mut self, key: Key, buffer: &mut [u8], filled: usize) -> (usize, usize) {
        let owed_before = self.owed.len();
        let Some(conn) = self.connections.get(key) else { return (0, 0) };
        let mut parser = std::mem::take(&mut conn.parser);
        let event_bytes_max = self.limits.event_bytes_max;
        let (mut start, mut filled, mut answered) = (0, filled, false);
        let after = loop {
            if start == filled {
                break After::KeepAlive;
            }
            let mut left = filled - start;
            let mut found = None;
            let next = parser.next(&mut self.known_head, &mut buffer[start..filled], &mut left, |head| {
                wanted(found.insert(find(head)), head, event_bytes_max)
            });
            // The parser joins chunks in place, which moves the bytes after them towards the start of the buffer.
            let end = start + left;
            match next {
                Next::More { send_continue } => {
                    filled = end;
                    if send_continue {
                        self.owe_bytes(key, crate::http::CONTINUE);
                    }
                    break After::KeepAlive;
                }
                Next::Skip(bytes) => start += bytes,
                Next::Request { head, body, consumed } => {
                    answered = true;
                    // If the body arrived after the head, the endpoint was found in an earlier read, so the lookup is
                    // repeated here.
                    let found = found.unwrap_or_else(|| find(&head));
                    let keep_alive = self.answer(key, &found, &head, body);
                    start += consumed;
                    filled = end;
                    if !keep_alive {
                        break After::Close;
                    }
                }
                Next::HandOver => break After::HandOver,
                Next::Refused(refusal) => {
                    self.owe_refusal(key, refusal, &buffer[start..end]);
                    start = filled;
                    break After::Linger;
                }
            }
        };
        let in_body = parser.in_body();
        if let Some(conn) = self.connections.get(key) {
            conn.parser = parser;
            conn.is_owed |= self.owed.len() > owed_before;
            let phase = Phase::reading(&buffer[start..filled], in_body);
            // A time limit runs from the start of its phase, not from the last byte. A client therefore gains no time
            // by sending single bytes or empty lines.
            if answered || phase != conn.phase {
                conn.phase = phase;
                conn.deadline_ms = self.now_us / 1000 + self.limits.reading_ms(phase);
            }
        }
        match after {
            After::KeepAlive => {}
            After::Close => {
                // Closing with unread bytes would reset the connection, and the response could be lost.
                let unread = start < filled || self.connections.get(key).is_some_and(|conn| conn.more);
                start = filled;
                self.settle(key, if unread { After::Linger } else { After::Close });
            }
            after => self.settle(key, after),
        }
        (start, filled)
    }
}

#[inline]
pub(super) fn find(head: &Head<'_>) -> Found<Handler> {
    ENDPOINTS.find(head.path, head.method, head.query)
}

/// Returns whether this lane answers the request itself. Otherwise, the request goes to the executor. The executor
/// also gets a request without an operation, unless the method is OPTIONS or the body is small: if the path or method
/// is wrong, the body must not be refused for its size.
fn wanted(found: &Found<Handler>, head: &Head<'_>, event_bytes_max: usize) -> Wanted {
    if !found.is_hot {
        return Wanted::Elsewhere;
    }
    let body_bytes_max = sent_bytes_max(head.coding, event_bytes_max);
    let is_small = matches!(head.framing, Framing::Length(length) if length <= body_bytes_max as u64);
    if !is_small && found.operation.is_none() && head.method != Method::Options {
        return Wanted::Elsewhere;
    }
    Wanted::Here { body_bytes_max }
}
