//! Idempotent events: each of a tenant's event ids is stored once, and its event is counted in time buckets.
//!
//! In: bodies of `POST /events` and `/events/bulk`, parameters of `GET /events` and `/metrics`. Out: rows in order of
//! arrival, their ids and their buckets; pages, and counts over time. Owns: the stream [`EVENTS`], its ids and the
//! bucket tables. Never: decides which shard an event belongs to.

mod answer;
mod body;
mod bucket_query;
mod buckets;
mod bulk;
mod count;
mod distinct;
mod dropped;
pub mod endpoints;
mod groups;
mod newest;
pub mod openapi;
mod order;
mod payload_value;
mod query;
mod read;
mod record;
mod scan;
mod schema;
mod seal;
pub mod shapes;
mod store;
mod summary;
mod verify;

use rusqlite::Connection;

pub use self::body::ServiceEvent;
pub use self::bucket_query::buckets;
pub use self::buckets::Buckets;
pub use self::count::{Bucket, bucket_counts, bucket_statements};
#[cfg(test)]
pub(crate) use self::order::OrderLimits;
pub use self::query::{BucketsPlan, event_selection, rows_plan};
pub use self::read::{EventFilter, event_statements};
pub use self::record::{SERVICE_EVENT, ServiceEventRow, decode_service_event};
pub(crate) use self::schema::EVENT_IDS;
pub use self::schema::EVENTS;
pub use self::seal::drop_build;
pub use self::shapes::{Metric, Metrics};
pub use self::store::EventStore;
use crate::base::keys::{KeyHash, KeyHasher};
use crate::base::kinds::{Kind, KindRow};
use crate::shard::{Carried, Family, Opening, ShardError, Store, Stream, carry_stream};

/// The family of idempotent events.
#[derive(Clone, Copy, Debug)]
pub struct Events;

impl Family for Events {
    fn kinds(&self) -> &'static [KindRow] {
        record::KINDS
    }

    fn streams(&self) -> &'static [&'static Stream] {
        static STREAMS: &[&Stream] = &[&EVENTS];
        STREAMS
    }

    fn key_of(&self, keys: &KeyHasher, _kind: Kind, payload: &[u8]) -> Option<KeyHash> {
        decode_service_event(payload).map(|row| keys.hash(row.tenant_id, row.event_id))
    }

    fn migrate(&self, connection: &Connection, version: u32) -> Result<(), ShardError> {
        schema::migrate(connection, version)
    }

    fn open(&self, opening: Opening<'_>) -> Result<Box<dyn Store>, ShardError> {
        Ok(Box::new(EventStore::open(opening)?))
    }

    fn carry(
        &self,
        connection: &Connection,
        _keys: &KeyHasher,
        take: &mut dyn FnMut(Carried) -> Result<(), ShardError>,
    ) -> Result<(), ShardError> {
        let record = |row: &rusqlite::Row<'_>| {
            let text = |at: usize| row.get_ref(at)?.as_str().map_err(rusqlite::Error::from);
            let mut payload = Vec::new();
            ServiceEventRow {
                tenant_id: text(1)?,
                event_id: text(2)?,
                source: text(3)?,
                event_type: text(4)?,
                timestamp_us: row.get(5)?,
                received_us: row.get(6)?,
                payload: text(7)?,
            }
            .encode(&mut payload);
            Ok(Carried::Row(SERVICE_EVENT, payload))
        };
        carry_stream(connection, &EVENTS, record, take)
    }

    fn verify_aggregates(
        &self,
        connection: &Connection,
        problems: &mut Vec<String>,
    ) -> Result<u64, ShardError> {
        verify::verify_aggregates(connection, problems)
    }
}
