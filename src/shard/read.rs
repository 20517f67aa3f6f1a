//! Reading rows back in order: one bounded step on one shard, in a read transaction of its own.
//!
//! Every partition keeps its rows in the order reads want (an index), so a step is a merge over the cursors of
//! those partitions whose times overlap. It ends after so many rows, bytes or milliseconds, and says where to
//! go on: no reader ever holds back a checkpoint for long.

mod count;
mod render;

use rusqlite::fallible_streaming_iterator::FallibleStreamingIterator as _;
use rusqlite::types::Value;
use rusqlite::{Connection, Row, Rows, Statement, params_from_iter};

pub use count::{BucketCount, bucket_counts, bucket_statements, count};
pub use render::write_rfc3339;
pub use render::write_string;

use super::error::ShardError;
use super::inspect::{PartitionInfo, partitions_of};
use super::orders::{self, OrdersOf};
use super::stream::Stream;
use crate::base::clock;
use crate::base::ids::ShardId;

/// How long one step may hold its snapshot.
const STEP_US: u64 = 50_000;
/// Keys between two looks at the clock.
const KEYS_PER_LOOK: u32 = 256;

/// Which rows; times from inclusive, to exclusive, microseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    pub of: Of,
    pub from_us: Option<i64>,
    pub to_us: Option<i64>,
    pub descending: bool,
}

/// Whose rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Of {
    /// Idempotent events of one tenant, in order of (timestamp, event id).
    Events { tenant_id: String, source: Option<String>, event_type: Option<String> },
    /// Clicks, in order of (timestamp, user, shard, id).
    Clicks { user_id: Option<i64> },
    /// Orders of one tenant, in order of (ordered at, order id).
    Orders(Box<OrdersOf>),
}

/// A place in the order of one shard's rows. The parts a stream does not sort by are empty.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    pub timestamp_us: i64,
    pub user_id: i64,
    pub event_id: String,
    pub id: i64,
}

/// How much one step may bring.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub rows: usize,
    pub bytes: usize,
}

/// One shard's next rows, rendered.
#[derive(Debug, Default)]
pub struct Partial {
    pub rows: Vec<PartialRow>,
    /// The rows' JSON, each with a line end; event ids for the merge in `ids`.
    pub bytes: Vec<u8>,
    pub ids: Vec<u8>,
    /// Where the next step begins; `None` at the end.
    pub next: Option<Position>,
}

/// One row of a [`Partial`].
#[derive(Clone, Copy, Debug)]
pub struct PartialRow {
    pub timestamp_us: i64,
    pub user_id: i64,
    pub id: i64,
    /// End of its line in `bytes`, of its event id in `ids`; they begin where the row before ends.
    pub line_end: u32,
    pub id_end: u32,
}

impl Of {
    #[must_use]
    pub fn stream(&self) -> Stream {
        match self {
            Of::Events { .. } => Stream::ServiceEvent,
            Of::Clicks { .. } => Stream::Click,
            Of::Orders(_) => Stream::Order,
        }
    }
}

impl Filter {
    /// In front of the first row.
    #[must_use]
    pub fn start(&self) -> Position {
        let timestamp_us =
            if self.descending { self.to_us.unwrap_or(i64::MAX) } else { self.from_us.unwrap_or(i64::MIN) };
        let edge = if self.descending { i64::MIN } else { -1 };
        Position { timestamp_us, user_id: i64::MIN, event_id: String::new(), id: edge }
    }

    pub(super) fn overlaps(&self, partition: &PartitionInfo, position: &Position) -> bool {
        let Some((low, high)) = partition.timestamp_us else { return false };
        let (mut from, mut to) = (self.from_us.unwrap_or(i64::MIN), self.to_us.unwrap_or(i64::MAX));
        // What lies behind is read already.
        if self.descending {
            to = to.min(position.timestamp_us.saturating_add(1));
        } else {
            from = from.max(position.timestamp_us);
        }
        low < to && high >= from
    }
}

/// The highest row id of a stream: later rows get higher ones. 0 where there is none.
pub fn pin(connection: &Connection, stream: Stream) -> Result<i64, ShardError> {
    let sql = "SELECT coalesce(max(first_id + rows + erased - 1), 0) FROM partition WHERE stream = ?1";
    let last: i64 = connection.prepare_cached(sql)?.query_row([stream.name()], |row| row.get(0))?;
    Ok(last)
}

