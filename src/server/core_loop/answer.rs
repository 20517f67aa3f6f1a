//! What is owed to a request, and what becomes of its connection then.

use super::*;

impl CoreLoop {
    /// Owes the answer to one whole request; whether the connection stays.
    pub(super) fn answer(&mut self, key: Key, found: &Found<Handler>, head: &Head<'_>, body: &[u8]) -> bool {
        let keep_alive = head.keep_alive && self.parts.vitals.stop.stage() < Stage::Draining;
        let answer = match found.operation {
            Some(Operation { handler: Handler::Click(_), need, .. }) => {
                match self.take_event(*need, head, body) {
                    Ok((receipt, disk)) => {
                        let start = self.arena.len();
                        self.arena.extend_from_slice(match head.request_id {
                            Some(id) => id.as_bytes(),
                            None => self.parts.request_ids.give().as_bytes(),
                        });
                        let to = Addressee {
                            request_id: (start, self.arena.len()),
                            minor: head.minor,
                            keep_alive,
                            has_origin: head.has_origin,
                        };
                        if self.now_ms() >= self.sample_at_ms && tracing::enabled!(tracing::Level::INFO) {
                            self.sample_at_ms = self.now_ms() + SAMPLE_MS;
                            let id = &self.arena[to.request_id.0..to.request_id.1];
                            self.sampled = Some(String::from_utf8_lossy(id).into_owned());
                        }
                        self.owed.push(Owed { key, what: What::Accepted { receipt, disk, to } });
                        self.me.hot.accepted_bytes.add(body.len() as u64);
                        return keep_alive;
                    }
                    Err(refused) => Err(refused),
                }
            }
            _ => Ok(()),
        };
        let id = match head.request_id {
            Some(id) => id,
            None => self.parts.request_ids.give(),
        };
        let problems = &self.me.hot.problems;
        let answer = match answer {
            Ok(()) => {
                let asker =
                    Asker { request_id: id, problems, body_bytes_max: self.limits.event_bytes_max as u64 };
                let (format, wants) = (Format::Text, api::Wants::default());
                let asked = Asked::new(head.path, format, wants, &self.parts.vitals, asker);
                at_once(found, head.method, &asked)
            }
            Err(refused) => api::error::refused(&refused, self.limits.event_bytes_max as u64, id, problems),
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
            has_origin: head.has_origin,
        };
        let start = self.arena.len();
        write_answer(&mut self.arena, &answer, &to);
        self.owed.push(Owed { key, what: What::Rendered { start, end: self.arena.len() } });
        keep_alive && !answer.close
    }

    pub(super) fn take_event(
        &mut self,
        need: Need,
        head: &Head<'_>,
        body: &[u8],
    ) -> Result<(crate::base::ids::Receipt, bool), api::error::EventRefused> {
        let now = Now { unix_us: self.unix_us, monotonic_us: self.now_us };
        let principal = self.parts.desk.authorize(head.credential, need, now)?;
        self.parts.desk.charge(&principal, 1, body.len() as u64, now)?;
        let disk = api::event::wants_disk(head.query, self.parts.vitals.config.ack)?;
        if let Some(pressure) = disk.then(|| self.parts.intake.no_promise()).flatten() {
            return Err(Refused::Pressure(pressure).into());
        }
        let coding = head.coding.ok_or(api::error::EventRefused::UnknownCoding)?;
        let receipt = self.parts.intake.take(coding, body, self.unix_us)?;
        Ok((receipt, disk))
    }

    pub(super) fn owe_bytes(&mut self, key: Key, bytes: &[u8]) {
        let start = self.arena.len();
        self.arena.extend_from_slice(bytes);
        self.owed.push(Owed { key, what: What::Rendered { start, end: self.arena.len() } });
    }

    /// `bytes` begin with the refused request: of a sound head the answer still takes over what it must.
    pub(super) fn owe_refusal(&mut self, key: Key, refusal: Refusal, bytes: &[u8]) {
        let head = peek(bytes);
        let id = match head.and_then(|head| head.request_id) {
            Some(id) => id,
            None => self.parts.request_ids.give(),
        };
        let answer =
            api::error::refusal(refusal, self.limits.event_bytes_max as u64, id, &self.me.hot.problems);
        let to = To {
            date: &self.date,
            request_id: id.as_bytes(),
            minor: 1,
            keep_alive: false,
            head_only: head.is_some_and(|head| head.method == Method::Head),
            has_origin: head.is_some_and(|head| head.has_origin),
        };
        let start = self.arena.len();
        write_answer(&mut self.arena, &answer, &to);
        self.me.hot.count_request(NOWHERE, answer.status);
        self.owed.push(Owed { key, what: What::Rendered { start, end: self.arena.len() } });
    }

    /// Refuses outside of parsing: a time limit, the memory limit.
    pub(super) fn refuse(&mut self, key: Key, refusal: Refusal) {
        let Some(conn) = self.connections.get(key) else { return };
        let input = std::mem::take(&mut conn.input);
        self.connections.rebuffered(input.capacity(), 0);
        self.owe_refusal(key, refusal, &input);
        self.settle(key, After::Linger);
    }

    /// Decides what becomes of the connection once what it is owed has left.
    pub(super) fn settle(&mut self, key: Key, after: After) {
        if let Some(conn) = self.connections.get(key) {
            conn.after = after;
            self.owed.push(Owed { key, what: What::Nothing });
        }
    }
}
