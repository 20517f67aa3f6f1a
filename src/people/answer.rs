//! Erasures: request parsing, the certificate, and refusals.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::report::ErasureState;
use crate::api::Problem;
use crate::api::error::{Asker, Refuse, problem};
use crate::api::reads::json as json_answer;
use crate::api::write::{self, WriteRefused};
use crate::base::clock;
use crate::base::counters::Cell;
use crate::base::ids::hex;
use crate::config::AckLevel;
use crate::http::Answer;
use crate::query::{Parameters, QueryError};
use crate::shard::ErasureMode;
use crate::tenants::Denied;
use crate::uploads::{UploadRefused, refused as upload_refused};

/// The reason why an erasure is not started, or why its state is not returned.
#[derive(Debug, thiserror::Error)]
pub enum PeopleRefused {
    #[error(
        "a customer id must have 1 to 200 bytes without control characters; a user id must be a 64-bit \
             integer"
    )]
    NoSuchPerson,
    #[error("there is no erasure with this id")]
    NoSuchErasure,
    #[error("{0} in the data folder contains rows that the server cannot erase; remove it first")]
    InTheWay(String),
    #[error("another request is starting an erasure of this person")]
    Beginning,
    #[error("the task ended without a response; a retry is safe")]
    Lost,
    #[error("disk error: {0}")]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Query(#[from] QueryError),
    #[error(transparent)]
    Ingest(#[from] WriteRefused),
    #[error(transparent)]
    Upload(#[from] UploadRefused),
}

impl From<Denied> for PeopleRefused {
    fn from(denied: Denied) -> PeopleRefused {
        PeopleRefused::Ingest(WriteRefused::Denied(denied))
    }
}

impl Refuse for PeopleRefused {
    fn answer(&self, asker: &Asker<'_>) -> Answer {
        refused(self, asker.request_id, asker.problems)
    }
}

const MODE: &[&str] = &["mode", "ack"];

/// Parses `?mode=`. The default is to erase. This is the only mode for a user of the collector, whose data has no
/// figures to preserve.
pub(super) fn mode(query: Option<&str>, of_customer: bool) -> Result<ErasureMode, QueryError> {
    let mut parameters = Parameters::read(query, MODE);
    let choices = ErasureMode::ALL.map(|mode| (mode.as_str(), mode));
    let mode = parameters.choice("mode", if of_customer { &choices } else { &choices[..1] });
    parameters.done(mode.unwrap_or(ErasureMode::Erase)).map_err(QueryError::Parameters)
}

/// An erasure across all shards.
#[derive(Debug)]
pub(super) struct Erasure<'e> {
    pub id: &'e str,
    /// The states in shard order. An entry is `None` if the shard does not know the erasure.
    pub shards: &'e [Option<ErasureState>],
}

impl Erasure<'_> {
    #[must_use]
    pub(super) fn is_finished(&self) -> bool {
        self.shards.iter().all(|shard| shard.as_ref().is_some_and(|shard| shard.finished_us.is_some()))
    }

    fn first(&self) -> Option<&ErasureState> {
        self.shards.iter().flatten().next()
    }

    /// Returns the erasure report, without personal data, and its digest.
    fn certificate(&self) -> Value {
        let Some(first) = self.first() else { return Value::Null };
        let known = || self.shards.iter().flatten();
        let shards: Vec<Value> = self
            .shards
            .iter()
            .enumerate()
            .filter_map(|(number, shard)| {
                let mut told = serde_json::to_value(shard.as_ref()?.report).ok()?;
                told["shard"] = json!(number);
                Some(told)
            })
            .collect();
        let finished_us = known().filter_map(|shard| shard.finished_us).max().unwrap_or_default();
        let mut told = json!({
            "id": self.id,
            "subject": if first.tenant_id.is_some() { "customer" } else { "user" },
            "tenant_id": first.tenant_id,
            "mode": first.mode,
            "began_at": clock::rfc3339(first.began_us),
            "finished_at": clock::rfc3339(finished_us),
            "shards": shards,
            "uploads_removed": first.uploads,
            "exports_removed": first.exports,
            "names_truncated": first.names_truncated,
        });
        told["digest"] = Value::from(digest(&told));
        told
    }

    /// Returns the progress as JSON. Once the erasure is finished, it includes the certificate.
    #[must_use]
    pub(super) fn json(&self) -> Value {
        let steps: Vec<Value> = self
            .shards
            .iter()
            .enumerate()
            .map(|(number, shard)| {
                json!({"shard": number, "step": shard.as_ref().map_or("unknown", |shard| shard.step.as_str())})
            })
            .collect();
        let is_finished = self.is_finished();
        let state = if is_finished { "finished" } else { "running" };
        let mut told = json!({"id": self.id, "state": state, "shards": steps});
        if is_finished {
            told["certificate"] = self.certificate();
        }
        told
    }
}

