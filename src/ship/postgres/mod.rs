//! PostgreSQL and Citus as a target: rows by binary COPY, and their place in the same transaction.
//!
//! In: batches of one shard. Out: tables of the schema `fh`, whose SQL is [`schema_sql`]. Owns: one connection, and the
//! runtime that drives it on the caller's thread. Never: keeps a place of its own, or continues on a connection after
//! an error.
//!
//! `write` is the life of a batch, `store` that of its rows, and `effects` that of changes.

mod connect;
mod copy;
mod days;
mod ddl;
mod derive;
mod effects;
mod encode;
mod erase;
mod error;
mod jsonb;
mod places;
mod reader;
mod slice;
mod store;
mod tables;
mod tls;
mod url;
mod vacuum;
mod verify;
mod write;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::base::clock;
use crate::base::ids::ShardId;
use connect::{CALL_MAX, Caller, LONG_CALL_MAX, Session};
use days::Days;
use error::Failure;
use places::{KnownEpoch, KnownEpochs};
use store::Context;

use super::rows::{Rows, ShipStream};
use super::sink::{EpochId, Known, Places, ShipBatch, Sink, SinkError, Written};

pub use ddl::schema_sql;
pub use reader::{IdRange, PostgresReader, PutAside, TargetPlace};
pub use url::{PostgresOptions, RootCert, SslMode, UrlError};
pub use verify::{
    DayCount, VerifyTable, hash_of_click, hash_of_event, hash_of_item, hash_of_order, hash_of_price,
    hash_of_stock_event,
};

/// Upkeep of a quiet shard's target is tried this often.
const UPKEEP_US: u64 = 60_000_000;

/// One shard's connection to PostgreSQL.
pub struct PostgresSink {
    options: PostgresOptions,
    folder_id: String,
    shard: i16,
    caller: Caller,
    session: Option<Session>,
    epochs: KnownEpochs,
    /// The epochs that the shipper asked for: the lives of the file.
    asked: Vec<EpochId>,
    streams: BTreeMap<ShipStream, StreamState>,
    days: Days,
    upkeep_us: u64,
}

/// Facts about a stream that are kept between batches.
#[derive(Clone, Copy, Debug, Default)]
struct StreamState {
    /// Rows of the last batch were in the target already.
    is_careful: bool,
    rejected_in_a_row: u32,
}

impl PostgresSink {
    /// Makes a sink for one shard of the data folder with this id, without connecting. Calls return
    /// [`SinkError::Stopped`] soon after `stop` is set.
    ///
    /// # Errors
    /// The operating system does not provide a runtime.
    pub fn new(
        options: PostgresOptions,
        folder_id: String,
        shard: ShardId,
        stop: Arc<AtomicBool>,
    ) -> std::io::Result<PostgresSink> {
        Ok(PostgresSink {
            options,
            folder_id,
            // A folder has at most 256 shards.
            shard: i16::try_from(shard.0).unwrap_or(i16::MAX),
            caller: Caller::new(stop)?,
            session: None,
            epochs: KnownEpochs::new(),
            asked: Vec::new(),
            streams: BTreeMap::new(),
            days: Days::default(),
            upkeep_us: 0,
        })
    }

    /// Connects if there is no connection, and creates or checks the schema.
    fn connect(&mut self) -> Result<(), Failure> {
        if self.session.is_some() {
            return Ok(());
        }
        let options = &self.options;
        let session = self.caller.run(CALL_MAX, async {
            let session = connect::connect(options).await?;
            ddl::ensure(&session).await?;
            Ok(session)
        })?;
        self.session = Some(session);
        self.days.clear();
        self.upkeep_us = 0;
        Ok(())
    }

    /// Drops the connection after an error, and names the target in it.
    fn lost(&mut self, failure: Failure) -> SinkError {
        self.session = None;
        let target = self.options.target();
        match failure.into_sink_error() {
            SinkError::Passing(reason) => SinkError::Passing(format!("{target}: {reason}")),
            SinkError::Lasting(reason) => SinkError::Lasting(format!("{target}: {reason}")),
            error @ (SinkError::Moved(_) | SinkError::Stopped) => error,
        }
    }

    fn read_places(&mut self) -> Result<bool, Failure> {
        self.connect()?;
        let Some(session) = &self.session else { return Err(not_connected()) };
        let call = places::known(session, &self.folder_id, self.shard, &self.asked);
        let (epochs, knows_node) = self.caller.run(CALL_MAX, call)?;
        self.epochs = epochs;
        Ok(knows_node)
    }

    fn begin(&mut self, epoch: &EpochId, starts: &Places) -> Result<Places, Failure> {
        self.connect()?;
        let Some(session) = &self.session else { return Err(not_connected()) };
        let call = places::begin(session, &self.folder_id, self.shard, epoch, starts);
        self.caller.run(CALL_MAX, call)?;
        if !self.asked.contains(epoch) {
            self.asked.push(epoch.clone());
        }
        self.read_places()?;
        let known = self.epochs.get(epoch).map(|known| known.places.clone());
        known.ok_or_else(|| {
            Failure::Sink(SinkError::Moved("the epoch that was begun is not there".to_owned()))
        })
    }

