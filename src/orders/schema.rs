//! The tables of orders: names, partitions of orders and items, sums over time.

use rusqlite::Connection;

use super::free_rows::{PRODUCT_SUMS, has_product_sums};
use super::record::ITEM_IDS;
use super::segment;
use super::sums_by::SumsBy;
use super::words::make_words;
use crate::shard::ids::{self, IdRows, IdsOf, Sizes};
use crate::shard::partition::check_name;
use crate::shard::{ShardError, SideTable, Stream, TenantColumn, view};

/// The stream of orders, in order of arrival. Each partition has a second table for the items.
pub static ORDERS: Stream = Stream {
    place: 2,
    name: "sales_order",
    total: "orders",
    since: 3,
    columns: "id, tenant, order_id, customer, status, first_status, currency, ordered_at_us, total, units, items, \
              received_us, ingest, ingest_line, content, customer_key",
    values: "?1, ?2, ?3, ?4, ?5, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15",
    time_column: "ordered_at_us",
    tenant: Some(TenantColumn { column: "tenant", is_number: true, index: "_time", setting: "orders" }),
    create_sql: partition_sql,
    unordered_sql: None,
    side_tables: &[SideTable { view: "sales_item", columns: ITEM_COLUMNS, table: items_of }],
    tables: |partition| {
        let side = [items_of(partition), by_product(partition), by_customer(partition)];
        [&[partition.to_owned()][..], &side].concat()
    },
    shared_bytes_sql: Some(segment::BYTES_SQL),
    has_statuses: true,
    has_sealed_index: true,
    partition_rows_max: Some(100_000),
};

/// The index of order ids. Storing an order costs ten times as much as storing an event, so orders arrive at a tenth
/// of the rate. Keeping fewer recent ids is therefore sufficient, and saves 3 to 6 MB.
pub(crate) static ORDER_IDS: IdsOf = IdsOf {
    rows: IdRows::Stream(&ORDERS),
    prefix: "order_",
    what: "order",
    key: "order id",
    rows_sql: |partition| {
        format!(
            "SELECT o.id, t.tenant_id, o.order_id FROM {partition} o JOIN tenant_row t ON t.id = o.tenant \
             ORDER BY o.id"
        )
    },
    sizes: Sizes { run_ids_min: 125_000, chunk_ids: 256 },
};

/// The schema version without sums by day and product.
const NO_PRODUCTS_SINCE: u32 = 12;

/// Creates this family's tables for a schema version. Version 3 added orders, version 5 the status times, version 6 a
/// new word index, version 7 the sums of dropped orders and the order ids of items, version 10 segments. The earlier
/// word index was a kind of table that SQLite before 3.43 does not support, so programs with such a SQLite refused the
/// whole file. Version 6 builds the new index from scratch, so version 3 no longer creates the old one. Version 12
/// removed the sums by product. If their table has rows, upkeep empties it, because that may take seconds.
pub(super) fn migrate(connection: &Connection, version: u32) -> Result<(), ShardError> {
    match version {
        3 => {
            connection.execute_batch(&tables_sql())?;
            connection.execute_batch(&ids::schema(&ORDER_IDS))?;
        }
        // If an order's status has already changed, the time of that change is not known. Any new change counts as
        // newer.
        5 => connection.execute_batch(status_times_sql())?,
        6 => make_words(connection)?,
        7 => {
            connection.execute_batch(&dropped_sql())?;
            connection.execute_batch(items_view_sql())?;
        }
        segment::SINCE => connection.execute_batch(segment::tables_sql())?,
        NO_PRODUCTS_SINCE if !has_product_sums(connection)? => {
            connection.execute_batch(&format!("DROP TABLE {PRODUCT_SUMS}"))?;
        }
        _ => {}
    }
    Ok(())
}

/// Returns the name of the item table of an order partition.
pub(crate) fn items_of(partition: &str) -> String {
    partition.replacen("sales_order", "sales_item", 1)
}

/// Returns the SQL that reads the items with ids in `[?1, ?2)`, in ascending order of id.
pub fn items_sql(partition: &str) -> String {
    format!(
        "SELECT product, quantity, unit_price, id FROM {} WHERE id >= ?1 AND id < ?2 ORDER BY id",
        items_of(partition)
    )
}