/// The rows behind `position` with ids up to `pin`, as far as the bounds allow. `keys_only` leaves `bytes`
/// empty: for stepping over rows.
pub fn step(
    connection: &Connection,
    shard: ShardId,
    filter: &Filter,
    pin: i64,
    position: &Position,
    bounds: Bounds,
    keys_only: bool,
) -> Result<Partial, ShardError> {
    if let Of::Orders(of) = &filter.of {
        return orders::step(connection, shard, (filter, of), pin, position, bounds, keys_only);
    }
    let until_us = clock::monotonic_us() + STEP_US;
    let infos = partitions_of(connection, filter.of.stream())?;
    let infos: Vec<_> = infos
        .into_iter()
        .filter(|partition| partition.first_id <= pin && filter.overlaps(partition, position))
        .collect();
    let has_names = matches!(&filter.of, Of::Events { source, event_type, .. } if source.is_some() || event_type.is_some());
    let keys_from_index = keys_only || has_names;
    let mut statements = Vec::with_capacity(infos.len());
    for partition in &infos {
        let (sql, values) = cursor_sql(filter, partition, pin, position, keys_from_index);
        statements.push((connection.prepare_cached(&sql)?, values));
    }
    let mut cursors = Vec::with_capacity(statements.len());
    for ((statement, values), partition) in statements.iter_mut().zip(&infos) {
        cursors.push(Cursor::begin(statement, values, partition, filter)?);
    }
    let mut partial = Partial::default();
    let mut seen = 0_u32;
    loop {
        let Some(best) = choose(&cursors, filter.descending) else {
            partial.next = None;
            return Ok(partial);
        };
        let cursor = &mut cursors[best];
        let Some(key) = cursor.key.take() else { continue };
        let gone = || ShardError::Other("a cursor names no row".to_owned());
        let row = cursor.rows.get().ok_or_else(gone)?;
        if takes(filter, row)? {
            if !keys_only {
                if has_names {
                    render::by_id(connection, &cursor.partition.name, filter, row, &key, &mut partial.bytes)?;
                } else {
                    render::whole(filter, row, &key, &mut partial.bytes)?;
                }
            }
            partial.ids.extend_from_slice(key.event_id.as_bytes());
            partial.rows.push(PartialRow {
                timestamp_us: key.timestamp_us,
                user_id: key.user_id,
                id: key.id,
                line_end: partial.bytes.len() as u32,
                id_end: partial.ids.len() as u32,
            });
        }
        cursor.advance(filter)?;
        seen += 1;
        let is_full = partial.rows.len() >= bounds.rows || partial.bytes.len() >= bounds.bytes;
        if is_full || (seen.is_multiple_of(KEYS_PER_LOOK) && clock::monotonic_us() >= until_us) {
            partial.next = Some(key);
            return Ok(partial);
        }
    }
}

