//! Price samples as price events, one request each, over several connections.
//!
//! A price is compared with those before it, so a product's samples are sent in order by one connection: a run has
//! the same verdicts whatever the number of connections, and after any interruption.

use std::thread::JoinHandle;

use async_channel::{Receiver, Sender, bounded};
use ureq::http::Method;

use super::super::error::GenError;
use super::super::row::PriceSample;
use super::super::text::{Clockface, push_price_sample};
use super::Posted;
use super::client::{Answered, Client, Request, Target, Verdict, shown};

/// The maximum number of samples that are handed to a connection at once, at 130 bytes each.
const BLOCK_SAMPLES_MAX: usize = 500;

/// The connections, and the samples of the current product.
#[derive(Debug)]
pub(super) struct PricePoster {
    connections: Vec<Connection>,
    of: Option<(u32, u32)>,
    block: Block,
    clock: Clockface,
}

#[derive(Debug)]
struct Connection {
    to_sender: Sender<Block>,
    sender: JoinHandle<Outcome>,
}

/// The totals of a connection, its bytes, and the reason why it ended early.
type Outcome = (Posted, u64, Result<(), GenError>);

/// Samples of one product, in order of time.
#[derive(Debug, Default)]
struct Block {
    path: String,
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

/// A connection has ended, and its outcome has the reason.
#[derive(Debug)]
pub(super) struct Ended;

impl PricePoster {
    pub(super) fn begin(target: &Target) -> PricePoster {
        let connection = |_| {
            // The next block waits while one is sent.
            let (to_sender, blocks) = bounded(1);
            let client = Client::new(target);
            Connection { to_sender, sender: std::thread::spawn(move || run(client, &blocks)) }
        };
        let connections = (0..target.connections.max(1)).map(connection).collect();
        PricePoster { connections, of: None, block: Block::default(), clock: Clockface::new() }
    }

    pub(super) fn push(&mut self, row: &PriceSample<'_>) -> Result<(), Ended> {
        let of = Some((row.tenant, row.product));
        if self.of != of || self.block.ends.len() >= BLOCK_SAMPLES_MAX {
            self.flush()?;
            self.of = of;
            let (tenant, product) = (row.tenant_id, row.product_id.as_str());
            self.block.path = format!("/api/v1/tenants/{tenant}/products/{product}/price-event");
        }
        push_price_sample(row, &mut self.clock, &mut self.block.bytes);
        self.block.ends.push(self.block.bytes.len());
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Ended> {
        let block = std::mem::take(&mut self.block);
        let Some((tenant, product)) = self.of.filter(|_| !block.ends.is_empty()) else { return Ok(()) };
        let at = (tenant as usize + product as usize) % self.connections.len();
        self.connections[at].to_sender.send_blocking(block).map_err(|_| Ended)
    }

    /// Sends what is left, and waits for the responses.
    pub(super) fn end(mut self) -> Outcome {
        // If a connection has ended, its outcome has the reason.
        _ = self.flush();
        let (mut posted, mut bytes, mut outcome) = (Posted::default(), 0, Ok(()));
        for connection in &self.connections {
            connection.to_sender.close();
        }
        for connection in self.connections {
            let panicked = |_| (Posted::default(), 0, Err(GenError::Panicked));
            let (of_it, sent_bytes, ended) = connection.sender.join().unwrap_or_else(panicked);
            posted.add(of_it);
            bytes += sent_bytes;
            outcome = outcome.and(ended);
        }
        (posted, bytes, outcome)
    }
}

/// A connection's thread: sends blocks until there are no more.
fn run(mut client: Client, blocks: &Receiver<Block>) -> Outcome {
    let mut posted = Posted::default();
    let mut outcome = Ok(());
    while let Ok(block) = blocks.recv_blocking() {
        outcome = send(&mut client, &block, &mut posted);
        if outcome.is_err() {
            blocks.close();
            break;
        }
    }
    posted.retries = client.retries;
    (posted, client.sent_bytes, outcome)
}

fn send(client: &mut Client, block: &Block, posted: &mut Posted) -> Result<(), GenError> {
    let starts = std::iter::once(0).chain(block.ends.iter().copied());
    for (start, end) in starts.zip(&block.ends) {
        let body = &block.bytes[start..*end];
        let request = Request {
            method: Method::POST,
            path: &block.path,
            headers: &[("Content-Type", "application/json")],
            body,
            name: &block.path,
        };
        posted.requests += 1;
        let is_new = client.send(&request, &mut |answer| judge(answer, &block.path))?;
        posted.rows_sent += 1;
        match is_new {
            Some(true) => posted.rows_inserted += 1,
            Some(false) => posted.rows_duplicate += 1,
            None => posted.fail(1, || {
                let sample = shown(&String::from_utf8_lossy(body));
                format!("the server has another price with the id of {sample}")
            }),
        }
    }
    Ok(())
}

/// Returns whether the price is new, or `None` if it is in conflict with a stored one.
fn judge(answer: &Answered, path: &str) -> Verdict<Option<bool>> {
    match answer.status {
        201 => Verdict::Done(Some(true)),
        // An earlier attempt of this run may have stored it.
        200 => Verdict::Done(Some(answer.is_uncertain)),
        // The price is in the journal, and the verdict follows. The next price must not be judged before.
        202 => Verdict::Again("the price is not stored yet".to_owned()),
        409 => Verdict::Done(None),
        _ => answer.refusal(path),
    }
}