    /// Creates partitions for these clicks and the week ahead. While that is impossible, rows go to the default
    /// partition.
    fn make_days(&mut self, rows: &[super::rows::ClickRow]) -> Result<(), Failure> {
        let days = self.days.missing(rows);
        if days.is_empty() {
            return Ok(());
        }
        let Some(session) = &self.session else { return Err(not_connected()) };
        let made = self.caller.run(CALL_MAX, async {
            let made = days::make(session, &days).await;
            if let Err(failure) = &made
                && days::is_harmless(failure)
            {
                session.client.batch_execute("ROLLBACK").await?;
            }
            made
        });
        match made {
            Ok(()) => self.days.made(&days),
            Err(failure) if days::is_harmless(&failure) => {
                self.days.failed();
                tracing::warn!(
                    error = %failure.into_sink_error(),
                    "days of clicks have no partition yet; their rows go to fh.clicks_default"
                );
            }
            Err(failure) => return Err(failure),
        }
        Ok(())
    }

    fn write_batch(&mut self, batch: &ShipBatch) -> Result<Written, Failure> {
        if let Rows::Clicks(rows) = &batch.rows {
            self.make_days(rows)?;
        }
        let Some(session) = &self.session else { return Err(not_connected()) };
        let Some(epoch) = self.epochs.get(&batch.epoch) else {
            return Err(Failure::Sink(SinkError::Moved(format!("the epoch {} is unknown", batch.epoch.0))));
        };
        let context = Context { session, origin: epoch.origin, epochs: &self.epochs };
        let state = self.streams.entry(batch.stream).or_default();
        let time_max = if effects::is_any_erasing(&batch.rows) { LONG_CALL_MAX } else { CALL_MAX };
        let call = write::write(&context, batch, state.is_careful, state.rejected_in_a_row);
        let outcome = self.caller.run(time_max, call)?;
        state.is_careful = outcome.written.twice > 0;
        state.rejected_in_a_row = outcome.rejected_in_a_row;
        if outcome.has_erased {
            // The batch is committed, whatever becomes of this. After an error, the next call finds no connection.
            let _ = self.vacuum();
        }
        Ok(outcome.written)
    }

    /// Vacuums what is due. A failure changes nothing of what is committed: the target remembers what is due.
    fn vacuum(&mut self) -> Result<(), SinkError> {
        let Some(session) = &self.session else { return Ok(()) };
        let Err(failure) = self.caller.run(LONG_CALL_MAX, vacuum::run(session)) else { return Ok(()) };
        // The connection is gone, so the places that were read from it are, too.
        let error = self.lost(failure);
        tracing::warn!(%error, "deleted rows are still in the files of the target; VACUUM is tried again");
        Err(match error {
            SinkError::Lasting(reason) => SinkError::Passing(reason),
            error => error,
        })
    }

    /// Notices that the target has closed the connection: it may have been set back.
    fn ping(&mut self) -> Result<(), SinkError> {
        let Some(session) = &self.session else { return Ok(()) };
        let call = async { Ok(session.client.batch_execute("SELECT 1").await?) };
        let answered: Result<(), Failure> = self.caller.run(CALL_MAX, call);
        answered.map_err(|failure| self.lost(failure))
    }
}

fn not_connected() -> Failure {
    Failure::Sink(SinkError::Passing("there is no connection".to_owned()))
}

impl Sink for PostgresSink {
    fn known(&mut self, epochs: &[EpochId]) -> Result<Known, SinkError> {
        self.asked = epochs.to_vec();
        let knows_node = self.read_places().map_err(|failure| self.lost(failure))?;
        Ok(KnownEpoch::into_known(&self.epochs, knows_node))
    }

    fn begin_epoch(&mut self, epoch: &EpochId, starts: &Places) -> Result<Places, SinkError> {
        self.begin(epoch, starts).map_err(|failure| self.lost(failure))
    }

    fn write(&mut self, batch: &ShipBatch) -> Result<Written, SinkError> {
        self.write_batch(batch).map_err(|failure| self.lost(failure))
    }

    fn idle(&mut self) -> Result<(), SinkError> {
        self.ping()?;
        if self.session.is_none() || clock::monotonic_us() < self.upkeep_us {
            return Ok(());
        }
        if let Err(error) = self.make_days(&[]).map_err(|failure| self.lost(failure)) {
            return match error {
                // Batches of clicks report it and pause alone.
                SinkError::Lasting(_) => Ok(()),
                error => Err(error),
            };
        }
        self.upkeep_us = clock::monotonic_us() + UPKEEP_US;
        self.vacuum()
    }
}
