//! Converts orders, their status changes and finished ingests back to records, to carry them into other shards.

use rusqlite::{Connection, Row};

use super::record::{
    DroppedSumRow, INGEST, IngestRow, ItemRow, ORDER, ORDER_STATUS, OrderParts, SALES_DROPPED, StatusRow,
    encode_order,
};
use super::schema::{ORDERS, item_ids, items_of};
use super::status::OrderStatus;
use super::sums_by::SumsBy;
use crate::base::money::Currency;
use crate::shard::{Carried, ShardError, partition};

/// Passes every order to `take`, in order of arrival. If an order's status has changed since, a status record follows
/// the order. The finished ingests come last.
pub(super) fn carry(
    connection: &Connection,
    take: &mut dyn FnMut(Carried) -> Result<(), ShardError>,
) -> Result<(), ShardError> {
    for name in partition::names(connection, &ORDERS)? {
        let sql = format!(
            "SELECT o.id, t.tenant_id, o.order_id, c.customer_id, c.name, c.email, o.first_status, o.status, \
             o.currency, o.ordered_at_us, o.received_us, o.ingest, o.ingest_line, \
             (SELECT s.occurred_us FROM order_status_time s WHERE s.id = o.id) FROM {name} o \
             JOIN tenant_row t ON t.id = o.tenant JOIN customer_row c ON c.id = o.customer ORDER BY o.id"
        );
        let mut statement = connection.prepare(&sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let [order, status] = records(connection, &name, row)?;
            for record in order.into_iter().chain(status) {
                take(record)?;
            }
        }
    }
    carry_sums(connection, take)?;
    let sql = "SELECT scope, key, fingerprint, response, finished_us, expires_us FROM ingest_key";
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        take(Carried::Row(INGEST, ingest(row)?))?;
    }
    Ok(())
}

/// Passes the sums of dropped orders and the days without sums to `take`.
fn carry_sums(
    connection: &Connection,
    take: &mut dyn FnMut(Carried) -> Result<(), ShardError>,
) -> Result<(), ShardError> {
    let sums = SumsBy::ALL.map(|by| {
        let table = by.dropped_table();
        let names = match by {
            SumsBy::Product => {
                "p.product_id, g.name FROM {} s JOIN product_row p ON p.id = s.product \
                                JOIN category_row g ON g.id = p.category"
            }
            SumsBy::Category => "'', g.name FROM {} s JOIN category_row g ON g.id = s.category",
            SumsBy::Hour | SumsBy::Day => "'', '' FROM {} s",
        };
        let sketches = if by == SumsBy::Product { "x'', x''" } else { "s.customers, s.order_value" };
        let columns = format!(
            "t.tenant_id, s.currency, s.start_us, s.orders, s.units, s.revenue, {sketches}, {}",
            names.replace("{}", table)
        );
        (Some(by), format!("SELECT {columns} JOIN tenant_row t ON t.id = s.tenant"))
    });
    let gone = "SELECT t.tenant_id, 'XXX', s.start_us, 0, 0, 0, x'', x'', '', '' FROM sales_gone s \
                JOIN tenant_row t ON t.id = s.tenant";
    for (by, sql) in sums.into_iter().chain([(None, gone.to_owned())]) {
        let mut statement = connection.prepare(&sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let text = |at: usize| row.get_ref(at)?.as_str().map_err(rusqlite::Error::from);
            let blob = |at: usize| row.get_ref(at)?.as_blob().map_err(rusqlite::Error::from);
            let damaged =
                || ShardError::Corrupt("a sum of dropped orders has an unknown currency".to_owned());
            let currency = match by {
                Some(_) => Currency::parse(text(1)?).ok_or_else(damaged)?,
                // A day without sums has no currency.
                None => Currency::parse("USD").ok_or_else(damaged)?,
            };
            let mut payload = Vec::new();
            DroppedSumRow {
                by,
                start_us: row.get(2)?,
                counts: [row.get(3)?, row.get(4)?, row.get(5)?],
                tenant_id: text(0)?,
                currency,
                product_id: text(8)?,
                category: text(9)?,
                customers: blob(6)?,
                order_value: blob(7)?,
            }
            .encode(&mut payload);
            take(Carried::Row(SALES_DROPPED, payload))?;
        }
    }
    Ok(())
}

fn ingest(row: &Row<'_>) -> Result<Vec<u8>, ShardError> {
    let text = |at: usize| row.get_ref(at)?.as_str().map_err(rusqlite::Error::from);
    let fingerprint: [u8; 32] = row.get(2)?;
    let mut payload = Vec::new();
    IngestRow {
        scope: text(0)?,
        key: text(1)?,
        fingerprint: &fingerprint,
        response: text(3)?,
        finished_us: row.get(4)?,
        expires_us: row.get(5)?,
    }
    .encode(&mut payload);
    Ok(payload)
}

fn records(connection: &Connection, name: &str, row: &Row<'_>) -> Result<[Option<Carried>; 2], ShardError> {
    let text = |at: usize| row.get_ref(at)?.as_str().map_err(rusqlite::Error::from);
    let damaged = || ShardError::Corrupt(format!("{name} has an order with an unknown status or currency"));
    let (id, received_us): (i64, i64) = (row.get(0)?, row.get(10)?);
    let status = |at: usize| -> Result<OrderStatus, ShardError> {
        OrderStatus::from_code(row.get(at)?).ok_or_else(damaged)
    };
    let mut statement = connection.prepare_cached(&format!(
        "SELECT p.product_id, g.name, i.quantity, i.unit_price FROM {} i JOIN product_row p ON p.id = i.product \
         JOIN category_row g ON g.id = p.category WHERE i.id >= ?1 AND i.id < ?2 ORDER BY i.id",
        items_of(name)
    ))?;
    let read = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?));
    let items: Vec<(String, String, i64, i64)> =
        statement.query_map(item_ids(id, id), read)?.collect::<Result<_, _>>()?;
    let items = items.iter().map(|(product_id, category, quantity, unit_price)| ItemRow {
        product_id,
        category,
        quantity: *quantity,
        unit_price: *unit_price,
    });
    let order = OrderParts {
        tenant_id: text(1)?,
        order_id: text(2)?,
        customer_id: text(3)?,
        customer_name: text(4)?,
        customer_email: text(5)?,
        status: status(6)?,
        currency: Currency::parse(text(8)?).ok_or_else(damaged)?,
        ordered_at_us: row.get(9)?,
    };
    let mut payload = Vec::new();
    encode_order(&order, (row.get(11)?, row.get(12)?, received_us), items, &mut payload);
    let (now, occurred_us): (_, Option<i64>) = (status(7)?, row.get(13)?);
    let changed = (now != order.status || occurred_us.is_some()).then(|| {
        let mut payload = Vec::new();
        StatusRow {
            received_us,
            occurred_us: occurred_us.unwrap_or(StatusRow::UNKNOWN_US),
            status: now,
            tenant_id: order.tenant_id,
            order_id: order.order_id,
        }
        .encode(&mut payload);
        Carried::Row(ORDER_STATUS, payload)
    });
    Ok([Some(Carried::Row(ORDER, payload)), changed])
}
