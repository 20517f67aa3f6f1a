//! Product stock, which always equals the result of its events.
//!
//! In: bulk update bodies; records of events from before this program managed stock. Out: the decision on every
//! product; in a shard, events, levels and decisions in the caller's transaction. Owns: the tables of [`schema`], the
//! request numbers. Never: decides which shard a product belongs to, or forgets an event that counts.
//!
//! The hash of (tenant, product id) selects a product's shard. A shard has one writer, so a product's records are
//! decided one at a time. [`decide`] alone defines the effect of a record on a level. The writer and the recount
//! ([`verify`]) both use it.

mod answer;
mod batch;
mod body;
mod carry;
mod convert;
mod decide;
mod dropped;
pub mod endpoints;
mod history;
mod kept;
mod levels;
mod list;
mod mode;
pub mod openapi;
mod query;
mod read;
mod record;
mod schema;
pub mod shapes;
mod store;
mod verify;

use rusqlite::Connection;

pub use self::decide::StockCode;
pub use self::endpoints::RequestNumbers;
pub use self::mode::StockMode;
pub use self::read::{
    StockDecision, StockLevel, StockResult, stock_decisions, stock_level, stock_levels, stock_statements,
};
pub use self::record::{
    DroppedEvent, STOCK, STOCK_DROPPED, STOCK_UPDATE, StockChange, StockDroppedRow, StockEvent, StockRow,
    StockUpdateRow, decode_stock, decode_stock_dropped, decode_stock_update, encode_stock_update,
};
#[cfg(test)]
pub(crate) use self::schema::{DROPPED_SQL, append_events, set_back, tables_sql};
#[cfg(test)]
pub(crate) use self::store::StockStore;
#[cfg(test)]
pub(crate) use self::verify::recount;
pub use self::verify::verify_stock;
use crate::base::keys::{KeyHash, KeyHasher};
use crate::base::kinds::{Kind, KindRow};
use crate::shard::{Carried, Family, Ledger, Opening, ShardError, Store};

/// The events of stock.
pub static STOCK_EVENTS: Ledger = Ledger {
    place: 4,
    name: "stock_event",
    all: "stock_event_all",
    tables: &["stock_event"],
    next_id_sql: schema::NEXT_ID_SQL,
    setting: "stock",
};

/// The family of stock records.
#[derive(Clone, Copy, Debug)]
pub struct Stock;

impl Family for Stock {
    fn kinds(&self) -> &'static [KindRow] {
        record::KINDS
    }

    fn key_of(&self, keys: &KeyHasher, kind: Kind, payload: &[u8]) -> Option<KeyHash> {
        match kind {
            STOCK => {
                decode_stock(payload).map(|row| keys.hash(row.observed.tenant_id, row.observed.product_id))
            }
            STOCK_UPDATE => decode_stock_update(payload).map(|row| keys.hash(row.tenant_id, row.product_id)),
            STOCK_DROPPED => {
                decode_stock_dropped(payload).map(|row| keys.hash(row.tenant_id, row.product_id))
            }
            _ => None,
        }
    }

    fn migrate(&self, connection: &Connection, version: u32) -> Result<(), ShardError> {
        schema::migrate(connection, version)
    }

    fn ledgers(&self) -> &'static [&'static Ledger] {
        static LEDGERS: &[&Ledger] = &[&STOCK_EVENTS];
        LEDGERS
    }

    fn open(&self, opening: Opening<'_>) -> Result<Box<dyn Store>, ShardError> {
        Ok(Box::new(store::StockStore::open(opening)?))
    }

    fn carry(
        &self,
        connection: &Connection,
        keys: &KeyHasher,
        take: &mut dyn FnMut(Carried) -> Result<(), ShardError>,
    ) -> Result<(), ShardError> {
        carry::carry(connection, keys, take)
    }
}
