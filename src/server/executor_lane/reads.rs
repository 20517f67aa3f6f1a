//! `GET /events`, `/clicks` and `/metrics?tenant_id=…`: a page, a stream, or counts over time.

use super::Lane;
use super::body::AnswerBody;
use super::respond::RequestHead;
use crate::api::{self, Endpoint};
use crate::http::Answer;
use crate::query::{self, BucketsPlan, QueryError, RowsPlan};

/// What a read is answered with: everything at once, or its head now and rows as they come.
pub(super) enum Read {
    Whole(Answer),
    Rows(Answer, AnswerBody),
}

/// Whether the request is one of these.
pub(super) fn is_read(endpoint: Endpoint, request: &RequestHead) -> bool {
    match endpoint {
        Endpoint::Events | Endpoint::Clicks => true,
        // Without a tenant it is the page for Prometheus.
        Endpoint::Metrics => {
            let mut parameters = request.uri.query().unwrap_or_default().split('&');
            parameters.any(|pair| pair.split('=').next() == Some("tenant_id"))
        }
        _ => false,
    }
}

pub(super) async fn read(
    lane: &Lane,
    endpoint: Endpoint,
    request: &RequestHead,
    head_only: bool,
) -> Result<Read, QueryError> {
    let parameters = request.uri.query();
    let plan = match endpoint {
        Endpoint::Clicks => RowsPlan::clicks(parameters),
        Endpoint::Events => RowsPlan::events(parameters),
        _ => {
            let plan = BucketsPlan::new(parameters).map_err(QueryError::Parameters)?;
            let buckets = query::buckets(&lane.readers, &plan).await?;
            return Ok(Read::Whole(api::reads::buckets(&plan, &buckets)));
        }
    };
    let plan = plan.map_err(QueryError::Parameters)?;
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
