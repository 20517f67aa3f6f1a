//! Clicks: the collector's events, from any client, stored in order of arrival.
//!
//! In: records of `POST /event`. Out: rows in order of arrival, and an index by user for every sealed partition.
//! Owns: the stream [`CLICKS`]. Never: looks for duplicates, because a click has no id.

mod read;
mod record;
mod schema;
mod seal;
mod store;

use rusqlite::Connection;

pub use self::read::{ClicksOf, click_statements, count};
pub use self::record::{CLICK, CLICK_HEADER_BYTES, ClickRow, decode, encode_header};
pub use self::schema::CLICKS;
pub use self::store::ClickStore;
use crate::base::keys::{KeyHash, KeyHasher};
use crate::base::kinds::{Kind, KindRow};
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
