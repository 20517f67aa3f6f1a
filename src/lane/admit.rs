//! Who asks, whether they may, and what their tenant has left: before the body is kept, after it is whole.

use std::sync::Arc;
use std::time::Duration;

use hyper::body::{Body as _, Incoming};

use super::call::{Reply, RequestHead};
use super::state::Lane;
use crate::api;
use crate::base::clock;
use crate::cores::executor;
use crate::http::Credential;
use crate::tenants::{Denied, Now, Principal, Scope};

/// One that was let in.
#[derive(Clone, Copy, Debug)]
pub struct Admitted {
    pub principal: Principal,
    /// Bytes that were charged already, as far as the head tells them.
    charged_bytes: u64,
}

pub fn now() -> Now {
    Now { unix_us: clock::unix_us(), monotonic_us: clock::monotonic_us() }
}

/// The key a request brings; the same rules as in the hot lane's heads.
fn credential(request: &RequestHead) -> Credential<'_> {
    let given = request.headers.get_all("authorization").iter();
    let bearer = given.fold(Credential::Absent, |found, value| found.and_authorization(value.as_bytes()));
    request.headers.get_all("x-api-key").iter().fold(bearer, |found, value| found.and_key(value.as_bytes()))
}

/// Decides on the head alone; charges the request and the length it names.
pub fn admit(lane: &Lane, request: &RequestHead, body: &Incoming) -> Result<Admitted, Denied> {
    let now = now();
    request.charge_address(lane, now)?;
    let mut desk = lane.desk.borrow_mut();
    let principal = desk.authorize(credential(request), request.found.need(), now)?;
    // A body that is taken in as it comes is charged as it comes.
    let charged_bytes = if request.found.streams_in() { 0 } else { body.size_hint().lower() };
    desk.charge(&principal, 1, charged_bytes, now)?;
    request.payer.set(desk.payer(&principal, None));
    Ok(Admitted { principal, charged_bytes })
}

/// Charges what the head did not tell: the bytes of a chunked body.
pub(super) fn charge_rest(lane: &Lane, admitted: &Admitted, body_bytes: usize) -> Result<(), Denied> {
    match (body_bytes as u64).checked_sub(admitted.charged_bytes) {
        None | Some(0) => Ok(()),
        Some(rest) => lane.desk.borrow_mut().charge(&admitted.principal, 0, rest, now()),
    }
}

/// Whether the principal may do this to the tenant that the request names.
pub fn check_tenant(lane: &Lane, principal: &Principal, tenant: &str, scope: Scope) -> Result<(), Denied> {
    lane.desk.borrow_mut().authorize_tenant(principal, tenant, scope)
}

/// Charges a request to the tenant that its path names, where its key is not bound to one.
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

/// The answer, with where the quotas of the tenant stand that was charged for it. Not to a click: those are mostly
/// answered on the hot lane, which says it in refusals only.
pub(super) fn with_standing(lane: &Lane, request: &RequestHead, reply: Reply) -> Reply {
    match request.payer.get() {
        Some(payer) if !request.found.is_hot => {
            let standing = lane.desk.borrow_mut().standing(payer, now());
            Reply { answer: api::access::standing(reply.answer, standing), ..reply }
        }
        _ => reply,
    }
}

/// Charges bytes of a body as they come; where the tenant has none left, waits until it has.
pub async fn charge_as_it_comes(lane: &Lane, principal: &Principal, bytes: u64) {
    let mut left = bytes;
    while left > 0 {
        let part = left.min(lane.desk.borrow_mut().bytes_at_once(principal));
        // By itself: the desk must not stay borrowed while this waits.
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

/// Between two looks whether there are bytes again: a body that waits may still be stopped.
const WAIT_MIN: Duration = Duration::from_millis(1);
const WAIT_MAX: Duration = Duration::from_secs(1);

/// The tenant that the key is bound to.
pub fn tenant_of(lane: &Lane, request: &RequestHead, principal: &Principal) -> Option<Arc<str>> {
    let tenant = lane.desk.borrow_mut().tenant_of(principal)?;
    Some(request.owner.get_or_init(|| tenant).clone())
}
