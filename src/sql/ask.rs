//! A plan with its values: the shards and partitions that may have rows, and the statement for each.

use std::fmt::Write as _;
use std::rc::Rc;

use rusqlite::Error;
use rusqlite::types::{Value, ValueRef};

use super::folder::{Folder, Reader};
use super::plan::{Op, Plan};
use super::times::Times;
use super::view::{From, Kind, Test, View};
use crate::base::keys::KeyHash;
use crate::orders::{by_customer, items_of};
use crate::shard::{PartitionInfo, ShardError, ids, tenant_number};

/// What a scan asks every shard.
pub(super) struct Ask {
    pub(super) view: &'static View,
    plan: Plan,
    tests: Vec<Compare>,
    /// The tenant, if it is fixed.
    tenant: Option<String>,
    /// The shard, if the shard or a routed id is fixed.
    shard: Option<u16>,
    /// The hash of a routed id that is looked up.
    lookup: Option<KeyHash>,
    /// The hash of a fixed customer.
    customer: Option<i64>,
    /// Set if a comparison is never true.
    is_empty: bool,
    /// For each column of the view, its place in a statement.
    places: Vec<Option<usize>>,
}

/// A condition for a shard to check.
enum Compare {
    Value { column: usize, op: Op, value: Value },
    Times { column: usize, times: Times },
}

/// One statement's table.
pub(super) struct Target {
    pub(super) shard: u16,
    /// The tenant's number in the shard.
    tenant: Option<i64>,
    partition: Option<Partition>,
    /// The row, if it was looked up.
    row: Option<i64>,
}

struct Partition {
    of: Rc<Vec<PartitionInfo>>,
    at: usize,
}

