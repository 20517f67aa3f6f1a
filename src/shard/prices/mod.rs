//! Price events of one shard, what is out of line with them, and what people said to it.

use super::error::ShardError;
use super::orders::Beside;
use super::service_event::Outcome;

/// The record kind of a price event.
pub const PRICE_EVENT_KIND: u8 = 8;
/// The record kind of a decision on an anomaly.
pub const PRICE_REVIEW_KIND: u8 = 9;

/// The tables, with their views.
pub(super) fn tables_sql() -> String {
    String::new()
}

/// Stores a record of this kind; `None` where it is none. In the caller's transaction.
pub(super) fn take(
    _beside: &mut Beside<'_>,
    _kind: u8,
    _payload: &[u8],
) -> Result<Option<Outcome>, ShardError> {
    Ok(None)
}
