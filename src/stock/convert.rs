//! Moves the events of schema versions before 13 into the appended table, in slices of upkeep.
//!
//! In: `stock_event_v11`, with the key (product, event id). Out: the same events in `stock_event`, those of a product
//! in the order of their versions. An event is in one of the tables at each commit. As long as a product has events in
//! the earlier table, its new events go there too, so that the order of its row ids is that of its versions.
//!
//! The lowest versions of a product are selected with limited memory, moved, and deleted. There is no other record of
//! the progress, so a crash loses at most one selection and the last slice.

use std::collections::BinaryHeap;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::decide::Mode;
use super::dropped::{self, base};
use super::record::{DroppedEvent, StockChange};
use super::schema::create_views;
use crate::base::clock;
use crate::base::keys::KeyHasher;
use crate::shard::ids::Ids;
use crate::shard::{Earlier, ShardError};

/// The number of rows read between two checks of the clock.
const ROWS: i64 = if cfg!(test) { 3 } else { 256 };
/// The maximum number of selected events, about 10 MB. It exceeds the number of events of a change.
const SELECTED_MAX: usize = if cfg!(test) { 8 } else { 65_536 };

/// The table of earlier events.
pub(super) static EARLIER: Earlier = Earlier { tables: &["stock_event_v11"], what: "stock events" };

/// Returns `true` if a product has events that are not moved.
pub(super) fn has_events(connection: &Connection, product: i64) -> Result<bool, ShardError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM stock_event_v11 WHERE product = ?1)";
    Ok(connection.prepare_cached(sql)?.query_row([product], |row| row.get(0))?)
}

/// Drops the empty table of earlier events, and makes the views read the other one alone.
pub(super) fn finish(connection: &Connection) -> Result<(), ShardError> {
    create_views(connection, false)?;
    EARLIER.drop_tables(connection)
}

/// An event to move. Events are ordered by version, time and id, as they are stored.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Selected {
    version: i64,
    occurred_us: i64,
    event_id: String,
    mode: u8,
    kind: String,
    number: i64,
    stock: i64,
    received_us: i64,
}

/// The progress within one product.
#[derive(Debug)]
pub(super) struct Selecting {
    product: i64,
    /// The product's version when its events were first read. Later events are moved later.
    upto: i64,
    /// The last event that was read.
    after: String,
    /// The events with the lowest versions.
    lowest: BinaryHeap<Selected>,
    /// Whether there were more.
    is_part: bool,
}

/// The state of the conversion of one shard.
#[derive(Debug, Default)]
pub(super) enum Conversion {
    /// There is no table of earlier events.
    #[default]
    Done,
    Next,
    Selecting(Box<Selecting>),
    /// The product, and its selected events in descending order.
    Moving(i64, Vec<Selected>),
}

use Conversion::{Done, Moving, Next};

impl Conversion {
    pub(super) fn of(connection: &Connection) -> Result<Conversion, ShardError> {
        Ok(if EARLIER.is_pending(connection)? { Next } else { Done })
    }

    pub(super) fn is_pending(&self) -> bool {
        !matches!(self, Done)
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let count = match self {
            Done | Next => 0,
            Conversion::Selecting(of) => of.lowest.len(),
            Moving(_, selected) => selected.len(),
        };
        count * (size_of::<Selected>() + 48)
    }

    /// Runs one slice of about `budget`, in one transaction. After an error, it begins again with the product.
    pub(super) fn slice(
        &mut self,
        connection: &mut Connection,
        keys: &KeyHasher,
        ids: &mut Ids,
        budget: Duration,
    ) -> Result<(), ShardError> {
        let state = std::mem::replace(self, Next);
        let rest = EARLIER.slice(connection, ids, budget, state, |transaction, ids, until_us, state| {
            Ok(match state {
                Done => None,
                Next => begin(transaction)?,
                Conversion::Selecting(of) => Some(of.read(transaction, until_us)?),
                Moving(product, selected) => {
                    let target = Target { transaction, keys, ids, until_us };
                    Some(target.store(product, selected)?)
                }
            })
        })?;
        *self = rest.unwrap_or(Done);
        Ok(())
    }
}

/// Begins with the first product that has earlier events, or ends the conversion.
fn begin(transaction: &Connection) -> Result<Option<Conversion>, ShardError> {
    let sql = "SELECT l.id, l.version FROM stock_level l \
               WHERE l.id = (SELECT product FROM stock_event_v11 ORDER BY product LIMIT 1)";
    let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
    let found = transaction.prepare_cached(sql)?.query_row([], read).optional()?;
    let Some((product, upto)) = found else {
        finish(transaction)?;
        return Ok(None);
    };
    let lowest = BinaryHeap::new();
    let of = Selecting { product, upto, after: String::new(), lowest, is_part: false };
    Ok(Some(Conversion::Selecting(Box::new(of))))
}

