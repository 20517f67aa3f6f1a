//! Responses that are owed to requests, and the next steps of connections.

use super::*;

/// Why a request is refused.
enum NotAnswered {
    Event(api::error::EventRefused),
    Called(NotCalled),
}

/// Returns the page's origin and the host name that the head contains. Finding them requires a search of the head's
/// bytes, so this is not called for accepted events.
fn caller<'b>(head: &Head<'b>) -> Caller<'b> {
    let origins = head.has_origin.then(|| head.field("origin")).into_iter().flatten();
    Caller::new(head.host(), origins)
}

impl CoreLoop {
    /// Adds the response for one complete request to the owed responses. Returns `true` if the connection remains
    /// open.
    pub(super) fn answer(&mut self, key: Key, found: &Found<Handler>, head: &Head<'_>, body: &[u8]) -> bool {
        let keep_alive = head.keep_alive && self.parts.vitals.stop.stage() < Stage::Draining;
        let answer = match found.operation {
            Some(Operation { handler: Handler::Click(_), need, .. }) => {
                match self.take_event(key, found, *need, head, body) {
                    Ok((receipt, disk)) => {
                        let start = self.arena.len();
                        match head.request_id {
                            Some(id) => self.arena.extend_from_slice(id.as_bytes()),
                            None => self.arena.extend_from_slice(&self.parts.request_ids.give_digits()),
                        }
                        let to = ResponseTarget {
                            request_id: (start, self.arena.len()),
                            minor: head.minor,
                            keep_alive,
                            has_origin: head.has_origin,
                        };
                        if self.now_ms() >= self.sample_at_ms && tracing::enabled!(tracing::Level::INFO) {
                            self.sample_at_ms = self.now_ms() + SAMPLE_MS;
                            let id = &self.arena[to.request_id.0..to.request_id.1];
                            self.sampled = Some((key, String::from_utf8_lossy(id).into_owned()));
                        }
                        self.owed.push(Owed { key, what: OwedResponse::Accepted { receipt, disk, to } });
                        self.me.hot.accepted_bytes.add(body.len() as u64);
                        return keep_alive;
                    }
                    Err(refused) => Err(NotAnswered::Event(refused)),
                }
            }
            _ => self.check_caller(found, head).map_err(NotAnswered::Called).and_then(|()| {
                let checked = ENDPOINTS.check_query(found, head.query);
                checked.map_err(|error| NotAnswered::Event(api::error::EventRefused::Query(error)))
            }),
        };
        let id = match head.request_id {
            Some(id) => id,
            None => self.parts.request_ids.give(),
        };
        let problems = &self.me.hot.problems;
        let config = &self.parts.vitals.config;
        let cors = caller(head).cors(config, found.pages(head.method), head.method);
        let asker = Asker { request_id: id, problems, body_bytes_max: self.limits.event_bytes_max as u64 };
        let answer = match answer {
            Ok(()) => {
                let (format, wants) = (Format::Text, api::Wants::default());
                let wanted_headers = match head.method {
                    Method::Options => head.field("access-control-request-headers").next(),
                    _ => None,
                };
                let asked = Asked::new(head.path, format, wants, &self.parts.vitals, asker)
                    .with_preflight(Preflight { cors, wanted_headers });
                answer_from_memory(found, head.method, &asked)
            }
            Err(NotAnswered::Event(refused)) => refused.answer(&asker),
            Err(NotAnswered::Called(not_called)) => not_called.answer(&asker),
        };
        self.me.hot.count_request(found.row, answer.status);
        let (core, route, status) = (self.parts.core, found.route(), answer.status);
        let duration_us = clock::monotonic_us() - self.started_us;
        let is_event = found.row == CLICKS && status >= 400;
        if is_event && self.refusals.is_first(status, self.now_us / 1_000) {
            tracing::info!(core, request_id = id, method = "POST", route, status, duration_us, "answered");
        } else {
            tracing::debug!(core, request_id = id, route, status, duration_us, "answered");
        }
        let to = To {
            date: &self.date,
            request_id: id.as_bytes(),
            minor: head.minor,
            keep_alive,
            head_only: head.method == Method::Head,
            cors,
        };
        let start = self.arena.len();
        write_answer(&mut self.arena, &answer, &to);
        self.owed.push(Owed { key, what: OwedResponse::Rendered { start, end: self.arena.len() } });
        keep_alive && !answer.close
    }