/// Returns the SHA-256 of the canonical JSON: members sorted by name, no whitespace, whole numbers (RFC 8785).
fn digest(value: &Value) -> String {
    let mut canonical = String::new();
    write_canonical(value, &mut canonical);
    format!("sha-256:{}", hex(&Sha256::digest(canonical.as_bytes())))
}

fn write_canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(members) => {
            let mut sorted: Vec<(&String, &Value)> = members.iter().collect();
            sorted.sort_by_key(|(name, _)| name.encode_utf16().collect::<Vec<_>>());
            out.push('{');
            for (place, (name, value)) in sorted.into_iter().enumerate() {
                out.push_str(if place > 0 { "," } else { "" });
                out.push_str(&Value::from(name.as_str()).to_string());
                out.push(':');
                write_canonical(value, out);
            }
            out.push('}');
        }
        Value::Array(values) => {
            out.push('[');
            for (place, value) in values.iter().enumerate() {
                out.push_str(if place > 0 { "," } else { "" });
                write_canonical(value, out);
            }
            out.push(']');
        }
        other => out.push_str(&other.to_string()),
    }
}

/// Returns the response to a request that waited until the erasure was finished.
#[must_use]
pub(super) fn erased(erasure: &Erasure<'_>, level: AckLevel) -> Answer {
    json_answer(200, &erasure.certificate()).with("Firehose-Ack", level.word())
}

/// Returns the response to a request whose erasure continues in the background.
#[must_use]
pub(super) fn accepted(erasure: &Erasure<'_>, location: String, level: AckLevel) -> Answer {
    let answer = json_answer(202, &erasure.json()).with("Location", location).with("Retry-After", "5");
    answer.with("Firehose-Ack", level.word())
}

/// Returns the response to a later request for the state.
#[must_use]
pub(super) fn status(erasure: &Erasure<'_>) -> Answer {
    json_answer(200, &erasure.json())
}

/// Returns the response if nothing, or not everything, was erased. A retry is safe.
#[must_use]
pub(super) fn refused(error: &PeopleRefused, request_id: &str, problems: &[Cell]) -> Answer {
    let kind = match error {
        PeopleRefused::NoSuchPerson => Problem::NotFound,
        PeopleRefused::NoSuchErasure => Problem::NoSuchErasure,
        PeopleRefused::InTheWay(_) | PeopleRefused::Beginning => Problem::ErasureBlocked,
        PeopleRefused::Lost | PeopleRefused::Io(_) => Problem::Internal,
        PeopleRefused::Query(error) => return crate::api::reads::refused(error, request_id, problems),
        PeopleRefused::Ingest(error) => {
            return Answer { close: false, ..write::refused(error, request_id, problems) };
        }
        PeopleRefused::Upload(error) => return upload_refused(error, request_id, problems),
    };
    let answer = problem(kind, &error.to_string(), request_id, &[], &[], problems);
    match error {
        PeopleRefused::Beginning => answer.with("Retry-After", "2"),
        _ => answer,
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::ErasureReport;
    use super::*;

    fn state(finished_us: Option<i64>) -> Option<ErasureState> {
        Some(ErasureState {
            tenant_id: Some("t".to_owned()),
            mode: "erase".to_owned(),
            began_us: 0,
            finished_us,
            step: "orders".to_owned(),
            uploads: 1,
            exports: 0,
            names_truncated: false,
            report: ErasureReport { orders: 3, ..ErasureReport::default() },
        })
    }

    #[test]
    fn a_certificate_has_the_digest_of_all_the_rest() {
        let shards = [state(Some(5)), state(Some(9))];
        let erasure = Erasure { id: "0a", shards: &shards };
        let mut told = erasure.certificate();
        assert_eq!(
            (&told["finished_at"], &told["shards"][1]["orders"]),
            (&json!("1970-01-01T00:00:00.000009Z"), &json!(3))
        );
        let sum = told["digest"].take();
        told.as_object_mut().unwrap().remove("digest");
        assert_eq!(sum, digest(&told));
        told["shards"][0]["orders"] = json!(4);
        assert_ne!(sum, digest(&told));
        assert_eq!(
            digest(&json!({"b": [1, "\u{fc}"], "a": null})),
            digest(&serde_json::from_str::<Value>("{\"a\": null, \"b\": [1, \"\\u00fc\"]}").unwrap())
        );
    }

    #[test]
    fn it_is_finished_when_every_shard_is() {
        for shards in [[state(Some(1)), state(None)], [state(Some(1)), None]] {
            let erasure = Erasure { id: "0a", shards: &shards };
            assert!(!erasure.is_finished() && erasure.json()["certificate"].is_null());
        }
        assert!(matches!(mode(None, false), Ok(ErasureMode::Erase)));
        assert!(matches!(mode(Some("mode=pseudonymise"), true), Ok(ErasureMode::Pseudonymise)));
        assert!(mode(Some("mode=pseudonymise"), false).is_err() && mode(Some("mode=hide"), true).is_err());
    }
}
