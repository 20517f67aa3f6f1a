//! Compares the word index with the customers. SQLite's own check of an index without text checks only its structure,
//! not its content.

use std::cmp::Ordering;

use rusqlite::{Connection, Row, Rows};

use super::{ENTRIES, TABLE};
use crate::shard::{Problems, ShardError, differences};

/// Checks that each customer with a name or an address has an entry, and that there are no other entries.
pub(crate) fn verify_entries(connection: &Connection, problems: &mut Vec<String>) -> Result<(), ShardError> {
    let recount = format!("SELECT id FROM ({ENTRIES})");
    let told = |row: &Row<'_>| Ok(format!("customer {}", row.get::<_, i64>(0)?));
    differences(connection, ("customer_text_docsize", "id"), &recount, told, problems)
}

/// Compares every word of the index, with its position, with an index built from the rows. The rebuilt index is in
/// temporary files, which the connection is able to write. Both indexes are read side by side, in the same order.
pub(crate) fn verify_words(connection: &Connection, problems: &mut Vec<String>) -> Result<(), ShardError> {
    let table = TABLE.replacen("customer_text", "temp.expected_text", 1);
    connection.execute_batch(&format!(
        "{table}
INSERT INTO temp.expected_text (rowid, name, email, tenant) {ENTRIES};
CREATE VIRTUAL TABLE temp.expected_word USING fts5vocab(temp, expected_text, instance);
CREATE VIRTUAL TABLE temp.customer_word USING fts5vocab(main, customer_text, instance);"
    ))?;
    let statement =
        |table: &str| connection.prepare(&format!("SELECT term, doc, col, offset FROM temp.{table}"));
    let (mut stored, mut expected) = (statement("customer_word")?, statement("expected_word")?);
    let (mut stored, mut expected) = (stored.query([])?, expected.query([])?);
    let (mut is, mut should) = (Word::next(&mut stored)?, Word::next(&mut expected)?);
    let mut found = Problems::default();
    loop {
        // A remaining word sorts before the end of the other index.
        let order = match (&is, &should) {
            (None, None) => break,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(is), Some(should)) => is.cmp(should),
        };
        let wrong = match order {
            Ordering::Less => is.as_ref().map(|word| (word.customer, "differs from the row")),
            Ordering::Greater => should.as_ref().map(|word| (word.customer, "is missing")),
            Ordering::Equal => None,
        };
        // The word itself is personal data, so it is not reported.
        if let Some((customer, what)) = wrong {
            found.report(|| format!("customer_text: a word of customer {customer}: {what}"));
        }
        if order.is_le() {
            is = Word::next(&mut stored)?;
        }
        if order.is_ge() {
            should = Word::next(&mut expected)?;
        }
    }
    problems.extend(found.done(|count| format!("customer_text: {count} words in total differ")));
    Ok(())
}

/// A word with its position. Its ordering is that of an index.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Word {
    word: String,
    customer: i64,
    column: Option<usize>,
    offset: i64,
}

impl Word {
    fn next(rows: &mut Rows<'_>) -> Result<Option<Word>, ShardError> {
        let Some(row) = rows.next()? else { return Ok(None) };
        let column = row.get_ref(2)?.as_str().map_err(rusqlite::Error::from)?;
        Ok(Some(Word {
            word: row.get(0)?,
            customer: row.get(1)?,
            column: ["name", "email", "tenant"].iter().position(|name| *name == column),
            offset: row.get(3)?,
        }))
    }
}
