//! The end of a tick: one append, then every response. Responses that promise the disk wait for the sync.

use super::*;

/// Logs the response to an event, with its status, when the response is sent.
#[cold]
fn log_answered(core: usize, request_id: &str, status: u16, since_us: u64) {
    let route = ENDPOINTS.0[CLICKS].route;
    let duration_us = clock::monotonic_us() - since_us;
    tracing::info!(core, request_id, method = "POST", route, status, duration_us, "answered");
}

impl CoreLoop {
    /// Appends all events of the tick with one write, then sends every response.
    pub(super) fn finish_tick(&mut self) {
        if self.owed.is_empty() {
            return;
        }
        let appended = self.parts.intake.commit();
        let owed = std::mem::take(&mut self.owed);
        let mut groups = std::mem::take(&mut self.groups);
        self.out.clear();
        self.accepted.set_date(&self.date);
        let mut at = 0;
        while at < owed.len() {
            let (key, first, start) = (owed[at].key, at, self.out.len());
            while at < owed.len() && owed[at].key == key {
                at += 1;
            }
            let (events, disk) = self.render(&owed[first..at], &appended);
            groups.push(Group { key, start, end: self.out.len(), events, disk });
        }
        self.owed = owed;
        self.owed.clear();
        self.arena.clear();
        let out = std::mem::take(&mut self.out);
        let (mut accepted, mut sync) = (0, false);
        for group in groups.drain(..) {
            match appended {
                Ok(Some(appended)) if group.disk => {
                    sync = true;
                    self.hold(&group, &out[group.start..group.end], appended);
                }
                _ => {
                    accepted += group.events;
                    self.send(group.key, &out[group.start..group.end]);
                }
            }
        }
        self.out = out;
        self.groups = groups;
        if sync {
            // A full channel means that the executor will sync anyway.
            let _ = self.parts.sync_wanted.try_send(());
        }
        if accepted > 0 {
            self.acked(accepted, self.started_us);
        }
        // A response that waits for the disk is logged once it is sent. A refusal is logged with the other refusals.
        if let Some((_, request_id)) = self.sampled.take()
            && appended.is_ok()
        {
            log_answered(self.parts.core, &request_id, 202, self.started_us);
        }
    }

    /// Holds responses that promise the disk until the promise is true.
    pub(super) fn hold(&mut self, group: &Group, bytes: &[u8], appended: Appended) {
        let Some(conn) = self.connections.get(group.key) else { return };
        conn.is_owed = false;
        let before = conn.output.capacity();
        conn.output.extend_from_slice(bytes);
        let after = conn.output.capacity();
        conn.phase = Phase::Held;
        conn.deadline_ms = u64::MAX;
        self.connections.rebuffered(before, after);
        let Appended { lane, upto } = appended;
        let sampled = self.sampled.take_if(|(key, _)| *key == group.key);
        self.held.push_back(Held {
            key: group.key,
            lane,
            upto,
            since_us: self.started_us,
            events: group.events,
            sampled: sampled.map(|(_, request_id)| request_id),
        });
        self.close_above_budget(group.key);
    }

    /// Appends one connection's responses to `out`. Returns how many events they accept, and whether one of them
    /// promises the disk.
    pub(super) fn render(
        &mut self,
        owed: &[Owed],
        appended: &Result<Option<Appended>, Pressure>,
    ) -> (u64, bool) {
        let (mut events, mut any_disk) = (0, false);
        for one in owed {
            match &one.what {
                OwedResponse::Nothing => {}
                OwedResponse::Rendered { start, end } => {
                    self.out.extend_from_slice(&self.arena[*start..*end])
                }
                OwedResponse::Accepted { receipt, disk, to } => {
                    let id = &self.arena[to.request_id.0..to.request_id.1];
                    let addressee = To {
                        date: &self.date,
                        request_id: id,
                        minor: to.minor,
                        keep_alive: to.keep_alive,
                        head_only: false,
                        cors: Cors::Every { has_origin: to.has_origin },
                    };
                    match appended {
                        Ok(_) => {
                            events += 1;
                            any_disk |= disk;
                            let level = if *disk { AckLevel::Disk } else { AckLevel::Os };
                            self.accepted.write(&mut self.out, &addressee, level, *receipt);
                        }
                        Err(pressure) => {
                            let refused = Refused::Pressure(*pressure).into();
                            let limit = self.limits.event_bytes_max as u64;
                            let id = std::str::from_utf8(id).unwrap_or_default();
                            let answer = api::error::refused(&refused, limit, id, &self.me.hot.problems);
                            self.me.hot.count_request(CLICKS, answer.status);
                            if self.refusals.is_first(answer.status, self.now_us / 1000) {
                                log_answered(self.parts.core, id, answer.status, self.started_us);
                            }
                            write_answer(&mut self.out, &answer, &addressee);
                        }
                    }
                }
            }
        }
        (events, any_disk)
    }

