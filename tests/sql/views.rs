//! Every view equals the union of the shards' views, for any condition.

use rusqlite::Connection;
use rusqlite::types::ValueRef;
use serde_json::{Value, json};

use super::{asked, filled};
use crate::support::{Chance, Folder};

/// The views, and whether rows of several shards may be equal.
const VIEWS: [(&str, bool); 11] = [
    ("events", false),
    ("service_events", false),
    ("orders", false),
    ("order_items", false),
    ("price_history", false),
    ("price_anomalies", false),
    ("stock", false),
    ("stock_events", false),
    ("products", true),
    ("customers", true),
    ("tenants", true),
];

/// Copies the views of every shard into one database, with plain SQLite.
fn united(folder: &Folder, shards: u16) -> Connection {
    let all = Connection::open_in_memory().expect("a database");
    for shard in 0..shards {
        let path = folder.database(usize::from(shard));
        all.execute("ATTACH ?1 AS s", [format!("file:{}?mode=ro", path.display())])
            .expect("the shard is attached");
        for (view, is_distinct) in VIEWS {
            let columns =
                if is_distinct { "*".to_owned() } else { format!("*, CAST({shard} AS INTEGER) AS shard") };
            let from = match view {
                "tenants" => {
                    "(SELECT tenant_id FROM s.orders UNION SELECT tenant_id FROM s.service_events UNION \
                     SELECT tenant_id FROM s.price_history UNION SELECT tenant_id FROM s.stock)"
                        .to_owned()
                }
                view => format!("s.{view}"),
            };
            if shard == 0 {
                all.execute_batch(&format!("CREATE TABLE {view} AS SELECT {columns} FROM {from} WHERE 0"))
                    .expect("a table");
            }
            all.execute_batch(&format!("INSERT INTO {view} SELECT {columns} FROM {from}")).expect("the rows");
        }
        all.execute_batch("DETACH s").expect("the shard is detached");
    }
    for (view, is_distinct) in VIEWS {
        if is_distinct {
            let sql = format!(
                "CREATE TABLE d AS SELECT DISTINCT * FROM {view}; DROP TABLE {view}; ALTER TABLE d RENAME TO {view}"
            );
            all.execute_batch(&sql).expect("equal rows are one");
        }
    }
    all
}

fn value(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => json!(number),
        ValueRef::Real(number) => json!(number),
        ValueRef::Text(text) => json!(String::from_utf8_lossy(text)),
        ValueRef::Blob(_) => panic!("no view has blobs"),
    }
}

/// Returns the rows of a query as lists of values.
fn rows_of(all: &Connection, sql: &str) -> Vec<Vec<Value>> {
    let mut statement = all.prepare(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    let count = statement.column_count();
    let rows = statement.query_map([], |row| (0..count).map(|at| Ok(value(row.get_ref(at)?))).collect());
    rows.and_then(Iterator::collect).unwrap_or_else(|error| panic!("{sql}: {error}"))
}

fn sorted(mut rows: Vec<Vec<Value>>) -> Vec<String> {
    let mut texts: Vec<String> = rows.drain(..).map(|row| Value::from(row).to_string()).collect();
    texts.sort();
    texts
}

fn quoted(value: &Value) -> String {
    match value {
        Value::String(text) => format!("'{}'", text.replace('\'', "''")),
        Value::Null => "NULL".to_owned(),
        other => other.to_string(),
    }
}

/// Generates conditions whose values occur, or nearly do.
struct Conditions<'a> {
    all: &'a Connection,
    chance: &'a mut Chance,
}

