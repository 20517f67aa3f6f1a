//! Decoded columns whose memory the next step uses.

use std::sync::{Arc, Mutex, PoisonError};

use crate::orders::SegmentColumns;

/// The columns of one question's steps, at most as many as steps that ran at the same time. Otherwise, each step would get
/// up to 2.5 MB of new memory, page by page. Copies are the same.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct ColumnPool(Arc<Mutex<Vec<SegmentColumns>>>);

impl ColumnPool {
    /// Returns columns with any content.
    pub(super) fn take(&self) -> SegmentColumns {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    pub(super) fn put_back(&self, columns: SegmentColumns) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(columns);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_of_a_step_is_used_by_the_next() {
        let pool = ColumnPool::default();
        let mut columns = pool.take();
        columns.totals.reserve_exact(1_000);
        let memory = columns.totals.as_ptr();
        pool.put_back(columns);
        assert_eq!(pool.clone().take().totals.as_ptr(), memory);
        assert_eq!(pool.take().totals.capacity(), 0);
    }
}
