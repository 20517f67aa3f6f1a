//! The stock tables, and the conversion of events that were stored before levels existed.

use rusqlite::Connection;

use super::convert::EARLIER;
use crate::shard::ShardError;
use crate::shard::ids::{self, IdRows, IdsOf, Sizes};
use crate::shard::view::time_sql;

/// The ids of stock events. They have the hash by which a deleted event is known too.
pub(crate) static STOCK_IDS: IdsOf = IdsOf {
    rows: IdRows::Table { name: "stock_event", next_sql: NEXT_ID_SQL },
    prefix: "stock_",
    what: "stock event",
    key: "product, event id",
    rows_sql: |table| {
        format!(
            "SELECT e.id, t.tenant_id, l.product_id, e.event_id FROM {table} e \
             CROSS JOIN stock_level l ON l.id = e.product CROSS JOIN tenant_row t ON t.id = l.tenant ORDER BY e.id"
        )
    },
    // Half of the memory that events need for their newest ids.
    sizes: Sizes { run_ids_min: 250_000, chunk_ids: 256 },
};

/// Returns the row id after that of the newest event, which its product names even if the event was deleted. Reads
/// every level.
pub(super) const NEXT_ID_SQL: &str = "SELECT coalesce(max(event), 0) + 1 FROM stock_level";

/// Creates this family's tables for a schema version. Version 3 added stock events, version 4
/// added levels, and version 7 what remains of deleted events. Since version 13, events are appended.
pub(super) fn migrate(connection: &Connection, version: u32) -> Result<(), ShardError> {
    match version {
        3 => connection.execute_batch(&events_sql())?,
        4 => connection.execute_batch(&tables_sql())?,
        7 => connection.execute_batch(DROPPED_SQL)?,
        13 => append_events(connection)?,
        _ => {}
    }
    Ok(())
}

/// Keeps the events of earlier versions in a table from which upkeep moves them ([`super::convert`]).
pub(crate) fn append_events(connection: &Connection) -> Result<(), ShardError> {
    connection.execute_batch("DROP VIEW stock_events; DROP TABLE stock_answer;")?;
    EARLIER.rename(connection, "stock_event", "stock_event_v11")?;
    connection.execute_batch(APPENDED_SQL)?;
    connection.execute_batch(&ids::schema(&STOCK_IDS))?;
    create_views(connection, true)?;
    if EARLIER.is_empty(connection)? {
        super::convert::finish(connection)?;
    }
    Ok(())
}

/// The tables of version 13.
const APPENDED_SQL: &str = "
ALTER TABLE stock_level ADD COLUMN event INTEGER;  -- stock_event.id of the product's newest event
CREATE TABLE stock_event (
  -- What happened to the stock of products, each event once, in order of arrival. Those of one change have one
  -- version, and ids that follow each other. (product, event_id) is unique; stock_id_recent and stock_id_run see to it.
  id INTEGER PRIMARY KEY,         -- rises, and is not given out again
  product INTEGER NOT NULL,       -- stock_level.id
  previous INTEGER,               -- id of the product's event before this one; it may have been deleted
  event_id TEXT NOT NULL,
  version INTEGER NOT NULL,       -- the product's, with this change
  mode INTEGER NOT NULL,          -- 1 last_write_wins, 2 merge, 3 reject, 4 history
  kind TEXT NOT NULL,             -- 'delta': so many came in or went out; 'quantity': so many are there
  number INTEGER NOT NULL,
  stock INTEGER NOT NULL,         -- what the change left
  occurred_at_us INTEGER NOT NULL,
  received_us INTEGER NOT NULL
);
CREATE TABLE stock_answer (
  -- What was decided of products in a request, until it is answered; a minute, then it goes bit by bit.
  id INTEGER PRIMARY KEY,
  request INTEGER NOT NULL,       -- by time: microseconds since 1970 * 256 + core
  decisions BLOB NOT NULL         -- 22 bytes each
);
CREATE INDEX stock_answer_request ON stock_answer (request);
";

