//! Removes deleted rows from the files of tables. The target remembers which tables are due.

use std::time::SystemTime;

use super::connect::{Session, USUAL_LIMITS, VACUUM_LIMITS};
use super::error::Failure;

/// The tables from which an erasure may have removed rows.
const TABLES: [&str; 7] = ["orders", "order_items", "order_status", "events", "clicks", "twice", "rejected"];

/// Notes inside the transaction of an erasure that tables are due.
pub(super) async fn remember(session: &Session) -> Result<(), Failure> {
    let sql = "INSERT INTO fh.vacuum_due (table_name) SELECT unnest($1::text[]) \
               ON CONFLICT (table_name) DO UPDATE SET since = now()";
    let sql = session.prepare(sql).await?;
    session.client.execute(&sql, &[&TABLES.as_slice()]).await?;
    Ok(())
}

/// Vacuums the tables that are due, one after another.
pub(super) async fn run(session: &Session) -> Result<(), Failure> {
    let sql = session.prepare("SELECT table_name, since FROM fh.vacuum_due ORDER BY table_name").await?;
    let due = session.client.query(&sql, &[]).await?;
    if due.is_empty() {
        return Ok(());
    }
    session.client.batch_execute(VACUUM_LIMITS).await?;
    for row in due {
        let (name, since): (String, SystemTime) = (row.get(0), row.get(1));
        if let Some(name) = TABLES.iter().find(|known| **known == name) {
            session.client.batch_execute(&format!("VACUUM fh.{name}")).await?;
        }
        let sql = session.prepare("DELETE FROM fh.vacuum_due WHERE table_name = $1 AND since = $2").await?;
        session.client.execute(&sql, &[&name, &since]).await?;
    }
    session.client.batch_execute(USUAL_LIMITS).await?;
    Ok(())
}
