//! The virtual tables through which SQLite reads the views.
#![allow(unsafe_code, reason = "SQLite reads a virtual table through structures that begin with its own")]

use std::borrow::Cow;
use std::cell::RefCell;
use std::ffi::{CStr, CString};
use std::os::raw::c_int;
use std::rc::Rc;

use rusqlite::fallible_iterator::FallibleIterator as _;
use rusqlite::types::{ToSqlOutput, Value, ValueRef};
use rusqlite::vtab::{
    Context, CreateVTab, Filters, InValues, IndexInfo, Module, VTab, VTabConnection, VTabCursor, VTabKind,
    sqlite3_vtab, sqlite3_vtab_cursor,
};
use rusqlite::{Connection, Error};

use super::ask::Ask;
use super::folder::Folder;
use super::kept::Repeats;
use super::list::{Given, VALUES_MAX, copy};
use super::plan::{self, Op, Plan};
use super::scan::Scan;
use super::times;
use super::view::{Kind, View};
use super::views::{self, VIEWS};

thread_local! {
    /// The folder whose tables are being created on this thread, and the plans of its queries. SQLite passes no
    /// reference that one thread owns.
    static CREATING: RefCell<Option<Of>> = const { RefCell::new(None) };
}

type Of = (Rc<Folder>, Rc<Repeats>);

/// The name of the module.
const MODULE: &str = "firehose";

/// Creates a table for every view.
pub(super) fn create_tables(
    connection: &Connection,
    folder: &Rc<Folder>,
    repeats: &Rc<Repeats>,
) -> rusqlite::Result<()> {
    connection.create_module(MODULE, const { &Module::<Table>::read_only_module().without_rowid() }, None)?;
    CREATING.set(Some((Rc::clone(folder), Rc::clone(repeats))));
    let created = VIEWS.iter().try_for_each(|(name, _)| {
        connection.execute_batch(&format!("CREATE VIRTUAL TABLE {name} USING {MODULE}()"))
    });
    CREATING.set(None);
    created
}

#[repr(C)]
struct Table {
    base: sqlite3_vtab,
    view: &'static View,
    of: Of,
}

// SAFETY: the structure has C's layout and begins with SQLite's.
unsafe impl VTab<'_> for Table {
    type Aux = ();
    type Cursor = Cursor;

    fn connect(
        _: &mut VTabConnection,
        _: Option<&()>,
        _: &[u8],
        _: &[u8],
        name: &[u8],
        _: &[&[u8]],
    ) -> rusqlite::Result<(Cow<'static, CStr>, Table)> {
        let unknown = || Error::ModuleError("there is no such view".to_owned());
        let view = std::str::from_utf8(name).ok().and_then(views::find).ok_or_else(unknown)?;
        let of = CREATING.with_borrow(Clone::clone).ok_or_else(unknown)?;
        let declaration = CString::new(view.declaration())?;
        Ok((Cow::Owned(declaration), Table { base: sqlite3_vtab::default(), view, of }))
    }

    fn best_index(&self, info: &mut IndexInfo) -> rusqlite::Result<bool> {
        let (folder, _) = &self.of;
        let sizes = folder.sizes(self.view).map_err(|error| Error::ModuleError(error.to_string()))?;
        plan::choose(self.view, info, &sizes)?;
        Ok(true)
    }

    fn open(&mut self) -> rusqlite::Result<Cursor> {
        let text = RefCell::new(Vec::with_capacity(32));
        let of = self.of.clone();
        Ok(Cursor { base: sqlite3_vtab_cursor::default(), view: self.view, of, scan: None, text })
    }
}

impl CreateVTab<'_> for Table {
    const KIND: VTabKind = VTabKind::Default;
}

/// Returns the values of a list, unless they are too many.
fn list(mut values: InValues<'_>) -> rusqlite::Result<Option<Vec<Value>>> {
    let mut list = Vec::new();
    while let Some(value) = values.next()? {
        if list.len() == VALUES_MAX {
            return Ok(None);
        }
        list.push(copy(value));
    }
    Ok(Some(list))
}

#[repr(C)]
struct Cursor {
    base: sqlite3_vtab_cursor,
    view: &'static View,
    of: Of,
    scan: Option<Scan>,
    /// The text of a time.
    text: RefCell<Vec<u8>>,
}

// SAFETY: the structure has C's layout and begins with SQLite's.
unsafe impl VTabCursor for Cursor {
    fn filter(&mut self, columns: c_int, plan: Option<&str>, values: &Filters<'_>) -> rusqlite::Result<()> {
        // The statements of the scan before are returned to the cache first.
        self.scan = None;
        let plan = plan.and_then(|text| Plan::parse(self.view, text, columns as u32));
        let plan = plan.ok_or_else(|| Error::ModuleError("unknown plan".to_owned()))?;
        let (folder, repeats) = &self.of;
        let mut given = Vec::with_capacity(plan.conditions.len());
        for ((place, value), (_, op)) in values.iter().enumerate().zip(&plan.conditions) {
            given.push(match op {
                Op::In => Given::List(list(values.in_values(place)?)?),
                _ => Given::One(copy(value)),
            });
        }
        let repeated = repeats.of(self.view, &plan);
        let ask = Ask::new(folder, self.view, plan, given);
        self.scan = Some(Scan::start(folder, ask, repeated)?);
        Ok(())
    }

    fn next(&mut self) -> rusqlite::Result<()> {
        self.scan.as_mut().map_or(Ok(()), Scan::advance)
    }

    fn eof(&self) -> bool {
        self.scan.as_ref().is_none_or(Scan::is_at_end)
    }

    fn column(&self, context: &mut Context, column: c_int) -> rusqlite::Result<()> {
        let (Some(scan), Ok(column)) = (&self.scan, usize::try_from(column)) else { return Ok(()) };
        scan.column(column, |value, shard| match (self.view.columns[column].kind, value) {
            (Kind::Shard, _) => context.set_result(shard),
            (Kind::Time, ValueRef::Integer(us)) => {
                let mut text = self.text.borrow_mut();
                times::write(us, &mut text);
                context.set_result(ToSqlOutput::Borrowed(ValueRef::Text(&text)))
            }
            (_, value) => context.set_result(ToSqlOutput::Borrowed(value)),
        })
    }

    fn rowid(&self) -> rusqlite::Result<i64> {
        Err(Error::ModuleError("a view has no rowid".to_owned()))
    }
}
