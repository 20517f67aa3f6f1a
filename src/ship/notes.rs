//! The places of a sink, noted in the data folder for retention and erasures: `DATA/ship/NAME/`.
//!
//! A note is written after the target's commit, so it is never ahead of the target. Places are read from notes only to
//! show them while the target is away.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::rows::ShipStream;
use super::sink::{EpochId, Places};
use crate::base::ids::{ShardId, random_hex};
use crate::base::{clock, durable};
use crate::shard::{
    Confirmed, DataFolder, FolderError, SINKS_FOLDER, SinkEntry, confirmed_by, register_sink, sink,
    write_confirmed,
};

/// The minimum time between two notes of a shard.
const NOTE_EVERY_US: u64 = 1_000_000;
/// The file of the epochs that are sent whole.
const WHOLE_FILE: &str = "whole.json";

/// The reason why a note cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum NoteError {
    #[error("the note of what the sink has cannot be written: {0}")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error("the sink {0} was removed from the data folder")]
    Removed(String),
    #[error(
        "the sink {0} was registered again by another process, for {1}: two processes ship under one name. Give this \
         one another ship_name"
    )]
    OtherSink(String, String),
    #[error("the data folder was resharded, or is being resharded. Start `firehose ship` again afterwards")]
    Resharded,
}

/// A sink's registration in a data folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Registration {
    pub data: PathBuf,
    pub name: String,
    pub sink: SinkEntry,
    /// The number of shards.
    pub shards: u16,
}

/// Registers a sink, unless it is registered for the same target.
///
/// # Errors
/// The name is registered for another target, or the folder cannot be written.
pub(super) fn register(
    folder: &DataFolder,
    name: &str,
    (kind, target): (&str, &str),
) -> Result<Registration, NoteError> {
    let data = folder.dir();
    let entry = match sink(data, name)? {
        Some(known) if known.kind == kind && known.target == target => known,
        Some(known) => return Err(NoteError::OtherSink(name.to_owned(), known.target)),
        None => {
            let entry = SinkEntry {
                id: random_hex().map_err(io::Error::other)?,
                kind: kind.to_owned(),
                target: target.to_owned(),
                registered_at: clock::rfc3339(clock::unix_us()),
            };
            match register_sink(data, name, &entry) {
                // Another process was first.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    return register(folder, name, (kind, target));
                }
                registered => registered?,
            }
            tracing::info!(sink = name, target, "the sink is registered");
            entry
        }
    };
    let shards = folder.manifest().shards;
    Ok(Registration { data: data.to_owned(), name: name.to_owned(), sink: entry, shards })
}

/// The epochs of resharded files that are sent whole, because the target had nothing of the folder when the sink first
/// reached it. The list is durable before the first row is sent: afterwards, the target has something of the folder.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Whole {
    epochs: BTreeSet<String>,
}

fn whole_file(data: &Path, name: &str) -> PathBuf {
    data.join(SINKS_FOLDER).join(name).join(WHOLE_FILE)
}

/// Returns the epochs of resharded files that are sent whole.
///
/// # Errors
/// The list cannot be read.
pub(super) fn whole_epochs(data: &Path, name: &str) -> io::Result<BTreeSet<String>> {
    match std::fs::read(whole_file(data, name)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeSet::new()),
        Err(error) => Err(error),
        Ok(text) => {
            let whole: Whole = serde_json::from_slice(&text)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            Ok(whole.epochs)
        }
    }
}

/// Adds epochs to the list, durably.
///
/// # Errors
/// Disk errors.
pub(super) fn add_whole_epochs(
    data: &Path,
    name: &str,
    epochs: BTreeSet<String>,
) -> io::Result<BTreeSet<String>> {
    let mut known = whole_epochs(data, name)?;
    let count = known.len();
    known.extend(epochs);
    if known.len() > count {
        let file = whole_file(data, name);
        durable::create_folder(durable::holder_of(&file))?;
        durable::replace(&file, &serde_json::to_vec(&Whole { epochs: known.clone() })?)?;
    }
    Ok(known)
}

/// The notes of one shard.
#[derive(Debug)]
pub(super) struct Notes {
    registration: Registration,
    shard: ShardId,
    noted: Option<Confirmed>,
    /// The rejected rows of earlier runs.
    rejected_before: u64,
    next_us: u64,
}

impl Notes {
    /// Reads the last note.
    ///
    /// # Errors
    /// The note cannot be read.
    pub(super) fn open(registration: &Registration, shard: ShardId) -> io::Result<Notes> {
        let Registration { data, name, sink, .. } = registration;
        let noted = confirmed_by(data, (name, sink), shard)?;
        let rejected_before = noted.as_ref().map_or(0, |noted| noted.rejected);
        Ok(Notes { registration: registration.clone(), shard, noted, rejected_before, next_us: 0 })
    }

    /// Returns the places of the last note.
    #[must_use]
    pub(super) fn places(&self) -> Places {
        self.noted.as_ref().map(places_of).unwrap_or_default()
    }

    /// Notes what the target has confirmed, at most once a second unless `is_last`. Nothing is written if nothing has
    /// changed. `rejected` is the number of this run.
    ///
    /// # Errors
    /// The sink is removed or registered again, the folder is resharded, or the disk fails.
    pub(super) fn note(
        &mut self,
        (epoch, places): (&EpochId, &Places),
        rejected: u64,
        is_last: bool,
    ) -> Result<(), NoteError> {
        let now_us = clock::monotonic_us();
        if now_us < self.next_us && !is_last {
            return Ok(());
        }
        self.next_us = now_us + NOTE_EVERY_US;
        self.check()?;
        let note = Confirmed {
            sink: self.registration.sink.id.clone(),
            epoch: epoch.0.clone(),
            last: ShipStream::ALL
                .into_iter()
                .map(|stream| (stream.as_str().to_owned(), places.get(&stream).copied().unwrap_or_default()))
                .collect(),
            at_us: clock::unix_us(),
            rejected: self.rejected_before + rejected,
        };
        let is_same = |noted: &Confirmed| Confirmed { at_us: note.at_us, ..noted.clone() } == note;
        if self.noted.as_ref().is_some_and(is_same) {
            return Ok(());
        }
        match write_confirmed(&self.registration.data, &self.registration.name, self.shard, &note) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(NoteError::Removed(self.registration.name.clone()));
            }
            written => written?,
        }
        self.noted = Some(note);
        Ok(())
    }

    /// Checks that the folder and the registration are those that this run began with.
    fn check(&self) -> Result<(), NoteError> {
        let Registration { data, name, sink: ours, shards } = &self.registration;
        let folder = DataFolder::read_only(data)?;
        if folder.manifest().shards != *shards || folder.reshard_marker().exists() {
            return Err(NoteError::Resharded);
        }
        match sink(data, name)? {
            None => Err(NoteError::Removed(name.clone())),
            Some(known) if known.id != ours.id => Err(NoteError::OtherSink(name.clone(), known.target)),
            Some(_) => Ok(()),
        }
    }
}

/// Returns the places of a note.
#[must_use]
pub(super) fn places_of(noted: &Confirmed) -> Places {
    noted
        .last
        .iter()
        .filter_map(|(stream, last)| Some((ShipStream::parse(stream)?, *last)))
        .filter(|(_, last)| *last > 0)
        .collect()
}
