//! The decisions of a batch, kept for the requests that wait for them: one row for the products of a request that were
//! decided together.

use rusqlite::{Connection, params};

use super::decide::StockCode;
use super::read::{StockDecision, StockResult};
use crate::shard::ShardError;

/// How long a decision remains stored. A request waits for its decision for at most `commit_wait`, which is one or a
/// few seconds.
pub(super) const ANSWER_KEPT_US: i64 = 60_000_000;

/// The bytes of a decision in a row.
const DECISION_BYTES: usize = 22;

/// A request's number, the product's index in it, and the decision.
pub(super) type Kept = (i64, u32, StockDecision);

/// Stores decisions, and deletes expired rows, at most two for each new decision. More rows can therefore be deleted
/// than arrive. Requests are numbered by time, so the oldest ones are deleted first.
pub(super) fn keep(connection: &Connection, mut kept: Vec<Kept>, now_us: i64) -> Result<(), ShardError> {
    kept.sort_by_key(|(request, place, _)| (*request, *place));
    let mut insert =
        connection.prepare_cached("INSERT INTO stock_answer (request, decisions) VALUES (?1, ?2)")?;
    let mut blob = Vec::new();
    for of_request in kept.chunk_by(|one, next| one.0 == next.0) {
        blob.clear();
        for (_, place, decision) in of_request {
            encode(*place, decision, &mut blob);
        }
        let request = of_request.first().map(|(request, ..)| *request);
        insert.execute(params![request, blob])?;
    }
    let sql = "DELETE FROM stock_answer WHERE id IN \
               (SELECT id FROM stock_answer WHERE request < ?1 ORDER BY request LIMIT ?2)";
    let before = (now_us - ANSWER_KEPT_US) << 8;
    connection.prepare_cached(sql)?.execute(params![before, kept.len() as i64 * 2])?;
    Ok(())
}

fn encode(place: u32, decision: &StockDecision, out: &mut Vec<u8>) {
    let StockDecision { result, code, quantity, version } = decision;
    out.extend_from_slice(&place.to_le_bytes());
    out.push(*result as u8);
    out.push(code.map_or(0, |code| code as u8));
    out.extend_from_slice(&quantity.to_le_bytes());
    out.extend_from_slice(&version.to_le_bytes());
}

/// Adds the decisions of one row to `found`.
pub(super) fn decode(blob: &[u8], found: &mut Vec<(u32, StockDecision)>) -> Result<(), ShardError> {
    let (decisions, torn) = blob.as_chunks::<DECISION_BYTES>();
    let damaged = || ShardError::Corrupt("a row of stock_answer is invalid".to_owned());
    if !torn.is_empty() {
        return Err(damaged());
    }
    for bytes in decisions {
        let [p0, p1, p2, p3, result, code, numbers @ ..] = bytes;
        let (numbers, _) = numbers.as_chunks::<8>();
        let [quantity, version] = [0, 1].map(|at| i64::from_le_bytes(numbers[at]));
        let result = StockResult::from_number(*result).ok_or_else(damaged)?;
        let decision = StockDecision { result, code: StockCode::from_number(*code), quantity, version };
        found.push((u32::from_le_bytes([*p0, *p1, *p2, *p3]), decision));
    }
    Ok(())
}