/// Returns the range of item ids for orders `first` to `last`. The end is exclusive.
pub const fn item_ids(first: i64, last: i64) -> [i64; 2] {
    [first * ITEM_IDS, (last + 1) * ITEM_IDS]
}

/// Returns the name of the table that lists a sealed partition's orders by product. The partition also gets the table
/// of [`by_customer`].
pub(crate) fn by_product(partition: &str) -> String {
    partition.replacen("sales_order", "sales_product", 1)
}

pub(crate) fn by_customer(partition: &str) -> String {
    partition.replacen("sales_order", "sales_customer", 1)
}

/// Returns the SQL that creates one partition's tables, with the index that is maintained while rows arrive.
fn partition_sql(partition: &str) -> String {
    let items = items_of(partition);
    format!(
        "CREATE TABLE {partition} (
  -- Orders in order of arrival; `id` goes on counting from one partition to the next. (tenant, order_id)
  -- is unique over all partitions and shards; order_id_recent and order_id_run see to it.
  id INTEGER PRIMARY KEY,
  tenant INTEGER NOT NULL,         -- tenant_row.id
  order_id TEXT NOT NULL,
  customer INTEGER NOT NULL,       -- customer_row.id
  status INTEGER NOT NULL,         -- now: 1 pending, 2 paid, 3 shipped, 4 delivered, 5 cancelled, 6 refunded
  first_status INTEGER NOT NULL,   -- when it came
  currency TEXT NOT NULL,          -- ISO 4217
  ordered_at_us INTEGER NOT NULL,  -- microseconds since 1970 UTC, as all times
  total INTEGER NOT NULL,          -- minor units of the currency
  units INTEGER NOT NULL,
  items INTEGER NOT NULL,          -- lines; their ids in {items} are this id * 1024 and on
  received_us INTEGER NOT NULL,
  ingest INTEGER NOT NULL,         -- the ingest that brought it, and the line of it
  ingest_line INTEGER NOT NULL,
  content INTEGER NOT NULL,        -- a hash of all that makes two orders the same
  customer_key INTEGER NOT NULL    -- a hash of the customer's id, the same in every shard
);
CREATE TABLE {items} (
  -- The lines of the orders.
  id INTEGER PRIMARY KEY,
  tenant INTEGER NOT NULL,
  product INTEGER NOT NULL,        -- product_row.id
  quantity INTEGER NOT NULL,
  unit_price INTEGER NOT NULL      -- minor units
);
CREATE INDEX {partition}_time ON {partition} (tenant, ordered_at_us, order_id, currency, status, total, units, \
         customer_key, customer)"
    )
}

/// Returns the SQL that creates the table of status times, for orders whose status changed after they arrived.
fn status_times_sql() -> &'static str {
    "CREATE TABLE order_status_time (
  -- Orders that were given a status: when the last one that was applied occurred. An older one changes nothing.
  id INTEGER PRIMARY KEY,       -- of the order
  occurred_us INTEGER NOT NULL  -- microseconds since 1970 UTC
);"
}

/// Returns the SQL that creates the tables of sales without rows. The tables of sums have the columns of the tables
/// that contain their figures.
fn dropped_sql() -> String {
    let tables = SumsBy::ALL.map(|by| {
        let named = by.column().map_or(String::new(), |column| format!("  {column} INTEGER NOT NULL,\n"));
        let key = by.column().map_or(String::new(), |column| format!(", {column}"));
        let sketches = match by {
            SumsBy::Product => "",
            _ => "  customers BLOB NOT NULL,\n  order_value BLOB NOT NULL,\n",
        };
        format!(
            "CREATE TABLE {} (
  -- The part of {} that belongs to orders that retention has dropped.
  tenant INTEGER NOT NULL,
  currency TEXT NOT NULL,
  start_us INTEGER NOT NULL,
{named}  orders INTEGER NOT NULL,
  units INTEGER NOT NULL,
  revenue INTEGER NOT NULL,
{sketches}  PRIMARY KEY (tenant, currency, start_us{key})
) WITHOUT ROWID;
",
            by.dropped_table(),
            // Released versions are never edited. The table left with version 12.
            if by == SumsBy::Product { "sales_by_product" } else { by.table() }
        )
    });
    let gone = "CREATE TABLE sales_gone (
  -- Days (UTC) whose sums were deleted, because retention had dropped all their orders.
  tenant INTEGER NOT NULL,
  start_us INTEGER NOT NULL,
  PRIMARY KEY (tenant, start_us)
) WITHOUT ROWID;";
    tables.concat() + gone
}

