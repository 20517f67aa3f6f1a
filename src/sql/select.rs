//! The statement that reads the rows of one target: its columns, joins and conditions.

use std::fmt::Write as _;

use rusqlite::types::Value;

use super::ask::{Ask, Compare, Rows, Target};
use super::list::{List, json_of};
use super::plan::Op;
use super::view::{From, Test};
use crate::orders::{by_customer, items_of};

/// The values of a list, which is a parameter.
const LIST: &str = "SELECT value FROM json_each(?)";

impl Ask {
    /// Returns the statement for a target, with its values.
    pub(super) fn statement(&self, target: &Target) -> (String, Vec<Value>) {
        let mut statement = Statement { joins: 0, tests: String::new(), values: Vec::new() };
        for test in &self.tests {
            statement.add(self, target, test);
        }
        let rows = statement.select_rows(self, target);
        if let Some(keys) = &self.customers {
            statement.restrict_to_customers(self, target, keys);
        }
        let mut sql = "SELECT ".to_owned();
        let mut select = |expression: &str| {
            let comma = if sql.len() == "SELECT ".len() { "" } else { ", " };
            // Writing to a String cannot fail.
            let _ = write!(sql, "{comma}{expression}");
        };
        for (column, place) in self.view.columns.iter().zip(&self.places) {
            if place.is_some() {
                column.joins.iter().for_each(|join| statement.joins |= 1 << join);
                select(column.sql);
            }
        }
        let keys = self.keys();
        keys.iter().for_each(|key| select(key));
        if self.key_places().end == 0 {
            select("1");
        }
        let from = match (&self.view.from, &target.partition) {
            (From::Table(from) | From::Both(from, ..), None) => from,
            (From::Partitions(_, from) | From::Both(_, _, from) | From::Table(from), _) => from,
        };
        let _ = write!(sql, " FROM {rows}{from}");
        for (index, join) in self.view.joins.iter().enumerate() {
            if statement.joins & 1 << index != 0 {
                let _ = write!(sql, " {join}");
            }
        }
        if !statement.tests.is_empty() {
            let _ = write!(sql, " WHERE {}", statement.tests);
        }
        if let Some(is_descending) = self.order() {
            let direction = if is_descending { " DESC" } else { "" };
            let _ = write!(sql, " ORDER BY {}{direction}", keys.join(", "));
        }
        if let Some(partition) = target.info() {
            sql = sql.replace("{p}", &partition.name).replace("{items}", &items_of(&partition.name));
        }
        (sql, statement.values)
    }
}

/// The conditions of a statement, and one bit for each of its joins.
struct Statement {
    joins: u8,
    tests: String,
    values: Vec<Value>,
}

impl Statement {
    fn push(&mut self, condition: &str, values: impl IntoIterator<Item = Value>) {
        let and = if self.tests.is_empty() { "" } else { " AND " };
        let _ = write!(self.tests, "{and}{condition}");
        self.values.extend(values);
    }

    /// Selects the rows of a tenant's products by their ids. `products` is a condition on the product.
    fn push_history(&mut self, (id, ids): (&str, &str), tenant: i64, products: &str, value: &Value) {
        let condition = format!("{id} IN ({})", ids.replace("{p}", products));
        let values = ids.matches("{p}").flat_map(|_| [Value::Integer(tenant), value.clone()]);
        self.push(&condition, values);
    }

    fn add(&mut self, ask: &Ask, target: &Target, test: &Compare) {
        match test {
            Compare::List { column, list } => self.compare_list(ask, target, *column, list),
            Compare::Times { column, times } => {
                let time = ask.view.columns[*column].sql;
                if let Some(from) = times.from {
                    self.push(&format!("{time} >= ?"), [Value::Integer(from)]);
                }
                if let Some(to) = times.to {
                    self.push(&format!("{time} < ?"), [Value::Integer(to)]);
                }
            }
            Compare::Value { column, op, value } => self.compare(ask, target, *column, *op, value),
        }
    }

