//! The rows of one view that a plan selects: from each shard and partition in turn, or merged in an order.

use std::cmp::Ordering;
use std::rc::Rc;

use rusqlite::Error;
use rusqlite::types::{Value, ValueRef};

use super::ask::{Ask, Target};
use super::folder::{Folder, Reader};
use super::kept::{Kept, Repeated};
use super::list::copy;
use super::plan::Plan;
use super::rows::Reading;
use crate::shard::ShardError;

/// A running scan.
pub(super) struct Scan {
    ask: Ask,
    folder: Rc<Folder>,
    rows: Rows,
    repeated: Option<Rc<Repeated>>,
}

enum Rows {
    InTurn {
        targets: std::vec::IntoIter<Target>,
        current: Option<Head>,
    },
    Merged(Merge),
    /// From a copy; no rows at the end.
    Kept(Rc<Kept>, Option<Reading>),
}

/// The current row of one target.
struct Head {
    reading: Reading,
    reader: Rc<Reader>,
}

/// The targets of a merge by their next rows.
struct Merge {
    /// Those that are not open, the next one last. Each has the bound of its keys.
    waiting: Vec<(Value, Target)>,
    open: Vec<(Vec<Value>, Head)>,
    /// The target with the current row.
    current: Option<usize>,
    is_descending: bool,
    /// For rows that several shards may have: the current key, and the rows with it so far.
    seen: Option<(Vec<Value>, Vec<Vec<Value>>)>,
}

impl Scan {
    /// Starts a scan at its first row.
    pub(super) fn start(
        folder: &Rc<Folder>,
        ask: Ask,
        repeated: Option<Rc<Repeated>>,
    ) -> rusqlite::Result<Scan> {
        let before = folder.work.steps();
        if let Some(repeated) = &repeated {
            if let Some(kept) = kept(folder, repeated)? {
                let reading = kept.search(&ask)?;
                let rows = Rows::Kept(kept, Some(reading));
                let mut scan = Scan { ask, folder: Rc::clone(folder), rows, repeated: None };
                scan.advance()?;
                return Ok(scan);
            }
            repeated.open();
        }
        let targets = ask.targets(folder)?;
        let rows = match ask.order() {
            None => Rows::InTurn { targets: targets.into_iter(), current: None },
            Some(is_descending) => Rows::Merged(Merge::new(targets, is_descending, ask.is_distinct())),
        };
        let mut scan = Scan { ask, folder: Rc::clone(folder), rows, repeated };
        scan.step()?;
        scan.count_from(before);
        Ok(scan)
    }

    pub(super) fn advance(&mut self) -> rusqlite::Result<()> {
        let before = self.folder.work.steps();
        self.step()?;
        self.count_from(before);
        Ok(())
    }

    fn count_from(&self, steps: u64) {
        if let Some(repeated) = &self.repeated {
            repeated.add(self.folder.work.steps() - steps);
        }
    }

    fn step(&mut self) -> rusqlite::Result<()> {
        let Scan { ask, folder, rows, .. } = self;
        match rows {
            Rows::Kept(_, reading) => {
                if let Some(rows) = reading
                    && !rows.advance()?
                {
                    *reading = None;
                }
                Ok(())
            }
            Rows::InTurn { targets, current } => loop {
                if let Some(head) = current
                    && head.advance()?
                {
                    return Ok(());
                }
                *current = match targets.next() {
                    Some(target) => Some(Head::open(ask, folder, &target)?),
                    None => {
                        *current = None;
                        return Ok(());
                    }
                };
            },
            Rows::Merged(merge) => merge.advance(ask, folder),
        }
    }

    fn head(&self) -> Option<&Head> {
        match &self.rows {
            Rows::InTurn { current, .. } => current.as_ref(),
            Rows::Merged(merge) => merge.current.map(|at| &merge.open[at].1),
            Rows::Kept(..) => None,
        }
    }

    pub(super) fn is_at_end(&self) -> bool {
        match &self.rows {
            Rows::Kept(_, reading) => reading.is_none(),
            _ => self.head().is_none(),
        }
    }

    /// Passes a column of the current row to `read`, with the number of the row's shard.
    pub(super) fn column<T>(&self, column: usize, read: impl FnOnce(ValueRef<'_>, u16) -> T) -> T {
        if let Rows::Kept(kept, Some(reading)) = &self.rows {
            let shard = reading.column(kept.columns.len(), |value| value.as_i64().unwrap_or(0) as u16);
            return match kept.columns.iter().position(|kept| *kept == column) {
                Some(place) => reading.column(place, |value| read(value, shard)),
                None => read(ValueRef::Null, shard),
            };
        }
        let Some(head) = self.head() else { return read(ValueRef::Null, 0) };
        match self.ask.place(column) {
            Some(place) => head.reading.column(place, |value| read(value, head.reader.id.0)),
            None => read(ValueRef::Null, head.reader.id.0),
        }
    }
}

/// Returns the copy for a plan that was opened often. Copies the rows when it is due.
fn kept(folder: &Rc<Folder>, of: &Rc<Repeated>) -> rusqlite::Result<Option<Rc<Kept>>> {
    if let Some(kept) = of.kept() {
        return Ok(Some(kept));
    }
    let sizes = folder.sizes(of.view).map_err(|error| Error::ModuleError(error.to_string()))?;
    if !of.is_due(sizes.rows) {
        return Ok(None);
    }
    let failed = |error: ShardError| Error::ModuleError(format!("the copy of {}: {error}", of.view.name));
    let kept = Kept::create(of, &folder.stop).map_err(failed)?;
    let columns = kept.columns.iter().fold(0, |bits, column| bits | 1 << column);
    let whole = Plan { conditions: Vec::new(), order: None, columns };
    let mut scan = Scan::start(folder, Ask::new(folder, of.view, whole, Vec::new()), None)?;
    while !scan.is_at_end() {
        let mut row = Vec::with_capacity(kept.columns.len() + 1);
        row.extend(kept.columns.iter().map(|column| scan.column(*column, |value, _| copy(value))));
        row.push(scan.column(0, |_, shard| Value::Integer(shard.into())));
        kept.insert(row).map_err(failed)?;
        scan.advance()?;
    }
    kept.index(of).map_err(failed)?;
    folder.work.copy_view();
    Ok(Some(of.keep(kept)))
}

impl Head {
    fn open(ask: &Ask, folder: &Folder, target: &Target) -> rusqlite::Result<Head> {
        let reader = Rc::clone(&folder.readers.borrow()[usize::from(target.shard)]);
        folder.work.start_statement();
        let (sql, values) = ask.statement(target);
        match Reading::start(&reader.connection, &sql, &values) {
            Ok(reading) => Ok(Head { reading, reader }),
            Err(error) => Err(named(&reader, error)),
        }
    }

