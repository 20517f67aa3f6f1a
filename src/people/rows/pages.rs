//! Overwrites the unused bytes of every page, which may contain what other steps have erased.

use std::time::Duration;

use rusqlite::TransactionBehavior;

use super::super::active::ActiveErasure;
use crate::base::clock;
use crate::shard::{Scrub, Shard, ShardError};

/// Overwrites the unused bytes of some pages.
pub(in super::super) fn scrub_pages(
    shard: &mut Shard,
    erasing: &mut ActiveErasure,
    until_us: u64,
) -> Result<bool, ShardError> {
    let budget = Duration::from_micros(until_us.saturating_sub(clock::monotonic_us()));
    // Rows that retention has removed from the views are still in their tables, which are freed first.
    if shard.free_dropped(budget)? {
        return Ok(false);
    }
    let transaction = shard.connection().transaction_with_behavior(TransactionBehavior::Immediate)?;
    let walk = &mut erasing.walk;
    let scrub = erasing.scrub.get_or_insert_with(|| Scrub::at((&walk.place, walk.at)));
    let (pages, is_done) = scrub.slice(&transaction, until_us)?;
    let (direction, next) = scrub.place();
    (walk.place, walk.at) = (direction.to_owned(), next);
    erasing.count_all(|report| report.pages += pages);
    erasing.save(&transaction)?;
    transaction.commit()?;
    Ok(is_done)
}
