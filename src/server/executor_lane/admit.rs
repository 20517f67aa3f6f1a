//! Who asks, whether they may, and what their tenant has left: before the body is kept, after it is whole.

use hyper::body::{Body as _, Incoming};

use super::Lane;
use super::respond::RequestHead;
use crate::api::{self, Endpoint};
use crate::base::clock;
use crate::http::{Credential, Method};
use crate::tenants::{Denied, Now, Principal, Scope};

/// One that was let in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Admitted {
    pub(super) principal: Principal,
    /// Bytes that were charged already, as far as the head tells them.
    charged_bytes: u64,
}

fn now() -> Now {
    Now { unix_us: clock::unix_us(), monotonic_us: clock::monotonic_us() }
}

/// The key a request brings; the same rules as in the hot lane's heads.
fn credential(request: &RequestHead) -> Credential<'_> {
    let given = request.headers.get_all("authorization").iter();
    let bearer = given.fold(Credential::Absent, |found, value| found.and_authorization(value.as_bytes()));
    request.headers.get_all("x-api-key").iter().fold(bearer, |found, value| found.and_key(value.as_bytes()))
}

/// Decides on the head alone; charges the request and the length it names.
pub(super) fn admit(
    lane: &Lane,
    endpoint: Endpoint,
    method: Method,
    request: &RequestHead,
    body: &Incoming,
) -> Result<Admitted, Denied> {
    let need = api::access::need(endpoint, method, request.uri.query());
    let (mut desk, now) = (lane.desk.borrow_mut(), now());
    let principal = desk.authorize(credential(request), need, now)?;
    let charged_bytes = body.size_hint().lower();
    desk.charge(&principal, 1, charged_bytes, now)?;
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
pub(super) fn check_tenant(
    lane: &Lane,
    principal: &Principal,
    tenant: &str,
    scope: Scope,
) -> Result<(), Denied> {
    lane.desk.borrow_mut().authorize_tenant(principal, tenant, scope)
}
