//! Every product's events, grouped by the changes that they arrived in.

use rusqlite::{Connection, Row};

use super::convert::EARLIER;
use super::decide::Mode;
use super::record::{StockChange, StockEvent};
use crate::shard::ShardError;

/// The events of one change.
pub(super) struct Applied {
    /// The product as `stock_level.id`.
    pub(super) product: i64,
    pub(super) tenant_id: String,
    pub(super) product_id: String,
    pub(super) version: i64,
    pub(super) mode: Mode,
    pub(super) received_us: i64,
    /// The stock after the change, or `None` if its events disagree about the stock, their mode or their time of
    /// arrival.
    pub(super) stock: Option<i64>,
    events: Vec<(i64, String, StockChange)>,
}

impl Applied {
    /// Returns the events, ordered by time, then by id.
    pub(super) fn events(&self) -> Vec<StockEvent<'_>> {
        let events = self.events.iter();
        events
            .map(|(occurred_us, event_id, change)| StockEvent {
                occurred_us: *occurred_us,
                event_id,
                change: *change,
            })
            .collect()
    }

    fn read(row: &Row<'_>) -> Result<Applied, ShardError> {
        let mode: u8 = row.get(2)?;
        let mode = Mode::from_code(mode)
            .ok_or_else(|| ShardError::Corrupt(format!("a stock event has an unknown mode {mode}")))?;
        let kind = row.get_ref(3)?.as_str().map_err(rusqlite::Error::from)?;
        let change = StockChange::from_parts(kind, row.get(4)?)
            .ok_or_else(|| ShardError::Corrupt("a stock event is of an unknown kind".to_owned()))?;
        Ok(Applied {
            product: row.get(0)?,
            version: row.get(1)?,
            mode,
            stock: Some(row.get(5)?),
            received_us: row.get(7)?,
            tenant_id: row.get(9)?,
            product_id: row.get(10)?,
            events: vec![(row.get(6)?, row.get(8)?, change)],
        })
    }

    fn add(&mut self, other: Applied) {
        let is_one =
            (self.mode, self.received_us, self.stock) == (other.mode, other.received_us, other.stock);
        self.stock = self.stock.filter(|_| is_one);
        self.events.extend(other.events);
    }
}

/// The order of changes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Order {
    /// Product by product, in order of versions. Sorts all events, in temporary files.
    Product,
    /// In order of arrival, as far as it is known. Those of a product are in order of versions.
    Arrival,
}

const COLUMNS: &str = "e.product, e.version, e.mode, e.kind, e.number, e.stock, e.occurred_at_us, e.received_us, \
                       e.event_id, t.tenant_id, l.product_id";

/// Calls `take` with every change that is not deleted.
pub(super) fn changes<E: From<ShardError>>(
    connection: &Connection,
    order: Order,
    take: &mut dyn FnMut(&Applied) -> Result<(), E>,
) -> Result<(), E> {
    const BY_VERSION: &str = "e.product, e.version, e.occurred_at_us, e.event_id";
    match order {
        Order::Product => read(connection, "stock_event_all", BY_VERSION, take),
        Order::Arrival => {
            read(connection, "stock_event", "e.id", take)?;
            // Events that are not moved are later ones of their products.
            match EARLIER.is_pending(connection)? {
                true => read(connection, "stock_event_v11", BY_VERSION, take),
                false => Ok(()),
            }
        }
    }
}

fn read<E: From<ShardError>>(
    connection: &Connection,
    table: &str,
    order: &str,
    take: &mut dyn FnMut(&Applied) -> Result<(), E>,
) -> Result<(), E> {
    let sql = format!(
        "SELECT {COLUMNS} FROM {table} e CROSS JOIN stock_level l ON l.id = e.product \
         CROSS JOIN tenant_row t ON t.id = l.tenant \
         WHERE e.version > coalesce((SELECT b.version FROM stock_base b WHERE b.product = e.product), 0) \
         ORDER BY {order}"
    );
    let mut statement = connection.prepare(&sql).map_err(ShardError::from)?;
    let mut rows = statement.query([]).map_err(ShardError::from)?;
    let mut open: Option<Applied> = None;
    while let Some(row) = rows.next().map_err(ShardError::from)? {
        let event = Applied::read(row)?;
        match &mut open {
            Some(change) if (change.product, change.version) == (event.product, event.version) => {
                change.add(event);
            }
            _ => {
                if let Some(change) = open.replace(event) {
                    take(&change)?;
                }
            }
        }
    }
    open.map_or(Ok(()), |change| take(&change))
}
