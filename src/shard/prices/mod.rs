//! Price events of one shard, what is out of line with them, and what people said to it.
//!
//! In: records of price events and of decisions. Out: prices, anomalies, numbered changes, in the caller's
//! transaction. Owns: the tables of [`schema`], the verdict. Never: asks a clock or a setting: a record carries the
//! limits it is judged by, so that a replay decides as it was decided.
//!
//! A product's events are in one shard and are judged one after the other. An accepted price is one that was in line,
//! one that was approved, or one that was loaded as history.

mod carry;
mod detect;
mod read;
mod record;
mod schema;
mod take;
mod verify;

pub(super) use self::carry::carry;
#[cfg(test)]
pub(super) use self::detect::judge;
pub use self::read::{
    AnomaliesOf, AnomalyLine, AnomalyStatus, ChangeMark, FirstAnswer, PriceChange, StoredAnomaly, anomalies,
    anomaly, change_mark, changes, first_answer,
};
pub use self::record::{
    AnomalyId, Decision, NotAnAnomalyId, PriceEventRow, PriceReviewRow, decode_price_event,
    decode_price_review,
};
pub(super) use self::schema::tables_sql;
pub(super) use self::take::take;
pub(super) use self::verify::verify;
