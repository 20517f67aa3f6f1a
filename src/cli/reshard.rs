//! `firehose reshard`: redistributes the rows in a stopped server's folder over another number of shards.
//!
//! Every record gets a number, in a fixed order of source shards and rows. Each new shard applies its records as if
//! they came from a journal, and stores its last number in the same transaction. After an interruption, the shard
//! therefore continues after that record, and applies nothing twice. Then everything is verified and counted, and the
//! folders are swapped. Each step of the swap can be repeated too.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::{Deserialize, Serialize};

use super::FolderArgs;
use super::reshard_sinks::{check_drained, replace_notes};
use crate::base::durable;
use crate::base::ids::{LaneId, Sequence, ShardId};
use crate::base::keys::KeyHasher;
use crate::base::kinds::{Kind, Placement};
use crate::clicks::CLICKS;
use crate::config::Config;
use crate::events::EVENTS;
use crate::families::FAMILIES;
use crate::journal;
use crate::ops::output::{EXIT_FAILED, complain, say};
use crate::orders::{ORDER_STATUS, ORDERS};
use crate::shard::{
    self, Carried, CheckpointMode, DataFolder, Entry, Outcome, Records, Shard, ShardError, ShardFolder,
    ShardOptions,
};

/// The number of records per transaction of each new shard.
const BATCH_RECORDS: usize = 10_000;
const LANE: LaneId = LaneId(0);

/// The state of a running reshard, in a file next to the manifest.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
struct Marker {
    to: u16,
    /// The ids of the sinks that have all rows.
    #[serde(default)]
    drained: Vec<String>,
    /// Set once everything is copied and verified, and the folders are being swapped.
    swapping: bool,
}

