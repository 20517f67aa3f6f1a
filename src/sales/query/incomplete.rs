//! The days (UTC) of which retention has deleted something that figures require.
//!
//! A day is incomplete in an answer if it is so in any shard. A range that names its beginning is refused if it has
//! such a day. Otherwise, the answer leaves these days out and names them, so every figure in an answer is right.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::super::spans::Spans;
use super::figures::{GROUPS_MAX, GroupBy, IncompleteDays, SalesQuery};
use super::windows::days;
use crate::base::bucket_size::BucketSize;
use crate::base::clock;
use crate::orders::{DayRuns, days_without_rows, days_without_sums};
use crate::query::{QueryError, Readers, date_of};

/// The maximum number of incomplete days that a query reads, as many as an answer may have groups.
const DAYS_MAX: i64 = GROUPS_MAX as i64;
const TOO_MANY_DAYS: QueryError = QueryError::TooLarge(
    "retention has deleted orders of more than 200000 days of this range; use a shorter one",
);

/// The data that figures require: the sums of the whole range, and the rows of the given parts.
#[derive(Clone, Debug)]
pub(super) struct Required {
    pub(super) range: (i64, i64),
    pub(super) rows: Vec<(i64, i64)>,
}

/// The incomplete days of a query.
#[derive(Clone, Debug, Default)]
pub(super) struct Incomplete {
    days: DayRuns,
    /// Set if the sums of one of the days are deleted too.
    without_sums: bool,
}

impl Required {
    /// Returns the days whose sums or rows are not all there. Reads one entry for each of them and, for each dropped
    /// partition that is not freed yet, searches for the first sale of each.
    pub(super) async fn incomplete(
        &self,
        readers: &Readers,
        query: &SalesQuery,
    ) -> Result<Incomplete, QueryError> {
        let (of, required) = (query.of.clone(), self.clone());
        let shares = readers
            .ask_all(Incomplete::default(), move |connection| {
                let mut days = days_without_sums(connection, &of, required.range, DAYS_MAX + 1)?;
                let without_sums = !days.is_empty();
                for part in required.rows.iter().filter(|part| part.0 < part.1) {
                    days = days.union(&days_without_rows(connection, &of, *part, DAYS_MAX + 1)?);
                }
                Ok(Incomplete { days, without_sums })
            })
            .await?;
        if shares.iter().all(Incomplete::is_empty) {
            return Ok(Incomplete::default());
        }
        let merged =
            readers.compute(move || shares.iter().fold(Incomplete::default(), Incomplete::union)).await?;
        if merged.days.count() > DAYS_MAX { Err(TOO_MANY_DAYS) } else { Ok(merged) }
    }
}

impl Incomplete {
    #[must_use]
    pub(super) fn union(self, other: &Incomplete) -> Incomplete {
        let without_sums = self.without_sums || other.without_sums;
        Incomplete { days: self.days.union(&other.days), without_sums }
    }

    #[must_use]
    pub(super) fn is_empty(&self) -> bool {
        self.days.is_empty()
    }

    #[must_use]
    pub(super) fn contains(&self, other: &Incomplete) -> bool {
        self.days.contains(&other.days)
    }

    #[must_use]
    pub(super) fn overlaps(&self, period: (i64, i64)) -> bool {
        self.days.overlaps(period)
    }

    /// Returns the complete part of the periods, and `true` if it is not all of them. A group by time is in it if the
    /// whole group is complete.
    pub(super) async fn complete(
        &self,
        readers: &Readers,
        group_by: GroupBy,
        mut periods: Vec<(i64, i64)>,
    ) -> Result<(Spans, bool), QueryError> {
        let spans = if group_by.is_named() { Spans::together } else { Spans::each };
        if self.is_empty() {
            return Ok((spans(periods), false));
        }
        let days = self.days.clone();
        let cut = move || {
            let is_cut = periods.iter().any(|period| days.overlaps(*period));
            if group_by.is_named() {
                periods = periods.into_iter().flat_map(|period| days.gaps(period)).collect();
            } else {
                periods.retain(|period| !days.overlaps(*period));
            }
            (spans(periods), is_cut)
        };
        readers.compute(cut).await
    }

    /// Returns the refusal of an answer that, without a beginning, has no group because of these days. `None` if the
    /// range has no sales on them.
    pub(super) async fn hides_all(
        &self,
        readers: &Readers,
        query: &SalesQuery,
        range: (i64, i64),
    ) -> Result<Option<QueryError>, QueryError> {
        let days = days(readers, query, range).await?;
        let is_hidden = |start_us: i64| self.overlaps((start_us, start_us + BucketSize::Day.us()));
        let (mut hidden, mut others) = (false, false);
        for (start_us, _) in days.iter().filter(|(_, sales)| *sales > 0) {
            *if is_hidden(*start_us) { &mut hidden } else { &mut others } = true;
        }
        if query.group_by.is_named() && !hidden {
            return Ok(None);
        }
        // Every group by time that is left out has sales. In another zone, it may consist of the end of an incomplete
        // day and of the beginning of a complete one.
        let groups = match query.group_by {
            GroupBy::Hour => "hour",
            GroupBy::Day | GroupBy::Product | GroupBy::Category => "day",
        };
        let advice = if !others || query.group_by.is_named() || query.zone == TimeZone::UTC {
            "no other day of the range has sales".to_owned()
        } else {
            format!(
                "every {groups} of {} that has sales overlaps such a day (UTC); with tz=UTC, such days alone are \
                 left out",
                query.zone.iana_name().unwrap_or("the zone")
            )
        };
        Ok(Some(self.refusal(query, &advice)))
    }

    /// Returns the number of days and their ends, for an answer.
    #[must_use]
    pub(super) fn summary(&self) -> Option<IncompleteDays> {
        let (first_us, last_us) = self.days.ends()?;
        Some(IncompleteDays { count: self.days.count(), first_us, last_us })
    }

    /// Returns the refusal of an answer that requires one of the days.
    #[must_use]
    pub(super) fn refused(&self, query: &SalesQuery) -> QueryError {
        let end_us = self.summary().map_or(i64::MIN, IncompleteDays::end_us);
        let next = clock::rfc3339(end_us);
        let advice =
            format!("request a range without such days, for example from {next} on, or omit the beginning");
        self.refusal(query, &advice)
    }

    fn refusal(&self, query: &SalesQuery, advice: &str) -> QueryError {
        let Some(days) = self.summary() else { return QueryError::Busy };
        let date = |us: i64| date_of(&TimeZone::UTC, us);
        let (first, last) = (date(days.first_us), date(days.last_us));
        let which = match days.count {
            1 => format!("{first} (UTC)"),
            count => format!("{count} days (UTC), the first {first} and the last {last},"),
        };
        let what = if self.without_sums { "sales figures" } else { "orders" };
        let mut detail = format!("{what} of {which} were deleted by retention; {advice}");
        if !self.without_sums {
            detail.push_str(
                "; precision=approx, and fields=orders,units,revenue for whole days, do not require these orders",
            );
            if has_odd_hours(&query.zone, days) {
                detail.push_str(", except in a zone whose hours begin within those of UTC");
            }
        }
        QueryError::Dropped(detail)
    }
}

/// Returns `true` if the zone's hours are parts of two hours (UTC), which have no sums.
fn has_odd_hours(zone: &TimeZone, days: IncompleteDays) -> bool {
    [days.first_us, days.end_us()].into_iter().any(|us| {
        let at = Timestamp::from_microsecond(us).unwrap_or_default();
        i64::from(zone.to_offset(at).seconds()) % (BucketSize::Hour.us() / 1_000_000) != 0
    })
}
