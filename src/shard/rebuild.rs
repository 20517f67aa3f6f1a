//! The ids of a shard made anew from its rows, where their tables are damaged or do not go with the rows.

use rusqlite::{Connection, TransactionBehavior};

use super::error::ShardError;
use super::ids::{self, Ids, IdsOf};
use super::partition::names;
use super::stream::Stream;
use crate::base::keys::KeyHasher;

/// Rows of one transaction.
const ROWS: usize = 10_000;

/// The ids as the tables have them, if that is what the rows have; otherwise made anew, about 2 us a row.
pub(super) fn load_ids(
    connection: &mut Connection,
    keys: &KeyHasher,
    of: &'static IdsOf,
) -> Result<Ids, ShardError> {
    let sql = "SELECT max(first_id + rows), coalesce(sum(rows), 0) FROM partition \
               WHERE stream = ?1 AND rows > 0";
    let stream = stream(of).name();
    let (next, rows): (Option<i64>, i64) =
        connection.query_row(sql, [stream], |row| Ok((row.get(0)?, row.get(1)?)))?;
    // More ids than rows is what retention leaves for a while.
    let fits =
        |ids: &Ids| next.is_none() || (ids.next_row_id() == next && ids.count() >= rows.unsigned_abs());
    match Ids::load(connection, of) {
        Ok(ids) if fits(&ids) => Ok(ids),
        Ok(_) | Err(ShardError::Corrupt(_)) => rebuild(connection, keys, of),
        Err(error) => Err(error),
    }
}

fn stream(of: &IdsOf) -> Stream {
    if of.prefix == ids::ORDERS.prefix { Stream::Order } else { Stream::ServiceEvent }
}

/// Row id, tenant and key of every row of a partition.
fn rows_sql(of: &IdsOf, partition: &str) -> String {
    match stream(of) {
        Stream::Order => format!(
            "SELECT o.id, t.tenant_id, o.order_id FROM {partition} o JOIN tenant_row t ON t.id = o.tenant \
             ORDER BY o.id"
        ),
        _ => format!("SELECT id, tenant_id, event_id FROM {partition} ORDER BY id"),
    }
}

fn rebuild(connection: &mut Connection, keys: &KeyHasher, of: &'static IdsOf) -> Result<Ids, ShardError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for table in ["id_recent", "id_run", "id_chunk"] {
        transaction.execute_batch(&format!("DROP TABLE IF EXISTS {}{table}", of.prefix))?;
    }
    transaction.execute_batch(&ids::schema(of))?;
    let mut ids = Ids::load(&transaction, of)?;
    for name in names(&transaction, stream(of))? {
        let mut statement = transaction.prepare(&rows_sql(of, &name))?;
        let mut rows = statement.query([])?;
        let mut staged = 0;
        while let Some(row) = rows.next()? {
            let text = |at: usize| row.get_ref(at)?.as_str().map_err(rusqlite::Error::from);
            ids.stage(keys.hash(text(1)?, text(2)?), row.get(0)?);
            staged += 1;
            if staged % ROWS == 0 {
                // One line of the table; all of them are one transaction, so that a crash leaves the old state.
                ids.save(&transaction)?;
                ids.committed();
            }
        }
        ids.save(&transaction)?;
        ids.committed();
    }
    transaction.commit()?;
    // What is in memory is one large table; read back, it is what any start would have.
    Ids::load(connection, of)
}
