//! A history of stock updates as clients saw it, and a check whether a serial order of each product explains it.
#![allow(unreachable_pub, reason = "a test file is a program of its own")]

pub mod check;
pub mod clients;

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// How a request asks the server to combine its updates with the stored stock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    LastWriteWins,
    Merge,
    Reject,
}

impl Mode {
    pub const ALL: [Mode; 3] = [Mode::LastWriteWins, Mode::Merge, Mode::Reject];

    pub fn name(self) -> &'static str {
        match self {
            Mode::LastWriteWins => "last_write_wins",
            Mode::Merge => "merge",
            Mode::Reject => "reject",
        }
    }
}

/// One event of one product.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub id: String,
    /// Seconds since 1970.
    pub at_s: i64,
    pub number: i64,
    pub is_delta: bool,
}

/// The change of one product by one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub product: String,
    pub mode: Mode,
    pub expected: i64,
    pub events: Vec<Event>,
}

/// The result for one product as a client received it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    pub result: String,
    pub code: String,
    pub quantity: i64,
    pub version: i64,
}

/// One time that a change was sent. Moments are numbers of one clock that all clients share.
#[derive(Clone, Debug)]
pub struct Attempt {
    pub change: usize,
    pub sent: u64,
    /// `None` if there was no response, or one that does not show the outcome.
    pub answer: Option<(u64, Told)>,
}

/// Everything that the clients did.
#[derive(Debug, Default)]
pub struct History {
    pub changes: Vec<Change>,
    pub attempts: Vec<Attempt>,
}

impl History {
    /// Appends the other history. Its changes come after those of this one.
    pub fn add(&mut self, other: History) {
        let before = self.changes.len();
        self.changes.extend(other.changes);
        let moved = other.attempts.into_iter();
        self.attempts.extend(moved.map(|attempt| Attempt { change: attempt.change + before, ..attempt }));
    }
}

/// The final content of the folder. For each product, the event ids and the stock of every version, from 1.
pub type Log = BTreeMap<String, Vec<(Vec<String>, i64)>>;

/// Returns the body of a request with these changes, which have the same mode.
pub fn body(changes: &[&Change]) -> Value {
    let mut updates = Vec::new();
    for change in changes {
        for event in &change.events {
            let name = if event.is_delta { "delta" } else { "quantity" };
            let at = firehose::base::clock::rfc3339(event.at_s * 1_000_000);
            updates.push(json!({"event_id": event.id, "product_id": change.product, name: event.number,
                "expected_version": change.expected, "occurred_at": at}));
        }
    }
    json!({"mode": changes[0].mode.name(), "updates": updates})
}
