//! Orders of one shard: each once, with its items, the names it repeats, and the sums over time.
//!
//! In: records of orders, of new statuses, of finished ingests. Out: rows, sums and sketches, in the caller's
//! transaction. Owns: the tables of [`schema`]. Never: decides which shard an order belongs to.
//!
//! An order is placed by its own id, so that a shard alone can tell whether the tenant has it. Names that
//! repeat (customers, products, categories) are stored once in each shard that has an order of them.

mod carry;
mod erase;
mod names;
mod observed;
mod read;
mod record;
mod sales;
mod schema;
mod seal;
mod sums;
mod take;
mod verify;
mod words;

use rusqlite::Connection;

pub(super) use self::carry::carry_orders;
pub(super) use self::erase::{Becomes, customers_of, orders_of};
pub use self::observed::{Observed, PriceRow, StockChange, StockRow, decode_price, decode_stock};
pub(super) use self::observed::{currency_of, price_of};
pub(super) use self::read::statements;
pub(super) use self::read::step;
pub use self::read::{
    BatchBounds, BatchItem, BatchOrder, Choosing, ChosenOrder, ExportedFrom, FinishedIngest, Met, NameCache,
    ORDER_FIELDS, OneOrder, OrderBatch, OrdersOf, Span, choose_orders, find_ingest, forget_pages,
    order_statements, read_orders, sales_version,
};
pub use self::record::{
    IngestRow, ItemRow, OrderParts, OrderRow, StatusRow, decode_ingest, decode_order, decode_status,
    encode_order,
};
pub use self::sales::{
    PartsReading, SalesOf, SalesSum, Single, SingleSale, SingleSales, SumKey, sales_bounds, sales_days,
    sales_starts, sales_sums, single_parts, single_sales, span_of,
};
pub(super) use self::schema::{ITEM_COLUMNS, items_of, partition_sql, status_times_sql, tables_sql};
pub(super) use self::seal::Building;
pub use self::sums::SumsBy;
pub(super) use self::take::{Batch, Taken, Taker};
pub(super) use self::verify::verify_sales;
pub(super) use self::words::{delete_words, make_words, merge_words, verify_entries, verify_words};

pub(super) use self::names::Names;
use self::sums::Sums;
use super::error::ShardError;
use super::ids::{self, Ids};
use super::partition::{Partition, firsts};
use super::rebuild;
use super::stream::Stream;
use crate::base::keys::KeyHasher;

/// What records beside the orders are stored with.
pub(super) struct Beside<'t> {
    pub(super) connection: &'t Connection,
    pub(super) keys: &'t KeyHasher,
    /// Numbers of tenants; what a rolled back transaction gave out is forgotten.
    pub(super) names: &'t mut Names,
    /// Changes of prices that got a number.
    pub(super) price_changes: &'t mut u64,
}

/// What is kept in memory of a shard's orders.
#[derive(Debug)]
pub(super) struct Orders {
    /// The partition orders go to; none before the first order.
    pub(super) open: Option<Partition>,
    /// First row id and table of every partition.
    pub(super) firsts: Vec<(i64, String)>,
    pub(super) ids: Ids,
    names: Names,
    sums: Sums,
    pub(super) building: Option<Building>,
    /// A sealed partition may want its tables by product and customer.
    pub(super) seal_due: bool,
}

impl Orders {
    pub(super) fn load(connection: &mut Connection, keys: &KeyHasher) -> Result<Orders, ShardError> {
        Ok(Orders {
            ids: rebuild::load_ids(connection, keys, ids::ORDERS)?,
            open: Partition::load(connection, Stream::Order)?,
            firsts: firsts(connection, Stream::Order)?,
            names: Names::default(),
            sums: Sums::default(),
            building: None,
            seal_due: seal::is_due(connection)?,
        })
    }

    /// What was staged is committed.
    pub(super) fn committed(&mut self) {
        self.ids.committed();
        self.names.committed();
        self.sums.clear();
    }

    /// Nothing of it is.
    pub(super) fn rolled_back(&mut self) {
        self.ids.rolled_back();
        self.names.rolled_back();
        self.sums.clear();
    }
}
