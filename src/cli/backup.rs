//! `firehose backup`: a verified copy of a running server's data folder, ready to serve.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use serde_json::json;

use super::FolderArgs;
use crate::base::{clock, durable};
use crate::families::FAMILIES;
use crate::journal;
use crate::ops::output::{EXIT_FAILED, complain, say};
use crate::shard::{self, DataFolder};
use crate::tenants::Store;
use crate::uploads::copy_uploads;

/// Copies the data folder's uploads, every shard, its tenants and its keys to `dest`, in this order. `dest` must be
/// absent or empty. Rows that an upload reports as stored are in a shard that is copied later. The manifest is
/// written last, so that an interrupted copy is not mistaken for a complete one.
#[must_use]
pub fn backup(args: &FolderArgs, dest: &Path) -> ExitCode {
    let loaded = match args.load() {
        Ok(loaded) => loaded,
        Err(errors) => return complain(&errors),
    };
    match copy(args, &loaded.config.data, dest) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("firehose: {reason}");
            ExitCode::from(EXIT_FAILED)
        }
    }
}

fn copy(args: &FolderArgs, data: &Path, dest: &Path) -> Result<(), String> {
    let folder = DataFolder::read_only(data).map_err(|error| error.to_string())?;
    let failed = |error: std::io::Error| format!("{}: {error}", dest.display());
    durable::create_folder(dest).map_err(failed)?;
    if fs::read_dir(dest).map_err(failed)?.next().is_some() {
        return Err(format!("{} is not empty; use a separate folder for each backup", dest.display()));
    }
    let began_us = clock::unix_us();
    // Uploads precede the shards, so that every row that an upload reports as stored is in a copied shard. Rows that
    // the shard received later are recognised by their ingest and line when the client sends them again.
    let uploads = copy_uploads(data, dest).map_err(failed)?;
    for id in &uploads.unreadable {
        eprintln!("upload {id}: it cannot be read and is not in the backup; its committed rows are");
    }
    let (mut rows, mut bytes, mut backlog) = (0, uploads.bytes, 0);
    for (id, source) in folder.shards() {
        if !source.database().exists() {
            // This shard was never served. Serving the copy creates an empty one.
            continue;
        }
        let copy = dest.join(id.folder()).join("shard.db");
        let mut told = 0;
        let mut progress = |done: u64, total: u64| {
            let percent = done * 100 / total.max(1);
            if !args.json && percent >= told + 10 {
                told = percent / 10 * 10;
                eprintln!("shard {id}: {told} %");
            }
        };
        shard::check_recovered(&source).map_err(|why| format!("shard {id}: {why}"))?;
        let verified = shard::backup(&source.database(), &copy, began_us, &FAMILIES, &mut progress)
            .map_err(|error| format!("shard {id}: {error}"))?;
        if let Some(problem) = verified.problems.first() {
            return Err(format!(
                "shard {id}: the copy is inconsistent ({problem}); run `firehose verify` on the original"
            ));
        }
        rows += verified.rows;
        bytes += fs::metadata(&copy).map_err(failed)?.len();
        backlog += waiting(&source, &copy);
    }
    // This precedes the manifest, because a copy that could be served without its keys would admit every request.
    if let Some(tenants) = Store::open(data).map_err(|error| error.to_string())? {
        tenants.copy_to(dest).map_err(|error| error.to_string())?;
    }
    shard::copy_cursor_secret(data, dest).map_err(|error| error.to_string())?;
    // A served copy waits for its sinks as the original does. Their notes are of the original's row ids.
    for (name, sink) in shard::sinks(data).map_err(|error| error.to_string())? {
        shard::register_sink(dest, &name, &sink).map_err(failed)?;
    }
    folder.manifest().copy_to(dest).map_err(|error| error.to_string())?;
    if args.json {
        let uploads = uploads.uploads;
        say(&format!(
            "{}\n",
            json!({"path": dest, "rows": rows, "bytes": bytes, "uploads": uploads, "backlog_events": backlog})
        ));
    } else {
        say(&format!("{rows} rows, {bytes} bytes, verified. Serve it with --data {}\n", dest.display()));
        if uploads.uploads > 0 {
            say(&format!("{} uploads; running ones continue from their last checkpoints\n", uploads.uploads));
        }
        if backlog > 0 {
            say(&format!("{backlog} events were only in the journals and are not in the backup\n"));
        }
    }
    Ok(())
}

/// Returns the number of accepted events that are not in the copy. Unreadable journals count as empty.
fn waiting(source: &shard::ShardFolder, copy: &Path) -> u64 {
    let Ok(copied) = shard::inspect(copy, &FAMILIES) else { return 0 };
    let lanes = source.lanes().unwrap_or_default();
    lanes
        .into_iter()
        .map(|lane| {
            let last = journal::inspect(&source.lane(lane)).ok().and_then(|seen| seen.last);
            let applied = copied.positions.iter().find(|(known, _)| *known == lane).map_or(0, |(_, at)| at.0);
            last.map_or(0, |last| last.0.saturating_sub(applied))
        })
        .sum()
}
