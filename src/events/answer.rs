//! `POST /events` and `/events/bulk`: the outcome of every row. `/metrics?tenant_id=…`: counts over time. Summaries and
//! numbers of distinct values.

use jiff::tz::TimeZone;

use super::buckets::Tally;
use super::count::Bucket;
use super::groups::Groups;
use super::query::{BucketsPlan, GroupBy, SummaryPlan, UniquePlan};
use super::shapes::{
    BulkResult, BulkRow, EventGroup, EventResult, EventSummary, EventTotal, Metric, Metrics, SummaryMeta,
    UniqueMeta, UniqueMethod, UniqueValues,
};
use super::summary::{Summary, Unique};
use crate::api::error::{RowErrors, RowRefusal};
use crate::api::reads;
use crate::base::bucket_size::BucketSize;
use crate::base::clock;
use crate::base::ids::Receipt;
use crate::config::AckLevel;
use crate::event::{Code, DecodeError, FieldError, FieldErrors};
use crate::http::Answer;
use crate::query::date_of;
use crate::shard::Outcome;
use crate::sketch::HyperLogLog;

/// Returns the error for a row that belongs to a tenant other than the key's.
#[must_use]
pub(super) fn wrong_tenant() -> DecodeError {
    DecodeError::Fields(FieldErrors::new(vec![FieldError {
        pointer: "/tenant_id",
        code: Code::WrongTenant,
        detail: "the key is bound to another tenant",
    }]))
}

fn json(status: u16, body: &impl serde::Serialize, level: AckLevel) -> Answer {
    Answer::new(status, "application/json", serde_json::to_vec(body).unwrap_or_default())
        .with("Firehose-Ack", level.word())
}

/// Returns the response for one journaled event. The outcome is `None` if it was not committed in time.
#[must_use]
pub(super) fn one(outcome: Option<Outcome>, event_id: &str, level: AckLevel, receipt: Receipt) -> Answer {
    let (status, said) = match outcome {
        Some(Outcome::Inserted) => (201, "created"),
        Some(Outcome::Duplicate | Outcome::Conflict) => (200, "duplicate"),
        // A record that passed the server's checks but failed the shard's is in the shard's rejected_record.
        Some(
            Outcome::Rejected
            | Outcome::Repeated
            | Outcome::Missing
            | Outcome::Suppressed
            | Outcome::SumTooLarge
            | Outcome::Superseded
            | Outcome::Flagged,
        )
        | None => (202, "accepted"),
    };
    let conflict = (outcome == Some(Outcome::Conflict)).then_some(true);
    json(status, &EventResult { status: said, event_id, conflict }, level)
        .with("Firehose-Receipt", receipt.to_string())
}

/// Counts and collects a bulk request's rows.
#[derive(Debug, Default)]
pub(super) struct Bulk<'r> {
    inserted: usize,
    duplicates: usize,
    rejected: usize,
    pending: usize,
    rows: Vec<BulkRow<'r>>,
}

impl<'r> Bulk<'r> {
    /// Adds a journaled row.
    pub(super) fn settled(&mut self, index: usize, event_id: &'r str, outcome: Option<Outcome>) {
        let (count, result) = match outcome {
            Some(Outcome::Inserted) => {
                self.inserted += 1;
                return;
            }
            Some(Outcome::Duplicate) => (&mut self.duplicates, "duplicate"),
            Some(Outcome::Conflict) => (&mut self.duplicates, "conflict"),
            // `Rejected` also occurs for events. The others occur only for orders and prices.
            Some(
                Outcome::Rejected
                | Outcome::Repeated
                | Outcome::Missing
                | Outcome::Suppressed
                | Outcome::SumTooLarge
                | Outcome::Superseded
                | Outcome::Flagged,
            ) => (&mut self.rejected, "rejected"),
            None => (&mut self.pending, "pending"),
        };
        *count += 1;
        self.rows.push(BulkRow { index, event_id: Some(event_id), result, ..BulkRow::default() });
    }

    /// Adds a valid row that the server refused.
    pub(super) fn refused(&mut self, index: usize, event_id: &'r str, refusal: RowRefusal) {
        self.rejected += 1;
        let code = Some(refusal.code());
        self.rows.push(BulkRow {
            index,
            event_id: Some(event_id),
            result: "rejected",
            code,
            ..BulkRow::default()
        });
    }

    /// Adds a row that is not an event.
    pub(super) fn invalid(&mut self, row: &RowErrors) {
        self.rejected += 1;
        self.rows.push(BulkRow {
            index: row.index,
            event_id: None,
            result: "rejected",
            code: Some(row.error.code().as_str()),
            pointer: Some(row.error.pointer()),
            line: row.line,
        });
    }

    #[must_use]
    pub(super) fn answer(mut self, level: AckLevel) -> Answer {
        self.rows.sort_by_key(|row| row.index);
        let Bulk { inserted, duplicates, rejected, pending, rows } = self;
        let received = inserted + duplicates + rejected + pending;
        json(200, &BulkResult { received, inserted, duplicates, rejected, pending, results: rows }, level)
    }
}

/// Returns the response with counts over time.
#[must_use]
pub(super) fn buckets(plan: &BucketsPlan, buckets: &[Bucket]) -> Answer {
    let metric = |bucket: &Bucket| Metric {
        bucket_start: clock::rfc3339(bucket.start_us),
        source: bucket.source.clone(),
        event_type: bucket.event_type.clone(),
        count: bucket.count.unsigned_abs(),
        first_at: clock::rfc3339(bucket.first_us),
        last_at: clock::rfc3339(bucket.last_us),
    };
    let body = Metrics {
        tenant_id: plan.of.tenant_id.clone(),
        bucket_size: match plan.size {
            BucketSize::Minute => "minute",
            BucketSize::Hour => "hour",
            BucketSize::Day => "day",
        }
        .to_owned(),
        metrics: buckets.iter().map(metric).collect(),
    };
    Answer::new(200, "application/json", serde_json::to_vec(&body).unwrap_or_default())
        .with("Cache-Control", "no-store")
}

