//! Opening the data folder: the journals that each core writes and each shard reads.

use std::sync::Arc;

use super::ServeError;
use crate::base::durable;
use crate::base::ids::{LaneId, Sequence, ShardId};
use crate::base::keys::KeyHasher;
use crate::config::Config;
use crate::families::FAMILIES;
use crate::ingest::write::Journals;
use crate::ingest::{Board, ShardBoard, ShardVerdicts, Verdicts, feeds};
use crate::journal::{self, Appender, LaneState, Reader, Syncer};
use crate::query::{CursorKey, ReadShard};
use crate::shard::{self, DataFolder, Recovered, ShardFolder, ShardStatus};

/// The journals that one core appends to. Its listener and its executor each have one journal per shard that the core
/// feeds.
pub(super) struct CoreLanes {
    pub(super) hot: Vec<(ShardId, Appender)>,
    pub(super) keyed: Vec<(ShardId, Appender)>,
    /// The outcomes of the rows of each keyed journal, in the order of `keyed`.
    pub(super) verdicts: Vec<Arc<Verdicts>>,
    /// Receives a message after every commit that a request on this core waits for.
    pub(super) committed: async_channel::Receiver<()>,
    commits: async_channel::Sender<()>,
    /// Receives a message after every commit, on any shard, that changes prices.
    pub(super) prices_changed: (async_channel::Sender<()>, async_channel::Receiver<()>),
}

impl CoreLanes {
    fn new() -> CoreLanes {
        let (commits, committed) = async_channel::bounded(1);
        let prices_changed = async_channel::bounded(1);
        CoreLanes {
            hot: Vec::new(),
            keyed: Vec::new(),
            verdicts: Vec::new(),
            committed,
            commits,
            prices_changed,
        }
    }

    pub(super) fn states(&self) -> impl Iterator<Item = Arc<LaneState>> + '_ {
        self.hot.iter().chain(&self.keyed).map(|(_, appender)| appender.state().clone())
    }
}

/// One shard with the journals that its writer reads.
pub(super) struct ShardParts {
    pub(super) shard: ShardId,
    pub(super) folder: ShardFolder,
    pub(super) journals: Journals,
    pub(super) status: Arc<ShardStatus>,
    pub(super) verdicts: ShardVerdicts,
}

pub(super) struct Opened {
    pub(super) folder: DataFolder,
    pub(super) board: Arc<Board>,
    pub(super) lanes: Vec<CoreLanes>,
    pub(super) shards: Vec<ShardParts>,
    pub(super) keys: KeyHasher,
    pub(super) cursors: CursorKey,
    /// Each shard as its readers see it.
    pub(super) databases: Vec<ReadShard>,
}

pub(super) fn open(config: &Config, cores: usize) -> Result<Opened, ServeError> {
    let folder = DataFolder::open(&config.data, config.shards, cores as u16)?;
    let count = usize::from(folder.manifest().shards);
    let most_cores = count * (LaneId::COUNT_MAX as usize / 2);
    if cores > most_cores {
        let message = format!("{count} shards can be fed by at most {most_cores} cores; use fewer --cores");
        return Err(ServeError::Environment(message));
    }
    let mut lanes: Vec<CoreLanes> = (0..cores).map(|_| CoreLanes::new()).collect();
    let (mut boards, mut shards, mut databases) = (Vec::new(), Vec::new(), Vec::new());
    for (shard, shard_folder) in folder.shards() {
        let mut wanted = shard_folder.lanes().map_err(ServeError::Io)?;
        let mut owners = Vec::new();
        for core in 0..cores {
            for (fed, index) in feeds(core, cores, count) {
                if fed == usize::from(shard.0) {
                    owners.push((LaneId::hot(index), core));
                    owners.push((LaneId::keyed(index), core));
                }
            }
        }
        wanted.extend(owners.iter().map(|(lane, _)| *lane));
        wanted.sort();
        wanted.dedup();
        recover(shard, &shard_folder);
        let applied = applied_positions(&shard_folder);
        let (mut journals, mut states, mut verdicts) = (Journals::default(), Vec::new(), Vec::new());
        for lane in wanted {
            let (appender, reader) = open_lane(config, shard, &shard_folder, lane, applied.as_deref())?;
            states.push(appender.state().clone());
            journals.readers.push(reader);
            if let Some((_, core)) = owners.iter().find(|(owned, _)| *owned == lane) {
                let of = &mut lanes[*core];
                if lane.is_hot() {
                    of.hot.push((shard, appender));
                    continue;
                }
                let of_lane = Arc::new(Verdicts::new(of.commits.clone()));
                verdicts.push((lane, of_lane.clone()));
                of.verdicts.push(of_lane);
                of.keyed.push((shard, appender));
            } else {
                // From here on, no thread syncs this journal, and its records may have been promised.
                Syncer::new(appender.state().clone()).sync()?;
                journals.idle.push(appender);
            }
        }
        // This also syncs the names that an earlier start created, if that start was killed before it synced them.
        durable::sync_folder(shard_folder.dir())?;
        let status = Arc::new(ShardStatus::new(shard));
        for (lane, sequence) in applied.unwrap_or_default() {
            status.set_applied(lane, sequence);
        }
        boards.push(ShardBoard {
            shard,
            status: status.clone(),
            lanes: states,
            drained_per_s: Default::default(),
            writer: Default::default(),
        });
        let watchers = lanes.iter().map(|of| of.prices_changed.0.clone()).collect();
        let verdicts = ShardVerdicts::new(verdicts).watched_by(watchers);
        databases.push(ReadShard { shard, path: shard_folder.database(), status: status.clone() });
        shards.push(ShardParts { shard, folder: shard_folder, journals, status, verdicts });
    }
    for loose in shard::loose(&config.data, config.data_mode.folder_mode()) {
        tracing::warn!(
            path = %loose.path.display(),
            mode = format!("{:04o}", loose.mode),
            mode_max = format!("{:04o}", loose.mode_max),
            "the permissions are too broad: chmod it, or see --data-mode"
        );
    }
    let folder_id = folder.manifest().folder_id();
    Ok(Opened {
        keys: KeyHasher::new(&folder_id),
        cursors: CursorKey::new(&shard::cursor_secret(&config.data)?),
        databases,
        board: Arc::new(Board::new(boards)),
        folder,
        lanes,
        shards,
    })
}

