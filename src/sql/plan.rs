//! Which conditions of a query a shard evaluates, the order in which it returns rows, and what that costs.
//!
//! A plan is a text, which SQLite hands back when it opens the table and `EXPLAIN QUERY PLAN` shows. SQLite checks
//! every condition again, so a plan may select more rows than the query, but never fewer.

use std::fmt;

use rusqlite::vtab::{IndexConstraintOp, IndexFlags, IndexInfo};

use super::view::{From, Kind, SHARD, TENANT, Test, View};

/// A comparison of a column with a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Eq,
    Lt,
    Le,
    Gt,
    Ge,
    Like,
    Glob,
    /// One of the values of a list.
    In,
}

const OPS: [Op; 8] = [Op::Eq, Op::Lt, Op::Le, Op::Gt, Op::Ge, Op::Like, Op::Glob, Op::In];

impl Op {
    fn of(op: &IndexConstraintOp) -> Option<Op> {
        Some(match op {
            IndexConstraintOp::SQLITE_INDEX_CONSTRAINT_EQ => Op::Eq,
            IndexConstraintOp::SQLITE_INDEX_CONSTRAINT_LT => Op::Lt,
            IndexConstraintOp::SQLITE_INDEX_CONSTRAINT_LE => Op::Le,
            IndexConstraintOp::SQLITE_INDEX_CONSTRAINT_GT => Op::Gt,
            IndexConstraintOp::SQLITE_INDEX_CONSTRAINT_GE => Op::Ge,
            IndexConstraintOp::SQLITE_INDEX_CONSTRAINT_LIKE => Op::Like,
            IndexConstraintOp::SQLITE_INDEX_CONSTRAINT_GLOB => Op::Glob,
            _ => return None,
        })
    }

    pub(super) fn sql(self) -> &'static str {
        match self {
            Op::Eq => "=",
            Op::Lt => "<",
            Op::Le => "<=",
            Op::Gt => ">",
            Op::Ge => ">=",
            Op::Like => "LIKE",
            Op::Glob => "GLOB",
            Op::In => "IN",
        }
    }

    fn is_pattern(self) -> bool {
        matches!(self, Op::Like | Op::Glob)
    }
}

/// What the shards are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// Columns and comparisons. SQLite passes the values in this order.
    pub(super) conditions: Vec<(usize, Op)>,
    /// The column by which rows are sorted, and whether in descending order.
    pub(super) order: Option<(usize, bool)>,
    /// One bit for each column that the query reads.
    pub(super) columns: u32,
}

const AND: &str = " AND ";
const ORDER: &str = " ORDER BY ";
const ALL: &str = "every row";

/// A plan with the names of its columns.
pub(super) struct Shown<'p>(pub(super) &'p Plan, pub(super) &'p View);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shown(plan, view) = self;
        if plan.conditions.is_empty() {
            f.write_str(ALL)?;
        }
        for (index, (column, op)) in plan.conditions.iter().enumerate() {
            let and = if index == 0 { "" } else { AND };
            write!(f, "{and}{} {} ?", view.columns[*column].name, op.sql())?;
        }
        if let Some((column, is_descending)) = plan.order {
            write!(f, "{ORDER}{}{}", view.columns[column].name, if is_descending { " DESC" } else { "" })?;
        }
        Ok(())
    }
}

impl Plan {
    /// Reads a plan from its text. Returns `None` for any other text.
    pub(super) fn parse(view: &View, text: &str, columns: u32) -> Option<Plan> {
        let (conditions, order) =
            text.split_once(ORDER).map_or((text, None), |(text, order)| (text, Some(order)));
        let order = match order {
            Some(order) => {
                let name = order.strip_suffix(" DESC");
                Some((view.find(name.unwrap_or(order))?, name.is_some()))
            }
            None => None,
        };
        let condition = |text: &str| {
            let (name, op) = text.strip_suffix(" ?")?.split_once(' ')?;
            Some((view.find(name)?, OPS.into_iter().find(|known| known.sql() == op)?))
        };
        let conditions = match conditions {
            ALL => Vec::new(),
            _ => conditions.split(AND).map(condition).collect::<Option<_>>()?,
        };
        Some(Plan { conditions, order, columns })
    }

    /// Returns `true` if the shard and the row are fixed, so that no other way is faster.
    pub(super) fn reads_row_ids(&self, view: &View) -> bool {
        fixes_row(view, &self.conditions)
    }
}

/// The sizes on which costs depend.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    pub(super) rows: f64,
    pub(super) shards: f64,
    pub(super) partitions: f64,
    pub(super) tenants: f64,
}

