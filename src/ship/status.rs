//! The progress of a sink by shard and stream, from the shards and the notes in the data folder.

use std::path::Path;

use super::notes::places_of;
use super::rows::ShipStream;
use super::sink::{EpochId, Places};
use super::source::{ReadLimits, Seen, Source, Unshipped};
use crate::base::ids::ShardId;
use crate::shard::{Confirmed, DataFolder, confirmed};

/// The state of one shard.
#[derive(Clone, Debug)]
pub struct ShardState {
    pub shard: ShardId,
    /// The last note.
    pub noted: Option<Confirmed>,
    /// The shard's epochs, oldest first, or why the shard cannot be read.
    pub epochs: Result<Vec<EpochId>, String>,
    /// The rows behind the given places.
    pub seen: Result<Seen, String>,
    /// The places in the newest epoch.
    pub places: Places,
}

impl ShardState {
    /// Returns what of a stream is not shipped.
    #[must_use]
    pub fn unshipped(&self, stream: ShipStream) -> Unshipped {
        self.seen.as_ref().ok().and_then(|seen| seen.streams.get(&stream).copied()).unwrap_or_default()
    }
}

/// Reads the state of every shard. `known` returns the target's places of the newest of some epochs, if the target is
/// reached; otherwise the notes apply.
pub fn states(
    folder: &DataFolder,
    name: &str,
    mut known: impl FnMut(ShardId, &[EpochId]) -> Option<Places>,
) -> Vec<ShardState> {
    folder.shards().map(|(shard, of)| state(folder.dir(), name, shard, &of.database(), &mut known)).collect()
}

fn state(
    data: &Path,
    name: &str,
    shard: ShardId,
    path: &Path,
    known: &mut dyn FnMut(ShardId, &[EpochId]) -> Option<Places>,
) -> ShardState {
    let mut source = Source::new(path, ReadLimits::MAX);
    let noted = confirmed(data, name, shard).ok().flatten();
    let epochs = source
        .look()
        .map(|look| look.epochs.into_iter().map(|epoch| EpochId(epoch.id)).collect::<Vec<_>>())
        .map_err(|error| error.to_string());
    let newest = epochs.as_ref().ok().and_then(|epochs| epochs.last());
    let asked = epochs.as_ref().ok().and_then(|epochs| known(shard, epochs));
    let places = asked.unwrap_or_else(|| {
        // A note of another epoch says nothing about these row ids.
        let of_newest = noted.as_ref().filter(|noted| newest.is_some_and(|newest| newest.0 == noted.epoch));
        of_newest.map(places_of).unwrap_or_default()
    });
    let seen = source.seen(&places).map_err(|error| error.to_string());
    ShardState { shard, noted, epochs, seen, places }
}
