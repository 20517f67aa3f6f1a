//! The loop of one shard's thread: turns of the shipper, notes, measurements, and pauses after errors.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::backoff::{Backoff, wait_us};
use super::metrics::ShardFigures;
use super::notes::Notes;
use super::run::{Mode, PATIENCE_US, RunError, Shared, not_made, noted_places, open_notes};
use super::shipper::{ShipError, Shipper, Turn};
use super::sink::{Places, Sink, SinkError};
use super::source::Source;
use crate::base::clock;
use crate::base::ids::ShardId;
use crate::shard::DataFolder;

/// The time between two measurements of what is behind, and between two calls of [`Sink::idle`].
const MEASURE_EVERY_US: u64 = 1_000_000;
/// The pause after a turn that moved nothing.
const QUIET_US: u64 = 100_000;

/// The end of the patience with a target or a shard, for a run that is to end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Until(Option<u64>);

impl Until {
    /// Begins a wait.
    pub(super) fn of(mode: Mode) -> Until {
        Until((mode != Mode::Follow).then(|| clock::monotonic_us() + PATIENCE_US))
    }

    pub(super) fn is_over(self) -> bool {
        self.0.is_some_and(|until_us| clock::monotonic_us() >= until_us)
    }
}

/// One shard's part of a run.
pub(super) struct ShardRun {
    shard: ShardId,
    source: Source,
    shared: Shared,
    figures: Arc<ShardFigures>,
    measured_us: Option<u64>,
    /// The places that this run has to reach, with [`Mode::Once`].
    goal: Option<Places>,
}

impl ShardRun {
    pub(super) fn new(shard: ShardId, path: &Path, shared: Shared, figures: Arc<ShardFigures>) -> ShardRun {
        let source = Source::new(path, shared.limits);
        ShardRun { shard, source, shared, figures, measured_us: None, goal: None }
    }

    /// Ships until the end of the run. `make` returns the connection to the target.
    pub(super) fn run<S: Sink>(mut self, make: impl FnOnce() -> io::Result<S>) -> Result<(), RunError> {
        let noted = noted_places(&self.shared.data, &self.shared.name, self.shard);
        self.figures.set_places(&noted);
        let ready = loop {
            if let Some(ready) = self.shared.ready.get() {
                break ready.clone();
            }
            if self.shared.is_stopped() {
                return Ok(());
            }
            self.measure(&noted);
            let shared = self.shared.clone();
            wait_us(QUIET_US, || shared.is_stopped() || shared.ready.get().is_some());
        };
        let mut notes = open_notes(&ready, self.shard)?;
        let path = Source::new(self.source.path(), self.shared.limits);
        let mut shipper = Shipper::new(
            self.shard,
            path,
            make().map_err(not_made)?,
            Arc::clone(&ready.whole),
            Arc::clone(&self.shared.rate),
            Arc::clone(&self.figures),
        );
        let outcome = self.turns(&mut shipper, &mut notes);
        let noted = self.note(&shipper, &mut notes, true);
        outcome.and(noted)
    }

    fn turns<S: Sink>(&mut self, shipper: &mut Shipper<S>, notes: &mut Notes) -> Result<(), RunError> {
        let mut backoff = Backoff::default();
        let mut until = Until::of(self.shared.mode);
        let mut idle_us = 0;
        while !self.shared.is_stopped() {
            self.measure(&places(shipper, notes));
            match shipper.turn() {
                Ok(turn) => {
                    backoff.reset();
                    self.note(shipper, notes, false)?;
                    if turn.has_moved {
                        until = Until::of(self.shared.mode);
                    } else if self.is_end(shipper, turn, until)? {
                        return Ok(());
                    } else {
                        let now_us = clock::monotonic_us();
                        if now_us >= idle_us {
                            idle_us = now_us + MEASURE_EVERY_US;
                            if let Err(error) = shipper.idle() {
                                self.failed(&error, &mut backoff, until)?;
                            }
                        }
                        wait_us(QUIET_US, || self.shared.is_stopped());
                    }
                }
                Err(ShipError::Sink(SinkError::Stopped)) => {}
                Err(error) => {
                    self.note(shipper, notes, false)?;
                    self.failed(&error, &mut backoff, until)?;
                    let (pause_us, places) = (backoff.next_us(), places(shipper, notes));
                    wait_us(pause_us, || {
                        self.measure(&places);
                        self.shared.is_stopped()
                    });
                }
            }
        }
        Ok(())
    }

