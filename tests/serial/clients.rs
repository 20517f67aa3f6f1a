//! Clients that change the stock of a few products at random, and send again what got no response.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use firehose::base::clock;
use serde_json::Value;

use super::{Attempt, Change, Event, History, Mode, Told, body};
use crate::support::{Answer, Chance, Client};

/// Number of products that the clients share.
pub const PRODUCTS: u64 = 200;
/// Limits of one request: its products, and the events of one product.
const PRODUCTS_MAX: u64 = 12;
const EVENTS_MAX: u64 = 3;

/// The state that clients share with the thread that starts and kills the server.
#[derive(Debug, Default)]
pub struct Shared {
    /// 0 while there is no server.
    pub port: AtomicU16,
    /// The clock of all clients. Every moment has its own number.
    moment: AtomicU64,
    /// Number of updates that were answered.
    pub answered: AtomicU64,
    /// Number of updates that may have been decided without a response.
    pub unanswered: AtomicU64,
    pub stop: AtomicBool,
}

/// Starts `count` clients on one tenant. If `mode` is `None`, each request chooses one at random.
pub fn start(
    shared: &Arc<Shared>,
    count: u64,
    tenant: &str,
    mode: Option<Mode>,
    seed: u64,
) -> Vec<JoinHandle<History>> {
    (0..count)
        .map(|number| {
            let mut client = Stocker {
                shared: shared.clone(),
                target: format!("/api/v1/tenants/{tenant}/stock/bulk_update"),
                name: format!("c{number:02}"),
                mode,
                chance: Chance::seeded(seed + number * 7 + 1),
                versions: HashMap::new(),
                events: 0,
                history: History::default(),
            };
            std::thread::spawn(move || {
                client.run();
                client.history
            })
        })
        .collect()
}

struct Stocker {
    shared: Arc<Shared>,
    target: String,
    name: String,
    mode: Option<Mode>,
    chance: Chance,
    /// The versions of the products, as far as responses reported them.
    versions: HashMap<String, i64>,
    events: u64,
    history: History,
}

impl Stocker {
    fn run(&mut self) {
        let mut connection = None;
        let mut before: Vec<usize> = Vec::new();
        while !self.shared.stop.load(Ordering::Acquire) {
            // Now and then, the client repeats an earlier request, as one that has lost its notes would.
            let again = !before.is_empty() && self.chance.below(12) == 0;
            let sent = if again { before.clone() } else { self.invent() };
            // The response may be lost again, or the client may give up.
            while !self.send(&mut connection, &sent)
                && !self.shared.stop.load(Ordering::Acquire)
                && self.chance.below(8) > 0
            {}
            before = sent;
        }
    }

    /// Adds new changes of some products, all with one mode.
    fn invent(&mut self) -> Vec<usize> {
        let mode = self.mode.unwrap_or(Mode::ALL[self.chance.below(3) as usize]);
        let mut products: Vec<u64> =
            (0..1 + self.chance.below(PRODUCTS_MAX)).map(|_| self.chance.below(PRODUCTS)).collect();
        products.sort_unstable();
        products.dedup();
        let first = self.history.changes.len();
        for product in products {
            let product = format!("p-{product:03}");
            // Mostly the known version, now and then a guess.
            let known = self.versions.get(&product).copied().unwrap_or(0);
            let expected = if self.chance.below(10) == 0 { known + 1 } else { known };
            let events = (0..1 + self.chance.below(EVENTS_MAX)).map(|_| self.event(mode)).collect();
            self.history.changes.push(Change { product, mode, expected, events });
        }
        (first..self.history.changes.len()).collect()
    }

    fn event(&mut self, mode: Mode) -> Event {
        self.events += 1;
        let is_delta = match mode {
            Mode::LastWriteWins => false,
            Mode::Merge => true,
            Mode::Reject => self.chance.below(2) == 0,
        };
        let number = self.chance.below(60) as i64 - if is_delta { 30 } else { 0 };
        // Some events are late, some are early, and some have the same time.
        let at_s = 1_700_000_000 + self.events as i64 / 4 + self.chance.below(40) as i64;
        Event { id: format!("{}-{}", self.name, self.events), at_s, number, is_delta }
    }

    /// Sends the changes. Returns `true` if all of them got a final answer.
    fn send(&mut self, connection: &mut Option<(u16, Client)>, sent: &[usize]) -> bool {
        let changes: Vec<&Change> = sent.iter().map(|at| &self.history.changes[*at]).collect();
        let request = Client::request("PUT", &self.target, &body(&changes).to_string());
        let updates = changes.iter().map(|change| change.events.len() as u64).sum::<u64>();
        let port = loop {
            match self.shared.port.load(Ordering::Acquire) {
                0 if self.shared.stop.load(Ordering::Acquire) => return false,
                0 => clock::pause(Duration::from_millis(2)),
                port => break port,
            }
        };
        let moment = |shared: &Shared| shared.moment.fetch_add(1, Ordering::SeqCst);
        let sent_at = moment(&self.shared);
        let answer = ask(connection, port, &request);
        let answered_at = moment(&self.shared);
        let told = answer.as_ref().ok().and_then(products);
        let first = self.history.attempts.len();
        match &told {
            None => {
                *connection = None;
                let unknown = sent.iter().map(|at| Attempt { change: *at, sent: sent_at, answer: None });
                self.history.attempts.extend(unknown);
            }
            Some(told) => {
                assert_eq!(told.len(), sent.len(), "one answer a product");
                for (at, (product, told)) in sent.iter().zip(told) {
                    assert_eq!(*product, self.history.changes[*at].product, "in the order of the request");
                    // Without a final answer, the change is in the journal or its outcome is unknown. It may be
                    // applied at any time from now on.
                    let is_final = matches!(told.result.as_str(), "applied" | "duplicate" | "conflict")
                        || told.code == "negative_stock";
                    let answer = is_final.then(|| (answered_at, told.clone()));
                    if is_final {
                        self.versions.insert(product.clone(), told.version);
                    }
                    self.history.attempts.push(Attempt { change: *at, sent: sent_at, answer });
                }
            }
        }
        let is_done = self.history.attempts[first..].iter().all(|attempt| attempt.answer.is_some());
        let count = if is_done { &self.shared.answered } else { &self.shared.unanswered };
        count.fetch_add(updates, Ordering::AcqRel);
        is_done
    }
}

fn ask(connection: &mut Option<(u16, Client)>, port: u16, request: &str) -> io::Result<Answer> {
    // A connection to an earlier server cannot be used.
    let (_, client) = match connection {
        Some(open) if open.0 == port => open,
        _ => connection.insert((port, Client::connect(SocketAddr::from(([127, 0, 0, 1], port)))?)),
    };
    client.write(request.as_bytes())?;
    client.answer()
}

/// Returns the result of each product, or `None` if the response has no results.
fn products(answer: &Answer) -> Option<Vec<(String, Told)>> {
    if !matches!(answer.status, 200 | 202 | 409) {
        assert!(matches!(answer.status, 429 | 503 | 507), "{answer:?}");
        return None;
    }
    let said = answer.json();
    let text = |row: &Value, name: &str| row[name].as_str().unwrap_or_default().to_owned();
    let number = |row: &Value, name: &str| row[name].as_i64().unwrap_or(-1);
    let rows = said["products"].as_array().expect("products").iter();
    let told = rows.map(|row| {
        let told = Told {
            result: text(row, "result"),
            code: text(row, "code"),
            quantity: number(row, "quantity"),
            version: number(row, "version"),
        };
        (text(row, "product_id"), told)
    });
    Some(told.collect())
}