    /// Checks that a page may make this request, under this server name.
    fn check_caller(&mut self, found: &Found<Handler>, head: &Head<'_>) -> Result<(), NotCalled> {
        let Parts { vitals, desk, .. } = &mut self.parts;
        caller(head).check(&vitals.config, found.pages(head.method), head.method, || desk.is_open())
    }

    pub(super) fn take_event(
        &mut self,
        key: Key,
        found: &Found<Handler>,
        need: Need,
        head: &Head<'_>,
        body: &[u8],
    ) -> Result<(crate::base::ids::Receipt, bool), api::error::EventRefused> {
        let now = Now { unix_us: self.unix_us, monotonic_us: self.now_us };
        if self.limits.by_address {
            self.charge_address(key, head, now)?;
        }
        let principal = self.parts.desk.authorize(head.credential, need, now)?;
        self.parts.desk.charge(&principal, 1, body.len() as u64, now)?;
        if head.query.is_some_and(|query| !api::is_plain_ack(query)) {
            ENDPOINTS.check_query(found, head.query).map_err(api::error::EventRefused::Query)?;
        }
        let disk = api::request::wants_disk(head.query, self.parts.vitals.config.ack)?;
        if let Some(pressure) = disk.then(|| self.parts.intake.disk_promise_pressure()).flatten() {
            return Err(Refused::Pressure(pressure).into());
        }
        let coding = head.coding.ok_or(api::error::EventRefused::UnknownCoding)?;
        let receipt = self.parts.intake.stage_click(coding, body, self.unix_us)?;
        Ok((receipt, disk))
    }

    /// Charges the client. The client is the peer or, if the peer is a trusted proxy, the client that the proxy
    /// forwards for.
    fn charge_address(&mut self, key: Key, head: &Head<'_>, now: Now) -> Result<(), Denied> {
        // A peer that has already disconnected gets no response anyway.
        let Some(peer) = self.connections.get(key).and_then(|conn| conn.peer) else { return Ok(()) };
        let trusted = &self.parts.vitals.config.trusted_proxies;
        let client = client_address(peer, trusted, head.field("x-forwarded-for"));
        self.parts.desk.charge_address(client, now)
    }

    pub(super) fn owe_bytes(&mut self, key: Key, bytes: &[u8]) {
        let start = self.arena.len();
        self.arena.extend_from_slice(bytes);
        self.owed.push(Owed { key, what: OwedResponse::Rendered { start, end: self.arena.len() } });
    }

    /// Adds a refusal to the owed responses. `bytes` begins with the refused request. If the head of the request is
    /// valid, the response still has the request's id and CORS lines. It has no body if the method is HEAD.
    pub(super) fn owe_refusal(&mut self, key: Key, refusal: Refusal, bytes: &[u8]) {
        let head = peek(bytes);
        let id = match head.and_then(|head| head.request_id) {
            Some(id) => id,
            None => self.parts.request_ids.give(),
        };
        let answer =
            api::error::refusal(refusal, self.limits.event_bytes_max as u64, id, &self.me.hot.problems);
        let cors = head.map_or(Cors::None, |head| {
            let pages = super::receive::find(&head).pages(head.method);
            caller(&head).cors(&self.parts.vitals.config, pages, head.method)
        });
        let to = To {
            date: &self.date,
            request_id: id.as_bytes(),
            minor: 1,
            keep_alive: false,
            head_only: is_to_head(bytes),
            cors,
        };
        let start = self.arena.len();
        write_answer(&mut self.arena, &answer, &to);
        self.me.hot.count_request(UNMATCHED, answer.status);
        self.owed.push(Owed { key, what: OwedResponse::Rendered { start, end: self.arena.len() } });
    }

    /// Refuses a request outside of parsing, because of a time limit or the memory limit.
    pub(super) fn refuse(&mut self, key: Key, refusal: Refusal) {
        let Some(conn) = self.connections.get(key) else { return };
        let input = std::mem::take(&mut conn.input);
        self.connections.rebuffered(input.capacity(), 0);
        self.owe_refusal(key, refusal, &input);
        self.settle(key, After::Linger);
    }

    /// Sets the connection's next step for when its owed responses have been sent.
    pub(super) fn settle(&mut self, key: Key, after: After) {
        if let Some(conn) = self.connections.get(key) {
            conn.after = after;
            self.owed.push(Owed { key, what: OwedResponse::Nothing });
        }
    }
}
