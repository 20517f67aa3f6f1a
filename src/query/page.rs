//! One page of rows with its cursor, or all rows as a stream.

use super::QueryError;
use super::cursor::{Cursor, CursorKey};
use super::merge::Merged;
use super::plan::RowsPlan;
use super::readers::Readers;
use crate::shard::read;

/// One page of rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The rows as JSON, with commas between them.
    pub rows: Vec<u8>,
    pub total: u64,
    pub next_cursor: Option<String>,
}

/// Reads one page: pins, total, then the rows after the cursor or after the skipped pages. Before the page grows, `reserve`
/// decides about its size in bytes.
pub async fn page(
    readers: &Readers,
    key: &CursorKey,
    plan: &RowsPlan,
    mut reserve: impl FnMut(usize) -> Result<(), QueryError>,
) -> Result<Page, QueryError> {
    let permit = readers.permit()?;
    let (filter, paging) = (&plan.filter, &plan.paging);
    let mut after = key.open_given(filter, readers.shard_count(), paging.cursor.as_deref())?;
    let (pins, total) = match &after {
        Some(cursor) => (cursor.pins.clone(), cursor.total),
        None => pins(readers, plan, true).await?,
    };
    let skip = (paging.page - 1) as usize * paging.page_size;
    if skip as u64 >= total && skip > 0 {
        return Ok(Page { rows: Vec::new(), total, next_cursor: None });
    }
    if skip > 0 && after.is_none() {
        // This merge reads only keys. The skipped rows themselves are never read.
        let inner = readers.permit()?;
        let mut keys = Merged::begin(readers, inner, filter.clone(), &pins, None, None, true)?;
        let mut left = skip;
        while left > 0 {
            let Some(chunk) = keys.next(left).await? else { break };
            left -= chunk.rows;
        }
        let Some((shard, position)) = keys.last().cloned() else {
            return Ok(Page { rows: Vec::new(), total, next_cursor: None });
        };
        after = Some(Cursor { total, shard, position, pins: pins.clone() });
    }
    let wanted = paging.page_size;
    let mut merged =
        Merged::begin(readers, permit, filter.clone(), &pins, after.as_ref(), Some(wanted + 1), false)?;
    let (mut rows, mut count) = (Vec::new(), 0);
    while count < wanted {
        let Some(chunk) = merged.next(wanted - count).await? else { break };
        count += chunk.rows;
        reserve(rows.len() + chunk.bytes.len())?;
        chunk.join(rows.is_empty(), &mut rows);
    }
    let next_cursor = if count == wanted { merged.next_cursor(key, total, pins).await? } else { None };
    Ok(Page { rows, total, next_cursor })
}

/// Streams all rows of the plan, or all after its cursor. Page numbers have no effect here.
pub async fn stream(readers: &Readers, key: &CursorKey, plan: &RowsPlan) -> Result<Merged, QueryError> {
    let permit = readers.permit()?;
    let after = key.open_given(&plan.filter, readers.shard_count(), plan.paging.cursor.as_deref())?;
    let pins = match &after {
        Some(cursor) => cursor.pins.clone(),
        None => pins(readers, plan, false).await?.0,
    };
    Merged::begin(readers, permit, plan.filter.clone(), &pins, after.as_ref(), None, false)
}

/// Returns the highest row id of every shard, and the number of rows up to it, as of one moment per shard.
async fn pins(readers: &Readers, plan: &RowsPlan, with_total: bool) -> Result<(Vec<i64>, u64), QueryError> {
    let filter = plan.filter.clone();
    let answers = readers
        .ask_all((0_i64, 0_u64), move |connection| {
            let pin = read::pin(connection, filter.stream())?;
            let total = if with_total { filter.count(connection)? } else { 0 };
            Ok((pin, total))
        })
        .await?;
    let total = answers.iter().map(|(_, total)| total).sum();
    Ok((answers.into_iter().map(|(pin, _)| pin).collect(), total))
}
