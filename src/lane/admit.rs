//! Request admission: authentication, authorization and quotas. One part runs before the body is stored, and the
//! other part once the body is complete.

use std::sync::Arc;
use std::time::Duration;

use hyper::body::{Body as _, Incoming};
use hyper::header::{AUTHORIZATION, HeaderName};

use super::call::{Reply, RequestHead};
use super::state::Lane;
use crate::api;
use crate::base::clock;
use crate::cores::executor;
use crate::http::Credential;
use crate::tenants::{Denied, Now, Principal, Scope};

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// An admitted request.
#[derive(Clone, Copy, Debug)]
pub struct Admitted {
    pub principal: Principal,
    /// The bytes that were already charged, if the head declares them.
    charged_bytes: u64,
}

pub fn now() -> Now {
    Now { unix_us: clock::unix_us(), monotonic_us: clock::monotonic_us() }
}

/// Returns a request's key. The rules are the same as in the hot lane.
fn credential(request: &RequestHead) -> Credential<'_> {
    let given = request.headers.get_all(AUTHORIZATION).iter();
    let bearer = given.fold(Credential::Absent, |found, value| found.and_authorization(value.as_bytes()));
    request.headers.get_all(&X_API_KEY).iter().fold(bearer, |found, value| found.and_key(value.as_bytes()))
}

/// Admits a request by its head alone. Charges the request and the length that the head declares.
pub fn admit(lane: &Lane, request: &RequestHead, body: &Incoming) -> Result<Admitted, Denied> {
    let now = now();
    request.charge_address(lane, now)?;
    let mut desk = lane.desk.borrow_mut();
    let principal = desk.authorize(credential(request), request.found.need(), now)?;
    // A streamed body is charged as it arrives.
    let charged_bytes = if request.found.streams_in() { 0 } else { body.size_hint().lower() };
    desk.charge(&principal, 1, charged_bytes, now)?;
    request.payer.set(desk.payer(&principal, None));
    Ok(Admitted { principal, charged_bytes })
}

/// Charges the bytes that the head did not declare: those of a chunked body.
pub(super) fn charge_rest(lane: &Lane, admitted: &Admitted, body_bytes: usize) -> Result<(), Denied> {
    match (body_bytes as u64).checked_sub(admitted.charged_bytes) {
        None | Some(0) => Ok(()),
        Some(rest) => lane.desk.borrow_mut().charge(&admitted.principal, 0, rest, now()),
    }
}

/// Checks that the principal has this scope for the tenant that the request names.
pub fn check_tenant(lane: &Lane, principal: &Principal, tenant: &str, scope: Scope) -> Result<(), Denied> {
    lane.desk.borrow_mut().authorize_tenant(principal, tenant, scope)
}

/// Charges a request to the tenant in its path, if its key is not bound to a tenant.
pub fn charge_tenant(
    lane: &Lane,
    request: &RequestHead,
    principal: &Principal,
    tenant: &str,
    bytes: u64,
) -> Result<(), Denied> {
    let mut desk = lane.desk.borrow_mut();
    desk.charge_tenant(principal, tenant, bytes, now())?;
    request.payer.set(desk.payer(principal, Some(tenant)));
    Ok(())
}

/// Adds the state of the charged tenant's quotas to the response. Responses to clicks do not contain it, because the
/// hot lane sends most of them and reports quotas only in refusals.
pub(super) fn with_standing(lane: &Lane, request: &RequestHead, reply: Reply) -> Reply {
    match request.payer.get() {
        Some(payer) if !request.found.is_hot => {
            let standing = lane.desk.borrow_mut().standing(payer, now());
            Reply { answer: api::access::standing(reply.answer, standing), ..reply }
        }
        _ => reply,
    }
}

/// Charges a body's bytes as they arrive. If the tenant's budget is exhausted, waits until there is budget again.
pub async fn charge_as_it_comes(lane: &Lane, principal: &Principal, bytes: u64) {
    let mut left = bytes;
    while left > 0 {
        let part = left.min(lane.desk.borrow_mut().bytes_at_once(principal));
        // This is a separate statement, because the desk must not remain borrowed during the wait.
        let charged = lane.desk.borrow_mut().charge(principal, 0, part, now());
        match charged {
            Err(Denied::Limited(limited)) => {
                let wait = Duration::from_nanos(limited.wait_ns).clamp(WAIT_MIN, WAIT_MAX);
                executor::sleep(wait).await;
            }
            _ => left -= part,
        }
    }
}

/// The shortest wait between two attempts to charge.
const WAIT_MIN: Duration = Duration::from_millis(1);
/// The longest wait between two attempts to charge. It is limited because a waiting body may have to be stopped.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// Returns the tenant that the key is bound to.
pub fn tenant_of(lane: &Lane, request: &RequestHead, principal: &Principal) -> Option<Arc<str>> {
    let tenant = lane.desk.borrow_mut().tenant_of(principal)?;
    Some(request.owner.get_or_init(|| tenant).clone())
}