/// When the answer to a query began.
pub(super) struct Started {
    as_of_us: i64,
    monotonic_us: u64,
}

impl Started {
    pub(super) fn now() -> Started {
        Started { as_of_us: clock::unix_us(), monotonic_us: clock::monotonic_us() }
    }

    fn as_of(&self) -> String {
        clock::rfc3339(self.as_of_us)
    }

    fn elapsed_ms(&self) -> f64 {
        (clock::monotonic_us() - self.monotonic_us) as f64 / 1e3
    }
}

/// Returns the response with counts by group.
#[must_use]
pub(super) fn summary(plan: &SummaryPlan, summary: Summary, started: Started) -> Answer {
    let group = |key: String, tally: Tally| EventGroup {
        key,
        count: tally.count.unsigned_abs(),
        first_at: clock::rfc3339(tally.first_us),
        last_at: clock::rfc3339(tally.last_us),
    };
    let zone = plan.period.zone.clone().unwrap_or(TimeZone::UTC);
    let key_of = |start_us: i64| match plan.by {
        GroupBy::Day => date_of(&zone, start_us).to_string(),
        _ => clock::rfc3339(start_us),
    };
    let Groups { times, names } = summary.groups;
    let times = times.into_iter().map(|(start_us, tally)| group(key_of(start_us), tally));
    let names = names.into_iter().map(|(name, tally)| group(name, tally));
    let total = EventTotal {
        count: summary.total.map_or(0, |total| total.count.unsigned_abs()),
        first_at: summary.total.map(|total| clock::rfc3339(total.first_us)),
        last_at: summary.total.map(|total| clock::rfc3339(total.last_us)),
    };
    let meta = SummaryMeta {
        precision: "exact",
        rows_scanned: summary.read,
        preaggregated: summary.preaggregated,
        as_of: started.as_of(),
        elapsed_ms: started.elapsed_ms(),
    };
    reads::json(200, &EventSummary { groups: times.chain(names).collect(), total, meta })
}

/// Returns the response with a number of distinct values.
#[must_use]
pub(super) fn unique(plan: &UniquePlan, unique: &Unique, started: Started) -> Answer {
    let (precision, method, error_bounds) = match unique.is_exact {
        true => ("exact", "set of 128-bit hashes", serde_json::json!({})),
        false => {
            let error = HyperLogLog::RELATIVE_STANDARD_ERROR;
            ("approx", "hyperloglog p=14", serde_json::json!({"count": {"relative_standard_error": error}}))
        }
    };
    let meta = UniqueMeta {
        precision,
        method: UniqueMethod { count: method },
        error_bounds,
        rows_scanned: unique.read,
        preaggregated: unique.preaggregated,
        as_of: started.as_of(),
        elapsed_ms: started.elapsed_ms(),
    };
    let Unique { count, events, missing, .. } = *unique;
    reads::json(200, &UniqueValues { by: plan.text.clone(), count, events, missing, meta })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::base::ids::{LaneId, Sequence, ShardId};
    use crate::event::DecodeError;

    fn body(answer: &Answer) -> Value {
        serde_json::from_slice(&answer.body).unwrap()
    }

    #[test]
    fn one_event_is_created_a_duplicate_or_accepted() {
        let receipt = Receipt { shard: ShardId(0), lane: LaneId::keyed(0), sequence: Sequence(1) };
        let said = |outcome| {
            let answer = one(outcome, "e\"1", AckLevel::Os, receipt);
            (answer.status, body(&answer))
        };
        assert_eq!(said(Some(Outcome::Inserted)), (201, json!({"status":"created","event_id":"e\"1"})));
        assert_eq!(said(Some(Outcome::Duplicate)), (200, json!({"status":"duplicate","event_id":"e\"1"})));
        let conflict = json!({"status":"duplicate","event_id":"e\"1","conflict":true});
        assert_eq!(said(Some(Outcome::Conflict)), (200, conflict));
        assert_eq!(said(None), (202, json!({"status":"accepted","event_id":"e\"1"})));
    }

    #[test]
    fn the_counts_of_a_bulk_add_up_and_results_come_in_order() {
        let mut bulk = Bulk::default();
        bulk.settled(4, "e", None);
        bulk.settled(0, "a", Some(Outcome::Inserted));
        bulk.refused(3, "d", RowRefusal::QueueFull);
        bulk.settled(1, "b", Some(Outcome::Conflict));
        bulk.invalid(&RowErrors { index: 2, line: Some(3), error: DecodeError::NotJson { offset: 0 } });
        let answer = bulk.answer(AckLevel::Disk);
        assert_eq!(
            body(&answer),
            json!({"received":5,"inserted":1,"duplicates":1,"rejected":2,"pending":1,"results":[
                {"index":1,"event_id":"b","result":"conflict"},
                {"index":2,"result":"rejected","code":"not_json","pointer":"","line":3},
                {"index":3,"event_id":"d","result":"rejected","code":"queue_full"},
                {"index":4,"event_id":"e","result":"pending"},
            ]})
        );
        assert!(answer.headers.contains(&("Firehose-Ack", "disk".into())));
    }
}
