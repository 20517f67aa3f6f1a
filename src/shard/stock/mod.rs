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
mod take;
#[cfg(test)]
mod tests;
mod verify;

pub(super) use self::carry::carry_stock;
pub use self::decide::StockCode;
pub use self::read::{StockDecision, StockLevel, StockResult, stock_decisions, stock_level};
pub use self::record::{StockEvent, StockUpdateRow, decode_stock_update, encode_stock_update};
pub(super) use self::schema::tables_sql;
pub(super) use self::take::{store_history, take};
pub use self::verify::verify_stock;
