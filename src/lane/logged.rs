//! The log line of a response. Each ingest, upload, status change, review, export and erasure gets one. For events,
//! prices and stock, only the first response of each status in a second gets one, so that a refusal remains visible
//! among many other responses.
//!
//! Never: logs a body's content, or a credential.

use std::cell::RefCell;
use std::collections::HashMap;

use super::call::RequestHead;
use super::state::Lane;
use crate::api::Logged;
use crate::api::request::idempotency_key;

/// The time between two log lines of one sampled route and status.
const SAMPLE_US: u64 = 1_000_000;

/// The time of the last log line for each route and status.
#[derive(Debug, Default)]
pub struct Samples(RefCell<HashMap<(usize, u16), u64>>);

impl Samples {
    /// Returns `true` if this response is the first in a second.
    fn is_first(&self, row: usize, status: u16, now_us: u64) -> bool {
        let mut last = self.0.borrow_mut();
        let is_first = last.get(&(row, status)).is_none_or(|at_us| now_us >= at_us + SAMPLE_US);
        if is_first {
            last.insert((row, status), now_us);
        }
        is_first
    }
}

pub(super) fn answered(lane: &Lane, request: &RequestHead, status: u16, duration_us: u64) {
    let (found, request_id) = (&request.found, &request.id);
    let now_us = request.started_us + duration_us;
    let is_line = match found.operation.map_or(Logged::Never, |operation| operation.logged) {
        Logged::Each => true,
        Logged::Sampled => lane.samples.is_first(found.row, status, now_us),
        Logged::Never => false,
    };
    let route = found.route();
    if !is_line {
        return tracing::debug!(request_id, route, status, duration_us, "answered");
    }
    if !tracing::enabled!(tracing::Level::INFO) {
        return;
    }
    let method = request.method_name();
    let in_path = Some(&*request.tenant).filter(|tenant| !tenant.is_empty());
    let tenant = in_path.or_else(|| request.owner.get().map(|tenant| &**tenant));
    let idempotency_key = idempotency_key(&request.headers).ok();
    let (idempotency_key, rows) = (idempotency_key.as_deref(), request.rows.get());
    tracing::info!(request_id, tenant, method, route, status, duration_us, idempotency_key, rows, "answered");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_each_status_in_a_second_is_logged() {
        let samples = Samples::default();
        let first = |row, status, now_us| samples.is_first(row, status, now_us);
        assert!(first(1, 201, 0) && !first(1, 201, 999_999));
        assert!(first(1, 429, 10) && first(2, 201, 10), "another status and another route are others");
        assert!(first(1, 201, 1_000_000) && !first(1, 429, 1_000_009) && first(1, 429, 1_000_010));
    }
}
