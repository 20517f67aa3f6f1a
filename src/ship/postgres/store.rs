//! Stores the rows of one stream: directly by COPY, or through a staging table if some may be there already.

use super::connect::Session;
use super::copy::{CopyBuffer, copy};
use super::error::Failure;
use super::places::Origin;
use super::slice::Slice;
use super::tables::{CLICKS, EVENTS, ORDER_ITEMS, ORDERS, PRICE_HISTORY, STOCK_EVENTS, Table};
use super::{derive, effects, encode};
use crate::ship::rows::OrderRow;

/// The way in which rows are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// A row whose key is known is an error.
    Direct,
    /// A row whose key is known is noted in `fh.twice`. With `is_raw`, JSON is stored as text.
    Staged { is_raw: bool },
}

/// The outcome of rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) rows: u64,
    pub(super) twice: u64,
    /// Rows were deleted whose bytes are still in the files of tables.
    pub(super) has_erased: bool,
}

/// The shard whose rows are stored, and the connection.
pub(super) struct Context<'a> {
    pub(super) session: &'a Session,
    pub(super) origin: Origin,
    /// Every epoch of the file, with where each began.
    pub(super) epochs: &'a super::places::KnownEpochs,
}

/// Stores successive rows of one batch, inside a transaction.
pub(super) async fn store(context: &Context<'_>, rows: Slice<'_>, manner: Manner) -> Result<Stored, Failure> {
    let (session, origin) = (context.session, &context.origin);
    let is_raw = manner == Manner::Staged { is_raw: true };
    match rows {
        // Clicks have no key, so none is there already.
        Slice::Clicks(rows) => {
            let rows = copy(session, &CLICKS, "fh.clicks", rows, |buffer, row| {
                encode::click(buffer, origin, row, is_raw);
            });
            Ok(Stored { rows: rows.await?, ..Stored::default() })
        }
        Slice::Events(rows) => {
            let rows = sorted(rows, |row| (&row.tenant_id, &row.event_id));
            let encode = |buffer: &mut CopyBuffer, row| encode::event(buffer, origin, row, is_raw);
            keyed(session, manner, &Keyed::EVENTS, rows, encode).await
        }
        Slice::Orders(rows) => {
            let rows = sorted(rows, |row| (&row.tenant_id, &row.order_id));
            orders(session, origin, manner, &rows).await
        }
        Slice::StockEvents(rows) => {
            let by_key = sorted(rows, |row| (&row.tenant_id, &row.product_id, &row.event_id));
            let encode = |buffer: &mut CopyBuffer, row| encode::stock_event(buffer, origin, row);
            let stored = keyed(session, manner, &Keyed::STOCK_EVENTS, by_key, encode).await?;
            derive::stock(session, origin, rows).await?;
            Ok(stored)
        }
        Slice::Prices(rows) => {
            let by_key = sorted(rows, |row| {
                (&row.tenant_id, &row.product_id, &row.currency, row.observed_at_us, &row.event_id)
            });
            let encode = |buffer: &mut CopyBuffer, row| encode::price(buffer, origin, row);
            let stored = keyed(session, manner, &Keyed::PRICES, by_key, encode).await?;
            derive::prices(session, rows.iter().filter(|row| row.is_accepted).map(derive::Price::of)).await?;
            Ok(stored)
        }
        Slice::Changes(rows) => effects::apply(context, rows).await,
    }
}

/// Returns the rows in the order of their keys. Transactions that insert the same keys then wait for each other, and
/// never in a circle. Neighbours in an index are also inserted one after another.
fn sorted<'a, R, K: Ord>(rows: &'a [R], key: impl Fn(&'a R) -> K) -> Vec<&'a R> {
    let mut rows: Vec<&R> = rows.iter().collect();
    rows.sort_by_key(|row| key(row));
    rows
}

/// A table whose rows may arrive from several nodes.
struct Keyed {
    table: &'static Table,
    stream: &'static str,
    /// The key in `fh.twice`, as SQL over the staged row `s`.
    key_sql: &'static str,
    /// The columns that make two rows with one key equal.
    content: &'static [&'static str],
}

