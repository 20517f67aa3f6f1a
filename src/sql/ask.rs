//! A plan with its values: the shards and partitions that may have rows, and the statement for each.

use std::collections::BTreeMap;
use std::rc::Rc;

use rusqlite::Error;
use rusqlite::types::Value;

use super::folder::{Folder, Reader};
use super::list::{Given, List};
use super::plan::{Op, Plan};
use super::times::Times;
use super::view::{From, Kind, TENANT, Test, View};
use crate::base::keys::KeyHash;
use crate::shard::{PartitionInfo, ShardError, tenant_number};

/// What a scan asks every shard.
pub(super) struct Ask {
    pub(super) view: &'static View,
    pub(super) plan: Plan,
    pub(super) tests: Vec<Compare>,
    /// The tenant, if it is fixed.
    pub(super) tenant: Option<String>,
    /// The shard, if it is fixed.
    pub(super) shard: Option<u16>,
    /// The hashes of the routed ids by shard, if these are fixed.
    routed: Option<BTreeMap<u16, Vec<KeyHash>>>,
    /// The hashes of the customers, if these are fixed.
    pub(super) customers: Option<Vec<i64>>,
    /// Set if a comparison is never true.
    pub(super) is_empty: bool,
    /// For each column of the view, its place in a statement.
    pub(super) places: Vec<Option<usize>>,
}

/// A condition for a shard to check.
pub(super) enum Compare {
    Value { column: usize, op: Op, value: Value },
    Times { column: usize, times: Times },
    List { column: usize, list: List },
}

/// One statement's table.
pub(super) struct Target {
    pub(super) shard: u16,
    /// The tenant's number in the shard.
    pub(super) tenant: Option<i64>,
    pub(super) partition: Option<Partition>,
    pub(super) rows: Rows,
}

/// The rows of a target that a statement reads.
pub(super) enum Rows {
    All,
    /// Those that were looked up.
    These(Vec<i64>),
}

pub(super) struct Partition {
    of: Rc<Vec<PartitionInfo>>,
    at: usize,
}