/// Creates the views of events. While events of an earlier version are moved, they read both tables.
pub(super) fn create_views(connection: &Connection, is_moving: bool) -> Result<(), ShardError> {
    const COLUMNS: &str =
        "product, event_id, version, mode, kind, number, stock, occurred_at_us, received_us";
    let earlier = match is_moving {
        true => format!("\nUNION ALL SELECT 0, {COLUMNS} FROM stock_event_v11"),
        false => String::new(),
    };
    connection.execute_batch(&format!(
        "
DROP VIEW IF EXISTS stock_events;
DROP VIEW IF EXISTS stock_event_all;
CREATE VIEW stock_event_all AS
  -- Every event. Those of an earlier version have the id 0 until upkeep gives them one.
SELECT id, {COLUMNS} FROM stock_event{earlier};
CREATE VIEW stock_events AS
  -- One line an event; in order of version it is the product's history.
SELECT t.tenant_id, l.product_id, e.event_id, e.kind, e.number, {} AS occurred_at, e.version,
  CASE e.mode WHEN 1 THEN 'last_write_wins' WHEN 2 THEN 'merge' WHEN 3 THEN 'reject' ELSE 'history' END AS mode,
  e.stock
FROM stock_event_all e JOIN stock_level l ON l.id = e.product JOIN tenant_row t ON t.id = l.tenant;
",
        time_sql("e.occurred_at_us"),
    ))?;
    Ok(())
}

/// The tables of deleted events.
pub(crate) const DROPPED_SQL: &str = "
CREATE TABLE stock_base (
  -- The level of a product after the events that retention has deleted: those up to this version.
  product INTEGER PRIMARY KEY,    -- stock_level.id
  quantity INTEGER NOT NULL,
  version INTEGER NOT NULL,
  newest_us INTEGER NOT NULL,     -- time and id of the newest of them
  newest_event_id TEXT NOT NULL
);
CREATE TABLE stock_dropped (
  -- Events that retention has deleted. A repeated one gets the same answer.
  product INTEGER NOT NULL,
  event INTEGER NOT NULL,         -- a hash of tenant, product and event id
  content INTEGER NOT NULL,       -- a hash of all that makes two events the same
  version INTEGER NOT NULL,
  stock INTEGER NOT NULL,         -- what its change left
  PRIMARY KEY (product, event)
) WITHOUT ROWID;
";

/// Returns the SQL that creates version 3's stock event table and its view.
fn events_sql() -> String {
    format!(
        "
CREATE TABLE stock_row (
  -- What happened to stock, by product and time.
  tenant INTEGER NOT NULL,
  product_id TEXT NOT NULL,
  occurred_at_us INTEGER NOT NULL,
  event_id TEXT NOT NULL,
  kind TEXT NOT NULL,               -- 'delta': so many came in or went out; 'quantity': so many are there
  number INTEGER NOT NULL,
  received_us INTEGER NOT NULL,
  PRIMARY KEY (tenant, product_id, occurred_at_us, event_id)
) WITHOUT ROWID;
CREATE VIEW stock_events AS
SELECT t.tenant_id, s.product_id, s.event_id, s.kind, s.number, {} AS occurred_at
FROM stock_row s JOIN tenant_row t ON t.id = s.tenant;
",
        time_sql("s.occurred_at_us"),
    )
}

