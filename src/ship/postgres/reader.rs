//! Reads what the target has of a data folder, for `ship status` and `ship verify`.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{SystemTime, UNIX_EPOCH};

use futures_util::TryStreamExt as _;
use tokio_postgres::types::ToSql;

use super::connect::{CALL_MAX, Caller, LONG_CALL_MAX, Session, connect};
use super::error::Failure;
use super::url::PostgresOptions;
use super::verify::{DayCount, VerifyTable};
use crate::base::ids::ShardId;
use crate::ship::rows::ShipStream;
use crate::ship::sink::{EpochId, SinkError};

/// A place in the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetPlace {
    pub shard: ShardId,
    pub epoch: EpochId,
    /// The number of the epoch in the target. The largest of a shard is the newest.
    pub epoch_number: i32,
    pub stream: ShipStream,
    pub last: i64,
    /// Where the epoch began. Rows up to there came in an epoch before.
    pub began: i64,
    /// The time at which the place moved, in microseconds since 1970 by the target's clock.
    pub at_us: i64,
}

/// Rows of a stream that are not in its table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutAside {
    pub shard: ShardId,
    pub stream: ShipStream,
    /// Rows that the target refused for their data.
    pub rejected: u64,
    /// Rows that the target had under the same key.
    pub twice: u64,
}

/// Successive row ids of one epoch of a shard: those after `after`, up to `last`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdRange {
    pub shard: ShardId,
    pub epoch: EpochId,
    pub after: i64,
    pub last: i64,
}

/// A connection that only reads.
pub struct PostgresReader {
    options: PostgresOptions,
    folder_id: String,
    caller: Caller,
    session: Option<Session>,
}

impl PostgresReader {
    /// Makes a reader for the data folder with this id, without connecting.
    ///
    /// # Errors
    /// The operating system does not provide a runtime.
    pub fn new(
        options: PostgresOptions,
        folder_id: String,
        stop: Arc<AtomicBool>,
    ) -> std::io::Result<PostgresReader> {
        Ok(PostgresReader { options, folder_id, caller: Caller::new(stop)?, session: None })
    }

    /// Connects if there is no connection. `false` if the target has no schema yet.
    fn is_made(&mut self) -> Result<bool, SinkError> {
        if self.session.is_none() {
            let session = self.caller.run(CALL_MAX, async {
                let session = connect(&self.options).await?;
                // A recount of a large table takes longer than a usual call.
                let settings = "SET default_transaction_read_only = on; SET statement_timeout = 0";
                session.client.batch_execute(settings).await?;
                Ok(session)
            });
            self.session = Some(session.map_err(|failure| self.named(failure))?);
        }
        let rows = self.rows("SELECT to_regclass('fh.meta') IS NOT NULL", &[], |row| Ok(row.get(0)))?;
        Ok(rows.first().copied().unwrap_or_default())
    }

    fn named(&self, failure: Failure) -> SinkError {
        let target = self.options.target();
        match failure.into_sink_error() {
            SinkError::Passing(reason) => SinkError::Passing(format!("{target}: {reason}")),
            SinkError::Lasting(reason) => SinkError::Lasting(format!("{target}: {reason}")),
            other => other,
        }
    }

    fn rows<T>(
        &mut self,
        sql: &str,
        values: &[&(dyn ToSql + Sync)],
        mut read: impl FnMut(&tokio_postgres::Row) -> Result<T, Failure>,
    ) -> Result<Vec<T>, SinkError> {
        let mut rows = Vec::new();
        self.each(sql, values, |row| {
            rows.push(read(row)?);
            Ok(())
        })?;
        Ok(rows)
    }

    /// Reads rows one by one. After an error, the connection is dropped.
    fn each(
        &mut self,
        sql: &str,
        values: &[&(dyn ToSql + Sync)],
        mut read: impl FnMut(&tokio_postgres::Row) -> Result<(), Failure>,
    ) -> Result<(), SinkError> {
        let Some(session) = self.session.take() else {
            return Err(SinkError::Passing("there is no connection".to_owned()));
        };
        let result = self.caller.run(LONG_CALL_MAX, async {
            let statement = session.prepare(sql).await?;
            let values = values.iter().map(|value| *value as &(dyn ToSql + Sync));
            let mut rows = pin!(session.client.query_raw(&statement, values).await?);
            while let Some(row) = rows.try_next().await? {
                read(&row)?;
            }
            Ok(())
        });
        match result {
            Ok(()) => {
                self.session = Some(session);
                Ok(())
            }
            Err(failure) => Err(self.named(failure)),
        }
    }

    /// Returns every place of the folder's shards, also those of earlier epochs. Empty if the target has none.
    ///
    /// # Errors
    /// See [`SinkError`].
    pub fn places(&mut self) -> Result<Vec<TargetPlace>, SinkError> {
        if !self.is_made()? {
            return Ok(Vec::new());
        }
        let sql = "SELECT p.shard, e.epoch_id, p.epoch, p.stream, p.last, p.at, p.began FROM fh.position p \
            JOIN fh.epoch e ON e.epoch = p.epoch JOIN fh.node n ON n.node = p.node \
            WHERE n.folder_id = $1 ORDER BY p.shard, p.epoch, p.stream";
        let folder_id = self.folder_id.clone();
        let places = self.rows(sql, &[&folder_id], |row| {
            let Some(stream) = ShipStream::parse(row.get(3)) else { return Ok(None) };
            Ok(Some(TargetPlace {
                shard: shard_id(row.get(0)),
                epoch: EpochId(row.get(1)),
                epoch_number: row.get(2),
                stream,
                last: row.get(4),
                began: row.get(6),
                at_us: unix_us(row.get(5)),
            }))
        })?;
        Ok(places.into_iter().flatten().collect())
    }