impl Ask {
    pub(super) fn new(folder: &Folder, view: &'static View, plan: Plan, values: Vec<Given>) -> Ask {
        let mut ask = Ask {
            view,
            tests: Vec::new(),
            tenant: None,
            shard: None,
            routed: None,
            customers: None,
            is_empty: false,
            places: Vec::new(),
            plan,
        };
        for ((column, op), value) in ask.plan.conditions.clone().into_iter().zip(values) {
            match value {
                Given::One(value) => ask.add(column, op, value),
                Given::List(values) => ask.add_list(column, values),
            }
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
    fn add(&mut self, column: usize, op: Op, value: Value) {
        let kind = self.view.columns[column].kind;
        match (kind, value) {
            (_, Value::Null) => self.is_empty = true,
            (Kind::Time, Value::Text(text)) => {
                if let Some(times) = Times::of(op, text.as_bytes()) {
                    self.tests.push(Compare::Times { column, times });
                }
            }
            (Kind::Shard, Value::Integer(number)) if op == Op::Eq => match u16::try_from(number) {
                Ok(number) => {
                    self.is_empty |= self.shard.is_some_and(|known| known != number);
                    self.shard = Some(number);
                }
                Err(_) => self.is_empty = true,
            },
            (_, value @ Value::Text(_)) if kind.is_text() => {
                self.tests.push(Compare::Value { column, op, value });
            }
            (Kind::Integer | Kind::Number, value @ (Value::Integer(_) | Value::Real(_))) => {
                self.tests.push(Compare::Value { column, op, value });
            }
            _ => {}
        }
    }

    /// Adds a list, unless it is too long or a shard could decide it differently.
    fn add_list(&mut self, column: usize, values: Option<Vec<Value>>) {
        let list = values.and_then(|values| List::of(self.view.columns[column].kind, &values));
        if let Some(list) = list {
            self.is_empty |= list.is_empty();
            self.tests.push(Compare::List { column, list });
        }
    }

    /// Returns the texts one of which a column must equal.
    fn listed(&self, name: &str) -> Option<&[String]> {
        let wanted = self.view.find(name)?;
        self.tests.iter().find_map(|test| match test {
            Compare::List { column, list: List::Texts(texts) } if *column == wanted => Some(texts.as_slice()),
            _ => None,
        })
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
        self.tenant = self.fixed(TENANT).map(str::to_owned);
        let Some(tenant) = self.tenant.as_deref() else { return };
        let hashes = |name: &str| {
            let hash = |id: &str| folder.keys.hash(tenant, id);
            let of_one = self.fixed(name).map(|id| vec![hash(id)]);
            of_one.or_else(|| Some(self.listed(name)?.iter().map(|id| hash(id)).collect()))
        };
        let of_customers = hashes("customer_id");
        let routed = self.view.route.and_then(|[_, id]| hashes(id)).map(|hashes| {
            let mut by_shard: BTreeMap<u16, Vec<KeyHash>> = BTreeMap::new();
            for hash in hashes {
                by_shard.entry(hash.shard(folder.shards()).0).or_default().push(hash);
            }
            by_shard
        });
        self.routed = routed;
        self.customers = of_customers.map(|hashes| hashes.into_iter().map(|hash| hash.0 as i64).collect());
    }

    /// Returns `true` if the rows of the routed ids are looked up.
    pub(super) fn has_lookup(&self) -> bool {
        self.routed.is_some() && self.view.lookup.is_some()
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

    pub(super) fn keys(&self) -> Vec<&'static str> {
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
        let wanted = |reader: &&Rc<Reader>| {
            self.shard.is_none_or(|shard| shard == reader.id.0)
                && self.routed.as_ref().is_none_or(|routed| routed.contains_key(&reader.id.0))
        };
        for reader in readers.iter().filter(wanted) {
            self.targets_of(folder, reader, &mut targets)
                .map_err(|error| Error::ModuleError(reader.failed(&error).to_string()))?;
        }
        Ok(targets)
    }

    fn targets_of(
        &self,
        folder: &Folder,
        reader: &Reader,
        targets: &mut Vec<Target>,
    ) -> Result<(), ShardError> {
        let (connection, shard) = (&reader.connection, reader.id.0);
        let mut tenant = None;
        if let Some(name) = &self.tenant
            && self.view.columns.iter().any(|column| matches!(column.test, Test::Tenant(_)))
        {
            reader.work.start_statement();
            tenant = tenant_number(connection, name)?;
            if tenant.is_none() {
                return Ok(());
            }
        }
        if !matches!(self.view.from, From::Partitions(..)) {
            targets.push(Target { shard, tenant, partition: None, rows: Rows::All });
        }
        let Some(stream) = self.view.stream() else { return Ok(()) };
        let of = reader.partitions(stream)?;
        let target = |at, rows| {
            let partition = Some(Partition { of: Rc::clone(&of), at });
            Target { shard, tenant, partition, rows }
        };
        if let (Some(routed), Some((ids, _))) = (&self.routed, self.view.lookup) {
            let hashes = routed.get(&shard).map(Vec::as_slice).unwrap_or_default();
            let rows = folder.find(reader, ids, hashes)?;
            let at = |row: &i64| of.partition_point(|partition| partition.first_id <= *row);
            for rows in rows.chunk_by(|one, next| at(one) == at(next)) {
                let partition = rows.first().and_then(|row| at(row).checked_sub(1));
                targets.extend(partition.map(|partition| target(partition, Rows::These(rows.to_vec()))));
            }
            return Ok(());
        }
        let ends = of.iter().skip(1).map(|next| next.first_id).chain([i64::MAX]);
        for ((at, partition), end) in of.iter().enumerate().zip(ends) {
            if partition.rows > 0 && self.may_have_rows(partition, end) {
                targets.push(target(at, Rows::All));
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
                    Op::Like | Op::Glob | Op::In => true,
                }
            }
            Compare::List { column, list: List::Integers(ids) } if named(*column, self.view.row) => {
                ids.iter().any(|id| (partition.first_id..end).contains(id))
            }
            _ => true,
        })
    }
}

impl Target {
    pub(super) fn info(&self) -> Option<&PartitionInfo> {
        self.partition.as_ref().map(|partition| &partition.of[partition.at])
    }

    /// Returns a bound of the times of its rows: none is before it, in the direction of the merge.
    pub(super) fn bound(&self, is_descending: bool) -> Value {
        let times = self.info().and_then(|info| info.timestamp_us);
        times.map_or(Value::Null, |(low, high)| Value::Integer(if is_descending { high } else { low }))
    }
}
