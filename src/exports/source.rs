//! What an export reads: a filter of orders, of events or of clicks, and the batches of each.

use crate::clicks::{CLICKS, ClickFilter};
use crate::events::{EVENTS, EventFilter};
use crate::orders::{ChosenOrder, ORDERS, OrderBatch, OrderFilter, OrderStatus};
use crate::shard::Stream;
use crate::shard::read::RowBatch;

/// The source of an export's rows.
#[derive(Clone, Debug)]
pub enum ExportSource {
    /// The filter of orders is several times as large as the others.
    Orders(Box<OrderFilter>),
    Events(EventFilter),
    Clicks(ClickFilter),
}

impl ExportSource {
    #[must_use]
    pub fn stream(&self) -> &'static Stream {
        match self {
            ExportSource::Orders(_) => &ORDERS,
            ExportSource::Events(_) => &EVENTS,
            ExportSource::Clicks(_) => &CLICKS,
        }
    }

    /// Returns the tenant of the rows, if they have one.
    #[must_use]
    pub fn tenant_id(&self) -> Option<&str> {
        match self {
            ExportSource::Orders(of) => Some(&of.tenant_id),
            ExportSource::Events(of) => Some(&of.tenant_id),
            ExportSource::Clicks(_) => None,
        }
    }

    /// Returns an empty batch of the source's rows.
    pub(super) fn batch(&self) -> Batch {
        match self {
            ExportSource::Orders(_) => Batch::Orders(OrderBatch::default()),
            ExportSource::Events(_) | ExportSource::Clicks(_) => Batch::Rows(RowBatch::default()),
        }
    }
}

/// Rows with all exported data.
#[derive(Clone, Debug)]
pub(super) enum Batch {
    Orders(OrderBatch),
    /// Events or clicks.
    Rows(RowBatch),
}

impl Batch {
    /// Returns the number of chosen rows in the batch.
    pub(super) fn chosen(&self) -> usize {
        match self {
            Batch::Orders(batch) => batch.orders.len(),
            Batch::Rows(batch) => batch.rows.len(),
        }
    }

    /// Returns an empty batch of the same rows.
    pub(super) fn empty(&self) -> Batch {
        match self {
            Batch::Orders(_) => Batch::Orders(OrderBatch::default()),
            Batch::Rows(_) => Batch::Rows(RowBatch::default()),
        }
    }

    /// Empties the batch and keeps its memory for reuse.
    pub(super) fn clear(&mut self) {
        match self {
            Batch::Orders(batch) => batch.clear(),
            Batch::Rows(batch) => batch.clear(),
        }
    }
}

/// Selected rows of one shard.
#[derive(Clone, Debug)]
pub(super) enum Chosen {
    Orders(Vec<ChosenOrder>),
    /// The ids of events or clicks.
    Rows(Vec<i64>),
}

impl Chosen {
    pub(super) fn len(&self) -> usize {
        match self {
            Chosen::Orders(orders) => orders.len(),
            Chosen::Rows(ids) => ids.len(),
        }
    }

    pub(super) fn clear(&mut self) {
        match self {
            Chosen::Orders(orders) => orders.clear(),
            Chosen::Rows(ids) => ids.clear(),
        }
    }

    /// Appends the rows' words in the selection: the row id, above 3 bits for an order's status.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let mut put = |id: i64, code: u8| {
            out.extend_from_slice(&((id as u64) << 3 | u64::from(code)).to_le_bytes());
        };
        match self {
            Chosen::Orders(orders) => orders.iter().for_each(|one| put(one.id, one.status.code())),
            Chosen::Rows(ids) => ids.iter().for_each(|id| put(*id, 0)),
        }
    }
}

/// Returns the row id in a word of the selection.
pub(super) fn id_of(word: u64) -> i64 {
    (word >> 3) as i64
}

/// Returns the order in a word of the selection, or `None` if it is damaged.
pub(super) fn order_of(word: u64) -> Option<ChosenOrder> {
    OrderStatus::from_code((word & 7) as u8).map(|status| ChosenOrder { id: id_of(word), status })
}
