//! The index of words against the customers it is made of. SQLite's own check of an index without text looks at its
//! structure only, not at what it should hold.

use rusqlite::{Connection, Row};

use super::super::super::error::ShardError;
use super::super::super::inspect::differences;
use super::{ENTRIES, TABLE};

/// Whether each customer with a name or an address has an entry, and no other entry is there.
pub(in crate::shard) fn verify_entries(
    connection: &Connection,
    problems: &mut Vec<String>,
) -> Result<(), ShardError> {
    let recount = format!("SELECT id FROM ({ENTRIES})");
    let told = |row: &Row<'_>| Ok(format!("customer {}", row.get::<_, i64>(0)?));
    differences(connection, ("customer_text_docsize", "id"), &recount, told, problems)
}

/// Every word of the index, with its place, against an index that is made of the rows. About 10 s a million customers,
/// in temporary files; the connection may write those.
pub(in crate::shard) fn verify_words(
    connection: &Connection,
    problems: &mut Vec<String>,
) -> Result<(), ShardError> {
    let table = TABLE.replacen("customer_text", "temp.expected_text", 1);
    connection.execute_batch(&format!(
        "{table}
INSERT INTO temp.expected_text (rowid, name, email, tenant) {ENTRIES};
CREATE VIRTUAL TABLE temp.expected_word USING fts5vocab(temp, expected_text, instance);
CREATE VIRTUAL TABLE temp.customer_word USING fts5vocab(main, customer_text, instance);"
    ))?;
    let columns = "doc, term, col, offset";
    let recount = format!("SELECT {columns} FROM temp.expected_word");
    // The word itself is nobody's business.
    let told = |row: &Row<'_>| Ok(format!("a word of customer {}", row.get::<_, i64>(0)?));
    differences(connection, ("temp.customer_word", columns), &recount, told, problems)
}