/// Distributes the rows over `to` shards.
#[must_use]
pub fn reshard(args: &FolderArgs, to: u16) -> ExitCode {
    let loaded = match args.load() {
        Ok(loaded) => loaded,
        Err(errors) => return complain(&errors),
    };
    match distribute(&loaded.config, to) {
        Ok(said) => {
            say(&said);
            ExitCode::SUCCESS
        }
        Err(reason) => {
            eprintln!("firehose: {reason}");
            ExitCode::from(EXIT_FAILED)
        }
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn distribute(config: &Config, to: u16) -> Result<String, String> {
    let folder = DataFolder::lock(&config.data).map_err(text)?;
    let marker_path = folder.reshard_marker();
    let begun = match fs::read(&marker_path) {
        Ok(bytes) => Some(serde_json::from_slice::<Marker>(&bytes).map_err(text)?),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(format!("{}: {error}", marker_path.display())),
    };
    if let Some(begun) = begun.as_ref().filter(|begun| begun.to != to) {
        return Err(format!("a reshard to {} is unfinished; finish it first", begun.to));
    }
    let from = folder.manifest().shards;
    let is_swapping = begun.as_ref().is_some_and(|begun| begun.swapping);
    let mut drained = begun.as_ref().map(|begun| begun.drained.clone()).unwrap_or_default();
    if from == to && !is_swapping {
        return Err(format!("the folder has {to} shards already"));
    }
    let (fresh, before) = (folder.dir().join("reshard"), folder.dir().join("before-reshard"));
    let mut said = String::new();
    if !is_swapping {
        if before.exists() {
            return Err(format!(
                "{} remains from an earlier reshard; remove it when it is no longer needed",
                before.display()
            ));
        }
        check_journals(&folder)?;
        check_erasures(&folder)?;
        drained = check_drained(&folder)?;
        write_marker(&marker_path, &Marker { to, drained: drained.clone(), swapping: false })?;
        let records = match copy(config, &folder, &fresh, to) {
            Ok(records) => records,
            Err(CopyFault::Failed(reason)) => return Err(reason),
            // A retry would fail again. Until the cause is resolved, the folder can be served as it is.
            Err(fault) => {
                fs::remove_dir_all(&fresh).and_then(|()| durable::remove(&marker_path)).map_err(text)?;
                return Err(fault.to_string());
            }
        };
        said = prove(&folder, &fresh, to, records)?;
        sync(&folder, &fresh, to).map_err(text)?;
        write_marker(&marker_path, &Marker { to, drained: drained.clone(), swapping: true })?;
    }
    let options = options(config, folder.manifest().folder_id());
    swap(&folder, &options, (&fresh, &before), (from, to)).map_err(text)?;
    let resharded = DataFolder::read_only(folder.dir()).map_err(text)?;
    replace_notes(&resharded, &drained).map_err(text)?;
    durable::remove(&marker_path).map_err(text)?;
    Ok(format!(
        "{said}the folder now has {to} shards; the old ones are in {} until you remove them\n",
        before.display()
    ))
}

fn write_marker(path: &Path, marker: &Marker) -> Result<(), String> {
    let bytes = serde_json::to_vec(marker).map_err(text)?;
    durable::replace(path, &bytes).map_err(|error| format!("{}: {error}", path.display()))
}

/// Syncs the new shards. Once the marker reports that they are being swapped, they cannot be rebuilt.
fn sync(folder: &DataFolder, fresh: &Path, to: u16) -> std::io::Result<()> {
    for of in (0..to).map(|shard| new_shard(fresh, shard)) {
        fs::File::open(of.database())?.sync_all()?;
        durable::sync_folder(of.dir())?;
    }
    durable::sync_folder(fresh)?;
    durable::sync_folder(folder.dir())
}

/// Refuses a folder with unfinished erasures and deletions. They would have to restart in the new shards, without the old shards'
/// state.
fn check_erasures(folder: &DataFolder) -> Result<(), String> {
    for (id, of) in folder.shards().filter(|(_, of)| of.database().exists()) {
        let reader = shard::open_reader(&of.database()).map_err(|error| format!("shard {id}: {error}"))?;
        let found =
            shard::inspect(&of.database(), &FAMILIES).map_err(|error| format!("shard {id}: {error}"))?;
        // Their sales are in no table that is carried.
        if found.unfreed.iter().any(|name| name.starts_with(ORDERS.name)) {
            return Err(format!(
                "shard {id} is deleting orders that retention has dropped: start the server until that is finished"
            ));
        }
        if shard::unfinished_erasures(&reader).map_err(|error| format!("shard {id}: {error}"))? > 0 {
            return Err(format!("shard {id} is erasing a person: start the server until that is finished"));
        }
    }
    Ok(())
}

/// Refuses a folder whose journals contain records that are not in any shard, because such records would be lost.
fn check_journals(folder: &DataFolder) -> Result<(), String> {
    for (id, of) in folder.shards() {
        shard::check_recovered(&of).map_err(|why| format!("shard {id}: {why}"))?;
        let positions = match of.database().exists() {
            true => {
                shard::inspect(&of.database(), &FAMILIES)
                    .map_err(|error| format!("shard {id}: {error}"))?
                    .positions
            }
            false => Vec::new(),
        };
        for lane in of.lanes().map_err(text)? {
            let last = journal::inspect(&of.lane(lane)).map_err(text)?.last.unwrap_or(Sequence::NONE);
            let applied = positions.iter().find(|(known, _)| *known == lane).map_or(0, |(_, at)| at.0);
            if last.0 > applied {
                return Err(format!(
                    "shard {id} has {} events only in its journal: start the server, stop it, and try again",
                    last.0 - applied
                ));
            }
        }
    }
    Ok(())
}

fn new_shard(fresh: &Path, shard: u16) -> ShardFolder {
    ShardFolder::new(fresh.join(ShardId(shard).folder()))
}

fn options(config: &Config, folder_id: [u8; 16]) -> ShardOptions {
    ShardOptions {
        page_bytes: config.page_size as u32,
        partition_rows_max: config.partition_rows_max,
        partition_rows_max_of: vec![(&ORDERS, config.order_partition_rows_max)],
        folder_id,
        ..ShardOptions::default()
    }
}

/// The records of one batch that belong to one new shard.
#[derive(Default)]
struct Share<'b>(Vec<(Sequence, &'b Carried)>);

impl Records for Share<'_> {
    fn records(&self) -> impl Iterator<Item = Entry<'_>> {
        self.0.iter().map(|(sequence, record)| Entry {
            sequence: *sequence,
            kind: record.number(),
            payload: record.payload(),
        })
    }
}

/// Why the copy is incomplete.
#[derive(Debug, thiserror::Error)]
enum CopyFault {
    #[error("{0} ids are in the folder twice; nothing was changed")]
    Twice(u64),
    #[error(
        "an erasure failed: {0} rows of suppressed customers remain; start the server, erase these \
         customers again, stop it, and try again; nothing was changed"
    )]
    Suppressed(u64),
    #[error("{0} orders would take the sales of a day beyond 64 bits in fewer shards; nothing was changed")]
    SumTooLarge(u64),
    #[error("{0}")]
    Failed(String),
}

