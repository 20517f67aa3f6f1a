//! The sinks that have an erasure, as responses list them.

use std::path::Path;

use super::refused::PeopleRefused;
use super::report::ErasureState;
use super::waiting::{confirmed_changes, newest_epoch};
use crate::base::ids::ShardId;
use crate::cores::executor;
use crate::query::Readers;
use crate::shard::sinks;

/// The registered sinks, and the last change of each shard's feed that each has confirmed.
#[derive(Debug, Default)]
pub(super) struct SinkNotes {
    sinks: Vec<(String, Vec<i64>)>,
}

impl SinkNotes {
    /// Reads the notes in the data folder. Asks the shards only if there is a sink.
    pub(super) async fn read(readers: &Readers, data: &Path) -> Result<SinkNotes, PeopleRefused> {
        let folder = data.to_owned();
        let registered = executor::blocking(move || sinks(&folder)).await?;
        if registered.is_empty() {
            return Ok(SinkNotes::default());
        }
        let epochs: Vec<String> = readers.ask_all(String::new(), newest_epoch).await?;
        let shards: Vec<ShardId> = readers.shards().collect();
        let folder = data.to_owned();
        let read = move || {
            let mut all = Vec::with_capacity(registered.len());
            for (name, sink) in registered {
                // A note that cannot be read confirms nothing.
                let of_shard = |(shard, epoch): (&ShardId, &String)| {
                    confirmed_changes(&folder, (&name, &sink), *shard, epoch).unwrap_or_default()
                };
                let upto = shards.iter().zip(&epochs).map(of_shard).collect();
                all.push((name, upto));
            }
            Ok(all)
        };
        Ok(SinkNotes { sinks: executor::blocking(read).await? })
    }

    /// Returns the sinks, and whether each has an erasure that these shards have not all finished.
    pub(super) fn states(&self, shards: &[Option<ErasureState>]) -> Vec<(&str, bool)> {
        let has = |(shard, upto): (&Option<ErasureState>, &i64)| {
            let has = |shard: &ErasureState| {
                shard.finished_us.is_some() || shard.seq.is_some_and(|seq| seq <= *upto)
            };
            shard.as_ref().is_some_and(has)
        };
        let is_done = |upto: &[i64]| shards.len() == upto.len() && shards.iter().zip(upto).all(has);
        self.sinks.iter().map(|(name, upto)| (name.as_str(), is_done(upto))).collect()
    }

    #[cfg(test)]
    pub(super) fn of(sinks: &[(&str, &[i64])]) -> SinkNotes {
        SinkNotes { sinks: sinks.iter().map(|(name, upto)| ((*name).to_owned(), upto.to_vec())).collect() }
    }
}
