//! People who are to be forgotten: their rows go, and a list says that they stay away.
//!
//! In: records of the kind [`ERASURE`]. Out: rows that are gone or have no name, pages without a byte that is
//! not used, a report. Owns: the erasure under way, step by step; the kernel keeps the lists (`shard::kept_out`). Never: stops others' rows; every
//! step is a slice of upkeep, and begins again after a crash where it was.
//!
//! ```text
//! suppress ─► erase ─► wait for what the journals held ─► orders ─► customers ─► words ─► events │ clicks ─►
//! rejected records, answers ─► journals begun anew ─► who it was ─► unused bytes of every page ─► WAL cut ─►
//! finished
//! ```
//! `Suppress` comes first and to every shard: from then on nothing new of the person is stored, so what the later
//! steps have passed stays clean.

mod carry;
mod needles;
mod record;
mod report;
mod rows;
mod store;
mod work;

use rusqlite::Connection;

pub use self::needles::Needles;
pub use self::record::{ERASURE, ErasureRecord, RemovedOutside, Subject};
pub use self::report::{
    ErasureReport, ErasureState, KnownCustomer, erasure, known_customer, orders_of_customer,
};
pub use self::store::PeopleStore;
use crate::base::keys::{KeyHash, KeyHasher};
use crate::base::kinds::{Kind, KindRow};
use crate::shard::{Carried, Family, Opening, ShardError, Store};

/// The family of people who are erased.
#[derive(Clone, Copy, Debug)]
pub struct People;

impl Family for People {
    fn kinds(&self) -> &'static [KindRow] {
        record::KINDS
    }

    fn key_of(&self, _keys: &KeyHasher, _kind: Kind, _payload: &[u8]) -> Option<KeyHash> {
        None
    }

    /// The kernel made the tables: other families ask them.
    fn migrate(&self, _connection: &Connection, _version: u32) -> Result<(), ShardError> {
        Ok(())
    }

    fn open(&self, opening: Opening<'_>) -> Result<Box<dyn Store>, ShardError> {
        Ok(Box::new(PeopleStore::open(opening.connection)?))
    }

    fn carry(
        &self,
        connection: &Connection,
        take: &mut dyn FnMut(Carried) -> Result<(), ShardError>,
    ) -> Result<(), ShardError> {
        carry::carry(connection, take)
    }
}
