//! `firehose ship remove`: ends the wait of retention and erasures for a sink.

use std::process::ExitCode;

use crate::cli::FolderArgs;
use crate::ops::output::{EXIT_FAILED, complain, say};
use crate::shard::{DataFolder, remove_sink, sinks};

/// Removes a sink and its notes.
pub(super) fn remove(args: &FolderArgs, name: &str) -> ExitCode {
    let loaded = match args.load() {
        Ok(loaded) => loaded,
        Err(errors) => return complain(&errors),
    };
    let data = &loaded.config.data;
    let removed = DataFolder::read_only(data).map_err(|error| error.to_string()).and_then(|_| {
        let known = sinks(data).map_err(|error| error.to_string())?;
        // The name of a folder is only taken from the list.
        match known.contains_key(name) {
            true => remove_sink(data, name).map_err(|error| error.to_string()),
            false => {
                let names: Vec<&str> = known.keys().map(String::as_str).collect();
                Err(match names.as_slice() {
                    [] => format!("{} has no sinks", data.display()),
                    names => format!("there is no sink {name}; there is: {}", names.join(", ")),
                })
            }
        }
    });
    match removed {
        Ok(_) if args.json => say(&format!("{}\n", serde_json::json!({"removed": name}))),
        Ok(_) => say(&format!("{name} is removed; the rows in the target remain\n")),
        Err(error) => {
            eprintln!("firehose: {error}");
            return ExitCode::from(EXIT_FAILED);
        }
    }
    ExitCode::SUCCESS
}
