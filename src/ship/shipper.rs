//! The shipper of one shard: reads what is next, gives it to the target, and moves on when both rows and place are there.
//!
//! In: a [`Source`] and a [`Sink`]. Out: rows in the target. Owns: what it knows of the places in the target, until an
//! error. Never: guesses a place. After any error of the target it asks again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::lives::{Start, start};
use super::metrics::ShardFigures;
use super::rate::RateLimit;
use super::rows::ShipStream;
use super::sink::{EpochId, Places, ShipBatch, Sink, SinkError, Written};
use super::source::{Found, Look, NextRows, Source};
use crate::base::clock;
use crate::base::ids::ShardId;
use crate::shard::ShardError;

/// The time after which a refused stream is tried again.
const REFUSED_AGAIN_US: u64 = 30_000_000;

/// The order of the streams in a turn. Orders precede changes, so that a status is in the feed while the orders that it
/// names are read.
const TURN: [ShipStream; 6] = [
    ShipStream::Orders,
    ShipStream::Events,
    ShipStream::Clicks,
    ShipStream::StockEvents,
    ShipStream::Prices,
    ShipStream::Changes,
];

/// The reason why a turn ended early.
#[derive(Debug, thiserror::Error)]
pub(super) enum ShipError {
    /// The shard cannot be read.
    #[error("the shard cannot be read: {0}")]
    Read(#[from] ShardError),
    #[error("{0}")]
    Sink(#[from] SinkError),
    /// The target has rows that the shard has never had.
    #[error(
        "the target has the rows of {} up to {place}, but the shard has issued ids only up to {newest}: its file \
         was replaced by an older one without a new epoch. Restore it with `firehose backup`'s copy, or remove the \
         sink", stream.as_str()
    )]
    Ahead { stream: ShipStream, place: i64, newest: i64 },
}

impl ShipError {
    /// Returns `true` if the same attempt may succeed later.
    #[must_use]
    pub(super) fn is_passing(&self) -> bool {
        match self {
            ShipError::Read(error) => is_passing_read(error),
            ShipError::Sink(error) => matches!(error, SinkError::Passing(_) | SinkError::Moved(_)),
            ShipError::Ahead { .. } => false,
        }
    }
}

/// Returns `true` if a later attempt to read a shard may succeed. A damaged file may be healed or restored meanwhile.
pub(super) fn is_passing_read(error: &ShardError) -> bool {
    !matches!(error, ShardError::TooNew { .. } | ShardError::Foreign(_))
}

/// The result of a turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Turn {
    /// Set if the place of any stream has moved.
    pub has_moved: bool,
    /// Set if every stream is at its limit. A refused stream is not.
    pub is_at_limit: bool,
    /// Set if a stream that is not refused may move soon without anything new.
    pub is_waiting: bool,
    /// The number of refused streams.
    pub refused: usize,
}

/// The state of the target, as far as it is known.
#[derive(Clone, Debug)]
struct Life {
    epoch: EpochId,
    places: Places,
}

/// A stream that the target refuses.
#[derive(Debug)]
struct Refused {
    why: String,
    again_us: u64,
}

/// The shipper of one shard.
#[derive(Debug)]
pub(super) struct Shipper<S> {
    shard: ShardId,
    source: Source,
    sink: S,
    life: Option<Life>,
    refused: BTreeMap<ShipStream, Refused>,
    whole: Arc<BTreeSet<String>>,
    rate: Arc<RateLimit>,
    figures: Arc<ShardFigures>,
}

impl<S: Sink> Shipper<S> {
    /// Returns a shipper. `whole` names resharded epochs of which the target has nothing ([`start`]).
    pub(super) fn new(
        shard: ShardId,
        source: Source,
        sink: S,
        whole: Arc<BTreeSet<String>>,
        rate: Arc<RateLimit>,
        figures: Arc<ShardFigures>,
    ) -> Shipper<S> {
        Shipper { shard, source, sink, life: None, refused: BTreeMap::new(), whole, rate, figures }
    }

    /// Returns the epoch and the places that the target has confirmed, unless they must be asked for.
    #[must_use]
    pub(super) fn confirmed(&self) -> Option<(&EpochId, &Places)> {
        self.life.as_ref().map(|life| (&life.epoch, &life.places))
    }

    /// Returns the reason why the target refuses a stream, for each refused one.
    pub(super) fn refusals(&self) -> impl Iterator<Item = (ShipStream, &str)> {
        self.refused.iter().map(|(stream, refused)| (*stream, refused.why.as_str()))
    }

    /// Lets the target do the work that it needs now and then.
    ///
    /// # Errors
    /// See [`Sink::idle`].
    pub(super) fn idle(&mut self) -> Result<(), ShipError> {
        self.sink.idle().map_err(|error| self.forget(error))
    }

    /// Ships at most one batch of each stream.
    ///
    /// # Errors
    /// The shard cannot be read, or the target does not answer. The caller decides when to try again.
    pub(super) fn turn(&mut self) -> Result<Turn, ShipError> {
        let look = self.source.look()?;
        if look.is_beginning || look.epochs.is_empty() {
            return Ok(Turn { is_waiting: true, ..Turn::default() });
        }
        self.ask(&look)?;
        let mut turn = Turn { is_at_limit: true, ..Turn::default() };
        let mut failed = None;
        for stream in TURN {
            if self.is_refused(stream) {
                turn.is_at_limit = false;
                continue;
            }
            match self.ship(&look, stream) {
                Ok(Shipped::Moved) => (turn.has_moved, turn.is_at_limit) = (true, false),
                Ok(Shipped::Nothing) => {}
                Ok(Shipped::Waits) => (turn.is_waiting, turn.is_at_limit) = (true, false),
                Err(ShipError::Sink(SinkError::Lasting(why))) => {
                    self.refuse(stream, why);
                    turn.is_at_limit = false;
                    // The places of the other streams are asked for again.
                    self.ask(&look)?;
                }
                // A locked table or a damaged partition concerns one stream. The others must not wait for it.
                Err(error)
                    if matches!(error, ShipError::Read(_) | ShipError::Sink(SinkError::Passing(_))) =>
                {
                    failed.get_or_insert(error);
                    self.ask(&look)?;
                }
                Err(error) => return Err(error),
            }
            if self.life.is_none() {
                (turn.is_waiting, turn.is_at_limit) = (true, false);
                break;
            }
        }
        turn.refused = self.refused.len();
        failed.map_or(Ok(turn), Err)
    }

