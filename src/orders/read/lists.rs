//! Reads the orders of a few products or customers in a sealed partition, sorted by (ordered_at, order id).

use std::collections::VecDeque;

use rusqlite::{Connection, OptionalExtension as _, params};

use super::indexed::{IndexedOrder, by_id_sql, found};
use super::predicate::OrderPredicate;
use crate::shard::ShardError;
use crate::shard::read::Position;

/// The number of entries read at once from one list.
const READ_AHEAD: usize = 256;

/// One partition's lists, merged. An order in two lists is returned once.
pub(super) struct Lists<'s> {
    partition: &'s str,
    sql: String,
    lists: Vec<List>,
    position: &'s Position,
    /// Orders with the same time, in the order in which `next` returns them.
    ready: VecDeque<IndexedOrder>,
}

struct List {
    key: i64,
    /// Entries of time and order, newest first.
    entries: VecDeque<(i64, i64)>,
    /// Only entries older than this remain to be read.
    read_to: (i64, i64),
    is_done: bool,
}

pub(super) fn sql(table: &str, key: &str) -> String {
    format!(
        "SELECT ordered_at_us, id FROM {table} WHERE {key} = ?1 AND (ordered_at_us, id) < (?2, ?3) \
         AND ordered_at_us >= ?4 ORDER BY ordered_at_us DESC, id DESC LIMIT {READ_AHEAD}"
    )
}

impl<'s> Lists<'s> {
    pub(super) fn new(
        partition: &'s str,
        table: String,
        key: &str,
        keys: &[i64],
        position: &'s Position,
    ) -> Lists<'s> {
        // Starts with the position's own time, because row ids do not show which orders of that time follow the
        // position.
        let read_to = (position.timestamp_us.saturating_add(1), i64::MIN);
        let lists = keys
            .iter()
            .map(|key| List { key: *key, entries: VecDeque::new(), read_to, is_done: false })
            .collect();
        Lists { partition, sql: sql(&table, key), lists, position, ready: VecDeque::new() }
    }

    /// Returns the next matching order. Executes one statement for every [`READ_AHEAD`] entries of a list.
    pub(super) fn next(
        &mut self,
        connection: &Connection,
        wanted: &OrderPredicate<'_>,
    ) -> Result<Option<IndexedOrder>, ShardError> {
        loop {
            if let Some(order) = self.ready.pop_front() {
                return Ok(Some(order));
            }
            for list in &mut self.lists {
                list.fill(connection, &self.sql, wanted.from_us)?;
            }
            let heads = self.lists.iter().filter_map(|list| list.entries.front());
            let Some(moment_us) = heads.map(|(time, _)| *time).max() else { return Ok(None) };
            let mut ids = Vec::new();
            for list in &mut self.lists {
                while let Some((_, id)) = list.entries.front().filter(|(time, _)| *time == moment_us) {
                    ids.push(*id);
                    list.entries.pop_front();
                    list.fill(connection, &self.sql, wanted.from_us)?;
                }
            }
            ids.sort_unstable();
            ids.dedup();
            let mut orders = Vec::with_capacity(ids.len());
            let mut statement = connection.prepare_cached(&by_id_sql(self.partition))?;
            for id in ids {
                let order =
                    statement.query_row(params![id, wanted.tenant], |row| Ok(found(row))).optional()?;
                let Some(order) = order.transpose()? else { continue };
                let is_behind = (order.ordered_at_us, &order.order_id)
                    < (self.position.timestamp_us, &self.position.event_id);
                if is_behind && wanted.takes(&order) {
                    orders.push(order);
                }
            }
            orders.sort_unstable_by(|one, other| other.order_id.cmp(&one.order_id));
            self.ready.extend(orders);
        }
    }
}

impl List {
    fn fill(&mut self, connection: &Connection, sql: &str, from_us: i64) -> Result<(), ShardError> {
        if !self.entries.is_empty() || self.is_done {
            return Ok(());
        }
        let mut statement = connection.prepare_cached(sql)?;
        let (time, id) = self.read_to;
        let mut rows = statement.query(params![self.key, time, id, from_us])?;
        while let Some(row) = rows.next()? {
            self.entries.push_back((row.get(0)?, row.get(1)?));
        }
        self.is_done = self.entries.len() < READ_AHEAD;
        if let Some(last) = self.entries.back() {
            self.read_to = *last;
        }
        Ok(())
    }
}
