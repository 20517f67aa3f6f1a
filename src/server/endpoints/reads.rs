//! `GET /events`, `/clicks` and `/metrics?tenant_id=…`: a page, a stream, or counts over time. Also orders and sales
//! of a tenant.

use std::cell::RefCell;

use crate::api;
use crate::api::commerce::OrderNotRead;
use crate::api::error::{Asker, Refuse};
use crate::base::clock;
use crate::commerce::{Materialized, SalesCache, SalesPlan, SearchPlan, one_order};
use crate::events::EventsOf;
use crate::http::{Answer, Media};
use crate::lane::Body;
use crate::lane::Component;
use crate::lane::check_tenant;
use crate::lane::{AnswerBody, Broken, NextBytes, Pieces};
use crate::lane::{Call, Reply};
use crate::query::Of;
use crate::query::{self, BucketsPlan, Merged, QueryError, RowsPlan, Search, Shape};
use crate::tenants::{Denied, Scope};

const LINES: Media = Media::new("application/x-ndjson");
const JSON: Media = Media::new("application/json");

/// Why a read has no answer.
pub(in crate::server) enum NotRead {
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

impl Refuse for NotRead {
    fn answer(&self, asker: &Asker<'_>) -> Answer {
        match self {
            NotRead::Query(error) => error.answer(asker),
            NotRead::Denied(denied) => denied.answer(asker),
        }
    }
}

/// Handles `GET /events` for the tenant that the query names.
pub(in crate::server) async fn events(call: Call<'_>, _: Body<'_>) -> Result<Reply, NotRead> {
    let plan = RowsPlan::events(call.query()).map_err(QueryError::Parameters)?;
    if let Of::Events(EventsOf { tenant_id, .. }) = &plan.filter.of {
        check_tenant(call.lane, &call.principal, tenant_id, Scope::Read)?;
    }
    Ok(rows(&call, plan).await?)
}

/// Handles `GET /clicks`.
pub(in crate::server) async fn clicks(call: Call<'_>, _: Body<'_>) -> Result<Reply, QueryError> {
    let plan = RowsPlan::clicks(call.query()).map_err(QueryError::Parameters)?;
    rows(&call, plan).await
}

/// Handles `GET /metrics?tenant_id=…`: counts over time.
pub(in crate::server) async fn buckets(call: Call<'_>, _: Body<'_>) -> Result<Answer, NotRead> {
    let plan = BucketsPlan::new(call.query()).map_err(QueryError::Parameters)?;
    check_tenant(call.lane, &call.principal, &plan.tenant_id, Scope::Read)?;
    let buckets = query::buckets(&call.lane.readers, &plan).await?;
    Ok(api::reads::buckets(&plan, &buckets))
}

/// Returns a page, or all rows as lines.
async fn rows(call: &Call<'_>, plan: RowsPlan) -> Result<Reply, QueryError> {
    let lane = call.lane;
    if call.request.preferred(&[LINES, JSON], 1) == 0 {
        let rows = query::stream(&lane.readers, &lane.cursors, &plan).await?;
        return streamed(api::reads::lines(), rows, call.is_head()).await;
    }
    let page = query::page(&lane.readers, &lane.cursors, &plan).await?;
    Ok(api::reads::page(&plan, &page).into())
}

impl Pieces for Merged {
    fn next(&mut self) -> NextBytes<'_> {
        Box::pin(async { Ok(Merged::next(self, usize::MAX).await?.map(|chunk| chunk.bytes)) })
    }
}

impl Pieces for Search {
    fn next(&mut self) -> NextBytes<'_> {
        Box::pin(async { Ok(Search::next(self).await?) })
    }
}

/// Figures of earlier responses of this core, valid until an order changes them.
#[derive(Default)]
pub(in crate::server) struct KeptSales(RefCell<SalesCache>);

impl Component for KeptSales {}

/// Streams rows. The first piece is read before the head is sent, so that a shard that cannot be read still has its
/// own response.
async fn streamed(
    answer: Answer,
    mut rows: impl Pieces + 'static,
    head_only: bool,
) -> Result<Reply, QueryError> {
    let first = rows.next().await.map_err(|broken| match broken {
        Broken::Query(error) => error,
        // Nothing has ended or was compressed yet.
        Broken::Ended(_) | Broken::Packing(_) => QueryError::Busy,
    })?;
    let body = if head_only { AnswerBody::empty() } else { AnswerBody::rows(first, Box::new(rows)) };
    Ok(Reply::streamed(answer, body))
}

/// Returns figures of the tenant in the path. Kept ones are used if no order has changed since.
pub(in crate::server) async fn sales(call: Call<'_>, _: Body<'_>) -> Result<Answer, QueryError> {
    let (lane, tenant_id) = (call.lane, call.tenant());
    let KeptSales(sales) = lane.component();
    let started_us = clock::monotonic_us();
    let plan = SalesPlan::new(tenant_id, call.query()).map_err(QueryError::Parameters)?;
    // Read before the sales: a change in between makes the figures old, but never wrong.
    let versions = query::sales_versions(&lane.readers, tenant_id).await?;
    let took_us = || clock::monotonic_us() - started_us;
    let kept = sales.borrow_mut().get(&plan.key, &versions).map(|kept| kept.json(true, took_us()));
    let body = match kept {
        Some(body) => body,
        None => {
            let as_of_us = clock::unix_us();
            let result = query::sales(&lane.readers, &plan.query).await?;
            let made = Materialized::new(&plan, &result, as_of_us);
            let body = made.json(false, took_us());
            sales.borrow_mut().put(plan.key, versions, made);
            body
        }
    };
    Ok(Answer::new(200, "application/json", body).with("Cache-Control", "no-store"))
}

/// Searches the orders of the tenant in the path.
pub(in crate::server) async fn search(call: Call<'_>, _: Body<'_>) -> Result<Reply, QueryError> {
    let Call { lane, request, .. } = call;
    let plan = SearchPlan::new(call.tenant(), call.query(), &lane.keys).map_err(QueryError::Parameters)?;
    let shape = match request.preferred(&[LINES, JSON], 0) {
        0 => Shape::Lines,
        _ => Shape::Object,
    };
    let SearchPlan { filter, limit, cursor } = plan;
    let (readers, key) = (&lane.readers, &lane.cursors);
    let search = Search::begin(readers, key, filter, limit, cursor.as_deref(), shape).await?;
    let answer = match shape {
        Shape::Lines => api::reads::lines(),
        Shape::Object => Answer::new(200, "application/json", &b""[..]).with("Cache-Control", "no-store"),
    };
    streamed(answer, search, call.is_head()).await
}

/// Returns one order, with its items.
pub(in crate::server) async fn order(call: Call<'_>, _: Body<'_>) -> Result<Answer, OrderNotRead> {
    let (lane, order_id) = (call.lane, call.request.parameter("order"));
    if !api::commerce::is_identifier(&order_id) {
        return Err(OrderNotRead::NoSuchOrder);
    }
    let (filter, key) = one_order(call.tenant(), &order_id, &lane.keys);
    let found = query::order(&lane.readers, key.shard(lane.shard_count), filter).await?;
    found.map(api::commerce::order).ok_or(OrderNotRead::NoSuchOrder)
}
