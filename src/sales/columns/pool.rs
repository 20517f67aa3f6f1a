//! Decoded columns whose memory the next step uses.

use crate::orders::SegmentColumns;

/// The columns that are kept, at most: those of as many steps at the same time.
const STEPS_MAX: usize = 32;

/// The columns of one question's steps, at most as many as steps that ran at the same time. Otherwise, each step would get
/// up to 2.5 MB of new memory, page by page. Copies are the same.
#[derive(Clone, Debug)]
pub(in super::super) struct ColumnPool {
    free: (async_channel::Sender<SegmentColumns>, async_channel::Receiver<SegmentColumns>),
}

impl Default for ColumnPool {
    fn default() -> ColumnPool {
        ColumnPool { free: async_channel::bounded(STEPS_MAX) }
    }
}

impl ColumnPool {
    /// Returns columns with any content.
    pub(super) fn take(&self) -> SegmentColumns {
        self.free.1.try_recv().unwrap_or_default()
    }

    pub(super) fn put_back(&self, columns: SegmentColumns) {
        let _ = self.free.0.try_send(columns);
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
