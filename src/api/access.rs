//! What each endpoint asks of a key, decided once for both lanes, and what those are told who have none.

use super::Endpoint;
use super::error::problem;
use super::problem::Problem;
use crate::base::counters::Cell;
use crate::http::{Answer, Method};
use crate::tenants::{Denied, Limited, Need, Quota, Scope, Standing};

/// What a request to an endpoint needs. What only says that there is no such thing (404, 405), and OPTIONS, is
/// open.
#[inline]
#[must_use]
pub fn need(endpoint: Endpoint, method: Method, query: Option<&str>) -> Need {
    let is_get = matches!(method, Method::Get | Method::Head);
    // Every endpoint by name: a new one has to say what it needs.
    match endpoint {
        Endpoint::Event | Endpoint::EventsBulk if method == Method::Post => Need::Scope(Scope::Write),
        Endpoint::Events if method == Method::Post => Need::Scope(Scope::Write),
        Endpoint::Events if is_get => Need::Scope(Scope::Read),
        // Clicks are no one tenant's.
        Endpoint::Clicks if is_get => Need::AllTenants(Scope::Read),
        Endpoint::Metrics if is_get && names_tenant(query) => Need::Scope(Scope::Read),
        // The server's own.
        Endpoint::Metrics | Endpoint::DashboardState if is_get => Need::AllTenants(Scope::Read),
        // Another method of these is answered with 405.
        Endpoint::Event | Endpoint::EventsBulk | Endpoint::Events | Endpoint::Clicks | Endpoint::Metrics => {
            Need::Nothing
        }
        Endpoint::DashboardState => Need::Nothing,
        Endpoint::OrdersIngest | Endpoint::OrderUploads if method == Method::Post => {
            Need::Scope(Scope::Write)
        }
        Endpoint::OrderUpload if matches!(method, Method::Patch | Method::Delete) || is_get => {
            Need::Scope(Scope::Write)
        }
        Endpoint::Order if method == Method::Patch => Need::Scope(Scope::Write),
        Endpoint::StockUpdate if method == Method::Put => Need::Scope(Scope::Write),
        Endpoint::OrderSearch | Endpoint::Sales | Endpoint::Stock if is_get => Need::Scope(Scope::Read),
        Endpoint::PriceEvent | Endpoint::PriceReview if method == Method::Post => Need::Scope(Scope::Write),
        Endpoint::PriceAnomalies | Endpoint::ProductAnomalies if is_get => Need::Scope(Scope::Read),
        Endpoint::PriceEvent
        | Endpoint::PriceReview
        | Endpoint::PriceAnomalies
        | Endpoint::ProductAnomalies => Need::Nothing,
        // An export is a way to read: whoever may make one may remove it.
        Endpoint::Exports if is_get || method == Method::Post => Need::Scope(Scope::Read),
        Endpoint::Export if is_get || method == Method::Delete => Need::Scope(Scope::Read),
        Endpoint::ExportDownload if is_get => Need::Scope(Scope::Read),
        Endpoint::Exports | Endpoint::Export | Endpoint::ExportDownload => Need::Nothing,
        Endpoint::Customer if method == Method::Delete => Need::Scope(Scope::Admin),
        Endpoint::Erasure if is_get => Need::Scope(Scope::Admin),
        // Clicks are no one tenant's.
        Endpoint::ClickUser if method == Method::Delete => Need::AllTenants(Scope::Admin),
        Endpoint::ClickErasure if is_get => Need::AllTenants(Scope::Admin),
        Endpoint::OrdersIngest
        | Endpoint::OrderUploads
        | Endpoint::OrderUpload
        | Endpoint::Order
        | Endpoint::OrderSearch
        | Endpoint::Sales
        | Endpoint::StockUpdate
        | Endpoint::Stock
        | Endpoint::Customer
        | Endpoint::Erasure
        | Endpoint::ClickUser
        | Endpoint::ClickErasure => Need::Nothing,
        Endpoint::Receipt
        | Endpoint::Health
        | Endpoint::Ready
        | Endpoint::OpenApi
        | Endpoint::Docs
        | Endpoint::Dashboard
        | Endpoint::Root
        | Endpoint::Unknown => Need::Nothing,
    }
}

/// Whether `/metrics` is asked for a tenant's counts, and not for the page for Prometheus.
#[must_use]
pub fn names_tenant(query: Option<&str>) -> bool {
    query.unwrap_or_default().split('&').any(|pair| pair.split('=').next() == Some("tenant_id"))
}