impl Ask {
    pub(super) fn new(folder: &Folder, view: &'static View, plan: Plan, values: &[ValueRef<'_>]) -> Ask {
        let mut ask = Ask {
            view,
            tests: Vec::new(),
            tenant: None,
            shard: None,
            lookup: None,
            customer: None,
            is_empty: false,
            places: Vec::new(),
            plan,
        };
        for ((column, op), value) in ask.plan.conditions.clone().into_iter().zip(values) {
            ask.add(column, op, *value);
        }
        ask.route(folder);
        let mut next = 0;
        let is_read = |index: usize, view: &View| {
            let of_query = ask.plan.columns & 1 << index != 0;
            // Equal rows are recognised by all columns.
            view.columns[index].kind != Kind::Shard && (of_query || !view.merged.is_empty())
        };
        let places = (0..view.columns.len()).map(|index| is_read(index, view).then(|| (next, next += 1).0));
        ask.places = places.collect();
        ask
    }

    /// Adds a condition, unless a shard could decide it differently from the query. A comparison of a text with a
    /// number, or the reverse, depends on affinities that are known only there.
    fn add(&mut self, column: usize, op: Op, value: ValueRef<'_>) {
        let kind = self.view.columns[column].kind;
        match (kind, value) {
            (_, ValueRef::Null) => self.is_empty = true,
            (Kind::Time, ValueRef::Text(text)) => {
                if let Some(times) = Times::of(op, text) {
                    self.tests.push(Compare::Times { column, times });
                }
            }
            (Kind::Shard, ValueRef::Integer(number)) if op == Op::Eq => match u16::try_from(number) {
                Ok(number) => self.fix_shard(number),
                Err(_) => self.is_empty = true,
            },
            (_, ValueRef::Text(text)) if kind.is_text() => {
                if let Ok(text) = std::str::from_utf8(text) {
                    self.tests.push(Compare::Value { column, op, value: Value::Text(text.to_owned()) });
                }
            }
            (Kind::Integer | Kind::Number, ValueRef::Integer(number)) => {
                self.tests.push(Compare::Value { column, op, value: Value::Integer(number) });
            }
            (Kind::Integer | Kind::Number, ValueRef::Real(number)) => {
                self.tests.push(Compare::Value { column, op, value: Value::Real(number) });
            }
            _ => {}
        }
    }

    fn fix_shard(&mut self, shard: u16) {
        self.is_empty |= self.shard.is_some_and(|known| known != shard);
        self.shard = Some(shard);
    }

    /// Returns the text that a column must equal.
    fn fixed(&self, name: &str) -> Option<&str> {
        let wanted = self.view.find(name)?;
        self.tests.iter().find_map(|test| match test {
            Compare::Value { column, op: Op::Eq, value: Value::Text(text) } if *column == wanted => {
                Some(text.as_str())
            }
            _ => None,
        })
    }

    fn route(&mut self, folder: &Folder) {
        self.tenant = self.fixed("tenant_id").map(str::to_owned);
        let Some(tenant) = self.tenant.clone() else { return };
        if let Some([_, id]) = self.view.route
            && let Some(id) = self.fixed(id)
        {
            let hash = folder.keys.hash(&tenant, id);
            self.fix_shard(hash.shard(folder.shards()).0);
            self.lookup = self.view.lookup.is_some().then_some(hash);
        }
        if let Some(customer) = self.fixed("customer_id") {
            self.customer = Some(folder.keys.hash(&tenant, customer).0 as i64);
        }
    }

    /// Returns the direction if the rows are merged in an order.
    pub(super) fn order(&self) -> Option<bool> {
        match self.plan.order {
            Some((_, is_descending)) => Some(is_descending),
            None => self.is_distinct().then_some(false),
        }
    }

    pub(super) fn is_distinct(&self) -> bool {
        !self.view.merged.is_empty()
    }

    pub(super) fn place(&self, column: usize) -> Option<usize> {
        self.places.get(column).copied().flatten()
    }

    /// Returns the places of the values by which rows are merged. The columns of the view are before them.
    pub(super) fn key_places(&self) -> std::ops::Range<usize> {
        let columns = self.places.iter().flatten().count();
        columns..columns + self.keys().len()
    }

    fn keys(&self) -> Vec<&'static str> {
        match self.plan.order {
            Some((column, _)) => vec![self.view.columns[column].sql],
            None => self.view.merged.to_vec(),
        }
    }

    /// Returns everything that may have rows.
    pub(super) fn targets(&self, folder: &Folder) -> rusqlite::Result<Vec<Target>> {
        let mut targets = Vec::new();
        if self.is_empty {
            return Ok(targets);
        }
        let readers = folder.readers.borrow();
        let wanted = |reader: &&Rc<Reader>| self.shard.is_none_or(|shard| shard == reader.id.0);
        for reader in readers.iter().filter(wanted) {
            self.targets_of(reader, &mut targets)
                .map_err(|error| Error::ModuleError(reader.failed(&error).to_string()))?;
        }
        Ok(targets)
    }

    fn targets_of(&self, reader: &Reader, targets: &mut Vec<Target>) -> Result<(), ShardError> {
        let (connection, shard) = (&reader.connection, reader.id.0);
        let mut tenant = None;
        if let Some(name) = &self.tenant
            && self.view.columns.iter().any(|column| matches!(column.test, Test::Tenant(_)))
        {
            tenant = tenant_number(connection, name)?;
            if tenant.is_none() {
                return Ok(());
            }
        }
        if !matches!(self.view.from, From::Partitions(..)) {
            targets.push(Target { shard, tenant, partition: None, row: None });
        }
        let Some(stream) = self.view.stream() else { return Ok(()) };
        let of = reader.partitions(stream)?;
        let target = |at, row| {
            let partition = Some(Partition { of: Rc::clone(&of), at });
            Target { shard, tenant, partition, row }
        };
        if let (Some(hash), Some((ids, _))) = (self.lookup, self.view.lookup) {
            let mut rows = ids::find(connection, ids, hash)?;
            rows.sort_unstable();
            rows.dedup();
            for row in rows {
                let at = of.partition_point(|partition| partition.first_id <= row);
                targets.extend(at.checked_sub(1).map(|at| target(at, Some(row))));
            }
            return Ok(());
        }
        let ends = of.iter().skip(1).map(|next| next.first_id).chain([i64::MAX]);
        for ((at, partition), end) in of.iter().enumerate().zip(ends) {
            if partition.rows > 0 && self.may_have_rows(partition, end) {
                targets.push(target(at, None));
            }
        }
        Ok(())
    }

    /// Returns `false` if the bounds of a partition exclude its rows.
    fn may_have_rows(&self, partition: &PartitionInfo, end: i64) -> bool {
        let named = |column: usize, name: Option<&str>| name == Some(self.view.columns[column].name);
        self.tests.iter().all(|test| match test {
            Compare::Times { column, times } if named(*column, self.view.time) => {
                let Some((low, high)) = partition.timestamp_us else { return true };
                times.from.is_none_or(|from| high >= from) && times.to.is_none_or(|to| low < to)
            }
            Compare::Value { column, op, value: Value::Integer(id) } if named(*column, self.view.row) => {
                match op {
                    Op::Eq => (partition.first_id..end).contains(id),
                    Op::Lt => partition.first_id < *id,
                    Op::Le => partition.first_id <= *id,
                    Op::Gt | Op::Ge => end > *id,
                    Op::Like | Op::Glob => true,
                }
            }
            _ => true,
        })
    }

    /// Returns the statement for a target, with its values.
    pub(super) fn statement(&self, target: &Target) -> (String, Vec<Value>) {
        let mut statement = Statement { joins: 0, tests: String::new(), values: Vec::new() };
        for test in &self.tests {
            statement.add(self, target, test);
        }
        if let (Some(row), Some((_, condition))) = (target.row, self.view.lookup) {
            let values = vec![Value::Integer(row); condition.matches('?').count()];
            statement.push(condition, values);
        }
        if let Some(key) = self.customer {
            statement.restrict_to_customer(self, target, key);
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
        let _ = write!(sql, " FROM {from}");
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

    fn add(&mut self, ask: &Ask, target: &Target, test: &Compare) {
        match test {
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
                    Op::Like | Op::Glob => {}
                }
            }
            _ => {
                column.joins.iter().for_each(|join| self.joins |= 1 << join);
                self.push(&format!("{} {sql} ?", column.sql), [value.clone()]);
            }
        }
    }

    /// Restricts orders to those of a customer: by the list of a sealed partition, otherwise by its numbers.
    fn restrict_to_customer(&mut self, ask: &Ask, target: &Target, key: i64) {
        let column = ask.view.columns.iter().find_map(|column| match column.test {
            Test::Customer(number) => Some(number),
            _ => None,
        });
        let Some(number) = column else { return };
        if number == "c.id" {
            return self.push("c.key = ?", [Value::Integer(key)]);
        }
        let customers = "SELECT id FROM customer_row WHERE key = ?";
        match target.info().filter(|info| info.indexed) {
            Some(info) => {
                let list = by_customer(&info.name);
                let condition = format!("o.id IN (SELECT id FROM {list} WHERE customer IN ({customers}))");
                self.push(&condition, [Value::Integer(key)]);
            }
            None => self.push(&format!("{number} IN ({customers})"), [Value::Integer(key)]),
        }
    }
}

impl Target {
    fn info(&self) -> Option<&PartitionInfo> {
        self.partition.as_ref().map(|partition| &partition.of[partition.at])
    }

    /// Returns a bound of the times of its rows: none is before it, in the direction of the merge.
    pub(super) fn bound(&self, is_descending: bool) -> Value {
        let times = self.info().and_then(|info| info.timestamp_us);
        times.map_or(Value::Null, |(low, high)| Value::Integer(if is_descending { high } else { low }))
    }
}