impl Selecting {
    fn read(
        mut self: Box<Selecting>,
        connection: &Connection,
        until_us: u64,
    ) -> Result<Conversion, ShardError> {
        let mut statement = connection.prepare_cached(
            "SELECT event_id, version, mode, kind, number, stock, occurred_at_us, received_us FROM stock_event_v11 \
             WHERE product = ?1 AND event_id > ?2 ORDER BY event_id LIMIT ?3",
        )?;
        loop {
            let mut rows = statement.query(params![self.product, self.after, ROWS])?;
            let mut count = 0;
            while let Some(row) = rows.next()? {
                count += 1;
                self.after = row.get(0)?;
                let version: i64 = row.get(1)?;
                if version > self.upto {
                    continue;
                }
                let is_full = self.lowest.len() == SELECTED_MAX;
                self.is_part |= is_full;
                if is_full && self.lowest.peek().is_some_and(|high| high.version < version) {
                    continue;
                }
                self.lowest.push(Selected::read(row)?);
                if is_full {
                    self.lowest.pop();
                }
            }
            if count < ROWS {
                break;
            }
            if clock::monotonic_us() >= until_us {
                drop(rows);
                drop(statement);
                return Ok(Conversion::Selecting(self));
            }
        }
        let mut selected = self.lowest.into_sorted_vec();
        if self.is_part
            && let Some(highest) = selected.last().map(|last| last.version)
        {
            // Others of this version may be left out.
            selected.retain(|event| event.version < highest);
        }
        selected.reverse();
        Ok(Moving(self.product, selected))
    }
}

/// Where selected events go.
struct Target<'c> {
    transaction: &'c Connection,
    keys: &'c KeyHasher,
    ids: &'c mut Ids,
    until_us: u64,
}

impl Target<'_> {
    /// Stores whole changes until the slice ends.
    fn store(self, product: i64, mut selected: Vec<Selected>) -> Result<Conversion, ShardError> {
        let (tenant_id, product_id, mut previous): (String, String, Option<i64>) = self
            .transaction
            .prepare_cached(PRODUCT_SQL)?
            .query_row([product], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        let deleted = base(self.transaction, product)?.map_or(0, |base| base.version);
        let mut count = 0;
        while let Some(event) = selected.pop() {
            let names = [tenant_id.as_str(), product_id.as_str(), event.event_id.as_str()];
            if event.version <= deleted {
                // Retention had begun to delete it.
                dropped::add(self.transaction, product, &event.dropped(self.keys, names)?)?;
            } else {
                let id = self.ids.next_of_table();
                self.insert(id, product, previous, &event)?;
                self.ids.stage(self.keys.hash_all(names), id);
                previous = Some(id);
            }
            let sql = "DELETE FROM stock_event_v11 WHERE product = ?1 AND event_id = ?2";
            self.transaction.prepare_cached(sql)?.execute(params![product, event.event_id])?;
            count += 1;
            let ends_change = selected.last().is_none_or(|next| next.version != event.version);
            if ends_change && count % 8 == 0 && clock::monotonic_us() >= self.until_us {
                break;
            }
        }
        let sql = "UPDATE stock_level SET event = ?2 WHERE id = ?1";
        self.transaction.prepare_cached(sql)?.execute(params![product, previous])?;
        Ok(if selected.is_empty() { Next } else { Moving(product, selected) })
    }

    fn insert(
        &self,
        id: i64,
        product: i64,
        previous: Option<i64>,
        event: &Selected,
    ) -> Result<(), ShardError> {
        self.transaction.prepare_cached(INSERT_SQL)?.execute(params![
            id,
            product,
            previous,
            event.event_id,
            event.version,
            event.mode,
            event.kind,
            event.number,
            event.stock,
            event.occurred_us,
            event.received_us
        ])?;
        Ok(())
    }
}

/// Passes the events of a product that retention of an earlier version had begun to delete to `take`: those up to the
/// version of its base level.
pub(super) fn begun(
    connection: &Connection,
    keys: &KeyHasher,
    (product, version): (i64, i64),
    [tenant_id, product_id]: [&str; 2],
    take: &mut dyn FnMut(DroppedEvent) -> Result<(), ShardError>,
) -> Result<(), ShardError> {
    let mut statement = connection.prepare_cached(
        "SELECT event_id, version, mode, kind, number, stock, occurred_at_us, received_us FROM stock_event_v11 \
         WHERE product = ?1 AND version <= ?2 ORDER BY event_id",
    )?;
    let mut rows = statement.query([product, version])?;
    while let Some(row) = rows.next()? {
        let event = Selected::read(row)?;
        take(event.dropped(keys, [tenant_id, product_id, event.event_id.as_str()])?)?;
    }
    Ok(())
}

impl Selected {
    fn read(row: &Row<'_>) -> rusqlite::Result<Selected> {
        Ok(Selected {
            event_id: row.get(0)?,
            version: row.get(1)?,
            mode: row.get(2)?,
            kind: row.get(3)?,
            number: row.get(4)?,
            stock: row.get(5)?,
            occurred_us: row.get(6)?,
            received_us: row.get(7)?,
        })
    }

    fn dropped(&self, keys: &KeyHasher, names: [&str; 3]) -> Result<DroppedEvent, ShardError> {
        let damaged = || ShardError::Corrupt("a stock event has an unknown mode or kind".to_owned());
        let mode = Mode::from_code(self.mode).ok_or_else(damaged)?;
        let change = StockChange::from_parts(&self.kind, self.number).ok_or_else(damaged)?;
        Ok(DroppedEvent {
            event: keys.hash_all(names).0 as i64,
            content: dropped::content_hash(keys, mode, change, self.occurred_us),
            version: self.version,
            stock: self.stock,
        })
    }
}

const PRODUCT_SQL: &str = "SELECT t.tenant_id, l.product_id, l.event FROM stock_level l \
                           CROSS JOIN tenant_row t ON t.id = l.tenant WHERE l.id = ?1";

/// The SQL that appends an event.
pub(super) const INSERT_SQL: &str = "INSERT INTO stock_event (id, product, previous, event_id, version, mode, kind, \
    number, stock, occurred_at_us, received_us) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
