//! The journals that a writer reads. Each has a reader and a batch, and all batches share one budget.

use crate::base::durable;
use crate::base::ids::{LaneId, Sequence};
use crate::journal::{Appender, AppliedSync, Batch, Gap, JournalError, Reader, SegmentRelease};
use crate::shard::{Entry, Records};

impl Records for Batch {
    fn records(&self) -> impl Iterator<Item = Entry<'_>> {
        Batch::records(self).map(|record| Entry {
            sequence: record.sequence,
            kind: record.kind,
            payload: record.payload,
        })
    }
}

/// The journals that a writer reads, including those of an earlier run to which no thread appends now.
#[derive(Default)]
pub struct Journals {
    pub readers: Vec<Reader>,
    pub idle: Vec<Appender>,
}

impl From<Vec<Reader>> for Journals {
    fn from(readers: Vec<Reader>) -> Journals {
        Journals { readers, idle: Vec::new() }
    }
}

/// Journals that were asked to start a new segment, each with that segment's start offset.
pub(super) struct Rotation {
    asked: Vec<(LaneId, u64)>,
    bytes_before: u64,
}

pub(super) struct Lanes {
    lanes: Vec<Lane>,
    idle: Vec<Appender>,
    /// The lane that is read first next time, so that a full lane does not starve the others.
    first: usize,
}

struct Lane {
    reader: Reader,
    /// The records that were read but not committed yet. They are kept across failures.
    batch: Batch,
    /// The last applied sequence. `None` until the reader has been moved to a position.
    applied: Option<Sequence>,
}

impl Lane {
    fn id(&self) -> LaneId {
        self.reader.state().lane()
    }
}

impl Lanes {
    pub(super) fn new(Journals { readers, idle }: Journals) -> Lanes {
        let lane = |reader| Lane { reader, batch: Batch::new(), applied: None };
        Lanes { lanes: readers.into_iter().map(lane).collect(), idle, first: 0 }
    }

    /// Returns the sequence of the newest record in every lane.
    pub(super) fn appended(&self) -> Vec<(LaneId, Sequence)> {
        self.lanes.iter().map(|lane| (lane.id(), lane.reader.state().appended())).collect()
    }

