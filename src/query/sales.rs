//! Figures of a tenant's sales: from sums and their sketches, or from every single sale.
//!
//! ```text
//! approx   ask every shard for its sums by group ─► merge counts and sketches
//! exact    days to windows of about as many sales ─► ask every shard for each window's sales, the next window's
//!          while this one's are added ─► distinct customers and ranks of each group
//! ```
//! Exact figures of names (products, categories) hold every name's customers and totals at once; what does not
//! fit is done in several passes, each over a part of the names.

mod adding;
mod merging;

use jiff::tz::TimeZone;

use self::adding::Adding;
use super::readers::{Readers, received};
use super::{QueryError, local};
use crate::base::money::Currency;
use crate::shard::read::pin;
use crate::shard::{self, BucketSize, PartsReading, SalesOf, Single, SingleSales, Stream, SumsBy};

/// Sales of one window, over all shards: 50 bytes each.
const WINDOW_SALES: i64 = 60_000;
/// Passes over the sales, at most.
const PASSES_MAX: u32 = 64;
/// Groups of one answer.
const GROUPS_MAX: usize = 200_000;

/// What a group is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupBy {
    Day,
    Hour,
    Product,
    Category,
}

/// A question about sales.
#[derive(Clone, Debug)]
pub struct SalesQuery {
    pub of: SalesOf,
    pub group_by: GroupBy,
    /// First and last date, both included, in the zone.
    pub dates: (Option<jiff::civil::Date>, Option<jiff::civil::Date>),
    pub zone: TimeZone,
    pub exact: bool,
    /// Whether customers and order values are wanted, and not only counts.
    pub with_details: bool,
}

/// The figures of one group.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    pub orders: i64,
    pub units: i64,
    pub revenue: i64,
    /// Different customers, and the totals at p50, p95 and p99.
    pub details: Option<(u64, [i64; 3])>,
}

/// One group: by its beginning in time, or by its name.
#[derive(Clone, Debug, PartialEq)]
pub struct SalesGroup {
    pub start_us: i64,
    pub name: String,
    pub currency: Currency,
    pub figures: Figures,
}

/// The answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SalesResult {
    /// In order of time or name, then currency.
    pub groups: Vec<SalesGroup>,
    pub rows_scanned: u64,
    pub preaggregated: bool,
    /// Whether customers and order values are estimates.
    pub estimated: bool,
}

/// Goes up with every change of the tenant's orders, by shard.
pub async fn sales_versions(readers: &Readers, tenant_id: &str) -> Result<Vec<i64>, QueryError> {
    let tenant_id = tenant_id.to_owned();
    readers.ask_all(0, move |connection| shard::sales_version(connection, &tenant_id)).await
}

/// The figures, as of one moment a shard and step.
pub async fn sales(readers: &Readers, query: &SalesQuery) -> Result<SalesResult, QueryError> {
    let _permit = readers.permit()?;
    let Some((from_us, to_us)) = range(readers, query).await? else {
        return Ok(SalesResult {
            preaggregated: !query.exact,
            estimated: !query.exact,
            ..SalesResult::default()
        });
    };
    let starts = match query.group_by {
        GroupBy::Day | GroupBy::Hour => starts(query, from_us, to_us)?,
        GroupBy::Product | GroupBy::Category => vec![from_us],
    };
    let are_whole =
        |size: BucketSize| starts.iter().chain([&to_us]).all(|start| size.floor(*start) == *start);
    let by_sums = match query.group_by {
        GroupBy::Day | GroupBy::Hour if query.exact && query.with_details => None,
        GroupBy::Day if are_whole(BucketSize::Day) => Some(SumsBy::Day),
        GroupBy::Day | GroupBy::Hour => are_whole(BucketSize::Hour).then_some(SumsBy::Hour),
        GroupBy::Category => (!query.exact || !query.with_details).then_some(SumsBy::Category),
        GroupBy::Product => (!query.with_details).then_some(SumsBy::Product),
    };
    match by_sums {
        Some(by) => merging::by_sums(readers, query, by, starts, (from_us, to_us)).await,
        None => scan(readers, query, &starts, (from_us, to_us)).await,
    }
}

/// From when to when, within which there are sales.
async fn range(readers: &Readers, query: &SalesQuery) -> Result<Option<(i64, i64)>, QueryError> {
    let begin = |date: jiff::civil::Date| {
        date.to_zoned(query.zone.clone()).map_or(i64::MIN, |zoned| zoned.timestamp().as_microsecond())
    };
    let from_us = query.dates.0.map(begin);
    let to_us = query.dates.1.map(|date| date.tomorrow().map_or(i64::MAX, begin));
    let of = query.of.clone();
    let shares = readers
        .ask_all(None, move |connection| shard::sales_bounds(connection, &of, (from_us, to_us)))
        .await?;
    let spans = shares.into_iter().flatten();
    let Some((first, last)) = spans.reduce(|one, other| (one.0.min(other.0), one.1.max(other.1))) else {
        return Ok(None);
    };
    // Whole days of the zone round the UTC days that have sales.
    let first = local::day_start(&query.zone, first);
    let last = local::next_day(&query.zone, last + BucketSize::Day.us() - 1);
    let (from_us, to_us) = (from_us.unwrap_or(first).max(first), to_us.unwrap_or(last).min(last));
    Ok((from_us < to_us).then_some((from_us, to_us)))
}

