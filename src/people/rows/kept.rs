//! Finds and erases data stored in addition to the rows: rejected records and ingest responses.

use rusqlite::{Connection, Row, TransactionBehavior, params};

use super::super::active::ActiveErasure;
use super::super::many::PeopleMatcher;
use super::ROWS_PER_SLICE;
use crate::base::clock;
use crate::orders::without_order_ids;
use crate::shard::{Shard, ShardError, subtract_rejected};

/// A rejected record that may contain a person.
pub(in super::super) struct RejectedRecord {
    pub(in super::super) rowid: i64,
    pub(in super::super) lane: i64,
    pub(in super::super) sequence: i64,
    pub(in super::super) kind: i64,
    pub(in super::super) payload: Vec<u8>,
    pub(in super::super) reason: String,
    who: Vec<usize>,
}

pub(in super::super) const REJECTED_SQL: &str = "SELECT rowid, lane, sequence, kind, payload, reason \
     FROM rejected_record WHERE rowid > ?1 ORDER BY rowid LIMIT ?2";

/// Returns the next rejected records that may contain a person, and the last one that was searched. They are not rows,
/// so only their bytes can be searched.
pub(in super::super) fn matching_rejected(
    connection: &Connection,
    (after, rows_max): (i64, i64),
    who_may: &dyn Fn(&[u8]) -> Vec<usize>,
) -> Result<(Vec<RejectedRecord>, Option<i64>), ShardError> {
    let mut statement = connection.prepare_cached(REJECTED_SQL)?;
    let mut rows = statement.query([after, rows_max])?;
    let (mut found, mut last) = (Vec::new(), None);
    while let Some(row) = rows.next()? {
        last = Some(row.get(0)?);
        let payload = row.get_ref(4)?.as_blob().map_err(rusqlite::Error::from)?;
        let who = who_may(payload);
        if who.is_empty() {
            continue;
        }
        found.push(RejectedRecord {
            rowid: row.get(0)?,
            lane: row.get(1)?,
            sequence: row.get(2)?,
            kind: row.get(3)?,
            payload: payload.to_vec(),
            reason: row.get(5)?,
            who,
        });
    }
    Ok((found, last))
}

/// Deletes rejected records that may contain the people.
pub(in super::super) fn erase_rejected(
    shard: &mut Shard,
    erasing: &mut ActiveErasure,
    until_us: u64,
) -> Result<bool, ShardError> {
    loop {
        let transaction = shard.connection().transaction_with_behavior(TransactionBehavior::Immediate)?;
        let (found, last) = matching_rejected(&transaction, (erasing.walk.at, ROWS_PER_SLICE), &|payload| {
            erasing.who_may(payload)
        })?;
        let Some(last) = last else { return Ok(true) };
        for record in &found {
            transaction
                .prepare_cached("DELETE FROM rejected_record WHERE rowid = ?1")?
                .execute([record.rowid])?;
            for person in &record.who {
                erasing.count(*person, |report| report.rejected_records += 1);
            }
        }
        subtract_rejected(&transaction, found.len() as u64)?;
        erasing.walk.at = last;
        erasing.save(&transaction)?;
        transaction.commit()?;
        shard.rejected_gone(found.len() as u64);
        if clock::monotonic_us() >= until_us {
            return Ok(false);
        }
    }
}

/// The scope and the key of a stored response.
type AnswerKey = (String, String);

/// A stored ingest response that an erasure changes or deletes.
pub(in super::super) struct MatchingAnswer {
    pub(in super::super) scope: String,
    pub(in super::super) key: String,
    pub(in super::super) response: String,
    pub(in super::super) finished_us: i64,
    /// The people to whom the key refers.
    pub(in super::super) named: Vec<usize>,
}

/// Returns the people to whom an idempotency key refers, if the response has to be changed or deleted: its errors
/// contain order ids, which may be anyone's, or its key refers to a person.
pub(in super::super) fn answer_refers(
    key: &str,
    response: &str,
    matcher: &PeopleMatcher,
) -> Option<Vec<usize>> {
    let named = matcher.who_named(key);
    let has_ids = response.contains("\"order_id\"") || response.contains("\"skipped\":[{");
    (has_ids || !named.is_empty()).then_some(named)
}

pub(in super::super) const ANSWERS_SQL: &str = "SELECT scope, key, response, finished_us FROM ingest_key \
     WHERE scope IN (?1, '*') AND (scope, key) > (?2, ?3) ORDER BY scope, key LIMIT ?4";

/// Returns the next responses of the tenant, and of keys for all tenants, that an erasure changes or deletes, and the
/// last one that was searched.
pub(in super::super) fn matching_answers(
    connection: &Connection,
    tenant_id: &str,
    after: Option<&AnswerKey>,
    matcher: &PeopleMatcher,
) -> Result<(Vec<MatchingAnswer>, Option<AnswerKey>), ShardError> {
    let (scope, key) = after.map_or(("", ""), |(scope, key)| (scope, key));
    let mut statement = connection.prepare_cached(ANSWERS_SQL)?;
    let mut rows = statement.query(params![tenant_id, scope, key, ROWS_PER_SLICE])?;
    let (mut found, mut last) = (Vec::new(), None);
    while let Some(row) = rows.next()? {
        let text = |row: &Row<'_>, at: usize| row.get::<_, String>(at);
        let (scope, key, response) = (text(row, 0)?, text(row, 1)?, text(row, 2)?);
        last = Some((scope.clone(), key.clone()));
        if let Some(named) = answer_refers(&key, &response, matcher) {
            found.push(MatchingAnswer { scope, key, response, finished_us: row.get(3)?, named });
        }
    }
    Ok((found, last))
}

/// Removes the order ids from the errors in stored ingest responses. The errors' line numbers remain and are
/// sufficient. Deletes idempotency keys that refer to the people.
pub(in super::super) fn erase_answers(
    shard: &mut Shard,
    erasing: &mut ActiveErasure,
    until_us: u64,
) -> Result<bool, ShardError> {
    let Some(tenant_id) = erasing.tenant_id().map(str::to_owned) else { return Ok(true) };
    loop {
        let transaction = shard.connection().transaction_with_behavior(TransactionBehavior::Immediate)?;
        let (found, last) =
            matching_answers(&transaction, &tenant_id, erasing.answers.as_ref(), &erasing.matcher)?;
        let Some(last) = last else { return Ok(true) };
        for answer in &found {
            let MatchingAnswer { scope, key, response, named, .. } = answer;
            if named.is_empty() {
                transaction
                    .prepare_cached("UPDATE ingest_key SET response = ?3 WHERE scope = ?1 AND key = ?2")?
                    .execute(params![scope, key, without_order_ids(response)])?;
            } else {
                transaction.execute("DELETE FROM ingest_key WHERE scope = ?1 AND key = ?2", [scope, key])?;
            }
        }
        // An order id may be anyone's, so everyone's certificate counts the response.
        let count = found.len() as u64;
        erasing.count_all(|report| report.ingest_answers += count);
        // The place is not stored, because a key may contain personal data. After a crash the search starts again,
        // and finds what is left.
        erasing.answers = Some(last);
        erasing.save(&transaction)?;
        transaction.commit()?;
        if clock::monotonic_us() >= until_us {
            return Ok(false);
        }
    }
}
