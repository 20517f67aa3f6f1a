//! Segments: the orders of a partition once more, by columns, for questions that need most of them.
//!
//! In: the rows of [`SEGMENT_ORDERS`](layout::SEGMENT_ORDERS) consecutive orders. Out: the same orders as columns of
//! integers, a tenth of the time per order. Owns: `sales_segment`, `sales_segment_stale`. Never: the only place of
//! anything; each segment can be made again from its rows.
//!
//! ```text
//! rows ──► build (a thread) ──► make (upkeep, one transaction) ──► read (questions)
//!            ▲                   │                                  ▲
//!            └─── merge ◄────────┘  changes, deletions ──► stale ───┘ applied by every reader
//! ```
//!
//! Upkeep makes segments of the open partition too, for every 1,024 orders, so that fewer of a shard have to be read from
//! rows. Once 16,384 orders are in such segments, or the partition is sealed, one segment replaces them. A later change of an order's status does not change the segment.
//! Readers apply it from a list. If an order is deleted or assigned to a pseudonym, its customer's hash in the
//! segment is replaced in the same transaction, because erased people leave no trace. A segment of which more than a
//! hundredth is on the list is made again.

mod build;
mod column;
mod columns;
mod layout;
mod make;
mod merge;
mod read;
mod schema;
mod stale;
mod verify;

pub use self::columns::SegmentColumns;
pub use self::layout::SegmentHead;
pub(super) use self::make::{SegmentChange, Segments, drop_unreachable};
pub use self::read::{
    NextOrders, next_orders, read_segment, read_segment_products, rows_as_columns, segmented_to,
};
pub(super) use self::read::{segment_with, undamaged};
pub(super) use self::schema::{BYTES_SQL, SINCE, tables_sql};
pub(super) use self::verify::verify_segments;

/// Returns every statement that reads segments, with its name, for checking query plans.
pub(super) fn segment_statements() -> Vec<(String, String)> {
    let statements = [
        ("the head of a segment", read::HEAD_SQL),
        ("the next segment", read::NEXT_SQL),
        ("the last segment of a partition", read::LAST_SQL),
        ("the columns of a segment", read::COLUMNS_SQL),
        ("orders that have changed since", stale::STALE_SQL),
    ];
    statements.map(|(name, sql)| (name.to_owned(), sql.to_owned())).to_vec()
}

/// Returns the statements that read a partition's rows as columns, with their names.
pub(super) fn row_statements(partition: &str) -> Vec<(String, String)> {
    vec![
        ("orders of a segment".to_owned(), build::orders_sql(partition)),
        ("items of a segment".to_owned(), build::items_sql(partition)),
    ]
}