impl Conditions<'_> {
    fn pick<'t, T>(&mut self, of: &'t [T]) -> &'t T {
        &of[self.chance.below(of.len() as u64) as usize]
    }

    fn columns(&self, view: &str) -> Vec<String> {
        let statement = self.all.prepare(&format!("SELECT * FROM {view}")).expect("a view");
        statement.column_names().map(str::to_owned).collect()
    }

    /// Returns a literal for a column: a value of it, a part of one, or one of another type.
    fn literal(&mut self, view: &str, column: &str) -> String {
        let offset = self.chance.below(500);
        let sql = format!(
            "SELECT {column} FROM {view} LIMIT 1 OFFSET {offset} % max(1, (SELECT count(*) FROM {view}))"
        );
        let value = rows_of(self.all, &sql).pop().and_then(|mut row| row.pop()).unwrap_or(Value::Null);
        match (self.chance.below(10), &value) {
            (0, _) => "NULL".to_owned(),
            (1, Value::Number(number)) => format!("'{number}'"),
            (1, Value::String(_)) => "5".to_owned(),
            (2, Value::Number(number)) if number.is_i64() => format!("{number}.5"),
            (2 | 3, Value::String(text)) => {
                let cut = self.chance.below(text.chars().count() as u64 + 1) as usize;
                quoted(&json!(text.chars().take(cut).collect::<String>()))
            }
            _ => quoted(&value),
        }
    }

    fn condition(&mut self, view: &str) -> String {
        let columns = self.columns(view);
        // Half of the conditions are on the columns that indexes begin with.
        let fast: Vec<String> = columns
            .iter()
            .filter(|name| {
                name.ends_with("_id")
                    || name.ends_with("_at")
                    || ["id", "shard", "timestamp", "order_row"].contains(&name.as_str())
            })
            .cloned()
            .collect();
        let of = if self.chance.below(3) > 0 && !fast.is_empty() { &fast } else { &columns };
        let column = self.pick(of).clone();
        let literal = self.literal(view, &column);
        match self.chance.below(12) {
            0..=4 => format!("{column} = {literal}"),
            5 => format!("{column} >= {literal}"),
            6 => format!("{column} > {literal}"),
            7 => format!("{column} <= {literal}"),
            8 => format!("{column} < {literal}"),
            9 => format!("{column} BETWEEN {literal} AND {}", self.literal(view, &column)),
            10 if self.chance.below(2) == 0 => {
                let (other, _) = *self.pick(&VIEWS);
                let of = if self.columns(other).contains(&column) { other } else { view };
                let rows = self.chance.below(60);
                format!("{column} IN (SELECT {column} FROM {of} ORDER BY {column} LIMIT {rows})")
            }
            10 => format!("{column} IN ({literal}, {})", self.literal(view, &column)),
            _ => match literal.strip_prefix('\'').and_then(|text| text.strip_suffix('\'')) {
                Some(text) => format!("{column} LIKE '{}%'", text.to_lowercase()),
                None => format!("{column} IS NOT {literal}"),
            },
        }
    }

    fn conditions(&mut self, view: &str) -> String {
        let count = self.chance.below(4);
        let mut text = self.condition(view);
        for _ in 0..count {
            let joiner = *self.pick(&[" AND ", " AND ", " OR ", " AND NOT ", ") OR ("]);
            text = format!("{text}{joiner}{}", self.condition(view));
        }
        format!("({text})")
    }

    fn query(&mut self) -> String {
        let (view, _) = *self.pick(&VIEWS);
        let columns = self.columns(view);
        let conditions = self.conditions(view);
        let by = self.pick(&columns).clone();
        match self.chance.below(6) {
            0 => format!("SELECT count(*) AS n, min({by}) AS low FROM {view} WHERE {conditions}"),
            1 => {
                let direction = *self.pick(&["ASC", "DESC"]);
                let limit = self.chance.below(20) + 1;
                // Equal keys may be in any order, so the other columns are not compared.
                format!(
                    "SELECT {by} AS k FROM {view} WHERE {conditions} ORDER BY {by} {direction} LIMIT {limit}"
                )
            }
            2 => format!("SELECT DISTINCT {by} AS k FROM {view} WHERE {conditions} ORDER BY 1"),
            3 => {
                let other = self.pick(&columns).clone();
                format!("SELECT {by} AS a, {other} AS b FROM {view} WHERE {conditions}")
            }
            _ => format!("SELECT * FROM {view} WHERE {conditions}"),
        }
    }
}

