//! The stock tables, and the conversion of events that were stored before levels existed.

use rusqlite::Connection;

use crate::shard::ShardError;
use crate::shard::view::time_sql;

/// Creates this family's tables for a schema version. Version 3 added stock events, version 4
/// added levels, and version 7 what remains of deleted events.
pub(super) fn migrate(connection: &Connection, version: u32) -> Result<(), ShardError> {
    match version {
        3 => connection.execute_batch(&events_sql())?,
        4 => connection.execute_batch(&tables_sql())?,
        7 => connection.execute_batch(DROPPED_SQL)?,
        _ => {}
    }
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
