//! Posts a dataset through the API, with the requests of any client: orders as NDJSON in chunks, each with an
//! idempotency key ([`orders`]); price samples as price events ([`prices`]); stock events in bulk updates
//! ([`stock`]). A second run finds every row of the first and adds what is missing.

mod client;
mod orders;
mod prices;
mod settle;
mod stock;

use self::client::Client;
pub use self::client::Target;
use self::orders::OrderPoster;
use self::prices::PricePoster;
pub(super) use self::settle::{ServerState, Settled};
use self::stock::StockPoster;
use super::error::GenError;
use super::row::{Order, PriceSample, Sink, StockEvent};
use super::season::{DAY_MS, start_ms};
use super::spec::Spec;
use crate::base::clock;

/// The totals over all responses about one table.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Posted {
    /// The number of different requests.
    pub requests: u64,
    pub rows_sent: u64,
    pub rows_inserted: u64,
    /// Rows that the server had before this run.
    pub rows_duplicate: u64,
    pub rows_failed: u64,
    /// The number of requests, not counting the first request of each chunk.
    pub retries: u64,
    /// The first failed row, in the server's words.
    pub first_error: Option<String>,
}

impl Posted {
    fn add(&mut self, other: Posted) {
        self.requests += other.requests;
        self.rows_sent += other.rows_sent;
        self.rows_inserted += other.rows_inserted;
        self.rows_duplicate += other.rows_duplicate;
        self.rows_failed += other.rows_failed;
        self.retries += other.retries;
        self.first_error = self.first_error.take().or(other.first_error);
    }

    fn fail(&mut self, rows: u64, reason: impl FnOnce() -> String) {
        self.rows_failed += rows;
        self.first_error.get_or_insert_with(reason);
    }
}

/// A sink that sends orders, price samples and stock events.
#[derive(Debug)]
pub struct Poster {
    target: Target,
    client: Client,
    orders: OrderPoster,
    prices: Option<PricePoster>,
    stock: StockPoster,
    posted: Posted,
    /// The bytes that the connections for prices have sent.
    prices_bytes: u64,
}

impl Poster {
    /// Creates a sink for a dataset's parameters. It sends nothing yet.
    ///
    /// # Errors
    /// Returns an error unless the address is an `http://` URL (without TLS), or if the server would refuse the
    /// dataset's times.
    pub fn new(target: Target, spec: &Spec) -> Result<Poster, GenError> {
        target.check()?;
        check_times(spec)?;
        Ok(Poster {
            client: Client::new(&target),
            orders: OrderPoster::new(&target, spec),
            prices: None,
            stock: StockPoster::new(),
            target,
            posted: Posted::default(),
            prices_bytes: 0,
        })
    }

    /// Returns what the server reports of its disk and its shards.
    pub(super) fn server(&self) -> ServerState {
        settle::server(&self.client)
    }

    /// Waits until the server has stored everything and has no upkeep left.
    pub(super) fn settle(&self) -> Settled {
        settle::settle(&self.client)
    }

    /// Returns the totals of the table, and begins those of the next one.
    pub fn take_posted(&mut self) -> Posted {
        let retries = std::mem::take(&mut self.client.retries);
        let mut posted = std::mem::take(&mut self.posted);
        posted.retries += retries;
        posted
    }
}

/// A server refuses stock events more than a day ahead of its clock, and prices more than a year ahead.
fn check_times(spec: &Spec) -> Result<(), GenError> {
    let end_ms = start_ms(spec.start) + i64::from(spec.days) * DAY_MS;
    let ahead_days = (end_ms - clock::unix_us() / 1_000) / DAY_MS;
    for (days_max, rows, what) in [
        (1, spec.stock_events, "stock events more than a day"),
        (366, spec.price_samples, "prices more than 366 days"),
    ] {
        if rows > 0 && ahead_days >= days_max {
            let text = format!(
                "--post: the dataset ends {ahead_days} days ahead, and a server refuses {what} ahead of its clock: \
                 use an earlier --start or fewer --days"
            );
            return Err(GenError::Parameters(text));
        }
    }
    Ok(())
}

impl Sink for Poster {
    fn order(&mut self, row: &Order<'_>) -> Result<(), GenError> {
        self.orders.push(row, &mut self.client, &mut self.posted)
    }

    fn price_sample(&mut self, row: &PriceSample<'_>) -> Result<(), GenError> {
        let target = &self.target;
        let sent = self.prices.get_or_insert_with(|| PricePoster::begin(target)).push(row);
        // A connection that has ended has a reason.
        sent.or_else(|_| self.end_prices().and(Err(GenError::Panicked)))
    }

    fn stock_event(&mut self, row: &StockEvent<'_>) -> Result<(), GenError> {
        self.stock.push(row, &mut self.client, &mut self.posted)
    }

    fn table_end(&mut self) -> Result<(), GenError> {
        self.orders.flush(&mut self.client, &mut self.posted)?;
        self.stock.flush(&mut self.client, &mut self.posted)?;
        self.end_prices()
    }

    fn bytes(&self) -> u64 {
        self.client.sent_bytes + self.prices_bytes
    }
}

impl Poster {
    /// Waits for the responses about all prices.
    fn end_prices(&mut self) -> Result<(), GenError> {
        let Some(prices) = self.prices.take() else { return Ok(()) };
        let (posted, bytes, outcome) = prices.end();
        self.posted.add(posted);
        self.prices_bytes += bytes;
        outcome
    }
}
