//! Parts of a batch, so that a row which the target refuses can be found by halving.

use std::ops::Range;

use serde_json::{Value, json};

use crate::ship::rows::{
    Change, ChangeRow, ClickRow, EventRow, OrderRow, PriceRow, Rows, ShipStream, StockRow,
};

/// Successive rows of one batch.
#[derive(Clone, Copy, Debug)]
pub(super) enum Slice<'a> {
    Clicks(&'a [ClickRow]),
    Events(&'a [EventRow]),
    Orders(&'a [OrderRow]),
    StockEvents(&'a [StockRow]),
    Prices(&'a [PriceRow]),
    Changes(&'a [ChangeRow]),
}

impl<'a> Slice<'a> {
    pub(super) fn of(rows: &'a Rows) -> Slice<'a> {
        match rows {
            Rows::Clicks(rows) => Slice::Clicks(rows),
            Rows::Events(rows) => Slice::Events(rows),
            Rows::Orders(rows) => Slice::Orders(rows),
            Rows::StockEvents(rows) => Slice::StockEvents(rows),
            Rows::Prices(rows) => Slice::Prices(rows),
            Rows::Changes(rows) => Slice::Changes(rows),
        }
    }

    pub(super) fn len(self) -> usize {
        match self {
            Slice::Clicks(rows) => rows.len(),
            Slice::Events(rows) => rows.len(),
            Slice::Orders(rows) => rows.len(),
            Slice::StockEvents(rows) => rows.len(),
            Slice::Prices(rows) => rows.len(),
            Slice::Changes(rows) => rows.len(),
        }
    }

    pub(super) fn part(self, range: Range<usize>) -> Slice<'a> {
        match self {
            Slice::Clicks(rows) => Slice::Clicks(&rows[range]),
            Slice::Events(rows) => Slice::Events(&rows[range]),
            Slice::Orders(rows) => Slice::Orders(&rows[range]),
            Slice::StockEvents(rows) => Slice::StockEvents(&rows[range]),
            Slice::Prices(rows) => Slice::Prices(&rows[range]),
            Slice::Changes(rows) => Slice::Changes(&rows[range]),
        }
    }

    pub(super) fn stream(self) -> ShipStream {
        match self {
            Slice::Clicks(_) => ShipStream::Clicks,
            Slice::Events(_) => ShipStream::Events,
            Slice::Orders(_) => ShipStream::Orders,
            Slice::StockEvents(_) => ShipStream::StockEvents,
            Slice::Prices(_) => ShipStream::Prices,
            Slice::Changes(_) => ShipStream::Changes,
        }
    }

    /// Returns `true` if the slice has a JSON text, which can be stored as `text` if `jsonb` refuses it.
    pub(super) fn has_json(self) -> bool {
        matches!(self, Slice::Clicks(_) | Slice::Events(_))
    }

    /// Returns the row id and the content of a slice of one row, for `fh.rejected`. `None`: an erasure.
    pub(super) fn rejected(self) -> Option<(i64, Vec<u8>)> {
        let (id, value) = match self {
            Slice::Clicks([row]) => (
                row.id,
                json!({
                    "user_id": row.user_id, "timestamp_us": row.timestamp_us, "received_us": row.received_us,
                    "metadata": row.metadata,
                }),
            ),
            Slice::Events([row]) => (
                row.id,
                json!({
                    "tenant_id": row.tenant_id, "event_id": row.event_id, "source": row.source,
                    "event_type": row.event_type, "timestamp_us": row.timestamp_us,
                    "received_us": row.received_us, "payload": row.payload,
                }),
            ),
            Slice::Orders([row]) => (row.id, order(row)),
            Slice::StockEvents([row]) => (
                row.id,
                json!({
                    "tenant_id": row.tenant_id, "product_id": row.product_id, "event_id": row.event_id,
                    "version": row.version, "mode": row.mode, "kind": row.kind, "number": row.number,
                    "stock": row.stock, "occurred_at_us": row.occurred_at_us, "received_us": row.received_us,
                }),
            ),
            Slice::Prices([row]) => (
                row.id,
                json!({
                    "tenant_id": row.tenant_id, "product_id": row.product_id, "event_id": row.event_id,
                    "price": row.price, "currency": row.currency, "observed_at_us": row.observed_at_us,
                    "received_us": row.received_us, "is_accepted": row.is_accepted,
                }),
            ),
            Slice::Changes([row]) => (row.seq, change(row)?),
            _ => return None,
        };
        Some((id, value.to_string().into_bytes()))
    }
}

fn order(row: &OrderRow) -> Value {
    let item = |item: &crate::ship::rows::ItemRow| {
        json!({
            "line": item.line, "product_id": item.product_id, "category": item.category,
            "quantity": item.quantity, "unit_price": item.unit_price,
        })
    };
    json!({
        "tenant_id": row.tenant_id, "order_id": row.order_id, "customer_id": row.customer_id,
        "customer_name": row.customer_name, "customer_email": row.customer_email, "status": row.status,
        "first_status": row.first_status, "currency": row.currency, "ordered_at_us": row.ordered_at_us,
        "total": row.total, "received_us": row.received_us,
        "items": row.items.iter().map(item).collect::<Vec<_>>(),
    })
}

fn change(row: &ChangeRow) -> Option<Value> {
    Some(match &row.change {
        Change::Status { order, tenant_id, order_id, status } => json!({
            "kind": "status", "at_us": row.at_us, "order": order, "tenant_id": tenant_id, "order_id": order_id,
            "status": status,
        }),
        Change::Anomaly(anomaly) | Change::Review(anomaly) => json!({
            "kind": "anomaly", "at_us": row.at_us, "tenant_id": anomaly.tenant_id,
            "anomaly_id": anomaly.anomaly_id, "product_id": anomaly.product_id, "event_id": anomaly.event_id,
            "price": anomaly.price, "currency": anomaly.currency, "status": anomaly.status,
        }),
        Change::Erasure(_) | Change::FinishedErasure { .. } | Change::ErasedEvent { .. } => return None,
    })
}
