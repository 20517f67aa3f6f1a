//! A tenant's sales figures: from sums and their sketches, or from every single sale.
//!
//! ```text
//! approx   ask every shard for its sums by group ─► merge counts and sketches
//! exact    split the range into windows with about the same number of sales ─► ask every shard for each window's
//!          sales, while those of the window before are added ─► distinct customers and ranks of each group
//! ```
//! If a question needs a large part of the orders and most of them are in segments, exact figures come from columns
//! (`from_columns.rs`), in one reading if the sales of incomplete groups fit into memory.
//!
//! Before and after, every shard is asked for the days of which retention has deleted something (`incomplete.rs`).
//!
//! Exact figures by name (of a product or category) require the customers and totals of every name at once. If these
//! do not fit into memory, the figures are computed in several passes, each over a part of the names.

mod accumulator;
mod figures;
mod from_columns;
mod incomplete;
mod join_names;
mod key_filter;
mod merge_lists;
mod merge_logs;
mod merging;
mod periods;
mod windows;

use self::accumulator::GroupAccumulator;
#[cfg(test)]
pub(super) use self::figures::Figures;
pub(crate) use self::figures::SalesResult;
use self::figures::{GROUPS_MAX, PASSES_MAX, TOO_LARGE, TOO_MANY_GROUPS};
pub use self::figures::{GroupBy, SalesQuery};
pub(super) use self::figures::{IncompleteDays, SalesGroup};
use self::incomplete::Required;
use self::windows::{days, windows};
use super::columns::{ColumnPool, Coverage};
use super::read::{SaleParts, SalePartsCursor, SaleSplit};
use super::spans::Spans;
use crate::base::bucket_size::BucketSize;
use crate::orders::{ORDERS, SumsBy};
use crate::query::{QueryError, Readers, local, received};
use crate::shard::read::pin;

/// The number of sales in one window, over all shards. Each sale takes 50 bytes.
const WINDOW_SALES: i64 = 60_000;

/// Returns a number for each shard that increases with every change to the tenant's orders.
pub async fn sales_versions(readers: &Readers, tenant_id: &str) -> Result<Vec<i64>, QueryError> {
    let tenant_id = tenant_id.to_owned();
    readers.ask_all(0, move |connection| crate::orders::sales_version(connection, &tenant_id)).await
}

/// Computes the figures. Each step reads a shard as of one moment. If retention has deleted what the figures of a day
/// require, a range with a beginning is refused, and one without leaves the day out.
pub async fn sales(readers: &Readers, query: &SalesQuery) -> Result<SalesResult, QueryError> {
    sales_from(readers, query, SalesSource::Faster).await
}

/// Where exact figures are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SalesSource {
    #[cfg_attr(not(test), expect(dead_code, reason = "tests compare it with columns"))]
    Rows,
    /// Columns where there are some, and rows elsewhere.
    Columns,
    Faster,
}

/// Computes the figures as [`sales`] does, from rows or columns. The results are equal.
pub(crate) async fn sales_from(
    readers: &Readers,
    query: &SalesQuery,
    source: SalesSource,
) -> Result<SalesResult, QueryError> {
    let _permit = readers.permit()?;
    for _ in 0..TRIES {
        if let Some(result) = figures(readers, query, source).await? {
            return Ok(result);
        }
    }
    Err(QueryError::Busy)
}

/// The maximum number of attempts if retention deletes orders of further days meanwhile.
const TRIES: usize = 4;

