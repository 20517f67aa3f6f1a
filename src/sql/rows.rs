//! The rows of one statement, with the connection and the statement that they belong to.

use std::rc::Rc;

use rusqlite::fallible_streaming_iterator::FallibleStreamingIterator as _;
use rusqlite::types::{Value, ValueRef};
use rusqlite::{CachedStatement, Connection, Rows};
use self_cell::{MutBorrow, self_cell};

self_cell!(
    struct Started<'c> {
        owner: MutBorrow<CachedStatement<'c>>,
        #[not_covariant]
        dependent: Rows,
    }
);

self_cell!(
    struct Opened {
        owner: Rc<Connection>,
        #[not_covariant]
        dependent: Started,
    }
);

/// A running statement.
pub(super) struct Reading(Opened);

impl Reading {
    /// Starts a statement, which is compiled once for each connection.
    pub(super) fn start(
        connection: &Rc<Connection>,
        sql: &str,
        values: &[Value],
    ) -> rusqlite::Result<Reading> {
        let opened = Opened::try_new(Rc::clone(connection), |connection| {
            let mut statement = connection.prepare_cached(sql)?;
            for (index, value) in values.iter().enumerate() {
                statement.raw_bind_parameter(index + 1, value)?;
            }
            Ok::<_, rusqlite::Error>(Started::new(MutBorrow::new(statement), |statement| {
                statement.borrow_mut().raw_query()
            }))
        })?;
        Ok(Reading(opened))
    }

    /// Moves to the next row. Returns `false` at the end.
    pub(super) fn advance(&mut self) -> rusqlite::Result<bool> {
        self.0.with_dependent_mut(|_, started| {
            started.with_dependent_mut(|_, rows| {
                rows.advance()?;
                Ok(rows.get().is_some())
            })
        })
    }

    /// Passes a column of the current row to `read`; NULL if there is no row.
    pub(super) fn column<T>(&self, index: usize, read: impl FnOnce(ValueRef<'_>) -> T) -> T {
        self.0.with_dependent(|_, started| {
            started.with_dependent(|_, rows| {
                let value = rows.get().and_then(|row| row.get_ref(index).ok());
                read(value.unwrap_or(ValueRef::Null))
            })
        })
    }
}
