//! A request's body as it arrives, charged to its tenant and subject to its time limit.

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use crate::api::write::WriteRefused;
use crate::base::clock;
use crate::http::Refusal;
use crate::lane::{Lane, SharedGate, charge_as_it_comes};
use crate::tenants::Principal;

/// The number of bytes after which a streamed body has earned its full time limit again.
const PACE_BYTES: u64 = 64 * 1024;

/// A request's body as it arrives.
pub struct Frames<'g> {
    pub lane: &'g Lane,
    principal: Principal,
    body: Incoming,
    gate: &'g SharedGate,
    pace: Pace,
    /// The time when the last read of the body ended.
    left_us: u64,
}

/// The minimum speed of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// At least [`PACE_BYTES`] within a body's time limit. If the body is cut off, the client sends it again
    /// from its start.
    Steady,
    /// Any speed, as long as no pause is longer than the time limit. The server keeps what has arrived.
    AnyButResting,
}

impl<'g> Frames<'g> {
    pub fn new(
        lane: &'g Lane,
        principal: Principal,
        body: Incoming,
        gate: &'g SharedGate,
        pace: Pace,
    ) -> Frames<'g> {
        Frames { lane, principal, body, gate, pace, left_us: clock::monotonic_us() }
    }

    /// Returns the next bytes, or `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, WriteRefused> {
        // Time spent waiting for rows to be committed does not count against the sender.
        self.gate.borrow_mut().allow(clock::monotonic_us() - self.left_us);
        let next = self.read().await;
        self.left_us = clock::monotonic_us();
        next
    }

    async fn read(&mut self) -> Result<Option<Bytes>, WriteRefused> {
        let begun_us = clock::monotonic_us();
        while let Some(frame) = self.body.frame().await {
            let Ok(frame) = frame else {
                let refusal = self.gate.borrow().refused();
                return Err(WriteRefused::Refusal(refusal.unwrap_or(Refusal::BodyIncomplete)));
            };
            if let Ok(data) = frame.into_data()
                && !data.is_empty()
            {
                let body_us = self.lane.times.body.as_micros() as u64;
                let earned_us = match self.pace {
                    Pace::Steady => body_us * data.len() as u64 / PACE_BYTES,
                    Pace::AnyButResting => clock::monotonic_us() - begun_us,
                };
                self.gate.borrow_mut().allow(earned_us);
                let asked_us = clock::monotonic_us();
                charge_as_it_comes(self.lane, &self.principal, data.len() as u64).await;
                self.gate.borrow_mut().allow(clock::monotonic_us() - asked_us);
                return Ok(Some(data));
            }
        }
        Ok(None)
    }
}
