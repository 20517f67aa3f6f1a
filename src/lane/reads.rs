//! Responses with rows: a page of them, or all as a stream of lines.

use super::body::{AnswerBody, BodyError, NextBytes, Pieces};
use super::call::{Call, Reply};
use crate::api;
use crate::api::error::{Asker, Refuse};
use crate::http::{Answer, Media};
use crate::query::{self, Merged, QueryError, RowsPlan};
use crate::tenants::Denied;

/// The media type of rows, one per line.
pub const LINES: Media = Media::new("application/x-ndjson");
/// The media type of rows in one document.
pub const JSON: Media = Media::new("application/json");

/// Why a read was refused.
#[derive(Debug)]
pub enum NotRead {
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

/// Responds with a page of rows, or with all of them as lines, as the client prefers.
///
/// # Errors
/// Returns the query's errors.
pub async fn rows(call: &Call<'_>, plan: RowsPlan) -> Result<Reply, QueryError> {
    let lane = call.lane;
    if call.request.preferred(&[LINES, JSON], 1) == 0 {
        let rows = query::stream(&lane.readers, &lane.cursors, &plan).await?;
        return streamed(api::reads::lines(), rows, call.is_head()).await;
    }
    let page = query::page(&lane.readers, &lane.cursors, &plan).await?;
    Ok(api::reads::events_page(&plan, &page).into())
}

impl Pieces for Merged {
    fn next(&mut self) -> NextBytes<'_> {
        Box::pin(async { Ok(Merged::next(self, usize::MAX).await?.map(|chunk| chunk.bytes)) })
    }
}

/// Streams rows. The first piece is read before the head is sent, so that the client still gets an error response
/// if a shard cannot be read.
pub async fn streamed(
    answer: Answer,
    mut rows: impl Pieces + 'static,
    head_only: bool,
) -> Result<Reply, QueryError> {
    let first = rows.next().await.map_err(|broken| match broken {
        BodyError::Query(error) => error,
        // These errors cannot occur yet, because no source has ended and nothing was compressed.
        BodyError::Ended(_) | BodyError::Packing(_) => QueryError::Busy,
    })?;
    let body = if head_only { AnswerBody::empty() } else { AnswerBody::rows(first, Box::new(rows)) };
    Ok(Reply::streamed(answer, body))
}
