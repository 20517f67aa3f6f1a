//! The stock of one shard's products, kept equal to what happened to it.
//!
//! In: records of what one request changes of one product, and of what happened before this program kept stock.
//! Out: events, levels and what was decided of each record, in the caller's transaction. Owns: the tables of
//! [`schema`]. Never: decides which shard a product belongs to; forgets an event that counts.
//!
//! A product is placed by (tenant, product id), and a shard has one writer: what [`take`] decides of a product it
//! decides one record after the other. [`decide`] alone says what a record does to a level; the writer and the
//! recount ([`verify`]) both ask it.

mod carry;
mod decide;
mod history;
mod read;
mod record;
mod schema;
mod store;
mod verify;

use rusqlite::Connection;

pub use self::decide::StockCode;
pub use self::read::{StockDecision, StockLevel, StockResult, stock_decisions, stock_level};
pub use self::record::{
    STOCK, STOCK_UPDATE, StockChange, StockEvent, StockRow, StockUpdateRow, decode_stock,
    decode_stock_update, encode_stock_update,
};
#[cfg(test)]
pub(crate) use self::schema::tables_sql;
#[cfg(test)]
pub(crate) use self::verify::recount;
pub use self::verify::verify_stock;
use crate::base::keys::{KeyHash, KeyHasher};
use crate::base::kinds::{Kind, KindRow};
use crate::shard::{Carried, Family, Opening, ShardError, Stateless, Store};

/// The family of stock.
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
            _ => None,
        }
    }

    fn migrate(&self, connection: &Connection, version: u32) -> Result<(), ShardError> {
        schema::migrate(connection, version)
    }

    fn open(&self, _opening: Opening<'_>) -> Result<Box<dyn Store>, ShardError> {
        Ok(Box::new(Stateless(store::write)))
    }

    fn carry(
        &self,
        connection: &Connection,
        take: &mut dyn FnMut(Carried) -> Result<(), ShardError>,
    ) -> Result<(), ShardError> {
        carry::carry(connection, take)
    }
}