/// Joins of views, by the keys that a query may use.
const JOINS: [&str; 13] = [
    "SELECT o.order_id, i.line, i.quantity FROM orders o JOIN order_items i ON i.shard = o.shard AND i.order_row = o.id",
    "SELECT o.id, i.line, i.product_id FROM orders o JOIN order_items i ON i.tenant_id = o.tenant_id AND i.order_id = o.order_id",
    "SELECT o.id, o.shard, c.name FROM orders o JOIN customers c ON c.tenant_id = o.tenant_id AND c.customer_id = o.customer_id",
    "SELECT o.id, o.shard FROM orders o LEFT JOIN service_events e ON e.tenant_id = o.tenant_id AND e.event_id = o.order_id",
    "SELECT t.tenant_id, (SELECT count(*) FROM orders o WHERE o.tenant_id = t.tenant_id) AS n FROM tenants t",
    "SELECT a.anomaly_id, h.price FROM price_anomalies a JOIN price_history h ON h.tenant_id = a.tenant_id \
     AND h.product_id = a.product_id AND h.observed_at <= a.observed_at",
    // No index of a shard serves these, or they search often.
    "SELECT o.order_id, i.line, i.shard FROM orders o JOIN order_items i ON i.order_id = o.order_id",
    "SELECT i.order_row, i.line, p.category, i.shard FROM order_items i JOIN products p ON p.product_id = i.product_id",
    "SELECT e.id, o.id AS row, o.shard FROM service_events e JOIN orders o ON o.items = e.payload ->> '$.n'",
    "SELECT a.id, b.id AS other, b.shard FROM orders a JOIN orders b ON b.customer_id = a.customer_id AND \
     b.ordered_at > a.ordered_at AND b.shard = a.shard",
    "SELECT c.customer_id, c.name, (SELECT o.ordered_at FROM orders o WHERE o.tenant_id = c.tenant_id AND \
     o.customer_id = c.customer_id ORDER BY o.ordered_at DESC LIMIT 1) AS last FROM customers c \
     ORDER BY c.tenant_id, c.customer_id, c.name",
    "SELECT id, shard FROM orders WHERE (tenant_id, order_id) IN (SELECT tenant_id, order_id FROM orders WHERE total % 3 = 0)",
    "SELECT id, shard FROM orders o WHERE EXISTS (SELECT 1 FROM order_items i WHERE i.tenant_id = o.tenant_id AND \
     i.order_id = o.order_id AND i.quantity > 2)",
];

fn compare(folder: &Folder, all: &Connection, queries: &[String]) {
    for (result, sql) in asked(&folder.data(), queries).into_iter().zip(queries) {
        let names: Vec<String> = {
            let statement = all.prepare(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
            statement.column_names().map(str::to_owned).collect()
        };
        let rows = |row: &Value| names.iter().map(|name| row[name].clone()).collect::<Vec<_>>();
        let (found, expected) = (result.iter().map(rows).collect::<Vec<_>>(), rows_of(all, sql));
        // The order of a subquery is not that of the result.
        let depth = |text: &str| text.matches('(').count() as i32 - text.matches(')').count() as i32;
        let is_ordered = sql.rfind("ORDER BY").is_some_and(|at| depth(&sql[..at]) == 0);
        let texts = |rows: Vec<Vec<Value>>| match is_ordered {
            true => rows.into_iter().map(|row| Value::from(row).to_string()).collect(),
            false => sorted(rows),
        };
        let (found, expected) = (texts(found), texts(expected));
        let differs = found.iter().zip(&expected).find(|(one, other)| one != other);
        assert_eq!((found.len(), differs), (expected.len(), None), "{sql}");
    }
}

fn check(shards: u16) {
    let (folder, mut chance) = (Folder::new(), Chance::new());
    let server = filled(&folder, &mut chance, shards);
    let all = united(&folder, shards);
    for (view, _) in VIEWS {
        let count = &rows_of(&all, &format!("SELECT count(*) FROM {view}"))[0][0];
        assert!(count.as_u64() > Some(2), "{view} has {count} rows");
    }
    let mut queries: Vec<String> = VIEWS.iter().map(|(view, _)| format!("SELECT * FROM {view}")).collect();
    queries.extend(JOINS.map(str::to_owned));
    let mut conditions = Conditions { all: &all, chance: &mut chance };
    queries.extend((0..150).map(|_| conditions.query()));
    // The server is running, but writes nothing.
    compare(&folder, &all, &queries);
    server.stop();
    compare(&folder, &united(&folder, shards), &queries[..40]);
}

#[test]
fn every_view_is_the_union_of_one_shard() {
    check(1);
}

#[test]
fn every_view_is_the_union_of_three_shards() {
    check(3);
}

#[test]
fn every_view_is_the_union_of_twelve_shards() {
    check(12);
}
