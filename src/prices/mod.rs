//! Product price events, their anomalies, and the decisions on the anomalies.
//!
//! In: price events and decisions, list parameters, subscriptions to changes. Out: the verdict on a price, lists and
//! a live stream of anomalies; in a shard, prices, anomalies and numbered changes in the caller's transaction. Owns:
//! the tables of [`schema`], the series of prices in memory, the verdict, each core's ring of changes. Never: judges by the clock or a setting. A
//! record contains the limits by which it is judged, so that a replay reaches the same verdict.
//!
//! A product's events are in one shard and are judged one at a time. An accepted price is one without an anomaly, one
//! that was approved, or one that was loaded as history.

mod answer;
mod body;
mod carry;
mod convert;
mod detect;
mod dropped;
pub mod endpoints;
mod history;
pub mod openapi;
mod product;
mod query;
mod read;
mod record;
mod schema;
mod series;
pub mod shapes;
mod store;
mod verify;

use rusqlite::Connection;

#[cfg(test)]
pub(crate) use self::detect::judge;
pub use self::endpoints::changes::Hub;
pub use self::history::{PriceRow, decode_price};
pub use self::product::{NewestPrice, OpenAnomalies, open_anomalies, price_statements, priced_products};
pub use self::read::{
    AnomalyFilter, AnomalyLine, AnomalyStatus, ChangeMark, FirstAnswer, PriceChange, StoredAnomaly,
    anomalies, anomaly, change_mark, changes, dropped_changes, first_answer, has_event,
};
pub use self::record::{
    AnomalyId, Decision, NotAnAnomalyId, PRICE, PRICE_EVENT, PRICE_REVIEW, PriceEventRow, PriceReviewRow,
    decode_price_event, decode_price_review,
};
#[cfg(test)]
pub(crate) use self::schema::set_back;
#[cfg(test)]
pub(crate) use self::store::PriceStore;
use crate::base::keys::{KeyHash, KeyHasher};
use crate::base::kinds::{Kind, KindRow};
use crate::base::observed::Observed;
use crate::shard::{Carried, Family, Ledger, Opening, ShardError, Store};

/// The observed prices, with their events and anomalies.
pub static PRICE_ROWS: Ledger = Ledger {
    place: 3,
    name: "price_row",
    all: "price_row_all",
    tables: &["price_row", "price_sorted", "price_anomaly"],
    next_id_sql: schema::NEXT_ID_SQL,
    setting: "prices",
};

/// The family of price records.
#[derive(Clone, Copy, Debug)]
pub struct Prices;

impl Family for Prices {
    fn kinds(&self) -> &'static [KindRow] {
        record::KINDS
    }

    fn key_of(&self, keys: &KeyHasher, kind: Kind, payload: &[u8]) -> Option<KeyHash> {
        // A product's whole history is in one shard.
        let place = |observed: &Observed<'_>| keys.hash(observed.tenant_id, observed.product_id);
        match kind {
            PRICE => decode_price(payload).map(|row| place(&row.observed)),
            PRICE_EVENT => decode_price_event(payload).map(|event| place(&event.row.observed)),
            PRICE_REVIEW => decode_price_review(payload).map(|row| row.anomaly.place()),
            _ => None,
        }
    }

    fn migrate(&self, connection: &Connection, version: u32) -> Result<(), ShardError> {
        schema::migrate(connection, version)
    }

    fn ledgers(&self) -> &'static [&'static Ledger] {
        static LEDGERS: &[&Ledger] = &[&PRICE_ROWS];
        LEDGERS
    }

    fn open(&self, opening: Opening<'_>) -> Result<Box<dyn Store>, ShardError> {
        Ok(Box::new(store::PriceStore::open(opening)?))
    }

    fn carry(
        &self,
        connection: &Connection,
        _keys: &KeyHasher,
        take: &mut dyn FnMut(Carried) -> Result<(), ShardError>,
    ) -> Result<(), ShardError> {
        carry::carry(connection, take)
    }

    fn verify_aggregates(
        &self,
        connection: &Connection,
        problems: &mut Vec<String>,
    ) -> Result<u64, ShardError> {
        verify::verify(connection, problems).map(|()| 0)
    }
}
