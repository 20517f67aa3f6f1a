//! The tables of price events, anomalies and changes. Comments in the SQL explain them, and `.schema` prints these
//! comments.

use rusqlite::Connection;

use crate::shard::{ShardError, view};

/// Creates this family's tables for a schema version. Version 3 added prices, version 4 events and anomalies,
/// and version 7 what retention of prices requires. Its index has one entry for each anomaly and each decision.
pub(super) fn migrate(connection: &Connection, version: u32) -> Result<(), ShardError> {
    match version {
        3 => connection.execute_batch(&history_sql())?,
        4 => connection.execute_batch(&tables_sql())?,
        7 => connection.execute_batch(DROPPED_SQL)?,
        _ => {}
    }
    Ok(())
}

/// The index and the table that the deletion of old prices requires.
const DROPPED_SQL: &str = "
CREATE INDEX price_change_anomaly ON price_change (anomaly);
CREATE TABLE price_change_dropped (
  -- The greatest number of a change that retention has deleted, by tenant. A stream that resumes before it has a gap.
  tenant INTEGER PRIMARY KEY,
  change INTEGER NOT NULL
);
";

/// Returns the SQL that creates the table of observed prices and its view.
fn history_sql() -> String {
    format!(
        "
CREATE TABLE price_row (
  -- Observed prices, by product and time.
  tenant INTEGER NOT NULL,          -- tenant_row.id
  product_id TEXT NOT NULL,
  observed_at_us INTEGER NOT NULL,  -- microseconds since 1970 UTC
  event_id TEXT NOT NULL,
  price INTEGER NOT NULL,           -- minor units
  currency TEXT NOT NULL,
  received_us INTEGER NOT NULL,
  PRIMARY KEY (tenant, product_id, observed_at_us, event_id)
) WITHOUT ROWID;
CREATE VIEW price_history AS
SELECT t.tenant_id, p.product_id, p.event_id, p.price, p.currency, {} AS observed_at
FROM price_row p JOIN tenant_row t ON t.id = p.tenant;
",
        view::time_sql("p.observed_at_us"),
    )
}

/// Returns the SQL that creates the tables of events, anomalies and changes, and their view. Existing prices count as
/// accepted. Indexing them takes about a second per million prices.
fn tables_sql() -> String {
    format!(
        "
ALTER TABLE price_row ADD COLUMN accepted INTEGER NOT NULL DEFAULT 1;
-- 1: what later prices are held against; 0: out of line, and nobody approved it.
CREATE INDEX price_accepted ON price_row (tenant, product_id, currency, observed_at_us, event_id, price)
  WHERE accepted = 1;
CREATE TABLE price_event (
  -- Price events as they came, each id once a product, with the limits that were in force; their prices are in
  -- price_row as well.
  tenant INTEGER NOT NULL,          -- tenant_row.id
  product_id TEXT NOT NULL,
  event_id TEXT NOT NULL,
  observed_at_us INTEGER NOT NULL,  -- microseconds since 1970 UTC
  price INTEGER NOT NULL,           -- minor units
  currency TEXT NOT NULL,
  received_us INTEGER NOT NULL,
  change_bp_max INTEGER NOT NULL,   -- hundredths of a percent
  score_milli_max INTEGER NOT NULL, -- thousandths
  window_max INTEGER NOT NULL,
  anomaly INTEGER,                  -- price_anomaly.id; NULL: in line
  PRIMARY KEY (tenant, product_id, event_id)
) WITHOUT ROWID;
CREATE TABLE price_anomaly (
  -- Prices that were out of line, with what they were compared with.
  id INTEGER PRIMARY KEY,
  anomaly_id TEXT NOT NULL,         -- 32 hexadecimal digits, the same in any number of shards
  tenant INTEGER NOT NULL,
  product_id TEXT NOT NULL,
  event_id TEXT NOT NULL,
  observed_at_us INTEGER NOT NULL,
  price INTEGER NOT NULL,
  currency TEXT NOT NULL,
  created_us INTEGER NOT NULL,      -- when its event was received
  baseline INTEGER NOT NULL,        -- the accepted price it was held against
  change_bp INTEGER,                -- hundredths of a percent of it; NULL: it is zero
  median INTEGER,                   -- of the accepted prices around it; NULL, as the next three: too few
  mad INTEGER,
  score_milli INTEGER,
  compared INTEGER,                 -- how many prices the score is of
  change_bp_max INTEGER NOT NULL,   -- the limits that were in force
  score_milli_max INTEGER NOT NULL,
  status TEXT NOT NULL,             -- open, approved, rejected
  reviewed_us INTEGER
);
CREATE INDEX price_anomaly_name ON price_anomaly (anomaly_id);
CREATE INDEX price_anomaly_time ON price_anomaly (tenant, created_us, anomaly_id);
CREATE INDEX price_anomaly_status ON price_anomaly (tenant, status, created_us, anomaly_id);
CREATE INDEX price_anomaly_product ON price_anomaly (tenant, product_id, created_us, anomaly_id);
CREATE TABLE price_change (
  -- What became known in this shard, one after the other: anomalies and decisions on them. Never deleted, so the
  -- numbers only grow.
  change INTEGER PRIMARY KEY,
  tenant INTEGER NOT NULL,
  kind TEXT NOT NULL,               -- anomaly, review
  anomaly INTEGER NOT NULL,         -- price_anomaly.id
  at_us INTEGER NOT NULL
);
CREATE INDEX price_change_tenant ON price_change (tenant, change);
CREATE TABLE price_change_epoch (
  -- Which numbering of changes this is: another file begins another one.
  epoch INTEGER NOT NULL
);
INSERT INTO price_change_epoch VALUES (1 + abs(random() % 4294967295));
CREATE VIEW price_anomalies AS
SELECT a.anomaly_id, t.tenant_id, a.product_id, a.event_id, a.price, a.currency, {} AS observed_at,
  {} AS created_at, a.baseline, a.change_bp / 100.0 AS change_percent, a.median, a.mad,
  a.score_milli / 1000.0 AS score, a.compared, a.status, {} AS reviewed_at
FROM price_anomaly a JOIN tenant_row t ON t.id = a.tenant;
",
        view::time_sql("a.observed_at_us"),
        view::time_sql("a.created_us"),
        view::time_sql("a.reviewed_us"),
    )
}
