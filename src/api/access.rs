//! Responses to refused requests, and the headers that report quotas.

use super::error::problem;
use super::problem::Problem;
use crate::base::counters::Cell;
use crate::http::Answer;
use crate::tenants::{Denied, Limited, Quota, Standing};

/// Returns the response to a refused request: 401, 403 or 429.
#[must_use]
pub fn denied(denied: Denied, request_id: &str, problems: &[Cell]) -> Answer {
    let kind = match denied {
        Denied::NoKey | Denied::UnusableKey | Denied::UnknownKey | Denied::Expired | Denied::Revoked => {
            Problem::Unauthorized
        }
        Denied::Scope(_) | Denied::EitherScope(..) | Denied::Tenant | Denied::AllTenants => {
            Problem::Forbidden
        }
        Denied::Limited(_) => Problem::RateLimited,
    };
    let answer = problem(kind, denied.detail(), request_id, &[], &[], problems);
    match denied {
        // RFC 6750 §3: there is no error code if the request has no key.
        Denied::NoKey => answer.with("WWW-Authenticate", "Bearer realm=\"firehose\""),
        Denied::Limited(limited) => limits(answer, &limited),
        _ if kind == Problem::Unauthorized => {
            answer.with("WWW-Authenticate", "Bearer realm=\"firehose\", error=\"invalid_token\"")
        }
        _ => answer,
    }
}

/// Adds the fields of draft-ietf-httpapi-ratelimit-headers-10: the violated policy, and its state.
fn limits(answer: Answer, limited: &Limited) -> Answer {
    let Limited { quota, capacity, window_s, available, .. } = *limited;
    let wait_s = limited.wait_s();
    answer
        .with("Retry-After", wait_s.to_string())
        .with(POLICY, policy(quota, capacity, window_s))
        .with(STATE, state(quota, available, wait_s))
}

const POLICY: &str = "RateLimit-Policy";
const STATE: &str = "RateLimit";

fn policy(quota: Quota, capacity: u64, window_s: u64) -> String {
    let (name, unit) = named(quota);
    format!("\"{name}\";q={capacity}{unit};w={window_s}")
}

fn state(quota: Quota, available: u64, seconds: u64) -> String {
    let (name, _) = named(quota);
    format!("\"{name}\";r={available};t={seconds}")
}

fn named(quota: Quota) -> (&'static str, &'static str) {
    match quota {
        // This is the draft's default unit.
        Quota::Requests => ("requests", ""),
        Quota::Bytes => ("bytes", ";qu=\"content-bytes\""),
        Quota::PriceEvents => ("price-events", ""),
        Quota::ProductEvents => ("product-price-events", ""),
        Quota::Address => ("address", ""),
    }
}

/// Adds the quota fields to a response that violated no quota, for every quota that exists. A refusal keeps its own
/// fields.
#[must_use]
pub fn standing(answer: Answer, quotas: [Option<Standing>; 2]) -> Answer {
    let quotas: Vec<Standing> = quotas.into_iter().flatten().collect();
    if quotas.is_empty() || answer.headers.iter().any(|(name, _)| *name == STATE) {
        return answer;
    }
    let list = |of: &dyn Fn(&Standing) -> String| quotas.iter().map(of).collect::<Vec<_>>().join(", ");
    let policies = list(&|one| policy(one.quota, one.capacity, one.window_s));
    answer.with(POLICY, policies).with(STATE, list(&|one| state(one.quota, one.available, one.full_s)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tenants::Scope;

    #[test]
    fn a_refusal_says_who_must_do_what() {
        let header = |answer: &Answer, name| {
            answer.headers.iter().find(|(known, _)| *known == name).map(|(_, value)| value.to_string())
        };
        for (reason, status, challenge) in [
            (Denied::NoKey, 401, Some("Bearer realm=\"firehose\"")),
            (Denied::UnknownKey, 401, Some("Bearer realm=\"firehose\", error=\"invalid_token\"")),
            (Denied::Revoked, 401, Some("Bearer realm=\"firehose\", error=\"invalid_token\"")),
            (Denied::Scope(Scope::Read), 403, None),
            (Denied::AllTenants, 403, None),
        ] {
            let answer = denied(reason, "r", &[]);
            assert_eq!((answer.status, header(&answer, "WWW-Authenticate").as_deref()), (status, challenge));
        }
        let limited =
            |quota| Limited { quota, capacity: 200, window_s: 2, available: 7, wait_ns: 1_000_000_001 };
        let answer = denied(Denied::Limited(limited(Quota::Requests)), "r", &[]);
        assert_eq!(answer.status, 429);
        assert_eq!(header(&answer, "Retry-After").as_deref(), Some("2"));
        assert_eq!(header(&answer, "RateLimit-Policy").as_deref(), Some("\"requests\";q=200;w=2"));
        assert_eq!(header(&answer, "RateLimit").as_deref(), Some("\"requests\";r=7;t=2"));
        let answer = denied(Denied::Limited(limited(Quota::Bytes)), "r", &[]);
        let policy = header(&answer, "RateLimit-Policy");
        assert_eq!(policy.as_deref(), Some("\"bytes\";q=200;qu=\"content-bytes\";w=2"));

        let quota = |quota| Some(Standing { quota, capacity: 50, window_s: 5, available: 31, full_s: 2 });
        let both = [quota(Quota::Requests), quota(Quota::Bytes)];
        assert_eq!(standing(answer.clone(), both).headers, answer.headers, "a refusal names its own");
        let told = standing(Answer::default(), both);
        assert_eq!(
            header(&told, "RateLimit-Policy").as_deref(),
            Some("\"requests\";q=50;w=5, \"bytes\";q=50;qu=\"content-bytes\";w=5")
        );
        assert_eq!(header(&told, "RateLimit").as_deref(), Some("\"requests\";r=31;t=2, \"bytes\";r=31;t=2"));
        let told = standing(Answer::default(), [None, quota(Quota::Bytes)]);
        assert_eq!(header(&told, "RateLimit").as_deref(), Some("\"bytes\";r=31;t=2"));
        assert_eq!(standing(Answer::default(), [None; 2]).headers, []);
    }
}
