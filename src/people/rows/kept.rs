//! Erases data stored in addition to the rows: rejected records and ingest responses.

use rusqlite::{TransactionBehavior, params};

use super::super::active::ActiveErasure;
use super::super::record::Subject;
use super::ROWS_PER_SLICE;
use crate::base::clock;
use crate::orders::without_order_ids;
use crate::shard::{Shard, ShardError};

/// Deletes rejected records that may contain the person. They are not rows, so only their bytes can be searched.
pub(in super::super) fn erase_rejected(
    shard: &mut Shard,
    erasing: &mut ActiveErasure,
    until_us: u64,
) -> Result<bool, ShardError> {
    loop {
        let transaction = shard.connection().transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut gone = Vec::new();
        let mut last = None;
        {
            let mut statement = transaction.prepare_cached(
                "SELECT rowid, payload FROM rejected_record WHERE rowid > ?1 ORDER BY rowid LIMIT ?2",
            )?;
            let mut rows = statement.query([erasing.at, ROWS_PER_SLICE])?;
            while let Some(row) = rows.next()? {
                let rowid: i64 = row.get(0)?;
                last = Some(rowid);
                let payload = row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?;
                if erasing.may_match(payload) {
                    gone.push(rowid);
                }
            }
        }
        let Some(last) = last else { return Ok(true) };
        for rowid in &gone {
            transaction.prepare_cached("DELETE FROM rejected_record WHERE rowid = ?1")?.execute([rowid])?;
        }
        transaction.execute(
            "UPDATE total SET value = value - ?1 WHERE name = 'rejected_records'",
            [gone.len() as i64],
        )?;
        erasing.at = last;
        erasing.report.rejected_records += gone.len() as u64;
        erasing.save(&transaction)?;
        transaction.commit()?;
        shard.rejected_gone(gone.len() as u64);
        if clock::monotonic_us() >= until_us {
            return Ok(false);
        }
    }
}

/// Removes the order ids from the errors in stored ingest responses. The errors' line numbers remain and are
/// sufficient. Deletes idempotency keys that refer to the person.
pub(in super::super) fn erase_answers(
    shard: &mut Shard,
    erasing: &mut ActiveErasure,
    until_us: u64,
) -> Result<bool, ShardError> {
    let Some(Subject::Customer { tenant_id, .. }) = &erasing.subject else { return Ok(true) };
    let tenant_id = tenant_id.clone();
    loop {
        let transaction = shard.connection().transaction_with_behavior(TransactionBehavior::Immediate)?;
        let answers: Vec<(String, String, String)> = transaction
            .prepare_cached(
                "SELECT scope, key, response FROM ingest_key WHERE scope IN (?1, '*') \
                 AND (instr(response, '\"order_id\"') > 0 OR instr(response, '\"skipped\":[{') > 0) \
                 LIMIT ?2",
            )?
            .query_map(params![tenant_id, ROWS_PER_SLICE], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
            .collect::<Result<_, _>>()?;
        if answers.is_empty() {
            let named: Vec<(String, String)> = transaction
                .prepare_cached("SELECT scope, key FROM ingest_key WHERE scope IN (?1, '*')")?
                .query_map([&tenant_id], |row| Ok((row.get(0)?, row.get::<_, String>(1)?)))?
                .filter(|row| row.as_ref().map_or(true, |(_, key)| erasing.matcher.matches_name(key)))
                .collect::<Result<_, _>>()?;
            for (scope, key) in &named {
                transaction.execute("DELETE FROM ingest_key WHERE scope = ?1 AND key = ?2", [scope, key])?;
            }
            erasing.report.ingest_answers += named.len() as u64;
            erasing.save(&transaction)?;
            transaction.commit()?;
            return Ok(true);
        }
        for (scope, key, response) in &answers {
            transaction
                .prepare_cached("UPDATE ingest_key SET response = ?3 WHERE scope = ?1 AND key = ?2")?
                .execute(params![scope, key, without_order_ids(response)])?;
        }
        erasing.report.ingest_answers += answers.len() as u64;
        erasing.save(&transaction)?;
        transaction.commit()?;
        if clock::monotonic_us() >= until_us {
            return Ok(false);
        }
    }
}
