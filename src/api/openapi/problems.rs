//! Problems in the OpenAPI document: one response per status, with a real document as the example for each type.

use std::collections::BTreeMap;

use serde_json::Value;
use utoipa::openapi::example::ExampleBuilder;
use utoipa::openapi::path::{Operation, OperationBuilder};
use utoipa::openapi::{ContentBuilder, Ref, RefOr, Response, ResponseBuilder};

use super::{header, request_id};
use crate::api::problem::{self, Problem};
use crate::event::{Code, DecodeError, Decoder};

const POLICY: &str = "RateLimit-Policy";
const STATE: &str = "RateLimit";

/// Adds these problems to an operation's responses.
pub fn with_problems(operation: OperationBuilder, problems: &[Problem]) -> OperationBuilder {
    let mut operation = operation.build();
    add_problems(&mut operation, problems);
    operation.into()
}

/// Adds these problems to the responses of an operation that is already built. Existing problems remain, and each is
/// listed once.
pub(super) fn add_problems(operation: &mut Operation, problems: &[Problem]) {
    let mut by_status: BTreeMap<u16, Vec<Problem>> = BTreeMap::new();
    for &problem in problems {
        by_status.entry(problem.status()).or_default().push(problem);
    }
    for (status, problems) in by_status {
        let responses = &mut operation.responses.responses;
        let nothing_yet = || ResponseBuilder::new().header("X-Request-Id", request_id()).build().into();
        let response = responses.entry(status.to_string()).or_insert_with(nothing_yet);
        if let RefOr::T(response) = response {
            add(response, status, &problems);
        }
    }
}

/// Returns `true` if the operation's responses include this problem.
pub(super) fn has_problem(operation: &Operation, kind: Problem) -> bool {
    let response = operation.responses.responses.get(&kind.status().to_string());
    let content = match response {
        Some(RefOr::T(response)) => response.content.get(problem::CONTENT_TYPE),
        _ => None,
    };
    matches!(content, Some(RefOr::T(content)) if content.examples.contains_key(kind.slug()))
}

fn add(response: &mut Response, status: u16, problems: &[Problem]) {
    let document = || {
        let schema = Some(Ref::from_schema_name("Problem"));
        ContentBuilder::new().schema(schema).build().into()
    };
    let content = response.content.entry(problem::CONTENT_TYPE.to_owned()).or_insert_with(document);
    let RefOr::T(content) = content else { return };
    for &kind in problems {
        let (slug, title) = (kind.slug(), kind.title());
        let shown = ExampleBuilder::new().summary(title).value(Some(example(kind))).build();
        if content.examples.insert(slug.to_owned(), shown.into()).is_none() {
            let line = format!("- [{slug}](/docs/problems/{slug}): {title}");
            let before = std::mem::take(&mut response.description);
            response.description = if before.is_empty() { line } else { format!("{before}\n{line}") };
        }
    }
    if problems.contains(&Problem::InvalidEvent) {
        let codes: Vec<_> = Code::ALL.iter().map(|code| format!("`{}`", code.as_str())).collect();
        response.description += &format!("\n\nCodes in `errors`: {}.", codes.join(", "));
    }
    let mut tell = |name: &str, meaning: &str| {
        response.headers.entry(name.to_owned()).or_insert_with(|| header(meaning, &[]).into());
    };
    if matches!(status, 429 | 503) {
        tell("Retry-After", "Seconds to wait before a retry.");
    }
    if problems.contains(&Problem::RateLimited) {
        tell(POLICY, "The exhausted quota: `q` units (requests, or content-bytes) in `w` seconds.");
        tell(STATE, "The rest of that quota: `r` units. In `t` seconds there is enough for this request.");
    }
    if status == 401 {
        tell("WWW-Authenticate", "`Bearer realm=\"firehose\"`.");
    }
}

/// Adds the fields that report quotas to the successful responses of charged operations.
pub(super) fn tell_standing(operation: &mut Operation) {
    let policy = "The tenant's quotas, if any: `q` units (requests, or content-bytes) in `w` seconds.";
    let state = "The rest of each quota: `r` units. If none is used, the quota is full again in `t` \
                 seconds.";
    let responses = &mut operation.responses.responses;
    if !matches!(responses.get("429"), Some(RefOr::T(limited)) if limited.headers.contains_key(STATE)) {
        return;
    }
    for (_, response) in responses.iter_mut().filter(|(status, _)| status.starts_with('2')) {
        if let RefOr::T(response) = response {
            response.headers.insert(POLICY.to_owned(), header(policy, &[]).into());
            response.headers.insert(STATE.to_owned(), header(state, &[]).into());
        }
    }
}

/// Returns the document of one problem type, as rendered by [`problem::write`].
pub(super) fn example(kind: Problem) -> Value {
    let mut out = Vec::new();
    let invalid = match kind {
        Problem::InvalidEvent => Decoder::new().click(b"{\"user_id\":\"12345\",\"metadata\":{}}").err(),
        _ => None,
    };
    let (detail, errors) = match &invalid {
        Some(error @ DecodeError::Fields(errors)) => (error.to_string(), &errors[..]),
        _ => (kind.title().to_owned(), &[][..]),
    };
    let extra: &[_] = match kind {
        Problem::QueueFull => {
            &[("queue_size", 1_000_000), ("queue_bytes", 200_000_000), ("expected_delay_seconds", 2)]
        }
        _ => &[],
    };
    let errors: Vec<_> = errors.iter().map(problem::ErrorItem::from).collect();
    problem::write(&mut out, kind, &detail, "6f1c2f0a9d3e4b57", &errors, extra);
    serde_json::from_slice(&out).unwrap_or_default()
}
