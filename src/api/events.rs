//! `POST /events` and `/events/bulk`: the outcome of every row.

use super::error::RowErrors;
use super::event::level_name;
use super::schema::{BulkResult, BulkRow, EventResult};
use crate::base::ids::Receipt;
use crate::config::AckLevel;
use crate::event::{Code, DecodeError, FieldError, FieldErrors};
use crate::http::Answer;
use crate::shard::Outcome;

/// Why rows were refused while others of the request were accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowRefusal {
    QueueFull,
    JournalFull,
    Overloaded,
    OutcomeUnknown,
}

impl RowRefusal {
    /// The code in a response.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            RowRefusal::QueueFull => "queue_full",
            RowRefusal::JournalFull => "journal_full",
            RowRefusal::Overloaded => "overloaded",
            RowRefusal::OutcomeUnknown => "outcome_unknown",
        }
    }
}

/// The error of a row of a tenant other than the key's.
#[must_use]
pub fn wrong_tenant() -> DecodeError {
    DecodeError::Fields(FieldErrors::new(vec![FieldError {
        pointer: "/tenant_id",
        code: Code::WrongTenant,
        detail: "the key is bound to another tenant",
    }]))
}

fn json(status: u16, body: &impl serde::Serialize, level: AckLevel) -> Answer {
    Answer::new(status, "application/json", serde_json::to_vec(body).unwrap_or_default())
        .with("Firehose-Ack", level_name(level))
}

/// The response to one journaled event. `None`: not committed in time.
#[must_use]
pub fn one(outcome: Option<Outcome>, event_id: &str, level: AckLevel, receipt: Receipt) -> Answer {
    let (status, said) = match outcome {
        Some(Outcome::Inserted) => (201, "created"),
        Some(Outcome::Duplicate | Outcome::Conflict) => (200, "duplicate"),
        // A record that passed the server's checks and failed the shard's is in its rejected_record.
        Some(
            Outcome::Rejected
            | Outcome::Repeated
            | Outcome::Missing
            | Outcome::Suppressed
            | Outcome::SumTooLarge
            | Outcome::Superseded,
        )
        | None => (202, "accepted"),
    };
    let conflict = (outcome == Some(Outcome::Conflict)).then_some(true);
    json(status, &EventResult { status: said, event_id, conflict }, level)
        .with("Firehose-Receipt", receipt.to_string())
}

/// Counts and collects the rows of a bulk request.
#[derive(Debug, Default)]
pub struct Bulk<'r> {
    inserted: usize,
    duplicates: usize,
    rejected: usize,
    pending: usize,
    rows: Vec<BulkRow<'r>>,
}

impl<'r> Bulk<'r> {
    /// Adds a journaled row.
    pub fn settled(&mut self, index: usize, event_id: &'r str, outcome: Option<Outcome>) {
        let (count, result) = match outcome {
            Some(Outcome::Inserted) => {
                self.inserted += 1;
                return;
            }
            Some(Outcome::Duplicate) => (&mut self.duplicates, "duplicate"),
            Some(Outcome::Conflict) => (&mut self.duplicates, "conflict"),
            // All but the first occur for orders only.
            Some(
                Outcome::Rejected
                | Outcome::Repeated
                | Outcome::Missing
                | Outcome::Suppressed
                | Outcome::SumTooLarge
                | Outcome::Superseded,
            ) => (&mut self.rejected, "rejected"),
            None => (&mut self.pending, "pending"),
        };
        *count += 1;
        self.rows.push(BulkRow { index, event_id: Some(event_id), result, ..BulkRow::default() });
    }

    /// Adds a row that was refused for the server's reasons.
    pub fn refused(&mut self, index: usize, event_id: &'r str, refusal: RowRefusal) {
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
    pub fn invalid(&mut self, row: &RowErrors) {
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
    pub fn answer(mut self, level: AckLevel) -> Answer {
        self.rows.sort_by_key(|row| row.index);
        let Bulk { inserted, duplicates, rejected, pending, rows } = self;
        let received = inserted + duplicates + rejected + pending;
        json(200, &BulkResult { received, inserted, duplicates, rejected, pending, results: rows }, level)
    }
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
