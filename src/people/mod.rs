//! Erasure of people: deletes people's rows, and maintains a list that suppresses their later rows.
//!
//! In: requests to erase a customer or a user. Out: deleted rows, or rows that have a token instead of the person's
//! data; pages whose unused bytes are overwritten; uploads and exports without the person; a certificate. Owns: the
//! running erasure and its steps (the kernel stores the lists of suppressed people and events, see
//! `shard::suppressed`). Never: blocks other people's rows.
//!
//! Every step in a shard runs in slices of upkeep. After a crash, the step continues where it stopped.
//!
//! ```text
//! suppress ─► erase ─► wait for the journals ─► orders ─► customers ─► words ─► events │ clicks ─► rejected records,
//! responses ─► new journals ─► subject deleted ─► unused bytes of every page ─► WAL truncated ─► finished
//! ```
//!
//! `Suppress` comes first and goes to every shard. From then on, no new data about the person is stored, so the rows
//! that later steps have processed remain clean.

mod active;
mod answer;
mod carry;
pub mod endpoints;
mod matcher;
pub mod openapi;
mod query;
mod record;
mod report;
mod rows;
pub mod shapes;
mod store;
mod uploads;

use rusqlite::Connection;

pub use self::matcher::PersonMatcher;
pub use self::record::{ERASURE, ErasureRecord, RemovedOutside, Subject};
pub use self::report::{
    ErasureReport, ErasureState, KnownCustomer, erasure, known_customer, orders_of_customer,
};
pub use self::store::PeopleStore;
use crate::base::keys::{KeyHash, KeyHasher};
use crate::base::kinds::{Kind, KindRow};
use crate::shard::{Carried, Family, Opening, ShardError, Store};

/// The record family of erasures.
#[derive(Clone, Copy, Debug)]
pub struct People;

impl Family for People {
    fn kinds(&self) -> &'static [KindRow] {
        record::KINDS
    }

    fn key_of(&self, _keys: &KeyHasher, _kind: Kind, _payload: &[u8]) -> Option<KeyHash> {
        None
    }

    /// Does nothing: the kernel creates the tables, because other families query them.
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