impl Keyed {
    const EVENTS: Keyed = Keyed {
        table: &EVENTS,
        stream: "service_event",
        key_sql: "s.event_id",
        content: &["source", "event_type", "occurred_at", "payload", "payload_raw"],
    };
    const ORDERS: Keyed = Keyed {
        table: &ORDERS,
        stream: "sales_order",
        key_sql: "s.order_id",
        content: &[
            "customer_id",
            "customer_name",
            "customer_email",
            "first_status",
            "currency",
            "ordered_at",
            "total",
        ],
    };
    const STOCK_EVENTS: Keyed = Keyed {
        table: &STOCK_EVENTS,
        stream: "stock_event",
        key_sql: "s.product_id || ' ' || s.event_id",
        content: &["kind", "number", "occurred_at"],
    };
    const PRICES: Keyed = Keyed {
        table: &PRICE_HISTORY,
        stream: "price_row",
        key_sql: "s.product_id || ' ' || s.event_id",
        content: &["price"],
    };
}

async fn keyed<R>(
    session: &Session,
    manner: Manner,
    keyed: &Keyed,
    rows: impl IntoIterator<Item = R>,
    encode: impl FnMut(&mut CopyBuffer, R),
) -> Result<Stored, Failure> {
    let table = keyed.table;
    if manner == Manner::Direct {
        let rows = copy(session, table, &format!("fh.{}", table.name), rows, encode).await?;
        return Ok(Stored { rows, ..Stored::default() });
    }
    let staged = stage(session, table, rows, encode).await?;
    let (name, names) = (table.name, table.names());
    let key = table.key.join(", ");
    let order = table.key_order();
    let insert = format!(
        "INSERT INTO fh.{name} ({names}) SELECT {names} FROM stage_{name} ORDER BY {order} \
         ON CONFLICT ({key}) DO NOTHING"
    );
    let insert = session.prepare(&insert).await?;
    let rows = session.client.execute(&insert, &[]).await?;
    let twice = if rows < staged { note_twice(session, keyed).await? } else { 0 };
    Ok(Stored { rows, twice, ..Stored::default() })
}

/// Writes rows to the staging table of a table, which is empty then but for them.
async fn stage<R>(
    session: &Session,
    table: &Table,
    rows: impl IntoIterator<Item = R>,
    encode: impl FnMut(&mut CopyBuffer, R),
) -> Result<u64, Failure> {
    let name = table.name;
    session.client.batch_execute(&format!("TRUNCATE stage_{name}")).await?;
    copy(session, table, &format!("stage_{name}"), rows, encode).await
}

/// Creates the staging tables of a stream, which last as long as the connection.
pub(super) async fn create_stages(session: &Session, rows: Slice<'_>) -> Result<(), Failure> {
    let tables: &[&Table] = match rows {
        Slice::Events(_) => &[&EVENTS],
        Slice::Orders(_) => &[&ORDERS, &ORDER_ITEMS],
        Slice::StockEvents(_) => &[&STOCK_EVENTS],
        Slice::Prices(_) => &[&PRICE_HISTORY],
        Slice::Clicks(_) | Slice::Changes(_) => &[],
    };
    for table in tables {
        let columns: Vec<String> =
            table.columns.iter().map(|column| format!("{} {}", column.name, column.sql_type)).collect();
        let name = table.name;
        let sql = format!(
            "CREATE TEMP TABLE IF NOT EXISTS stage_{name} ({}) ON COMMIT DELETE ROWS",
            columns.join(", ")
        );
        session.client.batch_execute(&sql).await?;
    }
    Ok(())
}

/// Notes the staged rows that were not inserted: those whose key belongs to a row of another origin.
async fn note_twice(session: &Session, keyed: &Keyed) -> Result<u64, Failure> {
    let Keyed { table, stream, key_sql, content } = keyed;
    let name = table.name;
    let differs: Vec<String> =
        content.iter().map(|column| format!("s.{column} IS DISTINCT FROM t.{column}")).collect();
    let (differs, same_key) = (differs.join(" OR "), table.same_key("s", "t"));
    let sql = format!(
        "INSERT INTO fh.twice (node, shard, epoch, stream, id, table_name, tenant_id, key, differs) \
         SELECT s.node, s.shard, s.epoch, '{stream}', s.id, '{name}', s.tenant_id, {key_sql}, {differs} \
         FROM stage_{name} s JOIN fh.{name} t ON {same_key} \
         WHERE s.node <> t.node OR s.shard <> t.shard OR s.epoch <> t.epoch OR s.id <> t.id"
    );
    let sql = session.prepare(&sql).await?;
    Ok(session.client.execute(&sql, &[]).await?)
}