    /// Asks for the places, if they are not known for the newest epoch.
    fn ask(&mut self, look: &Look) -> Result<(), ShipError> {
        let newest = look.epochs.last().map(|epoch| epoch.id.as_str());
        if self.life.as_ref().is_some_and(|life| Some(life.epoch.0.as_str()) == newest) {
            return Ok(());
        }
        self.life = None;
        let ids: Vec<EpochId> = look.epochs.iter().map(|epoch| EpochId(epoch.id.clone())).collect();
        let known = self.sink.known(&ids).map_err(|error| self.forget(error))?;
        let (epoch, places) = match start(&look.epochs, &known, &self.whole) {
            None => return Ok(()),
            Some(Start::Known(epoch, places)) => (epoch, places),
            Some(Start::Begin(epoch, starts)) => {
                let places = self.sink.begin_epoch(&epoch, &starts).map_err(|error| self.forget(error))?;
                tracing::info!(shard = self.shard.0, epoch = epoch.0, ?places, "the target has a new epoch");
                (epoch, places)
            }
        };
        for (stream, place) in &places {
            self.check_ahead(look, *stream, *place)?;
        }
        self.figures.set_places(&places);
        self.figures.set_connected(true);
        self.life = Some(Life { epoch, places });
        Ok(())
    }

    /// Refuses a place in the target that the shard's file cannot have given out.
    fn check_ahead(&mut self, look: &Look, stream: ShipStream, place: i64) -> Result<(), ShipError> {
        if place <= look.limits.get(&stream).copied().unwrap_or_default() {
            return Ok(());
        }
        let newest = self.source.newest(stream)?;
        if place > newest {
            return Err(ShipError::Ahead { stream, place, newest });
        }
        Ok(())
    }

    /// Ships the next rows of a stream, up to the limits of `look` at the least.
    fn ship(&mut self, look: &Look, stream: ShipStream) -> Result<Shipped, ShipError> {
        let Some(life) = &self.life else { return Ok(Shipped::Waits) };
        let after = life.places.get(&stream).copied().unwrap_or_default();
        // Most streams have nothing most of the time, which needs no further snapshot.
        if after >= look.limits.get(&stream).copied().unwrap_or_default() {
            self.refused.remove(&stream);
            return Ok(Shipped::Nothing);
        }
        let rows_max = self.rate.rows_now();
        if rows_max == 0 {
            return Ok(Shipped::Waits);
        }
        // The snapshot ends with the read, before the target is called.
        let NextRows { rows, last, skipped } = match self.source.read(&life.epoch, stream, after, rows_max)? {
            Found::Nothing => {
                self.refused.remove(&stream);
                return Ok(Shipped::Nothing);
            }
            Found::Unsettled => return Ok(Shipped::Waits),
            Found::OtherEpoch => {
                self.life = None;
                return Ok(Shipped::Waits);
            }
            Found::Next(next) => next,
        };
        let sent = rows.len() as u64;
        let batch = ShipBatch { epoch: life.epoch.clone(), stream, after, last, rows };
        let written = match self.sink.write(&batch) {
            Ok(written) => written,
            Err(error) => return Err(self.forget(error)),
        };
        self.rate.count(sent);
        self.figures.count(stream, Written { rows: sent, ..written }, skipped);
        if self.refused.remove(&stream).is_some() {
            tracing::info!(
                shard = self.shard.0,
                stream = stream.as_str(),
                "the target accepts the stream again"
            );
        }
        if let Some(life) = &mut self.life {
            life.places.insert(stream, last);
            self.figures.set_places(&life.places);
        }
        Ok(Shipped::Moved)
    }

    /// Forgets the places after an error of the target.
    fn forget(&mut self, error: SinkError) -> ShipError {
        self.life = None;
        self.figures.failed(clock::unix_us());
        if !matches!(error, SinkError::Lasting(_) | SinkError::Moved(_)) {
            self.figures.set_connected(false);
        }
        ShipError::Sink(error)
    }

    fn is_refused(&self, stream: ShipStream) -> bool {
        self.refused.get(&stream).is_some_and(|refused| clock::monotonic_us() < refused.again_us)
    }

    /// Pauses a stream, and says so once.
    fn refuse(&mut self, stream: ShipStream, why: String) {
        let again_us = clock::monotonic_us() + REFUSED_AGAIN_US;
        if self.refused.get(&stream).is_none_or(|known| known.why != why) {
            tracing::error!(
                shard = self.shard.0,
                stream = stream.as_str(),
                why,
                "the target refuses a stream; the others continue, and this one is tried again"
            );
        }
        self.refused.insert(stream, Refused { why, again_us });
    }
}

/// The result for one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shipped {
    Moved,
    /// It is at the limit.
    Nothing,
    /// It is not at the limit, and cannot continue now.
    Waits,
}
