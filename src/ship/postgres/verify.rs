//! Recounts the target for a comparison with the shards: rows and a sum over row hashes by tenant and day.
//!
//! A row's hash is the first 8 bytes of SHA-256 over its compared fields, each followed by the byte 31, as a big-endian
//! signed number. Times are microseconds since 1970. Compared are ids, times, types and amounts. Payloads are not,
//! because `jsonb` does not keep their bytes. What later changes replace (the customer and the status of an order, the
//! decision on a price) is compared only if no change is on its way: if the counts are settled.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use super::tables::{CLICKS, EVENTS, ORDER_ITEMS, ORDERS, PRICE_HISTORY, STOCK_EVENTS, Table};
use crate::ship::rows::{ClickRow, EventRow, ItemRow, OrderRow, PriceRow, ShipStream, StockRow};

const SEPARATOR: char = '\u{1f}';

/// A table that both sides can count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum VerifyTable {
    Clicks,
    Events,
    Orders,
    /// By the day of the order.
    OrderItems,
    StockEvents,
    Prices,
}

/// Rows of one tenant that arrived on one day. Clicks have the tenant "".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DayCount {
    pub tenant_id: String,
    /// Days since 1970 in UTC.
    pub day: i32,
    pub rows: u64,
    /// The sum of the rows' hashes.
    pub sum: i128,
}

/// A hash over a row's compared fields.
#[derive(Debug, Default)]
struct RowHash {
    text: String,
}

impl RowHash {
    fn text(mut self, field: &str) -> RowHash {
        self.text.push_str(field);
        self.text.push(SEPARATOR);
        self
    }

    fn number(mut self, field: i64) -> RowHash {
        let _ = write!(self.text, "{field}{SEPARATOR}");
        self
    }

    fn finish(self) -> i64 {
        let digest = Sha256::digest(self.text.as_bytes());
        let first = digest.first_chunk::<8>().copied().unwrap_or_default();
        i64::from_be_bytes(first)
    }
}

/// Returns the hash of a click.
#[must_use]
pub fn hash_of_click(row: &ClickRow) -> i64 {
    RowHash::default().number(row.user_id).number(row.timestamp_us).number(row.received_us).finish()
}

/// Returns the hash of a service event.
#[must_use]
pub fn hash_of_event(row: &EventRow) -> i64 {
    let hash = RowHash::default().text(&row.tenant_id).text(&row.event_id).text(&row.source);
    hash.text(&row.event_type).number(row.timestamp_us).number(row.received_us).finish()
}

/// Returns the hash of an order without its items. With `is_settled`, it includes the customer and the status.
#[must_use]
pub fn hash_of_order(row: &OrderRow, is_settled: bool) -> i64 {
    let hash = RowHash::default().text(&row.tenant_id).text(&row.order_id);
    let hash = hash.text(row.first_status).text(&row.currency).number(row.ordered_at_us);
    let hash = hash.number(row.total).number(row.received_us);
    match is_settled {
        true => hash.text(&row.customer_id).text(row.status).finish(),
        false => hash.finish(),
    }
}

/// Returns the hash of an order's item.
#[must_use]
pub fn hash_of_item(order: &OrderRow, item: &ItemRow) -> i64 {
    let hash = RowHash::default().text(&order.tenant_id).text(&order.order_id).number(item.line.into());
    let hash = hash.text(&item.product_id).text(&item.category);
    hash.number(item.quantity).number(item.unit_price).finish()
}

/// Returns the hash of a stock event.
#[must_use]
pub fn hash_of_stock_event(row: &StockRow) -> i64 {
    let hash = RowHash::default().text(&row.tenant_id).text(&row.product_id).text(&row.event_id);
    let hash = hash.number(row.version).text(row.mode).text(&row.kind).number(row.number).number(row.stock);
    hash.number(row.occurred_at_us).number(row.received_us).finish()
}

/// Returns the hash of a price. With `is_settled`, it includes the decision on it.
#[must_use]
pub fn hash_of_price(row: &PriceRow, is_settled: bool) -> i64 {
    let hash = RowHash::default().text(&row.tenant_id).text(&row.product_id).text(&row.event_id);
    let hash = hash.number(row.price).text(&row.currency).number(row.observed_at_us);
    let hash = hash.number(row.received_us);
    match (is_settled, row.is_accepted) {
        (true, true) => hash.text("true").finish(),
        (true, false) => hash.text("false").finish(),
        (false, _) => hash.finish(),
    }
}

impl VerifyTable {
    pub const ALL: [VerifyTable; 6] = [
        VerifyTable::Clicks,
        VerifyTable::Events,
        VerifyTable::Orders,
        VerifyTable::OrderItems,
        VerifyTable::StockEvents,
        VerifyTable::Prices,
    ];