/// Returns the SQL that adds `order_id` to the view of items. It is a subquery, so that a query without this column does
/// not pay for it. With it, a row costs a search by id in each of the shard's partitions up to that of its order.
fn items_view_sql() -> &'static str {
    "DROP VIEW order_items;
CREATE VIEW order_items AS
  -- One line an item; `order_row` is the `id` of its order.
SELECT i.id / 1024 AS order_row, i.id % 1024 + 1 AS line, t.tenant_id, p.product_id, g.name AS category,
  i.quantity, i.unit_price, (SELECT o.order_id FROM sales_order o WHERE o.id = i.id / 1024) AS order_id
FROM sales_item i JOIN tenant_row t ON t.id = i.tenant JOIN product_row p ON p.id = i.product
  JOIN category_row g ON g.id = p.category;"
}

/// Returns the SQL that creates all tables except the partitions and the word index. The views have no partition yet.
fn tables_sql() -> String {
    let empty = |columns: &str| {
        columns.split(", ").map(|column| format!("NULL AS {}", column.trim())).collect::<Vec<_>>().join(", ")
    };
    format!(
        "
INSERT INTO total VALUES ('orders', 0);
CREATE TABLE tenant_row (
  -- Tenants that have orders, by number.
  id INTEGER PRIMARY KEY,
  tenant_id TEXT NOT NULL UNIQUE
);
CREATE TABLE customer_row (
  -- Customers as orders name them: one with another name or e-mail address has a row for each.
  id INTEGER PRIMARY KEY,
  tenant INTEGER NOT NULL,
  customer_id TEXT NOT NULL,
  name TEXT NOT NULL,
  email TEXT NOT NULL,
  key INTEGER NOT NULL  -- a hash of (tenant, customer_id)
);
CREATE INDEX customer_row_key ON customer_row (key);
CREATE TABLE category_row (
  id INTEGER PRIMARY KEY,
  tenant INTEGER NOT NULL,
  name TEXT NOT NULL,
  UNIQUE (tenant, name)
);
CREATE TABLE product_row (
  -- Products as orders name them: one in two categories has two rows.
  id INTEGER PRIMARY KEY,
  tenant INTEGER NOT NULL,
  product_id TEXT NOT NULL,
  category INTEGER NOT NULL,  -- category_row.id
  UNIQUE (tenant, product_id, category)
);
CREATE TABLE sales_hour (
  -- Sales (orders that are neither cancelled nor refunded) by hour, UTC, with sketches: HyperLogLog of the
  -- customers, t-digest of the orders' totals. Equal to a recount of the rows at every commit.
  tenant INTEGER NOT NULL,
  currency TEXT NOT NULL,
  start_us INTEGER NOT NULL,
  orders INTEGER NOT NULL,
  units INTEGER NOT NULL,
  revenue INTEGER NOT NULL,  -- minor units
  customers BLOB NOT NULL,
  order_value BLOB NOT NULL,
  PRIMARY KEY (tenant, currency, start_us)
) WITHOUT ROWID;
CREATE TABLE sales_day (
  -- The same by day.
  tenant INTEGER NOT NULL,
  currency TEXT NOT NULL,
  start_us INTEGER NOT NULL,
  orders INTEGER NOT NULL,
  units INTEGER NOT NULL,
  revenue INTEGER NOT NULL,
  customers BLOB NOT NULL,
  order_value BLOB NOT NULL,
  PRIMARY KEY (tenant, currency, start_us)
) WITHOUT ROWID;
CREATE TABLE sales_category (
  -- The same by day and category: units and revenue of its items, the orders that have one.
  tenant INTEGER NOT NULL,
  currency TEXT NOT NULL,
  start_us INTEGER NOT NULL,
  category INTEGER NOT NULL,
  orders INTEGER NOT NULL,
  units INTEGER NOT NULL,
  revenue INTEGER NOT NULL,
  customers BLOB NOT NULL,
  order_value BLOB NOT NULL,
  PRIMARY KEY (tenant, currency, start_us, category)
) WITHOUT ROWID;
CREATE TABLE sales_by_product (
  -- Orders, units and revenue by day and product.
  tenant INTEGER NOT NULL,
  currency TEXT NOT NULL,
  start_us INTEGER NOT NULL,
  product INTEGER NOT NULL,  -- product_row.id
  orders INTEGER NOT NULL,
  units INTEGER NOT NULL,
  revenue INTEGER NOT NULL,
  PRIMARY KEY (tenant, currency, start_us, product)
) WITHOUT ROWID;
CREATE TABLE sales_version (
  -- Goes up with every commit that changes a tenant's orders here: what was computed before is old.
  tenant INTEGER PRIMARY KEY,
  version INTEGER NOT NULL
);
CREATE TABLE ingest_key (
  -- Finished ingests by idempotency key: what is answered to a repetition.
  scope TEXT NOT NULL,           -- the tenant, or * for a key of all tenants
  key TEXT NOT NULL,
  fingerprint BLOB NOT NULL,     -- BLAKE3 of its lines
  response TEXT NOT NULL,        -- JSON
  finished_us INTEGER NOT NULL,
  expires_us INTEGER NOT NULL,
  PRIMARY KEY (scope, key)
) WITHOUT ROWID;
CREATE INDEX ingest_key_expires ON ingest_key (expires_us);
CREATE VIEW sales_order AS
  SELECT {} WHERE false;
CREATE VIEW sales_item AS
  SELECT {} WHERE false;
CREATE VIEW orders AS
  -- One line an order, oldest arrival first; money in minor units of the currency. For speed on much data ask
  -- sales_order with a tenant number and a range of ordered_at_us: it has an index on both.
SELECT o.id, t.tenant_id, o.order_id, c.customer_id, c.name AS customer_name, c.email AS customer_email,
  {} AS status, o.currency, {} AS ordered_at, o.total, o.units, o.items,
  {} AS received_at
FROM sales_order o JOIN tenant_row t ON t.id = o.tenant JOIN customer_row c ON c.id = o.customer;
CREATE VIEW order_items AS
SELECT i.id / 1024 AS order_row, i.id % 1024 + 1 AS line, t.tenant_id, p.product_id, g.name AS category,
  i.quantity, i.unit_price
FROM sales_item i JOIN tenant_row t ON t.id = i.tenant JOIN product_row p ON p.id = i.product
  JOIN category_row g ON g.id = p.category;
CREATE VIEW customers AS
SELECT t.tenant_id, c.customer_id, c.name, c.email
FROM customer_row c JOIN tenant_row t ON t.id = c.tenant;
CREATE VIEW products AS
SELECT t.tenant_id, p.product_id, g.name AS category
FROM product_row p JOIN tenant_row t ON t.id = p.tenant JOIN category_row g ON g.id = p.category;
",
        empty(ORDERS.columns),
        empty(ITEM_COLUMNS),
        "CASE o.status WHEN 1 THEN 'pending' WHEN 2 THEN 'paid' WHEN 3 THEN 'shipped' \
         WHEN 4 THEN 'delivered' WHEN 5 THEN 'cancelled' WHEN 6 THEN 'refunded' END",
        view::time_sql("o.ordered_at_us"),
        view::time_sql("o.received_us"),
    )
}

/// The columns of the item tables.
pub(crate) const ITEM_COLUMNS: &str = "id, tenant, product, quantity, unit_price";

/// Returns the tables of orders that retention has dropped and that are not freed yet. Their sales are still in the
/// sums.
pub(crate) fn unfreed(connection: &Connection) -> Result<Vec<String>, ShardError> {
    let mut statement = connection.prepare_cached("SELECT name FROM dropped_partition ORDER BY name")?;
    let names = statement.query_map([], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()?;
    Ok(names.into_iter().filter(|name| check_name(&ORDERS, name).is_ok()).collect())
}
