//! The rows of one body on their way to a commit: staged by shard, journaled in portions, settled by commits.
//!
//! A limited number of portions may wait for commits. At the limit, the body is not read further.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::api::write::WriteRefused;
use crate::http::Refusal;
use crate::ingest::KeyedRows;
use crate::lane::keyed::{JournalEnds, PATIENCE};
use crate::lane::{Begun, BudgetExceeded, Component, Lane, Reservation, Settled, keyed};
use crate::orders::body::OrderDecoder;
use crate::orders::ingest::OrderIngest;
use crate::unpack::{Limits, Next, Unpacker};

/// The number of row bytes that are journaled together.
const STAGED_BYTES: usize = 256 * 1024;
/// The maximum number of portions per shard that wait for their commits.
const OPEN_MAX: usize = 6;

/// One core's order parser.
#[derive(Default)]
pub struct OrderLines(RefCell<OrderDecoder>);

impl Component for OrderLines {}

/// Rows on their way to a commit.
struct Portion {
    rows: Arc<KeyedRows>,
    begun: Begun,
}

/// One ingest, regardless of where its bytes come from.
pub struct RowIntake {
    pub ingest: OrderIngest,
    open: VecDeque<Portion>,
    /// The number of leading lines that the summary already counts.
    lines_known: u64,
    /// Set if settled rows have to survive a power cut.
    wants_disk: bool,
    /// The ends, in the journals, of the rows that the summary reports and that may not be on disk yet.
    ends: JournalEnds,
    /// How long a portion may wait for its commit.
    patience: Duration,
    /// The memory reserved for unpacking and for rows in progress.
    held: Option<Reservation>,
}

impl RowIntake {
    pub fn new(ingest: OrderIngest, wants_disk: bool) -> RowIntake {
        RowIntake::behind(ingest, 0, wants_disk)
    }

    /// Continues an ingest whose summary already counts the first `lines_known` lines. These lines arrive again and
    /// are skipped.
    pub fn behind(ingest: OrderIngest, lines_known: u64, wants_disk: bool) -> RowIntake {
        let (open, ends) = (VecDeque::new(), JournalEnds::default());
        RowIntake { ingest, open, lines_known, wants_disk, ends, patience: PATIENCE, held: None }
    }

    /// Shortens the wait for commits, also for portions that are in progress.
    pub fn hurry(&mut self, patience: Duration) {
        self.patience = patience;
        self.open.iter_mut().for_each(|portion| portion.begun.hurry(patience));
    }

    /// Sets the ack level of the rows that arrive from now on.
    pub fn set_wants_disk(&mut self, wants_disk: bool) {
        self.wants_disk = wants_disk;
    }

    /// Ingests every line that the unpacker has.
    pub async fn drain(
        &mut self,
        lane: &Lane,
        unpacker: &mut Unpacker,
        lines_before: u64,
    ) -> Result<(), WriteRefused> {
        loop {
            let is_drained = {
                let mut decoder = lane.component::<OrderLines>().0.borrow_mut();
                loop {
                    match unpacker.next()? {
                        Next::Hungry | Next::End => break true,
                        Next::Line(line) if line.number <= self.lines_known => {}
                        Next::Line(line) if line.is_too_long => {
                            self.ingest
                                .too_long(lines_before + line.number, Limits::default().line_bytes_max);
                        }
                        Next::Line(line) => {
                            let number = lines_before + line.number;
                            self.ingest.line(&mut decoder, &lane.keys, number, line.bytes);
                        }
                    }
                    if self.ingest.staged_bytes() >= STAGED_BYTES {
                        break false;
                    }
                }
            };
            if is_drained {
                return self.hold(lane, unpacker.memory_bytes());
            }
            self.hand_on(lane).await?;
        }
    }

    /// Reserves the memory that is held now. The unpacker holds `unpacker_bytes` of it.
    fn hold(&mut self, lane: &Lane, unpacker_bytes: usize) -> Result<(), WriteRefused> {
        let open_bytes: usize = self.open.iter().map(|portion| portion.rows.bytes()).sum();
        let bytes = unpacker_bytes + self.ingest.staged_bytes() + open_bytes;
        let held = self.held.get_or_insert_with(|| lane.memory.hold());
        match held.set(bytes) {
            Err(BudgetExceeded) if !lane.release_memory() => Err(Refusal::BuffersFull.into()),
            _ => Ok(()),
        }
    }

    /// Sends staged rows to their journals. Waits while too many portions are in progress.
    async fn hand_on(&mut self, lane: &Lane) -> Result<(), WriteRefused> {
        for (shard, rows) in self.ingest.take() {
            let rows = Arc::new(rows);
            let begun =
                keyed::begin_when_there_is_room(lane, shard, &rows, self.wants_disk, self.patience).await?;
            self.open.push_back(Portion { rows, begun });
        }
        while self.open.len() > OPEN_MAX * usize::from(lane.shard_count) {
            self.settle_one(lane).await?;
        }
        Ok(())
    }

    async fn settle_one(&mut self, lane: &Lane) -> Result<(), WriteRefused> {
        let Some(Portion { rows, begun }) = self.open.pop_front() else { return Ok(()) };
        let settled = keyed::settle(lane, begun, self.wants_disk).await?;
        let Settled { first, outcomes, synced, upto } = settled;
        if !synced {
            return Err(WriteRefused::Unsynced);
        }
        self.ends.add(first.shard, upto);
        for ((line, payload), outcome) in rows.rows().zip(outcomes) {
            let outcome = outcome.ok_or(WriteRefused::NotCommitted)?;
            self.ingest.summary.settle(line as u64, payload, outcome);
        }
        Ok(())
    }

    /// Waits until everything ingested so far is committed.
    pub async fn settle(&mut self, lane: &Lane) -> Result<(), WriteRefused> {
        self.hand_on(lane).await?;
        while !self.open.is_empty() {
            self.settle_one(lane).await?;
        }
        self.ingest.summary.sort();
        Ok(())
    }

    /// Syncs the rows at any ack level. The caller then writes a key or a checkpoint that refers to the rows. This
    /// record may reach the disk at any moment, and must not be on disk without the rows. If the sync fails, a
    /// request with `ack=disk` is refused. For other requests, the function returns `false`, and nothing may refer to
    /// the rows yet.
    pub async fn make_durable(&mut self, lane: &Lane) -> Result<bool, WriteRefused> {
        let synced = self.ends.sync(lane).await?;
        match synced || !self.wants_disk {
            true => Ok(synced),
            false => Err(WriteRefused::Unsynced),
        }
    }
}
