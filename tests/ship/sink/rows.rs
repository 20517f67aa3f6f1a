//! Rows and batches for the sink's tests, and a sink that is connected.
#![allow(unreachable_pub, reason = "a module of a program of tests")]

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use firehose::base::ids::ShardId;
use firehose::ship::postgres::PostgresSink;
use firehose::ship::rows::*;
use firehose::ship::sink::{EpochId, Places, ShipBatch, Sink, SinkError, Written};

use crate::postgres::Postgres;

pub const FOLDER: &str = "0123456789abcdef0123456789abcdef";
/// 2026-11-30T12:00:00Z.
pub const NOON_US: i64 = 1_796_040_000_000_000;

pub fn epoch(number: u32) -> EpochId {
    EpochId(format!("{number:032x}"))
}

/// A shard that ships: its sink, its epoch, and the places that hold.
pub struct Shipper {
    pub sink: PostgresSink,
    pub epoch: EpochId,
    pub places: Places,
    pub stop: Arc<AtomicBool>,
}

impl Shipper {
    pub fn of(postgres: &Postgres, folder: &str, shard: u16) -> Shipper {
        let stop = Arc::new(AtomicBool::new(false));
        let sink =
            PostgresSink::new(postgres.options(), folder.to_owned(), ShardId(shard), Arc::clone(&stop));
        let number = u32::from(shard) + 1;
        let name = folder.bytes().map(u32::from).sum::<u32>() * 1_000 + number;
        Shipper { sink: sink.expect("a sink"), epoch: epoch(name), places: Places::new(), stop }
    }

    pub fn new(postgres: &Postgres) -> Shipper {
        let mut shipper = Shipper::of(postgres, FOLDER, 0);
        shipper.begin();
        shipper
    }

    /// Asks for the places, and begins the epoch if it is unknown.
    pub fn begin(&mut self) {
        let known = self.sink.known(std::slice::from_ref(&self.epoch)).expect("the places");
        self.places = match known.epochs.get(&self.epoch) {
            Some(places) => places.clone(),
            None => self.sink.begin_epoch(&self.epoch, &Places::new()).expect("the epoch begins"),
        };
    }

    pub fn batch(&self, rows: Rows) -> ShipBatch {
        let (stream, last) = match &rows {
            Rows::Clicks(rows) => (ShipStream::Clicks, rows.last().map(|row| row.id)),
            Rows::Events(rows) => (ShipStream::Events, rows.last().map(|row| row.id)),
            Rows::Orders(rows) => (ShipStream::Orders, rows.last().map(|row| row.id)),
            Rows::StockEvents(rows) => (ShipStream::StockEvents, rows.last().map(|row| row.id)),
            Rows::Prices(rows) => (ShipStream::Prices, rows.last().map(|row| row.id)),
            Rows::Changes(rows) => (ShipStream::Changes, rows.last().map(|row| row.seq)),
        };
        let after = self.places.get(&stream).copied().unwrap_or_default();
        ShipBatch { epoch: self.epoch.clone(), stream, after, last: last.unwrap_or(after), rows }
    }

    pub fn try_write(&mut self, rows: Rows) -> Result<Written, SinkError> {
        let batch = self.batch(rows);
        let written = self.sink.write(&batch)?;
        self.places.insert(batch.stream, batch.last);
        Ok(written)
    }

    #[track_caller]
    pub fn write(&mut self, rows: Rows) -> Written {
        self.try_write(rows).expect("the batch is written")
    }
}

pub fn written(rows: u64, twice: u64, rejected: u64) -> Written {
    Written { rows, twice, rejected }
}

pub fn click(id: i64) -> ClickRow {
    ClickRow {
        id,
        user_id: id % 7,
        timestamp_us: NOON_US + id * 1_000 + 1,
        received_us: NOON_US + id * 1_000 + 2,
        metadata: format!(r#"{{"page": "/p/{id}"}}"#),
    }
}

pub fn event(id: i64) -> EventRow {
    event_of("acme", id, &format!("e-{id}"), &format!(r#"{{"x": {id}}}"#))
}

pub fn event_of(tenant: &str, id: i64, event_id: &str, payload: &str) -> EventRow {
    EventRow {
        id,
        tenant_id: tenant.to_owned(),
        event_id: event_id.to_owned(),
        source: "web".to_owned(),
        event_type: "view".to_owned(),
        timestamp_us: NOON_US + 1,
        received_us: NOON_US + 2,
        payload: payload.to_owned(),
    }
}

pub fn order(id: i64) -> OrderRow {
    OrderRow {
        id,
        tenant_id: "acme".to_owned(),
        order_id: format!("o-{id}"),
        customer_id: format!("c-{}", id % 3),
        customer_name: "Ann".to_owned(),
        customer_email: "ann@example.com".to_owned(),
        status: "paid",
        first_status: "pending",
        status_seq: 0,
        currency: "EUR".to_owned(),
        ordered_at_us: NOON_US + id,
        total: 1_999,
        received_us: NOON_US + 3,
        items: (1..=2)
            .map(|line| ItemRow {
                line,
                product_id: format!("p-{line}"),
                category: "books".to_owned(),
                quantity: 2,
                unit_price: 500,
            })
            .collect(),
    }
}

pub fn stock(id: i64, version: i64, level: i64) -> StockRow {
    StockRow {
        id,
        tenant_id: "acme".to_owned(),
        product_id: "p-1".to_owned(),
        event_id: format!("s-{id}"),
        version,
        mode: "merge",
        kind: "delta".to_owned(),
        number: 1,
        stock: level,
        occurred_at_us: NOON_US,
        received_us: NOON_US + id,
    }
}

pub fn price(id: i64, observed_at_us: i64, price: i64, is_accepted: bool) -> PriceRow {
    PriceRow {
        id,
        tenant_id: "acme".to_owned(),
        product_id: "p-1".to_owned(),
        event_id: format!("r-{id}"),
        price,
        currency: "EUR".to_owned(),
        observed_at_us,
        received_us: NOON_US,
        is_accepted,
    }
}

pub fn status(seq: i64, order: i64, status: &'static str) -> ChangeRow {
    let change =
        Change::Status { order, tenant_id: "acme".to_owned(), order_id: format!("o-{order}"), status };
    ChangeRow { seq, at_us: NOON_US + seq, change }
}

pub fn anomaly(of: &PriceRow, decision: &str) -> Box<AnomalyRow> {
    Box::new(AnomalyRow {
        anomaly_id: "a".repeat(32),
        tenant_id: of.tenant_id.clone(),
        product_id: of.product_id.clone(),
        event_id: of.event_id.clone(),
        price: of.price,
        currency: of.currency.clone(),
        observed_at_us: of.observed_at_us,
        created_us: NOON_US,
        baseline: 1_000,
        change_bp: Some(9_000),
        median: None,
        score_milli: Some(3),
        compared: Some(12),
        status: decision.to_owned(),
        reviewed_us: (decision != "open").then_some(NOON_US + 9),
    })
}