/// A row that is read costs 1. These are the costs of beginning a statement and of finding a row by its hashed id.
const BEGIN: f64 = 20.0;
const FIND: f64 = 60.0;
/// The estimated number of values of a list, which is SQLite's own estimate.
const LIST: f64 = 25.0;

/// Chooses the plan for the conditions that SQLite offers.
pub(super) fn choose(view: &View, info: &mut IndexInfo, sizes: &Sizes) -> rusqlite::Result<()> {
    let mut conditions = Vec::new();
    let mut lists = Vec::new();
    let offered: Vec<_> = info
        .constraints()
        .map(|offer| (offer.column(), Op::of(&offer.operator()), offer.is_usable()))
        .collect();
    for (place, (column, op, is_usable)) in offered.into_iter().enumerate() {
        let (Ok(column), Some(op), true) = (usize::try_from(column), op, is_usable) else { continue };
        let Some(kind) = view.columns.get(column).map(|column| column.kind) else { continue };
        // A pattern is a range of times. Of other columns it selects no range that an index has.
        let is_served = if op.is_pattern() { kind == Kind::Time } else { info.collation(place)? == "BINARY" };
        if !is_served {
            continue;
        }
        if is_list_column(view, column) && info.is_in_constraint(place)? {
            lists.push((place, column));
            continue;
        }
        conditions.push((column, op));
        info.constraint_usage(place).set_argv_index(conditions.len() as i32);
    }
    // SQLite would open the table once for each value of a list. The table therefore gets the whole list at once. If
    // the other conditions select single rows, SQLite compares these with the list.
    if !selects_rows(view, &conditions) {
        for (place, column) in lists {
            let is_whole = info.set_in_constraint(place, true)?;
            conditions.push((column, if is_whole { Op::In } else { Op::Eq }));
            info.constraint_usage(place).set_argv_index(conditions.len() as i32);
        }
    }
    let order = order_of(view, info, &conditions);
    // Bit 63 stands for all columns from the 64th on, which no view has.
    let plan = Plan { conditions, order, columns: info.col_used() as u32 };
    let estimate = Estimate::of(view, &plan, sizes);
    info.set_order_by_consumed(order.is_some());
    info.set_estimated_cost(estimate.cost);
    info.set_estimated_rows(estimate.rows.max(1.0) as i64);
    if estimate.is_unique {
        info.set_idx_flags(IndexFlags::SQLITE_INDEX_SCAN_UNIQUE);
    }
    info.set_idx_num(plan.columns as i32);
    info.set_idx_str(&Shown(&plan, view).to_string());
    Ok(())
}

/// Returns `true` if the shards compare the column with a list. The values of the others are ranges or numbers of each
/// shard, so SQLite opens the table for each value.
fn is_list_column(view: &View, column: usize) -> bool {
    let column = &view.columns[column];
    let is_compared = match column.kind {
        Kind::Text | Kind::Label | Kind::Integer | Kind::Number => true,
        Kind::Time | Kind::Shard => false,
    };
    is_compared && !matches!(column.test, Test::Tenant(_) | Test::OrderRow(_)) && column.name != TENANT
}

/// Returns `true` if the conditions select one row, or the items of one order.
fn selects_rows(view: &View, conditions: &[(usize, Op)]) -> bool {
    let fixed = |name: &str| view.find(name).is_some_and(|column| conditions.contains(&(column, Op::Eq)));
    let by_id = view.lookup.is_some() && view.route.is_some_and(|[tenant, id]| fixed(tenant) && fixed(id));
    by_id || fixes_row(view, conditions)
}

/// Returns `true` if the conditions fix the shard and the row, which one search finds.
fn fixes_row(view: &View, conditions: &[(usize, Op)]) -> bool {
    let fixed = |name: &str| view.find(name).is_some_and(|column| conditions.contains(&(column, Op::Eq)));
    fixed(SHARD) && view.row.is_some_and(fixed)
}

/// Returns the order that the shards can keep: that of one time, by an index whose other columns are fixed.
fn order_of(view: &View, info: &IndexInfo, conditions: &[(usize, Op)]) -> Option<(usize, bool)> {
    let mut wanted = info.order_bys();
    let (by, None) = (wanted.next()?, wanted.next()) else { return None };
    let column = usize::try_from(by.column()).ok()?;
    if view.columns.get(column)?.kind != Kind::Time || !view.merged.is_empty() {
        return None;
    }
    let is_fixed = |name: &&str| conditions.contains(&(view.column(name), Op::Eq));
    let keeps = |index: &&&[&str]| {
        let before = index.iter().position(|name| *name == view.columns[column].name);
        before.is_some_and(|before| index[..before].iter().all(&is_fixed))
    };
    view.indexes.iter().find(keeps)?;
    Some((column, by.is_order_by_desc()))
}