/// Returns `None` if orders that the figures require were deleted meanwhile.
async fn figures(
    readers: &Readers,
    query: &SalesQuery,
    source: SalesSource,
) -> Result<Option<SalesResult>, QueryError> {
    let periods = match query.group_by {
        GroupBy::Day => periods::spans(readers, query, SumsBy::Day).await?,
        GroupBy::Hour => periods::spans(readers, query, SumsBy::Hour).await?,
        GroupBy::Product | GroupBy::Category => periods::bounds(readers, query).await?.into_iter().collect(),
    };
    let (from_us, to_us) = query.range_us;
    let asked = (from_us.unwrap_or(i64::MIN), to_us.unwrap_or(i64::MAX));
    let ends = periods.first().zip(periods.last()).map(|(first, last)| (first.0, last.1));
    let range = ends.map_or((0, 0), |(first_us, last_us)| (asked.0.max(first_us), asked.1.min(last_us)));
    let by_sums = by_sums(query, &periods, range);
    let rows = by_sums.map_or(vec![range], |by| merging::parts(by, range).1.to_vec());
    let required = Required { range: asked, rows };
    let mut incomplete = required.incomplete(readers, query).await?;
    if from_us.is_some() && !incomplete.is_empty() {
        return Err(incomplete.refused(query));
    }
    let (spans, mut is_cut) = incomplete.complete(readers, query.group_by, periods).await?;
    let mut result = match (spans.clip(range), by_sums) {
        (None, _) => SalesResult { preaggregated: !query.exact, ..SalesResult::default() },
        (Some(range), Some(by)) => merging::by_sums(readers, query, by, spans.clone(), range).await?,
        (Some(range), None) => scan(readers, query, spans.clone(), range, source).await?,
    };
    // Orders that were deleted meanwhile may be missing.
    let now = required.incomplete(readers, query).await?;
    if !incomplete.contains(&now) {
        if from_us.is_some() || query.group_by.is_named() {
            return Ok(None);
        }
        // The other groups are right.
        result.groups.retain(|group| spans.find(group.start_us).is_none_or(|(span, _)| !now.overlaps(span)));
        (incomplete, is_cut) = (incomplete.union(&now), true);
    }
    if result.groups.is_empty()
        && is_cut
        && let Some(refused) = incomplete.hides_all(readers, query, range).await?
    {
        return Err(refused);
    }
    let incomplete = incomplete.summary();
    let complete_from_us = incomplete.map(|days| local::next_day(&query.zone, days.end_us() - 1));
    Ok(Some(SalesResult { incomplete, complete_from_us, ..result }))
}

/// Returns the sums that answer a query, or `None` if it requires every sale of the range.
fn by_sums(query: &SalesQuery, periods: &[(i64, i64)], range: (i64, i64)) -> Option<SumsBy> {
    let are_whole = |size: BucketSize| {
        let edges = periods.iter().flat_map(|(start_us, end_us)| [*start_us, *end_us]);
        edges.chain([range.0, range.1]).all(|edge| size.floor(edge) == edge)
    };
    match query.group_by {
        GroupBy::Day | GroupBy::Hour if query.exact && query.with_details => None,
        GroupBy::Day if are_whole(BucketSize::Day) => Some(SumsBy::Day),
        GroupBy::Day | GroupBy::Hour => are_whole(BucketSize::Hour).then_some(SumsBy::Hour),
        GroupBy::Category => (!query.exact || !query.with_details).then_some(SumsBy::Category),
        GroupBy::Product => (!query.with_details).then_some(SumsBy::Product),
    }
}

/// Computes the figures from every single sale.
async fn scan(
    readers: &Readers,
    query: &SalesQuery,
    spans: Spans,
    bounds: (i64, i64),
    source: SalesSource,
) -> Result<SalesResult, QueryError> {
    let pins = readers.ask_all(0_i64, |connection| pin(connection, &ORDERS)).await?;
    let covered = match source {
        SalesSource::Rows => Coverage::default(),
        _ => from_columns::covered(readers, query, bounds).await?,
    };
    if source == SalesSource::Columns || from_columns::is_faster(&covered) {
        return from_all_columns(readers, query, spans, bounds, &pins, &covered).await;
    }
    let by = match query.group_by {
        GroupBy::Day | GroupBy::Hour => {
            let days = days(readers, query, bounds).await?;
            return by_window(readers, query, spans, bounds, &days, &pins).await;
        }
        GroupBy::Product => SaleSplit::Product,
        GroupBy::Category => SaleSplit::Category,
    };
    let _heavy = readers.heavy().await?;
    let mut passes = 1;
    loop {
        if let Some(result) = by_name(readers, query, by, (&spans, bounds), &pins, passes).await? {
            return Ok(result);
        }
        passes *= 2;
        if passes > PASSES_MAX {
            return Err(TOO_LARGE);
        }
    }
}

/// Computes the figures from columns.
async fn from_all_columns(
    readers: &Readers,
    query: &SalesQuery,
    spans: Spans,
    bounds: (i64, i64),
    pins: &[i64],
    covered: &Coverage,
) -> Result<SalesResult, QueryError> {
    let (_heavy, pool) = match from_columns::is_heavy(covered) {
        true => (Some(readers.heavy().await?), ColumnPool::keeping()),
        false => (None, ColumnPool::default()),
    };
    let by = match query.group_by {
        GroupBy::Day | GroupBy::Hour => None,
        GroupBy::Product => Some(SaleSplit::Product),
        GroupBy::Category => Some(SaleSplit::Category),
    };
    let result = match by {
        None => from_columns::by_period(readers, query, spans, bounds, (pins, pool)).await?,
        Some(by) => from_columns::by_name(readers, query, by, (&spans, bounds), (pins, pool)).await?,
    };
    ordered(result)
}

