//! Orders: stores each of a tenant's orders once, with its items. Also stores the names that orders repeat, and sums
//! over time.
//!
//! In: ingest bodies, status changes, search parameters. Out: summaries, orders; in a shard, rows, sums and sketches in
//! the caller's transaction. Owns: the tables of [`schema`], the ingests' idempotency keys, the meaning of an order.
//! Never: decides which shard an order belongs to, or holds a whole body.
//!
//! The order's own id selects the shard, so one shard alone knows whether the tenant already has the order. Names that
//! repeat (customers, products, categories) are stored once in each shard that has an order with them.

mod answer;
mod batch_groups;
mod body;
mod carry;
mod day_runs;
mod dropped;
mod dropped_tenant;
pub mod endpoints;
mod erase;
mod free_rows;
mod ingest;
mod names;
pub mod openapi;
mod query;
mod read;
mod record;
mod redact;
mod sales_days;
mod schema;
mod seal;
mod search;
mod search_stream;
mod segment;
pub mod shapes;
mod status;
mod store;
mod sums;
mod sums_by;
mod verify;
mod words;

use rusqlite::Connection;

pub use self::body::{
    Item, Items, ORDER_BYTES_MAX, Order, OrderDecoder, OrderError, OrderFault, OrderFaults, OrderPointer,
};
pub use self::day_runs::DayRuns;
pub use self::endpoints::OrderLines;
pub(crate) use self::erase::{ErasureEffect, customers_of, orders_of};
pub use self::ingest::{IngestError, IngestResponse, OrderIngest, SkippedPart, Summary};
pub use self::query::{finished_ingest, last_sale};
pub use self::read::{
    BatchBounds, BatchItem, BatchOrder, ChosenOrder, FinishedIngest, ORDER_FIELDS, OneOrder, OrderBatch,
    OrderFilter, OrderSource, ProductSale, SelectionCursor, StepCache, choose_orders, find_ingest,
    forget_pages, held_customer, held_order, known_products, order_statements, read_orders, sales_version,
    statements,
};
pub use self::record::{
    DroppedSumRow, INGEST, ITEM_IDS, IngestRow, ItemRow, ORDER, ORDER_STATUS, OrderParts, OrderRow,
    SALES_DROPPED, StatusRow, decode_dropped_sum, decode_ingest, decode_order, decode_status, encode_order,
};
pub(crate) use self::redact::without_order_ids;
pub use self::sales_days::{
    SalesFilter, currencies, day_of, days_without_rows, days_without_sums, sales_days,
};
pub(crate) use self::schema::{ORDER_IDS, by_customer, items_of, unfreed};
pub use self::schema::{ORDERS, item_ids, items_sql};
pub use self::search::order_filter;
pub use self::search_stream::Search;
pub use self::segment::{
    NextOrders, SegmentColumns, SegmentHead, next_orders, read_segment, read_segment_products,
    rows_as_columns, segmented_to,
};
pub use self::shapes::{IngestFault, IngestSummary, OrderState};
pub use self::status::OrderStatus;
pub use self::store::OrderStore;
pub use self::sums_by::SumsBy;
pub(crate) use self::words::{delete_words, merge_words};
use crate::base::keys::{KeyHash, KeyHasher};
use crate::base::kinds::{Kind, KindRow};
use crate::shard::{Carried, Family, Opening, ShardError, Store, Stream, total};

/// The family of order records.
#[derive(Clone, Copy, Debug)]
pub struct Orders;

impl Family for Orders {
    fn kinds(&self) -> &'static [KindRow] {
        record::KINDS
    }

    fn streams(&self) -> &'static [&'static Stream] {
        static STREAMS: &[&Stream] = &[&ORDERS];
        STREAMS
    }

    fn key_of(&self, keys: &KeyHasher, kind: Kind, payload: &[u8]) -> Option<KeyHash> {
        match kind {
            ORDER => decode_order(payload).map(|row| keys.hash(row.tenant_id, row.order_id)),
            ORDER_STATUS => decode_status(payload).map(|row| keys.hash(row.tenant_id, row.order_id)),
            INGEST => decode_ingest(payload).map(|row| keys.hash(row.scope, row.key)),
            // Every shard may have it. The key distributes the days.
            SALES_DROPPED => decode_dropped_sum(payload)
                .map(|row| keys.hash(row.tenant_id, &sales_days::day_of(row.start_us).to_string())),
            _ => None,
        }
    }

    fn migrate(&self, connection: &Connection, version: u32) -> Result<(), ShardError> {
        schema::migrate(connection, version)
    }

    fn open(&self, opening: Opening<'_>) -> Result<Box<dyn Store>, ShardError> {
        Ok(Box::new(OrderStore::open(opening)?))
    }

    fn carry(
        &self,
        connection: &Connection,
        _keys: &KeyHasher,
        take: &mut dyn FnMut(Carried) -> Result<(), ShardError>,
    ) -> Result<(), ShardError> {
        carry::carry(connection, take)
    }

    /// Deletes the keys of ingests that finished at or after `began_us`. If a client repeats such an ingest, its rows
    /// arrive again and are recognised by their lines.
    fn forget_since(&self, copy: &Connection, began_us: i64) -> Result<(), ShardError> {
        copy.execute("DELETE FROM ingest_key WHERE finished_us >= ?1", [began_us])?;
        Ok(())
    }

    fn verify(&self, connection: &Connection, problems: &mut Vec<String>) -> Result<(), ShardError> {
        words::verify_entries(connection, problems)
    }

    fn verify_aggregates(
        &self,
        connection: &Connection,
        problems: &mut Vec<String>,
    ) -> Result<u64, ShardError> {
        verify::verify_sales(connection, problems)?;
        segment::verify_segments(connection, problems)?;
        words::verify_words(connection, problems)?;
        total(connection, ORDERS.total)
    }
}