struct Estimate {
    rows: f64,
    cost: f64,
    is_unique: bool,
}

impl Estimate {
    fn of(view: &View, plan: &Plan, sizes: &Sizes) -> Estimate {
        let has = |name: &str, op: Op| plan.conditions.contains(&(view.column(name), op));
        let fixed = |name: &str| has(name, Op::Eq);
        let listed = |name: &str| has(name, Op::In);
        let one_shard = view.find(SHARD).is_some_and(|_| fixed(SHARD));
        let routed = view.route.is_some_and(|[tenant, id]| fixed(tenant) && fixed(id));
        let lists = view.route.is_some_and(|[tenant, id]| fixed(tenant) && listed(id));
        if (routed || lists) && view.lookup.is_some() {
            let is_row = view.row == Some("id");
            let (rows, ids) = (if is_row { 1.0 } else { 3.0 }, if routed { 1.0 } else { LIST });
            return Estimate { rows: rows * ids, cost: FIND * ids, is_unique: is_row && routed };
        }
        if one_shard && view.row.is_some_and(fixed) {
            let rows = if view.row == Some("id") { 1.0 } else { 3.0 };
            return Estimate { rows, cost: BEGIN / 4.0 + rows, is_unique: rows < 2.0 };
        }
        let share = |name: &str| match name {
            SHARD => 1.0 / sizes.shards,
            TENANT => 1.0 / sizes.tenants,
            "status" => 0.2,
            "event_id" | "anomaly_id" => 1.0 / sizes.rows.max(1.0),
            _ => 1.0 / 1_000.0,
        };
        let range = |name: &str| {
            let low = has(name, Op::Gt) || has(name, Op::Ge);
            let high = has(name, Op::Lt) || has(name, Op::Le);
            match (low, high) {
                _ if has(name, Op::Eq) || has(name, Op::Like) || has(name, Op::Glob) => 0.01,
                (true, true) => 0.05,
                (false, false) => 1.0,
                _ => 0.3,
            }
        };
        // The share of rows that the best index selects.
        let by_index = |index: &&[&str]| {
            let prefix = index.iter().take_while(|name| fixed(name)).count();
            let fixed: f64 = index[..prefix].iter().map(|name| share(name)).product();
            let of_next = |name: &&str| match listed(name) {
                true => (share(name) * LIST).min(1.0),
                false => range(name),
            };
            fixed * index.get(prefix).map_or(1.0, of_next)
        };
        let mut read = view.indexes.iter().map(by_index).fold(1.0_f64, f64::min);
        if let Some(time) = view.time {
            read = read.min(range(time));
        }
        let shards = if one_shard || routed { 1.0 } else { sizes.shards };
        if one_shard {
            read = read.min(1.0 / sizes.shards);
        }
        let statements = match view.from {
            From::Table(_) => shards,
            _ => (sizes.partitions / sizes.shards * shards * view.time.map_or(1.0, range)).max(shards),
        };
        let read_rows = (read * sizes.rows).max(1.0);
        // An id without its tenant is not searched, but few rows have it.
        let is_id = |column: usize| {
            view.lookup.is_some() && view.route.is_some_and(|[_, id]| view.column(id) == column)
        };
        let part = |(column, op): &(usize, Op)| match op {
            Op::Eq if is_id(*column) => sizes.tenants / sizes.rows.max(1.0),
            Op::In if is_id(*column) => LIST * sizes.tenants / sizes.rows.max(1.0),
            Op::Eq => 0.25,
            _ => 0.5,
        };
        let rest: f64 = plan.conditions.iter().map(part).map(|part| part.min(1.0)).product();
        let rows = if read < 1.0 { read_rows } else { (read_rows * rest).max(1.0) };
        Estimate { rows, cost: statements * BEGIN + read_rows, is_unique: false }
    }
}

#[cfg(test)]
mod tests {
    use super::super::views;
    use super::*;

    #[test]
    fn a_plan_reads_back_from_its_text() {
        let view = views::find("orders").unwrap();
        let conditions = vec![(1, Op::Eq), (2, Op::In), (8, Op::Ge), (8, Op::Like), (9, Op::Gt)];
        for (conditions, order) in
            [(conditions, Some((8, true))), (Vec::new(), None), (vec![(0, Op::Lt)], Some((8, false)))]
        {
            let plan = Plan { conditions, order, columns: 0b1101 };
            let text = Shown(&plan, view).to_string();
            assert_eq!(Plan::parse(view, &text, plan.columns), Some(plan), "{text}");
        }
        for text in ["", "tenant = ?", "tenant_id = 5", "every row ORDER BY nothing", "tenant_id ? ?"] {
            assert_eq!(Plan::parse(view, text, 0), None, "{text}");
        }
    }
}
