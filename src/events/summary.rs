//! The number of events by group, and the number of distinct values, merged over the shards.

#[cfg(test)]
mod tests;

use super::buckets::Tally;
use super::distinct::{Distinct, EXACT_VALUES_MAX};
use super::groups::{Count, GroupShare, Groups};
use super::query::{SummaryPlan, UniqueBy, UniquePlan};
use super::scan::{self, ValueShare};
use crate::base::keys::KeyHasher;
use crate::query::{QueryError, Readers};

/// The maximum number of groups in one answer: eleven years of hours. They take 10 MB.
pub(super) const GROUPS_MAX: usize = 100_000;
const TOO_MANY_GROUPS: QueryError =
    QueryError::TooLarge("more than 100000 groups have events; use a shorter period, source or event_type");

/// The groups of a summary.
#[derive(Debug, Default)]
pub(super) struct Summary {
    pub groups: Groups,
    pub total: Option<Tally>,
    /// The number of rows and buckets read.
    pub read: u64,
    pub preaggregated: bool,
}

/// A number of distinct values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Unique {
    pub count: u64,
    /// The number of events of the period.
    pub events: u64,
    /// The number of events without a value.
    pub missing: u64,
    pub is_exact: bool,
    /// The number of rows and buckets read.
    pub read: u64,
    pub preaggregated: bool,
}

/// Counts events by group.
pub(super) async fn summary(readers: &Readers, plan: &SummaryPlan) -> Result<Summary, QueryError> {
    let _permit = readers.permit()?;
    let SummaryPlan { of, by, period } = plan.clone();
    let count = Count::new(of, by, &period.range(false), period.zone, scan::step_rows(readers));
    let mut summary = Summary { preaggregated: count.is_preaggregated(), ..Summary::default() };
    let step = move |connection: &_, at| count.step(connection, at);
    scan::in_steps(readers, step, |share: GroupShare| {
        summary.read += share.read;
        summary.add(share.groups)
    })
    .await?;
    summary.total = summary.groups.total();
    Ok(summary)
}

impl Summary {
    fn add(&mut self, groups: Groups) -> Result<(), QueryError> {
        self.groups.merge(groups);
        if self.groups.len() > GROUPS_MAX { Err(TOO_MANY_GROUPS) } else { Ok(()) }
    }
}

/// Counts distinct values, exactly up to a number of them.
pub(super) async fn unique(
    readers: &Readers,
    keys: KeyHasher,
    plan: &UniquePlan,
) -> Result<Unique, QueryError> {
    let _permit = readers.permit()?;
    let mut distinct = Distinct::new(EXACT_VALUES_MAX);
    let mut unique = Unique::default();
    let (of, range, rows_max) = (plan.of.clone(), plan.period.range(false), scan::step_rows(readers));
    match plan.by.clone() {
        UniqueBy::Payload(path) => {
            let step = move |connection: &_, at| {
                scan::values(connection, (&of, &range), (&path, keys), at, rows_max)
            };
            scan::in_steps(readers, step, |share: ValueShare| {
                unique.events += share.rows;
                unique.missing += share.missing;
                share.hashes.into_iter().for_each(|hash| distinct.insert(hash));
                Ok(())
            })
            .await?;
            unique.read = unique.events;
        }
        UniqueBy::Names(by) => {
            let count = Count::new(of, by, &range, None, rows_max);
            unique.preaggregated = count.is_preaggregated();
            let step = move |connection: &_, at| count.step(connection, at);
            scan::in_steps(readers, step, |share| {
                unique.read += share.read;
                for (name, tally) in share.groups.names {
                    unique.events += tally.count.unsigned_abs();
                    distinct.insert(keys.wide_digest(name.as_bytes()));
                }
                Ok(())
            })
            .await?;
        }
    }
    Ok(Unique { count: distinct.count(), is_exact: distinct.is_exact(), ..unique })
}
