//! `firehose ship status`: what a sink has, and what is behind.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde_json::{Value, json};

use super::{TargetArgs, options};
use crate::base::clock;
use crate::base::ids::ShardId;
use crate::config::Config;
use crate::ops::output::{EXIT_FAILED, complain, say};
use crate::shard::{DataFolder, SinkEntry, sink};
use crate::ship::postgres::{PostgresOptions, PostgresReader, PutAside, TargetPlace};
use crate::ship::rows::ShipStream;
use crate::ship::sink::{Places, SinkError};
use crate::ship::{RunError, ShardState, states};

/// Prints the state of a sink.
pub(super) fn status(args: &TargetArgs, as_json: bool) -> ExitCode {
    let loaded = match args.load(&[]) {
        Ok(loaded) => loaded,
        Err(errors) => return complain(&errors),
    };
    match report(&loaded.config) {
        Err(error) => super::fail(&error),
        Ok((page, text, has_failed)) => {
            say(&if as_json { format!("{page}\n") } else { text });
            if has_failed { ExitCode::from(EXIT_FAILED) } else { ExitCode::SUCCESS }
        }
    }
}

fn report(config: &Config) -> Result<(Value, String, bool), RunError> {
    let folder = DataFolder::read_only(&config.data)?;
    let entry = sink(&config.data, &config.ship_name)
        .map_err(|error| RunError::Failed(error.to_string()))?
        .ok_or_else(|| {
        let (data, name) = (config.data.display(), &config.ship_name);
        RunError::Failed(format!(
            "{data} has no sink {name}: `firehose ship` registers it at its first start"
        ))
    })?;
    let asked = match config.ship_to {
        None => Err("no target is set".to_owned()),
        Some(_) => ask(&folder, options(config)?).map_err(|error| error.to_string()),
    };
    let known = asked.as_ref().ok();
    let found = states(&folder, &config.ship_name, |shard, epochs| {
        let newest = epochs.last()?;
        let is_it = |place: &&TargetPlace| place.shard == shard && place.epoch == *newest;
        let places = known?.places.iter().filter(is_it).map(|place| (place.stream, place.last));
        Some(places.collect())
    });
    let has_failed = found.iter().any(|state| state.seen.is_err());
    let of = StatusOf { name: &config.ship_name, entry: &entry, asked: &asked, shards: &found };
    Ok((of.page(), of.text(), has_failed))
}

/// The places that the target reports.
struct Asked {
    places: Vec<TargetPlace>,
    aside: Vec<PutAside>,
}

fn ask(folder: &DataFolder, options: PostgresOptions) -> Result<Asked, SinkError> {
    let stop = Arc::new(AtomicBool::new(false));
    let mut target = PostgresReader::new(options, folder.manifest().id.clone(), stop)
        .map_err(|error| SinkError::Lasting(error.to_string()))?;
    Ok(Asked { places: target.places()?, aside: target.put_aside()? })
}

fn seconds(oldest_us: Option<i64>) -> f64 {
    let now_us = clock::unix_us();
    oldest_us.map_or(0.0, |oldest_us| now_us.saturating_sub(oldest_us).max(0) as f64 / 1e6)
}

fn place(places: &Places, stream: ShipStream) -> i64 {
    places.get(&stream).copied().unwrap_or_default()
}

/// The values that are shown.
struct StatusOf<'a> {
    name: &'a str,
    entry: &'a SinkEntry,
    asked: &'a Result<Asked, String>,
    shards: &'a [ShardState],
}

impl StatusOf<'_> {
    /// Returns the rejected rows of a stream, and those that the target had already, if it answers.
    fn aside(&self, shard: ShardId, stream: ShipStream) -> Option<(u64, u64)> {
        let asked = self.asked.as_ref().ok()?;
        let found = asked.aside.iter().find(|aside| aside.shard == shard && aside.stream == stream);
        Some(found.map_or((0, 0), |aside| (aside.rejected, aside.twice)))
    }

    fn page(&self) -> Value {
        let shards = self.shards.iter().map(|state| {
            let streams = ShipStream::ALL.map(|stream| {
                let behind = state.unshipped(stream);
                let (rejected, twice) = self.aside(state.shard, stream).unzip();
                json!({
                    "stream": stream.as_str(),
                    "place": place(&state.places, stream),
                    "behind_rows": behind.rows,
                    "behind_seconds": seconds(behind.oldest_us),
                    "rejected": rejected,
                    "twice": twice,
                })
            });
            json!({
                "shard": state.shard.0,
                "error": state.seen.as_ref().err(),
                "noted_at": state.noted.as_ref().map(|noted| clock::rfc3339(noted.at_us)),
                "rejected": state.noted.as_ref().map_or(0, |noted| noted.rejected),
                "streams": streams,
            })
        });
        json!({
            "name": self.name,
            "target": self.entry.target,
            "registered_at": self.entry.registered_at,
            "reached": self.asked.is_ok(),
            "error": self.asked.as_ref().err(),
            "shards": shards.collect::<Vec<_>>(),
        })
    }

    fn text(&self) -> String {
        let SinkEntry { target, registered_at, .. } = self.entry;
        let mut text = format!("{} to {target}, registered {registered_at}\n", self.name);
        match self.asked {
            Ok(_) => text.push_str("the target answers; these are its places\n"),
            Err(why) => _ = writeln!(text, "the target was not asked ({why}); these are the noted places"),
        }
        _ = writeln!(
            text,
            "\n{:<6} {:<14} {:>14} {:>12} {:>15} {:>9} {:>9}",
            "shard", "stream", "place", "rows behind", "seconds behind", "rejected", "twice"
        );
        for state in self.shards {
            if let Err(why) = &state.seen {
                _ = writeln!(text, "{:<6} cannot be read: {why}", state.shard.0);
                continue;
            }
            for stream in ShipStream::ALL {
                let behind = state.unshipped(stream);
                let (rejected, twice) = self
                    .aside(state.shard, stream)
                    .map_or(("?".to_owned(), "?".to_owned()), |(one, other)| {
                        (one.to_string(), other.to_string())
                    });
                _ = writeln!(
                    text,
                    "{:<6} {:<14} {:>14} {:>12} {:>15.1} {rejected:>9} {twice:>9}",
                    state.shard.0,
                    stream.as_str(),
                    place(&state.places, stream),
                    behind.rows,
                    seconds(behind.oldest_us)
                );
            }
            match &state.noted {
                Some(noted) => _ = writeln!(text, "       noted {}", clock::rfc3339(noted.at_us)),
                None => text.push_str("       nothing is noted: retention keeps every row\n"),
            }
        }
        text
    }
}
