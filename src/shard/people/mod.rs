//! People who are to be forgotten: their rows go, and a list says that they stay away.

use super::error::ShardError;
use super::orders::Beside;
use super::service_event::Outcome;

/// The record kind of an erasure.
pub const ERASURE_KIND: u8 = 11;

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
