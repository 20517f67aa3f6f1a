//! Rows copied out of a shard: one text for all strings, and offsets into it.

/// The position of a string in a batch's text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// Appends `new` to the text and returns its position.
    pub fn pushed(text: &mut String, new: &str) -> Span {
        let start = text.len() as u32;
        text.push_str(new);
        Span { start, end: text.len() as u32 }
    }

    /// Returns the range within the batch's text.
    #[must_use]
    pub fn range(self) -> std::ops::Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// The text of a batch's strings.
#[derive(Clone, Debug, Default)]
pub struct Texts(String);

impl Texts {
    pub fn keep(&mut self, text: &str) -> Span {
        Span::pushed(&mut self.0, text)
    }

    #[must_use]
    pub fn get(&self, span: Span) -> &str {
        &self.0[span.range()]
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Empties the text and keeps its memory for reuse.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

/// One row of a [`RowBatch`]. The parts that a stream does not have are empty.
#[derive(Clone, Copy, Debug, Default)]
pub struct CopiedRow {
    pub user_id: i64,
    pub timestamp_us: i64,
    pub received_us: i64,
    pub event_id: Span,
    pub source: Span,
    pub event_type: Span,
    /// The row's JSON, byte for byte as received.
    pub json: Span,
}

/// Rows of one stream with all their columns.
#[derive(Clone, Debug, Default)]
pub struct RowBatch {
    pub rows: Vec<CopiedRow>,
    pub texts: Texts,
}

impl RowBatch {
    /// Empties the batch and keeps its memory for reuse.
    pub fn clear(&mut self) {
        self.rows.clear();
        self.texts.clear();
    }
}

/// The limits on a batch. Only the batch's rows decide when one is reached, never the time.
#[derive(Clone, Copy, Debug)]
pub struct BatchLimits {
    pub rows: usize,
    /// The number of bytes of strings at which a batch ends. The row that reaches it is still included.
    pub bytes: usize,
}

impl BatchLimits {
    #[must_use]
    pub fn are_reached(&self, batch: &RowBatch) -> bool {
        batch.rows.len() >= self.rows || batch.texts.as_str().len() >= self.bytes
    }
}
