//! The frame of streamed rows: their beginning, the commas between them, and the end with the position of the next row.
//! A response without the end was aborted.

use super::merge::Chunk;

/// The format of streamed rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A JSON object with the rows in an array.
    Object,
    /// One line per row, and a last line with `"_end":true`.
    Lines,
}

/// The frame of one response.
#[derive(Debug)]
pub struct RowsFrame {
    shape: Shape,
    /// The member of the JSON object that has the rows.
    member: &'static str,
    rows: usize,
    has_begun: bool,
}

impl RowsFrame {
    #[must_use]
    pub fn new(shape: Shape, member: &'static str) -> RowsFrame {
        RowsFrame { shape, member, rows: 0, has_begun: false }
    }

    /// Returns the next piece of the response, with these rows.
    pub fn add(&mut self, chunk: Chunk) -> Vec<u8> {
        let mut piece = self.begin();
        let is_first = self.rows == 0;
        self.rows += chunk.rows;
        match self.shape {
            Shape::Lines => piece = chunk.bytes,
            Shape::Object => chunk.join(is_first, &mut piece),
        }
        piece
    }

    /// Returns the last piece of the response.
    pub fn end(&mut self, next_cursor: Option<String>) -> Vec<u8> {
        let mut piece = self.begin();
        let next_cursor = next_cursor.map_or("null".to_owned(), |cursor| format!("\"{cursor}\""));
        let rows = self.rows;
        let end = match self.shape {
            Shape::Lines => format!("{{\"_end\":true,\"rows\":{rows},\"next_cursor\":{next_cursor}}}\n"),
            Shape::Object => format!("],\"rows\":{rows},\"next_cursor\":{next_cursor}}}"),
        };
        piece.extend_from_slice(end.as_bytes());
        piece
    }

    fn begin(&mut self) -> Vec<u8> {
        let is_first = !std::mem::replace(&mut self.has_begun, true);
        match self.shape {
            Shape::Object if is_first => format!("{{\"{}\":[", self.member).into_bytes(),
            _ => Vec::new(),
        }
    }
}
