//! The sinks of a folder that is resharded. Each must have all rows, because the new shards have other row ids.

use std::fs;
use std::io;

use crate::base::clock;
use crate::base::ids::ShardId;
use crate::families::FAMILIES;
use crate::shard::{self, Confirmed, DataFolder, SINKS_FOLDER, SinkEntry};

/// Refuses a folder with a sink that lacks rows. Returns the ids of all sinks.
pub(super) fn check_drained(folder: &DataFolder) -> Result<Vec<String>, String> {
    let sinks = shard::sinks(folder.dir()).map_err(|error| {
        format!("a sink of `firehose ship` cannot be read ({error}): repair the file, or remove the sink")
    })?;
    for (id, of) in folder.shards().filter(|(_, of)| of.database().exists()) {
        if sinks.is_empty() {
            break;
        }
        let of_shard = |error: &dyn std::fmt::Display| format!("shard {id}: {error}");
        let reader = shard::open_reader(&of.database()).map_err(|error| of_shard(&error))?;
        for (name, sink) in &sinks {
            let lag = shard::lag(folder.dir(), (name, sink), id, &reader, &FAMILIES);
            let lag = lag.map_err(|error| of_shard(&error))?;
            if let Some((stream, behind)) = lag.behind.iter().next() {
                return Err(format!(
                    "the sink {name} ({}) lacks {behind} rows of {stream} of shard {id}: run `firehose ship --drain \
                     --name {name}` first, or `firehose ship remove {name}` if it is not needed any more; nothing \
                     was changed",
                    sink.target
                ));
            }
        }
    }
    Ok(sinks.into_values().map(|sink| sink.id).collect())
}

/// Replaces the notes of all sinks: those that had all rows have all rows of the new shards.
pub(super) fn replace_notes(folder: &DataFolder, drained: &[String]) -> io::Result<()> {
    for (name, sink) in shard::sinks(folder.dir())? {
        for entry in fs::read_dir(folder.dir().join(SINKS_FOLDER).join(&name))? {
            let entry = entry?;
            let file = entry.file_name();
            let is_of_shard = |file: &str| file.starts_with("shard-") || file.starts_with("kept-");
            if file.to_str().is_some_and(is_of_shard) {
                fs::remove_file(entry.path())?;
            }
        }
        if drained.contains(&sink.id) {
            note_all(folder, &name, &sink)?;
        }
    }
    Ok(())
}

fn note_all(folder: &DataFolder, name: &str, sink: &SinkEntry) -> io::Result<()> {
    for (id, of) in folder.shards() {
        let reader = shard::open_reader(&of.database()).map_err(io::Error::other)?;
        let Some(newest) = shard::epochs(&reader).map_err(io::Error::other)?.pop() else { continue };
        let note = Confirmed {
            sink: sink.id.clone(),
            epoch: newest.id,
            last: newest.starts,
            at_us: clock::unix_us(),
            rejected: 0,
        };
        shard::write_confirmed(folder.dir(), name, ShardId(id.0), &note)?;
    }
    Ok(())
}
