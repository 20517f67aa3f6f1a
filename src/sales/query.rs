//! A tenant's sales figures: from sums and their sketches, or from every single sale.
//!
//! ```text
//! approx   ask every shard for its sums by group ─► merge counts and sketches
//! exact    split the range into windows with about the same number of sales ─► ask every shard for each window's
//!          sales, while those of the window before are added ─► distinct customers and ranks of each group
//! ```
//! Exact figures by name (of a product or category) require the customers and totals of every name at once. If these
//! do not fit into memory, the figures are computed in several passes, each over a part of the names.

mod accumulator;
mod merging;

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::tz::TimeZone;

use self::accumulator::GroupAccumulator;
use super::read::{SaleParts, SalePartsCursor, SaleSplit};
use crate::base::bucket_size::BucketSize;
use crate::base::money::Currency;
use crate::orders::{ORDERS, SalesFilter, SumsBy, dropped_until};
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
    /// Set if the range had no beginning and retention has deleted earlier sales: the beginning that was used.
    pub complete_from_us: Option<i64>,
}

/// Returns a number for each shard that increases with every change to the tenant's orders.
pub async fn sales_versions(readers: &Readers, tenant_id: &str) -> Result<Vec<i64>, QueryError> {
    let tenant_id = tenant_id.to_owned();
    readers.ask_all(0, move |connection| crate::orders::sales_version(connection, &tenant_id)).await
}

/// Computes the figures. Each step reads a shard as of one moment. If retention has deleted what they require, a range
/// with a beginning is refused, and one without begins later.
pub async fn sales(readers: &Readers, query: &SalesQuery) -> Result<SalesResult, QueryError> {
    let _permit = readers.permit()?;
    let mut query = query.clone();
    let mut complete_from_us = None;
    for _ in 0..TRIES {
        match figures(readers, &query).await {
            Err(QueryError::Dropped { complete_from_us: from_us, .. })
                if query.range_us.0.is_none() || complete_from_us.is_some() =>
            {
                // Begins with the first whole day of the zone.
                let from_us = local::next_day(&query.zone, from_us.saturating_sub(1));
                complete_from_us = Some(from_us);
                query.range_us.0 = Some(from_us);
            }
            Ok(result) => return Ok(SalesResult { complete_from_us, ..result }),
            refused => return refused,
        }
    }
    Err(QueryError::Busy)
}

/// The maximum number of attempts if retention deletes orders meanwhile, plus one for each kind of figures.
const TRIES: usize = 4;

async fn figures(readers: &Readers, query: &SalesQuery) -> Result<SalesResult, QueryError> {
    let spans = match query.group_by {
        GroupBy::Day => spans(readers, query, SumsBy::Day).await?,
        GroupBy::Hour => spans(readers, query, SumsBy::Hour).await?,
        GroupBy::Product | GroupBy::Category => bounds(readers, query).await?.into_iter().collect(),
    };
    let (from_us, to_us) = query.range_us;
    let asked = (from_us.unwrap_or(i64::MIN), to_us.unwrap_or(i64::MAX));
    let (Some((first_us, _)), Some((_, last_us))) = (spans.first(), spans.last()) else {
        check_dropped(readers, query, &[], asked).await?;
        return Ok(SalesResult { preaggregated: !query.exact, ..SalesResult::default() });
    };
    let range = (from_us.unwrap_or(*first_us).max(*first_us), to_us.unwrap_or(*last_us).min(*last_us));
    let are_whole = |size: BucketSize| {
        let edges = spans.iter().flat_map(|(start_us, end_us)| [*start_us, *end_us]);
        edges.chain([range.0, range.1]).all(|edge| size.floor(edge) == edge)
    };
    let by_sums = match query.group_by {
        GroupBy::Day | GroupBy::Hour if query.exact && query.with_details => None,
        GroupBy::Day if are_whole(BucketSize::Day) => Some(SumsBy::Day),
        GroupBy::Day | GroupBy::Hour => are_whole(BucketSize::Hour).then_some(SumsBy::Hour),
        GroupBy::Category => (!query.exact || !query.with_details).then_some(SumsBy::Category),
        GroupBy::Product => (!query.with_details).then_some(SumsBy::Product),
    };
    let of_rows = match by_sums {
        Some(by) => merging::parts(by, range).1.to_vec(),
        None => vec![range],
    };
    check_dropped(readers, query, &of_rows, asked).await?;
    let result = match by_sums {
        Some(by) => merging::by_sums(readers, query, by, spans, range).await?,
        None => scan(readers, query, spans, range).await?,
    };
    // Orders that were deleted meanwhile may be missing.
    check_dropped(readers, query, &of_rows, asked).await?;
    Ok(result)
}

/// Refuses figures that retention has made incomplete: those from the sums of `range`, or from the rows of `of_rows`.
async fn check_dropped(
    readers: &Readers,
    query: &SalesQuery,
    of_rows: &[(i64, i64)],
    range: (i64, i64),
) -> Result<(), QueryError> {
    let (of, of_rows) = (query.of.clone(), of_rows.to_vec());
    let ends = readers
        .ask_all((None, None), move |connection| {
            let sums = dropped_until(connection, &of, range, false)?;
            let mut rows = None;
            for part in of_rows.iter().filter(|part| part.0 < part.1) {
                rows = rows.max(dropped_until(connection, &of, *part, true)?);
            }
            Ok((sums, rows))
        })
        .await?;
    let (sums, rows) = ends.into_iter().fold((None, None), |all, one| (all.0.max(one.0), all.1.max(one.1)));
    if let Some(complete_from_us) = rows.filter(|_| rows > sums) {
        let advice = ", or request precision=approx or fields=orders,units,revenue for whole days";
        return Err(QueryError::Dropped { what: "orders", advice, complete_from_us });
    }
    match sums {
        Some(complete_from_us) => {
            Err(QueryError::Dropped { what: "sales figures", advice: "", complete_from_us })
        }
        None => Ok(()),
    }
}

