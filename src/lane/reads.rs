//! Responses with rows: a page of them, or all as a stream of lines.

use super::body::{AnswerBody, BodyError, NextBytes, Pieces};
use super::call::{Call, Reply};
use crate::api;
use crate::api::error::{Asker, Refuse};
use crate::http::{Answer, Media};
use crate::query::{self, List, ListPlan, Listed, Merged, QueryError, RowsPlan, Shape};
use crate::tenants::Denied;

/// The media type of rows, one per line.
const LINES: Media = Media::new("application/x-ndjson");
/// The media type of rows in one document.
const JSON: Media = Media::new("application/json");

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

/// Returns the format of rows that the client prefers, or the usual one if it has no preference.
pub fn shape(call: &Call<'_>, usual: Shape) -> Shape {
    const SHAPES: [Shape; 2] = [Shape::Lines, Shape::Object];
    let usual = usize::from(usual == Shape::Object);
    SHAPES[call.request.preferred(&[LINES, JSON], usual).min(1)]
}

/// Responds with a page of a list, or with the list as lines, as the client prefers.
///
/// # Errors
/// Returns the list's errors.
pub async fn list<L: Listed>(call: &Call<'_>, plan: ListPlan<L>) -> Result<Reply, QueryError> {
    let (lane, shape) = (call.lane, shape(call, Shape::Object));
    let list = List::begin(call.readers(), &lane.cursors, plan, shape)?;
    streamed(api::reads::rows(shape), list, call.is_head()).await
}

impl<L: Listed> Pieces for List<L> {
    fn next(&mut self) -> NextBytes<'_> {
        Box::pin(async { Ok(List::next(self).await?) })
    }
}

/// Responds with a page of rows, or with all of them as lines, as the client prefers.
///
/// # Errors
/// Returns the query's errors.
pub async fn rows(call: &Call<'_>, plan: RowsPlan) -> Result<Reply, QueryError> {
    let lane = call.lane;
    if shape(call, Shape::Object) == Shape::Lines {
        let rows = query::stream(call.readers(), &lane.cursors, &plan).await?;
        return streamed(api::reads::rows(Shape::Lines), rows, call.is_head()).await;
    }
    let mut held = lane.memory.hold();
    let reserve = |bytes| lane.may_hold(&mut held, bytes).map_err(|_| QueryError::MemorySpent);
    let page = query::page(call.readers(), &lane.cursors, &plan, reserve).await?;
    // The lane counts the response from here on, as it does every long one.
    Ok(api::reads::events_page(&plan, page).into())
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
