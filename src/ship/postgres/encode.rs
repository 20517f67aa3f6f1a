//! Rows as the fields of their tables, in the order of the columns in `tables`.

use super::copy::CopyBuffer;
use super::places::Origin;
use super::tables::{CLICKS, EVENTS, ORDER_ITEMS, ORDER_STATUS, ORDERS, PRICE_HISTORY, STOCK_EVENTS};
use crate::ship::rows::{ClickRow, EventRow, ItemRow, OrderRow, PriceRow, StockRow};

fn origin(buffer: &mut CopyBuffer, origin: &Origin, id: i64) {
    buffer.int2(origin.node);
    buffer.int2(origin.shard);
    buffer.int4(origin.epoch);
    buffer.int8(id);
}

pub(super) fn click(buffer: &mut CopyBuffer, from: &Origin, row: &ClickRow, is_raw: bool) {
    buffer.row(CLICKS.columns.len());
    buffer.int8(row.user_id);
    buffer.time(row.timestamp_us);
    buffer.time(row.received_us);
    buffer.json(&row.metadata, is_raw);
    origin(buffer, from, row.id);
}

pub(super) fn event(buffer: &mut CopyBuffer, from: &Origin, row: &EventRow, is_raw: bool) {
    buffer.row(EVENTS.columns.len());
    buffer.text(&row.tenant_id);
    buffer.text(&row.event_id);
    buffer.text(&row.source);
    buffer.text(&row.event_type);
    buffer.time(row.timestamp_us);
    buffer.time(row.received_us);
    buffer.json(&row.payload, is_raw);
    origin(buffer, from, row.id);
}

pub(super) fn order(buffer: &mut CopyBuffer, from: &Origin, row: &OrderRow) {
    buffer.row(ORDERS.columns.len());
    buffer.text(&row.tenant_id);
    buffer.text(&row.order_id);
    buffer.text(&row.customer_id);
    buffer.text(&row.customer_name);
    buffer.text(&row.customer_email);
    buffer.text(row.status);
    buffer.text(row.first_status);
    buffer.int4(from.epoch);
    buffer.int8(row.status_seq);
    buffer.text(&row.currency);
    buffer.time(row.ordered_at_us);
    buffer.int8(row.total);
    buffer.time(row.received_us);
    origin(buffer, from, row.id);
}

pub(super) fn item(buffer: &mut CopyBuffer, from: &Origin, (order, item): (&OrderRow, &ItemRow)) {
    buffer.row(ORDER_ITEMS.columns.len());
    buffer.text(&order.tenant_id);
    buffer.text(&order.order_id);
    buffer.int4(item.line);
    buffer.text(&item.product_id);
    buffer.text(&item.category);
    buffer.int8(item.quantity);
    buffer.int8(item.unit_price);
    origin(buffer, from, order.id);
}

/// One change of an order's status.
#[derive(Clone, Copy, Debug)]
pub(super) struct StatusChange<'a> {
    pub(super) seq: i64,
    pub(super) at_us: i64,
    pub(super) tenant_id: &'a str,
    pub(super) order_id: &'a str,
    pub(super) status: &'a str,
}

pub(super) fn status(buffer: &mut CopyBuffer, from: &Origin, row: &StatusChange<'_>) {
    buffer.row(ORDER_STATUS.columns.len());
    buffer.text(row.tenant_id);
    buffer.text(row.order_id);
    buffer.text(row.status);
    buffer.time(row.at_us);
    origin(buffer, from, row.seq);
}

pub(super) fn stock_event(buffer: &mut CopyBuffer, from: &Origin, row: &StockRow) {
    buffer.row(STOCK_EVENTS.columns.len());
    buffer.text(&row.tenant_id);
    buffer.text(&row.product_id);
    buffer.text(&row.event_id);
    buffer.int8(row.version);
    buffer.text(row.mode);
    buffer.text(&row.kind);
    buffer.int8(row.number);
    buffer.int8(row.stock);
    buffer.time(row.occurred_at_us);
    buffer.time(row.received_us);
    origin(buffer, from, row.id);
}

pub(super) fn price(buffer: &mut CopyBuffer, from: &Origin, row: &PriceRow) {
    buffer.row(PRICE_HISTORY.columns.len());
    buffer.text(&row.tenant_id);
    buffer.text(&row.product_id);
    buffer.text(&row.event_id);
    buffer.int8(row.price);
    buffer.text(&row.currency);
    buffer.time(row.observed_at_us);
    buffer.time(row.received_us);
    buffer.bool(row.is_accepted);
    origin(buffer, from, row.id);
}