/// The start and end of each group, in ascending order. There is one entry for each group that may contain sales, or
/// a single entry for the whole range.
type Spans = Arc<[(i64, i64)]>;

/// Returns the period within the range that contains sales, in whole days of the zone.
async fn bounds(readers: &Readers, query: &SalesQuery) -> Result<Option<(i64, i64)>, QueryError> {
    let (of, range) = (query.of.clone(), query.range_us);
    let shares = readers
        .ask_all(None, move |connection| crate::sales::read::sales_bounds(connection, &of, range))
        .await?;
    let found = shares.into_iter().flatten().reduce(|one, other| (one.0.min(other.0), one.1.max(other.1)));
    let Some((first, last)) = found else { return Ok(None) };
    // Extends the UTC days with sales to whole days in the zone.
    let first = local::day_start(&query.zone, first);
    let last = local::next_day(&query.zone, last + BucketSize::Day.us() - 1);
    let (from_us, to_us) = (range.0.unwrap_or(first).max(first), range.1.unwrap_or(last).min(last));
    Ok((from_us < to_us).then_some((from_us, to_us)))
}

/// Returns the zone's days or hours that may contain sales: those that overlap a UTC day or hour with sales. Gaps
/// between them cost nothing, however long they are.
async fn spans(readers: &Readers, query: &SalesQuery, by: SumsBy) -> Result<Spans, QueryError> {
    let (of, range) = (query.of.clone(), query.range_us);
    let shares = readers
        .ask_all(Vec::new(), move |connection| {
            crate::sales::read::sales_starts(connection, &of, by, range, GROUPS_MAX + 1)
        })
        .await?;
    let starts: BTreeSet<i64> = shares.into_iter().flatten().collect();
    if starts.len() > GROUPS_MAX {
        return Err(TOO_MANY_GROUPS);
    }
    let zone = query.zone.clone();
    readers.compute(move || local_spans(&zone, by, &starts, range).into()).await
}

fn local_spans(
    zone: &TimeZone,
    by: SumsBy,
    starts: &BTreeSet<i64>,
    (from_us, to_us): (Option<i64>, Option<i64>),
) -> Vec<(i64, i64)> {
    let mut spans: Vec<(i64, i64)> = Vec::with_capacity(starts.len());
    for start_us in starts {
        let behind = spans.last().map_or(i64::MIN, |(_, end_us)| *end_us);
        let mut at = from_us.unwrap_or(*start_us).max(*start_us).max(behind);
        let end_us = to_us.unwrap_or(i64::MAX).min(start_us + by.us());
        while at < end_us {
            let span = match by {
                SumsBy::Hour => (local::hour_start(zone, at), local::next_hour(zone, at)),
                _ => (local::day_start(zone, at), local::next_day(zone, at)),
            };
            spans.push(span);
            at = span.1;
        }
    }
    spans
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
        if let Some(result) = by_name(readers, query, by, bounds, &pins, passes).await? {
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
    let windows = windows(bounds, days);
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

/// Computes groups by name, in passes over parts of the names. Returns `None` if one of the passes does not fit into
/// memory.
async fn by_name(
    readers: &Readers,
    query: &SalesQuery,
    by: SaleSplit,
    bounds: (i64, i64),
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
        let mut adding = GroupAccumulator::new([bounds].into());
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

    #[test]
    fn only_days_and_hours_that_may_hold_sales_are_groups() {
        let us = |text: &str| text.parse::<jiff::Timestamp>().unwrap().as_microsecond();
        let spans = |zone: &str, by, starts: &[&str], range| {
            let starts = starts.iter().map(|start| us(start)).collect();
            local_spans(&TimeZone::get(zone).unwrap(), by, &starts, range)
        };
        let far = ["0001-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "9999-12-30T00:00:00Z"];
        for by in [SumsBy::Day, SumsBy::Hour] {
            let found = spans("UTC", by, &far, (None, None));
            assert_eq!(found.iter().map(|span| span.0).collect::<Vec<_>>(), far.map(us));
        }
        // A UTC day overlaps two days in Berlin, and a UTC hour overlaps two hours in Kolkata. Two consecutive UTC
        // days share one of their days in Berlin.
        let days = ["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"];
        assert_eq!(spans("Europe/Berlin", SumsBy::Day, &days, (None, None)).len(), 3);
        let hours = spans("Asia/Kolkata", SumsBy::Hour, &["2026-01-01T10:00:00Z"], (None, None));
        assert_eq!(
            hours.iter().map(|span| span.0).collect::<Vec<_>>(),
            [us("2026-01-01T09:30:00Z"), us("2026-01-01T10:30:00Z")]
        );
        let from = Some(us("2026-01-01T10:30:00Z"));
        assert_eq!(spans("Asia/Kolkata", SumsBy::Hour, &["2026-01-01T10:00:00Z"], (from, None)).len(), 1);
        for zone in ["America/New_York", "Asia/Tokyo", "Pacific/Kiritimati", "Pacific/Apia"] {
            for by in [SumsBy::Day, SumsBy::Hour] {
                let ends = ["0000-01-01T00:00:00Z", "9999-12-30T22:00:00Z"];
                let found = spans(zone, by, &ends, (None, None));
                assert!(found.windows(2).all(|pair| pair[0].1 <= pair[1].0), "{zone}");
                assert!(found.iter().all(|span| span.0 < span.1), "{zone}");
                for end in ends {
                    assert!(crate::sales::read::span_of(&found, us(end)).is_some(), "{zone} {end}");
                }
            }
        }
    }
}
