//! People: what is held of a customer, and the erasure of customers and users. An erasure deletes people's rows, and
//! maintains a list that suppresses their later rows.
//!
//! In: requests about customers or users. Out: every row of a person, as lines; deleted rows, or rows that have a token
//! instead of the person's data; pages whose unused bytes are overwritten; uploads and exports without the person; a
//! certificate. Owns: the list of places that hold data of people (`places.rs`), the running erasure and its steps, and
//! `DATA/erasures` (the kernel stores the lists of suppressed people and events, see `shard::suppressed`). Never: blocks
//! other people's rows.
//!
//! Every step in a shard runs in slices of upkeep, for all people of a request at once. After a crash, the step continues
//! where it stopped.
//!
//! ```text
//! suppress ─► erase ─► wait for the journals ─► orders ─► customers ─► words ─► events │ clicks ─► rejected records,
//! responses ─► new journals ─► sinks ─► subject deleted ─► unused bytes of every page ─► WAL truncated ─► finished
//! ```
//!
//! An erasure that waits for a sink does not delay others (`waiting.rs`).
//!
//! `Suppress` comes first and goes to every shard. From then on, no new data about the person is stored, so the rows
//! that later steps have processed remain clean.

mod access;
mod active;
mod answer;
mod body;
mod carry;
pub mod endpoints;
mod exported;
pub mod feed;
mod forget;
mod many;
mod matcher;
mod notes;
pub mod openapi;
mod place;
mod places;
mod query;
mod record;
mod refused;
mod report;
mod rows;
pub mod shapes;
mod steps;
mod store;
mod uploads;
mod waiting;

use rusqlite::Connection;

pub use self::body::ERASE_BYTES_MAX;
pub use self::endpoints::PendingErasures;
pub use self::matcher::PersonMatcher;
pub use self::record::{ERASURE, ErasureRecord, RemovedOutside, Subject};
pub use self::report::{
    ErasureReport, ErasureState, KnownCustomer, erasure, known_customer, orders_of_customers,
};
pub use self::store::PeopleStore;
pub use self::waiting::WaitPauses;
use crate::base::keys::{KeyHash, KeyHasher};
use crate::base::kinds::{Kind, KindRow};
use crate::shard::{Carried, Family, Opening, PartitionInfo, ShardError, Store};

/// Returns every statement that finds a person outside of orders, with its name, for checking query plans.
#[must_use]
pub fn person_statements() -> Vec<(String, String)> {
    vec![
        ("rejected records".to_owned(), rows::REJECTED_SQL.to_owned()),
        ("responses of finished ingests".to_owned(), rows::ANSWERS_SQL.to_owned()),
    ]
}

/// Returns the statement that searches a partition of events for a person, with its name.
#[must_use]
pub fn person_events_statement(partition: &PartitionInfo) -> (String, String) {
    ("events, searched for a person".to_owned(), rows::events_sql(&partition.name))
}

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

    /// The kernel creates the tables, because other families query them.
    fn migrate(&self, connection: &Connection, version: u32) -> Result<(), ShardError> {
        match version {
            // The request that erases several people at once; NULL for one person.
            7 => connection.execute_batch("ALTER TABLE erasure ADD COLUMN batch TEXT")?,
            17 => connection.execute_batch(
                "
ALTER TABLE erasure ADD COLUMN seq INTEGER;          -- its change in the feed
ALTER TABLE erasure ADD COLUMN clicks_upto INTEGER;  -- the last click that it may have deleted
ALTER TABLE erasure ADD COLUMN local_us INTEGER;     -- when nothing was left here but this record; NULL in earlier versions
ALTER TABLE erasure ADD COLUMN sinks TEXT;           -- JSON: the names of the sinks that had it at the end
",
            )?,
            _ => {}
        }
        Ok(())
    }

    fn open(&self, opening: Opening<'_>) -> Result<Box<dyn Store>, ShardError> {
        Ok(Box::new(PeopleStore::open(opening.connection, opening.options)?))
    }

    fn carry(
        &self,
        connection: &Connection,
        _keys: &KeyHasher,
        take: &mut dyn FnMut(Carried) -> Result<(), ShardError>,
    ) -> Result<(), ShardError> {
        carry::carry(connection, take)
    }
}
