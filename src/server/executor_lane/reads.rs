//! `GET /events`, `/clicks` and `/metrics?tenant_id=…`: a page, a stream, or counts over time.

use super::Lane;
use super::admit::{charge_tenant, check_tenant};
use super::body::{AnswerBody, Broken, Pieces};
use super::respond::RequestHead;
use crate::api::{self, Endpoint};
use crate::base::clock;
use crate::commerce::{Materialized, SalesPlan, SearchPlan};
use crate::http::Answer;
use crate::query::{self, BucketsPlan, QueryError, RowsPlan, Search, Shape};
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
        Endpoint::Events | Endpoint::Clicks | Endpoint::OrderSearch | Endpoint::Sales => true,
        Endpoint::PriceAnomalies | Endpoint::ProductAnomalies => true,
        // Without a tenant it is the page for Prometheus.
        Endpoint::Metrics => api::access::names_tenant(request.uri.query()),
        _ => false,
    }
}

pub(super) async fn read(
    lane: &Lane,
    endpoint: Endpoint,
    tenant_id: &str,
    request: &RequestHead,
    principal: &Principal,
    head_only: bool,
) -> Result<Read, NotRead> {
    let parameters = request.uri.query();
    let plan = match endpoint {
        Endpoint::Clicks => RowsPlan::clicks(parameters),
        Endpoint::Events => RowsPlan::events(parameters),
        Endpoint::Sales | Endpoint::OrderSearch => {
            check_tenant(lane, principal, tenant_id, Scope::Read)?;
            charge_tenant(lane, request, principal, tenant_id, 0)?;
            return Ok(match endpoint {
                Endpoint::Sales => sales(lane, tenant_id, parameters).await?,
                _ => search(lane, tenant_id, request, head_only).await?,
            });
        }
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
        let rows = Pieces::Merged(Box::new(query::stream(&lane.readers, &lane.cursors, &plan).await?));
        return Ok(streamed(api::reads::lines(), rows, head_only).await?);
    }
    let page = query::page(&lane.readers, &lane.cursors, &plan).await?;
    Ok(Read::Whole(api::reads::page(&plan, &page)))
}

/// The first piece before the head: a shard that cannot be read is still an answer of its own.
async fn streamed(answer: Answer, mut rows: Pieces, head_only: bool) -> Result<Read, QueryError> {
    let first = rows.next().await.map_err(|broken| match broken {
        Broken::Query(error) => error,
        // No read is of an export.
        Broken::Export(_) => QueryError::Busy,
    })?;
    let body = if head_only { AnswerBody::empty() } else { AnswerBody::rows(first, rows) };
    Ok(Read::Rows(answer, body))
}

/// Figures of the tenant in the path: kept ones where no order has changed since.
async fn sales(lane: &Lane, tenant_id: &str, parameters: Option<&str>) -> Result<Read, QueryError> {
    let started_us = clock::monotonic_us();
    let plan = SalesPlan::new(tenant_id, parameters).map_err(QueryError::Parameters)?;
    // Before the sales: what changes in between makes the answer old, never wrong.
    let versions = query::sales_versions(&lane.readers, tenant_id).await?;
    let took_us = || clock::monotonic_us() - started_us;
    let kept = lane.sales.borrow_mut().get(&plan.key, &versions).map(|kept| kept.json(true, took_us()));
    let body = match kept {
        Some(body) => body,
        None => {
            let as_of_us = clock::unix_us();
            let result = query::sales(&lane.readers, &plan.query).await?;
            let made = Materialized::new(&plan, &result, as_of_us);
            let body = made.json(false, took_us());
            lane.sales.borrow_mut().put(plan.key, versions, made);
            body
        }
    };
    Ok(Read::Whole(Answer::new(200, "application/json", body).with("Cache-Control", "no-store")))
}

/// Orders of the tenant in the path.
async fn search(
    lane: &Lane,
    tenant_id: &str,
    request: &RequestHead,
    head_only: bool,
) -> Result<Read, QueryError> {
    let plan = SearchPlan::new(tenant_id, request.uri.query()).map_err(QueryError::Parameters)?;
    let wants_object = accepts(request, b"application/json") && !wants_lines(request);
    let shape = if wants_object { Shape::Object } else { Shape::Lines };
    let SearchPlan { filter, limit, cursor } = plan;
    let (readers, key) = (&lane.readers, &lane.cursors);
    let search = Search::begin(readers, key, filter, limit, cursor.as_deref(), shape).await?;
    let answer = match shape {
        Shape::Lines => api::reads::lines(),
        Shape::Object => Answer::new(200, "application/json", &b""[..]).with("Cache-Control", "no-store"),
    };
    streamed(answer, Pieces::Search(Box::new(search)), head_only).await
}

fn wants_lines(request: &RequestHead) -> bool {
    accepts(request, b"application/x-ndjson")
}

/// Whether the request names this media type.
pub(super) fn accepts(request: &RequestHead, wanted: &[u8]) -> bool {
    let accepts = request.headers.get_all("accept").iter();
    let mut types = accepts.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    types.any(|media| {
        let essence = media.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        essence.eq_ignore_ascii_case(wanted)
    })
}
