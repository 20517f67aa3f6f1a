//! Clicks: the collector's events, from any client, stored in order of arrival.
//!
//! In: records of `POST /event`, the parameters of `GET /clicks`. Out: rows in order of arrival, an index by user for
//! every sealed partition, the 202 for a click. Owns: the stream [`CLICKS`]. Never: looks for duplicates, because a
//! click has no id.
//!
//! The listener decodes and journals a click without a call into this folder (`event/fields.rs`, `ingest/click.rs`),
//! because its path has a budget of a few hundred nanoseconds.

mod answer;
pub mod endpoints;
pub mod openapi;
mod query;
mod read;
mod record;
mod schema;
mod seal;
pub mod shapes;
mod store;

use rusqlite::Connection;

pub use self::answer::{AcceptedWriter, retract};
pub use self::query::{click_selection, rows_plan};
pub use self::read::{ClickFilter, click_statements};
pub use self::record::{ClickRow, decode};
pub use self::schema::CLICKS;
pub use self::store::ClickStore;
use crate::base::keys::{KeyHash, KeyHasher};
use crate::base::kinds::{Kind, KindRow};
use crate::ingest::{CLICK, encode_header};
use crate::shard::{Carried, Family, Opening, ShardError, Store, Stream, carry_stream};

/// The family of clicks.
#[derive(Clone, Copy, Debug)]
pub struct Clicks;

impl Family for Clicks {
    fn kinds(&self) -> &'static [KindRow] {
        record::KINDS
    }

    fn streams(&self) -> &'static [&'static Stream] {
        static STREAMS: &[&Stream] = &[&CLICKS];
        STREAMS
    }

    fn key_of(&self, _keys: &KeyHasher, _kind: Kind, _payload: &[u8]) -> Option<KeyHash> {
        None
    }

    fn migrate(&self, connection: &Connection, version: u32) -> Result<(), ShardError> {
        schema::migrate(connection, version)
    }

    fn open(&self, opening: Opening<'_>) -> Result<Box<dyn Store>, ShardError> {
        Ok(Box::new(ClickStore::open(opening)?))
    }

    fn carry(
        &self,
        connection: &Connection,
        _keys: &KeyHasher,
        take: &mut dyn FnMut(Carried) -> Result<(), ShardError>,
    ) -> Result<(), ShardError> {
        let record = |row: &rusqlite::Row<'_>| {
            let header = encode_header(row.get(1)?, row.get(2)?, row.get(3)?);
            let metadata = row.get_ref(4)?.as_str().map_err(rusqlite::Error::from)?;
            Ok(Carried::Row(CLICK, [&header, metadata.as_bytes()].concat()))
        };
        carry_stream(connection, &CLICKS, record, take)
    }
}