/// Puts away what a damaged WAL makes unreadable, before anything reads the shard.
fn recover(shard: ShardId, folder: &ShardFolder) {
    match shard::recover(folder, &FAMILIES) {
        Ok(None) => {}
        Ok(Some(Recovered::WithoutWal)) => tracing::warn!(
            shard = shard.0,
            "the WAL was damaged or is missing, and was removed: the database and the journals have everything"
        ),
        Ok(Some(Recovered::SetAside(to))) => tracing::error!(
            shard = shard.0,
            to = %to.display(),
            "the WAL was damaged or removed while it was being copied, so the database was a mixture of two \
             states and was set aside: a new one gets what the journals still have; restore the rest from a backup"
        ),
        Err(error) => tracing::warn!(shard = shard.0, %error, "the WAL could not be checked"),
    }
}

/// Returns the positions that the database has stored, or `None` if there is no readable database. New records are
/// numbered after them.
fn applied_positions(folder: &ShardFolder) -> Option<Vec<(LaneId, Sequence)>> {
    let path = folder.database();
    if !path.exists() {
        return None;
    }
    match shard::inspect(&path, &FAMILIES) {
        Ok(inspection) => Some(inspection.positions),
        Err(error) => {
            tracing::warn!(shard = %path.display(), %error, "the shard cannot be read yet; its journal \
                                                             continues");
            None
        }
    }
}

fn open_lane(
    config: &Config,
    shard: ShardId,
    folder: &ShardFolder,
    lane: LaneId,
    applied: Option<&[(LaneId, Sequence)]>,
) -> Result<(Appender, Reader), ServeError> {
    let options =
        journal::Options { segment_bytes: config.segment_bytes, bytes_max: config.journal_bytes_max };
    let floor = applied
        .and_then(|applied| applied.iter().find(|(known, _)| *known == lane))
        .map(|(_, sequence)| *sequence);
    let (appender, reader, recovered) = journal::open(&folder.lane(lane), lane, floor, &options)?;
    if recovered.torn_bytes_cut > 0 {
        tracing::warn!(
            shard = shard.0,
            lane = lane.folder(),
            bytes = recovered.torn_bytes_cut,
            "removed incomplete records at the end of the journal, left by a stop of the machine or the \
             process; none of them was acknowledged as on disk"
        );
    }
    for damage in &recovered.damaged {
        if !damage.promised {
            tracing::warn!(
                shard = shard.0,
                lane = lane.folder(),
                %damage,
                "a power cut lost records that were not synced; only `ack=disk` promises that they survive \
                 one"
            );
            continue;
        }
        tracing::error!(
            shard = shard.0,
            lane = lane.folder(),
            ?damage,
            "the journal is damaged: the records in this range are lost, and the file is kept in quarantine"
        );
    }
    Ok((appender, reader))
}