impl From<ShardError> for CopyFault {
    fn from(error: ShardError) -> CopyFault {
        CopyFault::Failed(error.to_string())
    }
}

impl Share<'_> {
    fn is_status(&self, sequence: Sequence) -> bool {
        let found = self.0.binary_search_by_key(&sequence, |(known, _)| *known);
        found.is_ok_and(|at| self.0[at].1.number() == ORDER_STATUS.number())
    }
}

/// Returns `true` if every shard stores a copy of a record of this kind.
fn has_every_shard(kind: Kind) -> bool {
    FAMILIES.kind(kind.number()).is_some_and(|row| row.placement == Placement::EveryShard)
}

/// Copies every record to its new shard. Returns the number that the new shards' counts must add up to.
fn copy(config: &Config, folder: &DataFolder, fresh: &Path, to: u16) -> Result<u64, CopyFault> {
    let folder_id = folder.manifest().folder_id();
    let keys = KeyHasher::new(&folder_id);
    let options = options(config, folder_id);
    let mut shards = (0..to)
        .map(|shard| Shard::open(&new_shard(fresh, shard), &options, &FAMILIES))
        .collect::<Result<Vec<_>, ShardError>>()?;
    let (mut numbered, mut rows) = (0_u64, 0_u64);
    for (id, source) in folder.shards() {
        if !source.database().exists() {
            continue;
        }
        let of_shard = |error: &dyn std::fmt::Display| CopyFault::Failed(format!("shard {id}: {error}"));
        let reader = shard::open_reader(&source.database()).map_err(|error| of_shard(&error))?;
        shard::carry::<CopyFault>(&reader, &keys, &FAMILIES, BATCH_RECORDS, &mut |records| {
            let mut shares: Vec<Share<'_>> = (0..to).map(|_| Share::default()).collect();
            for record in records {
                numbered += 1;
                rows += u64::from(FAMILIES.counts(record));
                let key = match record {
                    Carried::Row(kind, _) if has_every_shard(*kind) => {
                        shares.iter_mut().for_each(|share| share.0.push((Sequence(numbered), record)));
                        continue;
                    }
                    Carried::Row(kind, payload) => FAMILIES.key_of(&keys, *kind, payload),
                    // Only the bytes of this record are known.
                    Carried::Rejected(..) => None,
                };
                // Records without a key are distributed evenly.
                let place = key.map_or((numbered % u64::from(to)) as u16, |key| key.shard(to).0);
                shares[usize::from(place)].0.push((Sequence(numbered), record));
            }
            for (shard, share) in shards.iter_mut().zip(&shares) {
                let (mut twice, mut suppressed, mut too_large) = (0, 0, 0);
                shard.apply(&[(LANE, share)], &mut |_, sequence, outcome| match outcome {
                    Outcome::Inserted | Outcome::Flagged | Outcome::Rejected => {}
                    // The order already has this status. Only the time is new.
                    Outcome::Duplicate if share.is_status(sequence) => {}
                    Outcome::Suppressed => suppressed += 1,
                    Outcome::SumTooLarge => too_large += 1,
                    _ => twice += 1,
                })?;
                if suppressed > 0 {
                    return Err(CopyFault::Suppressed(suppressed));
                }
                if too_large > 0 {
                    return Err(CopyFault::SumTooLarge(too_large));
                }
                if twice > 0 {
                    return Err(CopyFault::Twice(twice));
                }
                while shard.upkeep_due() {
                    shard.upkeep(std::time::Duration::from_millis(20))?;
                }
                if shard.checkpoint_due().is_some() {
                    shard.checkpoint(CheckpointMode::Passive)?;
                }
            }
            Ok(())
        })
        .map_err(|fault| match fault {
            CopyFault::Failed(reason) => of_shard(&reason),
            fault => fault,
        })?;
        eprintln!("shard {id}: copied, {numbered} records so far");
    }
    for shard in &mut shards {
        shard.checkpoint(CheckpointMode::Truncate)?;
    }
    Ok(rows)
}