/// The answer to a request that is not let in: 401, 403 or 429.
#[must_use]
pub fn denied(denied: Denied, request_id: &str, problems: &[Cell]) -> Answer {
    let kind = match denied {
        Denied::NoKey | Denied::UnusableKey | Denied::UnknownKey | Denied::Expired | Denied::Revoked => {
            Problem::Unauthorized
        }
        Denied::Scope(_) | Denied::Tenant | Denied::AllTenants => Problem::Forbidden,
        Denied::Limited(_) => Problem::RateLimited,
    };
    let answer = problem(kind, denied.detail(), request_id, &[], &[], problems);
    match denied {
        // RFC 6750 §3: no error code where no key was given.
        Denied::NoKey => answer.with("WWW-Authenticate", "Bearer realm=\"firehose\""),
        Denied::Limited(limited) => limits(answer, &limited),
        _ if kind == Problem::Unauthorized => {
            answer.with("WWW-Authenticate", "Bearer realm=\"firehose\", error=\"invalid_token\"")
        }
        _ => answer,
    }
}

/// The fields of draft-ietf-httpapi-ratelimit-headers-10: the policy that was violated, and where it stands.
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
        // The unit that is meant where none is named.
        Quota::Requests => ("requests", ""),
        Quota::Bytes => ("bytes", ";qu=\"content-bytes\""),
        Quota::PriceEvents => ("price-events", ""),
        Quota::ProductEvents => ("product-price-events", ""),
    }
}

/// The same fields where nothing was violated, of every quota there is. What a refusal has said already stands.
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

    #[test]
    fn every_endpoint_asks_for_what_it_gives() {
        use Method::{Delete, Get, Head, Options, Other, Post, Put};
        let methods = [Get, Head, Post, Put, Delete, Options, Other];
        for endpoint in Endpoint::ALL {
            for method in methods {
                let asked = need(endpoint, method, None);
                let is_get = matches!(method, Method::Get | Method::Head);
                let expected = match endpoint {
                    _ if matches!(method, Method::Options | Method::Other) => Need::Nothing,
                    _ if endpoint.takes_events() && method == Method::Post => Need::Scope(Scope::Write),
                    Endpoint::Events if is_get => Need::Scope(Scope::Read),
                    Endpoint::Clicks | Endpoint::Metrics | Endpoint::DashboardState if is_get => {
                        Need::AllTenants(Scope::Read)
                    }
                    Endpoint::OrdersIngest | Endpoint::OrderUploads if method == Method::Post => {
                        Need::Scope(Scope::Write)
                    }
                    Endpoint::PriceEvent | Endpoint::PriceReview if method == Method::Post => {
                        Need::Scope(Scope::Write)
                    }
                    Endpoint::PriceAnomalies | Endpoint::ProductAnomalies if is_get => {
                        Need::Scope(Scope::Read)
                    }
                    Endpoint::OrderSearch | Endpoint::Sales | Endpoint::Stock if is_get => {
                        Need::Scope(Scope::Read)
                    }
                    Endpoint::StockUpdate if method == Method::Put => Need::Scope(Scope::Write),
                    Endpoint::Exports if is_get || method == Method::Post => Need::Scope(Scope::Read),
                    Endpoint::Export if is_get || method == Method::Delete => Need::Scope(Scope::Read),
                    Endpoint::ExportDownload if is_get => Need::Scope(Scope::Read),
                    Endpoint::OrderUpload if is_get || method == Method::Delete => Need::Scope(Scope::Write),
                    Endpoint::Customer if method == Method::Delete => Need::Scope(Scope::Admin),
                    Endpoint::ClickUser if method == Method::Delete => Need::AllTenants(Scope::Admin),
                    Endpoint::Erasure if is_get => Need::Scope(Scope::Admin),
                    Endpoint::ClickErasure if is_get => Need::AllTenants(Scope::Admin),
                    _ => Need::Nothing,
                };
                assert_eq!(asked, expected, "{endpoint:?} {method:?}");
            }
        }
        let of = |query| need(Endpoint::Metrics, Method::Get, Some(query));
        assert_eq!(of("bucket_size=day&tenant_id=a"), Need::Scope(Scope::Read));
        // Spelt otherwise it is not what the reader takes for a tenant's counts either.
        for query in ["", "tenant=a", "tenant%5Fid=a", "x=tenant_id"] {
            assert_eq!(of(query), Need::AllTenants(Scope::Read), "{query}");
        }
    }

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
