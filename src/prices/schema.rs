//! The tables of prices, anomalies and changes. Comments in the SQL explain them, and `.schema` prints these comments.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::convert::EARLIER;
use crate::shard::ids::{self, IdRows, IdsOf, Sizes};
use crate::shard::{ShardError, view};

/// The ids of prices.
pub(crate) static PRICE_IDS: IdsOf = IdsOf {
    rows: IdRows::Table { name: "price_row", next_sql: NEXT_ID_SQL },
    prefix: "price_",
    what: "price",
    key: "product, event id",
    rows_sql: |table| {
        format!(
            "SELECT e.id, t.tenant_id, s.product_id, e.event_id FROM {table} e \
             CROSS JOIN price_series s ON s.id = e.series CROSS JOIN tenant_row t ON t.id = s.tenant ORDER BY e.id"
        )
    },
    // Half of the memory that events need for their newest ids.
    sizes: Sizes { run_ids_min: 250_000, chunk_ids: 256 },
};

/// Returns the row id after that of the newest price, which its series names even if the price was deleted. Reads every
/// series.
pub(super) const NEXT_ID_SQL: &str = "SELECT coalesce(max(last), 0) + 1 FROM price_series";

/// Creates this family's tables for a schema version. Version 3 added prices, version 4 events and anomalies,
/// and version 7 what retention of prices requires. Its index has one entry for each anomaly and each decision. Since
/// version 16, prices are appended. Since version 17, their changes are in the shard's feed.
pub(super) fn migrate(connection: &Connection, version: u32) -> Result<(), ShardError> {
    match version {
        3 => connection.execute_batch(&history_sql())?,
        4 => connection.execute_batch(&tables_sql())?,
        7 => connection.execute_batch(DROPPED_SQL)?,
        16 => append_prices(connection)?,
        17 => connection.execute_batch(FEED_SQL)?,
        _ => {}
    }
    Ok(())
}

/// Moves the changes of prices into the shard's feed, where they keep their numbers. Takes about two seconds per million.
const FEED_SQL: &str = "
INSERT INTO change (seq, kind, tenant, ref, at_us) SELECT change, kind, tenant, anomaly, at_us FROM price_change;
DROP TABLE price_change;
CREATE INDEX change_price ON change (seq) WHERE kind IN ('anomaly', 'review');
CREATE INDEX change_price_tenant ON change (tenant, seq) WHERE kind IN ('anomaly', 'review');
CREATE INDEX change_price_anomaly ON change (ref) WHERE kind IN ('anomaly', 'review');
";

/// Keeps the prices of earlier versions in tables from which upkeep moves them ([`super::convert`]).
fn append_prices(connection: &Connection) -> Result<(), ShardError> {
    connection.execute_batch("DROP VIEW price_history")?;
    EARLIER.rename(connection, "price_event", "price_event_v14")?;
    EARLIER.rename(connection, "price_row", "price_row_v14")?;
    connection.execute_batch(APPENDED_SQL)?;
    create_series(connection)?;
    connection.execute_batch(&ids::schema(&PRICE_IDS))?;
    create_views(connection, true)?;
    if EARLIER.is_empty(connection)? {
        super::convert::finish(connection)?;
    }
    Ok(())
}

/// The tables of version 16.
const APPENDED_SQL: &str = "
ALTER TABLE price_anomaly ADD COLUMN price_id INTEGER;  -- price_row.id; NULL: upkeep has yet to move the price
CREATE TABLE price_series (
  -- The prices of a product in a currency. A product is in one shard only.
  id INTEGER PRIMARY KEY,
  tenant INTEGER NOT NULL,            -- tenant_row.id
  product_id TEXT NOT NULL,
  currency TEXT NOT NULL,
  last INTEGER NOT NULL DEFAULT 0,    -- price_row.id of the one that arrived last; it may have been deleted
  sorted INTEGER NOT NULL DEFAULT 0,  -- price_sorted has the accepted prices up to this price_row.id
  accepted INTEGER,                   -- price_row.id of the newest accepted price by time and event id
  UNIQUE (tenant, product_id, currency)
);
CREATE TABLE price_row (
  -- Observed prices in order of arrival, those of price events with the limits that were in force. (product, event_id) is
  -- unique among price events, and (product, observed_at_us, event_id) among all; price_id_recent and price_id_run see
  -- to it.
  id INTEGER PRIMARY KEY,           -- rises, and is not given out again
  series INTEGER NOT NULL,          -- price_series.id
  previous INTEGER NOT NULL,        -- id of the one before it in its series, or 0; it may have been deleted
  event_id TEXT NOT NULL,
  observed_at_us INTEGER NOT NULL,  -- microseconds since 1970 UTC
  price INTEGER NOT NULL,           -- minor units
  received_us INTEGER NOT NULL,
  accepted INTEGER NOT NULL,        -- 1: what later prices are held against; 0: out of line, and nobody approved it
  change_bp_max INTEGER,            -- hundredths of a percent; NULL, as the next two: loaded as history
  score_milli_max INTEGER,          -- thousandths
  window_max INTEGER,
  anomaly INTEGER                   -- price_anomaly.id; NULL: in line
);
CREATE TABLE price_sorted (
  -- Accepted prices by time. The newest ones of a series are added a few at a time.
  series INTEGER NOT NULL,
  observed_at_us INTEGER NOT NULL,
  event_id TEXT NOT NULL,
  price INTEGER NOT NULL,
  id INTEGER NOT NULL,              -- price_row.id
  PRIMARY KEY (series, observed_at_us, event_id)
) WITHOUT ROWID;
";

