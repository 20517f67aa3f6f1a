//! Erasures: the query parameters, the certificate, and the responses.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::notes::SinkNotes;
use super::places;
use super::report::{ErasureState, KnownCustomer};
use crate::api;
use crate::api::reads::json as json_answer;
use crate::base::clock;
use crate::base::ids::hex;
use crate::config::AckLevel;
use crate::http::Answer;
use crate::query::{Parameters, QueryError};
use crate::shard::ErasureMode;

const MODE: &[&str] = &["mode", "ack"];

/// The states of what an erasure consists of: the data folder, and each sink.
const DONE: &str = "done";
const PENDING: &str = "pending";

/// Parses `?mode=`. The default is that of every erasure, and the only mode for a user of the collector, whose data has
/// no figures to preserve.
pub(super) fn mode(query: Option<&str>, of_customer: bool) -> Result<ErasureMode, QueryError> {
    let mut parameters = Parameters::read(query, MODE);
    let choices = ErasureMode::ALL.map(|mode| (mode.as_str(), mode));
    let mode = parameters.choice("mode", if of_customer { &choices } else { &choices[..1] });
    parameters.done(mode.unwrap_or_default()).map_err(QueryError::Parameters)
}

/// An erasure across all shards.
#[derive(Debug)]
pub(super) struct Erasure<'e> {
    pub id: &'e str,
    /// The states in shard order. An entry is `None` if the shard does not know the erasure.
    pub shards: &'e [Option<ErasureState>],
    /// Set if files next to the shards may still have to be removed.
    pub is_pending: bool,
    /// The sinks that the erasure may wait for.
    pub sinks: &'e SinkNotes,
}

