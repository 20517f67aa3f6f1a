//! The status of an order as of a change that the file has without its WAL.
//!
//! A later change is not a promise yet: after a power cut its number may be given to another one. An order that is sent
//! with the status of such a change would ignore the change that gets the number. Therefore, an order whose status has
//! changed since is sent with the status before. The target gets the change itself after the next checkpoint.

use foldhash::{HashMap, HashMapExt as _};
use rusqlite::{Connection, params};

use crate::shard::ShardError;

/// The number of earlier changes that are searched for the status before.
const SEARCHED: i64 = 20_000;

pub(super) const LATER_SQL: &str = "SELECT ref FROM change WHERE seq > ?1 AND kind = 'status'";
pub(super) const EARLIER_SQL: &str = "SELECT ref, value FROM change WHERE seq <= ?1 AND kind = 'status' \
                                      ORDER BY seq DESC LIMIT ?2";

/// The status with which an order is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StatusAt {
    /// The one that the row has.
    Now,
    /// The one with this code.
    Code(u8),
    /// It is not known. The order is sent after the next checkpoint, before which nobody deletes the change.
    Unknown,
}

/// The orders whose status has changed since, with the status before, if it is known.
#[derive(Debug, Default)]
pub(super) struct Settled(HashMap<i64, Option<u8>>);

impl Settled {
    pub(super) fn load(snapshot: &Connection, settled: i64) -> Result<Settled, ShardError> {
        let mut orders = HashMap::new();
        let mut statement = snapshot.prepare_cached(LATER_SQL)?;
        let mut rows = statement.query([settled])?;
        while let Some(row) = rows.next()? {
            orders.insert(row.get(0)?, None);
        }
        if !orders.is_empty() {
            let mut statement = snapshot.prepare_cached(EARLIER_SQL)?;
            let mut rows = statement.query(params![settled, SEARCHED])?;
            while let Some(row) = rows.next()? {
                if let Some(known @ None) = orders.get_mut(&row.get(0)?) {
                    *known = Some(row.get(1)?);
                }
            }
        }
        Ok(Settled(orders))
    }

    pub(super) fn of(&self, order: i64) -> StatusAt {
        match self.0.get(&order) {
            None => StatusAt::Now,
            Some(None) => StatusAt::Unknown,
            Some(Some(code)) => StatusAt::Code(*code),
        }
    }
}