    fn compare(&mut self, ask: &Ask, target: &Target, column: usize, op: Op, value: &Value) {
        let column = &ask.view.columns[column];
        let sql = op.sql();
        if let (Test::History(id, ids), Op::Eq, Some(tenant)) = (column.test, op, target.tenant) {
            self.push_history((id, ids), tenant, "= ?", value);
        }
        match (column.test, value) {
            (Test::Tenant(number), Value::Text(name)) => {
                match target.tenant.filter(|_| op == Op::Eq && ask.tenant.as_ref() == Some(name)) {
                    Some(tenant) => self.push(&format!("{number} = ?"), [Value::Integer(tenant)]),
                    None => self.push(
                        &format!("{number} IN (SELECT id FROM tenant_row WHERE tenant_id {sql} ?)"),
                        [value.clone()],
                    ),
                }
            }
            (Test::Product(number), _) if op == Op::Eq && target.tenant.is_some() => {
                let tenant = target.tenant.map_or(Value::Null, Value::Integer);
                self.push(
                    &format!("{number} IN (SELECT id FROM product_row WHERE tenant = ? AND product_id = ?)"),
                    [tenant, value.clone()],
                );
            }
            (Test::OrderRow(id), Value::Integer(row)) => {
                // A bound that no id reaches is clamped, which selects more rows at most.
                let first = |row: i64| Value::Integer(row.saturating_mul(1_024));
                let (from, to) = (first(*row), first(row.saturating_add(1)));
                match op {
                    Op::Eq => self.push(&format!("{id} >= ? AND {id} < ?"), [from, to]),
                    Op::Lt => self.push(&format!("{id} < ?"), [from]),
                    Op::Le => self.push(&format!("{id} < ?"), [to]),
                    Op::Ge => self.push(&format!("{id} >= ?"), [from]),
                    Op::Gt => self.push(&format!("{id} >= ?"), [to]),
                    Op::Like | Op::Glob | Op::In => {}
                }
            }
            _ => {
                column.joins.iter().for_each(|join| self.joins |= 1 << join);
                self.push(&format!("{} {sql} ?", column.sql), [value.clone()]);
            }
        }
    }

    /// Adds a list. Looked-up ids and customers are found by their hashes, so the query alone compares them.
    fn compare_list(&mut self, ask: &Ask, target: &Target, column: usize, list: &List) {
        let is_routed =
            ask.has_lookup() && ask.view.route.is_some_and(|[_, id]| ask.view.column(id) == column);
        let column = &ask.view.columns[column];
        if let (Test::History(id, ids), Some(tenant)) = (column.test, target.tenant) {
            self.push_history((id, ids), tenant, &format!("IN ({LIST})"), &list.json());
        }
        match column.test {
            _ if is_routed => {}
            Test::Customer(_) if ask.customers.is_some() => {}
            Test::Product(number) if target.tenant.is_some() => {
                let tenant = target.tenant.map_or(Value::Null, Value::Integer);
                let products = "SELECT id FROM product_row WHERE tenant = ? AND product_id IN";
                self.push(&format!("{number} IN ({products} ({LIST}))"), [tenant, list.json()]);
            }
            _ => {
                column.joins.iter().for_each(|join| self.joins |= 1 << join);
                self.push(&format!("{} IN ({LIST})", column.sql), [list.json()]);
            }
        }
    }

    /// Selects the rows that were looked up. Returns the table with them for the front of FROM.
    fn select_rows(&mut self, ask: &Ask, target: &Target) -> &'static str {
        let (Rows::These(rows), Some((_, condition))) = (&target.rows, ask.view.lookup) else { return "" };
        match rows.as_slice() {
            [row] => {
                let values = vec![Value::Integer(*row); condition.matches("{r}").count()];
                self.push(&condition.replace("{r}", "?"), values);
                ""
            }
            rows => {
                self.push(&condition.replace("{r}", "r.value"), []);
                self.values.insert(0, json_of(rows));
                "json_each(?) r CROSS JOIN "
            }
        }
    }

    /// Restricts orders to those of customers: by the list of a sealed partition, otherwise by their numbers.
    fn restrict_to_customers(&mut self, ask: &Ask, target: &Target, keys: &[i64]) {
        let column = ask.view.columns.iter().find_map(|column| match column.test {
            Test::Customer(number) => Some(number),
            _ => None,
        });
        let Some(number) = column else { return };
        let (test, keys) = match keys {
            [key] => ("= ?".to_owned(), Value::Integer(*key)),
            keys => (format!("IN ({LIST})"), json_of(keys)),
        };
        if number == "c.id" {
            return self.push(&format!("c.key {test}"), [keys]);
        }
        let customers = format!("SELECT id FROM customer_row WHERE key {test}");
        match target.info().filter(|info| info.indexed) {
            Some(info) => {
                let list = by_customer(&info.name);
                let condition = format!("o.id IN (SELECT id FROM {list} WHERE customer IN ({customers}))");
                self.push(&condition, [keys]);
            }
            None => self.push(&format!("{number} IN ({customers})"), [keys]),
        }
    }
}
