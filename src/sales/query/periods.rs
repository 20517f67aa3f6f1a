//! The periods of a range that may contain sales.

use std::collections::BTreeSet;

use jiff::tz::TimeZone;

use super::figures::{GROUPS_MAX, SalesQuery, TOO_MANY_GROUPS};
use crate::base::bucket_size::BucketSize;
use crate::orders::SumsBy;
use crate::query::{QueryError, Readers, local};

/// Returns the period within the range that contains sales, in whole days of the zone.
pub(super) async fn bounds(readers: &Readers, query: &SalesQuery) -> Result<Option<(i64, i64)>, QueryError> {
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
pub(super) async fn spans(
    readers: &Readers,
    query: &SalesQuery,
    by: SumsBy,
) -> Result<Vec<(i64, i64)>, QueryError> {
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
    readers.compute(move || local_spans(&zone, by, &starts, range)).await
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

#[cfg(test)]
mod tests {
    use super::*;

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
                    assert!(found.iter().any(|span| (span.0..span.1).contains(&us(end))), "{zone} {end}");
                }
            }
        }
    }
}
