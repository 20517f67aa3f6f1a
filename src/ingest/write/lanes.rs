//! The journals a writer reads: one reader and one batch each, within one budget.

use crate::base::ids::{LaneId, Sequence};
use crate::journal::{Batch, Gap, JournalError, Kind, Reader};
use crate::shard::{CLICK_KIND, Entry, Records, SERVICE_EVENT_KIND};

const _: () = assert!(Kind::Click as u8 == CLICK_KIND);
const _: () = assert!(Kind::ServiceEvent as u8 == SERVICE_EVENT_KIND);

impl Records for Batch {
    fn records(&self) -> impl Iterator<Item = Entry<'_>> {
        Batch::records(self).map(|record| Entry {
            sequence: record.sequence,
            kind: record.kind,
            payload: record.payload,
        })
    }
}

pub(super) struct Lanes {
    lanes: Vec<Lane>,
    /// Who reads first next time, so that a full lane never starves the others.
    first: usize,
}

struct Lane {
    reader: Reader,
    /// Read and not yet committed; kept over failures.
    batch: Batch,
    /// `None` until the reader was put behind a position.
    applied: Option<Sequence>,
}

impl Lane {
    fn id(&self) -> LaneId {
        self.reader.state().lane()
    }
}

impl Lanes {
    pub(super) fn new(readers: Vec<Reader>) -> Lanes {
        let lane = |reader| Lane { reader, batch: Batch::new(), applied: None };
        Lanes { lanes: readers.into_iter().map(lane).collect(), first: 0 }
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = LaneId> + '_ {
        self.lanes.iter().map(Lane::id)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lanes.iter().all(|lane| lane.batch.is_empty())
    }

    pub(super) fn batches(&self) -> Vec<(LaneId, &Batch)> {
        self.lanes.iter().map(|lane| (lane.id(), &lane.batch)).collect()
    }

    /// The batches are in the database.
    pub(super) fn committed(&mut self) {
        for lane in &mut self.lanes {
            lane.applied = lane.applied.max(lane.batch.last());
            lane.batch.clear();
        }
    }

    /// Records published and not yet committed, the batches in hand included.
    pub(super) fn pending(&self) -> u64 {
        let waiting = |lane: &Lane| {
            let applied = lane.applied.unwrap_or(Sequence::NONE);
            lane.reader.state().appended().0.saturating_sub(applied.0)
        };
        self.lanes.iter().map(waiting).sum()
    }

    /// Fills the batches from the lanes in turn until the budget is used up.
    pub(super) fn read(&mut self, rows_max: usize, bytes_max: usize) -> Result<(), JournalError> {
        let count = self.lanes.len();
        let (mut rows, mut bytes) = (rows_max, bytes_max);
        for index in (0..count).map(|step| (self.first + step) % count) {
            if rows == 0 || bytes == 0 {
                break;
            }
            let Some(Lane { reader, batch, .. }) = self.lanes.get_mut(index) else { continue };
            let read = reader.read(batch, rows, bytes)?;
            for damage in reader.take_damage() {
                tracing::error!(
                    lane = reader.state().lane().0,
                    file = %damage.file.display(),
                    offset = damage.offset,
                    bytes = damage.bytes,
                    records = damage.lost,
                    quarantined = damage.quarantined,
                    "damage in the journal was skipped"
                );
            }
            rows -= read.min(rows);
            bytes -= batch.bytes().min(bytes);
        }
        self.first = (self.first + 1) % count.max(1);
        Ok(())
    }

    /// Makes the folders that were removed under a running server, so that the journals can go on.
    pub(super) fn make_folders(&self) -> std::io::Result<()> {
        self.lanes.iter().try_for_each(|lane| std::fs::create_dir_all(lane.reader.state().dir()))
    }

    /// Puts every lane behind its position and tells what is missing there, also where a later lane
    /// fails. A lane that stands there already keeps its batch and its open file, which may have lost
    /// its name together with the database's.
    pub(super) fn seek(
        &mut self,
        position: impl Fn(LaneId) -> Sequence,
        mut missing: impl FnMut(LaneId, Gap),
    ) -> Result<(), JournalError> {
        for lane in &mut self.lanes {
            let applied = position(lane.id());
            if lane.applied == Some(applied) {
                continue;
            }
            lane.batch.clear();
            lane.applied = None;
            if let Some(gap) = lane.reader.seek(applied)? {
                missing(lane.id(), gap);
            }
            lane.applied = Some(applied);
        }
        Ok(())
    }

    /// After a panic: where the readers stand is not known.
    pub(super) fn forget(&mut self) {
        for lane in &mut self.lanes {
            lane.batch.clear();
            lane.applied = None;
        }
    }

    /// Syncs every lane up to where it was read; the first error after trying all.
    pub(super) fn sync_applied(&mut self) -> Result<(), JournalError> {
        self.lanes.iter_mut().map(|lane| lane.reader.sync_applied()).fold(Ok(()), Result::and)
    }

    pub(super) fn release(&mut self, lane: LaneId, durable: Sequence) -> Result<(), JournalError> {
        match self.lanes.iter_mut().find(|known| known.id() == lane) {
            Some(known) => known.reader.release(durable).map(|_| ()),
            // A lane of an earlier life of this folder that nobody reads now.
            None => Ok(()),
        }
    }
}
