//! Numbered events from several connections at once, with a record of the outcome of each.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use super::client::{Client, event_with};

#[derive(Debug, Default)]
struct Shared {
    next: AtomicU64,
    acked: AtomicU64,
    refused: AtomicU64,
    stop: AtomicBool,
}

/// Runs until it is stopped or the server is gone.
pub struct Load {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<Report>>,
}

/// The outcomes of the events of one load, or of several.
#[derive(Debug, Default)]
pub struct Report {
    /// Every number that may have reached the server.
    pub sent: BTreeSet<u64>,
    /// The numbers answered with 202, with their receipts.
    pub acked: BTreeMap<u64, String>,
    /// The numbers answered otherwise, with the status.
    pub refused: BTreeMap<u64, u16>,
}

impl Report {
    pub fn add(&mut self, other: Report) {
        self.sent.extend(other.sent);
        self.acked.extend(other.acked);
        self.refused.extend(other.refused);
    }

    /// Returns the next number that no event has had.
    pub fn next(&self) -> u64 {
        self.sent.last().map_or(1, |last| last + 1)
    }

    /// Sends one event that must be accepted, and returns its receipt.
    #[track_caller]
    pub fn post(&mut self, client: &mut Client) -> String {
        let number = self.next();
        self.sent.insert(number);
        let answer = client.post(number).expect("the server answers");
        assert_eq!(answer.status, 202, "{answer:?}");
        let receipt = answer.header("Firehose-Receipt").expect("a 202 has a receipt").to_owned();
        self.acked.insert(number, receipt.clone());
        receipt
    }

    /// Checks W1 and W2: every acked event is stored, nothing is stored twice, and nothing is stored that was refused
    /// or never sent.
    #[track_caller]
    pub fn check(&self, stored: &[u64]) {
        let once: BTreeSet<u64> = stored.iter().copied().collect();
        let lost: Vec<_> = self.acked.keys().filter(|number| !once.contains(number)).take(10).collect();
        assert!(lost.is_empty(), "acked and not stored: {lost:?} …, {} acked", self.acked.len());
        assert_eq!(once.len(), stored.len(), "a row is there twice");
        let unknown: Vec<_> = once.difference(&self.sent).take(10).collect();
        assert!(unknown.is_empty(), "stored and never sent: {unknown:?} …");
        let refused: Vec<_> = self.refused.keys().filter(|number| once.contains(number)).take(10).collect();
        assert!(refused.is_empty(), "refused and stored all the same: {refused:?} …");
        let receipts: BTreeSet<_> = self.acked.values().collect();
        assert_eq!(receipts.len(), self.acked.len(), "two events got the same receipt");
    }

    /// Checks the same as [`Report::check`], and that every event sent was acked.
    #[track_caller]
    pub fn check_all_accepted(&self, stored: &[u64]) {
        assert_eq!(self.refused, BTreeMap::new(), "events were refused");
        assert_eq!(self.acked.len(), self.sent.len(), "an event got no answer");
        self.check(stored);
    }
}

impl Load {
    /// Starts `connections` connections that send `depth` events at a time, numbered from `first` on.
    pub fn start(address: SocketAddr, connections: usize, depth: usize, first: u64) -> Load {
        Load::start_padded(address, connections, depth, first, 0)
    }

    pub fn start_padded(
        address: SocketAddr,
        connections: usize,
        depth: usize,
        first: u64,
        padding: usize,
    ) -> Load {
        let shared = Arc::new(Shared { next: AtomicU64::new(first), ..Shared::default() });
        let threads = (0..connections)
            .map(|_| {
                let shared = shared.clone();
                std::thread::spawn(move || {
                    let mut report = Report::default();
                    // The server may disappear at any moment. The record ends there.
                    let _ = send(address, &shared, depth, padding, &mut report);
                    report
                })
            })
            .collect();
        Load { shared, threads }
    }

    pub fn acked(&self) -> u64 {
        self.shared.acked.load(Ordering::Acquire)
    }

    pub fn refused(&self) -> u64 {
        self.shared.refused.load(Ordering::Acquire)
    }

    /// Stops the load after each connection has read the responses to what it has sent.
    pub fn stop(self) -> Report {
        self.shared.stop.store(true, Ordering::Release);
        self.ended()
    }

    /// Waits until the server has closed every connection.
    pub fn ended(self) -> Report {
        let mut report = Report::default();
        for thread in self.threads {
            report.add(thread.join().expect("a sender does not panic"));
        }
        report
    }
}

fn send(
    address: SocketAddr,
    shared: &Shared,
    depth: usize,
    padding: usize,
    report: &mut Report,
) -> std::io::Result<()> {
    let mut client = Client::connect(address)?;
    while !shared.stop.load(Ordering::Acquire) {
        let first = shared.next.fetch_add(depth as u64, Ordering::Relaxed);
        let numbers = first..first + depth as u64;
        let mut requests = String::new();
        for number in numbers.clone() {
            requests.push_str(&Client::request("POST", "/event", &event_with(number, padding)));
        }
        report.sent.extend(numbers.clone());
        client.write(requests.as_bytes())?;
        for number in numbers {
            let answer = client.answer()?;
            match (answer.status, answer.header("Firehose-Receipt")) {
                (202, Some(receipt)) => {
                    report.acked.insert(number, receipt.to_owned());
                    shared.acked.fetch_add(1, Ordering::Release);
                }
                (status, _) => {
                    report.refused.insert(number, status);
                    shared.refused.fetch_add(1, Ordering::Release);
                }
            }
            if answer.header("Connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
                return Ok(());
            }
        }
    }
    Ok(())
}
