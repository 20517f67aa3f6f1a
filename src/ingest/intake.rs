//! The intake of one thread: admit → decode → route → journal. It uses the thread's own lanes and shares nothing.

use std::sync::Arc;

use super::batch::{Batch, Flushed};
use super::board::Board;
use super::click::{CLICK, encode_header};
use super::keyed::{KeyedRows, Written};
use crate::base::ids::{Receipt, Sequence, ShardId};
use crate::event::{DecodeError, Decoder};
use crate::http::{Coding, InflateError, without_mark};
use crate::journal::{AppendError, Appender};

/// How long events go to one of the thread's shards before the next one is considered. It is long enough for full
/// transactions and for one file to sync, and short enough that shards fill evenly.
const SLICE_US: u64 = 50_000;
/// The staged bytes above which rows are journaled at once. A larger write gains nothing.
const BATCH_BYTES: usize = 256 * 1024;

/// Why nothing more is accepted at the moment. No part of the refused request was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pressure {
    /// 429: the shard's backlog exceeds the high-water mark.
    QueueFull { events: u64, bytes: u64, delay_s: u64 },
    /// 507: the journal has reached its cap, or the disk is full or nearly full.
    JournalFull,
    /// 503: the journal could not be written for another reason, which is in the log.
    JournalBroken,
    /// 503, only for requests with `ack=disk`: an fsync failed, and the records that may be lost because of it are
    /// not in the database yet.
    Unsynced,
}

#[derive(Debug)]
pub enum Refused {
    Decode(DecodeError),
    Inflate(InflateError),
    TooLarge,
    Pressure(Pressure),
}

/// The published records of one append whose clients may wait for the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Index among this intake's lanes, for [`Intake::synced`].
    pub lane: usize,
    pub upto: u64,
}

struct Lane {
    shard: ShardId,
    appender: Appender,
    /// The shard's index on the board.
    place: usize,
    /// The rows that are staged, if any.
    batch: Option<Arc<Batch>>,
}

/// The decoder, buffers and journals of one thread.
pub struct Intake {
    board: Arc<Board>,
    decoder: Decoder,
    inflated: Vec<u8>,
    lanes: Vec<Lane>,
    current: usize,
    slice_end_us: u64,
    pressure: Option<Pressure>,
    event_bytes_max: usize,
    high_water_bytes: u64,
    flushed: Flushed,
}

impl Intake {
    /// Creates an intake with at least one appender: one for each shard that this thread feeds.
    #[must_use]
    pub fn new(
        board: Arc<Board>,
        appenders: Vec<(ShardId, Appender)>,
        event_bytes_max: usize,
        high_water_bytes: u64,
    ) -> Intake {
        assert!(!appenders.is_empty(), "a thread that takes events feeds a shard");
        let place = |shard| board.shards.iter().position(|known| known.shard == shard).unwrap_or_default();
        let lanes = appenders
            .into_iter()
            .map(|(shard, appender)| Lane { shard, place: place(shard), appender, batch: None })
            .collect();
        Intake {
            board,
            decoder: Decoder::new(),
            inflated: Vec::new(),
            lanes,
            current: 0,
            slice_end_us: 0,
            pressure: None,
            event_bytes_max,
            high_water_bytes,
            flushed: Flushed::default(),
        }
    }

    /// Begins a tick: selects the shard for its events and checks whether the shard may accept any.
    pub fn begin(&mut self, now_us: u64) {
        if self.lanes.len() > 1 && now_us >= self.slice_end_us {
            self.slice_end_us = now_us + SLICE_US;
            // Selects the least loaded shard, starting after the current one. Evenly loaded shards take turns, and a
            // locked shard is skipped as soon as it falls behind.
            let behind = |at: &usize| self.board.shards[self.lanes[*at].place].flow().pending_bytes >> 20;
            let count = self.lanes.len();
            let turn = (1..=count).map(|step| (self.current + step) % count);
            self.current = turn.min_by_key(behind).unwrap_or_default();
        }
        self.pressure = self.pressure_of(self.current);
    }

    /// Returns the reason why no shard of any core accepts more events, or `None` if at least one shard does.
    #[must_use]
    pub fn pressure_everywhere(&self) -> Option<Pressure> {
        let places = 0..self.board.shards.len();
        let mut pressures = places.map(|place| self.pressure_at(place));
        let first = pressures.next().flatten()?;
        pressures.all(|pressure| pressure.is_some()).then_some(first)
    }

    fn pressure_of(&self, lane: usize) -> Option<Pressure> {
        self.pressure_at(self.lanes[lane].place)
    }

    fn pressure_at(&self, place: usize) -> Option<Pressure> {
        if self.board.disk_low() {
            return Some(Pressure::JournalFull);
        }
        let shard = &self.board.shards[place];
        let bytes: u64 = shard.lanes.iter().map(|lane| lane.pending_bytes()).sum();
        if bytes < self.high_water_bytes {
            return None;
        }
        let events = shard.flow().pending();
        Some(Pressure::QueueFull { events, bytes, delay_s: shard.wait_s() })
    }

    /// Decodes one event and stages its record. The next [`Intake::commit`] publishes it.
    pub fn stage_click(&mut self, coding: Coding, body: &[u8], received_us: i64) -> Result<Receipt, Refused> {
        if let Some(pressure) = self.pressure {
            return Err(Refused::Pressure(pressure));
        }
        let body = match coding {
            Coding::Identity => body,
            coding => {
                coding.inflate(body, self.event_bytes_max, &mut self.inflated).map_err(Refused::Inflate)?;
                &self.inflated
            }
        };
        if body.len() > self.event_bytes_max {
            return Err(Refused::TooLarge);
        }
        let event = self.decoder.click(without_mark(body)).map_err(Refused::Decode)?;
        let lane = &mut self.lanes[self.current];
        let header = encode_header(event.user_id, event.timestamp_us, received_us);
        let sequence = lane.appender.stage(CLICK, &[&header, event.metadata]);
        Ok(Receipt { shard: lane.shard, lane: lane.appender.state().lane(), sequence })
    }

