//! Rebuilds a shard's ids from its rows if the tables of the ids are damaged or do not match the rows.

use rusqlite::{Connection, TransactionBehavior};

use super::error::ShardError;
use super::ids::{self, IdRows, Ids, IdsOf};
use super::partition::check_name;
use crate::base::keys::{KeyHash, KeyHasher};

/// The number of ids that are saved at a time.
const ROWS: usize = 10_000;

/// Loads the ids from their tables if they match the rows. Otherwise rebuilds them, which takes about 2 us per row. Ids of
/// a table know the next row id even if there are none.
pub fn load_ids(
    connection: &mut Connection,
    keys: &KeyHasher,
    of: &'static IdsOf,
) -> Result<Ids, ShardError> {
    let fits = bounds(connection, of)?;
    let mut ids = match Ids::load(connection, of) {
        Ok(ids) if fits.are_met(&ids) => ids,
        Ok(_) | Err(ShardError::Corrupt(_)) => rebuild(connection, keys, of)?,
        Err(error) => return Err(error),
    };
    if let IdRows::Table { next_sql, .. } = of.rows
        && ids.next_row_id().is_none()
    {
        ids.begin_at(connection.query_row(next_sql, [], |row| row.get(0))?);
    }
    Ok(ids)
}

/// What the rows require of their ids.
enum Bounds {
    /// The row id that is assigned next, and the number of rows. Retention leaves more ids than rows for a while.
    Stream { next: Option<i64>, rows: i64 },
    /// The lowest and the highest row id, if there are rows.
    Table(Option<(i64, i64)>),
}

impl Bounds {
    fn are_met(&self, ids: &Ids) -> bool {
        match *self {
            Bounds::Stream { next, rows } => {
                rows == 0 || (ids.next_row_id() == next && ids.count() >= rows.unsigned_abs())
            }
            Bounds::Table(None) => true,
            // Rows with higher ids may have been deleted.
            Bounds::Table(Some((first, last))) => {
                ids.first_row_id().is_some_and(|known| known <= first)
                    && ids.next_row_id().is_some_and(|next| next > last)
            }
        }
    }
}

fn bounds(connection: &Connection, of: &IdsOf) -> Result<Bounds, ShardError> {
    match of.rows {
        IdRows::Stream(stream) => {
            // An empty open partition counts, because retention may have dropped the partition before it.
            let sql = "SELECT max(first_id + rows + erased), coalesce(sum(rows + erased), 0) FROM partition \
                       WHERE stream = ?1";
            let read = |row: &rusqlite::Row<'_>| Ok(Bounds::Stream { next: row.get(0)?, rows: row.get(1)? });
            Ok(connection.query_row(sql, [stream.name], read)?)
        }
        IdRows::Table { name, .. } => {
            let sql = format!("SELECT (SELECT min(id) FROM {name}), (SELECT max(id) FROM {name})");
            let (first, last): (Option<i64>, Option<i64>) =
                connection.query_row(&sql, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok(Bounds::Table(first.zip(last)))
        }
    }
}

fn rebuild(connection: &mut Connection, keys: &KeyHasher, of: &'static IdsOf) -> Result<Ids, ShardError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for table in ["id_recent", "id_run", "id_chunk"] {
        transaction.execute_batch(&format!("DROP TABLE IF EXISTS {}{table}", of.prefix))?;
    }
    transaction.execute_batch(&ids::schema(of))?;
    let mut ids = Ids::load(&transaction, of)?;
    for (name, first_id, end) in spans(&transaction, of)? {
        // A partition that retention has dropped between two others leaves a gap, whose rows need ids too.
        let mut next_id = ids.next_row_id().unwrap_or(first_id);
        let mut statement = transaction.prepare(&(of.rows_sql)(&name))?;
        let mut rows = statement.query([])?;
        let mut staged = 0;
        while let Some(row) = rows.next()? {
            let text = |at: usize| row.get_ref(at)?.as_str().map_err(rusqlite::Error::from);
            let id: i64 = row.get(0)?;
            let hash = match row.as_ref().column_count() {
                4 => keys.hash_all([text(1)?, text(2)?, text(3)?]),
                _ => keys.hash(text(1)?, text(2)?),
            };
            // The position of an id determines its row, so each erased row needs an id too.
            while next_id < id {
                ids.stage(of_nobody(keys, next_id), next_id);
                (next_id, staged) = (next_id + 1, staged + 1);
            }
            ids.stage(hash, id);
            (next_id, staged) = (id.saturating_add(1), staged + 1);
            if staged >= ROWS {
                staged = 0;
                // Saves one row of id_recent. All rows are saved in one transaction, so a crash leaves the old state.
                ids.save(&transaction)?;
                ids.committed();
            }
        }
        for id in next_id..end {
            ids.stage(of_nobody(keys, id), id);
        }
        ids.save(&transaction)?;
        ids.committed();
    }
    transaction.commit()?;
    // In memory, the ids are now one large table. Loading them again gives the same state as a restart.
    Ids::load(connection, of)
}

/// A partition's table, its first row id, and the row id after its last one.
type Span = (String, i64, i64);

fn spans(connection: &Connection, of: &IdsOf) -> Result<Vec<Span>, ShardError> {
    let stream = match of.rows {
        IdRows::Stream(stream) => stream,
        IdRows::Table { name, next_sql } => {
            let Bounds::Table(Some((first, _))) = bounds(connection, of)? else { return Ok(Vec::new()) };
            let next = connection.query_row(next_sql, [], |row| row.get(0))?;
            return Ok(vec![(name.to_owned(), first, next)]);
        }
    };
    let sql =
        "SELECT name, first_id, first_id + rows + erased FROM partition WHERE stream = ?1 ORDER BY first_id";
    let mut statement = connection.prepare(sql)?;
    let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
    let spans: Vec<Span> = statement.query_map([stream.name], read)?.collect::<Result<_, _>>()?;
    spans.iter().try_for_each(|(name, ..)| check_name(stream, name))?;
    Ok(spans)
}

/// Returns the hash that replaces the hash of an erased row. Tenant ids are never empty, so it differs from the
/// hashes of all real rows.
fn of_nobody(keys: &KeyHasher, id: i64) -> KeyHash {
    keys.hash("", &id.to_string())
}