/// Returns the SQL that creates version 4's tables and their views. Earlier stock events become history, in time
/// order.
pub(crate) fn tables_sql() -> String {
    format!(
        "
CREATE TABLE stock_level (
  -- How much of a product there is: what its events come to. A product is in one shard only.
  id INTEGER PRIMARY KEY,
  tenant INTEGER NOT NULL,        -- tenant_row.id
  product_id TEXT NOT NULL,
  quantity INTEGER NOT NULL,
  version INTEGER NOT NULL,       -- changes so far
  newest_us INTEGER NOT NULL,     -- time and id of the newest event
  newest_event_id TEXT NOT NULL,
  updated_us INTEGER NOT NULL,    -- when the last change was accepted
  UNIQUE (tenant, product_id)
);
CREATE TABLE stock_event (
  -- What happened to the stock of a product, each event once. Those of one change have one version.
  product INTEGER NOT NULL,       -- stock_level.id
  event_id TEXT NOT NULL,
  version INTEGER NOT NULL,       -- the product's, with this change
  mode INTEGER NOT NULL,          -- 1 last_write_wins, 2 merge, 3 reject, 4 history
  kind TEXT NOT NULL,             -- 'delta': so many came in or went out; 'quantity': so many are there
  number INTEGER NOT NULL,
  stock INTEGER NOT NULL,         -- what the change left
  occurred_at_us INTEGER NOT NULL,
  received_us INTEGER NOT NULL,
  PRIMARY KEY (product, event_id)
) WITHOUT ROWID;
CREATE TABLE stock_answer (
  -- What was decided of a product in a request, until it is answered; a minute, then it goes bit by bit.
  request INTEGER NOT NULL,       -- by time: microseconds since 1970 * 256 + core
  place INTEGER NOT NULL,         -- of the product in it
  result INTEGER NOT NULL,        -- 1 applied, 2 duplicate, 3 conflict, 4 rejected
  code INTEGER NOT NULL,
  quantity INTEGER NOT NULL,
  version INTEGER NOT NULL,
  PRIMARY KEY (request, place)
) WITHOUT ROWID;
{MIGRATE}
DROP VIEW stock_events;
DROP TABLE stock_row;
CREATE VIEW stock AS
  -- One line a product.
SELECT t.tenant_id, l.product_id, l.quantity, l.version, {} AS updated_at
FROM stock_level l JOIN tenant_row t ON t.id = l.tenant;
CREATE VIEW stock_events AS
  -- One line an event; in order of version it is the product's history.
SELECT t.tenant_id, l.product_id, e.event_id, e.kind, e.number, {} AS occurred_at, e.version,
  CASE e.mode WHEN 1 THEN 'last_write_wins' WHEN 2 THEN 'merge' WHEN 3 THEN 'reject' ELSE 'history' END AS mode,
  e.stock
FROM stock_event e JOIN stock_level l ON l.id = e.product JOIN tenant_row t ON t.id = l.tenant;
",
        time_sql("l.updated_us"),
        time_sql("e.occurred_at_us"),
    )
}

/// Converts the stock events of version 3. In time order, every quantity is the newest when it is applied. The stock
/// after an event is therefore the last quantity plus all later deltas. If a product has the same id twice, the id
/// counts once, at its first time.
const MIGRATE: &str = "
CREATE TABLE stock_taken_over AS
  SELECT tenant, product_id, event_id, kind, number, occurred_at_us, received_us,
    row_number() OVER history AS version,
    sum(kind = 'quantity') OVER history AS counts
  FROM (SELECT *, row_number() OVER (PARTITION BY tenant, product_id, event_id ORDER BY occurred_at_us) AS nth
    FROM stock_row)
  WHERE nth = 1
  WINDOW history AS (PARTITION BY tenant, product_id ORDER BY occurred_at_us, event_id);
INSERT INTO stock_level (tenant, product_id, quantity, version, newest_us, newest_event_id, updated_us)
  SELECT tenant, product_id, 0, max(version), occurred_at_us, event_id, received_us
  FROM stock_taken_over GROUP BY tenant, product_id ORDER BY tenant, product_id;
INSERT INTO stock_event (product, event_id, version, mode, kind, number, stock, occurred_at_us, received_us)
  SELECT l.id, o.event_id, o.version, 4, o.kind, o.number,
    sum(o.number) OVER (PARTITION BY o.tenant, o.product_id, o.counts ORDER BY o.version),
    o.occurred_at_us, o.received_us
  FROM stock_taken_over o JOIN stock_level l ON l.tenant = o.tenant AND l.product_id = o.product_id;
UPDATE stock_level SET quantity =
  (SELECT e.stock FROM stock_event e WHERE e.product = stock_level.id AND e.version = stock_level.version);
DROP TABLE stock_taken_over;
";

/// Makes the state in which the migration to version 13 leaves a file with events, for tests.
#[cfg(test)]
pub(crate) fn set_back(connection: &Connection) -> Result<(), ShardError> {
    let sql = tables_sql();
    let from = sql.find("CREATE TABLE stock_event (").expect("the table");
    let (table, _) = sql[from..].split_once(") WITHOUT ROWID;").expect("its end");
    let table = format!("{table}) WITHOUT ROWID").replace("stock_event", "stock_event_v11");
    connection.execute_batch(&table)?;
    connection.execute_batch(
        "INSERT INTO stock_event_v11 SELECT product, event_id, version, mode, kind, number, stock, occurred_at_us, \
         received_us FROM stock_event; DELETE FROM stock_event; UPDATE stock_level SET event = NULL; \
         DELETE FROM stock_id_recent; DELETE FROM stock_id_run; DELETE FROM stock_id_chunk;",
    )?;
    create_views(connection, true)
}