    fn advance(&mut self) -> rusqlite::Result<bool> {
        let has_row = self.reading.advance().map_err(|error| named(&self.reader, error))?;
        if has_row {
            self.reader.work.read_row();
        }
        Ok(has_row)
    }

    /// Returns values of the current row.
    fn values(&self, places: std::ops::Range<usize>) -> Vec<Value> {
        places.map(|place| self.reading.column(place, copy)).collect()
    }
}

/// Adds the shard to an error.
fn named(reader: &Reader, error: Error) -> Error {
    Error::ModuleError(reader.failed(&error.into()).to_string())
}

/// Compares keys as SQLite sorts them. Keys are integers or texts.
fn compare(one: &Value, other: &Value) -> Ordering {
    match (one, other) {
        (Value::Integer(one), Value::Integer(other)) => one.cmp(other),
        (Value::Text(one), Value::Text(other)) => one.as_bytes().cmp(other.as_bytes()),
        (Value::Null, Value::Null) => Ordering::Equal,
        (Value::Null, _) => Ordering::Less,
        (_, Value::Null) => Ordering::Greater,
        (Value::Integer(_), _) => Ordering::Less,
        _ => Ordering::Greater,
    }
}

fn compare_all(one: &[Value], other: &[Value]) -> Ordering {
    one.iter()
        .zip(other)
        .map(|(one, other)| compare(one, other))
        .find(|order| order.is_ne())
        .unwrap_or(Ordering::Equal)
}

impl Merge {
    fn new(targets: Vec<Target>, is_descending: bool, is_distinct: bool) -> Merge {
        let mut waiting: Vec<(Value, Target)> = targets
            .into_iter()
            .map(|target| (if is_distinct { Value::Null } else { target.bound(is_descending) }, target))
            .collect();
        // The last one is opened first. A target without a bound is opened at once.
        waiting.sort_by(|(one, _), (other, _)| match (one, other) {
            (Value::Null, Value::Null) => Ordering::Equal,
            (Value::Null, _) => Ordering::Greater,
            (_, Value::Null) => Ordering::Less,
            _ if is_descending => compare(one, other),
            _ => compare(other, one),
        });
        let seen = is_distinct.then(|| (Vec::new(), Vec::new()));
        Merge { waiting, open: Vec::new(), current: None, is_descending, seen }
    }

    fn advance(&mut self, ask: &Ask, folder: &Folder) -> rusqlite::Result<()> {
        loop {
            if let Some(at) = self.current.take() {
                self.step(ask, at)?;
            }
            let Some(at) = self.next(ask, folder)? else { return Ok(()) };
            self.current = Some(at);
            if self.is_new(ask, at) {
                return Ok(());
            }
        }
    }

    /// Moves a target to its next row, or closes it.
    fn step(&mut self, ask: &Ask, at: usize) -> rusqlite::Result<()> {
        let (key, head) = &mut self.open[at];
        if head.advance()? {
            *key = head.values(ask.key_places());
        } else {
            self.open.swap_remove(at);
        }
        Ok(())
    }

    /// Returns the target with the next row. Opens those that may have an earlier one.
    fn next(&mut self, ask: &Ask, folder: &Folder) -> rusqlite::Result<Option<usize>> {
        loop {
            let order = |one: &[Value], other: &[Value]| match self.is_descending {
                true => compare_all(other, one),
                false => compare_all(one, other),
            };
            // Few targets are open at once, because their bounds rarely overlap.
            let best =
                (0..self.open.len()).min_by(|one, other| order(&self.open[*one].0, &self.open[*other].0));
            let is_due = match (self.waiting.last(), best) {
                (None, _) => false,
                (Some(_), None) | (Some((Value::Null, _)), _) => true,
                (Some((bound, _)), Some(best)) => {
                    order(std::slice::from_ref(bound), &self.open[best].0).is_le()
                }
            };
            if !is_due {
                return Ok(best);
            }
            if let Some((_, target)) = self.waiting.pop() {
                self.open.push((Vec::new(), Head::open(ask, folder, &target)?));
                self.step(ask, self.open.len() - 1)?;
            }
        }
    }

    /// Returns `true` if no other shard has returned the row. Rows with equal keys are adjacent.
    fn is_new(&mut self, ask: &Ask, at: usize) -> bool {
        let Some((key, rows)) = &mut self.seen else { return true };
        let (of_row, head) = &self.open[at];
        if key != of_row {
            key.clone_from(of_row);
            rows.clear();
        }
        let row = head.values(0..ask.key_places().start);
        let is_new = !rows.contains(&row);
        if is_new {
            rows.push(row);
        }
        is_new
    }
}