    /// Returns the number of bytes that wait for the next commit.
    #[must_use]
    pub fn staged_bytes(&self) -> usize {
        self.lanes[self.current].appender.staged().1
    }

    /// Writes everything staged with one write. On an error, none of it was published and none may be acknowledged.
    pub fn commit(&mut self) -> Result<Option<Appended>, Pressure> {
        if self.lanes[self.current].appender.staged().0 == 0 {
            return Ok(None);
        }
        self.commit_lane(self.current).map(Some)
    }

    fn commit_lane(&mut self, lane: usize) -> Result<Appended, Pressure> {
        let Lane { shard, appender, place, batch } = &mut self.lanes[lane];
        let committed = match appender.commit() {
            Ok(committed) => Ok(Appended { lane, upto: committed.end }),
            Err(AppendError::Full | AppendError::NoSpace) => Err(Pressure::JournalFull),
            Err(error) => {
                tracing::error!(shard = shard.0, %error, "the journal cannot be written");
                Err(Pressure::JournalBroken)
            }
        };
        if let Some(batch) = batch.take() {
            self.flushed.add(&batch, committed.map(|_| ()));
            self.board.shards[*place].wake_writer();
        }
        committed
    }

    /// Returns the index of the lane that feeds a shard, or `None` if another core does.
    #[must_use]
    pub fn lane_of(&self, shard: ShardId) -> Option<usize> {
        self.lanes.iter().position(|lane| lane.shard == shard)
    }

    /// Stages the rows of one request, of which there must be at least one. The next [`Intake::flush`] journals them
    /// together with those of other requests: all of them or none. Until their batch is written, nothing may be
    /// answered.
    pub fn stage_rows(&mut self, lane: usize, rows: &KeyedRows) -> Result<Written, Pressure> {
        if let Some(pressure) = self.pressure_of(lane) {
            return Err(pressure);
        }
        let Lane { shard, appender, batch, .. } = &mut self.lanes[lane];
        debug_assert!(!rows.is_empty());
        let mut last = Sequence::NONE;
        for payload in rows.payloads() {
            last = appender.stage(rows.kind(), &[payload]);
        }
        let sequence = Sequence(last.0 + 1 - rows.len() as u64);
        let first = Receipt { shard: *shard, lane: appender.state().lane(), sequence };
        let appended = Appended { lane, upto: appender.staged_end() };
        let batch = batch.get_or_insert_default().clone();
        batch.add(rows);
        if appender.staged().1 >= BATCH_BYTES {
            // The batch has the result.
            let _ = self.commit_lane(lane);
        }
        Ok(Written { first, last, appended, batch })
    }

    /// Journals everything that [`Intake::stage_rows`] has staged, with one write for each lane, and wakes the writers.
    /// Returns what was journaled since the last call.
    pub fn flush(&mut self) -> Flushed {
        for lane in 0..self.lanes.len() {
            if self.lanes[lane].batch.is_some() {
                // The batch has the result.
                let _ = self.commit_lane(lane);
            }
        }
        std::mem::take(&mut self.flushed)
    }

    /// Returns the last record of a lane whose outcome is committed.
    #[must_use]
    pub fn applied(&self, lane: usize) -> Sequence {
        let Lane { place, appender, .. } = &self.lanes[lane];
        self.board.shards[*place].status.applied(appender.state().lane())
    }

    /// Returns the offset after the last record of a lane.
    #[must_use]
    pub fn end(&self, lane: usize) -> u64 {
        self.lanes[lane].appender.state().end()
    }

    /// Starts the new segments that were requested, even if no record arrives. Call it between ticks, and after
    /// [`Intake::flush`]. A segment that cannot be closed yet is tried again at the next call.
    pub fn rotate(&mut self) {
        for lane in &mut self.lanes {
            if let Err(error) = lane.appender.rotate_if_asked() {
                tracing::debug!(shard = lane.shard.0, %error, "a journal segment could not be closed yet");
            }
        }
    }

    /// Starts new segments in journals that may contain suppressed people's data, so that the writer's last
    /// checkpoint deletes the old ones. This is the last step before the thread ends.
    pub fn rotate_suppressed(&mut self) {
        for lane in &self.lanes {
            if self.board.shards[lane.place].status.suppressed.get() > 0 {
                let _ = lane.appender.state().ask_rotation();
            }
        }
        self.rotate();
    }

    /// Returns the offset up to which a lane's bytes survive a power cut.
    #[must_use]
    pub fn synced(&self, lane: usize) -> u64 {
        self.lanes[lane].appender.state().synced()
    }

    /// Returns the reason why no event of this tick can be promised `ack=disk`, if any. Such an event is not accepted
    /// at all.
    #[must_use]
    pub fn disk_promise_pressure(&self) -> Option<Pressure> {
        self.sync_failed(self.current).then_some(Pressure::Unsynced)
    }

    /// Returns `true` if an fsync failed and the bytes after it are not in the database yet, so that `ack=disk`
    /// cannot be promised.
    #[must_use]
    pub fn sync_failed(&self, lane: usize) -> bool {
        self.lanes[lane].appender.state().sync_failed()
    }
}