/// Whether the row is one of the filter's names; its times and tenant are the index's business.
fn takes(filter: &Filter, row: &Row<'_>) -> Result<bool, ShardError> {
    let Of::Events { source, event_type, .. } = &filter.of else { return Ok(true) };
    for (wanted, column) in [(source, 3), (event_type, 4)] {
        if let Some(wanted) = wanted
            && row.get_ref(column)?.as_bytes().map_err(rusqlite::Error::from)? != wanted.as_bytes()
        {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Rows of one partition in order, the next key taken out.
struct Cursor<'s> {
    rows: Rows<'s>,
    partition: &'s PartitionInfo,
    key: Option<Position>,
}

impl<'s> Cursor<'s> {
    fn begin(
        statement: &'s mut Statement<'_>,
        values: &[Value],
        partition: &'s PartitionInfo,
        filter: &Filter,
    ) -> Result<Cursor<'s>, ShardError> {
        let rows = statement.query(params_from_iter(values))?;
        let mut cursor = Cursor { rows, partition, key: None };
        cursor.advance(filter)?;
        Ok(cursor)
    }

    fn advance(&mut self, filter: &Filter) -> Result<(), ShardError> {
        self.rows.advance()?;
        self.key = match self.rows.get() {
            None => None,
            Some(row) => Some(match filter.of {
                Of::Events { .. } => {
                    Position { timestamp_us: row.get(1)?, user_id: 0, event_id: row.get(2)?, id: row.get(0)? }
                }
                Of::Clicks { .. } | Of::Orders(_) => Position {
                    timestamp_us: row.get(1)?,
                    user_id: row.get(2)?,
                    event_id: String::new(),
                    id: row.get(0)?,
                },
            }),
        };
        Ok(())
    }
}

/// The cursor with the next key; partitions are few.
fn choose(cursors: &[Cursor<'_>], descending: bool) -> Option<usize> {
    let keyed = cursors.iter().enumerate().filter_map(|(at, cursor)| Some((cursor.key.as_ref()?, at)));
    if descending { keyed.max_by_key(|(key, _)| *key) } else { keyed.min_by_key(|(key, _)| *key) }
        .map(|(_, at)| at)
}

/// One partition's rows behind a position, in order. Column 0 is the id, 1 the time, then what the order
/// and the filter need.
fn cursor_sql(
    filter: &Filter,
    partition: &PartitionInfo,
    pin: i64,
    position: &Position,
    keys_from_index: bool,
) -> (String, Vec<Value>) {
    let name = &partition.name;
    let (compare, bound, order) =
        if filter.descending { ("<", "timestamp_us >= ", "DESC") } else { (">", "timestamp_us < ", "ASC") };
    let edge =
        if filter.descending { filter.from_us.unwrap_or(i64::MIN) } else { filter.to_us.unwrap_or(i64::MAX) };
    match &filter.of {
        Of::Events { tenant_id, .. } => {
            let rest = if keys_from_index { "" } else { ", received_us, payload" };
            let sql = format!(
                "SELECT id, timestamp_us, event_id, source, event_type{rest} FROM {name} INDEXED BY {name}_order \
                 WHERE tenant_id = ?1 AND (timestamp_us, event_id) {compare} (?2, ?3) AND {bound}?4 AND id <= ?5 \
                 ORDER BY timestamp_us {order}, event_id {order}"
            );
            let values = vec![
                tenant_id.clone().into(),
                position.timestamp_us.into(),
                position.event_id.clone().into(),
                edge.into(),
                pin.into(),
            ];
            (sql, values)
        }
        Of::Clicks { user_id } => {
            let rest = if keys_from_index { "" } else { ", received_us, metadata" };
            let columns = format!("SELECT id, timestamp_us, user_id{rest} FROM {name}");
            let mut values: Vec<Value> = vec![
                position.timestamp_us.into(),
                position.user_id.into(),
                position.id.into(),
                edge.into(),
                pin.into(),
            ];
            let sql = match user_id {
                None => format!(
                    "{columns} INDEXED BY {name}_time WHERE (timestamp_us, user_id, id) {compare} (?1, ?2, ?3) \
                     AND {bound}?4 AND id <= ?5 ORDER BY timestamp_us {order}, user_id {order}, id {order}"
                ),
                Some(user_id) => {
                    values.push((*user_id).into());
                    // Equal in user, so time and id are left to compare. The order is that of the index; the
                    // plus keeps the planner from taking the user out of it and then sorting.
                    let (index, user, then) = if partition.indexed {
                        ("user", "user_id", String::new())
                    } else {
                        ("time", "+user_id", format!("user_id {order}, "))
                    };
                    format!(
                        "{columns} INDEXED BY {name}_{index} WHERE {user} = ?6 AND \
                         (timestamp_us, id) {compare} (?1, ?3) AND {bound}?4 AND id <= ?5 \
                         ORDER BY timestamp_us {order}, {then}id {order}"
                    )
                }
            };
            (sql, values)
        }
        // They have a step of their own.
        Of::Orders(_) => (String::new(), Vec::new()),
    }
}

/// Every SQL text that reads of this kind can issue against a partition, by name; for looking at plans.
#[must_use]
pub fn statements(partition: &PartitionInfo) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let ofs: Vec<(&str, Of)> = match partition.stream {
        Stream::Order => return orders::statements(partition),
        Stream::ServiceEvent => {
            vec![("events", Of::Events { tenant_id: "t".to_owned(), source: None, event_type: None })]
        }
        Stream::Click => {
            vec![
                ("clicks", Of::Clicks { user_id: None }),
                ("clicks of a user", Of::Clicks { user_id: Some(1) }),
            ]
        }
    };
    for (what, of) in ofs {
        for descending in [false, true] {
            let filter = Filter { of: of.clone(), from_us: None, to_us: None, descending };
            for keys_only in [false, true] {
                let (sql, _) = cursor_sql(&filter, partition, 0, &filter.start(), keys_only);
                let order = if descending { "descending" } else { "ascending" };
                let columns = if keys_only { "keys" } else { "rows" };
                found.push((format!("{what}, {order}, {columns}"), sql));
            }
        }
        found.push((format!("{what}, counted"), count::count_sql(&of, partition)));
    }
    found
}
