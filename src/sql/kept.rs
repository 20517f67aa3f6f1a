//! Copies of views for joins: what an automatic index of SQLite is for a table.
//!
//! A join opens a view once for each row of its other side. If no index of the shards serves the condition, each
//! opening is a scan. The openings of one plan are therefore counted. Once they have cost more than a copy of the view,
//! the rows are copied to a temporary table with an index, which the later openings search. A query therefore costs at
//! most about twice the cheaper way.

use std::cell::{Cell, RefCell};
use std::fmt::Write as _;
use std::rc::Rc;
use std::sync::Arc;

use rusqlite::Connection;
use rusqlite::types::Value;

use super::ask::{Ask, Compare};
use super::plan::{Op, Plan};
use super::rows::Reading;
use super::stop::{STEPS, Stop};
use super::view::{Kind, SHARD, View};
use super::work::STEPS_A_STATEMENT;
use crate::shard::{ShardError, open_private};

/// Steps that reading, copying and indexing a row takes, and those that every copy takes.
const STEPS_A_ROW: u64 = 40;
const STEPS_A_COPY: u64 = 20_000;
/// Rows of a view that is copied, about a gigabyte. Larger ones are searched in the shards, however often.
const ROWS_MAX: f64 = 5e6;
/// Memory for the pages of a copy. The others are in a temporary file.
const CACHE_KIB: i64 = 8 * 1024;

/// The plans of a query that may be opened again.
#[derive(Default)]
pub(super) struct Repeats(RefCell<Vec<Rc<Repeated>>>);

/// One plan of a query, with the work of its openings so far.
pub(super) struct Repeated {
    pub(super) view: &'static View,
    pub(super) plan: Plan,
    steps: Cell<u64>,
    kept: RefCell<Option<Rc<Kept>>>,
}

impl Repeats {
    /// Forgets the plans and their copies, which are those of one snapshot.
    pub(super) fn clear(&self) {
        self.0.borrow_mut().clear();
    }

    /// Returns a plan's earlier openings. `None` if a copy would serve it no better.
    pub(super) fn of(&self, view: &'static View, plan: &Plan) -> Option<Rc<Repeated>> {
        let is_key = |(column, op): &(usize, Op)| *op == Op::Eq && view.columns[*column].kind != Kind::Time;
        let has_list = plan.conditions.iter().any(|(_, op)| *op == Op::In);
        if has_list || plan.reads_row_ids(view) || !plan.conditions.iter().any(is_key) {
            return None;
        }
        let mut all = self.0.borrow_mut();
        let known = all.iter().find(|known| known.view.name == view.name && known.plan == *plan);
        if let Some(known) = known {
            return Some(Rc::clone(known));
        }
        let new = Repeated { view, plan: plan.clone(), steps: Cell::new(0), kept: RefCell::new(None) };
        all.push(Rc::new(new));
        all.last().map(Rc::clone)
    }
}

impl Repeated {
    /// Adds the work of an opening.
    pub(super) fn add(&self, steps: u64) {
        self.steps.set(self.steps.get().saturating_add(steps));
    }

    /// Deducts the work of one search in a copy.
    pub(super) fn open(&self) {
        self.steps.set(self.steps.get().saturating_sub(STEPS_A_STATEMENT));
    }

    /// Returns `true` if a copy of so many rows would have been cheaper by now.
    pub(super) fn is_due(&self, rows: f64) -> bool {
        rows <= ROWS_MAX && self.steps.get() as f64 > rows * STEPS_A_ROW as f64 + STEPS_A_COPY as f64
    }

    pub(super) fn kept(&self) -> Option<Rc<Kept>> {
        self.kept.borrow().clone()
    }

    pub(super) fn keep(&self, kept: Kept) -> Rc<Kept> {
        let kept = Rc::new(kept);
        *self.kept.borrow_mut() = Some(Rc::clone(&kept));
        kept
    }
}

/// A copy of the columns of a view that a plan needs.
pub(super) struct Kept {
    connection: Rc<Connection>,
    /// The columns of the view. The last column of the copy is the number of the shard.
    pub(super) columns: Vec<usize>,
}