/// How many sales each UTC day has.
async fn days(
    readers: &Readers,
    query: &SalesQuery,
    (from_us, to_us): (i64, i64),
) -> Result<Vec<(i64, i64)>, QueryError> {
    let of = query.of.clone();
    let shares = readers
        .ask_all(Vec::new(), move |connection| {
            shard::sales_days(connection, &of, (Some(from_us), Some(to_us)))
        })
        .await?;
    let mut days = std::collections::BTreeMap::new();
    for (start_us, orders) in shares.into_iter().flatten() {
        *days.entry(start_us).or_insert(0) += orders;
    }
    Ok(days.into_iter().collect())
}

/// Where the days or hours of the zone begin within a range.
fn starts(query: &SalesQuery, from_us: i64, to_us: i64) -> Result<Vec<i64>, QueryError> {
    let mut starts = vec![from_us];
    let mut at = from_us;
    loop {
        at = match query.group_by {
            GroupBy::Day => local::next_day(&query.zone, at),
            _ => local::next_hour(&query.zone, at),
        };
        if at >= to_us {
            return Ok(starts);
        }
        starts.push(at);
        if starts.len() > GROUPS_MAX {
            return Err(QueryError::TooLarge("there are too many hours in this range; narrow it"));
        }
    }
}

/// Windows of about [`WINDOW_SALES`] sales, from the sales of each UTC day.
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

/// From every single sale.
async fn scan(
    readers: &Readers,
    query: &SalesQuery,
    starts: &[i64],
    bounds: (i64, i64),
) -> Result<SalesResult, QueryError> {
    let pins = readers.ask_all(0_i64, |connection| pin(connection, Stream::Order)).await?;
    let by = match query.group_by {
        GroupBy::Day | GroupBy::Hour => {
            let days = days(readers, query, bounds).await?;
            return by_window(readers, query, starts, bounds, &days, &pins).await;
        }
        GroupBy::Product => Single::Product,
        GroupBy::Category => Single::Category,
    };
    let _heavy = readers.heavy().await;
    let mut passes = 1;
    loop {
        if let Some(result) = by_name(readers, query, by, bounds, &pins, passes).await? {
            return Ok(result);
        }
        passes *= 2;
        if passes > PASSES_MAX {
            return Err(TOO_LARGE);
        }
    }
}

const TOO_LARGE: QueryError = QueryError::TooLarge("an exact answer does not fit in the memory of one query");

/// Groups in time: window after window, the next one read while this one is added.
async fn by_window(
    readers: &Readers,
    query: &SalesQuery,
    starts: &[i64],
    bounds: (i64, i64),
    days: &[(i64, i64)],
    pins: &[i64],
) -> Result<SalesResult, QueryError> {
    let windows = windows(bounds, days);
    let ask = |window: (i64, i64)| {
        let asked = readers.shards().zip(pins).map(|(shard, pin)| {
            let (of, pin) = (query.of.clone(), *pin);
            readers.ask(shard, SingleSales::default(), move |connection| {
                shard::single_sales(connection, &of, pin, window)
            })
        });
        asked.collect::<Result<Vec<_>, _>>()
    };
    let mut adding = Adding::new(starts.to_vec());
    let mut coming = ask(windows[0])?;
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

/// Groups by name, in passes over parts of the names; `None` where one of them does not fit.
async fn by_name(
    readers: &Readers,
    query: &SalesQuery,
    by: Single,
    bounds: (i64, i64),
    pins: &[i64],
    passes: u32,
) -> Result<Option<SalesResult>, QueryError> {
    let mut done = Vec::new();
    for pass in 0..passes {
        let ask = |shard, pin: i64, reading: PartsReading| {
            let of = query.of.clone();
            readers.ask(shard, (SingleSales::default(), None), move |connection| {
                shard::single_parts(connection, &of, pin, bounds, reading)
            })
        };
        let mut adding = Adding::new(vec![bounds.0]);
        let asked = readers
            .shards()
            .zip(pins)
            .map(|(shard, pin)| Ok((shard, *pin, ask(shard, *pin, PartsReading::new(by, (pass, passes)))?)));
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

async fn finished(readers: &Readers, parts: Vec<Adding>) -> Result<SalesResult, QueryError> {
    let mut result = SalesResult::default();
    for adding in parts {
        let (groups, rows) = readers.compute(move || adding.finish()).await?;
        result.rows_scanned += rows;
        result.groups.extend(groups);
    }
    if result.groups.len() > GROUPS_MAX {
        return Err(QueryError::TooLarge("there are too many groups in this range; narrow it"));
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
