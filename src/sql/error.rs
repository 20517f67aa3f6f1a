//! Errors of a query, as a terminal shows them.

use std::io;

use super::folder::OpenError;
use super::stop::Reason;

/// Why a statement has no complete result.
#[derive(Debug, thiserror::Error)]
pub enum SqlError {
    #[error(transparent)]
    Open(#[from] OpenError),
    /// SQLite's message.
    #[error("{0}")]
    Sql(String),
    /// The same with the line, or the file and the line.
    #[error("{0}")]
    Marked(String),
    #[error("{1}")]
    Stopped(Reason, String),
    #[error("the output failed: {0}")]
    Output(#[from] io::Error),
    /// The reader of the output has ended, as `head` does.
    #[error("the output was closed")]
    Closed,
}

/// Formats an error of SQLite, with the line and a mark below the place if it is known. The statement begins at the line
/// with the number `first`.
pub(super) fn describe(error: &rusqlite::Error, first: usize) -> SqlError {
    match error {
        rusqlite::Error::SqlInputError { msg, sql, offset, .. } => match usize::try_from(*offset) {
            Ok(offset) => SqlError::Marked(format!("{msg}{}", place(sql, offset, first))),
            Err(_) => unplaced(msg),
        },
        rusqlite::Error::SqliteFailure(_, Some(message)) => unplaced(message),
        other => SqlError::Sql(other.to_string()),
    }
}

fn unplaced(message: &str) -> SqlError {
    SqlError::Sql(match message.ends_with("may not be modified") {
        true => format!("{message}: firehose sql only reads"),
        false => message.to_owned(),
    })
}

fn place(sql: &str, offset: usize, first: usize) -> String {
    let before = sql.get(..offset).unwrap_or(sql);
    let start = before.rfind('\n').map_or(0, |at| at + 1);
    let line = sql[start..].lines().next().unwrap_or_default();
    let (number, column) = (before.matches('\n').count() + first, before[start..].chars().count());
    // A long line is shown around the place.
    let skipped = column.saturating_sub(60);
    let shown: String =
        line.chars().skip(skipped).take(100).map(|sign| if sign.is_control() { ' ' } else { sign }).collect();
    format!(" (line {number}, column {})\n  {shown}\n  {}^", column + 1, " ".repeat(column - skipped))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_is_marked() {
        assert_eq!(place("SELECT a\nFROM é b", 17, 1), " (line 2, column 8)\n  FROM é b\n         ^");
        assert!(place("\nSELECT a", 8, 5).starts_with(" (line 6, column 8)"));
        let long = format!("SELECT {} x", "1, ".repeat(1_000));
        let shown = place(&long, long.len() - 1, 1);
        assert!(shown.lines().all(|line| line.chars().count() < 110), "{shown}");
        assert!(shown.ends_with('^') && shown.contains('x'), "{shown}");
    }
}
