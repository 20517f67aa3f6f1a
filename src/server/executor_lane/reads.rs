//! `GET /events`, `/clicks` and `/metrics?tenant_id=…`: a page, a stream, or counts over time.

use super::Lane;
use super::admit::check_tenant;
use super::body::AnswerBody;
use super::respond::RequestHead;
use crate::api::{self, Endpoint};
use crate::http::Answer;
use crate::query::{self, BucketsPlan, QueryError, RowsPlan};
use crate::shard::read::Of;
use crate::tenants::{Denied, Principal, Scope};

/// What a read is answered with: everything at once, or its head now and rows as they come.
pub(super) enum Read {
    Whole(Answer),
    Rows(Answer, AnswerBody),
}

/// Why a read has no answer.
pub(super) enum NotRead {
    Query(QueryError),
    Denied(Denied),
}

impl From<QueryError> for NotRead {
    fn from(error: QueryError) -> NotRead {
        NotRead::Query(error)
    }
}

impl From<Denied> for NotRead {
    fn from(denied: Denied) -> NotRead {
        NotRead::Denied(denied)
    }
}

/// Whether the request is one of these.
pub(super) fn is_read(endpoint: Endpoint, request: &RequestHead) -> bool {
    match endpoint {
        Endpoint::Events | Endpoint::Clicks => true,
        // Without a tenant it is the page for Prometheus.
        Endpoint::Metrics => api::access::names_tenant(request.uri.query()),
        _ => false,
    }
}

pub(super) async fn read(
    lane: &Lane,
    endpoint: Endpoint,
    request: &RequestHead,
    principal: &Principal,
    head_only: bool,
) -> Result<Read, NotRead> {
    let parameters = request.uri.query();
    let plan = match endpoint {
        Endpoint::Clicks => RowsPlan::clicks(parameters),
        Endpoint::Events => RowsPlan::events(parameters),
        _ => {
            let plan = BucketsPlan::new(parameters).map_err(QueryError::Parameters)?;
            check_tenant(lane, principal, &plan.tenant_id, Scope::Read)?;
            let buckets = query::buckets(&lane.readers, &plan).await?;
            return Ok(Read::Whole(api::reads::buckets(&plan, &buckets)));
        }
    };
    let plan = plan.map_err(QueryError::Parameters)?;
    if let Of::Events { tenant_id, .. } = &plan.filter.of {
        check_tenant(lane, principal, tenant_id, Scope::Read)?;
    }
    if wants_lines(request) {
        let mut rows = query::stream(&lane.readers, &lane.cursors, &plan).await?;
        // The first piece before the head: a shard that cannot be read is still an answer of its own.
        let first = rows.next(usize::MAX).await?;
        let answer = api::reads::lines();
        let body = if head_only { AnswerBody::empty() } else { AnswerBody::rows(first, rows) };
        return Ok(Read::Rows(answer, body));
    }
    let page = query::page(&lane.readers, &lane.cursors, &plan).await?;
    Ok(Read::Whole(api::reads::page(&plan, &page)))
}

fn wants_lines(request: &RequestHead) -> bool {
    let accepts = request.headers.get_all("accept").iter();
    let mut types = accepts.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    types.any(|media| {
        let essence = media.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        essence.eq_ignore_ascii_case(b"application/x-ndjson")
    })
}
