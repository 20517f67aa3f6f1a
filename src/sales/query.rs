//! A tenant's sales figures: from sums and their sketches, or from every single sale.
//!
//! ```text
//! approx   ask every shard for its sums by group ─► merge counts and sketches
//! exact    split the range into windows with about the same number of sales ─► ask every shard for each window's
//!          sales, while those of the window before are added ─► distinct customers and ranks of each group
//! ```
//! Before and after, every shard is asked for the days of which retention has deleted something (`incomplete.rs`).
//!
//! Exact figures by name (of a product or category) require the customers and totals of every name at once. If these
//! do not fit into memory, the figures are computed in several passes, each over a part of the names.

mod accumulator;
mod incomplete;
mod merging;
mod periods;

use jiff::tz::TimeZone;

use self::accumulator::GroupAccumulator;
use self::incomplete::Required;
use super::read::{SaleParts, SalePartsCursor, SaleSplit};
use super::spans::Spans;
use crate::base::bucket_size::BucketSize;
use crate::base::money::Currency;
use crate::orders::{ORDERS, SalesFilter, SumsBy};
use crate::query::{QueryError, Readers, local, received};
use crate::shard::read::pin;

/// The number of sales in one window, over all shards. Each sale takes 50 bytes.
const WINDOW_SALES: i64 = 60_000;
/// The maximum number of passes over the sales.
const PASSES_MAX: u32 = 64;
/// The maximum number of groups in one answer. Only groups with sales count.
const GROUPS_MAX: usize = 200_000;
const TOO_MANY_GROUPS: QueryError =
    QueryError::TooLarge("more than 200000 groups have sales in this range; use a shorter one");

/// What sales are grouped by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupBy {
    Day,
    Hour,
    Product,
    Category,
}

impl GroupBy {
    /// Returns `true` if a group is all sales of the range with one name.
    fn is_named(self) -> bool {
        matches!(self, GroupBy::Product | GroupBy::Category)
    }
}

/// A query for sales figures.
#[derive(Clone, Debug)]
pub struct SalesQuery {
    pub of: SalesFilter,
    pub group_by: GroupBy,
    /// The beginning (inclusive) and the end (exclusive) of the range.
    pub range_us: (Option<i64>, Option<i64>),
    /// The zone whose days and hours form the groups.
    pub zone: TimeZone,
    pub exact: bool,
    /// Set if customers and order values are wanted in addition to counts.
    pub with_details: bool,
}

/// One group's figures.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    pub orders: i64,
    /// The sum over many rows, in a type that cannot overflow.
    pub units: i128,
    pub revenue: i128,
    /// The number of distinct customers, and the order totals at p50, p95 and p99.
    pub details: Option<(u64, [i64; 3])>,
}

/// One group, identified by the start of its period or by its name.
#[derive(Clone, Debug, PartialEq)]
pub struct SalesGroup {
    pub start_us: i64,
    pub name: String,
    pub currency: Currency,
    pub figures: Figures,
}

/// The answer to a query for sales figures.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SalesResult {
    /// Ordered by time or name, then by currency.
    pub groups: Vec<SalesGroup>,
    pub rows_scanned: u64,
    pub preaggregated: bool,
    /// Set if customers and order values are estimates.
    pub estimated: bool,
    /// Set if the range had no beginning: the days that are left out, because retention has deleted orders or sums of
    /// them.
    pub incomplete: Option<IncompleteDays>,
    /// The beginning of the first day of the zone that follows the incomplete days.
    pub complete_from_us: Option<i64>,
}

/// Days (UTC) that are left out: their number, and the starts of the first and the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IncompleteDays {
    pub count: i64,
    pub first_us: i64,
    pub last_us: i64,
}

impl IncompleteDays {
    fn end_us(self) -> i64 {
        self.last_us.saturating_add(BucketSize::Day.us())
    }
}

/// Returns a number for each shard that increases with every change to the tenant's orders.
pub async fn sales_versions(readers: &Readers, tenant_id: &str) -> Result<Vec<i64>, QueryError> {
    let tenant_id = tenant_id.to_owned();
    readers.ask_all(0, move |connection| crate::orders::sales_version(connection, &tenant_id)).await
}

