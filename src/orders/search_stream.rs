//! Streams a search: rows, then an end with the number of rows and where to continue. A response without the end was
//! aborted.

use crate::query::{CursorKey, Filter, Merged, QueryError, Readers};
use crate::shard::read::pin;

/// The format of the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A JSON object with the rows in an array.
    Object,
    /// One line per row, and a last line with `"_end":true`.
    Lines,
}

/// A running search. [`Search::next`] returns its pieces.
#[derive(Debug)]
pub struct Search {
    merged: Merged,
    key: CursorKey,
    pins: Vec<i64>,
    shape: Shape,
    left: usize,
    rows: usize,
    begun: bool,
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
        let key = *key;
        Ok(Search { merged, key, pins, shape, left: limit, rows: 0, begun: false, ended: false })
    }

    /// Returns the next piece, or `None` after the last. After an error, the search does not send an end.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, QueryError> {
        if self.ended {
            return Ok(None);
        }
        let mut piece = Vec::new();
        if !self.begun && self.shape == Shape::Object {
            piece.extend_from_slice(b"{\"orders\":[");
        }
        self.begun = true;
        let chunk = if self.left > 0 { self.merged.next(self.left).await? } else { None };
        if let Some(chunk) = chunk {
            let is_first = self.rows == 0;
            self.left -= chunk.rows;
            self.rows += chunk.rows;
            match self.shape {
                Shape::Lines => piece = chunk.bytes,
                Shape::Object => chunk.join(is_first, &mut piece),
            }
            return Ok(Some(piece));
        }
        self.ended = true;
        let pins = std::mem::take(&mut self.pins);
        let next_cursor =
            if self.left == 0 { self.merged.next_cursor(&self.key, 0, pins).await? } else { None };
        let next_cursor = next_cursor.map_or("null".to_owned(), |cursor| format!("\"{cursor}\""));
        let rows = self.rows;
        let end = match self.shape {
            Shape::Lines => format!("{{\"_end\":true,\"rows\":{rows},\"next_cursor\":{next_cursor}}}\n"),
            Shape::Object => format!("],\"rows\":{rows},\"next_cursor\":{next_cursor}}}"),
        };
        piece.extend_from_slice(end.as_bytes());
        Ok(Some(piece))
    }
}