/// Stores orders with their items. An order that is there keeps its items.
async fn orders(
    session: &Session,
    origin: &Origin,
    manner: Manner,
    rows: &[&OrderRow],
) -> Result<Stored, Failure> {
    let items = rows.iter().flat_map(|&order| order.items.iter().map(move |item| (order, item)));
    let encode_order = |buffer: &mut CopyBuffer, row| encode::order(buffer, origin, row);
    let encode_item = |buffer: &mut CopyBuffer, row| encode::item(buffer, origin, row);
    let by_key = rows.iter().copied();
    let stored = keyed(session, manner, &Keyed::ORDERS, by_key, encode_order).await?;
    if manner == Manner::Direct {
        copy(session, &ORDER_ITEMS, "fh.order_items", items, encode_item).await?;
        return Ok(stored);
    }
    stage(session, &ORDER_ITEMS, items, encode_item).await?;
    let insert = format!(
        "INSERT INTO fh.order_items ({}) SELECT {} FROM stage_order_items i JOIN fh.orders o \
         ON o.tenant_id = i.tenant_id AND o.order_id = i.order_id \
         WHERE o.node = i.node AND o.shard = i.shard AND o.epoch = i.epoch AND o.id = i.id \
         ORDER BY i.tenant_id, i.order_id, i.line",
        ORDER_ITEMS.names(),
        ORDER_ITEMS.names_of("i")
    );
    let insert = session.prepare(&insert).await?;
    session.client.execute(&insert, &[]).await?;
    if stored.twice > 0 {
        compare_items(session).await?;
        adopt_status(session, origin).await?;
    }
    Ok(stored)
}

/// Notes which staged orders have other items than the stored ones.
async fn compare_items(session: &Session) -> Result<(), Failure> {
    const ITEMS: &str = "md5(string_agg(concat_ws(' ', i.line, i.product_id, i.category, i.quantity, i.unit_price), \
                         ',' ORDER BY i.line)) AS items";
    let sql = format!(
        "UPDATE fh.twice w SET differs = true FROM stage_orders s \
         LEFT JOIN (SELECT i.tenant_id, i.order_id, {ITEMS} FROM stage_order_items i GROUP BY 1, 2) a \
           ON a.tenant_id = s.tenant_id AND a.order_id = s.order_id \
         LEFT JOIN (SELECT i.tenant_id, i.order_id, {ITEMS} FROM fh.order_items i JOIN stage_orders o \
             ON o.tenant_id = i.tenant_id AND o.order_id = i.order_id GROUP BY 1, 2) b \
           ON b.tenant_id = s.tenant_id AND b.order_id = s.order_id \
         WHERE w.tenant_id = s.tenant_id AND w.key = s.order_id AND w.table_name = 'orders' \
           AND w.node = s.node AND w.shard = s.shard AND w.epoch = s.epoch AND w.id = s.id \
           AND NOT w.differs AND a.items IS DISTINCT FROM b.items"
    );
    let sql = session.prepare(&sql).await?;
    session.client.execute(&sql, &[]).await?;
    Ok(())
}

/// Gives orders of the same node the status that a later life of it knows: a restored backup sends its orders again.
async fn adopt_status(session: &Session, origin: &Origin) -> Result<(), Failure> {
    let sql = "UPDATE fh.orders o SET status = s.status, status_epoch = s.status_epoch, status_seq = s.status_seq \
               FROM stage_orders s WHERE o.tenant_id = s.tenant_id AND o.order_id = s.order_id AND o.node = $1 \
               AND (o.status_epoch, o.status_seq) < (s.status_epoch, s.status_seq)";
    let sql = session.prepare(sql).await?;
    session.client.execute(&sql, &[&origin.node]).await?;
    Ok(())
}
