//! Streams a search: rows, then an end with the number of rows and where to continue.

use crate::query::{CursorKey, Filter, Merged, QueryError, Readers, RowsFrame, Shape};
use crate::shard::read::pin;

/// A running search. [`Search::next`] returns its pieces.
#[derive(Debug)]
pub struct Search {
    merged: Merged,
    key: CursorKey,
    pins: Vec<i64>,
    frame: RowsFrame,
    left: usize,
    ended: bool,
}

impl Search {
    /// Starts a search for up to `limit` rows that match the filter. With a cursor, only rows after it are returned.
    pub async fn begin(
        readers: &Readers,
        key: &CursorKey,
        filter: Filter,
        limit: usize,
        cursor: Option<&str>,
        shape: Shape,
    ) -> Result<Search, QueryError> {
        let permit = readers.permit()?;
        let after = key.open_given(&filter, readers.shard_count(), cursor)?;
        let pins = match &after {
            Some(cursor) => cursor.pins.clone(),
            None => {
                let stream = filter.stream();
                readers.ask_all(0_i64, move |connection| pin(connection, stream)).await?
            }
        };
        let merged = Merged::begin(readers, permit, filter, &pins, after.as_ref(), Some(limit + 1), false)?;
        let (key, frame) = (*key, RowsFrame::new(shape, "orders"));
        Ok(Search { merged, key, pins, frame, left: limit, ended: false })
    }

    /// Returns the next piece, or `None` after the last. After an error, the search does not send an end.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, QueryError> {
        if self.ended {
            return Ok(None);
        }
        let chunk = if self.left > 0 { self.merged.next(self.left).await? } else { None };
        if let Some(chunk) = chunk {
            self.left -= chunk.rows;
            return Ok(Some(self.frame.add(chunk)));
        }
        self.ended = true;
        let pins = std::mem::take(&mut self.pins);
        let next_cursor =
            if self.left == 0 { self.merged.next_cursor(&self.key, 0, pins).await? } else { None };
        Ok(Some(self.frame.end(next_cursor)))
    }
}
