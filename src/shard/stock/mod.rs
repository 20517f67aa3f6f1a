//! The stock of one shard's products, kept equal to what happened to it.

use super::error::ShardError;
use super::orders::Beside;
use super::service_event::Outcome;

/// The record kind of what one request changes of one product.
pub const STOCK_UPDATE_KIND: u8 = 10;

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