    /// Logs an error after which the shard tries again, or returns the one that ends the run.
    fn failed(&self, error: &ShipError, backoff: &mut Backoff, until: Until) -> Result<(), RunError> {
        if matches!(error, ShipError::Sink(SinkError::Stopped)) {
            return Ok(());
        }
        if !error.is_passing() || until.is_over() {
            return Err(RunError::Failed(format!("shard {}: {error}", self.shard.0)));
        }
        if backoff.is_news(&error.to_string()) {
            tracing::warn!(shard = self.shard.0, %error, "shipping is interrupted; trying again");
        }
        Ok(())
    }

    /// Notes what the target has, if that is known.
    fn note<S: Sink>(&self, shipper: &Shipper<S>, notes: &mut Notes, is_last: bool) -> Result<(), RunError> {
        match shipper.confirmed() {
            Some(confirmed) => Ok(notes.note(confirmed, self.figures.rejected(), is_last)?),
            None => Ok(()),
        }
    }

    /// Measures what is behind these places, once a second.
    fn measure(&mut self, places: &Places) {
        let now_us = clock::monotonic_us();
        if self.measured_us.is_some_and(|measured_us| now_us < measured_us + MEASURE_EVERY_US) {
            return;
        }
        self.measured_us = Some(now_us);
        match self.source.seen(places) {
            Ok(seen) => self.figures.set_seen(&seen),
            Err(error) => tracing::debug!(shard = self.shard.0, %error, "the shard was not measured"),
        }
    }

    /// Returns `true` if the run is to end, and everything is there that it is to ship.
    fn is_end<S: Sink>(
        &mut self,
        shipper: &mut Shipper<S>,
        turn: Turn,
        until: Until,
    ) -> Result<bool, RunError> {
        let is_done = match self.shared.mode {
            Mode::Follow => return Ok(false),
            Mode::Once => self.has_reached_goal(shipper),
            Mode::Drain => turn.is_at_limit && self.is_drained(shipper)?,
        };
        if is_done || (turn.refused > 0 && !turn.is_waiting) {
            let refused: Vec<String> =
                shipper.refusals().map(|(stream, why)| format!("{}: {why}", stream.as_str())).collect();
            return match refused.as_slice() {
                [] => Ok(true),
                refused => Err(RunError::Failed(format!(
                    "shard {}: the target refuses {}",
                    self.shard.0,
                    refused.join("; ")
                ))),
            };
        }
        if until.is_over() {
            let why =
                "no row can be shipped: the server has yet to copy them into the shard's file. Start it once";
            return Err(RunError::Failed(format!("shard {}: {why}", self.shard.0)));
        }
        Ok(false)
    }

    /// Returns `true` if the places are at the limits that the run found first.
    fn has_reached_goal<S: Sink>(&mut self, shipper: &Shipper<S>) -> bool {
        let Some((_, places)) = shipper.confirmed() else { return false };
        if self.goal.is_none() {
            self.goal = self.source.look().ok().map(|look| look.limits);
        }
        let Some(goal) = &self.goal else { return false };
        goal.iter().all(|(stream, last)| places.get(stream).copied().unwrap_or_default() >= *last)
    }

    /// Returns `true` if the shard has nothing that is not shipped. Rows above the limit need a server.
    fn is_drained<S: Sink>(&mut self, shipper: &Shipper<S>) -> Result<bool, RunError> {
        let Some((_, places)) = shipper.confirmed() else { return Ok(false) };
        let Ok(seen) = self.source.seen(places) else { return Ok(false) };
        if seen.has_nothing() {
            return Ok(true);
        }
        if DataFolder::is_served(&self.shared.data) {
            return Ok(false);
        }
        let why = match seen.has_unmoved {
            true => "has rows of an earlier version",
            false => "has rows that are only in its write-ahead log",
        };
        Err(RunError::Failed(format!(
            "shard {} {why}: start the server once, stop it, and repeat this",
            self.shard.0
        )))
    }
}

/// Returns the places that the target has confirmed or, while they are not known, those of the last note.
fn places<S: Sink>(shipper: &Shipper<S>, notes: &Notes) -> Places {
    shipper.confirmed().map_or_else(|| notes.places(), |(_, places)| places.clone())
}
