//! The words in customers' names and addresses: a full-text index with an entry for each customer that has either.
//!
//! `customer_text` stores no text, and every SQLite with FTS5 can read it. The command `'delete'` removes an entry
//! but needs the entry's original text. `customer_row` contains that text until the same transaction changes it.
//! Owns: `customer_text`.

mod merge;
#[cfg(test)]
mod tests;
mod verify;

use rusqlite::{Connection, OptionalExtension as _, params};

pub(crate) use self::merge::merge_words;
pub(crate) use self::verify::{verify_entries, verify_words};
use crate::shard::ShardError;

const TABLE: &str = "CREATE VIRTUAL TABLE customer_text USING fts5(
  -- Words of names and e-mail addresses, and of the tenant so that a search meets its own customers only.
  name, email, tenant, content='',
  tokenize=\"unicode61 remove_diacritics 2\"
);";

/// Selects the expected entries. A pseudonym has neither name nor address. The last column is [`tenant_word`].
const ENTRIES: &str =
    "SELECT id, name, email, 'tenant' || tenant FROM customer_row WHERE (name != '' OR email != '')";

/// Returns the word that identifies a tenant in `customer_text`.
pub(crate) fn tenant_word(tenant: i64) -> String {
    format!("tenant{tenant}")
}

/// Creates the table with the existing customers. It replaces the table of earlier versions. Takes up to 10 us a
/// customer. FTS5 flushes every megabyte of words, and SQLite's cache spills into the WAL, so memory remains
/// constant.
pub(crate) fn make_words(connection: &Connection) -> Result<(), ShardError> {
    connection.execute_batch(&format!("DROP TABLE IF EXISTS customer_text;\n{TABLE}"))?;
    insert_all(connection)
}

/// Rebuilds all entries in the caller's transaction, so that no index segment contains a deleted one.
fn rebuild(connection: &Connection) -> Result<(), ShardError> {
    connection.execute("INSERT INTO customer_text (customer_text) VALUES ('delete-all')", [])?;
    insert_all(connection)
}

fn insert_all(connection: &Connection) -> Result<(), ShardError> {
    let sql = format!("INSERT INTO customer_text (rowid, name, email, tenant) {ENTRIES}");
    connection.execute(&sql, [])?;
    Ok(())
}

/// Inserts a new customer's entry: its number, name, e-mail address and [`tenant_word`]. A customer with neither name
/// nor address has none.
pub(super) const WORDS_SQL: &str =
    "INSERT INTO customer_text (rowid, name, email, tenant) VALUES (?1, ?2, ?3, ?4)";

/// Deletes a customer's entry, before its row changes in the same transaction. Returns `true` if there was an entry.
/// FTS5 does not check the command: deleting a missing entry would make its counts permanently wrong.
pub(crate) fn delete_words(connection: &Connection, customer: i64) -> Result<bool, ShardError> {
    let find = "SELECT name, email, tenant FROM customer_row WHERE id = ?1 \
                AND EXISTS (SELECT 1 FROM customer_text_docsize WHERE id = ?1)";
    let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
    let found: Option<(String, String, i64)> =
        connection.prepare_cached(find)?.query_row([customer], read).optional()?;
    let Some((name, email, tenant)) = found else { return Ok(false) };
    delete_entry(connection, customer, [&name, &email, &tenant_word(tenant)])?;
    Ok(true)
}

fn delete_entry(connection: &Connection, entry: i64, text: [&str; 3]) -> Result<(), ShardError> {
    let sql = "INSERT INTO customer_text (customer_text, rowid, name, email, tenant) \
               VALUES ('delete', ?1, ?2, ?3, ?4)";
    let [name, email, tenant] = text;
    connection.prepare_cached(sql)?.execute(params![entry, name, email, tenant])?;
    Ok(())
}