impl Kept {
    /// Creates an empty copy.
    pub(super) fn create(of: &Repeated, stop: &Arc<Stop>) -> Result<Kept, ShardError> {
        let mut connection = open_private()?;
        let stop = Arc::clone(stop);
        connection.progress_handler(STEPS, Some(move || stop.reason().is_some()))?;
        let is_needed = |column: &usize| {
            let of_condition = of.plan.conditions.iter().any(|(tested, _)| tested == column);
            let of_order = of.plan.order.is_some_and(|(by, _)| by == *column);
            let is_read = of.plan.columns & 1 << column != 0 || of_condition || of_order;
            is_read && of.view.columns[*column].kind != Kind::Shard
        };
        let columns: Vec<usize> = (0..of.view.columns.len()).filter(is_needed).collect();
        let names: String = columns.iter().fold(String::new(), |names, column| names + &name(*column) + ", ");
        connection.execute_batch(&format!(
            "PRAGMA temp.journal_mode = OFF; PRAGMA temp.cache_size = -{CACHE_KIB}; \
             BEGIN; CREATE TEMP TABLE kept ({names}{SHARD})"
        ))?;
        Ok(Kept { connection: Rc::new(connection), columns })
    }

    /// Adds a row: the values of the columns and the number of the shard.
    pub(super) fn insert(&self, row: Vec<Value>) -> Result<(), ShardError> {
        let places = vec!["?"; row.len()].join(", ");
        let mut insert = self.connection.prepare_cached(&format!("INSERT INTO kept VALUES ({places})"))?;
        insert.execute(rusqlite::params_from_iter(row))?;
        Ok(())
    }

    /// Builds the index: the columns of the equalities, and then one with a range.
    pub(super) fn index(&self, of: &Repeated) -> Result<(), ShardError> {
        let kind = |column: usize| of.view.columns[column].kind;
        let is_equal = |(column, op): &&(usize, Op)| *op == Op::Eq && kind(*column) != Kind::Time;
        let equal = of.plan.conditions.iter().filter(is_equal);
        let range = of.plan.conditions.iter().find(|condition| !is_equal(condition));
        let mut names: Vec<String> = Vec::new();
        for (column, _) in equal.chain(range) {
            let name = if kind(*column) == Kind::Shard { SHARD.to_owned() } else { name(*column) };
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let sql = format!("CREATE INDEX temp.by_key ON kept ({}); COMMIT", names.join(", "));
        Ok(self.connection.execute_batch(&sql)?)
    }

    /// Starts a search for the rows that the shards would return.
    pub(super) fn search(&self, ask: &Ask) -> rusqlite::Result<Reading> {
        let (mut tests, mut values) = (String::from("1"), Vec::new());
        let mut push = |test: String, value: Value| {
            // Writing to a String cannot fail.
            let _ = write!(tests, " AND {test}");
            values.push(value);
        };
        for test in &ask.tests {
            match test {
                Compare::Value { column, op, value } => {
                    push(format!("{} {} ?", name(*column), op.sql()), value.clone());
                }
                Compare::Times { column, times } => {
                    let name = name(*column);
                    if let Some(from) = times.from {
                        push(format!("{name} >= ?"), Value::Integer(from));
                    }
                    if let Some(to) = times.to {
                        push(format!("{name} < ?"), Value::Integer(to));
                    }
                }
                Compare::List { .. } => {}
            }
        }
        if let Some(shard) = ask.shard {
            push(format!("{SHARD} = ?"), Value::Integer(shard.into()));
        }
        if ask.is_empty {
            tests = "0".to_owned();
            values.clear();
        }
        let mut sql = format!("SELECT * FROM temp.kept WHERE {tests}");
        if let Some((column, is_descending)) = ask.plan.order {
            let _ = write!(sql, " ORDER BY {}{}", name(column), if is_descending { " DESC" } else { "" });
        }
        Reading::start(&self.connection, &sql, &values)
    }
}

/// Returns the name of a column of the view in a copy.
fn name(column: usize) -> String {
    format!("c{column}")
}