/// Creates a series for each product and currency with an accepted price, in about 5 us each. The others follow when their
/// prices are moved.
fn create_series(connection: &Connection) -> Result<(), ShardError> {
    let mut insert =
        connection.prepare("INSERT INTO price_series (tenant, product_id, currency) VALUES (?1, ?2, ?3)")?;
    let mut next = connection.prepare(
        "SELECT tenant, product_id, currency FROM price_row_v14 INDEXED BY price_accepted WHERE accepted = 1 \
         AND (tenant, product_id, currency) > (?1, ?2, ?3) ORDER BY tenant, product_id, currency LIMIT 1",
    )?;
    let mut after: (i64, String, String) = (i64::MIN, String::new(), String::new());
    let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
    while let Some(found) = next.query_row(params![after.0, after.1, after.2], read).optional()? {
        insert.execute(params![found.0, found.1, found.2])?;
        after = found;
    }
    Ok(())
}

/// Creates the views of prices. While prices of an earlier version are moved, they read both tables.
pub(super) fn create_views(connection: &Connection, is_moving: bool) -> Result<(), ShardError> {
    const COLUMNS: &str =
        "tenant, product_id, event_id, observed_at_us, price, currency, received_us, accepted";
    let earlier = match is_moving {
        true => format!("\nUNION ALL SELECT 0, {COLUMNS} FROM price_row_v14"),
        false => String::new(),
    };
    connection.execute_batch(&format!(
        "
DROP VIEW IF EXISTS price_history;
DROP VIEW IF EXISTS price_row_all;
CREATE VIEW price_row_all AS
  -- Every price. Those of an earlier version have the id 0 until upkeep gives them one.
SELECT r.id, s.tenant, s.product_id, r.event_id, r.observed_at_us, r.price, s.currency, r.received_us, r.accepted
FROM price_row r LEFT JOIN price_series s ON s.id = r.series{earlier};
CREATE VIEW price_history AS
SELECT t.tenant_id, p.product_id, p.event_id, p.price, p.currency, {} AS observed_at
FROM price_row_all p JOIN tenant_row t ON t.id = p.tenant;
",
        view::time_sql("p.observed_at_us"),
    ))?;
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

/// Makes the state in which the migration to version 16 leaves a file with prices, for tests.
#[cfg(test)]
pub(crate) fn set_back(connection: &Connection) -> Result<(), ShardError> {
    let of = |sql: String, from: &str, to: &str| {
        let start = sql.find(from).expect("the table");
        let end = start + sql[start..].find(to).expect("its end") + to.len();
        sql[start..end].to_owned()
    };
    let rows = of(history_sql(), "CREATE TABLE price_row (", ") WITHOUT ROWID;");
    let accepted = of(tables_sql(), "ALTER TABLE price_row ADD", "WHERE accepted = 1;");
    let events = of(tables_sql(), "CREATE TABLE price_event (", ") WITHOUT ROWID;");
    for sql in [rows, accepted, events] {
        let sql = sql.replace("price_row", "price_row_v14").replace("price_event (", "price_event_v14 (");
        let sql = sql.replace("CREATE TABLE", "CREATE TABLE IF NOT EXISTS");
        match connection.execute_batch(&sql) {
            // The table has the column and the index.
            Err(_) if sql.starts_with("ALTER") => {}
            done => done?,
        }
    }
    connection.execute_batch(
        "INSERT INTO price_row_v14 (tenant, product_id, observed_at_us, event_id, price, currency, received_us, accepted) \
         SELECT s.tenant, s.product_id, r.observed_at_us, r.event_id, r.price, s.currency, r.received_us, r.accepted \
         FROM price_row r JOIN price_series s ON s.id = r.series; \
         INSERT INTO price_event_v14 SELECT s.tenant, s.product_id, r.event_id, r.observed_at_us, r.price, s.currency, \
         r.received_us, r.change_bp_max, r.score_milli_max, r.window_max, r.anomaly \
         FROM price_row r JOIN price_series s ON s.id = r.series WHERE r.window_max IS NOT NULL; \
         DELETE FROM price_row; DELETE FROM price_sorted; UPDATE price_anomaly SET price_id = NULL; \
         UPDATE price_series SET last = 0, sorted = 0, accepted = NULL; \
         DELETE FROM price_id_recent; DELETE FROM price_id_run; DELETE FROM price_id_chunk;",
    )?;
    create_views(connection, true)
}