    fn bytes_on_disk(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.reader.state().bytes_on_disk()).sum()
    }

    /// Asks every lane to start a new segment.
    pub(super) fn rotate(&mut self) -> Rotation {
        self.rotate_those(|_| true)
    }

    /// Asks the lanes that may contain personal data to start a new segment.
    pub(super) fn rotate_keyed(&mut self) -> Rotation {
        self.rotate_those(|lane| !lane.is_hot())
    }

    fn rotate_those(&mut self, is_wanted: impl Fn(LaneId) -> bool) -> Rotation {
        let wanted = self.lanes.iter().filter(|lane| is_wanted(lane.id()));
        let asked =
            wanted.filter_map(|lane| Some((lane.id(), lane.reader.state().ask_rotation()?))).collect();
        Rotation { asked, bytes_before: self.bytes_on_disk() }
    }

    /// Returns `true` if all of these lanes have started their new segments. First rotates the journals that have no
    /// producer.
    pub(super) fn are_rotated(&mut self, rotation: &Rotation) -> bool {
        for appender in &mut self.idle {
            if let Err(error) = appender.rotate_if_asked() {
                let lane = appender.state().lane().0;
                tracing::debug!(lane, %error, "a journal segment could not be closed yet");
            }
        }
        self.of(rotation).all(|(lane, from)| lane.reader.state().is_rotated(from))
    }

    /// Returns the number of rotated journals and the freed bytes once everything before the new segments is deleted.
    pub(super) fn are_released(&self, rotation: &Rotation) -> Option<(u64, u64)> {
        let freed = rotation.bytes_before.saturating_sub(self.bytes_on_disk());
        let is_all = self.of(rotation).all(|(lane, from)| lane.reader.is_released_below(from));
        is_all.then_some((rotation.asked.len() as u64, freed))
    }

    fn of<'l>(&'l self, rotation: &'l Rotation) -> impl Iterator<Item = (&'l Lane, u64)> {
        rotation.asked.iter().filter_map(|(id, from)| {
            self.lanes.iter().find(|lane| lane.id() == *id).map(|lane| (lane, *from))
        })
    }

    /// Deletes the quarantined segments for which `is_wanted` returns `true`. Returns their number.
    pub(super) fn purge_quarantine(&self, is_wanted: &dyn Fn(&[u8]) -> bool) -> Result<u64, JournalError> {
        self.lanes.iter().map(|lane| lane.reader.purge_quarantine(is_wanted)).sum()
    }

    /// Makes sure that deleted parts of the journals do not reappear after a power cut.
    pub(super) fn sync_deletions(&self) -> Result<(), JournalError> {
        self.lanes.iter().try_for_each(|lane| lane.reader.sync_deletions())
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

    /// Empties the batches, which are in the database now.
    pub(super) fn committed(&mut self) {
        for lane in &mut self.lanes {
            lane.applied = lane.applied.max(lane.batch.last());
            lane.batch.clear();
        }
    }

    /// Returns the number of records that are published and not yet committed, including the current batches.
    pub(super) fn pending(&self) -> u64 {
        let waiting = |lane: &Lane| {
            let applied = lane.applied.unwrap_or(Sequence::NONE);
            lane.reader.state().appended().0.saturating_sub(applied.0)
        };
        self.lanes.iter().map(waiting).sum()
    }

    /// Fills the batches from the lanes in turn until the budget is exhausted.
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
                if !damage.promised {
                    tracing::warn!(
                        lane = reader.state().lane().0,
                        %damage,
                        "records that were not synced before a power cut are skipped"
                    );
                    continue;
                }
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

    /// Recreates folders that were removed while the server was running, so that the journals can continue.
    pub(super) fn make_folders(&self) -> std::io::Result<()> {
        self.lanes.iter().try_for_each(|lane| durable::create_folder(lane.reader.state().dir()))
    }

    /// Moves every lane to its position and reports what is missing there, even if a later lane fails. A lane that is
    /// already at its position keeps its batch and its open file, which may have been unlinked together with the
    /// database.
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

    /// Forgets the readers' positions, which are unknown after a panic.
    pub(super) fn forget(&mut self) {
        for lane in &mut self.lanes {
            lane.batch.clear();
            lane.applied = None;
        }
    }

    /// Prepares the sync of every lane up to the position to which it was read.
    pub(super) fn plan_sync(&self) -> Vec<AppliedSync> {
        self.lanes.iter().filter_map(|lane| lane.reader.plan_sync()).collect()
    }

    /// Takes over the results of syncs. Takes all of them and returns the first error.
    pub(super) fn synced(&mut self, syncs: Vec<AppliedSync>) -> Result<(), JournalError> {
        let taken = syncs.into_iter().map(|sync| {
            let lane = self.lanes.iter_mut().find(|lane| lane.id() == sync.lane());
            lane.map_or(Ok(()), |lane| lane.reader.synced_applied(sync))
        });
        taken.fold(Ok(()), Result::and)
    }

    /// Prepares the deletion of the segments that contain only records up to these. A lane of an earlier run may have
    /// no reader now.
    pub(super) fn plan_release(&mut self, durable: &[(LaneId, Sequence)]) -> Vec<SegmentRelease> {
        let plan = |lane: &mut Lane| {
            let (_, last) = durable.iter().find(|(id, _)| *id == lane.id())?;
            lane.reader.plan_release(*last)
        };
        self.lanes.iter_mut().filter_map(plan).collect()
    }

    /// Takes over the result of a release.
    pub(super) fn released(&mut self, release: SegmentRelease) -> Result<(), JournalError> {
        match self.lanes.iter_mut().find(|known| known.id() == release.lane()) {
            Some(known) => known.reader.released(release).map(|_| ()),
            None => Ok(()),
        }
    }
}