    /// Counts acknowledged events and records their latency.
    pub(super) fn acked(&mut self, events: u64, since_us: u64) {
        let took_us = clock::monotonic_us() - since_us;
        self.latency.histogram.saturating_record_n(took_us.max(1), events);
        self.latency.sum_us += took_us * events;
        self.me.hot.accepted_events.add(events);
        self.me.hot.requests[CLICKS][1].add(events);
    }

    /// Sends responses to a connection. Bytes that the socket does not accept wait in the connection.
    pub(super) fn send(&mut self, key: Key, bytes: &[u8]) {
        let Some(conn) = self.connections.get(key) else { return };
        conn.is_owed = false;
        let waits_for_disk = conn.phase == Phase::Held;
        if bytes.is_empty() && conn.output.is_empty() && !waits_for_disk {
            return self.sent(key);
        }
        if !conn.output.is_empty() {
            let before = conn.output.capacity();
            conn.output.extend_from_slice(bytes);
            let after = conn.output.capacity();
            self.connections.rebuffered(before, after);
            // If an earlier response waits for the disk, this one is sent together with it.
            if !waits_for_disk {
                self.flush(key);
            }
            return;
        }
        self.me.hot.send_calls.add(1);
        match epoll::send(conn.raw_fd(), bytes) {
            Ok(count) if count == bytes.len() => self.sent(key),
            Ok(count) => self.wait_to_write(key, &bytes[count..]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait_to_write(key, bytes),
            Err(_) => self.close(key),
        }
    }

    pub(super) fn wait_to_write(&mut self, key: Key, bytes: &[u8]) {
        let Some(conn) = self.connections.get(key) else { return };
        let before = conn.output.capacity();
        conn.output.extend_from_slice(bytes);
        conn.phase = Phase::Write;
        conn.deadline_ms = self.now_us / 1000 + self.limits.write_ms;
        let after = conn.output.capacity();
        self.connections.rebuffered(before, after);
        self.close_above_budget(key);
    }

    /// Closes the connection if the buffers exceed their limit. Responses that no peer reads must not fill the
    /// memory.
    pub(super) fn close_above_budget(&mut self, key: Key) {
        if self.connections.buffered() > self.limits.buffer_bytes_max {
            self.close(key);
        }
    }

    /// Sends the bytes that wait in the connection.
    pub(super) fn flush(&mut self, key: Key) {
        let Some(conn) = self.connections.get(key) else { return };
        self.me.hot.send_calls.add(1);
        match epoll::send(conn.raw_fd(), &conn.output) {
            Ok(count) if count == conn.output.len() => {
                let before = conn.output.capacity();
                conn.output = Vec::new();
                self.connections.rebuffered(before, 0);
                self.sent(key);
            }
            Ok(count) => {
                conn.output.drain(..count);
                conn.phase = Phase::Write;
                conn.deadline_ms = self.now_us / 1000 + self.limits.write_ms;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if conn.phase != Phase::Write {
                    conn.phase = Phase::Write;
                    conn.deadline_ms = self.now_us / 1000 + self.limits.write_ms;
                }
            }
            Err(_) => self.close(key),
        }
    }

    /// Performs the connection's next step after everything owed was sent.
    pub(super) fn sent(&mut self, key: Key) {
        let now_ms = self.now_us / 1000;
        let Some(conn) = self.connections.get(key) else { return };
        match conn.after {
            After::KeepAlive => {
                if matches!(conn.phase, Phase::Write | Phase::Held) {
                    conn.phase = Phase::reading(&conn.input, conn.parser.in_body());
                    conn.deadline_ms = now_ms + self.limits.reading_ms(conn.phase);
                }
                if conn.more {
                    self.again.push(key);
                }
            }
            After::Close => self.close(key),
            After::Linger => {
                epoll::shutdown_write(&conn.fd);
                let before = conn.input.capacity();
                conn.input = Vec::new();
                conn.phase = Phase::Linger;
                conn.deadline_ms = now_ms + LINGER_MS;
                self.connections.rebuffered(before, 0);
                self.drop_input(key);
            }
            After::HandOver => self.hand_over(key),
        }
    }

    /// Reads and drops what a refused peer still sends, until the peer closes the connection or the time limit has
    /// passed.
    pub(super) fn drop_input(&mut self, key: Key) {
        let Some(conn) = self.connections.get(key) else { return };
        let mut sink = [0; 16 * 1024];
        match epoll::recv(conn.raw_fd(), &mut sink) {
            Ok(0) => self.close(key),
            Ok(count) if count == sink.len() => self.again.push(key),
            Ok(_) if conn.hung_up => self.again.push(key),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => self.close(key),
        }
    }

    pub(super) fn hand_over(&mut self, key: Key) {
        let Some(conn) = self.connections.remove(key) else { return };
        // The socket remains open, so it must be removed here. From now on, only the executor may watch it.
        let _ = self.epoll.remove(&conn.fd);
        self.me.hot.handed_over.add(1);
        match self.parts.executor.try_send(HandedOver::new(conn.fd, conn.input)) {
            Ok(()) => {}
            Err(error) => {
                let handed = error.into_inner();
                self.turn_away(&handed.fd);
                self.me.connection_closed();
            }
        }
    }

    pub(super) fn close(&mut self, key: Key) {
        if self.connections.remove(key).is_some() {
            self.me.connection_closed();
        }
    }

    /// Releases the responses whose events are now on disk.
    pub(super) fn release_held(&mut self) {
        while let Some(first) = self.held.front() {
            let is_synced = self.parts.intake.synced(first.lane) >= first.upto;
            let is_lost = !is_synced && self.parts.intake.sync_failed(first.lane);
            if !is_synced && !is_lost {
                return;
            }
            let Some(mut held) = self.held.pop_front() else { return };
            let retracted = if is_lost { self.retract(&mut held) } else { 0 };
            self.acked(held.events.saturating_sub(retracted), held.since_us);
            if let Some(request_id) = &held.sampled {
                log_answered(self.parts.core, request_id, 202, held.since_us);
            }
            self.flush(held.key);
        }
    }

    /// Replaces the unsent disk promises among a connection's responses with refusals. Returns their number.
    #[cold]
    fn retract(&mut self, held: &mut Held) -> u64 {
        let sampled = held.sampled.take();
        let Some(conn) = self.connections.get(held.key) else { return 0 };
        let limit = self.limits.event_bytes_max as u64;
        let hot = &self.me.hot;
        let (mut retracted, mut is_sample_retracted) = (0, false);
        let output = clicks::retract(&conn.output, |id| {
            let refused = api::error::EventRefused::Unsynced;
            let answer = api::error::refused(&refused, limit, id, &hot.problems);
            hot.count_request(CLICKS, answer.status);
            retracted += 1;
            is_sample_retracted |= sampled.as_deref() == Some(id);
            if self.refusals.is_first(answer.status, self.now_us / 1000) {
                log_answered(self.parts.core, id, answer.status, held.since_us);
            }
            answer
        });
        // The sampled request may not have requested `ack=disk`. In that case, its response was not retracted.
        held.sampled = sampled.filter(|_| !is_sample_retracted);
        let (before, after) = (conn.output.capacity(), output.capacity());
        conn.output = output;
        self.connections.rebuffered(before, after);
        retracted
    }
}