/// Computes the figures. Each step reads a shard as of one moment. If retention has deleted what the figures of a day
/// require, a range with a beginning is refused, and one without leaves the day out.
pub async fn sales(readers: &Readers, query: &SalesQuery) -> Result<SalesResult, QueryError> {
    let _permit = readers.permit()?;
    for _ in 0..TRIES {
        if let Some(result) = figures(readers, query).await? {
            return Ok(result);
        }
    }
    Err(QueryError::Busy)
}

/// The maximum number of attempts if retention deletes orders of further days meanwhile.
const TRIES: usize = 4;

/// Returns `None` if orders that the figures require were deleted meanwhile.
async fn figures(readers: &Readers, query: &SalesQuery) -> Result<Option<SalesResult>, QueryError> {
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
        (Some(range), None) => scan(readers, query, spans.clone(), range).await?,
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

/// Returns the number of sales of each UTC day.
async fn days(
    readers: &Readers,
    query: &SalesQuery,
    (from_us, to_us): (i64, i64),
) -> Result<Vec<(i64, i64)>, QueryError> {
    let of = query.of.clone();
    let shares = readers
        .ask_all(Vec::new(), move |connection| {
            crate::orders::sales_days(connection, &of, (Some(from_us), Some(to_us)))
        })
        .await?;
    let mut days = std::collections::BTreeMap::new();
    for (start_us, orders) in shares.into_iter().flatten() {
        *days.entry(start_us).or_insert(0) += orders;
    }
    Ok(days.into_iter().collect())
}

/// Returns windows of about [`WINDOW_SALES`] sales, based on the number of sales on each UTC day.
fn windows((from_us, to_us): (i64, i64), days: &[(i64, i64)]) -> Vec<(i64, i64)> {
    let mut windows = Vec::new();
    let (mut begin, mut sales) = (from_us, 0);
    for (start_us, orders) in days {
        if sales > 0 && sales + orders > WINDOW_SALES && *start_us > begin && *start_us < to_us {
            windows.push((begin, *start_us));
            (begin, sales) = (*start_us, 0);
        }
        sales += orders;
    }
    windows.push((begin, to_us));
    windows
}

/// Computes the figures from every single sale.
async fn scan(
    readers: &Readers,
    query: &SalesQuery,
    spans: Spans,
    bounds: (i64, i64),
) -> Result<SalesResult, QueryError> {
    let pins = readers.ask_all(0_i64, |connection| pin(connection, &ORDERS)).await?;
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

const TOO_LARGE: QueryError = QueryError::TooLarge("an exact answer exceeds the memory limit of a query");

/// Computes groups by time, one window at a time. The next window is read while the current one is added.
async fn by_window(
    readers: &Readers,
    query: &SalesQuery,
    spans: Spans,
    bounds: (i64, i64),
    days: &[(i64, i64)],
    pins: &[i64],
) -> Result<SalesResult, QueryError> {
    let windows = windows(bounds, days).into_iter().filter_map(|window| spans.clip(window));
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
    if result.groups.len() > GROUPS_MAX {
        return Err(TOO_MANY_GROUPS);
    }
    result.groups.sort_by(|one, other| {
        (one.start_us, &one.name, one.currency).cmp(&(other.start_us, &other.name, other.currency))
    });
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_cover_the_range_once() {
        const DAY_US: i64 = BucketSize::Day.us();
        let days: Vec<(i64, i64)> = (0..10).map(|day| (day * DAY_US, 25_000)).collect();
        let windows = windows((5, 10 * DAY_US - 7), &days);
        assert_eq!(windows.first().unwrap().0, 5);
        assert_eq!(windows.last().unwrap().1, 10 * DAY_US - 7);
        assert!(windows.windows(2).all(|pair| pair[0].1 == pair[1].0 && pair[0].0 < pair[0].1));
        assert_eq!(windows.len(), 5);
    }
}