impl Erasure<'_> {
    #[must_use]
    pub(super) fn is_finished(&self) -> bool {
        !self.is_pending
            && self.shards.iter().all(|shard| shard.as_ref().is_some_and(|shard| shard.finished_us.is_some()))
    }

    /// Returns `true` if nothing about the person is left in the data folder but what waits for the sinks.
    #[must_use]
    fn is_local_done(&self) -> bool {
        let is_done = |shard: &ErasureState| shard.local_us.or(shard.finished_us).is_some();
        !self.is_pending && self.shards.iter().all(|shard| shard.as_ref().is_some_and(is_done))
    }

    /// Returns the sinks that had the erasure at its end, or `None` if an earlier version finished it.
    fn sinks_at_end(&self) -> Option<BTreeSet<&str>> {
        let mut all = BTreeSet::new();
        for shard in self.shards.iter().flatten() {
            all.extend(shard.sinks.as_ref()?.iter().map(String::as_str));
        }
        Some(all)
    }

    /// Returns every sink with its state.
    fn sinks(&self) -> Vec<Value> {
        let told = |name: &str, is_done| json!({"name": name, "state": if is_done { DONE } else { PENDING }});
        match self.is_finished() {
            true => {
                self.sinks_at_end().unwrap_or_default().into_iter().map(|name| told(name, true)).collect()
            }
            false => self.sinks.states(self.shards).into_iter().map(|(name, is)| told(name, is)).collect(),
        }
    }

    /// Adds what is done in the data folder and in the sinks. The answer about an erasure that an earlier version finished
    /// does not change, because its digest was given out.
    fn add_sinks(&self, told: &mut Value) {
        if !self.is_finished() || self.sinks_at_end().is_some() {
            told["local"] = json!(if self.is_local_done() { DONE } else { PENDING });
            told["sinks"] = Value::from(self.sinks());
        }
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
                let mut told = Value::Object(places::counts(&shard.as_ref()?.report));
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
        self.add_sinks(&mut told);
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
        self.add_sinks(&mut told);
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

/// Returns the path of a customer's erasure.
pub(super) fn location(tenant_id: &str, id: &str) -> String {
    format!("/api/v1/tenants/{}/erasures/{id}", api::request::encoded(tenant_id))
}

/// Returns the response to a request that erased one person. If the erasure is not finished, it continues in the
/// background.
#[must_use]
pub(super) fn one(erasure: &Erasure<'_>, location: String, level: AckLevel) -> Answer {
    let answer = match erasure.is_finished() {
        true => json_answer(200, &erasure.certificate()),
        false => json_answer(202, &erasure.json()).with("Location", location).with("Retry-After", "5"),
    };
    answer.with("Firehose-Ack", level.word())
}

/// Returns the response to a request that erased several customers.
#[must_use]
pub(super) fn several(
    tenant_id: &str,
    customers: &[String],
    erasures: &[Erasure<'_>],
    level: AckLevel,
) -> Answer {
    let all: Vec<Value> = customers
        .iter()
        .zip(erasures)
        .map(|(customer, erasure)| {
            let is_finished = erasure.is_finished();
            let mut told = json!({
                "customer": customer,
                "id": erasure.id,
                "state": if is_finished { "finished" } else { "running" },
                "url": location(tenant_id, erasure.id),
            });
            if is_finished {
                told["certificate"] = erasure.certificate();
            }
            told
        })
        .collect();
    let body = json!({"erasures": all});
    let answer = match erasures.iter().all(Erasure::is_finished) {
        true => json_answer(200, &body),
        false => json_answer(202, &body).with("Retry-After", "5"),
    };
    answer.with("Firehose-Ack", level.word())
}

/// Returns a customer, with the number of rows by place. `unfinished` are the places that were not searched to their
/// end.
#[must_use]
pub(super) fn customer(
    customer_id: &str,
    known: &KnownCustomer,
    rows: &[(&'static str, u64)],
    unfinished: &[&'static str],
) -> Answer {
    let held: Vec<Value> = rows.iter().map(|(place, rows)| json!({"place": place, "rows": rows})).collect();
    json_answer(
        200,
        &json!({
            "id": customer_id,
            "names": known.names,
            "emails": known.emails,
            "names_truncated": known.is_truncated,
            "suppressed": known.suppression.as_ref().map(|suppression| suppression.mode.as_str()),
            "held": held,
            "unfinished": unfinished,
        }),
    )
}

/// Returns the response to a later request for the state: 202 while a sink is waited for.
#[must_use]
pub(super) fn status(erasure: &Erasure<'_>) -> Answer {
    let body = erasure.json();
    match !erasure.is_finished() && body["sinks"].as_array().is_some_and(|sinks| !sinks.is_empty()) {
        true => json_answer(202, &body).with("Retry-After", "5"),
        false => json_answer(200, &body),
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
            local_us: finished_us,
            finished_us,
            seq: None,
            sinks: None,
            step: "orders".to_owned(),
            uploads: 1,
            exports: 0,
            names_truncated: false,
            report: ErasureReport { orders: 3, ..ErasureReport::default() },
            batch: None,
        })
    }

    #[test]
    fn a_certificate_has_the_digest_of_all_the_rest() {
        let shards = [state(Some(5)), state(Some(9))];
        let none = SinkNotes::default();
        let erasure = Erasure { id: "0a", shards: &shards, is_pending: false, sinks: &none };
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

    /// A certificate of an earlier version keeps its digest.
    #[test]
    fn a_certificate_has_the_sinks_at_the_end_and_an_older_one_has_none() {
        let none = SinkNotes::default();
        let of = |shards: &[Option<ErasureState>]| {
            let erasure = Erasure { id: "0a", shards, is_pending: false, sinks: &none };
            erasure.json()
        };
        let ended = |names: &[&str]| {
            let sinks = Some(names.iter().map(|name| (*name).to_owned()).collect());
            state(Some(5)).map(|state| ErasureState { sinks, ..state })
        };
        let told = of(&[ended(&["lake", "pg"]), ended(&["pg"])]);
        let sinks = json!([{"name": "lake", "state": "done"}, {"name": "pg", "state": "done"}]);
        for part in [&told, &told["certificate"]] {
            assert_eq!((&part["local"], &part["sinks"]), (&json!("done"), &sinks), "{told}");
        }
        assert_eq!(of(&[ended(&[]), ended(&[])])["certificate"]["sinks"], json!([]));
        let older = of(&[ended(&[]), state(Some(5))]);
        for part in [&older, &older["certificate"]] {
            assert!(part.get("sinks").is_none() && part.get("local").is_none(), "{older}");
        }
    }

    #[test]
    fn a_sink_is_pending_until_it_has_the_change_of_every_shard() {
        let waits =
            |seq, local_us| state(None).map(|state| ErasureState { seq: Some(seq), local_us, ..state });
        let notes = SinkNotes::of(&[("lake", &[8, 7]), ("pg", &[7, 9])]);
        let status_of = |shards: &[Option<ErasureState>], is_pending| {
            let answer = status(&Erasure { id: "0a", shards, is_pending, sinks: &notes });
            let told: Value = serde_json::from_slice(&answer.body).unwrap();
            let states = told["sinks"].as_array().into_iter().flatten();
            let states: Vec<&str> = states.filter_map(|sink| sink["state"].as_str()).collect();
            (answer.status, told["local"].as_str().unwrap_or_default().to_owned(), states.join(" "))
        };
        let is = |status, local: &str, sinks: &str| (status, local.to_owned(), sinks.to_owned());
        assert_eq!(
            status_of(&[waits(8, Some(1)), waits(7, Some(1))], false),
            is(202, "done", "done pending")
        );
        assert_eq!(
            status_of(&[waits(8, Some(1)), waits(7, None)], false),
            is(202, "pending", "done pending")
        );
        assert_eq!(status_of(&[waits(7, Some(1)), waits(7, Some(1))], true), is(202, "pending", "done done"));
        assert_eq!(status_of(&[state(Some(1)), waits(9, Some(1))], false), is(202, "done", "pending done"));
        assert_eq!(status_of(&[None, state(None)], false), is(202, "pending", "pending pending"));
        assert_eq!(status_of(&[state(Some(1)), state(Some(1))], false), is(200, "", ""));
    }

    #[test]
    fn it_is_finished_when_every_shard_is() {
        for shards in [[state(Some(1)), state(None)], [state(Some(1)), None]] {
            let none = SinkNotes::default();
            let erasure = Erasure { id: "0a", shards: &shards, is_pending: false, sinks: &none };
            assert!(!erasure.is_finished() && erasure.json()["certificate"].is_null());
        }
        assert!(matches!(mode(None, false), Ok(ErasureMode::Erase)));
        assert!(matches!(mode(Some("mode=pseudonymise"), true), Ok(ErasureMode::Pseudonymise)));
        assert!(mode(Some("mode=pseudonymise"), false).is_err() && mode(Some("mode=hide"), true).is_err());
    }
}
