//! The partitions of clicks: one for each day in UTC.

use std::collections::BTreeSet;

use super::connect::Session;
use super::ddl::{LOCK_SQL, has_table};
use super::error::Failure;
use crate::base::clock;
use crate::ship::rows::ClickRow;
use crate::ship::sink::SinkError;

const DAY_US: i64 = 86_400_000_000;
/// Partitions are made this many days ahead.
const DAYS_AHEAD: i64 = 7;
/// A day is made for clicks that arrived at most so long ago. Older ones come from a clock that was wrong.
const DAYS_BACK: i64 = 4_000;
/// Days that are made at most at once. Each is a table.
const DAYS_AT_ONCE: usize = 64;
/// After a failure, the days are tried again after this time.
const RETRY_US: u64 = 60_000_000;

/// Days since 1970 that have a partition, as far as known, and when to try again.
#[derive(Debug, Default)]
pub(super) struct Days {
    known: BTreeSet<i64>,
    retry_us: u64,
}

impl Days {
    /// Forgets what is known, because the server may be another one.
    pub(super) fn clear(&mut self) {
        *self = Days::default();
    }

    /// Returns the days without a partition: of these rows, of today and of the week ahead. None while a retry has to
    /// wait.
    pub(super) fn missing(&self, rows: &[ClickRow]) -> Vec<i64> {
        if clock::monotonic_us() < self.retry_us {
            return Vec::new();
        }
        let today = clock::unix_us().div_euclid(DAY_US);
        let mut days: BTreeSet<i64> = (today..=today + DAYS_AHEAD).collect();
        let of_rows = rows.iter().map(|row| row.received_us.div_euclid(DAY_US));
        days.extend(of_rows.filter(|day| (today - DAYS_BACK..=today + DAYS_AHEAD).contains(day)));
        days.retain(|day| !self.known.contains(day));
        days.into_iter().take(DAYS_AT_ONCE).collect()
    }

    /// Notes that these days have a partition.
    pub(super) fn made(&mut self, days: &[i64]) {
        self.known.extend(days);
    }

    /// Notes a failure. Until the retry, rows of these days go to the default partition, from which the retry moves
    /// them.
    pub(super) fn failed(&mut self) {
        self.retry_us = clock::monotonic_us() + RETRY_US;
    }
}

/// Returns the name of a day's partition and its bounds.
fn partition(day: i64) -> (String, String, String) {
    let date = |day: i64| clock::rfc3339(day.saturating_mul(DAY_US)).get(..10).unwrap_or_default().to_owned();
    let first = date(day);
    (
        format!("clicks_{}", first.replace('-', "")),
        format!("{first} 00:00:00+00"),
        format!("{} 00:00:00+00", date(day + 1)),
    )
}

/// Creates partitions. If the default partition has rows of such a day, they move.
pub(super) async fn make(session: &Session, days: &[i64]) -> Result<(), Failure> {
    session
        .client
        .batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL lock_timeout = '2s'")
        .await?;
    session.client.batch_execute(LOCK_SQL).await?;
    for day in days {
        let (name, from, to) = partition(*day);
        if has_table(session, &name).await? {
            continue;
        }
        let range = format!("received_at >= '{from}' AND received_at < '{to}'");
        // Nothing may be added to the default partition between the check and the new partition.
        session.client.batch_execute("LOCK TABLE fh.clicks_default IN SHARE ROW EXCLUSIVE MODE").await?;
        let find = format!("SELECT EXISTS (SELECT 1 FROM fh.clicks_default WHERE {range})");
        let bounds = format!("FOR VALUES FROM ('{from}') TO ('{to}')");
        let sql = match session.client.query_one(find.as_str(), &[]).await?.get(0) {
            false => format!("CREATE TABLE fh.{name} PARTITION OF fh.clicks {bounds}"),
            true => format!(
                "CREATE TABLE fh.{name} (LIKE fh.clicks INCLUDING DEFAULTS INCLUDING CONSTRAINTS); \
                 INSERT INTO fh.{name} SELECT * FROM fh.clicks_default WHERE {range}; \
                 DELETE FROM fh.clicks_default WHERE {range}; \
                 ALTER TABLE fh.clicks ATTACH PARTITION fh.{name} {bounds}"
            ),
        };
        session.client.batch_execute(&sql).await?;
    }
    session.client.batch_execute("COMMIT").await?;
    Ok(())
}

/// Returns `true` if the connection is usable after this failure, once the transaction is rolled back: rows go to the
/// default partition until the next attempt.
pub(super) fn is_harmless(failure: &Failure) -> bool {
    match failure {
        Failure::Twice(_) | Failure::Data(_) => true,
        // A lock that is not free, a user who may not create tables, and a day with more rows than can move in time.
        Failure::Sink(SinkError::Passing(reason) | SinkError::Lasting(reason)) => {
            ["SQLSTATE 55P03", "SQLSTATE 40P01", "SQLSTATE 42501", "SQLSTATE 57014"]
                .iter()
                .any(|code| reason.starts_with(code))
        }
        Failure::Sink(_) => false,
    }
}
