//! The transaction of a batch: lock the place, store the rows, move the place.

use std::ops::Range;

use super::effects::{erases, is_any_erasing};
use super::error::Failure;
use super::places;
use super::slice::Slice;
use super::store::{Context, Manner, Stored, create_stages, store};
use crate::ship::sink::{ShipBatch, SinkError, Written};

/// So many rows in a row that the target refuses are no exception: the stream stops, instead of rejecting everything.
const REJECTED_IN_A_ROW_MAX: u32 = 100;

/// The outcome of a batch.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Outcome {
    pub(super) written: Written,
    pub(super) has_erased: bool,
    /// The number of rejected rows at the end of the batch, with those of the batches before.
    pub(super) rejected_in_a_row: u32,
}

/// Writes a batch. `is_careful`: rows of this stream were there before, so staging is tried first.
pub(super) async fn write(
    context: &Context<'_>,
    batch: &ShipBatch,
    is_careful: bool,
    rejected_in_a_row: u32,
) -> Result<Outcome, Failure> {
    let rows = Slice::of(&batch.rows);
    if !is_careful {
        begin(context, batch).await?;
        match store(context, rows, Manner::Direct).await {
            Ok(stored) => {
                commit(context, batch).await?;
                let rejected_in_a_row = if rows.len() > 0 { 0 } else { rejected_in_a_row };
                return Ok(Outcome {
                    written: Written { rows: stored.rows, ..Written::default() },
                    has_erased: stored.has_erased,
                    rejected_in_a_row,
                });
            }
            Err(Failure::Twice(_) | Failure::Data(_)) => rollback(context).await?,
            Err(failure) => return Err(failure),
        }
    }
    create_stages(context.session, rows).await?;
    begin(context, batch).await?;
    let mut outcome = Outcome { rejected_in_a_row, ..Outcome::default() };
    sort_out(context, rows, &mut outcome).await?;
    commit(context, batch).await?;
    Ok(outcome)
}

async fn begin(context: &Context<'_>, batch: &ShipBatch) -> Result<(), Failure> {
    context.session.client.batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED").await?;
    if is_any_erasing(&batch.rows) {
        // A batch whose connection was lost may still be committing. It must not bring a person back.
        places::lock_all(context.session, &context.origin).await?;
    }
    places::lock(context.session, &context.origin, batch.stream, batch.after).await
}

async fn rollback(context: &Context<'_>) -> Result<(), Failure> {
    Ok(context.session.client.batch_execute("ROLLBACK").await?)
}

async fn commit(context: &Context<'_>, batch: &ShipBatch) -> Result<(), Failure> {
    let move_by = (batch.after, batch.last);
    places::advance(context.session, &context.origin, batch.stream, move_by).await?;
    let committed = context.session.client.batch_execute("COMMIT").await;
    committed.map_err(|error| match Failure::from(error) {
        // A deferred constraint of the user. Its row is unknown.
        failure @ (Failure::Twice(_) | Failure::Data(_)) => Failure::Sink(failure.into_sink_error()),
        failure => failure,
    })
}

/// Stores rows in parts, in order. A part that the target refuses is halved, down to the row.
async fn sort_out(context: &Context<'_>, rows: Slice<'_>, outcome: &mut Outcome) -> Result<(), Failure> {
    let mut parts: Vec<Range<usize>> = std::iter::once(0..rows.len()).collect();
    while let Some(range) = parts.pop() {
        let part = rows.part(range.clone());
        let (reason, is_data) = match store_part(context, part, false).await {
            Ok(stored) => {
                add(outcome, stored, part.len());
                continue;
            }
            Err(Failure::Data(reason)) => (reason, true),
            // A unique index of the user.
            Err(Failure::Twice(reason)) => (reason, false),
            Err(failure) => return Err(failure),
        };
        if range.len() > 1 {
            let middle = range.start + range.len() / 2;
            parts.push(middle..range.end);
            parts.push(range.start..middle);
            continue;
        }
        // It may be the JSON that the server does not accept.
        if is_data && part.has_json() {
            match store_part(context, part, true).await {
                Ok(stored) => {
                    add(outcome, stored, 1);
                    continue;
                }
                Err(Failure::Data(_) | Failure::Twice(_)) => {}
                Err(failure) => return Err(failure),
            }
        }
        reject(context, part, &reason).await?;
        outcome.written.rejected += 1;
        outcome.rejected_in_a_row += 1;
        if outcome.rejected_in_a_row > REJECTED_IN_A_ROW_MAX {
            return Err(Failure::lasting(format!(
                "more than {REJECTED_IN_A_ROW_MAX} rows of {} in a row are not accepted, the last for: {reason}",
                part.stream().as_str()
            )));
        }
    }
    Ok(())
}

fn add(outcome: &mut Outcome, stored: Stored, rows: usize) {
    outcome.written.rows += stored.rows;
    outcome.written.twice += stored.twice;
    outcome.has_erased |= stored.has_erased;
    if rows > 0 {
        outcome.rejected_in_a_row = 0;
    }
}

/// Stores a part, or nothing of it.
async fn store_part(context: &Context<'_>, part: Slice<'_>, is_raw: bool) -> Result<Stored, Failure> {
    let client = &context.session.client;
    client.batch_execute("SAVEPOINT part").await?;
    let stored = store(context, part, Manner::Staged { is_raw }).await;
    match stored {
        Ok(stored) => {
            client.batch_execute("RELEASE SAVEPOINT part").await?;
            Ok(stored)
        }
        Err(failure @ (Failure::Twice(_) | Failure::Data(_))) => {
            client.batch_execute("ROLLBACK TO SAVEPOINT part; RELEASE SAVEPOINT part").await?;
            Err(failure)
        }
        Err(failure) => Err(failure),
    }
}

/// Puts a row aside. An erasure is never put aside.
async fn reject(context: &Context<'_>, row: Slice<'_>, reason: &str) -> Result<(), Failure> {
    let Some((id, content)) = row.rejected() else {
        debug_assert!(matches!(row, Slice::Changes([row]) if erases(row)));
        return Err(Failure::Sink(SinkError::Lasting(reason.to_owned())));
    };
    let sql = "INSERT INTO fh.rejected (node, shard, epoch, stream, id, reason, content) \
               VALUES ($1, $2, $3, $4, $5, $6, $7)";
    let sql = context.session.prepare(sql).await?;
    let super::places::Origin { node, shard, epoch } = &context.origin;
    let stream = row.stream().as_str();
    let values: [&(dyn tokio_postgres::types::ToSql + Sync); 7] =
        [node, shard, epoch, &stream, &id, &reason, &content];
    context.session.client.execute(&sql, &values).await?;
    Ok(())
}