/// Computes groups by time, one window at a time. The next window is read while the current one is added.
async fn by_window(
    readers: &Readers,
    query: &SalesQuery,
    spans: Spans,
    bounds: (i64, i64),
    days: &[(i64, i64)],
    pins: &[i64],
) -> Result<SalesResult, QueryError> {
    let windows = windows(bounds, days, WINDOW_SALES).into_iter().filter_map(|window| spans.clip(window));
    let windows: Vec<(i64, i64)> = windows.collect();
    let ask = |window: (i64, i64)| {
        let asked = readers.shards().zip(pins).map(|(shard, pin)| {
            let (of, pin) = (query.of.clone(), *pin);
            readers.ask(shard, SaleParts::default(), move |connection| {
                crate::sales::read::single_sales(connection, &of, pin, window)
            })
        });
        asked.collect::<Result<Vec<_>, _>>()
    };
    let mut adding = GroupAccumulator::new(spans);
    let mut coming = windows.first().map(|first| ask(*first)).transpose()?.unwrap_or_default();
    for at in 0..windows.len() {
        let mut shares = Vec::with_capacity(coming.len());
        let next = windows.get(at + 1).map(|next| ask(*next)).transpose()?.unwrap_or_default();
        for (shard, answer) in readers.shards().zip(std::mem::replace(&mut coming, next)) {
            shares.push((shard, received(answer.recv().await)?));
        }
        let end_us = windows[at].1;
        adding = readers
            .compute(move || {
                adding.add(shares);
                adding.finish_before(end_us);
                adding
            })
            .await?;
        if adding.is_full() {
            return Err(TOO_LARGE);
        }
    }
    finished(readers, vec![adding]).await
}

/// Computes groups by name, in passes over parts of the names. Returns `None` if one of the passes does not fit into
/// memory.
async fn by_name(
    readers: &Readers,
    query: &SalesQuery,
    by: SaleSplit,
    (spans, bounds): (&Spans, (i64, i64)),
    pins: &[i64],
    passes: u32,
) -> Result<Option<SalesResult>, QueryError> {
    let mut done = Vec::new();
    for pass in 0..passes {
        let ask = |shard, pin: i64, reading: SalePartsCursor| {
            let of = query.of.clone();
            readers.ask(shard, (SaleParts::default(), None), move |connection| {
                crate::sales::read::sale_parts(connection, &of, pin, bounds, reading)
            })
        };
        let mut adding = GroupAccumulator::new(spans.clone());
        let asked = readers.shards().zip(pins).map(|(shard, pin)| {
            Ok((shard, *pin, ask(shard, *pin, SalePartsCursor::new(by, (pass, passes)))?))
        });
        let mut coming = asked.collect::<Result<Vec<_>, QueryError>>()?;
        while !coming.is_empty() {
            let mut shares = Vec::with_capacity(coming.len());
            let mut going_on = Vec::with_capacity(coming.len());
            for (shard, pin, answer) in coming {
                let (share, reading) = received(answer.recv().await)?;
                shares.push((shard, share));
                if let Some(reading) = reading {
                    going_on.push((shard, pin, ask(shard, pin, reading)?));
                }
            }
            coming = going_on;
            adding = readers
                .compute(move || {
                    adding.add(shares);
                    adding
                })
                .await?;
            if adding.is_full() {
                return Ok(None);
            }
        }
        done.push(adding.settled());
    }
    finished(readers, done).await.map(Some)
}

async fn finished(readers: &Readers, parts: Vec<GroupAccumulator>) -> Result<SalesResult, QueryError> {
    let mut result = SalesResult::default();
    for adding in parts {
        let (groups, rows) = readers.compute(move || adding.finish()).await?;
        result.rows_scanned += rows;
        result.groups.extend(groups);
    }
    ordered(result)
}

/// Returns the result with its groups in order, unless there are too many.
fn ordered(mut result: SalesResult) -> Result<SalesResult, QueryError> {
    if result.groups.len() > GROUPS_MAX {
        return Err(TOO_MANY_GROUPS);
    }
    result.groups.sort_by(|one, other| {
        (one.start_us, &one.name, one.currency).cmp(&(other.start_us, &other.name, other.currency))
    });
    Ok(result)
}