    /// Returns the name of the table in the target.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.table().name
    }

    /// Returns the stream that fills the table.
    #[must_use]
    pub fn stream(self) -> ShipStream {
        match self {
            VerifyTable::Clicks => ShipStream::Clicks,
            VerifyTable::Events => ShipStream::Events,
            VerifyTable::Orders | VerifyTable::OrderItems => ShipStream::Orders,
            VerifyTable::StockEvents => ShipStream::StockEvents,
            VerifyTable::Prices => ShipStream::Prices,
        }
    }

    fn table(self) -> &'static Table {
        match self {
            VerifyTable::Clicks => &CLICKS,
            VerifyTable::Events => &EVENTS,
            VerifyTable::Orders => &ORDERS,
            VerifyTable::OrderItems => &ORDER_ITEMS,
            VerifyTable::StockEvents => &STOCK_EVENTS,
            VerifyTable::Prices => &PRICE_HISTORY,
        }
    }

    /// Returns the compared columns, in the order of the hash.
    fn compared(self) -> &'static [&'static str] {
        match self {
            VerifyTable::Clicks => &["user_id", "occurred_at", "received_at"],
            VerifyTable::Events => {
                &["tenant_id", "event_id", "source", "event_type", "occurred_at", "received_at"]
            }
            VerifyTable::Orders => {
                &["tenant_id", "order_id", "first_status", "currency", "ordered_at", "total", "received_at"]
            }
            VerifyTable::OrderItems => {
                &["tenant_id", "order_id", "line", "product_id", "category", "quantity", "unit_price"]
            }
            VerifyTable::StockEvents => &[
                "tenant_id",
                "product_id",
                "event_id",
                "version",
                "mode",
                "kind",
                "number",
                "stock",
                "occurred_at",
                "received_at",
            ],
            VerifyTable::Prices => {
                &["tenant_id", "product_id", "event_id", "price", "currency", "observed_at", "received_at"]
            }
        }
    }

    /// Returns the columns that later changes replace, in the order of the hash.
    fn settled(self) -> &'static [&'static str] {
        match self {
            VerifyTable::Orders => &["customer_id", "status"],
            VerifyTable::Prices => &["is_accepted"],
            _ => &[],
        }
    }

    /// Returns the expressions of the tenant, the day and the hash of a row, and the join that they require.
    fn expressions(self, is_settled: bool) -> [String; 4] {
        let field = |column: &&str| match column.ends_with("_at") {
            // Exact: the epoch of a timestamp is a numeric.
            true => format!("(extract(epoch FROM r.{column}) * 1000000)::bigint::text || chr(31)"),
            false => format!("r.{column}::text || chr(31)"),
        };
        let settled = if is_settled { self.settled() } else { &[] };
        let fields = self.compared().iter().chain(settled).map(field).collect::<Vec<String>>().join(" || ");
        let tenant = if self == VerifyTable::Clicks { "''" } else { "r.tenant_id" };
        let (join, day) = match self {
            VerifyTable::OrderItems => (
                " JOIN fh.orders o ON o.tenant_id = r.tenant_id AND o.order_id = r.order_id",
                "o.received_at",
            ),
            _ => ("", "r.received_at"),
        };
        let hash = format!(
            "('x' || encode(substring(sha256(convert_to({fields}, 'UTF8')) FROM 1 FOR 8), 'hex'))::bit(64)::bigint"
        );
        let day = format!("(({day} AT TIME ZONE 'UTC')::date - date '1970-01-01')::int");
        [tenant.to_owned(), day, hash, join.to_owned()]
    }

    /// Returns the SQL that counts the rows of an origin: parameters are node, shard, epoch, and the ids after and up to
    /// which rows count.
    pub(super) fn recount_sql(self, is_settled: bool) -> String {
        let [tenant, day, hash, join] = self.expressions(is_settled);
        format!(
            "SELECT {tenant}, {day}, count(*), sum({hash})::text FROM fh.{} r{join} \
             WHERE r.node = $1 AND r.shard = $2 AND r.epoch = $3 AND r.id > $4 AND r.id <= $5 GROUP BY 1, 2",
            self.as_str()
        )
    }

    /// Returns the SQL that reads the id and the hash of an origin's rows of one tenant and day. A row id with several
    /// rows has the sum of their hashes. Further parameters are tenant and day.
    pub(super) fn hashes_sql(self, is_settled: bool) -> String {
        let [tenant, day, hash, join] = self.expressions(is_settled);
        format!(
            "SELECT r.id, sum({hash})::text FROM fh.{} r{join} \
             WHERE r.node = $1 AND r.shard = $2 AND r.epoch = $3 AND r.id > $4 AND r.id <= $5 \
             AND {tenant} = $6::text AND {day} = $7 GROUP BY 1",
            self.as_str()
        )
    }

    /// Returns the SQL that reads the ids of an origin's rows, in order. Parameters as for
    /// [`VerifyTable::recount_sql`].
    pub(super) fn ids_sql(self) -> String {
        format!(
            "SELECT id FROM fh.{} WHERE node = $1 AND shard = $2 AND epoch = $3 AND id > $4 AND id <= $5 \
             GROUP BY id ORDER BY id",
            self.as_str()
        )
    }
}
