//! Decoded columns whose memory the next step uses.

use crate::orders::SegmentColumns;

/// The columns that are kept, at most: those of as many steps at the same time.
const STEPS_MAX: usize = 32;

/// The columns of one question's steps, at most as many as steps that ran at the same time. Otherwise, each step would get
/// up to 2.5 MB of new memory, page by page. Copies are the same. The default keeps nothing, for questions of which many run
/// at the same time.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct ColumnPool {
    free: Option<(async_channel::Sender<SegmentColumns>, async_channel::Receiver<SegmentColumns>)>,
}

impl ColumnPool {
    /// Returns a pool that keeps columns.
    pub(in super::super) fn keeping() -> ColumnPool {
        ColumnPool { free: Some(async_channel::bounded(STEPS_MAX)) }
    }

    /// Returns columns with any content.
    pub(super) fn take(&self) -> SegmentColumns {
        self.free.as_ref().and_then(|(_, free)| free.try_recv().ok()).unwrap_or_default()
    }

    pub(super) fn put_back(&self, columns: SegmentColumns) {
        if let Some((free, _)) = &self.free {
            let _ = free.try_send(columns);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_of_a_step_is_used_by_the_next() {
        let pool = ColumnPool::keeping();
        let mut columns = pool.take();
        columns.totals.reserve_exact(1_000);
        let memory = columns.totals.as_ptr();
        pool.put_back(columns);
        assert_eq!(pool.clone().take().totals.as_ptr(), memory);
        assert_eq!(pool.take().totals.capacity(), 0);
    }
}