    /// Returns how many rows of each shard and stream were rejected, or were in the target already.
    ///
    /// # Errors
    /// See [`SinkError`].
    pub fn put_aside(&mut self) -> Result<Vec<PutAside>, SinkError> {
        if !self.is_made()? {
            return Ok(Vec::new());
        }
        let sql = "SELECT a.shard, a.stream, sum(a.rejected)::bigint, sum(a.twice)::bigint FROM ( \
            SELECT node, shard, stream, 1 AS rejected, 0 AS twice FROM fh.rejected UNION ALL \
            SELECT node, shard, stream, 0, 1 FROM fh.twice) a \
            JOIN fh.node n ON n.node = a.node WHERE n.folder_id = $1 GROUP BY 1, 2 ORDER BY 1, 2";
        let folder_id = self.folder_id.clone();
        let rows = self.rows(sql, &[&folder_id], |row| {
            let Some(stream) = ShipStream::parse(row.get(1)) else { return Ok(None) };
            let count = |at: usize| row.get::<_, i64>(at).unsigned_abs();
            Ok(Some(PutAside { shard: shard_id(row.get(0)), stream, rejected: count(2), twice: count(3) }))
        })?;
        Ok(rows.into_iter().flatten().collect())
    }

    /// Counts the rows that came from these ids, by tenant and day. With `is_settled`, the hashes include what later
    /// changes replace.
    ///
    /// # Errors
    /// See [`SinkError`].
    pub fn recount(
        &mut self,
        table: VerifyTable,
        range: &IdRange,
        is_settled: bool,
        mut found: impl FnMut(DayCount),
    ) -> Result<(), SinkError> {
        self.of_range(&table.recount_sql(is_settled), range, &[], |row| {
            let sum: &str = row.get(3);
            found(DayCount {
                tenant_id: row.get(0),
                day: row.get(1),
                rows: row.get::<_, i64>(2).unsigned_abs(),
                sum: parsed(sum)?,
            });
            Ok(())
        })
    }

    /// Reads the hashes of the rows that came from these ids and are of one tenant and day, by row id.
    ///
    /// # Errors
    /// See [`SinkError`].
    pub fn hashes(
        &mut self,
        table: VerifyTable,
        range: &IdRange,
        (tenant_id, day): (&str, i32),
        is_settled: bool,
        mut found: impl FnMut(i64, i128),
    ) -> Result<(), SinkError> {
        self.of_range(&table.hashes_sql(is_settled), range, &[&tenant_id, &day], |row| {
            found(row.get(0), parsed(row.get(1))?);
            Ok(())
        })
    }

    /// Reads which of these ids have a row in the table, in order.
    ///
    /// # Errors
    /// See [`SinkError`].
    pub fn ids(
        &mut self,
        table: VerifyTable,
        range: &IdRange,
        mut found: impl FnMut(i64),
    ) -> Result<(), SinkError> {
        self.of_range(&table.ids_sql(), range, &[], |row| {
            found(row.get(0));
            Ok(())
        })
    }

    /// Reads which of these ids are noted as rejected or as twice, in order. Their rows are in no table, so a
    /// comparison leaves them out.
    ///
    /// # Errors
    /// See [`SinkError`].
    pub fn ids_put_aside(
        &mut self,
        stream: ShipStream,
        range: &IdRange,
        mut found: impl FnMut(i64),
    ) -> Result<(), SinkError> {
        let of = |table: &str| {
            format!(
                "SELECT id FROM fh.{table} WHERE node = $1 AND shard = $2 AND epoch = $3 AND id > $4 \
                 AND id <= $5 AND stream = '{}'",
                stream.as_str()
            )
        };
        let sql = format!("{} UNION {} ORDER BY id", of("rejected"), of("twice"));
        self.of_range(&sql, range, &[], |row| {
            found(row.get(0));
            Ok(())
        })
    }

    fn of_range(
        &mut self,
        sql: &str,
        range: &IdRange,
        more: &[&(dyn ToSql + Sync)],
        read: impl FnMut(&tokio_postgres::Row) -> Result<(), Failure>,
    ) -> Result<(), SinkError> {
        if !self.is_made()? {
            return Ok(());
        }
        let find = "SELECT e.node, e.epoch FROM fh.epoch e JOIN fh.node n ON n.node = e.node \
                    WHERE n.folder_id = $1 AND e.shard = $2 AND e.epoch_id = $3";
        let shard = i16::try_from(range.shard.0).unwrap_or(i16::MAX);
        let folder_id = self.folder_id.clone();
        let origin = self.rows(find, &[&folder_id, &shard, &range.epoch.0], |row| {
            Ok((row.get::<_, i16>(0), row.get::<_, i32>(1)))
        })?;
        let Some((node, epoch)) = origin.first() else { return Ok(()) };
        let values: [&(dyn ToSql + Sync); 5] = [node, &shard, epoch, &range.after, &range.last];
        self.each(sql, &[&values[..], more].concat(), read)
    }
}

fn parsed(sum: &str) -> Result<i128, Failure> {
    sum.parse().map_err(|_| Failure::lasting("a sum is not a number"))
}

fn shard_id(shard: i16) -> ShardId {
    ShardId(u16::try_from(shard).unwrap_or_default())
}

fn unix_us(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => since.as_micros() as i64,
        Err(before) => -(before.duration().as_micros() as i64),
    }
}