/// Verifies the new shards and compares their counts with those of the old shards.
fn prove(folder: &DataFolder, fresh: &Path, to: u16, records: u64) -> Result<String, String> {
    let count = |paths: Vec<PathBuf>| -> Result<[u64; 4], String> {
        let mut sum = [0; 4];
        for path in paths.iter().filter(|path| path.exists()) {
            let seen =
                shard::inspect(path, &FAMILIES).map_err(|error| format!("{}: {error}", path.display()))?;
            let found = [seen.stored(&CLICKS), seen.stored(&EVENTS), seen.stored(&ORDERS), seen.rejected];
            sum.iter_mut().zip(found).for_each(|(sum, found)| *sum += found);
        }
        Ok(sum)
    };
    let new: Vec<PathBuf> = (0..to).map(|shard| new_shard(fresh, shard).database()).collect();
    for path in &new {
        for verified in [
            shard::verify(path, &FAMILIES),
            shard::verify_aggregates(path, &FAMILIES),
            crate::stock::verify_stock(path),
        ] {
            let verified = verified.map_err(|error| format!("{}: {error}", path.display()))?;
            if let Some(problem) = verified.problems.first() {
                return Err(format!("{}: {problem}", path.display()));
            }
        }
    }
    let old: Vec<PathBuf> = folder.shards().map(|(_, of)| of.database()).collect();
    let stock = |paths: &[PathBuf]| -> Result<u64, String> {
        let verified = paths.iter().filter(|path| path.exists()).map(|path| crate::stock::verify_stock(path));
        verified.map(|verified| Ok(verified.map_err(text)?.rows)).sum()
    };
    let (before, after) = (stock(&old)?, stock(&new)?);
    if before != after {
        return Err(format!("the counts differ: {before} stock events before, {after} after"));
    }
    let (old, new) = (count(old)?, count(new)?);
    if old != new || new.iter().sum::<u64>() != records {
        return Err(format!("the counts differ: {old:?} before, {new:?} after, {records} carried"));
    }
    let [clicks, events, orders, rejected] = new;
    Ok(format!(
        "{clicks} clicks, {events} events, {orders} orders, {rejected} rejected records: the same before \
         and after\n"
    ))
}

/// Moves the old shards out and the new ones in, then writes the manifest. Each step is on disk before the next
/// starts, and each may already have been done by an earlier run.
fn swap(
    folder: &DataFolder,
    options: &ShardOptions,
    (fresh, before): (&Path, &Path),
    (from, to): (u16, u16),
) -> std::io::Result<()> {
    for shard in 0..to {
        let (there, place) = (new_shard(fresh, shard), folder.shard(ShardId(shard)));
        // An old shard that has not been moved out yet does not count.
        let is_in = before.join(ShardId(shard).folder()).exists() || shard >= from || from == to;
        if !(there.database().exists() || is_in && place.database().exists()) {
            let message = format!(
                "new shard {shard} is neither in {} nor in its place: nothing was changed; {} has the only \
                 copy",
                fresh.display(),
                if before.exists() { before.display() } else { folder.dir().display() },
            );
            return Err(std::io::Error::other(message));
        }
    }
    durable::create_folder(before)?;
    // Once the manifest has the new number, all old shards have been moved out.
    if folder.manifest().shards != to || fs::read_dir(before)?.next().is_none() {
        for shard in 0..from {
            let (there, out) =
                (folder.shard(ShardId(shard)).dir().to_owned(), before.join(ShardId(shard).folder()));
            match (out.exists(), there.exists()) {
                (true, _) => {}
                (false, true) => durable::rename(&there, &out)?,
                // This shard was never served. An empty folder of its name shows that it was moved out.
                (false, false) => durable::create_folder(&out)?,
            }
        }
    }
    for shard in 0..to {
        let (there, place) = (new_shard(fresh, shard), folder.shard(ShardId(shard)));
        if there.dir().exists() {
            // The position is reset only after the copy is complete, because until then it records the progress of
            // the copy.
            let mut opened = Shard::open(&there, options, &FAMILIES).map_err(std::io::Error::other)?;
            opened.number_from(LANE).map_err(std::io::Error::other)?;
            opened.begin_resharded().map_err(std::io::Error::other)?;
            opened.checkpoint(CheckpointMode::Truncate).map_err(std::io::Error::other)?;
            drop(opened);
            durable::rename(there.dir(), place.dir())?;
        }
    }
    folder.manifest().with_shards(to, folder.dir()).map_err(std::io::Error::other)?;
    if fresh.exists() {
        fs::remove_dir(fresh)?;
    }
    durable::sync_folder(folder.dir())
}
